"""An image projection's streams in a model of the host that has no image attention: within the network's call."""

from collections.abc import Callable
from functools import partial
from typing import Any

from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...i2v_core.methods import ImageProjectionMethod
from ...i2v_core.model.image_injection import ImageInjection
from ...i2v_core.weights.contents import below
from ..sockets import GivenAdapter
from .adapters import attach_network, check_method, require_kind
from .network import HostVideoUNet, network_call, run_with

KIND = "image_projection"


def apply_image_injection(model: Any, adapter: GivenAdapter) -> Any:
    """A copy of the model whose cross-attentions see image tokens beside the text.

    Raises ValueError for an adapter of another method or base, and for a model that has one already.
    """
    require_kind(adapter, KIND)
    unet, contents = model.model.diffusion_model, adapter.contents
    if not isinstance(unet, HostVideoUNet):
        raise ValueError(
            f"An image projection needs a model of Load I2V Checkpoint, got a {type(model.model).__name__}: load it "
            "there."
        )
    if model.get_wrappers(WrappersMP.DIFFUSION_MODEL, KIND):
        raise ValueError("This model has an image projection already: apply one adapter of this kind only.")
    build = partial(ImageInjection, contents.config.injection)
    patched, injection = attach_network(model, adapter, build, below(contents.tensors, "injection."))
    method = ImageProjectionMethod(injection)
    check_method(method, unet, adapter.name)
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KIND, inject(method))
    return patched


def inject(method: ImageProjectionMethod) -> Callable[..., Tensor]:
    """A wrapper of the network that adds the streams, and the image's latent where the adapter wants it."""

    def wrapper(
        executor: Any,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor | None = None,
        control: Any = None,
        options: Any = None,
        **conditions: Any,
    ) -> Tensor:
        call = network_call(x, timesteps, context, y, options, **conditions)
        if call.conditions.image_tokens is None:
            raise ValueError(
                "This model sees the given image through an image projection and got no image tokens: connect "
                "image_projection of Apply Image Projection to Encode Image for I2V."
            )
        return run_with(executor, (x, timesteps, context, y, control, options), conditions, method.seams(call))

    return wrapper
