"""A video checkpoint as a diffusion model of the host: its samplers, LoRA, offloading and previews apply."""

import inspect
import logging
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import comfy.conds
import comfy.model_base
import comfy.model_management
import comfy.supported_models_base
import comfy.utils
import torch
from torch import Tensor

from ...i2v_core.model.image_projection import resample_image_tokens
from ...i2v_core.model.video_unet import VideoUNetConfig
from ...i2v_core.model.visual_detail import first_and_last
from ...i2v_core.presets import Preset
from ...i2v_core.weights import CheckpointContents, read_checkpoint
from ...i2v_core.weights.companions.known import AUTOENCODER, IMAGE_ENCODER, IMAGE_PROJECTION, TEXT_ENCODER
from ..convert import clips_to_rows, latent_size, rows_to_clips
from .image_projection import HostImageProjection
from .network import HostVideoUNet, clip_frames
from .patcher import load_weights, make_patcher
from .sampling import ClipSampling
from .saving import SavedParts

# What I2V Conditioning writes into the host's conditioning; the image latent has the host's own key.
FRAMES, FPS, IMAGE_TOKENS, IMAGE_LATENT = "i2v_frames", "i2v_fps", "i2v_image_tokens", "concat_latent_image"
END_LATENT = "i2v_end_latent"
DETAIL = "image_detail"  # the image's latent for a network without channels for it
HINT = "connect I2V Conditioning between the text and the sampler, for positive and negative"


class VideoModelConfig(comfy.supported_models_base.BASE):
    """A checkpoint's configuration in the host's terms."""

    unet_extra_config: ClassVar[dict[str, Any]] = {}
    # With it the host expects 1.7 GiB for a guidance branch of DynamiCrafter 1024; docs/memory.md counts half of it.
    memory_usage_factor: ClassVar[float] = 0.6

    def __init__(self, contents: CheckpointContents, latent_format: Any) -> None:
        super().__init__(host_unet_config(contents.unet_config))
        self.video_unet, self.preset = contents.unet_config, contents.preset
        self.latent_format = latent_format
        schedule = contents.preset.schedule
        self.sampling_settings = {
            # The host calls the schedule that is linear in the square root of beta "linear".
            "beta_schedule": {"scaled_linear": "linear", "linear": "sqrt_linear"}[schedule.beta_schedule],
            "linear_start": schedule.beta_start,
            "linear_end": schedule.beta_end,
            "timesteps": schedule.timesteps,
            "zsnr": schedule.zero_terminal_snr,
        }

    def model_type(self, state_dict: dict[str, Tensor], prefix: str = "") -> Any:
        kinds = comfy.model_base.ModelType
        return kinds.V_PREDICTION if self.preset.prediction == "v" else kinds.EPS


