"""Configuration of a training: a TOML file, typed; an unknown key is an error, and the resolved whole is kept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..data.moving_crops import MovingCropsConfig
from ..decoding import RATES, SEEDS, check_ranges
from ..diffusion.prediction import Prediction
from ..diffusion.schedule import Betas
from ..model.patch_autoencoder import PatchAutoencoderConfig
from ..model.text_encoder import TextEncoderConfig
from ..model.video_unet import VideoUNetConfig
from ..presets import Preset


@dataclass(frozen=True)
class ModelConfig:
    """The model that is trained, or the base of an adapter.

    Attributes:
        pretrained_model_name_or_path: checkpoint to begin with; only `video_base` does without one.
        unet, autoencoder, text_encoder, preset: what `video_base` makes; other methods take the checkpoint's, or
            files: `vae`, `text_encoder` and `image_encoder` are paths then, and `preset` is a name in `PRESETS`.
    """

    pretrained_model_name_or_path: str | None = None
    unet: VideoUNetConfig | None = None
    autoencoder: PatchAutoencoderConfig | None = None
    text_encoder: TextEncoderConfig | str | None = None
    preset: Preset | str | None = None
    vae: str | None = None
    image_encoder: str | None = None


@dataclass(frozen=True)
class MethodConfig:
    """The method that is trained, and its settings.

    Attributes:
        name: a name of a method, or `video_base`.
        adapter: configuration of the adapter's network.
        options: of the method itself.
    """

    name: str
    adapter: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoraConfig:
    """Rank and layers of a LoRA (arXiv:2106.09685).

    Attributes:
        rank: of the matrices. alpha: their product counts alpha / rank.
        layers: attention within frames, over frames, or both; a training takes those that its method trains along.

    Raises ValueError for a rank below 1.
    """

    rank: int = 16
    alpha: float = 16.0
    layers: Literal["all", "spatial", "temporal"] = "all"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"a LoRA needs a rank of at least 1, got {self.rank}")


@dataclass(frozen=True)
class EmaConfig:
    """The moving average of the trained weights, which is what users get.

    Attributes:
        decay: share that the average keeps at a step, once it has warmed up; 0 for no average.
    """

    decay: float = 0.998


@dataclass(frozen=True)
class TrainConfig:
    """Length, place and batch of a training.

    Attributes:
        train_batch_size: clips of one process at once; times processes and accumulation makes a step.
        gradient_checkpointing: compute blocks again in the backward pass instead of keeping their activations.
        device: "auto" takes what `accelerate` finds.
        checkpointing_steps: between two checkpoints, from which a run can be resumed.
        checkpoints_total_limit: older ones are deleted; None keeps all.
        resume_from_checkpoint: "latest", "no", or the folder of one checkpoint.
        output_name: beginning of the results' names; None takes the method's.
        find_unused_parameters: for several processes, where a step may leave trained weights without a gradient.
    """

    output_dir: str
    max_train_steps: int
    train_batch_size: int = 16
    gradient_accumulation_steps: int = 1
    gradient_checkpointing: bool = False
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    device: Literal["auto", "cpu"] = "auto"
    seed: int = 0
    checkpointing_steps: int = 200
    checkpoints_total_limit: int | None = 2
    resume_from_checkpoint: str = "latest"
    output_name: str | None = None
    dataloader_num_workers: int = 0
    find_unused_parameters: bool = False
    ema: EmaConfig = field(default_factory=EmaConfig)

    def __post_init__(self) -> None:
        check_ranges(self, seed=SEEDS, dataloader_num_workers=(0, 1024))


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its learning rates.

    Attributes:
        optimizer: "adamw8bit" needs bitsandbytes and a GPU.
        learning_rate: of all networks that `param_groups` does not name; None takes the method's rates, the paper's.
        param_groups: rates by network, such as {"adapter": 2e-4, "unet": 2e-6}.
        lr_scheduler: after the warm-up, down to `final_lr_ratio` of the rate at the last step.
        max_grad_norm: longer gradients are shortened to this norm.
    """

    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    learning_rate: float | None = None
    param_groups: Mapping[str, float] = field(default_factory=dict)
    lr_scheduler: Literal["constant", "linear", "cosine"] = "linear"
    lr_warmup_steps: int = 100
    final_lr_ratio: float = 0.05
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        positive = (0.0, math.inf)
        check_ranges(
            self, learning_rate=positive, lr_warmup_steps=positive, final_lr_ratio=(0, 1), weight_decay=positive,
            max_grad_norm=positive,
        )  # fmt: skip


