"""Generation under dual guidance: its conditions, its passes, and what it reduces to."""

import pytest
import torch
from torch import Tensor

from i2v_core import generate
from i2v_core.denoiser import Denoiser
from i2v_core.diffusion.guidance import DualGuidance, ScaleSchedule
from i2v_core.generate import GenerateConfig, encode_conditions, null_conditions
from i2v_core.methods import ImageRetentionMethod
from i2v_core.model.image_retention import ImageRetention, ImageRetentionConfig
from i2v_core.sampling import sample
from i2v_core.weights import Checkpoint
from tests.core.training.small import small_recipe
from tests.core.weights.small import seed


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    from i2v_core.training.new_model import new_autoencoder, new_networks, new_preset

    recipe = small_recipe(tmp_path_factory.mktemp("recipe"))
    text_encoder, unet = new_networks(recipe)
    return Checkpoint(
        unet=seed(unet), image_projection=None, autoencoder=new_autoencoder(recipe),
        text_encoder=text_encoder, preset=new_preset(recipe), dialect="i2v", metadata={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def denoiser(checkpoint: Checkpoint) -> Denoiser:
    branch = seed(ImageRetention.beside(checkpoint.unet, ImageRetentionConfig(stem_channels=(4, 8, 8))))
    return Denoiser.of(checkpoint.unet, checkpoint.preset, ImageRetentionMethod(branch))


def clip(
    checkpoint: Checkpoint, denoiser: Denoiser, prompt: str = "pan left", level: int = 200, **config: object
) -> Tensor:
    image = torch.randint(0, level, (40, 50, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    settings = GenerateConfig(steps=2, **config)  # type: ignore[arg-type]
    return generate.animate(checkpoint, image, prompt, config=settings, denoiser=denoiser)


def test_scales_of_one_are_no_guidance(checkpoint: Checkpoint, denoiser: Denoiser) -> None:
    by_text = clip(checkpoint, denoiser, text_scale=1.0, image_scale=1.0)
    torch.testing.assert_close(by_text, clip(checkpoint, denoiser, guidance=1.0), rtol=0, atol=1e-4)


def test_image_scale_one_of_image_first_is_ordinary_guidance_by_text(
    checkpoint: Checkpoint, denoiser: Denoiser
) -> None:
    dual = clip(checkpoint, denoiser, text_scale=3.0, image_scale=1.0, guidance_order="image_first")
    torch.testing.assert_close(dual, clip(checkpoint, denoiser, guidance=3.0), rtol=0, atol=1e-3)


def test_without_image_scale_the_picture_does_not_matter(checkpoint: Checkpoint, denoiser: Denoiser) -> None:
    dark, bright = (clip(checkpoint, denoiser, level=level, text_scale=3.0, image_scale=0.0) for level in (60, 250))
    assert torch.equal(dark, bright)
    assert not torch.equal(dark, clip(checkpoint, denoiser, "zoom in", text_scale=3.0, image_scale=0.0))


def test_a_schedule_changes_the_steps_it_covers(checkpoint: Checkpoint, denoiser: Denoiser) -> None:
    constant = clip(checkpoint, denoiser, text_scale=3.0, image_scale=2.0)
    same = clip(checkpoint, denoiser, text_scale=ScaleSchedule(3.0, "interval", 9.0, 0.0, 1.0), image_scale=2.0)
    assert torch.equal(constant, same)
    assert not torch.equal(
        constant, clip(checkpoint, denoiser, text_scale=ScaleSchedule(3.0, "linear"), image_scale=2.0)
    )


def test_a_dual_guidance_without_its_null_conditions_says_so(checkpoint: Checkpoint, denoiser: Denoiser) -> None:
    assert checkpoint.autoencoder is not None and checkpoint.text_encoder is not None
    picture = torch.zeros(1, 3, 32, 32)
    given = encode_conditions(
        checkpoint.text_encoder, ["pan left"], checkpoint.autoencoder.encode(picture)[:, :, None], picture
    )
    config = GenerateConfig(steps=2, text_scale=2.0).sampling(checkpoint.preset)
    assert isinstance(config.guidance, DualGuidance)
    with pytest.raises(ValueError, match="dual guidance needs unconditional and null conditions"):
        sample(denoiser, given, given, (1, 4, 3, 8, 8), config, seeds=[0])
    white = null_conditions(checkpoint.autoencoder, checkpoint.text_encoder, [""], picture)
    assert white.image is not None and white.image.min() == 1


def test_the_command_line_reads_scales() -> None:
    from i2v_core.__main__ import generation, parser

    arguments = parser().parse_args(
        ["animate", "a.jpg", "zoom in", "b.mp4", "--text-scale", "cosine:4:1", "--image-scale", "1.5"]
    )
    config = generation(arguments)
    assert config.text_scale == ScaleSchedule(4.0, "cosine", 1.0)
    assert config.image_scale == ScaleSchedule(1.5)
    with pytest.raises(SystemExit):
        parser().parse_args(["animate", "a.jpg", "zoom in", "b.mp4", "--text-scale", "much"])
