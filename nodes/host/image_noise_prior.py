"""TRIP's image noise prior on any model of the host, as blending of clean estimates, which is the same (equation 9)."""

from dataclasses import dataclass
from typing import Any

from comfy.patcher_extension import WrappersMP
from einops import rearrange
from torch import Tensor

from ...i2v_core.diffusion.image_noise_prior import fusion_weights, linear_fusion
from .sampling import in_range

KEY = "i2v_image_noise_prior"


@dataclass(frozen=True)
class PriorSettings:
    """Share of the image in the first and the last frame, the part of the sampling, and the frames of one clip.

    `frames` 0 takes the whole batch for one clip, where frames are a batch.
    """

    first_lambda: float
    last_lambda: float
    start_percent: float
    end_percent: float
    frames: int = 0


def apply_image_noise_prior(model: Any, latent: Tensor, settings: PriorSettings) -> Any:
    """A copy of the model whose clean estimates are blended with the image, whatever sampler or guider asks for them.

    Args:
        latent: the image's, as the model's VAE gives it: `b c h w`, or `b c 1 h w` for video VAEs; one for all clips
            or one for each.

    Raises ValueError for a latent of several frames, or of other channels than the model's.
    """
    channels = model.model.latent_format.latent_channels
    if latent.ndim not in (4, 5) or (latent.ndim == 5 and latent.shape[2] != 1):
        raise ValueError(
            f"Expected the latent of one picture, got shape {tuple(latent.shape)}: encode a single image, not a video."
        )
    if latent.shape[1] != channels:
        raise ValueError(
            f"The image latent has {latent.shape[1]} channels, this model's latents have {channels}: encode the image "
            "with the model's own VAE."
        )
    image = latent if latent.ndim == 5 else latent[:, :, None]
    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, NoisePrior(image, settings))
    return patched


class NoisePrior:
    """Wrapper of the host around a guider's clean estimate, after all guidance."""

    def __init__(self, image: Tensor, settings: PriorSettings) -> None:
        self.image, self.settings = image, settings

    def __call__(self, executor: Any, x: Tensor, timestep: Tensor, *further: Any, **named: Any) -> Tensor:
        denoised = executor(x, timestep, *further, **named)
        model, settings = executor.class_obj.inner_model, self.settings
        if not in_range(model.model_sampling, timestep, settings.start_percent, settings.end_percent):
            return denoised
        clips = self._clips(denoised)
        image = self._image(model, clips)
        weights = fusion_weights(clips.shape[2], settings.first_lambda, settings.last_lambda)
        fused = linear_fusion(image, clips, weights.to(clips.device))
        return rearrange(fused, "b c t h w -> (b t) c h w") if denoised.ndim == 4 else fused

    def _clips(self, denoised: Tensor) -> Tensor:
        """The host's latents as `b c t h w`: frames are the batch of four axes, or an axis of five."""
        if denoised.ndim == 5:
            return denoised
        frames = self.settings.frames or len(denoised)
        if denoised.ndim != 4 or len(denoised) % frames:
            raise ValueError(
                f"Image Noise Prior needs latents of clips of {frames} frames, got shape {tuple(denoised.shape)}: set "
                "frames to those of one clip, or to 0 if the whole batch is one."
            )
        return rearrange(denoised, "(b t) c h w -> b c t h w", t=frames)

    def _image(self, model: Any, clips: Tensor) -> Tensor:
        if self.image.shape[-2:] != clips.shape[-2:] or len(self.image) not in (1, len(clips)):
            raise ValueError(
                f"The image latent is {self.image.shape[-1]} x {self.image.shape[-2]} (batch {len(self.image)}), the "
                f"one to sample {clips.shape[-1]} x {clips.shape[-2]} ({len(clips)} clips): encode one picture, or one "
                "for each clip, at the size of the video."
            )
        # Formats of images do not know an axis of frames.
        if model.latent_format.latent_dimensions == 3:
            return model.process_latent_in(self.image).to(clips)
        return model.process_latent_in(self.image[:, :, 0])[:, :, None].to(clips)
