"""Interpolation, loops, other lengths and sizes: what the network is shown, and what is refused."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

FRAMES = 4


@dataclass(frozen=True)
class Interpolation:
    """A tiny interpolation model, its nodes, and what its network was shown."""

    loaded: Any
    nodes: dict[str, Any]
    texts: Any
    sampled: Callable[..., Tensor]

    def encode(self, image: Tensor, width: int = 32, height: int = 32) -> Any:
        return self.nodes["I2VEncodeImage"].execute(self.loaded.vae, image, width, height, "crop").result[0]

    def given(self, first: Any, last: Any | None, frames: int = FRAMES) -> Any:
        text, null = self.texts.positive, self.texts.negative
        result = self.nodes["I2VConditioning"].execute(text, null, first, frames, 0.0, last).result
        return replace(self.texts, positive=result[0], negative=result[1], latent=result[2])

    def shown(self, given: Any) -> Tensor:
        """The image channels of the network's input, `(n b t) c h w` over guidance branches, clips and frames."""
        seen: list[Tensor] = []

        def note(executor: Any, x: Tensor, *rest: Any, **named: Any) -> Tensor:
            seen.append(x[:, 12:])
            return executor(x, *rest, **named)

        model = self.loaded.model.clone()
        model.add_wrapper_with_key("diffusion_model", "note", note)
        self.sampled(model, given, steps=1)
        return seen[0]

    def scaled(self, image: Any) -> Tensor:
        return self.loaded.model.model.process_latent_in(image.latent)[0]


@pytest.fixture(scope="module")
def interpolation(
    node_classes: dict[str, Any],
    save: Callable[..., Any],
    load: Callable[[Any], Any],
    prepare: Callable[..., Any],
    sample: Callable[..., Tensor],
) -> Interpolation:
    loaded = load(save("interpolation", "dynamicrafter_512_interp"))
    with torch.inference_mode():
        return Interpolation(loaded, node_classes, prepare(loaded), sample)


def test_images_of_different_sizes_are_pinned_to_their_own_ends(interpolation: Interpolation) -> None:
    """Two clips in one batch and both guidance branches; the second picture is not the first one resized."""
    first, last = interpolation.encode(torch.rand(1, 40, 60, 3)), interpolation.encode(torch.rand(1, 90, 30, 3))
    given = interpolation.given(first, last)
    rows = {"samples": given.latent["samples"].repeat(2, 1, 1, 1)}
    for clip in interpolation.shown(replace(given, latent=rows)).split(FRAMES):
        assert torch.equal(clip[0], interpolation.scaled(first))
        assert torch.equal(clip[-1], interpolation.scaled(last))
        assert not clip[1:-1].any()
    assert not torch.allclose(interpolation.scaled(first), interpolation.scaled(last), atol=0.05)


def test_one_image_at_both_ends_is_a_loop(interpolation: Interpolation) -> None:
    image = interpolation.encode(torch.rand(1, 40, 60, 3))
    shown = interpolation.shown(interpolation.given(image, image, 5))[:5]
    assert torch.equal(shown[0], shown[-1])
    assert not shown[1:-1].any()


def test_a_missing_or_unwanted_end_image_gets_its_sentence(
    interpolation: Interpolation, tiny: Any, sample: Callable[..., Tensor]
) -> None:
    image = interpolation.encode(torch.rand(1, 40, 60, 3))
    with pytest.raises(ValueError, match="fills in the frames between two images and got no last one: connect end_im"):
        sample(interpolation.loaded.model, interpolation.given(image, None))
    with pytest.raises(ValueError, match=r"modelscope.* animates one image .*preset dynamicrafter_512_interp"):
        sample(tiny.model, interpolation.given(image, image))
    with pytest.raises(ValueError, match="end image's latent is 12 x 8 with 12 channels, the first one's 8 x 8"):
        interpolation.given(image, interpolation.encode(torch.rand(1, 40, 60, 3), width=48))


