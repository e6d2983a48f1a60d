"""Look-back around any U-Net and sampler of the host: layers after blocks, and the given image in frame 0."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import comfy.samplers
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from ...i2v_core.diffusion.initialization import Initialization, InitializationName, invert, pin_first
from ...i2v_core.diffusion.prediction import append_dims
from ...i2v_core.methods import LookBackMethod
from ...i2v_core.methods.look_back import LookBackOptions
from ...i2v_core.model.look_back import LookBack, check_sites, find_sites, site_name
from ...i2v_core.model.seams import AfterBlock, BlockAddress, Seams
from ...i2v_core.model.video_unet import VideoUNet
from ...i2v_core.weights.adapters import trained_options
from ..convert import clips_to_rows, rows_to_clips
from ..sockets import GivenAdapter
from .adapters import attach, require_kind
from .look_back_pieces import CarriedStates, sample_in_pieces
from .model import FRAMES
from .network import RUN, clip_frames, frames_of_call, run_with

KIND = "look_back"


def apply_look_back(
    model: Any,
    adapter: GivenAdapter,
    latent: Tensor,
    initialization: InitializationName | Literal["auto"],
    frames_at_once: int,
) -> Any:
    """A copy of the model that any sampler runs with look-back.

    Args:
        latent: the given image's, `1 c h w`, as the VAE gives it.
        initialization: `auto` is what the adapter was trained with.
        frames_at_once: length of the pieces in which long videos are sampled; 0 samples all frames at once.

    Raises:
        ValueError: the model, the adapter and the image do not fit together; the first mismatch is named.
    """
    require_kind(adapter, KIND)
    _check_model(model, adapter, frames_at_once)
    patched, network = attach(model, adapter)
    trained: LookBackOptions = trained_options(KIND, adapter.contents.metadata)
    name = trained.initialization if initialization == "auto" else initialization
    method = LookBackMethod(network, Initialization(name))
    look_back = HostLookBack(method, latent, frames_at_once)
    for kind, wrapper in look_back.wrappers().items():
        patched.add_wrapper_with_key(kind, KIND, wrapper)
    return patched


def _check_model(model: Any, adapter: GivenAdapter, frames_at_once: int) -> None:
    unet = model.model.diffusion_model
    if not isinstance(unet, UNetModel | VideoUNet):
        raise ValueError(
            "Look-back needs a U-Net of the Stable Diffusion family (SD 1.5, SD 2.1, or a video model of Load I2V "
            f"Checkpoint), got a {type(model.model).__name__} with {type(unet).__name__}: choose another model."
        )
    if model.get_wrappers(WrappersMP.DIFFUSION_MODEL, KIND):
        raise ValueError("This model already has look-back: apply one adapter, to the model from the loader.")
    if frames_at_once and _is_temporal(unet):
        raise ValueError(
            "This model's temporal layers see all frames at once, so it cannot make a video in pieces: set "
            "frames_at_once to 0, or take an image model such as Stable Diffusion 1.5."
        )
    shape = model.model.model_config.unet_config
    available = find_sites("layer", shape["model_channels"], shape["channel_mult"], shape["num_res_blocks"])
    try:
        check_sites(adapter.contents.config, available)
    except ValueError as error:
        raise ValueError(f"Cannot use '{adapter.name}' here: {error}") from error


def _is_temporal(unet: Any) -> bool:
    if isinstance(unet, VideoUNet):
        return unet.config.is_temporal
    return unet.use_temporal_resblocks  # the host's Stable Video Diffusion


@dataclass
class SamplingRun:
    """State that the wrappers of one sampler run share; it travels in the run's own `transformer_options`.

    Attributes:
        frames: of each clip in the latent.
        part: of each clip, what is being sampled now.
        first: the given image's latent as the model means it, `1 c h w`; its noise `b c h w`, for every clip.
        carried: look-back's memory of a video in pieces; None for one at once.
        inverting: one frame alone is led to noise, without look-back.
    """

    frames: int
    part: slice
    first: Tensor
    noise: Tensor
    carried: CarriedStates | None = None
    inverting: bool = False

    @property
    def length(self) -> int:
        """Frames of each clip that are being sampled now."""
        return 1 if self.inverting else self.part.stop - self.part.start


@dataclass(frozen=True, eq=False)
class HostLookBack:
    """The wrappers with which one model of the host looks back.

    They add and remove layers around every call of the network. The host's own injections stay in the shared network
    between runs and are only marked in the patcher, so that a clone of a loaded model believes it has them already.
    """

    method: LookBackMethod
    latent: Tensor
    frames_at_once: int

    def __deepcopy__(self, _: object) -> "HostLookBack":
        return self  # some hosts copy a model's options with all that they refer to

    def wrappers(self) -> dict[str, Callable[..., Any]]:
        """By the host's name for the call that they go around."""
        return {
            WrappersMP.OUTER_SAMPLE: self.around_run,
            WrappersMP.PREPARE_SAMPLING: self.around_loading,
            WrappersMP.SAMPLER_SAMPLE: self.around_sampler,
            WrappersMP.PREDICT_NOISE: self.around_prediction,
            WrappersMP.DIFFUSION_MODEL: self.around_network,
        }

    def around_run(self, executor: Any, noise: Tensor, latent_image: Tensor, *further: Any, **named: Any) -> Tensor:
        """Begin a run, and put the given image itself into frame 0 of its result."""
        if noise.shape[1:] != self.latent.shape[1:]:
            raise ValueError(
                f"The latent to sample is {_size(noise)}, the given image's {_size(self.latent)}: make both with the "
                "same width, height and VAE, for example with Video Latent."
            )
        guider = executor.class_obj
        frames = _clip_frames(guider.conds, len(noise))
        first = guider.model_patcher.model.process_latent_in(self.latent)
        run = SamplingRun(frames, slice(0, frames), first, noise[::frames])
        guider.model_options.setdefault("transformer_options", {})[RUN] = run
        return _with_first(executor(noise, latent_image, *further, **named), self.latent, frames)

    def around_loading(
        self, executor: Any, model: Any, noise_shape: Any, conds: Any, *further: Any, **named: Any
    ) -> Any:
        """Ask for the memory of one piece only."""
        if self.frames_at_once:
            frames = _clip_frames(conds, noise_shape[0])
            noise_shape = [noise_shape[0] // frames * min(self.frames_at_once, frames), *noise_shape[1:]]
        return executor(model, noise_shape, conds, *further, **named)

    def around_sampler(
        self,
        executor: Any,
        guider: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        *further: Any,
        **named: Any,
    ) -> Tensor:
        """Prepare frame 0, then sample the video at once or in pieces."""
        run = _run(extra_args["model_options"])
        if run is None:
            raise ValueError("This sampler goes past the host's guiders, without which look-back cannot hold frame 0.")
        run.first, run.noise = run.first.to(noise), run.noise.to(noise)
        if denoise_mask is not None:
            # Frame 0 is held here; a second mask would undo the inversion.
            denoise_mask = _with_first(denoise_mask, torch.ones_like(denoise_mask[:1]), run.frames)
        if self.method.initialization.inverts:
            state = self._invert(guider, sigmas, extra_args["model_options"], run)
            noise = _with_first(
                noise, _as_noise(state, guider, executor.class_obj, sigmas, latent_image, run), run.frames
            )
        inputs = (noise, latent_image, denoise_mask)
        if not 0 < self.frames_at_once < run.frames:
            return executor(guider, sigmas, extra_args, callback, *inputs, *further, **named)
        run.carried = CarriedStates()

        def sample(guider: Any, extra_args: dict[str, Any], callback: Any, part: slice, *inputs: Any) -> Tensor:
            run.part = part
            return executor(guider, sigmas, extra_args, callback, *inputs, *further, **named)

        return sample_in_pieces(
            sample, guider, extra_args, callback, inputs, run.frames, self.frames_at_once, run.carried
        )

    def around_prediction(
        self, executor: Any, x: Tensor, timestep: Tensor, model_options: Any = None, *further: Any, **named: Any
    ) -> Tensor:
        """Show the network the given image in frame 0, and take it as the estimate there."""
        run = _run(model_options)
        if run is None:
            return executor(x, timestep, model_options, *further, **named)
        if run.carried is not None:
            run.carried.next_call(float(timestep[0]))
        initialization = self.method.initialization
        if run.part.start > 0 or not initialization.knows_first:
            return executor(x, timestep, model_options, *further, **named)
        model, sigma = executor.class_obj.inner_model, timestep[: len(run.noise)]
        state = run.first + append_dims(sigma, run.noise) * run.noise
        if initialization.clean_input:
            state = clean_state(model, run.first, sigma)
        denoised = executor(_with_first(x, state, run.length), timestep, model_options, *further, **named)
        return _with_first(denoised, run.first, run.length)

    def around_network(
        self,
        executor: Any,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        control: Any = None,
        transformer_options: Any = None,
        **conditions: Any,
    ) -> Tensor:
        """Run the network with look-back after its blocks."""
        options = {} if transformer_options is None else transformer_options
        run, told = options.get(RUN), conditions.get("num_video_frames")
        frames = frames_of_call(x, options, told, conditions.get("joined_frames", 0))
        if told is not None:
            conditions["num_video_frames"] = frames
        inputs = (x, timesteps, context, y, control, transformer_options)
        if run is not None and run.inverting:
            return executor(*inputs, **conditions)
        if run is None or run.carried is None:
            return self._call(executor, self.method.updates(), frames, inputs, conditions)
        with run.carried.opened(options["uuids"]) as state:
            return self._call(executor, self.method.updates(state), frames, inputs, conditions)

    def _call(
        self, executor: Any, after_block: AfterBlock, frames: int, inputs: tuple[Any, ...], conditions: dict[str, Any]
    ) -> Tensor:
        if isinstance(executor.class_obj, VideoUNet):
            return run_with(executor, inputs, conditions, Seams(after_block=after_block))
        with layers_after_blocks(executor.class_obj, self.method.module, after_block, frames):
            return executor(*inputs, **conditions)

    def _invert(self, guider: Any, sigmas: Tensor, model_options: Any, run: SamplingRun) -> Tensor:
        """Lead the given image to noise by DDIM inversion with the positive prompt alone; `b c h w` at sigmas[0]."""
        positive = guider.conds.get("positive") or next(iter(guider.conds.values()))

        def denoise(state: Tensor, sigma: Tensor) -> Tensor:
            levels = sigma.expand(len(state))
            return comfy.samplers.calc_cond_batch(guider.inner_model, [positive], state, levels, model_options)[0]

        run.inverting = True
        try:
            # A sampler that another one continues stops above zero.
            levels = torch.cat([sigmas[sigmas > 0], sigmas.new_zeros(1)])
            return invert(denoise, run.first.expand_as(run.noise), levels)
        finally:
            run.inverting = False


class LayerAfterBlock(nn.Module):
    """A layer that the host's U-Net runs as the last one of a block."""

    def __init__(self, update: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.update = update

    def forward(self, h: Tensor) -> Tensor:
        return self.update(h)


@contextmanager
def layers_after_blocks(unet: Any, network: LookBack, after_block: AfterBlock, frames: int) -> Iterator[None]:
    """Lengthen the blocks of the host's U-Net, which sees rows `(b t) c h w`, by look-back, and shorten them again."""

    def update(h: Tensor, address: BlockAddress) -> Tensor:
        updated = clips_to_rows(after_block(rows_to_clips(h, frames), address))
        # In the block's own layout: the layers behind choose their kernels by it, and with them how they round.
        return torch.empty_like(h).copy_(updated)

    parts = {"input": unet.input_blocks, "middle": [unet.middle_block], "output": unet.output_blocks}
    lengthened: list[Any] = []
    try:
        for part, blocks in parts.items():
            for index, block in enumerate(blocks):
                address = BlockAddress(part, index)
                if site_name(address) in network.sites:
                    block.append(LayerAfterBlock(partial(update, address=address)))
                    lengthened.append(block)
        yield
    finally:
        for block in lengthened:
            del block[-1]


def clean_state(model: Any, first: Tensor, sigma: Tensor) -> Tensor:
    """The state `b c h w` at sigma, `b`, of which the network sees exactly the clean latent `1 c h w`."""
    if getattr(getattr(model, "preset", None), "image_residual", False):
        return first.expand(len(sigma), *first.shape[1:])  # its clean latent is zero: no difference to the image
    sampling = model.model_sampling
    return first / sampling.calculate_input(append_dims(sigma, first), torch.ones_like(first))


def _run(model_options: Any) -> SamplingRun | None:
    return (model_options or {}).get("transformer_options", {}).get(RUN)


def _clip_frames(conds: dict[str, list[dict[str, Any]]], rows: int) -> int:
    """Frames of each clip in a latent of `rows`, which I2V Conditioning tells; otherwise it is one clip."""
    told = [cond[FRAMES] for entries in conds.values() for cond in entries if FRAMES in cond]
    return clip_frames(rows, told[0] if told else None)


def _with_first(rows: Tensor, first: Tensor, frames: int) -> Tensor:
    """Rows `(b t) c h w` with frame 0 of every clip replaced by `first`, `b c h w` or `1 c h w`."""
    clips = rows_to_clips(rows, frames)
    return clips_to_rows(pin_first(clips, first[:, :, None].expand_as(clips[:, :, :1])))


def _as_noise(
    state: Tensor, guider: Any, sampler: Any, sigmas: Tensor, latent_image: Tensor | None, run: SamplingRun
) -> Tensor:
    """The noise from which the host's sampler makes this state of frame 0, `b c h w`."""
    origin = torch.zeros_like(state) if latent_image is None else latent_image[:: run.frames]
    ones, full = torch.ones_like(state), sampler.max_denoise(guider, sigmas)
    level = guider.inner_model.model_sampling.noise_scaling(sigmas[0], ones, torch.zeros_like(state), full)
    return (state - origin) / level


def _size(latent: Tensor) -> str:
    channels, height, width = latent.shape[1:]
    return f"{width} x {height} with {channels} channels"
