"""The bases and variants of the proof, trained or read where they were left."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from ...denoiser import Denoiser
from ...presets import PRESETS, Preset
from ...weights import Checkpoint, load_checkpoint
from ...weights.adapters import ADAPTERS, replace_weights
from ...weights.configs import decode_config
from ..adapter import AdapterTask
from ..clips import ClipSource
from ..loop import TrainConfig, Trainer
from ..moving_crops import MovingCrops
from ..recipe import Recipe, run_recipe
from .schedules import Schedule
from .variants import VARIANTS, Base, Variant

OnStep = Callable[[str, int, int, float], None]
UNET = "unet."


@dataclass(frozen=True)
class Proof:
    """Where a schedule's networks lie, and how they come to be.

    Attributes:
        folder: of weights and clips, to resume from. results: of the scores, all that the page needs.
        on_step: told what is trained, its step, its steps and the loss; what it raises ends the run.
    """

    schedule: Schedule
    folder: Path
    results: Path
    on_step: OnStep | None = None

    def preset(self) -> Preset:
        """What the bases were trained on."""
        data = self.schedule.data
        return replace(
            PRESETS["demo"], name="proof", frames=data.frames, height=data.size, width=data.size, image_residual=False,
            steps=self.schedule.sampling_steps,
        )  # fmt: skip

    def base(self, name: Base) -> Checkpoint:
        """A base: text to video from nothing, or text to image from the former's layers without those over time."""
        schedule, path = self.schedule, self.folder / name / "model.safetensors"
        still = name == "text_to_image"
        steps = schedule.image_base_steps if still else schedule.base_steps
        if not _finished(path, steps):
            unet = replace(schedule.unet, temporal_attention=False, temporal_convolution=False)
            recipe = Recipe(
                train=self._train(name, steps, schedule.base_learning_rate / (2 if still else 1), 0),
                refine=replace(self._train("autoencoder", schedule.refine_steps, 1e-3, 0), mixed_precision="no"),
                unet=unet if still else schedule.unet,
                data=schedule.data,
                autoencoder=schedule.autoencoder,
                text_encoder=schedule.text_encoder,
                preset=self.preset(),
                base=str(self._trained("text_to_video")) if still else None,
            )
            run_recipe(recipe, self.on_step)
        return load_checkpoint(path, device=schedule.device)

    def _trained(self, name: Base) -> Path:
        self.base(name)
        return self.folder / name / "model.safetensors"

    def variant(self, name: str, seed: int) -> tuple[Checkpoint, Denoiser]:
        """A variant's base with its own weights in place, and its denoiser."""
        variant, path = VARIANTS[name], self.folder / f"seed{seed}" / name / "model.safetensors"
        checkpoint = self.base(variant.base)
        if not _finished(path, self.schedule.variant_steps):
            self._train_variant(name, variant, seed)
            checkpoint = self.base(variant.base)
        module = self.new_module(variant, checkpoint, seed).to(self.schedule.device)
        tensors, prefix = load_file(path, device=self.schedule.device), ADAPTERS[variant.kind].prefix
        own = {key.removeprefix(prefix): value.float() for key, value in tensors.items() if key.startswith(prefix)}
        module.load_state_dict(own)
        trained = {key.removeprefix(UNET): value for key, value in tensors.items() if key.startswith(UNET)}
        replace_weights(checkpoint.unet, trained)
        denoiser = Denoiser.of(checkpoint.unet, checkpoint.preset)
        return checkpoint, replace(denoiser, **{variant.kind: module.eval()})  # type: ignore[arg-type]

    def new_module(self, variant: Variant, checkpoint: Checkpoint, seed: int) -> nn.Module:
        """The adapter's network as its training begins."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = decode_config(ADAPTERS[variant.kind].configs[0], variant.adapter)
            return variant.method.build(checkpoint.unet, config)

    def _train_variant(self, name: str, variant: Variant, seed: int) -> None:
        checkpoint, schedule = self.base(variant.base), self.schedule
        assert checkpoint.autoencoder is not None and checkpoint.text_encoder is not None
        chosen = dict(variant.options)
        if variant.kind == "image_projection":  # one encoder for all of them, frozen as CLIP is
            chosen["encoder_file"] = str(self.folder / "image_encoder.safetensors")
        options = decode_config(variant.method.options, chosen)
        module = self.new_module(variant, checkpoint, seed)
        checkpoint.autoencoder.requires_grad_(False)
        checkpoint.text_encoder.requires_grad_(False)
        for weight, parameter in checkpoint.unet.named_parameters():
            parameter.requires_grad_(variant.method.trained_along(weight, options))
        task = AdapterTask(
            kind=variant.kind,
            unet=checkpoint.unet,
            adapter=module,
            # The same clips for every variant of a seed, and others than the base's.
            clips=ClipSource(MovingCrops(replace(schedule.data, seed=100 + seed)), checkpoint.autoencoder),  # type: ignore[arg-type]
            objective=variant.method.objective(checkpoint, module, options),
            metadata={"i2v.train_options": json.dumps(chosen)},
        )
        trainer = Trainer(task, self._train(f"seed{seed}/{name}", schedule.variant_steps, schedule.learning_rate, seed))
        trainer.resume()
        on_step = self.on_step
        trainer.run(on_step and (lambda step, loss: on_step(name, step, schedule.variant_steps, loss)))

    def _train(self, name: str, steps: int, learning_rate: float, seed: int) -> TrainConfig:
        schedule = self.schedule
        return TrainConfig(
            output_dir=str(self.folder / name),
            max_train_steps=steps,
            train_batch_size=schedule.batch,
            learning_rate=learning_rate,
            lr_warmup_steps=min(100, steps // 8),
            ema_decay=0.995 if steps >= 2000 else 0.99,
            mixed_precision="bf16",
            device=schedule.device,
            seed=seed,
            checkpointing_steps=100,
        )


def _finished(path: Path, steps: int) -> bool:
    """Whether the weights for users were written after the last step."""
    from safetensors import safe_open

    if not path.exists():
        return False
    with safe_open(path, "pt") as file:
        return int((file.metadata() or {}).get("i2v.train_steps", 0)) >= steps
