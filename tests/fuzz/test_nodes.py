"""Prompts that nobody would write, over HTTP: each ends in success or in one sentence, and the server goes on.

`--fuzz 10` draws ten times as many. The counts go to the test's output and to `fuzz_nodes.json` in its
temporary folder.
"""

import json
import re
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import dev
from tests.fuzz.prompts import Prompts, write_latents
from tools.comfy_server import ComfyServer, refusal

CASES, TOGETHER = 300, 50
SECONDS = 60.0  # of one prompt on a busy machine
GROWTH = 1000.0  # MiB over all prompts
OURS = re.compile(r"/(i2v_core|nodes)/")  # in the last frame of a traceback
SENTENCES = {"ValueError", "FileNotFoundError", "OSError", "PermissionError", "NotADirectoryError"}


@pytest.fixture
def prompts(host: ComfyServer, tmp_path: Path) -> Prompts:
    picture = tmp_path / "fuzz.png"
    Image.new("RGB", (64, 64), (90, 120, 30)).save(picture)
    latents = write_latents(tmp_path)
    for name in latents:
        host.upload(tmp_path / name)
    info = host.object_info()
    adapters = info["I2VLoadAdapter"]["input"]["required"]["adapter"][1]["options"]
    return Prompts(info, adapters, latents, host.upload(picture))


def memory(host: ComfyServer) -> float:
    """MiB that the server holds."""
    text = Path(f"/proc/{host.process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmRSS"))


def elsewhere(host: ComfyServer) -> set[str]:
    """Every file outside of the folders that the server may write to."""
    assert host.log is not None
    base = host.log.parent
    own = [path for path in base.rglob("*") if path.relative_to(base).parts[0] not in ("output", "temp", "user")]
    tree = [path for path in dev.ROOT.glob("**/*") if not {"__pycache__", ".git", ".comfyui", ".venv"} & {*path.parts}]
    return {str(path) for path in (*own, *tree, *base.parent.iterdir()) if path.suffix != ".pyc"}


def submit(host: ComfyServer, graph: dict[str, Any]) -> str | None:
    """The prompt's id, or None if the host itself refuses the node in a sentence (it still runs the others)."""
    try:
        reply = host.post("/prompt", {"prompt": graph})
        assert all(name.startswith(("fuzzed", "odd")) for name in reply["node_errors"]), reply["node_errors"]
        return None if reply["node_errors"] else str(reply["prompt_id"])
    except urllib.error.HTTPError as error:
        with error:
            assert error.code == 400, graph["fuzzed"]
            assert refusal(json.loads(error.read()))
        return None


def ended(host: ComfyServer, numbers: dict[str, int]) -> Iterator[tuple[int, dict[str, Any]]]:
    deadline, waiting = time.monotonic() + SECONDS * len(numbers), dict(numbers)
    while waiting:
        assert time.monotonic() < deadline, f"prompts {list(waiting.values())} hang"
        history = host.get("/history")
        for identity in [identity for identity in waiting if identity in history]:
            yield waiting.pop(identity), history[identity]
        time.sleep(0.1)
    host.post("/history", {"clear": True})


def verdict(entry: dict[str, Any]) -> str:
    """ "success", "sentence", or what is wrong with the way a prompt ended."""
    if entry["status"]["status_str"] == "success":
        return "success"
    (error,) = [data for kind, data in entry["status"]["messages"] if kind == "execution_error"]
    words, ours = error["exception_message"].strip(), OURS.search(error["traceback"][-1])
    if not error["node_type"].startswith("I2V"):
        return "a node of the host"
    told = error["exception_type"] in SENTENCES and words and "\n" not in words and ours
    return "sentence" if told else f"{error['node_type']}: {error['exception_type']}: {words} {error['traceback'][-1]}"


def seconds(entry: dict[str, Any]) -> float:
    times = [data["timestamp"] for _, data in entry["status"]["messages"]]
    return (max(times) - min(times)) / 1000


def test_prompts_end_in_success_or_a_sentence(
    host: ComfyServer, prompts: Prompts, tmp_path: Path, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = CASES * pytestconfig.getoption("fuzz")
    counts, wrong, longest = Counter[str](), list[str](), 0.0
    before, files = 0.0, elsewhere(host)
    for start in range(0, cases, TOGETHER):
        numbers = {}
        for number in range(start, min(cases, start + TOGETHER)):
            if identity := submit(host, prompts.draw(number)):
                numbers[identity] = number
            else:
                counts["refused by the host"] += 1
        for number, entry in ended(host, numbers):
            end = verdict(entry)
            longest = max(longest, seconds(entry))
            counts[end if end in ("success", "sentence", "a node of the host") else "wrong"] += 1
            if end not in ("success", "sentence", "a node of the host"):
                wrong.append(f"prompt {number} {json.dumps(prompts.draw(number)['fuzzed'])[:400]}\n    {end}")
        before = before or memory(host)  # once everything is loaded
    growth = memory(host) - before
    report = {"cases": cases, **counts, "longest seconds": longest, "growth MiB": round(growth, 1)}
    (tmp_path / "fuzz_nodes.json").write_text(json.dumps(report))
    with capsys.disabled():
        pytestconfig.pluginmanager.get_plugin("terminalreporter").write_line(f"fuzzed prompts: {report}")
    assert not wrong, "\n".join(wrong[:20])
    assert elsewhere(host) == files
    assert growth < GROWTH
    assert counts["success"] and counts["sentence"]
