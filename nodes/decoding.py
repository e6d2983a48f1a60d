"""Nodes that turn latents into frames."""

from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from .convert import fit_given_image
from .host.dual_reference import decode_between, dual_reference
from .widgets import advanced, search_aliases


class I2VDecodeDualReference(io.ComfyNode):
    """Decode a ToonCrafter clip with the detail of its first and last image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        twice = advanced(
            io.Boolean.Input(
                "middle_twice",
                default=True,
                tooltip="On, as the authors do: the two middle frames come from a second pass without the second and "
                "the last but one frame, which takes as long again. Clips below 6 frames are always decoded once.",
            )
        )
        return io.Schema(
            node_id="I2VDecodeDualReference",
            display_name="Decode with Two References",
            category="I2V Diffusion/video",
            **search_aliases("tooncrafter decoder", "vae decode"),
            description="Decodes a clip between two images with ToonCrafter's decoder, which copies fine detail "
            "from both. VAE Decode works too, without that detail.",
            inputs=[
                io.Latent.Input("samples", tooltip="One sampled clip, its frames as the batch, from KSampler."),
                io.Vae.Input("vae", tooltip="From Load I2V Checkpoint with a ToonCrafter file."),
                io.Image.Input("first_image", tooltip="The image that the clip starts with. Cropped to its size."),
                io.Image.Input("last_image", tooltip="The image that the clip ends with. Cropped to its size."),
                twice,
            ],
            outputs=[io.Image.Output(display_name="images", tooltip="The frames, in order.")],
        )

    @classmethod
    def execute(
        cls,
        samples: dict[str, Tensor],
        vae: Any,
        first_image: Tensor,
        last_image: Tensor,
        middle_twice: bool = True,
    ) -> io.NodeOutput:
        latents, config = samples["samples"], dual_reference(vae).config
        if latents.ndim != 4 or latents.shape[1] != config.latent_channels:
            raise ValueError(
                f"ToonCrafter's decoder takes frames as a batch with {config.latent_channels} channels, got a latent "
                f"of shape {tuple(latents.shape)}: connect the sampler of the ToonCrafter model."
            )
        height, width = (side * config.downscale for side in latents.shape[-2:])
        images = [
            fit_given_image(image, height, width, "crop", config.downscale) for image in (first_image, last_image)
        ]
        return io.NodeOutput(decode_between(vae, latents, torch.cat(images), middle_twice))
