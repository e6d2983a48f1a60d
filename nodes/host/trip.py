"""TRIP around a video model of this pack: the given image joins the clip, and reference and residual are fused."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from einops import rearrange
from torch import Tensor

from ...i2v_core.conditions import Conditions
from ...i2v_core.diffusion.schedule import Schedule
from ...i2v_core.methods import NetworkCall, TripMethod
from ...i2v_core.methods.trip import repeat_edge
from ...i2v_core.model.look_back import LookBackState
from ...i2v_core.model.temporal_noise_fusion import TemporalNoiseFusionConfig
from ..convert import clips_to_rows, rows_to_clips
from ..sockets import GivenAdapter
from .adapters import attach, check_method, require_kind
from .model import VideoModel
from .network import RUN, Control, frames_of_call, run_with
from .sampling import in_range

KEY, KIND, AUTO = "i2v_trip", "temporal_noise_fusion", "auto"


@dataclass(frozen=True)
class TripSettings:
    """Settings of the node; `position` may be `auto`, the adapter's own."""

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
    patched, module = (model.clone(), None) if adapter is None else attach(model, adapter)
    method = TripMethod(module, config)
    check_method(method, base.diffusion_model, "Apply TRIP" if adapter is None else adapter.name)
    add_outermost(patched, ResidualPath(base, latent, method, settings.start_percent, settings.end_percent))
    return patched


def add_outermost(patched: Any, wrapper: Any) -> None:
    """Put a wrapper around all others of the network, whatever order the nodes stand in.

    Image retention and look-back then see the joined frame as the network does.
    """
    others = patched.wrappers.pop(WrappersMP.DIFFUSION_MODEL, {})
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, wrapper)
    patched.wrappers[WrappersMP.DIFFUSION_MODEL] |= others


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
        self, base: VideoModel, latent: Tensor, method: TripMethod, start_percent: float, end_percent: float
    ) -> None:
        self.base, self.latent, self.method = base, latent, method
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
        options, position = transformer_options or {}, self.method.settings.position
        frames = frames_of_call(x, options, conditions.get("num_video_frames"))
        channels = self.base.video_unet.out_channels
        z, concatenated = rows_to_clips(x[:, :channels], frames), x[:, channels:]

        def longer(rows: Tensor | None) -> Tensor | None:
            return None if rows is None else joined_rows(rows, frames, position)

        def network(joined: NetworkCall) -> Tensor:
            beside = joined_rows(concatenated, frames, position)
            rows = torch.cat([clips_to_rows(joined.x).to(x), beside], dim=1)
            controls = {name: [longer(part) for part in parts] for name, parts in (control or {}).items()} or None
            told = conditions | {name: longer(conditions.get(name)) for name in ("frame_tokens", "clip_tokens")}
            told |= {"num_video_frames": joined.x.shape[2], "joined_frames": joined.x.shape[2] - frames}
            inputs = (rows, longer(timesteps), longer(context), longer(y), controls, transformer_options)
            answer = run_with(executor, inputs, told, self.method.seams(joined))
            return rows_to_clips(answer, joined.x.shape[2]).float()

        # In single precision: near the end the reference is larger than half precision holds well.
        reference = self.base.reference_of(rows_to_clips(concatenated, frames)[:, :, :1], z.float())
        given = Conditions(context[::frames], image_latent=self._image(z).float(), reference=reference)
        run = options.get(RUN)
        carried = LookBackState() if run is not None and run.carried is not None else None
        call = NetworkCall(z.float(), timesteps[::frames], given, carried)
        if in_range(self.base.model_sampling, options.get("sigmas"), self.start_percent, self.end_percent):
            answer = self.method.around(call, network, self.schedule, self.base.preset.prediction)
        else:
            answer = self.method.residual(call, network, self.schedule, self.base.preset.prediction)
        return clips_to_rows(answer).to(x)

    def _image(self, z: Tensor) -> Tensor:
        """The given image's latent for every clip of every branch, `b c 1 h w`."""
        latent = self.base.process_latent_in(self.latent)
        if latent.shape[-2:] != z.shape[-2:] or len(latent) != 1:
            raise ValueError(
                f"TRIP's image latent is {latent.shape[-1]} x {latent.shape[-2]} (batch {len(latent)}), the one to "
                f"sample {z.shape[-1]} x {z.shape[-2]}: encode one picture at the size of the video."
            )
        return latent[:, :, None].to(z).expand(len(z), -1, -1, -1, -1)


def joined_rows(rows: Tensor, frames: int, position: Any) -> Tensor:
    """Repeat per-frame rows for the joined frame: `(b t) ...` to `(b t+1) ...`."""
    clips = rearrange(rows, "(b t) ... -> b t ...", t=frames)
    return rearrange(repeat_edge(clips, position), "b t ... -> (b t) ...")
