"""Remake pictures of the documentation from real runs on the models that come with the pack.

    python tools/pictures.py examples [NODE ...]        web/docs/NODE.jpg, what tools/examples.py says
    python tools/pictures.py workflows [WORKFLOW ...]   docs/workflows/WORKFLOW.jpg, docs/workflows.md and the
                                                        thumbnail workflows/WORKFLOW.jpg

Without names all of them. Needs what `python3 dev.py test` installs.
"""

import argparse
import copy
import json
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from tools.comfy_server import ComfyServer
    from tools.examples import Changes, Row

Graph = dict[str, dict[str, Any]]
Box = tuple[float, float, float, float]  # left, top, right, bottom, in the canvas's own units

ROOT = Path(__file__).resolve().parent.parent
CELL, LABEL, GAP = 96, 170, 4  # pixels of a frame's side, of a label, and between cells
THUMBNAIL = (768, 512)
GRAPH_WIDTH, LARGEST = 1400, 60_000  # pixels and bytes of a picture of a graph
MARGIN = 30.0
PAPER, CANVAS = (255, 255, 255), (24, 24, 24)
RUNS = "## Run as they are"  # heading in workflows/README.md

BARE = {"Comfy.Graph.CanvasInfo": False, "Comfy.Graph.CanvasMenu": False, "Comfy.Minimap.Visible": False}
FOCUS = "() => window.app.extensionManager.command.execute('Workspace.ToggleFocusMode')"
SHOW = """async (ui) => {
  await window.app.loadGraphData(ui)
  await new Promise((resolve) => setTimeout(resolve, 1500))
  return Object.fromEntries(window.app.graph.nodes.map((node) => [node.id, [...node.getBounding()]]))
}"""
RUN = """async () => {
  const success = new Promise((resolve) => window.app.api.addEventListener('execution_success', resolve))
  await window.app.queuePrompt(0)
  await success
}"""
LOOK = """async ([left, top]) => {
  const { canvas } = window.app
  canvas.ds.scale = 1
  canvas.ds.offset = [-left, -top]
  canvas.setDirty(true, true)
  await new Promise((resolve) => setTimeout(resolve, 1500))
}"""
HIDE = ".splitter-overlay-root, button[aria-label], .p-toast { visibility: hidden !important }"


def changed(graph: Graph, changes: "Changes") -> Graph:
    """A copy of an API workflow with inputs ("9.cfg") or whole nodes ("20") replaced."""
    graph = copy.deepcopy(graph)
    for place, value in changes.items():
        number, _, name = place.partition(".")
        if name:
            graph[number]["inputs"][name] = value
        else:
            graph[number] = copy.deepcopy(value)
    return graph


def api_workflow(name: str) -> Graph:
    return dict(json.loads((ROOT / f"workflows/api/{name}.json").read_text(encoding="utf-8")))


def run(server: "ComfyServer", graph: Graph) -> "list[Image]":
    """The frames of the video that the last node of a workflow writes; its prefix is changed."""
    from PIL import Image

    from i2v_core.video import read_video

    for node in graph.values():
        if node["class_type"] == "I2VCombineVideo":  # the host says nothing of a run that it remembers
            node["inputs"]["filename_prefix"] = uuid.uuid4().hex
    entry = server.run(graph)
    last = entry["outputs"][max(entry["outputs"], key=int)]
    (item,) = [each for each in last["images"] if "format" in each]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / item["filename"]
        path.write_bytes(server.view(item))
        return [Image.fromarray(frame.numpy()) for frame in read_video(path).frames]


def sheet(strips: "Sequence[tuple[str, Sequence[Image]]]") -> "Image":
    """Labeled strips below one another; strips of one frame stand side by side below their labels."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(14)
    single = all(len(frames) == 1 for _, frames in strips)
    if single and len(strips) == 1:
        return strips[0][1][0]
    cell, label = (240, 24) if single else (CELL, LABEL)
    count = max(len(frames) for _, frames in strips)
    size = (
        (len(strips) * (cell + GAP), label + cell)
        if single
        else (label + count * (cell + GAP), len(strips) * (cell + GAP))
    )
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    for row, (name, frames) in enumerate(strips):
        corner = (row * (cell + GAP), 0) if single else (0, row * (cell + GAP))
        draw.text((corner[0] + 2, corner[1] + (4 if single else cell // 2 - 8)), name, fill=(0, 0, 0), font=font)
        for column, frame in enumerate(frames):
            place = (corner[0], label) if single else (label + column * (cell + GAP), corner[1])
            picture.paste(frame.resize((cell, cell), Image.Resampling.BICUBIC), place)
    return picture


def example(server: "ComfyServer", strips: "Sequence[Row]") -> "Image":
    """The sheet of an example's runs."""
    shown = []
    for row in strips:
        frames = run(server, changed(api_workflow(row.workflow), row.changes))
        shown.append((row.label, [frames[i] for i in row.frames] if row.frames else frames))
    return sheet(shown)


