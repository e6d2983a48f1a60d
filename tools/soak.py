"""Queue many prompts over several workflows, interrupt some, and tell what is left: memory, queue, and files.

    python -m tools.soak --prompts 300 --interrupts 50 --workflows animate_image animate_trip

Starts a host of its own on a free port, small and on the CPU. For each workflow it tells the growth of the server's
memory over 100 prompts, by a line fitted to what it held after each of the later two thirds: the first fills caches.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from itertools import cycle, islice
from pathlib import Path
from statistics import linear_regression

import dev
from tools.comfy_server import ComfyServer, Graph, failure

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = (
    "animate_image", "animate_trip", "animate_retention", "long_video_lookback", "animate_image_projection",
    "all_together",
)  # fmt: skip


def graph_of(name: str, picture: str, seed: int) -> Graph:
    """A workflow, tiny: two steps, four frames, and a seed that makes it compute anew."""
    graph: Graph = json.loads((ROOT / f"workflows/api/{name}.json").read_text(encoding="utf-8"))
    graph = dev.edit_graph(graph, image=picture, frames=4, steps=2)
    for node in graph.values():
        for key in ("seed", "noise_seed"):
            if key in node["inputs"]:
                node["inputs"][key] = seed
        if "frames_at_once" in node["inputs"]:
            node["inputs"]["frames_at_once"] = 0
    return graph


def memory(server: ComfyServer) -> float:
    """MiB that the server's process holds (Linux)."""
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmRSS"))


def soak(server: ComfyServer, names: list[str], prompts: int, interrupts: int) -> dict[str, object]:
    """Run the prompts one after the other; what was seen, ready for JSON."""
    picture = server.upload(ROOT / "demo/images/chelsea.jpg")
    broken = set(random.Random(0).sample(range(prompts), interrupts))
    held: dict[str, list[tuple[int, float]]] = defaultdict(list)
    ends: dict[str, int] = defaultdict(int)
    for number, name in enumerate(islice(cycle(names), prompts)):
        identity = server.submit(graph_of(name, picture, number))
        if number in broken:
            time.sleep(random.Random(number).uniform(0, 1.5))
            server.post("/interrupt", {})
        entry = server.wait(identity, seconds=300)
        kinds = {kind for kind, _ in entry["status"]["messages"]}
        ends["interrupted" if "execution_interrupted" in kinds else failure(entry) or "success"] += 1
        held[name].append((number, memory(server)))
    return {
        "ends": dict(ends),
        "MiB at the end": round(memory(server)),
        "MiB per 100 prompts": {name: growth(rows) for name, rows in held.items()},
        "all": growth(sorted(row for rows in held.values() for row in rows)),
        "in the queue": sum(len(each) for each in server.get("/queue").values()),
        "temporary files": sorted(str(path) for path in folder_of(server).rglob(".i2v-*")),
    }


def growth(rows: list[tuple[int, float]]) -> float | None:
    """MiB over 100 prompts in the later two thirds of some rows; None for too few."""
    later = rows[len(rows) // 3 :]
    return round(100 * linear_regression(*zip(*later, strict=True)).slope, 2) if len(later) > 2 else None


def folder_of(server: ComfyServer) -> Path:
    assert server.log is not None
    return server.log.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--interrupts", type=int, default=50)
    parser.add_argument("--workflows", nargs="+", default=list(WORKFLOWS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*dev.isolated(Path(folder)), "--cpu"]
        log = Path(folder, "server.log")
        with ComfyServer(Path(sys.executable), dev.find_host(), *arguments, log=log) as server:
            print(json.dumps(soak(server, given.workflows, given.prompts, given.interrupts), indent=1))


if __name__ == "__main__":
    main()
