"""TRIP around a video model of this pack: the given image joins the clip, and reference and residual are fused."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from einops import rearrange
from torch import Tensor

from ...i2v_core.diffusion.schedule import Schedule
from ...i2v_core.model.temporal_noise_fusion import TemporalNoiseFusion, TemporalNoiseFusionConfig
from ...i2v_core.temporal_residual import drop_image, fuse, join_image
from ..convert import clips_to_rows, rows_to_clips
from ..sockets import GivenAdapter
from .adapters import attach, require_kind
from .model import VideoModel
from .network import Control
from .sampling import in_range

KEY, KIND, AUTO = "i2v_trip", "temporal_noise_fusion", "auto"


@dataclass(frozen=True)
class TripSettings:
    """What the node lets a user choose; `position` may be `auto`, the adapter's own."""

    fusion: Any
    position: Any
    first_lambda: float
    last_lambda: float
    start_percent: float
    end_percent: float


def apply_trip(model: Any, latent: Tensor, adapter: GivenAdapter | None, settings: TripSettings) -> Any:
    """A copy of the model that sees the given image beside the clip and fuses its answer with the reference.

    Args:
        latent: the given image's, `1 c h w`, without the model's scale factor.

    Raises ValueError for another pack's model, an image or adapter that does not fit, or a second TRIP on one model.
    """
    base = model.model
    if not isinstance(base, VideoModel):
        raise ValueError(
            "Apply TRIP works on video models of Load I2V Checkpoint, got a model of another loader: use Image Noise "
            "Prior there, which needs no adapter."
        )
    if model.get_wrappers(WrappersMP.DIFFUSION_MODEL, KEY):
        raise ValueError("This model has TRIP already: connect Apply TRIP once.")
    channels = base.video_unet.out_channels
    if latent.shape[1] != channels:
        raise ValueError(
            f"The image latent has {latent.shape[1]} channels, this model's latents have {channels}: encode the image "
            "with the VAE of the model's own file."
        )
    config = _configure(adapter, channels, settings)
    _check_channels(config, base)
    patched, module = (model.clone(), None) if adapter is None else attach(model, adapter)
    fusion = module if config.fusion == "learned" else TemporalNoiseFusion(replace(config, image_features=None))
    path = ResidualPath(base, latent, fusion, module, settings.start_percent, settings.end_percent)
    add_outermost(patched, path)
    return patched


def add_outermost(patched: Any, wrapper: Any) -> None:
    """Put a wrapper around all others of the network, whatever order the nodes stand in.

    Image retention and look-back then see the joined frame as the network does.
    """
    others = patched.wrappers.pop(WrappersMP.DIFFUSION_MODEL, {})
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, wrapper)
    patched.wrappers[WrappersMP.DIFFUSION_MODEL] |= others


def _check_channels(config: TemporalNoiseFusionConfig, base: VideoModel) -> None:
    without = config.position == "channel" and base.video_unet.in_channels == base.video_unet.out_channels
    if without and config.image_features is None:
        raise ValueError(
            "This model has no channels for the given image, so it cannot join there: choose position begin or end, or "
            "an adapter that was trained on such a model with position channel."
        )
    if config.image_features not in (None, base.video_unet.model_channels) or (config.image_features and not without):
        raise ValueError(
            f"The adapter brings the image to a first convolution of {config.image_features} outputs, this model's has "
            f"{base.video_unet.model_channels}, or channels for the image: use the model that the adapter's page names."
        )


def _configure(adapter: GivenAdapter | None, channels: int, settings: TripSettings) -> TemporalNoiseFusionConfig:
    """The adapter's configuration with what the user chose in its place."""
    if adapter is None:
        if settings.fusion == "learned":
            raise ValueError(
                "A learned fusion needs a trained adapter: connect Load I2V Adapter, or choose fusion linear or none."
            )
        trained = TemporalNoiseFusionConfig(channels=channels)
    else:
        require_kind(adapter, KIND)
        trained = adapter.contents.config
        if trained.channels != channels:
            raise ValueError(
                f"'{adapter.name}' was trained for latents of {trained.channels} channels, this model's have "
                f"{channels}: use the model that the adapter's page names."
            )
        if settings.fusion == "learned" and trained.fusion != "learned":
            raise ValueError(
                f"'{adapter.name}' was trained with fusion {trained.fusion} and has no learned one: choose that."
            )
        if settings.position not in (AUTO, trained.position):
            raise ValueError(
                f"'{adapter.name}' was trained with the image at position {trained.position}, got "
                f"{settings.position}: choose that or auto."
            )
    return replace(
        trained, fusion=settings.fusion, first_lambda=settings.first_lambda, last_lambda=settings.last_lambda,
        position=trained.position if settings.position == AUTO else settings.position,
    )  # fmt: skip


