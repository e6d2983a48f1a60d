"""The nodes, by menu category; each file holds one."""

from comfy_api.latest import ComfyExtension, io

from .adapters import I2VLoadAdapter
from .conditioning import I2VConditioning, I2VEncodeImage, I2VVideoLatent
from .host.folders import register_demo_folders
from .loaders import I2VLoadCheckpoint
from .look_back import I2VApplyLookBack
from .video import I2VCombineVideo


class I2VExtension(ComfyExtension):
    """Everything that the host shows of this pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        register_demo_folders()
        return [
            I2VLoadCheckpoint,
            I2VLoadAdapter,
            I2VEncodeImage,
            I2VConditioning,
            I2VVideoLatent,
            I2VApplyLookBack,
            I2VCombineVideo,
        ]
