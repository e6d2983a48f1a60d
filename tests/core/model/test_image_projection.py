"""The image projection, whose agreement with the reference is tested with the loader, and tokens over time."""

import pytest
import torch

from i2v_core.model.image_projection import ImageProjection, ImageProjectionConfig, resample_image_tokens
from tests.core.weights.small import largest_difference, seed
from tests.parity.seeded import seeded_normal

SMALL = ImageProjectionConfig(
    features=16, depth=2, heads=2, head_dim=8, queries=3, frames=4, image_features=12, output_features=10
)


@torch.no_grad()
@pytest.mark.parametrize(("frames", "shape"), [(4, (2, 4, 3, 10)), (None, (2, 3, 10))])
def test_tokens_are_for_every_frame_or_shared(frames: int | None, shape: tuple[int, ...]) -> None:
    config = ImageProjectionConfig(**{**vars(SMALL), "frames": frames})
    tokens = seed(ImageProjection(config))(seeded_normal("image", (2, 5, 12)))
    assert tokens.shape == shape


@torch.no_grad()
def test_the_order_of_the_image_tokens_does_not_matter() -> None:
    projection, image = seed(ImageProjection(SMALL)), seeded_normal("image", (2, 5, 12))
    assert largest_difference(projection(image), projection(image.flip(1))) < 1e-5


@torch.no_grad()
def test_the_global_token_alone_or_every_token_is_seen() -> None:
    """The variant of the paper's Figure 2 depends on the first token of the image encoder and on no other."""
    image, elsewhere = seeded_normal("image", (2, 5, 12)), seeded_normal("elsewhere", (2, 4, 12))
    changed = torch.cat([image[:, :1], elsewhere], dim=1)
    full, global_only = (
        seed(ImageProjection(ImageProjectionConfig(**{**vars(SMALL), "visual_tokens": tokens})))
        for tokens in ("full", "global")
    )
    assert torch.equal(global_only(image), global_only(changed))
    assert torch.equal(global_only(image), full(image[:, :1]))
    assert largest_difference(full(image), full(changed)) > 0.01
    assert largest_difference(global_only(image), global_only(image.roll(1, dims=1))) > 0.01


def test_gradients_reach_every_parameter_of_the_projection() -> None:
    projection = seed(ImageProjection(SMALL))
    (projection(seeded_normal("image", (1, 5, 12))) * seeded_normal("weights", (1, 4, 3, 10))).sum().backward()
    assert not [n for n, p in projection.named_parameters() if p.grad is None or not p.grad.any()]


def test_tokens_for_the_trained_number_of_frames_are_untouched() -> None:
    tokens = seeded_normal("tokens", (2, 16, 3, 4))
    assert resample_image_tokens(tokens, 16) is tokens


@pytest.mark.parametrize("frames", [2, 8, 31])
def test_resampling_is_linear_in_time_and_keeps_both_ends(frames: int) -> None:
    first, last = seeded_normal("first", (1, 3, 4)), seeded_normal("last", (1, 3, 4))

    def line(count: int) -> torch.Tensor:
        return torch.stack([torch.lerp(first, last, i / (count - 1)) for i in range(count)], dim=1)

    assert largest_difference(resample_image_tokens(line(16), frames), line(frames)) < 1e-5


def test_resampling_keeps_the_precision() -> None:
    assert resample_image_tokens(torch.zeros(1, 16, 2, 4, dtype=torch.bfloat16), 5).dtype == torch.bfloat16
