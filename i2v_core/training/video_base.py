"""Training of a complete small model: text and first frame in, clip out (metrics of the demo: its README)."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..data.clips import ClipData, MotionData
from ..data.datasets import keep_latents, open_data
from ..data.moving_crops import MovingCrops, MovingCropsConfig
from ..decoding import decode
from ..denoiser import Denoiser
from ..files import StrPath
from ..model.patch_autoencoder import PatchAutoencoder
from ..model.text_encoder import TextEncoder
from ..model.video_unet import VideoUNet
from ..weights import Checkpoint, CheckpointContents, load_checkpoint, save_checkpoint
from ..weights.contents import below
from .checkpoint_files import find_checkpoint
from .config import EmaConfig, OptimConfig, TrainingConfig, ValidationConfig
from .engine import OnPlan, OnStep, TrainingTask, plan, train
from .lock import only_one
from .new_model import begin_with, fitted_autoencoder, new_autoencoder, new_networks, new_preset
from .objective import LossContext, Objective, denoise, with_drops
from .patch_autoencoder import RefineOptions, refine_task
from .plan import Plan
from .preview import make_preview
from .text_encoder import pretrain_text_encoder

logger = logging.getLogger("i2v_core.training")

TEXT_DROP = 0.1


@dataclass(frozen=True)
class VideoBaseOptions:
    """Trainings before the video model's own, where no checkpoint brings their results.

    Attributes:
        refine: training of the autoencoder's cleaning network.
        text_steps: of the text encoder's head start, on captions alone.
    """

    refine: RefineOptions = field(default_factory=RefineOptions)
    text_steps: int = 400


def run_video_base(config: TrainingConfig, on_step: OnStep | None = None, on_plan: OnPlan | None = None) -> Path:
    """Train all parts of a model, going on where an earlier run was interrupted; return the checkpoint."""
    data, base = open_data(config.data), _base(config)
    options = decode(VideoBaseOptions, config.method.options, "method.options")
    autoencoder = trained_autoencoder(config, options, data, on_step) if base is None else _frozen_autoencoder(base)
    data = keep_latents(data, autoencoder, config.train.device)
    text_encoder, unet = new_networks(config)
    if find_checkpoint(config.train.output_dir, config.train.resume_from_checkpoint) is None:
        if base is not None:
            begin_with(base, text_encoder, unet)
        else:
            begin_with_words(text_encoder, data, config.train.seed, options.text_steps)
    return train(video_task(config, data, autoencoder, text_encoder, unet), config, on_step, on_plan)


def plan_video_base(config: TrainingConfig) -> Plan:
    """Plan of `run_video_base`'s main part, with an autoencoder that is not fitted yet."""
    base, data = _base(config), open_data(config.data)
    decode(VideoBaseOptions, config.method.options, "method.options")
    autoencoder = new_autoencoder(config) if base is None else _frozen_autoencoder(base)
    return plan(video_task(config, data, autoencoder, *new_networks(config)), config)


def video_task(
    config: TrainingConfig, data: ClipData, autoencoder: PatchAutoencoder, text_encoder: TextEncoder, unet: VideoUNet
) -> TrainingTask:
    """Denoise clips given their caption, and their first frame if the network has a place for it.

    The text is dropped for one clip in ten, the given image never, as in DynamiCrafter.
    """
    preset = new_preset(config)
    checkpoint = Checkpoint(unet, None, autoencoder, text_encoder, preset, "i2v", {})
    denoiser = Denoiser.of(unet, preset)
    conditioning = with_drops(config.conditioning, TEXT_DROP, None)
    context = LossContext(denoiser, checkpoint, config.diffusion, conditioning)

    def preview(validation: ValidationConfig) -> Tensor:
        return make_preview(checkpoint, denoiser, data, validation)

    return TrainingTask(
        name=config.name,
        objective=Objective({"unet": unet, "text_encoder": text_encoder}, partial(denoise, context), config.train.seed),
        data=data,
        autoencoder=autoencoder,
        write=partial(_write, checkpoint),
        companions=(autoencoder,),
        preview=preview,
        base=config.model.pretrained_model_name_or_path or "nothing",
        timesteps=preset.schedule.timesteps,
    )


def trained_autoencoder(
    config: TrainingConfig, options: VideoBaseOptions, data: ClipData, on_step: OnStep | None
) -> PatchAutoencoder:
    """An autoencoder fitted to the data and refined, in the run's folder; frozen."""
    folder, refine = Path(config.train.output_dir) / "autoencoder", options.refine
    folder.mkdir(parents=True, exist_ok=True)
    autoencoder = fitted_autoencoder(config, data, folder / "patches.safetensors")
    settings = replace(
        config,
        train=replace(
            config.train,
            output_dir=str(folder),
            max_train_steps=refine.max_train_steps,
            train_batch_size=refine.train_batch_size,
            resume_from_checkpoint="latest",
            mixed_precision="no",
            ema=EmaConfig(refine.ema_decay),
        ),
        optim=OptimConfig(learning_rate=refine.learning_rate, lr_warmup_steps=refine.lr_warmup_steps),
        validation=ValidationConfig(),
    )
    with only_one(folder):
        result = train(refine_task(autoencoder, data, settings), settings, on_step)
    autoencoder.refine.load_state_dict(below(load_file(result), "refine."))
    return autoencoder.requires_grad_(False)


def begin_with_words(text_encoder: TextEncoder, data: ClipData, seed: int, steps: int) -> None:
    """Give the text encoder its head start on the data's captions; on others' where it cannot tell what they name."""
    source = data if isinstance(data, MotionData) else MovingCrops(MovingCropsConfig())
    shares = pretrain_text_encoder(text_encoder, source, seed=seed, steps=steps)
    told = ", ".join(f"{aspect} of {100 * share:.0f} %" for aspect, share in shares.items())
    logger.info("the text encoder names, of the captions that say it: %s", told)


def _base(config: TrainingConfig) -> Checkpoint | None:
    path = config.model.pretrained_model_name_or_path
    return None if path is None else load_checkpoint(path)


def _frozen_autoencoder(base: Checkpoint) -> PatchAutoencoder:
    if not isinstance(base.autoencoder, PatchAutoencoder) or base.text_encoder is None:
        raise ValueError("a base needs an autoencoder and a text encoder of this project, as the demo's")
    return base.autoencoder.requires_grad_(False)


def _write(checkpoint: Checkpoint, path: StrPath, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a complete checkpoint of these weights."""
    autoencoder, text_encoder, preset = checkpoint.autoencoder, checkpoint.text_encoder, checkpoint.preset
    assert autoencoder is not None and isinstance(text_encoder, TextEncoder)
    contents = CheckpointContents(
        dialect="i2v",
        preset=preset,
        unet_config=checkpoint.unet.config,
        unet=below(weights, "unet."),
        autoencoder_config=autoencoder.config,
        autoencoder=autoencoder.state_dict(),
        text_encoder_config=text_encoder.config,
        text_encoder=below(weights, "text_encoder."),
    )
    save_checkpoint(path, contents, metadata=metadata, dtype=torch.float16)
