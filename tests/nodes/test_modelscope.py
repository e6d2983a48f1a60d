"""ModelScope's text-to-video files in the host: the same answers as diffusers', and text to video as a by-product."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet3DConditionModel
from safetensors.torch import save_file

from tests.core.weights.small import modelscope_state, seed
from tests.nodes.test_model import run_once

Host = Callable[[str], Any]
FRAMES, WIDTH = 3, 64


@pytest.fixture(scope="module")
def theirs() -> UNet3DConditionModel:
    with torch.inference_mode(False):
        # The host knows a 1024 wide text of OpenCLIP by its place in the graph only; any width will do here.
        return seed(
            UNet3DConditionModel(block_out_channels=(32, 64, 64, 64), attention_head_dim=32, cross_attention_dim=WIDTH)
        )


@pytest.fixture(scope="module")
def models(
    theirs: UNet3DConditionModel, core: Callable[[str], Any], node_classes: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:  # fmt: skip
    """MODEL of Load I2V Checkpoint for each layout."""
    import folder_paths

    folder: Path = tmp_path_factory.mktemp("diffusion_models")
    folder_paths.add_model_folder_path("diffusion_models", str(folder))
    save_file(theirs.state_dict(), folder / "zeroscope.safetensors")
    ours = core("weights").read_checkpoint(folder / "zeroscope.safetensors").unet
    torch.save(modelscope_state(ours), folder / "text2video_pytorch_model.pth")
    names = {"diffusers": "zeroscope.safetensors", "modelscope": "text2video_pytorch_model.pth"}
    load = node_classes["I2VLoadCheckpoint"].execute
    return {layout: load(name).result[0] for layout, name in names.items()}


@pytest.mark.parametrize("layout", ["diffusers", "modelscope"])
def test_the_host_s_model_answers_as_diffusers_does(
    theirs: UNet3DConditionModel, models: dict[str, Any], host_module: Host, layout: str
) -> None:
    model = models[layout]
    assert model.model.preset.name == "modelscope"
    sampling, text = model.model.model_sampling, torch.randn(1, 7, WIDTH)
    for timestep in (20.0, 801.0):
        sigma = sampling.sigma(torch.tensor(timestep)).item()
        rows = torch.randn(FRAMES, 4, 16, 8) * (1 + sigma**2) ** 0.5
        (denoised,) = run_once(host_module, model, rows, sigma, [[[text, {}]]])
        z = (rows / (1 + sigma**2) ** 0.5).movedim(0, 1)[None]
        expected = theirs(z, torch.tensor([timestep]), text).sample[0].movedim(1, 0)
        torch.testing.assert_close((rows - denoised) / sigma, expected, rtol=1e-4, atol=1e-4)


def test_text_to_video_takes_the_host_s_empty_latent(models: dict[str, Any], host_module: Host) -> None:
    nodes = host_module("nodes")
    latent = nodes.EmptyLatentImage().generate(64, 64, FRAMES)[0]
    texts = [[[torch.randn(1, 7, WIDTH), {}]] for _ in range(2)]
    arguments = (0, 2, 3.0, "euler", "simple", *texts, latent)
    one, other = (nodes.KSampler().sample(models[layout], *arguments)[0]["samples"] for layout in models)
    assert one.shape == (FRAMES, 4, 8, 8)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_the_host_takes_modelscope_s_text_encoder_for_open_clip_h(pack: Any, host_module: Host) -> None:
    """`open_clip_pytorch_model.bin` holds both towers under OpenCLIP's names."""
    utils, sd = host_module("comfy.utils"), host_module("comfy.sd")
    blocks = {f"transformer.resblocks.{i}.mlp.c_fc.weight": torch.zeros(4, 1) for i in range(24)}
    towers = {"visual.proj": torch.zeros(1), "positional_embedding": torch.zeros(77, 1), **blocks}
    assert sd.detect_te_model(utils.clip_text_transformers_convert(towers, "", "")) == sd.TEModel.CLIP_H
    assert ".bin" in host_module("folder_paths").folder_names_and_paths["text_encoders"][1]
