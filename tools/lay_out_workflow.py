"""Turn `workflows/api/NAME.json` into `workflows/NAME.json` with the host's own front end.

    python tools/lay_out_workflow.py animate_image --note note.md

Nodes stand in columns by their place in the graph, a note with the text of `--note` stands first; `tools/pictures.py`
makes pictures of it. Needs what `python3 dev.py test` installs.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

Graph = dict[str, dict[str, Any]]
Size = tuple[float, float]
Place = tuple[float, float, float, float]  # left, top, width, height

GAP = 60.0  # between columns; rows stand half as far apart, below a title bar
TITLE_BAR = 40.0
READABLE = 0.65  # the editor leaves out all texts when it shows the canvas smaller
NOTE_SIZE = (420.0, 480.0)
# The editor computes a node's size before its picture or text is there.
ROOM = {"LoadImage": (300, 400), "CLIPTextEncode": (340, 140), "I2VCombineVideo": (400, 620), "SaveImage": (320, 360)}
ROOM |= {"PreviewAny": (380, 300), "PreviewImage": (320, 360)}

LOAD = """async (api) => {
  await window.app.loadApiJson(api, 'workflow')
  return Object.fromEntries(window.app.graph.nodes.map((node) => [node.id, [...node.computeSize()]]))
}"""
FINISH = """async ([api, places, note]) => {
  const graph = window.app.graph
  for (const node of graph.nodes) {
    const [x, y, width, height] = places[node.id]
    node.pos = [x, y]
    node.size = [width, height]
    node.title = api[node.id]._meta?.title ?? node.title
    for (const widget of node.widgets ?? []) if (widget.name === 'control_after_generate') widget.value = 'fixed'
  }
  if (note) {
    const node = LiteGraph.createNode('MarkdownNote')
    graph.add(node)
    node.title = 'Read me'
    const [x, y, width, height] = places.note
    node.pos = [x, y]
    node.size = [width, height]
    node.widgets[0].value = note
  }
  await new Promise((resolve) => setTimeout(resolve, 500))
  return [JSON.stringify(graph.serialize()), (await window.app.graphToPrompt()).output]
}"""


def columns(api: Graph) -> list[list[str]]:
    """Node ids by column: each right before its first user, and the results last."""
    users: dict[str, list[str]] = {number: [] for number in api}
    for number, node in api.items():
        for value in node["inputs"].values():
            if isinstance(value, list):
                users[value[0]].append(number)
    height: dict[str, int] = {}

    def from_the_end(number: str) -> int:
        if number not in height:
            height[number] = max((from_the_end(user) + 1 for user in users[number]), default=0)
        return height[number]

    last = max(map(from_the_end, api))
    return [[number for number in api if height[number] == last - column] for column in range(last + 1)]


def place(api: Graph, sizes: dict[str, Size], note: bool) -> dict[str, Place]:
    """Left, top, width and height of every node and of the `note`; no two overlap."""
    places: dict[str, Place] = {}
    x = 0.0
    if note:
        places["note"], x = (0.0, 0.0, *NOTE_SIZE), NOTE_SIZE[0] + GAP
    for column in columns(api):
        y, widest = 0.0, 0.0
        for number in column:
            wanted = ROOM.get(api[number]["class_type"], (270, 0))
            width, height = (max(pair) for pair in zip(sizes[number], wanted, strict=True))
            places[number] = (x, y, width, height)
            y, widest = y + height + TITLE_BAR + GAP / 2, max(widest, width)
        x += widest + GAP
    return places


def kept_note(path: Path) -> str:
    """The text of the note in a workflow that was laid out before."""
    if not path.is_file():
        return ""
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    return next((node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote"), "")


def lay_out(page: Any, api: Graph, note: str) -> dict[str, Any]:
    """The workflow in the editor's format.

    Raises ValueError for ids that are no numbers, unknown nodes, or a graph that does not come back as it went in.
    """
    if odd := [number for number in api if not number.isdigit()]:
        raise ValueError(f"the editor's ids are numbers; these are not: {', '.join(odd)}")
    known = page.evaluate("() => Object.keys(window.LiteGraph.registered_node_types)")
    if missing := {node["class_type"] for node in api.values()} - set(known):
        raise ValueError(f"the front end does not know these nodes: {', '.join(sorted(missing))}")
    sizes = page.evaluate(LOAD, api)
    places = place(api, sizes, bool(note))
    ui, exported = page.evaluate(FINISH, [api, places, note])
    for number, node in api.items():
        if exported.get(number, {}).get("inputs") != node["inputs"]:
            arrived = exported.get(number, {}).get("inputs")
            raise ValueError(f"node {number} ({node['class_type']}) went in as {node['inputs']}, came out as {arrived}")
    return json.loads(ui) | {"extra": {"ds": view(list(places.values()))}}


def view(places: list[Place]) -> dict[str, Any]:
    """The part of the canvas to open with, below the menus: all of it, or as much as stays readable."""
    right, bottom = (max(place[axis] + place[axis + 2] for place in places) for axis in (0, 1))
    scale = max(READABLE, min(1.0, 1450 / right, 750 / bottom))
    return {"scale": scale, "offset": [90 / scale, 190 / scale]}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the workflow, without folder and suffix")
    parser.add_argument(
        "--root", type=Path, default=Path(__file__).resolve().parent.parent, help="repository to work on"
    )
    parser.add_argument("--note", type=Path, help="file with the Markdown text of the note (default: keep the old one)")
    parser.add_argument("--screenshot", type=Path, help="where to write a picture of the canvas, to look at")
    return parser.parse_args()


def main() -> int:
    options = parse()
    # The pack, the host and the server's helper come from the repository that is worked on, what it lacks from here.
    sys.path[1:1] = [str(options.root.resolve()), str(Path(__file__).resolve().parent.parent)]
    import dev
    from tools.comfy_server import ComfyServer
    from tools.front_end import front_end

    target = dev.ROOT / "workflows" / f"{options.name}.json"
    api = json.loads((target.parent / "api" / target.name).read_text(encoding="utf-8"))
    note = options.note.read_text(encoding="utf-8") if options.note else kept_note(target)
    if (chromium := dev.find_chromium()) is None:
        raise SystemExit("No Chromium was found: install it, or run `python3 dev.py test` as root on Debian.")
    with tempfile.TemporaryDirectory() as base:
        arguments = [*dev.isolated(Path(base)), "--cpu"]
        log = Path(base) / "server.log"
        with (
            ComfyServer(Path(sys.executable), dev.find_host(), *arguments, log=log) as server,
            front_end(server, chromium, dev.ROOT / "demo/images") as page,
        ):
            ui = lay_out(page, api, note)
            target.write_text(json.dumps(ui, indent=1) + "\n", encoding="utf-8")
            if options.screenshot:
                page.set_viewport_size({"width": 2400, "height": 1200})
                page.evaluate("async (ui) => await window.app.loadGraphData(ui)", ui)
                page.wait_for_timeout(2500)
                page.screenshot(path=options.screenshot)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
