"""Files of other projects: independent implementations answer the same with the same file."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet3DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors.torch import save_file
from torch import Tensor

from i2v_core import load_checkpoint
from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from i2v_core.weights import key_maps, read_checkpoint
from tests.core.weights.small import (
    SMALL,
    SMALL_DYNAMICRAFTER,
    SMALL_IMAGE_MODEL,
    largest_difference,
    modelscope_state,
    prefixed,
    seed,
)
from tests.parity.seeded import seeded_normal

UNET = "model.diffusion_model."


def clip_inputs(context_dim: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Latents `b c t h w`, timesteps `b` and text `b n d` of two clips."""
    x = seeded_normal("x", (2, 4, frames, 16, 8))
    return x, torch.tensor([801.0, 3.0]), seeded_normal("text", (2, 7, context_dim))


@pytest.fixture(scope="module")
def theirs() -> UNet3DConditionModel:
    model = UNet3DConditionModel(block_out_channels=(32, 64, 64, 64), attention_head_dim=32, cross_attention_dim=64)
    return seed(model)


def save_diffusers(model: UNet3DConditionModel, folder: Path, form: str) -> Path:
    """Write as diffusers does, or with PyTorch's own format, or inside the folder of a whole pipeline."""
    if form == "file":
        save_file(model.state_dict(), folder / "any name.safetensors")
        return folder / "any name.safetensors"
    if form == "bin":
        torch.save(model.state_dict(), folder / "diffusion_pytorch_model.bin")
        return folder
    model.save_pretrained(folder / "unet")
    return folder if form == "pipeline" else folder / "unet"


@torch.no_grad()
@pytest.mark.parametrize("form", ["file", "bin", "folder", "pipeline"])
def test_a_diffusers_video_network_answers_the_same(theirs: UNet3DConditionModel, form: str, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(save_diffusers(theirs, tmp_path, form))
    assert (checkpoint.dialect, checkpoint.preset.name) == ("diffusers", "modelscope")
    x, timesteps, text = clip_inputs(64, frames=3)
    expected = theirs(x, timesteps, text).sample
    assert largest_difference(checkpoint.unet(x, timesteps, text), expected) < 1e-5


def test_diffusers_weights_come_back_as_they_were(theirs: UNet3DConditionModel, tmp_path: Path) -> None:
    contents = read_checkpoint(save_diffusers(theirs, tmp_path, "file"))
    layout = key_maps.layout_of(contents.unet_config)
    back = {key_maps.to_diffusers(name, layout): tensor for name, tensor in contents.unet.items()}
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(tensor, back[name]) for name, tensor in theirs.state_dict().items())


IMAGE_MODELS = {
    "stable_diffusion_1_5": {"attention_head_dim": 8, "cross_attention_dim": 768},
    # The levels of this small model are no wider than one head of 64.
    "stable_diffusion_2_1_base": {
        "attention_head_dim": (1, 1, 1, 1),
        "cross_attention_dim": 64,
        "use_linear_projection": True,
    },
}


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_stable_diffusion_answers_the_same_for_every_frame(name: str, full: bool, frames: int, tmp_path: Path) -> None:
    theirs = UNet2DConditionModel(block_out_channels=(32, 64, 64, 64), sample_size=8, **IMAGE_MODELS[name])
    config = VideoUNetConfig(**{**vars(SMALL_IMAGE_MODEL), "context_dim": IMAGE_MODELS[name]["cross_attention_dim"]})
    state = seed(VideoUNet(config)).state_dict()
    if name == "stable_diffusion_1_5":
        projections = (".proj_in.weight", ".proj_out.weight")
        state = {k: v[..., None, None] if k.endswith(projections) else v for k, v in state.items()}
    theirs.load_state_dict(convert_ldm_unet_checkpoint(prefixed(UNET, state), dict(theirs.config)))

    extra = {"model_ema.decay": torch.ones(()), "alphas_cumprod": torch.ones(1000).half()} if full else {}
    save_file(prefixed(UNET if full else "", state) | extra, tmp_path / "model.safetensors")
    checkpoint = load_checkpoint(tmp_path / "model.safetensors")
    assert (checkpoint.dialect, checkpoint.preset.name) == ("ldm", name)

    x, timesteps, text = clip_inputs(config.context_dim, frames)
    per_frame = [theirs(x[:, :, i], timesteps, text).sample for i in range(frames)]
    assert largest_difference(checkpoint.unet(x, timesteps, text), torch.stack(per_frame, dim=2)) < 1e-5


