"""Laws of the image retention branch: it starts as its base's copy and without effect, and sees image and text."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from i2v_core.model.image_retention import ImageRetention, ImageRetentionConfig
from i2v_core.model.seams import Seams
from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from tests.core.model.test_video_unet import EVERYTHING, inputs
from tests.core.weights.small import SMALL, seed
from tests.parity.seeded import seeded_normal

STEM = (4, 8, 8)


@pytest.fixture(scope="module")
def base() -> VideoUNet:
    return seed(VideoUNet(EVERYTHING))


@pytest.fixture(scope="module")
def branch(base: VideoUNet) -> ImageRetention:
    return seed(ImageRetention.beside(base, ImageRetentionConfig(stem_channels=STEM)))


def image(name: str = "image pixels", size: tuple[int, int] = (32, 16)) -> Tensor:
    return seeded_normal(name, (2, 3, *size)).clamp(-1, 1)


@torch.no_grad()
def test_at_its_start_it_changes_nothing_bit_by_bit(base: VideoUNet) -> None:
    branch, given = ImageRetention.beside(base, ImageRetentionConfig(stem_channels=STEM)), inputs(EVERYTHING)
    residuals = branch(**given, hint=branch.hint(image()))
    assert torch.equal(base(**given, seams=Seams(residuals)), base(**given))


def test_it_starts_as_a_copy_of_its_base(base: VideoUNet) -> None:
    branch, own = ImageRetention.beside(base, ImageRetentionConfig(stem_channels=STEM)), base.state_dict()
    assert branch.config.unet == base.config
    for name, tensor in branch.encoder.state_dict().items():
        assert torch.equal(tensor, own[name])
        assert tensor.data_ptr() != own[name].data_ptr()


def test_a_base_of_the_public_layout_has_twelve_skips_and_a_middle() -> None:
    branch = ImageRetention(ImageRetentionConfig(unet=VideoUNetConfig()), device="meta")
    assert len(branch.skips) == 12
    assert [c.out_channels for c in branch.skips] == [320, 320, 320, 320, 640, 640, 640] + [1280] * 5
    assert branch.middle.out_channels == 1280
    assert branch.config.downscale == 8


@torch.no_grad()
@pytest.mark.parametrize("config", [SMALL, replace(SMALL, init_attention=False, temporal_attention=False)])
def test_it_goes_beside_every_member_of_the_family(config: VideoUNetConfig) -> None:
    base, given = seed(VideoUNet(config)), inputs(config)
    branch = seed(ImageRetention.beside(base, ImageRetentionConfig(stem_channels=STEM)))
    residuals = branch(**given, hint=branch.hint(image()))
    assert not torch.equal(base(**given, seams=Seams(residuals)), base(**given))


@torch.no_grad()
@pytest.mark.parametrize("changed", ["hint", "text", "timesteps", "x"])
def test_what_it_adds_depends_on_image_text_time_and_clip(branch: ImageRetention, changed: str) -> None:
    given = {**inputs(EVERYTHING), "hint": branch.hint(image())}
    other = {**given, changed: given[changed] + 1}
    assert not torch.equal(branch(**given).middle, branch(**other).middle)


@torch.no_grad()
def test_the_hint_is_added_to_the_first_convolution_in_every_frame(branch: ImageRetention) -> None:
    given, hint = inputs(EVERYTHING), branch.hint(image())
    assert hint.shape == (2, 32, 8, 4)
    plain = VideoUNet(replace(EVERYTHING, init_attention=False))
    alone = ImageRetention.beside(plain, ImageRetentionConfig(stem_channels=STEM))
    nn.init.dirac_(alone.skips[0].weight)
    first = alone(**given, hint=hint).skips[0]
    without = alone(**given, hint=torch.zeros_like(hint)).skips[0]
    torch.testing.assert_close(first - without, hint[:, :, None].expand_as(first), rtol=0, atol=1e-5)


@torch.no_grad()
def test_strength_scales_what_is_added(branch: ImageRetention) -> None:
    given = {**inputs(EVERYTHING), "hint": branch.hint(image())}
    full, half = branch(**given), branch(**given, strength=0.5)
    torch.testing.assert_close(full.middle * 0.5, half.middle)


def test_gradients_reach_every_parameter(base: VideoUNet, branch: ImageRetention) -> None:
    given = inputs(EVERYTHING)
    branch.zero_grad(set_to_none=True)
    residuals = branch(**given, hint=branch.hint(image()))
    (base(**given, seams=Seams(residuals)) * seeded_normal("weights", (2, 4, 3, 8, 4))).sum().backward()
    unreached = {name for name, p in branch.named_parameters() if p.grad is None or not p.grad.any()}
    assert not unreached


@torch.no_grad()
def test_an_image_of_another_size_is_refused_with_the_size_wanted(branch: ImageRetention) -> None:
    with pytest.raises(ValueError, match="at the clip's size, 16 x 32 pixels"):
        branch(**inputs(EVERYTHING), hint=branch.hint(image(size=(64, 64))))
