"""Image Noise Prior on the host's own models: TRIP's linear fusion, whatever the model predicts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.nodes.stock import KINDS, empty_latent, sample_stock, stock_model

Host = Callable[[str], Any]
FIRST, LAST = 0.9, 0.2


@pytest.fixture(scope="module")
def stock(pack: Any, host_module: Host) -> Callable[[str], Any]:
    """One model of each kind, shared by all tests: nodes must leave it as it is."""
    made: dict[str, Any] = {}

    def get(kind: str) -> Any:
        if kind not in made:
            made[kind] = stock_model(host_module, kind)
        return made[kind]

    return get


@pytest.fixture(scope="module")
def prior(node_classes: dict[str, Any]) -> Callable[..., Any]:
    def applied(model: Any, image: torch.Tensor, *settings: float, frames: int = 0) -> Any:
        chosen = (settings or (FIRST, LAST)) + (0.0, 1.0)[len(settings or (0, 0)) - 2 :]
        return node_classes["I2VImageNoisePrior"].execute(model, {"samples": image}, *chosen, frames).result[0]

    return applied


def image_latent(kind: str, seed: int = 1) -> torch.Tensor:
    shape = (1, 16, 1, 4, 4) if kind == "flow" else (1, 4, 4, 4)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def as_clip(latents: torch.Tensor) -> torch.Tensor:
    return latents if latents.ndim == 5 else latents.movedim(0, 1)[None]


@pytest.mark.parametrize("kind", KINDS)
def test_it_equals_linear_fusion_of_what_the_network_predicts(
    core: Callable[[str], Any], host_module: Host, stock: Callable[[str], Any], prior: Callable[..., Any], kind: str
) -> None:
    """Equation 9 on the network's own output, in both branches of the guidance, against the node."""
    module = core("diffusion.image_noise_prior")
    model, image = stock(kind), image_latent(kind)
    by_hand = model.clone()
    scaled = as_clip(model.model.process_latent_in(image))

    def fuse(executor: Any, x: torch.Tensor, t: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        raw, sigma = executor(x, t, *rest, **more), rest[3]["sigmas"][0]
        clips = x if kind == "flow" else x[:, :4].unflatten(0, (-1, 3)).movedim(2, 1)
        target = scaled.expand(len(clips), -1, -1, -1, -1)
        if kind == "flow":
            reference = (x - target) / sigma
        else:
            alpha_bar = (1 / (1 + sigma**2)).expand(len(clips))
            name = "eps" if kind == "eps" else "v"
            reference = module.reference_prediction(name, clips, target, alpha_bar).movedim(1, 2).flatten(0, 1)
        weights = torch.linspace(FIRST, LAST, 3)
        shares = weights[:, None, None] if kind == "flow" else weights.repeat(len(clips))[:, None, None, None]
        return shares * reference + (1 - shares) * raw

    by_hand.add_wrapper_with_key("diffusion_model", "fuse", fuse)
    expected = sample_stock(host_module, by_hand, empty_latent(kind))
    result = sample_stock(host_module, prior(model, image), empty_latent(kind))
    plain = sample_stock(host_module, model, empty_latent(kind))
    size = expected.abs().max()
    assert (result - expected).abs().max() < 1e-5 * max(1, size)
    assert (result - plain).abs().max() > 1e-2 * size


@pytest.mark.parametrize("kind", KINDS)
def test_lambda_one_is_the_image_in_every_frame_and_zero_the_model_alone(
    host_module: Host, stock: Callable[[str], Any], prior: Callable[..., Any], kind: str
) -> None:
    model, image, empty = stock(kind), image_latent(kind), empty_latent(kind)
    held = sample_stock(host_module, prior(model, image, 1.0, 1.0), empty)
    torch.testing.assert_close(as_clip(held), as_clip(image).expand_as(as_clip(held)), rtol=0, atol=1e-4)
    free = sample_stock(host_module, prior(model, image, 0.0, 0.0), empty)
    assert torch.equal(free, sample_stock(host_module, model, empty))


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_model_is_untouched_and_without_the_node_all_is_as_before(
    host_module: Host, stock: Callable[[str], Any], prior: Callable[..., Any], kind: str
) -> None:
    model, empty = stock(kind), empty_latent(kind)
    before = sample_stock(host_module, model, empty)
    one, two = prior(model, image_latent(kind, 1)), prior(model, image_latent(kind, 2))
    first = sample_stock(host_module, one, empty)
    second = sample_stock(host_module, two, empty)
    assert not torch.equal(first, second)
    assert torch.equal(sample_stock(host_module, one, empty), first)
    assert torch.equal(sample_stock(host_module, two, empty), second)
    assert torch.equal(sample_stock(host_module, model, empty), before)


@pytest.mark.parametrize("kind", ["eps", "flow"])
def test_clips_of_a_batch_have_an_image_each(
    host_module: Host, stock: Callable[[str], Any], prior: Callable[..., Any], kind: str
) -> None:
    images = torch.cat([image_latent(kind, 1), image_latent(kind, 2)])
    held = sample_stock(host_module, prior(stock(kind), images, 1.0, 1.0, frames=3), empty_latent(kind, clips=2))
    clips = held if kind == "flow" else held.unflatten(0, (2, 3)).movedim(2, 1)
    expected = images if images.ndim == 5 else images[:, :, None]
    torch.testing.assert_close(clips, expected.expand_as(clips), rtol=0, atol=1e-4)


def test_it_acts_in_its_part_of_the_sampling_only(
    host_module: Host, stock: Callable[[str], Any], prior: Callable[..., Any]
) -> None:
    model, image, empty = stock("eps"), image_latent("eps"), empty_latent("eps")
    plain = sample_stock(host_module, model, empty)
    early = sample_stock(host_module, prior(model, image, 1.0, 1.0, 0.0, 0.5), empty)
    assert not torch.equal(early, plain)
    assert (early - image).abs().max() > 1e-2
    # The last of three steps lies at 0.67 of the schedule and not later.
    never = sample_stock(host_module, prior(model, image, 1.0, 1.0, 0.9, 1.0), empty)
    assert torch.equal(never, plain)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler_cfg_pp", "heun"])
def test_other_samplers_of_the_host_end_at_the_image_too(
    host_module: Host, stock: Callable[[str], Any], prior: Callable[..., Any], sampler: str
) -> None:
    image, empty = image_latent("eps"), empty_latent("eps")
    held = sample_stock(host_module, prior(stock("eps"), image, 1.0, 1.0), empty, sampler=sampler, steps=5)
    torch.testing.assert_close(held, image.expand_as(held), rtol=0, atol=1e-3)


def test_what_does_not_fit_is_refused_in_one_sentence(
    host_module: Host, stock: Callable[[str], Any], prior: Callable[..., Any]
) -> None:
    model = stock("eps")
    with pytest.raises(ValueError, match="image latent has 16 channels, this model's latents have 4"):
        prior(model, torch.zeros(1, 16, 4, 4))
    with pytest.raises(ValueError, match="encode a single image, not a video"):
        prior(stock("flow"), torch.zeros(1, 16, 3, 4, 4))

    def refused(match: str, image: torch.Tensor, frames: int = 0) -> None:
        with pytest.raises(ValueError, match=match):
            sample_stock(host_module, prior(model, image, frames=frames), empty_latent("eps"))

    refused("image latent is 6 x 4 .batch 1., the one to sample 4 x 4", torch.zeros(1, 4, 4, 6))
    refused("one for each clip, at the size of the video", torch.zeros(2, 4, 4, 4))
    refused("needs latents of clips of 2 frames", torch.zeros(1, 4, 4, 4), frames=2)
