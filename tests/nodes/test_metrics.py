"""The metric nodes through their execute: numbers of the core, plots as IMAGE, one sentence for what is missing."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch


@pytest.fixture
def picture() -> torch.Tensor:
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (48, 64), mode="bilinear").permute(0, 2, 3, 1)


@pytest.fixture
def drifting(picture: torch.Tensor) -> torch.Tensor:
    """Five frames that leave the picture step by step."""
    return torch.cat([picture.roll(2 * i, dims=2) for i in range(5)])


SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 1}


@pytest.fixture(scope="module")
def clip_vision(host_module: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A CLIP_VISION of the host with small seeded weights, embeddings of 64."""
    config = SIZES | {"image_size": 32, "patch_size": 8, "projection_dim": 64, "hidden_act": "quick_gelu"}
    config |= {"num_channels": 3, "model_type": "clip_vision_model"}
    path = tmp_path_factory.mktemp("clip_vision") / "config.json"
    path.write_text(json.dumps(config))
    vision = host_module("comfy.clip_vision").ClipVisionModel(path)
    seed_weights(vision.model)
    return vision


@pytest.fixture
def clip(host_module: Callable[[str], Any]) -> Any:
    """A CLIP of the host with the real tokenizer and small seeded weights, projection included."""
    sd1_clip, models = host_module("comfy.sd1_clip"), host_module("comfy.supported_models_base")
    target = models.ClipTarget(sd1_clip.SD1Tokenizer, sd1_clip.SD1ClipModel)
    options = {"clip_l_model_config": SIZES, "dtype": torch.float32}
    clip = host_module("comfy.sd").CLIP(target, parameters=1000, model_options=options)
    seed_weights(clip.cond_stage_model)
    return clip


def seed_weights(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))


def test_metrics_are_those_of_the_core(
    node_classes: dict[str, Any], core: Callable[[str], Any], picture: torch.Tensor, drifting: torch.Tensor
) -> None:
    report, plot, isim, first_psnr, amount = node_classes["I2VMetrics"].execute(
        drifting, picture, "pan left", ground_truth=drifting
    ).result  # fmt: skip
    values, refused = json.loads(report)["values"], json.loads(report)["not measured"]
    clip = core("video.frames").frames_to_clip(drifting)
    assert amount == values["motion_amount"] == pytest.approx(core("metrics.motion").motion_amount(clip).item())
    assert first_psnr == 100
    assert values["psnr"] == 100
    assert values["image_ssim"][0] > values["image_ssim"][4]
    assert math.isnan(isim)
    assert "needs clip_vision" in refused["isim_average"]
    assert plot.shape == (1, 320, 640, 3)
    assert plot.min() < 0.2 < 0.9 < plot.max()


def test_clip_vision_gives_isim(
    node_classes: dict[str, Any], picture: torch.Tensor, drifting: torch.Tensor, clip_vision: Any
) -> None:
    frozen = picture.expand(4, -1, -1, -1)
    execute = node_classes["I2VMetrics"].execute
    still = json.loads(execute(frozen, picture, clip_vision=clip_vision).result[0])["values"]
    assert still["isim"] == pytest.approx([1] * 4, abs=1e-5)
    assert still["isim_decay"] == pytest.approx(0, abs=1e-6)
    moving = execute(drifting, picture, clip_vision=clip_vision).result
    assert moving[2] < 1
    assert json.loads(moving[0])["values"]["isim_first"] == pytest.approx(1, abs=1e-5)


def test_clip_and_clip_vision_give_clipsim(
    node_classes: dict[str, Any],
    core: Callable[[str], Any],
    picture: torch.Tensor,
    drifting: torch.Tensor,
    clip_vision: Any,
    clip: Any,
) -> None:
    report = node_classes["I2VMetrics"].execute(drifting, picture, "a cat", clip_vision, clip).result[0]
    unprojected = clip.encode_from_tokens(clip.tokenize("a cat"), return_pooled="unprojected")[1]
    projected = clip.cond_stage_model.clip_l.transformer.text_projection(unprojected)[0]
    frames = clip_vision.encode_image(drifting)["image_embeds"]
    expected = core("metrics.similarity").clipsim(frames, projected)
    assert json.loads(report)["values"]["clipsim"] == pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.parametrize("change", ["identity", "unset", "other width", "no CLIP"])
def test_texts_in_another_space_are_refused(
    node_classes: dict[str, Any],
    picture: torch.Tensor,
    drifting: torch.Tensor,
    clip_vision: Any,
    clip: Any,
    tiny: Any,
    change: str,
) -> None:
    projection = clip.cond_stage_model.clip_l.transformer.text_projection
    fillings = {"identity": torch.eye(64), "unset": torch.zeros(64, 64), "other width": torch.rand(32, 64)}
    if change in fillings:
        projection.weight = torch.nn.Parameter(fillings[change], requires_grad=False)
    given = tiny.clip if change == "no CLIP" else clip
    report = node_classes["I2VMetrics"].execute(drifting, picture, "a cat", clip_vision, given).result[0]
    sentence = {"no CLIP": "is no CLIP text encoder", "other width": "width 32 and clip_vision of 64"}
    told = json.loads(report)
    assert sentence.get(change, "has no text projection") in told["not measured"]["clipsim"]
    assert "isim" in told["values"]


def test_compared_clips_stand_side_by_side_above_their_curves(
    node_classes: dict[str, Any], picture: torch.Tensor, drifting: torch.Tensor
) -> None:
    short = picture.expand(3, -1, -1, -1)
    images, plot, report = node_classes["I2VCompareClips"].execute(
        picture, drifting, short, labels="moving, frozen"
    ).result  # fmt: skip
    assert images.shape == (5, 48 * 5 + 320, 640, 3)
    # 64 pixels five times as large; the short clip holds its last frame.
    torch.testing.assert_close(images[4, : 48 * 5 : 5, 320::5], short[2], rtol=0, atol=1e-5)
    torch.testing.assert_close(images[4, : 48 * 5 : 5, :320:5], drifting[4], rtol=0, atol=1e-5)
    assert not torch.equal(images[0, 240:], images[4, 240:]), "the curves grow"
    assert plot.shape == (1, 320, 640, 3)
    told = json.loads(report)
    assert list(told) == ["moving", "frozen"]
    assert told["frozen"]["values"]["motion_amount"] == 0


def test_bad_clips_are_one_sentence(
    node_classes: dict[str, Any], picture: torch.Tensor, drifting: torch.Tensor
) -> None:
    compare, metrics = node_classes["I2VCompareClips"].execute, node_classes["I2VMetrics"].execute
    with pytest.raises(ValueError, match=r"one size, got 1 48x64, 2 40x64: resize"):
        compare(picture, drifting, drifting[:, :40])
    with pytest.raises(ValueError, match="NaN"):
        metrics(torch.full_like(drifting, torch.nan), picture)
    with pytest.raises(ValueError, match="one picture to animate, got 5"):
        metrics(drifting, drifting)
    report = metrics(drifting, picture, ground_truth=drifting[:3]).result[0]
    assert "must have one shape" in json.loads(report)["not measured"]["psnr"]


def test_labels_repeat_or_lack_without_harm(pack: Any, core: Callable[[str], Any]) -> None:
    import importlib

    labels = importlib.import_module(".nodes.metrics", pack.__name__).clip_labels
    assert labels("a, b", 3) == ["a", "b", "3"]
    assert labels("", 2) == ["1", "2"]
    assert labels("a, a", 2) == ["a (1)", "a (2)"]
