"""The report of an evaluation as one HTML file: tables, curves, and every clip to be played."""

import base64
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..video import clip_to_frames, to_bytes
from .items import ClipProtocol, Item, read_clip
from .measures import MEASURES
from .run import Record
from .svg import draw_curves

EMBED_ONE, EMBED_ALL = 2 << 20, 48 << 20  # bytes of video kept inside the file; larger ones are linked
SHEET_FRAMES, SHEET_HEIGHT = 8, 72
MOST_ROWS = 200  # clips with pictures; a page of thousands would not open
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1100px;padding:0 1em;color:#1a1a1a;background:#fff}
table{border-collapse:collapse;margin:.6em 0 1.4em}
th,td{padding:.25em .7em;text-align:right;border-bottom:1px solid #ddd}
th,td{white-space:nowrap}th:first-child,td:first-child{text-align:left;white-space:normal}
.scroll{overflow-x:auto}small,.note{color:#666}.prose td{white-space:normal;text-align:left}
svg.curves{max-width:640px;width:100%;font-size:12px}svg polyline{fill:none;stroke-width:2}svg .grid{stroke:#e4e4e4}
svg .key{stroke-width:3}video{height:144px;background:#000}.clip{border-top:1px solid #ddd;padding:.6em 0}
.clip figure{display:flex;gap:.8em;align-items:center;margin:.4em 0;flex-wrap:wrap}.clip img{max-width:100%}
.ordered{color:#007a3d}.reversed{color:#b00020;font-weight:600}.warning{background:#fff6d6;padding:.4em .8em}
"""


@dataclass
class Budget:
    """Bytes that may still be embedded."""

    left: int = EMBED_ALL

    def source(self, video: Path, report: Path) -> str:
        """Source of a video for the page: inside itself if it is small, else a file beside it."""
        size = video.stat().st_size
        if size <= min(EMBED_ONE, self.left):
            self.left -= size
            return f"data:video/mp4;base64,{base64.b64encode(video.read_bytes()).decode()}"
        return escape(Path(os.path.relpath(video.resolve(), report.resolve().parent)).as_posix(), quote=True)


def render_report(
    summary: Mapping[str, Any],
    items: Sequence[Item],
    records: Sequence[Record],
    protocol: ClipProtocol,
    report: Path,
) -> str:
    """The HTML text; `report` is where it will lie."""
    budget = Budget()
    shown = list(zip(items, records, strict=True))[:MOST_ROWS]
    clips = [_clip_row(item, record, protocol, budget, report) for item, record in shown]
    if len(items) > MOST_ROWS:
        clips.append(f"<p class=note>{len(items) - MOST_ROWS} more clips are measured and not shown here.</p>")
    return "\n".join(
        [
            "<!doctype html>", '<html lang="en"><meta charset="utf-8"><title>Evaluation</title>',
            f"<style>{STYLE}</style>", "<h1>Evaluation</h1>",
            f"<p>{summary['items']} clips; intervals are 95 % bootstrap over clips; differences are paired, to "
            f"<b>{escape(summary['baseline'])}</b>. A measure that cannot order the control rows supports no claim."
            "</p>",
            *_figures(summary), "<h2>Means</h2>", _means(summary), "<h2>Paired differences</h2>", _differences(summary),
            "<h2>Can the measure tell the control rows apart?</h2>", _orders(summary), "<h2>Whole sets</h2>",
            _sets(summary), *_categories(summary), "<h2>Not measured</h2>", _errors(summary),
            "<h2>How it was measured</h2>", f"<pre>{escape(_settings(summary))}</pre>", "<h2>Clips</h2>", *clips,
            "</html>",
        ]
    )  # fmt: skip


def contact_sheet(clip: Tensor) -> str:
    """Up to eight frames of a clip `c t h w` side by side, as a data address of a JPEG."""
    count = clip.shape[1]
    chosen = sorted({round(i * (count - 1) / max(SHEET_FRAMES - 1, 1)) for i in range(SHEET_FRAMES)})
    frames = to_bytes(clip_to_frames(clip[:, chosen])).cpu().numpy()
    strip = Image.fromarray(np.concatenate(list(frames), axis=1))
    strip = strip.resize((max(1, strip.width * SHEET_HEIGHT // strip.height), SHEET_HEIGHT))
    stream = io.BytesIO()
    strip.save(stream, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _figures(summary: Mapping[str, Any]) -> list[str]:
    found = ((MEASURES[name], curves) for name, curves in summary["curves"].items() if curves)
    return [
        f"<h2>{m.label}</h2><p class=note>{m.note} Mean over clips.</p>{draw_curves(c, m.label, m.first)}"
        for m, c in found
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "<p class=note>None.</p>"
    cells = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f'<div class="scroll"><table><tr>{"".join(f"<th>{c}</th>" for c in head)}</tr>{body}</table></div>'


def _interval(told: Mapping[str, Any] | None, digits: int) -> str:
    if told is None:
        return ""
    return f"{told['mean']:.{digits}f} <small>[{told['low']:.{digits}f}, {told['high']:.{digits}f}]</small>"


def _label(told: Mapping[str, Any]) -> str:
    return f'<span title="{escape(told["note"], quote=True)}">{escape(told["label"])}</span>'


def _means(summary: Mapping[str, Any]) -> str:
    rows = summary["rows"]
    return _table(
        ["measure", *map(escape, rows)],
        [[_label(told), *(_interval(told["rows"].get(row), told["digits"]) for row in rows)]
         for told in summary["measures"].values()],
    )  # fmt: skip


def _differences(summary: Mapping[str, Any]) -> str:
    rows = [row for row in summary["rows"] if row != summary["baseline"]]

    def cell(told: Mapping[str, Any], row: str) -> str:
        difference = told["differences"].get(row)
        mark = "" if difference is None or difference["separable"] else " (not separable)"
        return _interval(difference, told["digits"]) + mark

    measures = summary["measures"].values()
    return _table(
        ["measure", *(f"{escape(row)} - {escape(summary['baseline'])}" for row in rows)],
        [[_label(told), *(cell(told, row) for row in rows)] for told in measures],
    )


def _orders(summary: Mapping[str, Any]) -> str:
    return _table(
        ["measure", "must score higher", "than", "verdict"],
        [[_label(told), order["higher"], order["lower"],
          f'<span class="{order["verdict"].split()[0]}">{order["verdict"]}</span>']
         for told in summary["measures"].values() for order in told["orders"]],
    )  # fmt: skip


def _sets(summary: Mapping[str, Any]) -> str:
    rows, warnings = [], []
    for name, by_row in summary["sets"].items():
        for row, told in by_row.items():
            if "error" in told:
                continue
            numbers = ", ".join(f"{key} {value:.4g}" for key, value in told.items() if isinstance(value, int | float))
            rows.append([name, escape(row), numbers])
            warnings += [f"<p class=warning>{name}, {escape(row)}: {escape(told['warning'])}</p>"] * ("warning" in told)
    refused = {told["error"] for by_row in summary["sets"].values() for told in by_row.values() if "error" in told}
    notes = [f"<p class=note>{escape(sentence)}</p>" for sentence in sorted(refused)]
    floor = "<p class=note>floor: two disjoint draws of real clips, of floor_count each; compare at_floor_count.</p>"
    return "".join([_table(["measure", "row", "values"], rows), floor * bool(rows), *warnings, *notes])


def _categories(summary: Mapping[str, Any]) -> list[str]:
    """A table for every row: categories downwards, measures to the right."""
    categories = summary["categories"]
    if not categories:
        return []
    told = ["<h2>Categories</h2>"]
    for row in summary["rows"]:
        names = dict.fromkeys(
            name for of in categories.values() for name, by_row in of["values"].items() if row in by_row
        )
        cells = [
            [escape(category), str(of["items"]), *(_set_number(of["values"].get(n, {}).get(row), n) for n in names)]
            for category, of in categories.items()
        ]
        heads = (escape(MEASURES[name].label) if name in MEASURES else name for name in names)
        told.append(
            f"<details><summary>{escape(row)}</summary>{_table(['category', 'clips', *heads], cells)}</details>"
        )
    return told


def _set_number(value: float | None, name: str) -> str:
    return _number(value, name) if name in MEASURES else "" if value is None else f"{value:.4g}"


def _errors(summary: Mapping[str, Any]) -> str:
    table = _table(
        ["reason", "measures", "clips"],
        [[escape(told["sentence"]), escape(", ".join(told["measures"])), str(len(told["clips"]))]
         for told in summary["errors"]],
    )  # fmt: skip
    return f'<div class="prose">{table}</div>'


def _settings(summary: Mapping[str, Any]) -> str:
    told = summary["settings"] | {f"measured with, {kind}": name for kind, name in summary["networks"].items()}
    return "\n".join(f"{name}: {value}" for name, value in told.items())


def _clip_row(item: Item, record: Record, protocol: ClipProtocol, budget: Budget, report: Path) -> str:
    shown = {**item.videos, **({} if item.reference is None else {"truth": item.reference})}
    figures = []
    for label, path in shown.items():
        told = record["rows"].get(label, {"values": {}, "errors": {}})
        source = budget.source(path, report)
        video = f'<video controls loop muted playsinline preload="metadata" src="{source}"></video>'
        # A clip that cannot be read has no numbers either; its sentence stands above.
        sheet = f'<img alt="frames" src="{contact_sheet(read_clip(path, protocol)[0])}">' if "shape" in told else ""
        figures.append(f"<figure>{video}{sheet}<figcaption>{escape(label)}</figcaption></figure>")
    names = [name for name in MEASURES if any(
        isinstance(record["rows"].get(label, {}).get("values", {}).get(name), float) for label in shown
    )]  # fmt: skip
    rows = [
        [escape(label), *(_number(record["rows"].get(label, {}).get("values", {}).get(n), n) for n in names)]
        for label in shown
    ]
    table = _table(["", *(escape(MEASURES[name].label) for name in names)], rows)
    caption = escape(record["caption"] or "")
    return (
        f'<div class="clip"><b>{escape(item.name)}</b> {caption}<br>{"".join(figures)}'
        f"<details><summary>numbers</summary>{table}</details></div>"
    )


def _number(value: float | None, name: str) -> str:
    return "" if value is None else f"{value:.{MEASURES[name].digits}f}"
