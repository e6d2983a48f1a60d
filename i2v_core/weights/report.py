"""Report of a checkpoint's contents, in words."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from ..presets import Preset
from .adapters import AdapterContents
from .contents import CheckpointContents
from .refusals import list_names

PARTS = {
    "U-Net": "unet",
    "image projection": "image_projection",
    "autoencoder": "autoencoder",
    "text encoder (ours)": "text_encoder",
    "CLIP text tower": "clip_text",
    "CLIP image tower": "clip_vision",
}

TABLE_HEAD = f"{'part':<20} {'tensors':>8} {'parameters':>12} {'size':>10}  precision"


def describe(contents: CheckpointContents) -> str:
    """Describe a checkpoint in lines: what it is, what it was trained on, its parts, and what was left aside."""
    return "\n".join(_lines(contents))


def describe_adapter(contents: AdapterContents) -> str:
    """Describe an adapter in lines: its method and configuration, and the base's weights that it brings along."""
    lines = (
        f"adapter of {contents.kind.replace('_', ' ')}",
        TABLE_HEAD,
        _part(contents.kind.replace("_", " "), contents.tensors),
        _part("of the base's U-Net", contents.unet),
        str(contents.config),
    )
    return "\n".join(lines)


def _lines(contents: CheckpointContents) -> Iterator[str]:
    yield f"{contents.preset.name} ({contents.dialect} names), license of the weights: {contents.preset.license}"
    if contents.alternatives:
        others = " or ".join(contents.alternatives)
        yield f"The file does not tell it from {others}; name that preset if it is one."
    yield _training(contents.preset)
    yield TABLE_HEAD
    for label, field in PARTS.items():
        yield _part(label, getattr(contents, field))
    if contents.left_aside:
        yield f"left aside: {list_names(contents.left_aside)}"
    for field in ("unet", "image_projection", "autoencoder", "text_encoder"):
        config = getattr(contents, f"{field}_config")
        if config is not None:
            yield str(config)


def _training(preset: Preset) -> str:
    schedule = preset.schedule
    extra = ["zero terminal SNR"] if schedule.zero_terminal_snr else []
    extra += [f"rescaled to {schedule.rescale_base}"] if schedule.rescale_base is not None else []
    rate = "" if preset.fps is None else f", {str(preset.fps_meaning).replace('_', ' ')} {preset.fps}"
    return (
        f"predicts {preset.prediction}; schedule {', '.join([schedule.beta_schedule, *extra])}; trained on "
        f"{preset.frames} frames of {preset.width}x{preset.height}{rate}"
    )


def _part(label: str, tensors: Mapping[str, Tensor] | None) -> str:
    if not tensors:
        return f"{label:<20} {'none':>8}"
    parameters = sum(tensor.numel() for tensor in tensors.values())
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    return f"{label:<20} {len(tensors):>8} {parameters / 1e6:>10.2f} M {size / 1e6:>7.1f} MB  {', '.join(kinds)}"
