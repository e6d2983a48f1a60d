"""An image projection's streams in a model of the host that has no image attention: within the network's call."""

from collections.abc import Callable
from functools import partial
from typing import Any

from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...i2v_core.model.image_injection import ImageInjection, check_image_sites
from ...i2v_core.model.video_unet import VideoUNet
from ...i2v_core.weights.contents import below
from ..sockets import GivenAdapter
from .adapters import attach_network, require_kind
from .model import DETAIL

KIND = "image_projection"


def apply_image_injection(model: Any, adapter: GivenAdapter) -> Any:
    """A copy of the model whose cross-attentions see image tokens beside the text.

    Raises ValueError for an adapter of another method or base, and for a model that has one already.
    """
    require_kind(adapter, KIND)
    unet, contents = model.model.diffusion_model, adapter.contents
    if not isinstance(unet, VideoUNet):
        raise ValueError(
            f"An image projection needs a model of Load I2V Checkpoint, got a {type(model.model).__name__}: load it "
            "there."
        )
    if model.get_wrappers(WrappersMP.DIFFUSION_MODEL, KIND):
        raise ValueError("This model has an image projection already: apply one adapter of this kind only.")
    config = contents.config.injection
    try:
        check_image_sites(config, unet)
    except ValueError as error:
        raise ValueError(f"Cannot use '{adapter.name}' here: {error}.") from error
    build = partial(ImageInjection, config)
    patched, injection = attach_network(model, adapter, build, below(contents.tensors, "injection."))
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KIND, inject(injection))
    return patched


def inject(injection: ImageInjection) -> Callable[..., Tensor]:
    """A wrapper of the network that adds the streams, and the image's latent where the adapter wants it."""

    def wrapper(
        executor: Any,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor | None = None,
        control: Any = None,
        transformer_options: Any = None,
        **conditions: Any,
    ) -> Tensor:
        if conditions.get("frame_tokens") is None and conditions.get("clip_tokens") is None:
            raise ValueError(
                "This model sees the given image through an image projection and got no image tokens: connect "
                "image_projection of Apply Image Projection to Encode Image for I2V."
            )
        if (detail := injection.hint(_detail(x, transformer_options, conditions))) is not None:
            hint = conditions.get("hint")
            conditions["hint"] = detail if hint is None else hint + detail
        inputs = (x, timesteps, context, y, control, transformer_options)
        return executor(*inputs, **conditions, image_streams=injection.streams)

    return wrapper


def _detail(x: Tensor, options: Any, conditions: dict[str, Any]) -> Tensor | None:
    """The given image's latent for every clip of every branch, `b c 1 h w`."""
    latent = conditions.get(DETAIL)
    if latent is None:
        return None
    frames = conditions.get("num_video_frames") or len(x) // len((options or {}).get("cond_or_uncond", (0,)))
    clips = len(x) // frames
    return latent[:: len(latent) // clips][:, :, None].to(x)
