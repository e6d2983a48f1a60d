"""A training in a few words, and the whole configuration that they stand for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..decoding import decode
from ..text_files import parse_toml
from ..weights import CheckpointContents, read_checkpoint
from .config import TrainingConfig
from .config_file import merged, parse_config
from .methods import find_method, method_names, training_of

LARGEST = 256  # pixels of a clip's shorter side, where nobody says more
WARM_UP = 100
# Every method once, by the name that its paper has.
NAMES = tuple(dict.fromkeys(training_of(method).names[0] for method in method_names().values()))


@dataclass(frozen=True)
class ShortConfig:
    """The settings of a training from the canvas.

    Attributes:
        method: one of `NAMES`.
        base: weights file of the model to train beside.
        folder: where the run lives; an earlier one in it goes on.
        name: of the result.
        data: folder of clips; None for the demo's generator.
        learning_rate: of the adapter; what a method trains of the base learns at the method's share of it.
        preview_steps: between two previews, 0 for none.
        cache: where what is found out about the clips is kept; None keeps it beside them.
        device: "cpu", or "auto" for a GPU, where single precision and kept activations would ask too much of it.
    """

    method: str
    base: Path
    folder: Path
    name: str
    data: Path | None
    steps: int
    batch: int
    learning_rate: float
    preview_steps: int = 0
    device: Literal["auto", "cpu"] = "auto"
    cache: Path | None = None

    def config(self, further: str = "") -> TrainingConfig:
        """The configuration: sizes are the base's, and TOML in `further` replaces or adds whatever it names.

        Raises ValueError for a base that is no model, an unknown key or a wrong value, and a method without an adapter.
        """
        try:
            config = parse_config(self._values(parse_toml(further)))
        except ValueError as error:
            raise ValueError(f"Cannot use this configuration: {error}") from error
        if config.method.name not in method_names():
            raise ValueError(f"'{config.method.name}' trains no adapter; choose one of {', '.join(NAMES)}")
        if (config.train.output_dir, config.name) != (str(self.folder), self.name):
            raise ValueError("train.output_dir and train.output_name come from the name of the result: leave them out")
        return config

    def _values(self, further: Mapping[str, Any]) -> dict[str, Any]:
        values = merged(self._usual(), further)
        method = values["method"]
        training = training_of(find_method(method["name"])) if method.get("name") in method_names() else None
        if training is None:
            return values
        rates = training.learning_rates(decode(training.options, method.get("options", {}), "method.options"))
        share = rates["unet"] / rates["adapter"] if rates else 1.0
        own = {"adapter": self.learning_rate, "unet": self.learning_rate * share}
        return merged({"optim": {"param_groups": own}}, values)

    def _usual(self) -> dict[str, Any]:
        base = read_checkpoint(self.base, described=True)
        training = training_of(find_method(self.method))
        on_gpu = {"mixed_precision": "bf16", "gradient_checkpointing": True} if self.device == "auto" else {}
        return {
            "model": {"pretrained_model_name_or_path": str(self.base)},
            "method": {"name": self.method, **training.usual(base, self.folder)},
            "data": self._data(base),
            "train": {
                "output_dir": str(self.folder), "output_name": self.name, "max_train_steps": self.steps,
                "train_batch_size": self.batch, "device": self.device, **on_gpu,
            },
            "optim": {
                "learning_rate": self.learning_rate, "lr_warmup_steps": min(WARM_UP, self.steps // 10),
            },
            "validation": {"validation_steps": min(self.preview_steps, self.steps)},
            "logging": {"report_to": "none", "logging_steps": max(1, min(20, self.steps // 10))},
        }  # fmt: skip

    def _data(self, base: CheckpointContents) -> dict[str, Any]:
        preset = base.preset
        factor = min(1.0, LARGEST / min(preset.height, preset.width))
        height, width = (round(side * factor / 64) * 64 for side in (preset.height, preset.width))
        if self.data is None:
            return {"kind": "moving_crops", "frames": preset.frames, "size": height}
        size = {"frames": preset.frames, "height": height, "width": width}
        kept = {} if self.cache is None else {"cache_directory": str(self.cache), "confined": True}
        return {"kind": "files", "path": str(self.data), **size, **kept}


def newest_preview(folder: Path) -> Path | None:
    """The video of a run's latest preview; its contact sheet, a .png that is written after it, lies beside it."""
    sheet = max((folder / "previews").glob("*.png"), default=None)
    return None if sheet is None else sheet.with_suffix(".mp4")


def report(config: TrainingConfig, result: Path, rows: Sequence[Mapping[str, float]]) -> str:
    """Report of a finished run, in lines for people; `rows` are those of its log."""
    train = config.train
    lines = [f"{config.method.name}: {train.max_train_steps} steps of {train.train_batch_size} clips, in {result}"]
    if rows:
        first, last = rows[0], rows[-1]
        lines.append(f"loss {first['loss']:.4g} at step {first['step']:.0f}, {last['loss']:.4g} at {last['step']:.0f}")
        lines.append(f"{last['seconds']:.0f} s of training steps, {last['clips_per_second']:.2f} clips per second")
    return "\n".join([*lines, f"log, previews and checkpoints: {train.output_dir}"])
