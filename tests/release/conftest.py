"""The registry's archive of this pack, and a server that has nothing but the archive, bad company and no network."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import dev
from tools.comfy_server import ComfyServer

# Python runs a module of this name at start. Attempts to leave the machine fail and are written down with their cause.
NO_NETWORK = """
import os, sys, traceback

def refuse(event, arguments):
    if event == "socket.connect":
        host = arguments[1][0] if isinstance(arguments[1], tuple) else "localhost"
    elif event == "socket.getaddrinfo":
        host = arguments[0] or "localhost"
    else:
        return
    host = host.decode() if isinstance(host, bytes) else str(host)
    if host not in ("localhost", "::1", "0.0.0.0") and not host.startswith("127."):
        with open(os.environ["NETWORK_ATTEMPTS"], "a") as log:
            log.write(f"{host}\\n" + "".join(traceback.format_stack()))
        raise OSError(f"no network for {host}")

sys.addaudithook(refuse)
"""
# A pack with modules named like ours, which puts itself in front of everyone's imports.
RUDE = """
import os, sys
sys.path.insert(0, os.path.dirname(__file__))
import convert, i2v_core, presets, sockets
NODE_CLASS_MAPPINGS = {}
"""


@pytest.fixture(scope="session")
def archive_files() -> list[str]:
    """What the registry's client packs: everything that git tracks and .comfyignore does not name."""

    def listed(*options: str) -> set[str]:
        command = ["git", "-c", f"safe.directory={dev.ROOT}", "ls-files", "-z", "--cached", *options]
        names = subprocess.run(command, check=True, capture_output=True, text=True, cwd=dev.ROOT).stdout
        return set(filter(None, names.split("\0")))

    return sorted(listed() - listed("--ignored", "--exclude-from=.comfyignore"))


@dataclass(frozen=True)
class ArchiveServer:
    """A running server, the name of the pack's folder in it, its log, and where it notes attempts to leave."""

    server: ComfyServer
    name: str
    log: Path
    attempts: Path


@pytest.fixture(scope="session")
def archive_host(
    host_folder: Path, archive_files: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ArchiveServer]:
    base = tmp_path_factory.mktemp("archive")
    arguments, packs = dev.apart(base), base / "custom_nodes"
    pack = packs / "Another.name-2"
    for name in archive_files:
        (pack / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(dev.ROOT / name, pack / name)
    (packs / "a_rude_one").mkdir()
    (packs / "a_rude_one" / "__init__.py").write_text(RUDE)
    for name in ("convert", "i2v_core", "presets", "sockets"):
        (packs / "a_rude_one" / f"{name}.py").touch()
    (base / "start").mkdir()
    (base / "start" / "sitecustomize.py").write_text(NO_NETWORK)
    log, attempts = base / "server.log", base / "attempts"
    with pytest.MonkeyPatch.context() as patch:
        before = [path for path in [os.environ.get("PYTHONPATH")] if path]
        patch.setenv("PYTHONPATH", os.pathsep.join([str(base / "start"), *before]))
        patch.setenv("NETWORK_ATTEMPTS", str(attempts))
        with ComfyServer(Path(sys.executable), host_folder, *arguments, "--cpu", log=log) as server:
            yield ArchiveServer(server, pack.name, log, attempts)
