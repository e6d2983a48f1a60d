"""The bases and variants of the proof, trained or read where they were left."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from i2v_core.decoding import decode
from i2v_core.denoiser import Denoiser
from i2v_core.presets import PRESETS, Preset
from i2v_core.training.config import (
    DiffusionConfig,
    EmaConfig,
    LoggingConfig,
    MethodConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    TrainingConfig,
)
from i2v_core.training.engine import OnStep, train
from i2v_core.training.methods import adapter_task, run, training_of
from i2v_core.weights import Checkpoint, load_checkpoint
from i2v_core.weights.adapters import part_of, replace_weights
from i2v_core.weights.contents import below

from .schedules import Schedule
from .variants import VARIANTS, Base, Variant

LONG = 2000  # steps from which on the average may be a slow one


@dataclass(frozen=True)
class Proof:
    """Where a schedule's networks lie, and how they come to be.

    Attributes:
        folder: of weights and clips, to resume from.
        results: of the scores, all that the page needs.
        on_step: called after every training step; what it raises ends the run.
    """

    schedule: Schedule
    folder: Path
    results: Path
    on_step: OnStep | None = None

    def preset(self) -> Preset:
        """What the bases are trained on."""
        data = self.schedule.data
        return replace(
            PRESETS["demo"], name="proof", frames=data.frames, height=data.size, width=data.size, image_residual=False,
            steps=self.schedule.sampling_steps,
        )  # fmt: skip

    def base_path(self, name: Base) -> Path:
        """File of a base, trained if need be: text to video from nothing, text to image from its layers in space."""
        schedule, path = self.schedule, self.folder / name / "model.safetensors"
        still = name == "text_to_image"
        steps = schedule.image_base_steps if still else schedule.base_steps
        if _finished(path, steps):
            return path
        model = ModelConfig(
            pretrained_model_name_or_path=str(self.base_path("text_to_video")) if still else None,
            unet=replace(schedule.unet, temporal_attention=False, temporal_convolution=False)
            if still
            else schedule.unet,
            autoencoder=schedule.autoencoder,
            text_encoder=schedule.text_encoder,
            preset=self.preset(),
        )
        options = {"refine": {"max_train_steps": schedule.refine_steps}}
        rate = schedule.base_learning_rate / (2 if still else 1)
        run(self._config(name, MethodConfig("video_base", options=options), model, steps, rate, 0), self.on_step)
        return path

    def base(self, name: Base) -> Checkpoint:
        """A base, loaded anew."""
        return load_checkpoint(self.base_path(name), device=self.schedule.device)

    def variant(self, name: str, seed: int) -> tuple[Checkpoint, Denoiser]:
        """A variant's base with its own weights in place, and its denoiser."""
        variant, path = VARIANTS[name], self.folder / f"seed{seed}" / name / "model.safetensors"
        if not _finished(path, self.schedule.variant_steps):
            config = self._variant_config(name, variant, seed)
            train(adapter_task(config, self.base(variant.base), variant.method), config, self.on_step)
        checkpoint, kind = self.base(variant.base), variant.method.kind
        module = self.new_module(variant, checkpoint, seed).to(self.schedule.device)
        tensors = {key: value.float() for key, value in load_file(path, device=self.schedule.device).items()}
        module.load_state_dict(below(tensors, part_of(kind).prefix))
        replace_weights(checkpoint.unet, below(tensors, "unet."))
        return checkpoint, Denoiser.of(checkpoint.unet, checkpoint.preset, variant.method.of(module.eval()))

    def new_module(self, variant: Variant, checkpoint: Checkpoint, seed: int) -> nn.Module:
        """The adapter's network as its training begins."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = decode(variant.method.config, variant.adapter, "adapter")
            return training_of(variant.method).new(checkpoint, config)

    def _variant_config(self, name: str, variant: Variant, seed: int) -> TrainingConfig:
        options = dict(variant.options)
        if variant.method.kind == "image_projection":  # one encoder for all of them, frozen as CLIP is
            options["encoder_file"] = str(self.folder / "image_encoder.safetensors")
        schedule = self.schedule
        config = self._config(
            f"seed{seed}/{name}",
            MethodConfig(name, variant.adapter, options),
            ModelConfig(str(self.base_path(variant.base))),
            schedule.variant_steps,
            schedule.learning_rate,
            seed,
        )
        # The same clips for every variant of a seed, and others than the base's.
        return replace(config, data=replace(schedule.data, seed=100 + seed), conditioning=variant.conditioning)

    def _config(
        self, place: str, method: MethodConfig, model: ModelConfig, steps: int, rate: float, seed: int
    ) -> TrainingConfig:
        schedule = self.schedule
        return TrainingConfig(
            method=method,
            train=TrainConfig(
                output_dir=str(self.folder / place),
                max_train_steps=steps,
                train_batch_size=schedule.batch,
                mixed_precision="bf16",
                seed=seed,
                checkpointing_steps=100,
                checkpoints_total_limit=1,
                output_name="model",
                ema=EmaConfig(0.995 if steps >= LONG else 0.99),
            ),
            model=model,
            data=schedule.data,
            diffusion=DiffusionConfig(noisy_share=0.5),
            # One rate for all networks of all variants, so that no paper's own rate speaks in a comparison.
            optim=OptimConfig(
                learning_rate=rate,
                param_groups={} if method.name == "video_base" else {"adapter": rate, "unet": rate},
                lr_warmup_steps=min(100, steps // 8),
            ),
            logging=LoggingConfig(plan_steps=0),
        )


def _finished(path: Path, steps: int) -> bool:
    """Whether the weights for users were written after the last step."""
    if not path.exists():
        return False
    with safe_open(path, "pt") as file:
        return int((file.metadata() or {}).get("i2v.train_steps", 0)) >= steps
