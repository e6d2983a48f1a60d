"""The methods by name, and the training of one from one configuration."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.datasets import keep_latents, open_data
from ..decoding import decode
from ..denoiser import Denoiser
from ..files import StrPath
from ..methods import METHODS, Method
from ..methods.method import Tools, Training
from ..weights import Checkpoint, load_checkpoint, read_adapter
from ..weights.adapters import BETAS, OPTIONS, AdapterContents, write_adapter
from ..weights.checkpoint import lacking_parts
from ..weights.contents import Tensors, below
from ..weights.files import weights_files
from .checkpoint_files import lora_beside
from .config import LoraConfig, ModelConfig, TrainingConfig, ValidationConfig
from .engine import OnPlan, OnStep, TrainingTask, plan, train
from .image_encoder import train_on_crops
from .lock import only_one
from .lora import add_lora, merged_weights, save_lora
from .objective import LossContext, Objective, denoise, with_drops
from .plan import Plan
from .preview import make_preview
from .video_base import plan_video_base, run_video_base

VIDEO_BASE = "video_base"  # a complete model; all others train an adapter beside one
TOOLS = Tools(read_adapter, train_on_crops)


def run(config: TrainingConfig, on_step: OnStep | None = None, on_plan: OnPlan | None = None) -> Path:
    """Train what a configuration describes, going on where an earlier run was interrupted; return the file for users.

    Arguments and what is raised as of `engine.train`; ValueError also for a base that cannot be trained on, and if
    another training has the folder.
    """
    with only_one(config.train.output_dir):
        if config.method.name == VIDEO_BASE:
            return run_video_base(config, on_step, on_plan)
        return train(adapter_task(config), config, on_step, on_plan)


def plan_run(config: TrainingConfig) -> Plan:
    """Plan of a run, measured over a few steps; nothing is written."""
    return plan_video_base(config) if config.method.name == VIDEO_BASE else plan(adapter_task(config), config)


def adapter_task(
    config: TrainingConfig, checkpoint: Checkpoint | None = None, method: type[Method] | None = None
) -> TrainingTask:
    """The configuration's adapter and objective on its base.

    Args:
        checkpoint: the base, where it is loaded already.
        method: in place of the one that the configuration names.

    Raises ValueError for an unknown method, wrong options, a base that lacks a network, and a LoRA of nothing.
    """
    method = method or find_method(config.method.name)
    training = training_of(method)
    options = decode(training.options, config.method.options, "method.options")
    adapter_config = decode(method.config, config.method.adapter, "method.adapter")
    path = config.model.pretrained_model_name_or_path
    if path is None:
        raise ValueError(
            f"{config.method.name} trains an adapter: name its base in model.pretrained_model_name_or_path"
        )
    checkpoint = checkpoint or load_base(path, config.model)
    companions = check_base(checkpoint)
    assert checkpoint.autoencoder is not None  # checked with the others
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        adapter = training.new(checkpoint, adapter_config)
        choose_trained(checkpoint.unet, training, options, config.lora)
    training.begin(adapter, options, TOOLS)
    context = loss_context(config, checkpoint, method.of(adapter, options), training)
    data = keep_latents(open_data(config.data), checkpoint.autoencoder, config.train.device, checkpoint.text_encoder)

    def preview(validation: ValidationConfig) -> Tensor:
        return make_preview(context.checkpoint, context.denoiser, data, validation)

    return TrainingTask(
        name=config.name,
        objective=Objective(
            {"adapter": adapter, "unet": checkpoint.unet}, partial(denoise, context), config.train.seed
        ),
        data=data,
        autoencoder=checkpoint.autoencoder,
        write=partial(_write, method.kind, adapter, _trained(checkpoint.unet), config.lora),
        rates=training.learning_rates(options),
        companions=companions,
        preview=preview,
        base=path,
        metadata={
            "i2v.base_sha256": file_sha256(path),
            OPTIONS: json.dumps(asdict(options)),
            BETAS: config.diffusion.betas,
        },
        timesteps=checkpoint.preset.schedule.timesteps,
    )


def loss_context(config: TrainingConfig, checkpoint: Checkpoint, method: Method, training: Training) -> LossContext:
    """The context of the objective; raises ValueError for settings that the method or the base does not allow."""
    preset, prediction = checkpoint.preset.on(config.diffusion.betas), config.diffusion.prediction
    denoiser = Denoiser.of(checkpoint.unet, preset, method)
    if prediction not in (None, denoiser.prediction):
        raise ValueError(
            f"diffusion.prediction is '{prediction}', but the base predicts '{denoiser.prediction}', and an adapter "
            "keeps what its base predicts; leave the key out"
        )
    conditioning = with_drops(config.conditioning, training.text_drop, training.image_drop, training.drop_mode)
    return LossContext(denoiser, checkpoint, config.diffusion, conditioning)


def load_base(path: StrPath, config: ModelConfig) -> Checkpoint:
    """The base, with the networks beside it from the files that the configuration names.

    Raises ValueError for a text encoder or preset that is described and not named, and as `load_checkpoint`.
    """
    text_encoder, preset = config.text_encoder, config.preset
    if not isinstance(text_encoder, str | None) or not isinstance(preset, str | None):
        raise ValueError(
            "[model.text_encoder] and [model.preset] describe what video_base makes; beside a base name file and preset"
        )
    return load_checkpoint(
        path, preset=preset, vae=config.vae, text_encoder=text_encoder, image_encoder=config.image_encoder
    )


def check_base(checkpoint: Checkpoint) -> list[nn.Module]:
    """The frozen networks beside a base's U-Net; raises ValueError for one that is missing, with the file it is in."""
    if lacking := lacking_parts(checkpoint):
        raise ValueError(
            f"training beside a checkpoint of '{checkpoint.preset.name}' is not possible: {'; and '.join(lacking)}; "
            "in a training's configuration the keys are model.vae, model.text_encoder and model.image_encoder"
        )
    found = (checkpoint.autoencoder, checkpoint.text_encoder, checkpoint.image_encoder, checkpoint.image_projection)
    return [network.requires_grad_(False) for network in found if network is not None]


