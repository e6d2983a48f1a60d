"""Public checkpoints in small, through the host's own CLIP, VAE and CLIP_VISION objects; the towers have real sizes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.core.weights.small_files import VARIANTS, text_tower, vision_tower, write_small
from tests.parity.seeded import seeded_normal

LoadSmall = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(save: Callable[..., Any]) -> Path:
    """A folder in the host's list of checkpoints."""
    parent: Path = save("beside_public").path.parent
    return parent


@pytest.fixture(scope="module")
def load_small(load: Callable[[Any], Any], save: Callable[..., Any], folder: Path) -> LoadSmall:
    saved = type(save("beside_public"))

    def loaded(variant: str, layout: str, name: str) -> Any:
        path = write_small(folder, variant, layout, name=name)
        return load(saved(path.name, path, None))

    return loaded


@pytest.fixture(scope="module")
def full(load_small: LoadSmall) -> Any:
    """All five outputs of one file, whose name says nothing."""
    return load_small("dynamicrafter_512", "full", "some download.ckpt")


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    """Of the encoder's own size and on 8-bit levels, where the host's preprocessing changes nothing."""
    levels = torch.randint(0, 256, (1, 224, 224, 3), generator=torch.Generator().manual_seed(0))
    return levels / 255


def test_one_file_gives_all_five(full: Any, host_module: Callable[[str], Any]) -> None:
    assert isinstance(full.vae, host_module("comfy.sd").VAE)
    assert isinstance(full.clip, host_module("comfy.sd").CLIP)
    assert isinstance(full.clip_vision, host_module("comfy.clip_vision").ClipVisionModel)
    assert full.model.model.preset.name == "dynamicrafter_512"
    [[tokens, extra]] = host_module("nodes").CLIPTextEncode().encode(full.clip, "a red house, pan left")[0]
    assert tokens.shape == (1, 77, 1024)
    assert extra["pooled_output"].shape == (1, 1024)
    assert tokens.isfinite().all()
    # The penultimate layer behind the final norm, as in training.
    weight, bias = (full.clip.cond_stage_model.state_dict()[f"clip_h.transformer.text_model.final_layer_norm.{kind}"]
                    for kind in ("weight", "bias"))  # fmt: skip
    normalized = (tokens - bias) / weight
    torch.testing.assert_close(normalized.mean(-1), torch.zeros(1, 77), atol=1e-2, rtol=0)
    torch.testing.assert_close(normalized.std(-1), torch.ones(1, 77), atol=1e-2, rtol=0)


def test_every_weight_of_the_towers_arrives(full: Any) -> None:
    """The host fills what it does not find with whatever lay in memory; so nothing may be missing."""
    vision, given = full.clip_vision.model.state_dict(), vision_tower()
    prefix = "embedder.model.visual."
    assert torch.equal(vision["vision_model.post_layernorm.weight"].half(), given[f"{prefix}ln_post.weight"])
    assert torch.equal(vision["visual_projection.weight"].half(), given[f"{prefix}proj"].T)
    for layer in (0, 31):
        theirs = given[f"{prefix}transformer.resblocks.{layer}.attn.in_proj_weight"]
        ours = [vision[f"vision_model.encoder.layers.{layer}.self_attn.{kind}_proj.weight"] for kind in ("q", "k", "v")]
        assert torch.equal(torch.cat(ours).half(), theirs)
    text, tower = full.clip.cond_stage_model.state_dict(), text_tower()
    name = "clip_h.transformer.text_model.encoder.layers.23.mlp.fc2.weight"
    assert torch.equal(text[name].half(), tower["cond_stage_model.model.transformer.resblocks.23.mlp.c_proj.weight"])
    vectors = [value for state in (vision, text) for value in state.values() if value.ndim == 1]
    assert len(vectors) > 400
    assert all(value.isfinite().all() for value in vectors)


