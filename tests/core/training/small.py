"""A training so small that it takes seconds."""

from dataclasses import replace
from pathlib import Path

import torch

from i2v_core.data.clips import ClipBatch, Items, collate, encode_clips
from i2v_core.data.moving_crops import MovingCropsConfig
from i2v_core.model.patch_autoencoder import PatchAutoencoderConfig
from i2v_core.model.text_encoder import TextEncoderConfig
from i2v_core.model.video_unet import VideoUNetConfig
from i2v_core.presets import PRESETS
from i2v_core.training.config import (
    LoggingConfig,
    MethodConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    TrainingConfig,
)
from i2v_core.training.engine import TrainingTask


def small_recipe(folder: Path, steps: int = 4) -> TrainingConfig:
    """Of a complete model, without a checkpoint to begin with."""
    unet = VideoUNetConfig(
        in_channels=8, out_channels=4, model_channels=32, channel_mult=(1, 1), num_res_blocks=1,
        attention_levels=(1,), head_dim=32, context_dim=32, init_attention=False, pooled_text_dim=32,
    )  # fmt: skip
    model = ModelConfig(
        unet=unet,
        autoencoder=PatchAutoencoderConfig(latent_channels=4, refine_channels=4),
        text_encoder=TextEncoderConfig(vocab_size=64, features=32, layers=1, max_length=8),
        preset=replace(PRESETS["demo"], frames=3, height=32, width=32, steps=2),
    )
    refine = {"max_train_steps": 2, "train_batch_size": 2, "lr_warmup_steps": 2}
    return TrainingConfig(
        method=MethodConfig("video_base", options={"refine": refine}),
        model=model,
        train=TrainConfig(str(folder / "video"), steps, train_batch_size=2, checkpointing_steps=2, device="cpu"),
        optim=OptimConfig(learning_rate=1e-3, lr_warmup_steps=2),
        data=MovingCropsConfig(frames=3, size=32, photographs=("skimage:chelsea.png",)),
        logging=LoggingConfig("none", logging_steps=2, plan_steps=0),
    )


def without_time(config: TrainingConfig) -> TrainingConfig:
    """The same for an image model: a video model without its temporal layers."""
    assert config.model.unet is not None
    unet = replace(config.model.unet, temporal_convolution=False, temporal_attention=False)
    return replace(config, model=replace(config.model, unet=unet))


def adapter_config(base: Path, method: str, config: TrainingConfig, folder: Path, **settings: object) -> TrainingConfig:
    """Of an adapter beside a base, otherwise as a given training.

    Args:
        settings: "adapter" and "options" of the method; others replace those of the section `train`.
    """
    adapter, options = settings.pop("adapter", {}), settings.pop("options", {})
    return replace(
        config,
        method=MethodConfig(method, adapter, options),  # type: ignore[arg-type]
        model=ModelConfig(str(base)),
        train=replace(config.train, output_dir=str(folder), **settings),  # type: ignore[arg-type]
    )


def first_batch(task: TrainingTask, size: int = 2, first: int = 0) -> ClipBatch:
    """The first clips of a task's data, as its objective sees them."""
    data = Items(task.data)
    return encode_clips(collate([data[first + i] for i in range(size)]), task.autoencoder)


def silent(task: TrainingTask) -> list[str]:
    """Trained parameters that the loss does not reach."""
    trained = {name: p for name, p in task.objective.named_parameters() if p.requires_grad}
    for parameter in trained.values():
        torch.nn.init.normal_(parameter, std=0.05)  # zero-initialized layers hide what lies behind them
    task.objective(first_batch(task)).weighted.mean().backward()
    return [name for name, p in trained.items() if p.grad is None or not p.grad.abs().sum()]