def find_method(name: str) -> type[Method]:
    """The method that a configuration calls so; raises ValueError if there is none."""
    names = method_names()
    if name not in names:
        raise ValueError(f"there is no training of '{name}'; choose one of {', '.join([VIDEO_BASE, *names])}")
    return names[name]


def method_names() -> dict[str, type[Method]]:
    """The methods that can be trained by every name that a configuration may call them, the paper's own first."""
    return {name: method for method in METHODS.values() if method.training for name in method.training.names}


def training_of(method: type[Method]) -> Training:
    """Training of a method."""
    assert method.training is not None  # only such have names
    return method.training


def choose_trained(unet: nn.Module, training: Training, options: Any, lora: LoraConfig | None = None) -> None:
    """Have those weights of the base require gradients that are fine-tuned jointly, and no others.

    Args:
        lora: in their place, where they are attention's; all others then stay as they are.

    Raises ValueError for a LoRA where nothing of the base is trained.
    """
    jointly = {name for name, _ in unet.named_parameters() if training.trains(name, options)}
    if lora is not None and not jointly:
        raise ValueError(
            "a LoRA stands in for weights of the base, and with these method.options none of them is trained: leave "
            "[lora] out, or choose options that train the base along"
        )
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(name in jointly)
    if lora is not None:
        add_lora(unet, lora, jointly.__contains__)


def file_sha256(path: StrPath) -> str:
    """SHA-256 of a weights file, or of the parts of a split one behind each other."""
    digest = hashlib.sha256()
    for part in weights_files(Path(path)):
        with part.open("rb") as file:
            while block := file.read(2**24):
                digest.update(block)
    return digest.hexdigest()


def _trained(unet: nn.Module) -> frozenset[str]:
    return frozenset(name for name, parameter in unet.named_parameters() if parameter.requires_grad)


def _write(
    kind: str,
    adapter: nn.Module,
    trained: frozenset[str],
    lora: LoraConfig | None,
    path: StrPath,
    weights: Mapping[str, Tensor],
    metadata: Mapping[str, str],
) -> None:
    """Write an adapter of these weights, with those of its base that were fine-tuned jointly; a LoRA also by itself."""
    base: Tensors = below(weights, "unet.")
    if lora is None:
        unet = {name: tensor for name, tensor in base.items() if name in trained}
    else:
        unet = merged_weights(base, lora)
        save_lora(lora_beside(Path(path)), base, lora, metadata=metadata)
    contents = AdapterContents(kind, adapter.config, below(weights, "adapter."), unet, metadata)
    write_adapter(path, contents, dtype=torch.float16)