def test_the_encoder_sees_exact_pixels_and_gives_its_last_layer_before_the_final_norm(
    full: Any,
    node_classes: dict[str, Any],
    core: Callable[[str], Any],
    picture: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Three of the 32 layers, which are alike: all of them take half a minute.
    encoder = full.clip_vision.model.vision_model.encoder
    monkeypatch.setitem(encoder._modules, "layers", encoder.layers[:3])
    theirs = full.clip_vision.encode_image(picture, crop=False)
    assert theirs["last_hidden_state"].shape == (1, 257, 1280)
    expected = full.image_projection(theirs["last_hidden_state"])
    encode = node_classes["I2VEncodeImage"].execute
    given = encode(full.vae, picture, 224, 224, "crop", full.clip_vision, full.image_projection).result[0]
    assert given.image_tokens.shape == given.null_image_tokens.shape == (1, 16, 16, 1024)
    penultimate = full.image_projection(theirs["penultimate_hidden_states"])
    assert given.image_tokens.isfinite().all()
    closest = min((other - expected).abs().max() for other in (penultimate, given.null_image_tokens))
    assert (given.image_tokens - expected).abs().max() < 0.02 * closest
    # Mid-grey exactly, which no 8-bit level is; a flat picture has no size.
    grey = core("video.clip_pixels").clip_pixels(torch.zeros(1, 3, 5, 7))
    null = full.image_projection(full.clip_vision.model(pixel_values=grey)[0])
    torch.testing.assert_close(given.null_image_tokens, null, atol=1e-4, rtol=0)


def test_the_host_s_loader_gives_the_same_encoder(full: Any, host_module: Callable[[str], Any], folder: Path) -> None:
    tower = {name.removeprefix("embedder.model."): value for name, value in vision_tower().items()}
    torch.save(tower, folder / "vit_h.pt")
    host_module("folder_paths").add_model_folder_path("clip_vision", str(folder))
    (loaded,) = host_module("nodes").CLIPVisionLoader().load_clip("vit_h.pt")
    ours, theirs = full.clip_vision.model.state_dict(), loaded.model.state_dict()
    assert ours.keys() == theirs.keys()
    looked_at = [name for name in ours if ".layers." not in name or ".layers.31." in name]
    assert all(torch.equal(ours[name], theirs[name]) for name in looked_at)


def conditioning(width: int = 1024) -> list[Any]:
    return [[seeded_normal("text", (1, 77, width)), {"pooled_output": None}]]


def test_what_a_file_does_not_tell_is_in_the_log(load_small: LoadSmall, caplog: pytest.LogCaptureFixture) -> None:
    load_small("dynamicrafter_1024", "unet_only", "untold.safetensors")
    assert "untold.safetensors loads as dynamicrafter_512 and could as well be" in caplog.text
    assert "dynamicrafter_1024" in caplog.text
    caplog.clear()
    load_small("dynamicrafter_1024", "pruned", "told.safetensors")
    assert "could as well be" not in caplog.text


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_samples_with_what_its_pruned_file_holds(
    variant: str, load_small: LoadSmall, node_classes: dict[str, Any], sample: Callable[..., torch.Tensor]
) -> None:
    loaded = load_small(variant, "pruned", f"{len(variant)}.safetensors")
    encode = node_classes["I2VEncodeImage"].execute
    given = encode(loaded.vae, torch.rand(1, 40, 70, 3), 64, 32, "crop").result[0]
    if loaded.image_projection is not None:
        tokens = loaded.image_projection(seeded_normal("image", (2, 257, 1280))).split(1)
        given = replace(given, image_tokens=tokens[0], null_image_tokens=tokens[1])
    end = given if variant == "tooncrafter" else None
    inputs = node_classes["I2VConditioning"].execute(conditioning(), conditioning(), given, 5, end_image=end).result
    latents = sample(loaded.model, Inputs(*inputs))
    assert latents.shape == (5, 4, 4, 8)
    assert latents.isfinite().all()
    frames = loaded.vae.decode(latents)
    assert frames.shape == (5, 32, 64, 3)
    assert frames.isfinite().all()


class Inputs:
    """What goes into a sampler besides the model."""

    def __init__(self, positive: Any, negative: Any, latent: Any) -> None:
        self.positive, self.negative, self.latent = positive, negative, latent


def test_what_belongs_to_another_model_is_refused_with_the_file_to_use(
    load_small: LoadSmall, node_classes: dict[str, Any], sample: Callable[..., torch.Tensor], tiny: Any
) -> None:
    alone = load_small("dynamicrafter_512", "unet_only", "alone.safetensors")
    pruned = load_small("dynamicrafter_512", "pruned", "pruned.safetensors")
    shared = load_small("videocrafter1_i2v_512", "pruned", "shared.safetensors")
    assert alone.image_projection is None
    encode, condition = node_classes["I2VEncodeImage"].execute, node_classes["I2VConditioning"].execute
    image, seen = torch.rand(1, 32, 32, 3), seeded_normal("image", (1, 257, 1280))
    given = encode(pruned.vae, image, 32, 32, "crop").result[0]

    def refused(match: str, tokens: Any, text_width: int = 1024, model: Any = alone, **changes: Any) -> None:
        each = replace(given, image_tokens=tokens, null_image_tokens=tokens, **changes)
        text = conditioning(text_width)
        with pytest.raises(ValueError, match=match) as caught:
            sample(model.model, Inputs(*condition(text, text, each, 4).result))
        assert "\n" not in str(caught.value)

    tokens = pruned.image_projection(seen)
    refused("got no image tokens: .*full file.* full or pruned file of this very model", None)
    refused("width 1024, got tokens of shape .*16, 64.*full or pruned file of this very model", tokens[..., :64])
    refused("shared image tokens .* another model's", tokens, model=shared)
    refused(r"width 1024, got width 768: encode the prompts with OpenCLIP ViT-H/14, such as open_clip", tokens, 768)
    refused(
        "4 x 4 with 12 channels, .* with 4 channels: .*Stable Diffusion 1.5's or 2.1's VAE",
        tokens,
        latent=torch.zeros(1, 12, 4, 4),
    )
    with pytest.raises(
        ValueError, match="width 1280, clip_vision gives 1024: use OpenCLIP ViT-H/14, such as CLIP-ViT-H"
    ):
        pruned.image_projection(torch.zeros(1, 257, 1024))
    with pytest.raises(ValueError, match="image_projection is missing or empty: take image_projection from Load I2V"):
        encode(pruned.vae, image, 32, 32, "crop", SimpleNamespace(encode_image=None), alone.image_projection)


def test_a_file_of_the_network_alone_takes_the_projection_of_another_file(
    load_small: LoadSmall, node_classes: dict[str, Any], sample: Callable[..., torch.Tensor]
) -> None:
    alone = load_small("dynamicrafter_512", "unet_only", "alone.safetensors")
    whole = load_small("dynamicrafter_512", "unet_and_projection", "projection.safetensors")
    pruned = load_small("dynamicrafter_512", "pruned", "pruned.safetensors")
    tokens = whole.image_projection(seeded_normal("image", (2, 257, 1280))).split(1)
    given = node_classes["I2VEncodeImage"].execute(pruned.vae, torch.rand(1, 32, 32, 3), 32, 32, "crop").result[0]
    given = replace(given, image_tokens=tokens[0], null_image_tokens=tokens[1])
    inputs = Inputs(*node_classes["I2VConditioning"].execute(conditioning(), conditioning(), given, 4).result)
    assert torch.equal(sample(alone.model, inputs), sample(whole.model, inputs))
