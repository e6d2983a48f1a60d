"""Recipes: a complete small image-to-video model from one configuration file, trained from nothing."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ..build import build_text_encoder, build_unet
from ..files import StrPath, atomic_path
from ..model.attention import TemporalTransformer
from ..model.blocks import Block
from ..model.patch_autoencoder import PatchAutoencoder, PatchAutoencoderConfig, fit_patches
from ..model.text_encoder import TextEncoder, TextEncoderConfig, initialize_text_encoder
from ..model.video_unet import VideoUNet, VideoUNetConfig, initialize_video_unet
from ..presets import PRESETS, Preset
from ..weights import Checkpoint, load_checkpoint, save_checkpoint
from ..weights.configs import decode_config
from .clips import ClipSource
from .loop import TrainConfig, Trainer
from .moving_crops import MovingCrops, MovingCropsConfig, photograph_path
from .patch_autoencoder import RefineTask
from .text_encoder import pretrain_text_encoder
from .video_base import VideoTask

logger = logging.getLogger("i2v_core.training")

OnStep = Callable[[str, int, int, float], None]
FIT_PICTURES = 3000
FIT_OFFSET = 10_000_000  # pictures for the fit, clips for training and clips for tests have different numbers


@dataclass(frozen=True)
class Recipe:
    """Data, networks and the two trainings: first the autoencoder's cleaning network, then the video model.

    `base` is the path of a checkpoint of ours to begin with: its autoencoder stays as it is, and its text encoder and
    what the U-Nets have in common are trained on. Without one everything is trained from nothing.
    """

    train: TrainConfig
    refine: TrainConfig
    unet: VideoUNetConfig
    data: MovingCropsConfig = field(default_factory=MovingCropsConfig)
    autoencoder: PatchAutoencoderConfig = field(default_factory=PatchAutoencoderConfig)
    text_encoder: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    preset: Preset = field(default_factory=lambda: PRESETS["demo"])
    base: str | None = None


def read_recipe(path: StrPath) -> Recipe:
    """Read a recipe from JSON; an unknown or missing entry is an error that names it."""
    return decode_config(Recipe, json.loads(Path(path).read_text(encoding="utf-8")))


def data_fingerprint(config: MovingCropsConfig) -> str:
    """SHA-256 of the photographs' bytes and the configuration of the clips."""
    digest = hashlib.sha256(json.dumps(asdict(config)).encode())
    for name in config.photographs:
        digest.update(photograph_path(name).read_bytes())
    return digest.hexdigest()


