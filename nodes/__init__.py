"""The nodes, by menu category; each file holds one."""

from comfy_api.latest import ComfyExtension, io

from .adapters import I2VLoadAdapter
from .conditioning import I2VConditioning, I2VEncodeImage
from .host.folders import register_demo_folders
from .loaders import I2VLoadCheckpoint
from .metrics import I2VCompareClips, I2VMetrics
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
            I2VCombineVideo,
            I2VMetrics,
            I2VCompareClips,
        ]