class ResidualPath:
    """Wrapper of the host around `HostVideoUNet`, on rows `(n b t) c h w` of branches, clips and frames."""

    def __init__(
        self,
        base: VideoModel,
        latent: Tensor,
        fusion: TemporalNoiseFusion,
        adapter: TemporalNoiseFusion | None,
        start_percent: float,
        end_percent: float,
    ) -> None:
        self.base, self.latent, self.fusion, self.adapter = base, latent, fusion, adapter
        self.schedule = Schedule(base.preset.schedule)
        self.start_percent, self.end_percent = start_percent, end_percent

    def __call__(
        self,
        executor: Any,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor | None = None,
        control: Control | None = None,
        transformer_options: Mapping[str, Any] | None = None,
        **conditions: Any,
    ) -> Tensor:
        options, position = transformer_options or {}, self.fusion.config.position
        frames = conditions.get("num_video_frames") or len(x) // len(options.get("cond_or_uncond", (0,)))
        channels = self.base.video_unet.out_channels
        z, beside = rows_to_clips(x[:, :channels], frames), x[:, channels:]
        image = self._image(z)
        # Where differences are estimated, the image that they are taken to is the one on the further channels.
        origin = rows_to_clips(beside, frames)[:, :, :1].to(z) if self.base.preset.image_residual else 0.0

        def longer(rows: Tensor | None) -> Tensor | None:
            return None if rows is None else repeat_edge(rows, frames, position)

        joined = clips_to_rows(join_image(z, image - origin, position))
        conditions |= {name: longer(conditions.get(name)) for name in ("frame_tokens", "clip_tokens")}
        conditions["num_video_frames"] = frames + (position != "channel")
        if self.adapter is not None:
            conditions["hint"] = self.adapter.image_hint(image)
        rows = executor(
            torch.cat([joined, repeat_edge(beside, frames, position)], dim=1),
            longer(timesteps), longer(context), longer(y),
            {name: [longer(part) for part in parts] for name, parts in (control or {}).items()} or None,
            transformer_options, **conditions,
        )  # fmt: skip
        residual = drop_image(rows_to_clips(rows, conditions["num_video_frames"]), position)
        if not in_range(self.base.model_sampling, options.get("sigmas"), self.start_percent, self.end_percent):
            return clips_to_rows(residual)
        # In single precision: near the end the reference is larger than half precision holds well.
        fused = fuse(
            self.fusion, residual.float(), z.float(), timesteps[::frames], image.float(), origin, self.schedule,
            self.base.preset.prediction,
        )  # fmt: skip
        return clips_to_rows(fused.to(residual))

    def _image(self, z: Tensor) -> Tensor:
        """The given image's latent for every clip of every branch, `b c 1 h w`."""
        latent = self.base.process_latent_in(self.latent)
        if latent.shape[-2:] != z.shape[-2:] or len(latent) != 1:
            raise ValueError(
                f"TRIP's image latent is {latent.shape[-1]} x {latent.shape[-2]} (batch {len(latent)}), the one to "
                f"sample {z.shape[-1]} x {z.shape[-2]}: encode one picture at the size of the video."
            )
        return latent[:, :, None].to(z).expand(len(z), -1, -1, -1, -1)


def repeat_edge(rows: Tensor, frames: int, position: str) -> Tensor:
    """What belongs to every frame, for one frame more: that of its neighbor; `(b t) ...` to `(b t+1) ...`."""
    if position == "channel":
        return rows
    clips = rearrange(rows, "(b t) ... -> b t ...", t=frames)
    parts = [clips[:, :1], clips] if position == "begin" else [clips, clips[:, -1:]]
    return rearrange(torch.cat(parts, dim=1), "b t ... -> (b t) ...")