@torch.no_grad()
def test_a_modelscope_file_holds_the_same_network(tmp_path: Path) -> None:
    unet = seed(VideoUNet(SMALL))
    torch.save(modelscope_state(unet.state_dict()), tmp_path / "text2video.pth")

    checkpoint = load_checkpoint(tmp_path / "text2video.pth")
    assert (checkpoint.dialect, checkpoint.preset.name) == ("modelscope", "modelscope")
    inputs = clip_inputs(64, frames=3)
    assert torch.equal(checkpoint.unet(*inputs), unet(*inputs))


def lvdm_state() -> dict[str, Tensor]:
    """A small DynamiCrafter file as its authors write it, the first transformer's projections as Conv1d."""
    state = seed(VideoUNet(SMALL_DYNAMICRAFTER)).state_dict()
    for name in ("init_attn.0.proj_in.weight", "init_attn.0.proj_out.weight"):
        state[name] = state[name][..., None]
    return state


def test_an_older_rate_embedding_is_renamed(tmp_path: Path) -> None:
    state = {key.replace("fps_embedding", "framestride_embed"): value for key, value in lvdm_state().items()}
    save_file(prefixed(UNET, state), tmp_path / "old.safetensors")
    assert load_checkpoint(tmp_path / "old.safetensors").unet.config.fps_embedding


def test_deepspeed_names_lose_sixteen_characters(tmp_path: Path) -> None:
    state = prefixed("_forward_module." + UNET, lvdm_state())
    torch.save({"module": state, "global_steps": 10, "lr_schedulers": []}, tmp_path / "deepspeed.ckpt")
    contents = read_checkpoint(tmp_path / "deepspeed.ckpt")
    assert contents.unet_config == SMALL_DYNAMICRAFTER
    assert contents.dialect == "lvdm"


@pytest.mark.parametrize(
    ("base", "name"), [(0.3, "dynamicrafter_1024"), (0.7, "dynamicrafter_512"), (None, "dynamicrafter_512")]
)
def test_the_rescale_table_tells_the_model_even_in_half_precision(
    base: float | None, name: str, tmp_path: Path
) -> None:
    table = {} if base is None else {"scale_arr": torch.linspace(1, base, 1400).half()}
    save_file(prefixed(UNET, lvdm_state()) | table, tmp_path / "model.safetensors")
    contents = read_checkpoint(tmp_path / "model.safetensors")
    assert contents.preset.name == name
    assert contents.unet_config.default_fps == (10 if base == 0.3 else 24)


def test_a_preset_can_be_named_where_the_file_does_not_tell(tmp_path: Path) -> None:
    save_file(prefixed(UNET, lvdm_state()), tmp_path / "model.safetensors")
    contents = read_checkpoint(tmp_path / "model.safetensors", preset="dynamicrafter_512_interp")
    assert contents.preset.name == "dynamicrafter_512_interp"
    with pytest.raises(ValueError, match="choose one of dynamicrafter_256, "):
        read_checkpoint(tmp_path / "model.safetensors", preset="dynamicrafter_4096")


def test_towers_are_handed_on_with_their_own_names(tmp_path: Path) -> None:
    text, vision = torch.randn(3, 4), torch.randn(5)
    towers = {
        "cond_stage_model.model.transformer.resblocks.0.ln_1.weight": text,
        "embedder.model.visual.ln_post.weight": vision,
        "embedder.model.token_embedding.weight": torch.zeros(1),
    }
    save_file(prefixed(UNET, lvdm_state()) | towers, tmp_path / "full.safetensors")
    contents = read_checkpoint(tmp_path / "full.safetensors")
    assert contents.clip_text is not None and contents.clip_vision is not None
    assert torch.equal(contents.clip_text["transformer.resblocks.0.ln_1.weight"], text)
    assert list(contents.clip_vision) == ["ln_post.weight"]


@torch.no_grad()
def test_both_layouts_of_modelscope_hold_what_diffusers_computes(theirs: UNet3DConditionModel, tmp_path: Path) -> None:
    inputs = clip_inputs(64, frames=3)
    expected = theirs(*inputs).sample
    contents = read_checkpoint(save_diffusers(theirs, tmp_path, "file"))
    torch.save(modelscope_state(contents.unet), tmp_path / "text2video_pytorch_model.pth")
    checkpoint = load_checkpoint(tmp_path / "text2video_pytorch_model.pth")
    assert (checkpoint.dialect, checkpoint.preset.name) == ("modelscope", "modelscope")
    assert largest_difference(checkpoint.unet(*inputs), expected) < 1e-5
