"""The networks of a complete small image-to-video model: new ones, or begun with those of a checkpoint."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from ..data.clips import ClipData, MotionData
from ..model.attention import TemporalTransformer
from ..model.blocks import Block
from ..model.patch_autoencoder import PatchAutoencoder, PatchAutoencoderConfig, fit_patches
from ..model.text_encoder import TextEncoder, TextEncoderConfig, initialize_text_encoder
from ..model.video_unet import VideoUNet, initialize_video_unet
from ..presets import PRESETS, Preset
from ..weights import Checkpoint
from ..weights.files import write_tensors
from .checkpoint_files import load_weights
from .config import TrainingConfig

FIT_PICTURES = 1000
FIT_OFFSET = 10_000_000  # pictures for the fit, clips for training and clips for tests have different numbers


def new_networks(config: TrainingConfig) -> tuple[TextEncoder, VideoUNet]:
    """Text encoder and U-Net with the run's seed; raises ValueError if the configuration describes no U-Net."""
    if config.model.unet is None:
        raise ValueError("video_base makes a network of its own: describe it in [model.unet]")
    if isinstance(config.model.text_encoder, str):
        raise ValueError("video_base makes a text encoder of its own: describe it in [model.text_encoder]")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        unet = VideoUNet(config.model.unet)
        text_encoder = TextEncoder(config.model.text_encoder or TextEncoderConfig())
        initialize_video_unet(unet)
        initialize_text_encoder(text_encoder)
    return text_encoder, unet


def new_preset(config: TrainingConfig) -> Preset:
    """Preset of the new model, with the prediction that the run chooses."""
    preset = config.model.preset or PRESETS["demo"]
    if isinstance(preset, str):
        raise ValueError("video_base makes a model of its own: describe it in [model.preset]")
    return replace(preset, prediction=config.diffusion.prediction or preset.prediction).on(config.diffusion.betas)


def new_autoencoder(config: TrainingConfig) -> PatchAutoencoder:
    """An autoencoder with the run's seed, not yet fitted."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        return PatchAutoencoder(config.model.autoencoder or PatchAutoencoderConfig())


def fitted_autoencoder(config: TrainingConfig, data: ClipData, path: Path) -> PatchAutoencoder:
    """The autoencoder fitted to the data's pictures; kept in `path`, because a resumed run needs the same latents."""
    autoencoder = new_autoencoder(config)
    if path.exists():
        load_weights(autoencoder, path)
        return autoencoder
    if isinstance(data, MotionData):  # the pictures alone, without the moves
        data = data.still()
    fit_patches(autoencoder, torch.stack([data.clip(FIT_OFFSET + i).image for i in range(FIT_PICTURES)]))
    write_tensors(path, autoencoder.state_dict(), {})
    return autoencoder


def begin_with(base: Checkpoint, text_encoder: TextEncoder, unet: VideoUNet) -> None:
    """Copy the base's text encoder, and its U-Net but for temporal layers that the new one has not."""
    assert base.text_encoder is not None
    text_encoder.load_state_dict(base.text_encoder.state_dict())
    own = unet.state_dict()
    renamed = _without_temporal(base.unet) if not unet.config.temporal_attention else base.unet.state_dict()
    unet.load_state_dict({name: tensor for name, tensor in renamed.items() if name in own}, strict=False)


def _without_temporal(unet: VideoUNet) -> Mapping[str, torch.Tensor]:
    """The weights as an image model names them, in whose blocks layers behind temporal ones move up."""
    weights = {name: tensor for name, tensor in unet.state_dict().items() if "_block" not in name}
    for path, block in unet.named_modules():
        if isinstance(block, Block):
            layers = [layer for layer in block if not isinstance(layer, TemporalTransformer)]
            for index, layer in enumerate(layers):
                weights |= {f"{path}.{index}.{name}": tensor for name, tensor in layer.state_dict().items()}
    return weights
