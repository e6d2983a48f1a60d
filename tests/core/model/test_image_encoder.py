"""The small image encoder gives a token for every patch, the global one first, whatever the picture's size."""

import torch

from i2v_core.model.image_encoder import ImageEncoder, ImageEncoderConfig, initialize_image_encoder


def encoder() -> ImageEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = ImageEncoder(ImageEncoderConfig(size=16, patch=4, features=32, layers=2, heads=1))
        initialize_image_encoder(built)
    return built.eval()


def test_one_global_token_and_one_for_each_patch() -> None:
    assert encoder().encode(torch.randn(2, 3, 16, 16)).shape == (2, 1 + 16, 32)
    assert ImageEncoderConfig().tokens == 65


def test_a_picture_of_another_shape_is_squashed_and_not_cropped() -> None:
    grey, marked = torch.zeros(1, 3, 16, 48), torch.zeros(1, 3, 16, 48)
    marked[..., -4:] = 1  # what a crop to the middle would not show
    with torch.no_grad():
        assert (encoder()(marked) - encoder()(grey)).abs().max() > 0.01


def test_a_change_in_one_patch_reaches_the_global_token() -> None:
    one, other = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    other[..., 12:, 12:] = 1
    with torch.no_grad():
        features = encoder()(torch.cat([one, other]))
    assert (features[0, 0] - features[1, 0]).abs().max() > 1e-4
