"""What the image models' extensions find in a video model: LoRA names and ControlNets of Stable Diffusion."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

Core = Callable[[str], Any]


def test_every_attention_of_stable_diffusion_2_1_has_its_place_in_dynamicrafter(
    core: Core, pack: ModuleType, host_module: Core
) -> None:
    """By LDM and by diffusers names, at full size: a LoRA of the image model finds all its spatial attention layers."""
    unet = core("model.video_unet")
    video_config = unet.VideoUNetConfig(in_channels=8, image_gate="fixed", fps_embedding=True)
    image_config = unet.VideoUNetConfig(temporal_convolution=False, temporal_attention=False, init_attention=False)
    video, image = (
        core("model.video_unet").VideoUNet(config, device="meta").state_dict()
        for config in (video_config, image_config)
    )
    attention = {name: tensor.shape for name, tensor in image.items() if ".transformer_blocks." in name}
    assert len(attention) == 16 * 20
    # The block after the middle's attention moves by one; no attention layer does.
    assert {name: video[name].shape for name in attention} == attention

    model = importlib.import_module(".nodes.host.model", pack.__name__)
    names = host_module("comfy.utils").unet_to_diffusers(model.host_unet_config(video_config))
    found = {ours for theirs, ours in names.items() if ".transformer_blocks." in theirs}
    assert found == set(attention)


def small_controlnet(host_module: Core) -> Any:
    """The host's ControlNet for latents and blocks of the tiny model, its weights seeded and far from zero."""
    network = (
        host_module("comfy.cldm.cldm")
        .ControlNet(
            image_size=32,
            in_channels=12,
            model_channels=32,
            hint_channels=3,
            num_res_blocks=[1, 1],
            channel_mult=(1, 2),
            num_head_channels=32,
            use_spatial_transformer=True,
            transformer_depth=[0, 1],
            transformer_depth_middle=1,
            context_dim=64,
            use_linear_in_transformer=True,
            operations=host_module("comfy.ops").manual_cast,
        )
        .eval()
    )
    draw = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=draw))
    return host_module("comfy.controlnet").ControlNet(network, load_device=torch.device("cpu"))


def test_a_controlnet_of_the_host_reaches_every_skip_of_every_frame(
    host_module: Core, tiny: Any, prepare: Callable[..., Any], sample: Callable[..., Tensor]
) -> None:
    given, hints = prepare(tiny), torch.rand(4, 64, 64, 3)
    apply = host_module("nodes").ControlNetApplyAdvanced().apply_controlnet
    seen: list[dict[str, Any]] = []

    def note(
        executor: Any, x: Tensor, times: Tensor, context: Tensor, y: Any, control: Any, *a: Any, **kw: Any
    ) -> Tensor:
        seen.append(control)
        return executor(x, times, context, y, control, *a, **kw)

    def controlled(pictures: Tensor) -> Tensor:
        # One step: in later ones all frames would have seen each other.
        branches = apply(given.positive, given.negative, small_controlnet(host_module), pictures, 1.0, 0.0, 1.0)
        model = tiny.model.clone()
        model.add_wrapper_with_key("diffusion_model", "note", note)
        return sample(model, replace(given, positive=branches[0], negative=branches[1]), steps=1)

    before, after = sample(tiny.model, given, steps=1), controlled(hints)
    assert (after - before).abs().max() > 1e-3
    (control,) = seen
    assert [rows.shape for rows in control["output"]] == [(8, 32, 8, 8), (8, 32, 8, 8), (8, 32, 4, 4), (8, 64, 4, 4)]
    assert all(rows.abs().max() > 0 for rows in (*control["output"], *control["middle"]))
    # A hint per frame: frame 2's own residuals change with its picture, the others' do not.
    controlled(torch.cat([hints[:2], torch.zeros(1, 64, 64, 3), hints[3:]]))
    moved = (seen[1]["output"][0] - seen[0]["output"][0]).abs().amax(dim=(1, 2, 3)) > 1e-6
    assert moved.tolist() == [False, False, True, False] * 2


@pytest.mark.parametrize("width", [8, 72])
def test_sizes_that_are_no_multiple_of_64_pixels_work(
    tiny: Any, node_classes: dict[str, Any], prepare: Callable[..., Any], sample: Callable[..., Tensor], width: int
) -> None:
    encoded = node_classes["I2VEncodeImage"].execute(tiny.vae, torch.rand(1, 40, 60, 3), width, 40, "crop").result[0]
    text = prepare(tiny).positive
    positive, negative, latent = node_classes["I2VConditioning"].execute(text, text, encoded, 3).result
    given = replace(prepare(tiny), positive=positive, negative=negative, latent=latent)
    assert sample(tiny.model, given).isfinite().all()
