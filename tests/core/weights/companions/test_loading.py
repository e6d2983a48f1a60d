"""Real bases animate without a host, from the files that their users have."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from i2v_core import load_checkpoint
from i2v_core.__main__ import main
from i2v_core.diffusion.guidance import ClassifierFreeGuidance, DualGuidance
from i2v_core.generate import Animator, GenerateConfig
from i2v_core.video import read_video
from i2v_core.weights import Checkpoint, read_checkpoint, save_checkpoint
from i2v_core.weights.companions import ClipImageEncoder, ClipTextEncoder
from tests.core.weights.companions.small_bases import (
    MODELSCOPE,
    STABLE_DIFFUSION,
    write_dynamicrafter,
    write_look_back,
    write_modelscope,
    write_stable_diffusion,
)
from tests.core.weights.small import largest_difference

SMALL_CLIP = ("--frames", "3", "--height", "32", "--width", "48", "--steps", "2")
PICTURE = torch.linspace(0, 1, 40 * 48 * 3).reshape(40, 48, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    Image.linear_gradient("L").convert("RGB").resize((60, 40)).save(folder / "picture.png")
    return folder


@pytest.fixture(scope="module")
def stable_diffusion(folder: Path) -> Path:
    return write_stable_diffusion(folder / "v1-5-pruned-emaonly.ckpt")


@pytest.fixture(scope="module")
def look_back(folder: Path) -> Path:
    return write_look_back(folder / "look_back.safetensors", STABLE_DIFFUSION)


@pytest.fixture(scope="module")
def dynamicrafter(folder: Path) -> Checkpoint:
    return load_checkpoint(write_dynamicrafter(folder / "model.ckpt"))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["i2v_core", *map(str, arguments)])
    return main()


def test_stable_diffusion_and_look_back_animate(
    folder: Path, stable_diffusion: Path, look_back: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = folder / "clip.mp4"
    base = ("--checkpoint", stable_diffusion, "--adapter", look_back)
    assert run(monkeypatch, "animate", folder / "picture.png", "a fox", made, *base, *SMALL_CLIP) == 0
    assert read_video(made).frames.shape == (3, 32, 48, 3)


def test_modelscope_animates_with_files_beside_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unet, vae, clip = write_modelscope(folder)
    story = folder / "story.json"
    story.write_text(json.dumps(["a fox", "it runs"]))
    base = ("--checkpoint", unet, "--vae", vae, "--text-encoder", clip)
    adapter = ("--adapter", write_look_back(folder / "modelscope.safetensors", MODELSCOPE))
    made = folder / "story.mp4"
    assert run(monkeypatch, "story", story, folder / "picture.png", made, *base, *adapter, *SMALL_CLIP) == 0
    assert len(read_video(made).frames) == 5


def test_dynamicrafter_animates_and_sees_the_picture(dynamicrafter: Checkpoint, folder: Path) -> None:
    assert isinstance(dynamicrafter.text_encoder, ClipTextEncoder)
    assert isinstance(dynamicrafter.image_encoder, ClipImageEncoder)
    animator = Animator.of(dynamicrafter)
    config = GenerateConfig(frames=2, height=32, width=32, steps=1)
    with torch.inference_mode():
        picture = animator.fit(PICTURE, config)
        made = animator.animate(picture, "a fox", config=config)
        blind = replace(animator, image_tokens=None).animate(picture, "a fox", config=config)
        slow = animator.animate(picture, "a fox", config=replace(config, rate=8.0))
    assert made.shape == (1, 4, 2, 4, 4)
    assert made.isfinite().all()
    assert largest_difference(made, blind) > 1e-3
    assert largest_difference(made, slow) > 1e-3


@torch.inference_mode()
def test_dynamicrafter_leaves_the_image_out_as_it_was_trained(dynamicrafter: Checkpoint) -> None:
    animator, pictures = Animator.of(dynamicrafter), torch.rand(1, 3, 32, 32)
    latent = animator.autoencoder.encode(pictures)[:, :, None]
    assert animator.image_tokens is not None
    given, gray = (animator.image_tokens(each) for each in (pictures, torch.zeros(1, 3, 9, 9)))
    assert largest_difference(given, gray) > 0.01

    plain = animator.branches(ClassifierFreeGuidance(2.0), ["a"], [""], latent, pictures)
    dual = animator.branches(DualGuidance(2.0, 1.5), ["a"], [""], latent, pictures)
    assert plain[2] is None and dual[2] is not None
    for branch, tokens in ((plain[0], given), (plain[1], gray), (dual[1], given), (dual[2], gray)):
        assert branch.image_tokens is not None and largest_difference(branch.image_tokens, tokens) < 1e-4
        assert branch.image_latent is latent
        assert branch.fps is not None and branch.fps.tolist() == [24.0]


def test_what_is_missing_is_named_with_its_option(
    folder: Path, stable_diffusion: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = replace(read_checkpoint(stable_diffusion), autoencoder=None, autoencoder_config=None, clip_text=None)
    alone = folder / "unet.safetensors"
    save_checkpoint(alone, contents)
    assert run(monkeypatch, "animate", folder / "picture.png", "a fox", folder / "x.mp4", "--checkpoint", alone) == 1
    error = capsys.readouterr().err
    assert "--vae (in Python: vae=), Stable Diffusion 1.5's or 2.1's VAE" in error
    assert "--text-encoder (in Python: text_encoder=), CLIP ViT-L/14, such as clip_l.safetensors" in error


def test_a_companion_of_another_model_is_refused(folder: Path, stable_diffusion: Path) -> None:
    *_, clip = write_modelscope(folder)
    with pytest.raises(ValueError, match=r"has 1024 features for each token and the model needs 768: .*CLIP ViT-L/14"):
        load_checkpoint(stable_diffusion, text_encoder=clip)


def test_the_towers_of_a_full_checkpoint_can_be_left_alone(stable_diffusion: Path, tmp_path: Path) -> None:
    bare = load_checkpoint(stable_diffusion, towers=False)
    assert bare.text_encoder is None
    assert bare.autoencoder is not None
    save_checkpoint(tmp_path / "again.safetensors", load_checkpoint(stable_diffusion))
    assert read_checkpoint(tmp_path / "again.safetensors").text_encoder is None