def run_recipe(recipe: Recipe, on_step: OnStep | None = None) -> Path:
    """Train all parts, going on where an earlier run was interrupted; return the checkpoint."""
    data = MovingCrops(recipe.data)
    folder = Path(recipe.train.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    base = None if recipe.base is None else load_checkpoint(recipe.base)
    autoencoder = trained_autoencoder(recipe, data, folder, base, on_step).to(recipe.train.device)
    text_encoder, unet = new_networks(recipe)
    fingerprint = {"i2v.dataset_fingerprint": data_fingerprint(recipe.data)}

    def write(modules: nn.ModuleDict, path: Path, metadata: dict[str, str]) -> None:
        checkpoint = Checkpoint(
            unet=modules["unet"],  # type: ignore[arg-type]
            image_projection=None,
            autoencoder=autoencoder,
            text_encoder=modules["text_encoder"],  # type: ignore[arg-type]
            preset=recipe.preset,
            dialect="i2v",
            metadata={},
        )
        save_checkpoint(path, checkpoint, metadata=metadata | fingerprint, dtype=torch.float16)

    task = VideoTask(unet, text_encoder, ClipSource(data, autoencoder), recipe.preset, write)
    trainer = Trainer(task, recipe.train)
    if trainer.resume():
        logger.info("going on from step %d", trainer.step)
    elif base is not None:
        begin_with(base, text_encoder, unet)
        trainer.restart_average()
    else:
        share = pretrain_text_encoder(text_encoder, seed=recipe.train.seed)
        logger.info("the text encoder names the motion of %.0f %% of the captions", 100 * share)
        trainer.restart_average()
    return trainer.run(_report(on_step, "video", recipe.train))


def trained_autoencoder(
    recipe: Recipe, data: MovingCrops, folder: Path, base: Checkpoint | None, on_step: OnStep | None
) -> PatchAutoencoder:
    """The base's autoencoder, or one fitted and refined here; frozen."""
    if base is not None:
        if not isinstance(base.autoencoder, PatchAutoencoder) or base.text_encoder is None:
            raise ValueError("a base needs an autoencoder and a text encoder of this project, as the demo's")
        return base.autoencoder.requires_grad_(False)
    autoencoder = fitted_autoencoder(recipe, data, folder / "patches.safetensors").to(recipe.refine.device)
    refine = RefineTask(nn.ModuleDict({"refine": autoencoder.refine}), autoencoder, data, save_modules)
    refiner = Trainer(refine, recipe.refine)
    refiner.resume()
    autoencoder.refine.load_state_dict(_weights(refiner.run(_report(on_step, "autoencoder", recipe.refine)), "refine."))
    return autoencoder.requires_grad_(False)


def begin_with(base: Checkpoint, text_encoder: TextEncoder, unet: VideoUNet) -> None:
    """Copy the base's text encoder, and its U-Net but for temporal layers that the new one has not."""
    assert base.text_encoder is not None
    text_encoder.load_state_dict(base.text_encoder.state_dict())
    own = unet.state_dict()
    renamed = _without_temporal(base.unet) if not unet.config.temporal_attention else base.unet.state_dict()
    unet.load_state_dict({name: tensor for name, tensor in renamed.items() if name in own}, strict=False)


def _without_temporal(unet: VideoUNet) -> dict[str, torch.Tensor]:
    """The weights as an image model names them, in whose blocks layers behind temporal ones move up."""
    weights = {name: tensor for name, tensor in unet.state_dict().items() if "_block" not in name}
    for path, block in unet.named_modules():
        if isinstance(block, Block):
            layers = [layer for layer in block if not isinstance(layer, TemporalTransformer)]
            for index, layer in enumerate(layers):
                weights |= {f"{path}.{index}.{name}": tensor for name, tensor in layer.state_dict().items()}
    return weights


def new_networks(recipe: Recipe) -> tuple[TextEncoder, VideoUNet]:
    """Text encoder and U-Net with the recipe's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        unet, text_encoder = build_unet(recipe.unet), build_text_encoder(recipe.text_encoder)
        initialize_video_unet(unet)
        initialize_text_encoder(text_encoder)
    return text_encoder, unet


def fitted_autoencoder(recipe: Recipe, data: MovingCrops, path: Path) -> PatchAutoencoder:
    """The autoencoder fitted to the data's pictures; kept in `path`, because a resumed run needs the same latents."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        autoencoder = PatchAutoencoder(recipe.autoencoder)
    if path.exists():
        autoencoder.load_state_dict(load_file(path))
        return autoencoder
    still = MovingCrops(replace(data.config, frames=1))
    pictures = [still.clip(FIT_OFFSET + i).pixels[:, 0] for i in range(FIT_PICTURES)]
    fit_patches(autoencoder, torch.stack(pictures))
    save_modules(autoencoder, path, {})
    return autoencoder


def save_modules(modules: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write the parameters as they are named, as safetensors."""
    with atomic_path(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in modules.state_dict().items()}, temporary, metadata)


def _weights(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in load_file(path).items()}


def _report(on_step: OnStep | None, part: str, config: TrainConfig) -> Callable[[int, float], None] | None:
    if on_step is None:
        return None
    return lambda step, loss: on_step(part, step, config.max_train_steps, loss)