class VideoModel(comfy.model_base.BaseModel):
    """A video U-Net with its schedule; latents are `t c h w`, or clip after clip `(b t) c h w`."""

    def __init__(self, config: VideoModelConfig, beside: SavedParts, device: torch.device | None = None) -> None:
        super().__init__(config, model_type=config.model_type({}), device=device, unet_model=HostVideoUNet)
        # Here and not as an object patch, which some hosts leave behind in the next run.
        self.model_sampling = ClipSampling(config, config.preset.schedule, config.preset.prediction)
        self.video_unet: VideoUNetConfig = config.video_unet
        self.preset = config.preset
        self.beside = beside
        self.warned_about: set[tuple[int, ...]] = set()

    def _apply_model(self, x: Tensor, t: Tensor, c_concat: Tensor | None = None, *further: Any, **named: Any) -> Tensor:
        """As the host does, relative to a residual model's reference latent."""
        # Each guidance branch has its own: that of "no image" is another picture's.
        origin = self.reference_of(c_concat, x)
        answer = super()._apply_model(x if origin is None else x - origin, t, c_concat, *further, **named)
        return answer if origin is None else answer + origin

    def reference_of(self, image: Tensor | None, like: Tensor) -> Tensor | None:
        """The reference latent, which is the given image's on the concatenated channels; None without one."""
        return image.to(like) if self.preset.image_residual and image is not None else None

    def reference_latent(self, conditions: list[dict[str, Any]]) -> Tensor | float:
        """The same under the processed conditions of a sampling, `(b t) c h w`, or zero."""
        given = next((each["model_conds"].get("c_concat") for each in conditions), None)
        origin = None if given is None else self.reference_of(given.cond, given.cond)
        return 0.0 if origin is None else origin

    def state_dict_for_saving(self, *states: Any, **named: Any) -> dict[str, Tensor]:
        """State dict for the host's Save Checkpoint and Save Model; newer hosts hand the U-Net's weights in, too."""
        given = inspect.signature(super().state_dict_for_saving).bind(*states, **named).arguments
        kinds = ("clip_state_dict", "vae_state_dict", "clip_vision_state_dict")
        clip, vae, vision = (given.pop(kind, None) for kind in kinds)
        unet: dict[str, Tensor] = super().state_dict_for_saving(**given)
        return unet | self.beside.tensors(clip, vae, vision)

    def concat_cond(self, **given: Any) -> Tensor | None:
        """The given image's latent in every frame, `(b t) c h w`, for models with channels for it."""
        noise = given["noise"]
        channels = self.video_unet.image_channels
        if channels == 0:
            return None
        latent = given.get(IMAGE_LATENT)
        if latent is None:
            raise ValueError(f"This model animates a given image and got none: {HINT}.")
        frames = _clip_frames(given)
        wanted = (channels, *noise.shape[2:])
        if latent.shape[1:] != wanted or len(latent) not in (1, frames):
            raise ValueError(
                f"The given image's latent is {latent_size(latent)}, the one to sample {latent_size(noise)}: take "
                f"both from the same I2V Conditioning, and use {AUTOENCODER.on_canvas(channels)}."
            )
        per_frame = self.process_latent_in(latent).expand(frames, *wanted)
        if (end := given.get(END_LATENT)) is not None:
            first, last = (rows_to_clips(self.process_latent_in(each), 1) for each in (latent, end))
            per_frame = clips_to_rows(first_and_last(first, last, frames))
        return per_frame.repeat(len(noise) // frames, 1, 1, 1).to(given["device"])

    def encode_adm(self, **given: Any) -> Tensor | None:
        """The pooled text `1 d`, for models that have it."""
        if self.video_unet.pooled_text_dim is None:
            return None
        pooled = given.get("pooled_output")
        if pooled is None or pooled.shape[-1] != self.video_unet.pooled_text_dim:
            arrived = "none" if pooled is None else f"width {pooled.shape[-1]}"
            raise ValueError(
                f"This model needs a pooled text of width {self.video_unet.pooled_text_dim}, got {arrived}: "
                "encode the prompts with the CLIP of the model's own file."
            )
        return pooled

    def extra_conds(self, **given: Any) -> dict[str, Any]:
        """Check one entry of the conditioning and turn it into the network's inputs.

        Raises ValueError if the entry does not fit the model or the latent, and says what to connect.
        """
        _check_text(given.get("cross_attn"), self.video_unet.context_dim)
        if given["noise"].shape[1] != self.video_unet.out_channels:
            raise ValueError(
                f"This model's latents have {self.video_unet.out_channels} channels, got "
                f"{given['noise'].shape[1]}: take the latent from I2V Conditioning, made with "
                f"{AUTOENCODER.on_canvas(self.video_unet.out_channels)}."
            )
        _check_end_image(given.get(END_LATENT), self.preset)
        frames = _clip_frames(given)
        self._warn_outside_training(frames, *given["noise"].shape[2:])
        conds = super().extra_conds(**given)
        conds["num_video_frames"] = comfy.conds.CONDConstant(frames)
        fps = given.get(FPS, self.preset.fps)
        if self.video_unet.fps_embedding and fps is not None:
            conds["fps"] = comfy.conds.CONDConstant(float(fps))
        tokens = given.get(IMAGE_TOKENS)
        if self.video_unet.image_gate != "none":
            tokens = _checked_image_tokens(tokens, self.video_unet)
        if tokens is not None:  # without image attention of its own, for an adapter's
            conds |= _token_conds(tokens, frames, len(given["noise"]), given["device"])
        latent = given.get(IMAGE_LATENT)
        if latent is not None and not self.video_unet.image_channels:
            conds[DETAIL] = comfy.conds.CONDRegular(self.process_latent_in(latent).to(given["device"]))
        return conds

    def _warn_outside_training(self, frames: int, height: int, width: int) -> None:
        """Say once for each length and size that the model was not trained on it; portrait is as good as landscape."""
        pixels = getattr(self.latent_format, "spacial_downscale_ratio", 8)
        preset, asked = self.preset, (frames, height * pixels, width * pixels)
        frames_fit = frames == preset.frames or not self.video_unet.is_temporal
        size_fits = {asked[1], asked[2]} == {preset.height, preset.width}
        if (frames_fit and size_fits) or asked in self.warned_about:
            return
        self.warned_about.add(asked)
        logging.getLogger(__name__).warning(
            f"{preset.name} was trained on {preset.frames} frames of {preset.width} x {preset.height}; {asked[0]} of "
            f"{asked[2]} x {asked[1]} work, but may move less and look worse."
        )


def load_model(
    contents: CheckpointContents,
    path: Path,
    preset: str | None,
    latent_format: Any,
    projection: HostImageProjection | None = None,
) -> Any:
    """The checkpoint's U-Net in a patcher of the host, which loads it again from path when it must.

    Args:
        projection: the checkpoint's image projection, which is saved with the model.
    """
    patcher = _make_model(contents, latent_format, projection)
    patcher.cached_patcher_init = (partial(_reload, latent_format, projection), (path, preset))
    return patcher


def host_unet_config(config: VideoUNetConfig) -> dict[str, Any]:
    """Describe the network in the host's words, from which it derives LoRA names; `video_unet` builds it."""
    levels = range(len(config.channel_mult))
    depth = [int(level in config.attention_levels) for level in levels]
    return {
        "video_unet": config,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "model_channels": config.model_channels,
        "channel_mult": list(config.channel_mult),
        "num_res_blocks": [config.num_res_blocks for _ in levels],
        "transformer_depth": [depth[level] for level in levels for _ in range(config.num_res_blocks)],
        "transformer_depth_middle": 1,
        "transformer_depth_output": [depth[level] for level in levels for _ in range(config.num_res_blocks + 1)],
        "context_dim": config.context_dim,
        "adm_in_channels": config.pooled_text_dim,
    }


def _reload(
    latent_format: Any,
    projection: HostImageProjection | None,
    path: Path,
    preset: str | None,
    disable_dynamic: bool = False,
) -> Any:
    return _make_model(read_checkpoint(path, preset=preset), latent_format, projection, disable_dynamic)


def _make_model(
    contents: CheckpointContents,
    latent_format: Any,
    projection: HostImageProjection | None,
    disable_dynamic: bool = False,
) -> Any:
    management = comfy.model_management
    config = VideoModelConfig(contents, latent_format)
    load_device, offload_device = management.get_torch_device(), management.unet_offload_device()
    supported = config.supported_inference_dtypes
    dtype = management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(contents.unet),
        supported_dtypes=supported,
        weight_dtype=comfy.utils.weight_dtype(contents.unet),
    )
    config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, load_device, supported))
    model = VideoModel(config, SavedParts.of(contents, projection), offload_device)
    patcher = make_patcher(model, load_device, offload_device, disable_dynamic=disable_dynamic)
    load_weights(model.load_model_weights, contents.unet, patcher)
    logging.getLogger(__name__).info("loaded a %s model in %s", contents.preset.name, dtype)
    return patcher


