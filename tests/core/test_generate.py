"""Generation is a function of picture, prompt, sizes and seed."""

from pathlib import Path

import pytest
import torch

from i2v_core import Checkpoint
from i2v_core.conditions import Conditions
from i2v_core.data.moving_crops import MovingCrops
from i2v_core.denoiser import Denoiser
from i2v_core.diffusion.guidance import ClassifierFreeGuidance, DualGuidance
from i2v_core.diffusion.schedule import Schedule
from i2v_core.generate import Animator, GenerateConfig, animate
from i2v_core.methods import ImageProjectionMethod
from i2v_core.model.attention import DualCrossAttention
from i2v_core.model.image_encoder import ImageEncoderConfig
from i2v_core.model.image_injection import ImageAdapter, ImageAdapterConfig, ImageInjectionConfig, find_image_sites
from i2v_core.model.image_projection import ImageProjectionConfig
from i2v_core.sampling import SamplingConfig, per_clip_noise, sample
from i2v_core.training.new_model import fitted_autoencoder, new_networks, new_preset
from tests.core.training.small import small_recipe
from tests.core.weights.small import seed


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("generate")
    recipe = small_recipe(folder)
    text_encoder, unet = new_networks(recipe)
    for parameter in unet.out.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    autoencoder = fitted_autoencoder(recipe, MovingCrops(recipe.data), folder / "patches.safetensors")
    return Checkpoint(unet.eval(), None, autoencoder, text_encoder, new_preset(recipe), "i2v", {})


PICTURE = torch.linspace(0, 1, 40 * 48 * 3).reshape(40, 48, 3)


def test_the_same_seed_makes_the_same_clip(checkpoint: Checkpoint) -> None:
    first, again = (animate(checkpoint, PICTURE, "pan left", config=GenerateConfig(seed=5)) for _ in range(2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    other = animate(checkpoint, PICTURE, "pan left", config=GenerateConfig(seed=6))
    assert not torch.equal(first, other)


def test_frames_and_size_are_those_asked_for(checkpoint: Checkpoint) -> None:
    config = GenerateConfig(frames=2, height=24, width=40)
    assert animate(checkpoint, PICTURE, "", config=config).shape == (3, 2, 24, 40)
    assert animate(checkpoint, PICTURE, "", config=GenerateConfig(frames=1)).shape[1] == 1


def test_a_size_that_does_not_fit_is_refused_with_the_nearest(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="multiples of 8, got 30x32; the nearest is 32x32"):
        animate(checkpoint, PICTURE, "", config=GenerateConfig(height=30))


def test_a_clip_does_not_depend_on_its_neighbors(checkpoint: Checkpoint) -> None:
    text, pooled = checkpoint.text_encoder.encode(["pan left", "zoom in"])  # type: ignore[union-attr]
    images = torch.randn(2, 4, 1, 8, 8)
    denoiser = Denoiser(checkpoint.unet, Schedule(checkpoint.preset.schedule), "v")
    sampling = SamplingConfig(3, "trailing", ClassifierFreeGuidance(2.0), eta=0.5)

    def run(rows: slice, seeds: list[int]) -> torch.Tensor:
        conditions = Conditions(text=text[rows], pooled_text=pooled[rows], image_latent=images[rows])
        shape = (len(seeds), 4, 3, 8, 8)
        with torch.no_grad():
            return sample(denoiser, conditions, conditions, shape, sampling, seeds=seeds)

    both = run(slice(0, 2), [3, 4])
    torch.testing.assert_close(both[1:], run(slice(1, 2), [4]), rtol=1e-4, atol=1e-4)


def test_progress_is_reported_and_can_cancel(checkpoint: Checkpoint) -> None:
    seen: list[tuple[int, int]] = []

    def stop(step: int, steps: int, _: torch.Tensor) -> None:
        seen.append((step, steps))
        if step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        animate(checkpoint, PICTURE, "", config=GenerateConfig(steps=4), callback=stop)
    assert seen == [(0, 4), (1, 4)]


def test_a_checkpoint_without_text_encoder_says_what_to_use(checkpoint: Checkpoint, tmp_path: Path) -> None:
    bare = Checkpoint(checkpoint.unet, None, None, None, checkpoint.preset, "lvdm", {})
    with pytest.raises(ValueError, match=r"no autoencoder: give one with --vae .*no text encoder: .*--text-encoder"):
        animate(bare, PICTURE, "")


def test_every_clip_needs_its_seed() -> None:
    with pytest.raises(ValueError, match="2 clips, 1 seeds"):
        per_clip_noise((2, 4, 1, 1, 1), [0], torch.device("cpu"))


@torch.no_grad()
def test_no_image_is_grey_in_tokens_and_white_without_them(checkpoint: Checkpoint) -> None:
    picture, dual = torch.rand(1, 3, 32, 32) * 2 - 1, DualGuidance(2.0, 3.0)
    adapter = seed(ImageAdapter(ImageAdapterConfig(
        ImageProjectionConfig(32, 1, 1, 32, 2, 3, image_features=32, output_features=32),
        ImageInjectionConfig(find_image_sites(checkpoint.unet), 32), ImageEncoderConfig(16, 8, 32, 1, 1),
    )))  # fmt: skip
    denoiser = Denoiser.of(checkpoint.unet, checkpoint.preset, ImageProjectionMethod.of(adapter))
    animator = Animator.of(checkpoint, denoiser)
    latent = animator.autoencoder.encode(picture)[:, :, None]
    for guidance in (ClassifierFreeGuidance(2.0), dual):
        full, half, null = animator.branches(guidance, ["pan left"], [""], latent, picture)
        without = half if null is None else null
        assert torch.equal(full.image_tokens, adapter.tokens(picture))  # type: ignore[arg-type]
        assert torch.equal(without.image_tokens, adapter.tokens(torch.zeros_like(picture)))  # type: ignore[arg-type]
        assert torch.equal(without.image_latent, latent)  # type: ignore[arg-type]
    plain = Animator.of(checkpoint)
    _, _, null = plain.branches(dual, ["pan left"], [""], latent, picture)
    nothing = plain.autoencoder.encode(torch.ones_like(picture))[:, :, None]
    assert null is not None and torch.equal(null.image_latent, nothing)  # type: ignore[arg-type]


def test_texts_meet_every_cross_attention_once_in_a_run(checkpoint: Checkpoint) -> None:
    met: list[torch.nn.Module] = []
    layers = [each.to_k for each in checkpoint.unet.modules() if isinstance(each, DualCrossAttention)]
    hooks = [layer.register_forward_hook(lambda layer, *_: met.append(layer)) for layer in layers]
    animate(checkpoint, PICTURE, "pan left", config=GenerateConfig(guidance=2.0, steps=4))
    for hook in hooks:
        hook.remove()
    assert len(met) == 2 * len(layers)  # once for each guidance branch
