"""A ComfyUI server in a subprocess and its HTTP interface: standard library only, for dev.py and tests."""

import contextlib
import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

Graph = dict[str, dict[str, Any]]


class ServerError(RuntimeError):
    """The server did not start, stopped, or reported an error; the message is its own sentence."""


def tail(path: Path, lines: int = 25) -> str:
    if not path.is_file():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refusal(reply: dict[str, Any]) -> str:
    """The sentences in the answer to a workflow that the server does not accept."""
    lines = [
        f"{node['class_type']} (node {number}): {': '.join(filter(None, (e['message'], e['details'])))}"
        for number, node in (reply.get("node_errors") or {}).items()
        for e in node["errors"]
    ]
    return "\n".join(lines) or str(reply["error"]["message"])


def failure(entry: dict[str, Any]) -> str | None:
    """The sentence with which a node failed in a history entry, or None if the run succeeded."""
    status = entry["status"]
    if status["status_str"] == "success":
        return None
    for kind, data in status["messages"]:
        if kind == "execution_error":
            return f"{data['node_type']} (node {data['node_id']}): {data['exception_message'].strip()}"
    return f"The run ended as {status['status_str']}."


class ComfyServer:
    """`with ComfyServer(python, folder, "--cpu") as server` starts ComfyUI and stops it again.

    The port is a free one unless given. Output goes to `log`, or to this process's own if there is none.
    """

    def __init__(
        self, python: Path, folder: Path, *arguments: str, port: int | None = None, log: Path | None = None
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder, self.log = folder, log
        fixed = ["--port", str(self.port), "--disable-auto-launch"]
        self.command = [str(python), str(folder / "main.py"), *fixed, *arguments]
        # A proxy from the environment must not come between us and our own server.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def __enter__(self) -> "ComfyServer":
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self.log.open("wb")) if self.log else None
            self.process = subprocess.Popen(self.command, stdout=output, stderr=output, cwd=self.folder)
        try:
            self._wait_until_ready(seconds=300)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _check_alive(self) -> None:
        if self.process.poll() is not None:
            end = f" The end of {self.log}:\n{tail(self.log)}" if self.log else ""
            raise ServerError(f"ComfyUI stopped with exit code {self.process.returncode}.{end}")

    def _wait_until_ready(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._check_alive()
            with contextlib.suppress(OSError):
                self.get("/system_stats")
                return
            time.sleep(0.2)
        raise ServerError(f"ComfyUI did not answer at {self.url} within {seconds:.0f} s.")

    def _request(self, path: str, body: bytes | None, content_type: str) -> bytes:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": content_type})
        with self._open(request, timeout=60) as reply:
            return bytes(reply.read())

    def read(self, path: str) -> bytes:
        """Body of a GET request."""
        return self._request(path, None, "application/json")

    def get(self, path: str) -> Any:
        """JSON of a GET request, for example `/object_info`, `/queue` or `/history`."""
        return json.loads(self.read(path))

    def post(self, path: str, payload: dict[str, Any]) -> Any:
        """JSON answer (None if empty) to a JSON body."""
        reply = self._request(path, json.dumps(payload).encode(), "application/json")
        return json.loads(reply) if reply else None

    def object_info(self) -> dict[str, Any]:
        return dict(self.get("/object_info"))

    def upload(self, file: Path, **fields: str) -> str:
        """Put a file into the server's input folder and return the name that LoadImage takes.

        Further fields of the host's route are `type`, another folder of the host, and `subfolder`.
        """
        boundary = uuid.uuid4().hex
        parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
        parts.append(f'name="image"; filename="{file.name}"\r\n\r\n'.encode() + file.read_bytes())
        line = f"--{boundary}\r\nContent-Disposition: form-data; ".encode()
        body = b"".join(line + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
        reply = json.loads(self._request("/upload/image", body, f"multipart/form-data; boundary={boundary}"))
        return f"{reply['subfolder']}/{reply['name']}".lstrip("/")

    def view(self, item: dict[str, str]) -> bytes:
        """Bytes of one file that a node reported: `{filename, subfolder, type}`."""
        query = urllib.parse.urlencode({key: item[key] for key in ("filename", "subfolder", "type")})
        return self.read(f"/view?{query}")

    def submit(self, graph: Graph, workflow: dict[str, Any] | None = None) -> str:
        """Queue an API-format workflow and return its id; `workflow` is the UI-format twin to embed in files.

        Raises:
            ServerError: the server refuses it, with the sentences of the nodes concerned.
        """
        extra = {} if workflow is None else {"extra_data": {"extra_pnginfo": {"workflow": workflow}}}
        try:
            return str(self.post("/prompt", {"prompt": graph, **extra})["prompt_id"])
        except urllib.error.HTTPError as error:
            with error:
                raise ServerError(refusal(json.loads(error.read()))) from None

    def wait(self, identity: str, *, seconds: float = 3600, watch: Callable[[], None] | None = None) -> dict[str, Any]:
        """Wait for a queued workflow and return its history entry, whether it succeeded or not."""
        deadline = time.monotonic() + seconds
        while not (entry := self.get(f"/history/{identity}").get(identity)):
            self._check_alive()
            if time.monotonic() > deadline:
                raise ServerError(f"The workflow did not end within {seconds:.0f} s.")
            if watch:
                watch()
            time.sleep(0.2)
        return dict(entry)

    def run(self, graph: Graph, *, seconds: float = 3600, watch: Callable[[], None] | None = None) -> dict[str, Any]:
        """Run an API-format workflow and return its history entry.

        Raises:
            ServerError: the server refuses it, or a node fails; the message is the node's own sentence.
        """
        entry = self.wait(self.submit(graph), seconds=seconds, watch=watch)
        if sentence := failure(entry):
            raise ServerError(sentence)
        return entry
