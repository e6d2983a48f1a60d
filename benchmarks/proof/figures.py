"""The figures of the proof's page."""

from pathlib import Path

import torch
from einops import rearrange
from safetensors.torch import load_file

from i2v_core.files import atomic_path

from .samplings import SAMPLINGS
from .verdicts import Verdict

COLORS = {"confirmed": "#009e73", "not separable": "#888888", "reversed": "#d55e00"}
SCALE = 2  # pixels of the sheet for one of the clip
LABEL = 150


def draw_differences(verdicts: list[Verdict], path: Path) -> None:
    """Every claim's difference with its interval, in units of half the interval and the least effect that counts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.28 * len(verdicts) + 1))
    for line, verdict in enumerate(reversed(verdicts)):
        d = verdict.difference
        unit = max((d.high - d.low) / 2, abs(verdict.claim.effect), 1e-9)
        axes.plot([d.low / unit, d.high / unit], [line, line], color=COLORS[verdict.word], linewidth=2)
        axes.plot(d.mean / unit, line, "o", color=COLORS[verdict.word], markersize=4)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=2)
    labels = [f"{v.claim.experiment}  {v.claim.measure}: {v.claim.more} - {v.claim.less}" for v in reversed(verdicts)]
    axes.set_yticks(range(len(verdicts)), labels, fontsize=7)
    axes.set_xlabel("difference, claimed sign to the right (unit: half its interval or the least effect)", fontsize=8)
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format=path.suffix.removeprefix("."), bbox_inches="tight")
    pyplot.close(figure)


def draw_clips(folder: Path, path: Path, items: tuple[int, ...] = (3, 4)) -> bool:
    """One strip of frames for each row whose clips lie in `folder`, of the same items; tell whether there were any."""
    from PIL import Image, ImageDraw

    strips = {}
    for name in SAMPLINGS:
        kept = folder / "seed0" / f"{name}.clips.safetensors"
        if kept.exists() and not name.startswith("grid_"):
            clips = load_file(kept)["clips"]
            strips[name] = rearrange(clips[list(items)], "b c t h w -> h (b t w) c")
    if not strips:
        return False
    height, width = next(iter(strips.values())).shape[:2]
    sheet = Image.new("RGB", (LABEL + SCALE * width, SCALE * height * len(strips)), "white")
    draw = ImageDraw.Draw(sheet)
    for line, (name, strip) in enumerate(strips.items()):
        picture = Image.fromarray(strip.to(torch.uint8).numpy()).resize((SCALE * width, SCALE * height), 0)
        sheet.paste(picture, (LABEL, SCALE * height * line))
        draw.text((4, SCALE * height * line + SCALE * height // 2 - 6), name, "black")
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="JPEG", quality=85)
    return True
