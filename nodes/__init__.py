"""The nodes: a file for each method of the papers, and for what all methods share."""

from comfy_api.latest import ComfyExtension, io

from .adapters import I2VLoadAdapter
from .checked import checked_node
from .clips import I2VLoadClip
from .conditioning import I2VConditioning, I2VEncodeImage, I2VShareImageTokens, I2VVideoLatent
from .decoding import I2VDecodeDualReference
from .guidance import I2VDualGuidanceGuider, I2VDualGuidanceSampler, I2VWithoutImage
from .host.folders import register_demo_folders
from .image_projection import I2VApplyImageProjection
from .image_retention import I2VApplyImageRetention
from .loaders import I2VLoadCheckpoint
from .look_back import I2VApplyLookBack
from .metrics import I2VCompareClips, I2VMetrics
from .sampling import I2VAnalyticNoise, I2VDDIMSampler, I2VGuidanceRescale, I2VSchedule
from .step_cache import I2VStepCache
from .stories import I2VContinueVideo, I2VJoinClips
from .training import I2VTrainAdapter
from .trip import I2VApplyTRIP, I2VImageNoisePrior
from .video import I2VCombineVideo


class I2VExtension(ComfyExtension):
    """Everything that the host shows of this pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        register_demo_folders()
        nodes: list[type[io.ComfyNode]] = [
            I2VLoadCheckpoint,
            I2VLoadAdapter,
            I2VEncodeImage,
            I2VShareImageTokens,
            I2VConditioning,
            I2VWithoutImage,
            I2VVideoLatent,
            I2VApplyLookBack,
            I2VApplyTRIP,
            I2VImageNoisePrior,
            I2VApplyImageRetention,
            I2VApplyImageProjection,
            I2VDualGuidanceGuider,
            I2VDualGuidanceSampler,
            I2VSchedule,
            I2VDDIMSampler,
            I2VAnalyticNoise,
            I2VGuidanceRescale,
            I2VDecodeDualReference,
            I2VContinueVideo,
            I2VJoinClips,
            I2VCombineVideo,
            I2VLoadClip,
            I2VMetrics,
            I2VCompareClips,
            I2VTrainAdapter,
            I2VStepCache,
        ]
        return [checked_node(node) for node in nodes]