def photograph(page: Any, ui: dict[str, Any], nodes: Sequence[str] = (), *, run: bool = False) -> "Image":
    """The canvas around some nodes of a workflow (all, if none are named), at its own scale, after a run if `run`."""
    import io

    from PIL import Image

    boxes = page.evaluate(SHOW, ui)
    if run:
        page.evaluate(RUN)
        page.wait_for_timeout(4000)
        boxes = page.evaluate("() => Object.fromEntries(app.graph.nodes.map((n) => [n.id, [...n.getBounding()]]))")
    wanted = [boxes[number] for number in nodes or boxes]
    left, top = (min(box[axis] for box in wanted) - MARGIN for axis in (0, 1))
    right, bottom = (max(box[axis] + box[axis + 2] for box in wanted) + MARGIN for axis in (0, 1))
    page.set_viewport_size({"width": round(right - left), "height": round(bottom - top)})
    page.evaluate(LOOK, [left, top])
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.evaluate("() => { window.app.nodeOutputs = {} }")  # or the next graph's nodes of the same ids show them
    return picture


def save(picture: "Image", path: Path, *, width: int, largest: int) -> None:
    """Write a JPEG of at most so many pixels and bytes."""
    from PIL import Image

    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    path.parent.mkdir(exist_ok=True)
    for quality in range(90, 20, -5):
        picture.save(path, quality=quality, optimize=True)
        if path.stat().st_size <= largest:
            return
    raise ValueError(f"{path.name} stays above {largest} bytes: show less of it, or make it narrower than {width}.")


def thumbnail(graph: "Image", frames: "Sequence[Image]") -> "Image":
    """First, middle and last frame above the graph; the graph alone where there are no frames."""
    from PIL import Image, ImageOps

    picture = Image.new("RGB", THUMBNAIL, CANVAS)
    width, height = THUMBNAIL[0], THUMBNAIL[1] // 2 if frames else THUMBNAIL[1]
    # Alone, a wide graph shows the part behind its note.
    small = ImageOps.contain(graph, (width, height)) if frames else ImageOps.fit(graph, THUMBNAIL, centering=(0.2, 0.5))
    picture.paste(small, ((width - small.width) // 2, THUMBNAIL[1] - height + (height - small.height) // 2))
    for place, index in enumerate((0, (len(frames) - 1) // 2, len(frames) - 1) if frames else ()):
        cell = ImageOps.contain(frames[index], (width // 3, height), Image.Resampling.BICUBIC)
        picture.paste(cell, (place * width // 3 + (width // 3 - cell.width) // 2, (height - cell.height) // 2))
    return picture


def runnable() -> set[str]:
    """The workflows that the index says need no file."""
    index = (ROOT / "workflows/README.md").read_text(encoding="utf-8")
    table = index.split(RUNS, 1)[1].split("\n## ", 1)[0]
    return {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}


def title(ui: dict[str, Any]) -> str:
    """The heading of the note on a canvas."""
    note = next(node for node in ui["nodes"] if node["type"] == "MarkdownNote")
    return str(note["widgets_values"][0]).splitlines()[0].lstrip("# ")


def write_index() -> None:
    """Write docs/workflows.md: every workflow with the picture of its graph."""
    lines = ["# The workflows, as the editor shows them", ""]
    lines += ["Made by `python tools/pictures.py workflows`. What each needs: [the index](../workflows/README.md).", ""]
    for path in sorted((ROOT / "workflows").glob("*.json")):
        heading = title(json.loads(path.read_text(encoding="utf-8")))
        lines += [f"## {path.stem}", "", heading, "", f"![Graph of {path.stem}](workflows/{path.stem}.jpg)", ""]
    (ROOT / "docs/workflows.md").write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")


def make_examples(server: "ComfyServer", page: Any, names: Sequence[str]) -> None:
    from tools.examples import EXAMPLES, Canvas
    from tools.lay_out_workflow import lay_out

    for name in names or EXAMPLES:
        what = EXAMPLES[name]
        if isinstance(what, Canvas):
            ui = lay_out(page, changed(api_workflow(what.workflow), what.changes), "")
            picture = photograph(page, ui, what.nodes, run=what.run)
        else:
            picture = example(server, what)
        save(picture, ROOT / f"web/docs/{name}.jpg", width=1000, largest=90_000)
        print(name)


def make_workflows(server: "ComfyServer", page: Any, names: Sequence[str]) -> None:
    runs = runnable()
    for path in sorted((ROOT / "workflows").glob("*.json")):
        if names and path.stem not in names:
            continue
        graph = photograph(page, json.loads(path.read_text(encoding="utf-8")))
        frames = run(server, api_workflow(path.stem)) if path.stem in runs else []
        save(graph, ROOT / f"docs/workflows/{path.stem}.jpg", width=GRAPH_WIDTH, largest=LARGEST)
        save(thumbnail(graph, frames), path.with_suffix(".jpg"), width=THUMBNAIL[0], largest=LARGEST)
        print(path.stem)
    write_index()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("examples", "workflows"))
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    sys.path[1:1] = [str(ROOT)]
    import dev
    from tools.comfy_server import ComfyServer
    from tools.front_end import front_end

    if (chromium := dev.find_chromium()) is None:
        raise SystemExit("No Chromium was found: install it, or run `python3 dev.py test` as root on Debian.")
    with tempfile.TemporaryDirectory() as base:
        arguments = [*dev.isolated(Path(base)), "--cpu"]
        log = Path(base) / "server.log"
        with ComfyServer(Path(sys.executable), dev.find_host(), *arguments, log=log) as server:
            server.post("/settings", BARE)
            with front_end(server, chromium, ROOT / "demo/images") as page:
                page.evaluate(FOCUS)
                page.add_style_tag(content=HIDE)
                make = make_examples if options.what == "examples" else make_workflows
                make(server, page, options.names)
    return 0


if __name__ == "__main__":
    sys.exit(main())