def test_shared_tokens_show_every_frame_those_of_all(
    node_classes: dict[str, Any], interpolation: Interpolation
) -> None:
    image = interpolation.encode(torch.rand(1, 40, 60, 3))
    tokens, null = torch.randn(1, 16, 5, 64), torch.randn(1, 16, 5, 64)
    execute = node_classes["I2VShareImageTokens"].execute
    shared = execute(replace(image, image_tokens=tokens, null_image_tokens=null)).result[0]
    assert torch.equal(shared.image_tokens, tokens.flatten(1, 2))
    assert torch.equal(shared.null_image_tokens, null.flatten(1, 2))
    assert shared.latent is image.latent
    assert execute(shared).result[0].image_tokens is shared.image_tokens
    assert execute(image).result[0].image_tokens is None


def test_the_published_behavior_for_other_lengths_is_the_core_s(
    core: Callable[[str], Any],
    save: Callable[..., Any],
    load: Callable[[Any], Any],
    prepare: Callable[..., Any],
    sample: Callable[..., Tensor],
    node_classes: dict[str, Any],
) -> None:
    """All tokens for every frame, against the same network called with them, and unlike tokens spread over time."""
    loaded = load(save("lengths", "dynamicrafter_512", image_gate="fixed"))
    image = node_classes["I2VEncodeImage"].execute(loaded.vae, torch.rand(1, 40, 60, 3), 32, 32, "crop").result[0]
    image = replace(image, image_tokens=torch.randn(1, 16, 2, 64), null_image_tokens=torch.randn(1, 16, 2, 64))
    shared = node_classes["I2VShareImageTokens"].execute(image).result[0]
    texts, results, calls = prepare(loaded), [], []

    def note(executor: Any, x: Tensor, times: Tensor, context: Tensor, *rest: Any, **named: Any) -> Tensor:
        out = executor(x, times, context, *rest, **named)
        calls.append((x[:3], times[:1], context[:1], rest[0][:1], out[:3]))
        return out

    model = loaded.model.clone()
    model.add_wrapper_with_key("diffusion_model", "note", note)
    for picture in (image, shared):
        branches = (texts.positive, texts.positive)
        positive, negative, latent = node_classes["I2VConditioning"].execute(*branches, picture, 3, 24.0).result
        given = replace(texts, positive=positive, negative=negative, latent=latent)
        results.append(sample(model, given, steps=1, cfg=1.0))
    assert not torch.allclose(*results)
    x, times, context, pooled, out = calls[1]
    expected = loaded.saved.checkpoint.unet(
        x.movedim(0, 1)[None],
        times,
        context,
        image_tokens=image.image_tokens.flatten(1, 2),
        fps=torch.tensor([24.0]) if loaded.saved.checkpoint.unet.config.fps_embedding else None,
        pooled_text=pooled,
    )
    torch.testing.assert_close(out.movedim(0, 1)[None], expected, atol=1e-5, rtol=1e-5)


def test_what_the_model_was_not_trained_on_is_said_once(
    caplog: pytest.LogCaptureFixture, interpolation: Interpolation, sample: Callable[..., Tensor]
) -> None:
    image, warned = interpolation.encode(torch.rand(1, 40, 60, 3)), interpolation.loaded.model.model.warned_about
    with caplog.at_level(logging.WARNING):
        warned.clear()
        for _ in range(2):
            sample(interpolation.loaded.model, interpolation.given(image, image), steps=1)
    told = [record.getMessage() for record in caplog.records if "trained on" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("dynamicrafter_512_interp was trained on 16 frames of 512 x 320; 4 of 32 x 32 work")


@pytest.mark.parametrize(("height", "width"), [(320, 512), (512, 320)])
def test_the_size_and_length_of_training_are_not_warned_about(
    caplog: pytest.LogCaptureFixture, interpolation: Interpolation, height: int, width: int
) -> None:
    model = interpolation.loaded.model.model
    noise = torch.zeros(16, 12, height // 4, width // 4)
    latent = torch.zeros(1, *noise.shape[1:])
    given = {"noise": noise, "device": torch.device("cpu"), "cross_attn": torch.zeros(1, 7, 64)}
    given |= {"pooled_output": torch.zeros(1, 64), "concat_latent_image": latent, "i2v_end_latent": latent}
    with caplog.at_level(logging.WARNING):
        conds = model.extra_conds(**given)
    assert conds["num_video_frames"].cond == 16
    assert not [record for record in caplog.records if "trained on" in record.getMessage()]