def _clip_frames(given: dict[str, Any]) -> int:
    """Frames of each clip in the latent, which may hold several clips."""
    return clip_frames(len(given["noise"]), given.get(FRAMES))


def _check_end_image(end: Tensor | None, preset: Preset) -> None:
    if preset.interpolates and end is None:
        raise ValueError(
            "This model fills in the frames between two images and got no last one: connect end_image of I2V "
            "Conditioning (the same image as i2v_image makes a loop)."
        )
    if end is not None and not preset.interpolates:
        raise ValueError(
            f"This model ({preset.name}) animates one image and cannot reach an end_image: use DynamiCrafter's "
            "interpolation weights, with preset dynamicrafter_512_interp in Load I2V Checkpoint, or disconnect it."
        )


def _check_text(text: Tensor | None, width: int) -> None:
    if text is None or text.shape[-1] != width:
        arrived = "none" if text is None else f"width {text.shape[-1]}"
        raise ValueError(
            f"This model needs text tokens of width {width}, got {arrived}: encode the prompts with "
            f"{TEXT_ENCODER.on_canvas(width)}."
        )
    if len(text) != 1:
        raise ValueError(f"This model takes one prompt for the whole video, got a batch of {len(text)}.")


def _checked_image_tokens(tokens: Tensor | None, config: VideoUNetConfig) -> Tensor:
    if tokens is None:
        raise ValueError(
            "This model looks at the given image through an image encoder and got no image tokens: connect "
            "clip_vision and image_projection to Encode Image for I2V, both from Load I2V Checkpoint with the model's "
            f"full file. With a smaller file, clip_vision is {IMAGE_ENCODER.on_canvas(1280)}; take "
            f"{IMAGE_PROJECTION}."
        )
    # Shared tokens suit every model: all frames may look at what was made for each (the reference, for other lengths).
    if tokens.shape[-1] != config.context_dim or (tokens.ndim == 4 and config.image_token_layout == "shared"):
        layout = config.image_token_layout.replace("_", "-")
        raise ValueError(
            f"This model needs {layout} image tokens of width {config.context_dim}, got tokens of shape "
            f"{tuple(tokens.shape)}, which are another model's: take {IMAGE_PROJECTION}."
        )
    return tokens


def _token_conds(tokens: Tensor, frames: int, rows: int, device: torch.device) -> dict[str, Any]:
    """Image tokens `1 t k d` or `1 k d` as conditions of every row."""
    if tokens.ndim == 3:
        return {"clip_tokens": comfy.conds.CONDRegular(tokens.to(device))}
    per_frame = resample_image_tokens(tokens, frames)[0].repeat(rows // frames, 1, 1)
    return {"frame_tokens": comfy.conds.CONDRegular(per_frame.to(device))}
