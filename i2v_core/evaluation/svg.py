"""Curves over the frames of a clip as inline SVG."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 150, 16, 40
# Distinct also for the color-blind (Okabe and Ito).
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933")


def value_range(curves: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """Limits of the vertical axis: the values' own with a margin, never empty."""
    values = [value for curve in curves.values() for value in curve]
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def draw_curves(curves: Mapping[str, Sequence[float]], label: str, first: int = 1) -> str:
    """Draw curves by name over the frame number, counted from `first`, as an `<svg>` element.

    Raises ValueError if there is nothing to draw.
    """
    if not any(curves.values()):
        raise ValueError("There are no curves to draw.")
    low, high = value_range(curves)
    frames = max(len(curve) for curve in curves.values())
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(frame: int, value: float) -> tuple[float, float]:
        x = LEFT + inner_width * frame / max(frames - 1, 1)
        return x, TOP + inner_height * (high - value) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}" class="curves">']
    for step in range(5):
        value = low + (high - low) * step / 4
        _, y = place(0, value)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for frame in sorted({0, frames // 2, frames - 1}):
        x, _ = place(frame, low)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{frame + first}</text>')
    parts.append(f'<text x="{LEFT + inner_width / 2}" y="{HEIGHT - 6}" text-anchor="middle">frame</text>')
    for i, (name, curve) in enumerate(curves.items()):
        color = COLORS[i % len(COLORS)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(frame, value) for frame, value in enumerate(curve)))
        parts.append(f'<polyline points="{points}" stroke="{color}"><title>{escape(name)}</title></polyline>')
        x, y = WIDTH - RIGHT + 12, TOP + 14 + 18 * i
        parts.append(f'<line x1="{x}" y1="{y - 4}" x2="{x + 18}" y2="{y - 4}" stroke="{color}" class="key"/>')
        parts.append(f'<text x="{x + 24}" y="{y}">{escape(name)}</text>')
    return "".join([*parts, "</svg>"])
