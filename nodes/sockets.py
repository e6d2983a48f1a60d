"""Types of our own that travel between nodes."""

from dataclasses import dataclass

from comfy_api.latest import io

from ..i2v_core.weights import AdapterContents

GivenImageSocket = io.Custom("I2V_IMAGE")
ImageProjectionSocket = io.Custom("I2V_IMAGE_PROJECTION")
AdapterSocket = io.Custom("I2V_ADAPTER")


@dataclass(frozen=True)
class GivenAdapter:
    """Contents of an adapter file, and its name in messages."""

    contents: AdapterContents
    name: str