@dataclass(frozen=True)
class DiffusionConfig:
    """Distribution of the time steps, noise schedule, and weights of the loss.

    Attributes:
        betas: "linear" trains on TRIP's (1e-4 to 2e-2) in place of the base's own; an adapter's file remembers it, and
            generation follows.
        prediction: what a new model answers; None takes the preset's. An adapter keeps its base's.
        snr_gamma: weighs the clips' errors by Min-SNR-gamma; None weighs them alike.
        noisy_share: share of the time steps that is drawn from the noisiest part of the schedule, where small models
            decide the motion; the part begins at `noisy_from` of the schedule. 0, the papers', draws all uniformly.
    """

    prediction: Prediction | None = None
    snr_gamma: float | None = None
    noisy_share: float = 0.0
    noisy_from: float = 0.6
    betas: Betas = "base"

    def __post_init__(self) -> None:
        check_ranges(self, snr_gamma=(0, math.inf), noisy_share=(0, 1), noisy_from=(0, 1))


@dataclass(frozen=True)
class ConditioningConfig:
    """Shares of clips that are trained without their text or image.

    Attributes:
        text_drop, image_drop: shares; None takes the method's. With `drop_mode` "independent" their product loses both.
        drop_mode: "exclusive" draws one fate for each clip: text lost, image lost, or both with the share `both_drop`.
            None takes the method's.
    """

    text_drop: float | None = None
    image_drop: float | None = None
    drop_mode: Literal["independent", "exclusive"] | None = None
    both_drop: float = 0.05

    def __post_init__(self) -> None:
        check_ranges(self, text_drop=(0, 1), image_drop=(0, 1), both_drop=(0, 1))


@dataclass(frozen=True)
class ValidationConfig:
    """Previews: the same picture, prompt and seed every time.

    Attributes:
        validation_steps: between two previews; 0 for none.
        image: picture file; None takes the given image, and its caption, of the data's clip number `seed`.
        prompt: None takes the caption of that clip.
        num_inference_steps, guidance, frames: None takes the preset's.
        fps: of the video file.
    """

    validation_steps: int = 0
    image: str | None = None
    prompt: str | None = None
    seed: int = 0
    num_inference_steps: int | None = None
    guidance: float | None = None
    frames: int | None = None
    fps: float = 8.0

    def __post_init__(self) -> None:
        several = (1, math.inf)
        check_ranges(
            self, validation_steps=(0, math.inf), seed=SEEDS, num_inference_steps=several, frames=several, fps=RATES
        )


@dataclass(frozen=True)
class LoggingConfig:
    """Logging during a training.

    Attributes:
        report_to: "tensorboard" writes its events to `output_dir/tensorboard`.
        logging_steps: between two rows of `log.jsonl`.
        probe_steps: between two probes of what words and picture are worth (`probe.py`), in the log's rows; 0 for none.
        probe_clips: answered by each of them, twelve times.
        probe_unseen: of pictures and phrases that no training saw; false takes new clips of the training's own, for a
            base that knows by name only what it has seen.
        plan_steps: measured before the first step to tell how long it will take, without changing anything; 0 for none.
    """

    report_to: Literal["tensorboard", "none"] = "tensorboard"
    logging_steps: int = 20
    probe_steps: int = 500
    probe_clips: int = 8
    probe_unseen: bool = True
    plan_steps: int = 2

    def __post_init__(self) -> None:
        check_ranges(self, probe_steps=(0, math.inf), probe_clips=(1, math.inf), plan_steps=(0, math.inf))


@dataclass(frozen=True)
class TrainingConfig:
    """One training. `data` is the configuration of one of the kinds in `datasets.DATASETS`.

    With `lora` the base's attention gets a LoRA where the method would train weights of the base in full.

    Raises ValueError for a number out of its range.
    """

    method: MethodConfig
    train: TrainConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    data: Any = field(default_factory=MovingCropsConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    lora: LoraConfig | None = None
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    def __post_init__(self) -> None:
        train = self.train
        for name in ("train_batch_size", "gradient_accumulation_steps", "checkpointing_steps", "max_train_steps"):
            if getattr(train, name) < 1:
                raise ValueError(f"train.{name} must be at least 1, got {getattr(train, name)}")
        if train.checkpoints_total_limit is not None and train.checkpoints_total_limit < 1:
            raise ValueError(f"train.checkpoints_total_limit must be at least 1, got {train.checkpoints_total_limit}")
        if not 0 <= train.ema.decay < 1:
            raise ValueError(f"train.ema.decay must be in [0, 1), got {train.ema.decay}")
        if self.logging.logging_steps < 1:
            raise ValueError(f"logging.logging_steps must be at least 1, got {self.logging.logging_steps}")

    @property
    def name(self) -> str:
        """Beginning of the results' names."""
        return self.train.output_name or self.method.name
