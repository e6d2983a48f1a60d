"""Nodes that load weights."""

import logging

from comfy_api.latest import io

from ..i2v_core.presets import PRESETS
from ..i2v_core.weights import read_checkpoint
from .host.clip import load_clip, load_clip_vision
from .host.folders import checkpoint_names, checkpoint_path
from .host.image_projection import load_image_projection
from .host.latents import latent_format
from .host.model import load_model
from .host.vae import load_vae
from .sockets import ImageProjectionSocket
from .widgets import advanced, search_aliases

AUTO = "auto"


class I2VLoadCheckpoint(io.ComfyNode):
    """Load a video model and everything else that its file holds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        preset = advanced(
            io.Combo.Input(
                "preset",
                options=[AUTO, *PRESETS],
                default=AUTO,
                tooltip="What the model was trained on. auto reads it from the file; choose by hand only where "
                "the file does not tell: DynamiCrafter's interpolation weights, which look like 512, and files of the "
                "U-Net alone, where 1024 looks like 512 too.",
            )
        )
        return io.Schema(
            node_id="I2VLoadCheckpoint",
            display_name="Load I2V Checkpoint",
            category="I2V Diffusion/loaders",
            **search_aliases("dynamicrafter", "tooncrafter", "videocrafter", "modelscope", "load video model"),
            description="Loads a video model: the demo of this pack, DynamiCrafter, ToonCrafter, VideoCrafter, "
            "ModelScope or Stable Diffusion 1.5 and 2.1. The kind is read from the file, never from its name.",
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=checkpoint_names(),
                    tooltip="A file in models/checkpoints or models/diffusion_models, or the demo model.",
                ),
                preset,
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The video model, for KSampler, LoRA loaders and so on."),
                io.Clip.Output(
                    display_name="clip",
                    tooltip="Text encoder for CLIP Text Encode; empty if the file has none.",
                ),
                io.Vae.Output(
                    display_name="vae",
                    tooltip="Image autoencoder for encoding the given image and decoding frames.",
                ),
                io.ClipVision.Output(
                    display_name="clip_vision",
                    tooltip="Image encoder; empty if the file has none (full files do).",
                ),
                ImageProjectionSocket.Output(
                    display_name="image_projection",
                    tooltip="From image features to image tokens; empty if the file has none.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, checkpoint: str, preset: str) -> tuple[int, int]:
        # A file that was trained further under the same name is loaded again.
        status = checkpoint_path(checkpoint).stat()
        return status.st_mtime_ns, status.st_size

    @classmethod
    def execute(cls, checkpoint: str, preset: str = AUTO) -> io.NodeOutput:
        path, known = checkpoint_path(checkpoint), None if preset == AUTO else preset
        contents = read_checkpoint(path, preset=known)
        if contents.alternatives:
            logging.getLogger(__name__).warning(
                "%s loads as %s and could as well be %s, which the file does not tell: choose preset if it is.",
                checkpoint,
                contents.preset.name,
                " or ".join(contents.alternatives),
            )
        vae = load_vae(contents)
        projection = load_image_projection(contents)
        latents = latent_format(contents.latents_config, contents.unet_config.out_channels, vae)
        return io.NodeOutput(
            load_model(contents, path, known, latents, projection),
            load_clip(contents),
            vae,
            load_clip_vision(contents),
            projection,
        )
