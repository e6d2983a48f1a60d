"""Run an API-format workflow on a running ComfyUI, follow its progress and fetch what it made.

    pip install websocket-client
    python examples/headless.py workflows/api/animate_image.json --set 2.image=@photo.jpg --set "4.text=zoom in"

Standard library and that one package. `docs/headless.md` explains what is said here over HTTP and the websocket.
"""

import argparse
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import websocket

Graph = dict[str, dict[str, Any]]
SILENCE = 10  # seconds without a message after which the server is asked; loading a large model says nothing for long


class HeadlessError(RuntimeError):
    """The server could not be reached, refused the workflow, or a node failed; the message is one sentence."""


class Comfy:
    """A running ComfyUI, `Comfy("http://127.0.0.1:8188")`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.client = uuid.uuid4().hex

    def request(self, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        """Body of the answer to a GET, or to a POST if there is something to send."""
        request = urllib.request.Request(self.url + path, body, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return bytes(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                raise HeadlessError(refusal(error.read()) or f"{path}: {error}") from None
        except OSError as error:
            raise HeadlessError(f"No ComfyUI answers at {self.url} ({error}): start it, or give --server.") from None

    def post(self, path: str, payload: dict[str, Any]) -> bytes:
        return self.request(path, json.dumps(payload).encode())

    def upload(self, file: Path) -> str:
        """Put a file into the server's input folder; the name is what LoadImage takes, and others of that name stay."""
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{file.name}"\r\n\r\n'
        body = head.encode() + file.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        stored = json.loads(self.request("/upload/image", body, f"multipart/form-data; boundary={boundary}"))
        return f"{stored['subfolder']}/{stored['name']}".lstrip("/")

    def run(self, graph: Graph, progress: Callable[[str], None]) -> dict[str, Any]:
        """Queue a workflow and wait for it; return its entry in the history."""
        address = self.url.replace("http", "ws", 1) + f"/ws?clientId={self.client}"
        try:
            # Opened first, so that no message of this run is missed.
            stream = websocket.create_connection(address, timeout=SILENCE)
        except (OSError, websocket.WebSocketException) as error:
            raise HeadlessError(f"No ComfyUI answers at {self.url} ({error}): start it, or give --server.") from None
        identity = json.loads(self.post("/prompt", {"prompt": graph, "client_id": self.client}))["prompt_id"]
        try:
            for kind, data in self.messages(stream, identity):
                if kind == "progress":
                    progress(f"{graph[data['node']]['class_type']}: step {data['value']} of {data['max']}")
                elif kind == "executing" and data["node"]:
                    progress(graph.get(data["node"], {}).get("class_type", data["node"]))
                elif kind in ("execution_success", "execution_error", "execution_interrupted"):
                    break
            return self.result(identity)
        except KeyboardInterrupt:
            self.post("/queue", {"delete": [identity]})
            self.post("/interrupt", {"prompt_id": identity})
            raise
        finally:
            stream.close()

    def messages(self, stream: websocket.WebSocket, identity: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """What the server says about one run; ends when the run is in the history, even if the connection broke."""
        while True:
            try:
                message = stream.recv()
            except websocket.WebSocketTimeoutException:
                if self.history(identity):
                    return
                continue
            except (OSError, websocket.WebSocketException):
                raise HeadlessError(f"The connection broke; ask {self.url}/history/{identity} later.") from None
            if isinstance(message, str):  # bytes are preview pictures
                event = json.loads(message)
                if event["data"].get("prompt_id") == identity:
                    yield event["type"], event["data"]

    def history(self, identity: str) -> dict[str, Any]:
        return dict(json.loads(self.request(f"/history/{identity}")).get(identity, {}))

    def result(self, identity: str) -> dict[str, Any]:
        """The entry of a run that ended; raises HeadlessError with the node's own sentence if it failed."""
        deadline = time.monotonic() + SILENCE
        while not (entry := self.history(identity)):  # it comes shortly after the last message
            if time.monotonic() > deadline:
                raise HeadlessError(f"{self.url}/history knows nothing of {identity}: was the server restarted?")
            time.sleep(0.1)
        for kind, data in entry["status"]["messages"]:
            if kind == "execution_error":
                raise HeadlessError(
                    f"{data['node_type']} (node {data['node_id']}): {data['exception_message'].strip()}"
                )
            if kind == "execution_interrupted":
                raise HeadlessError("The run was interrupted.")
        return entry

    def fetch(self, item: dict[str, str]) -> bytes:
        query = urllib.parse.urlencode({key: item[key] for key in ("filename", "subfolder", "type")})
        return self.request(f"/view?{query}")


def refusal(body: bytes) -> str:
    """The sentences with which the server refused a workflow, or nothing."""
    try:
        reply = json.loads(body)
    except ValueError:
        return ""
    lines = [
        f"{node['class_type']} (node {number}): {error['message']}, {error['details']}"
        for number, node in (reply.get("node_errors") or {}).items()
        for error in node["errors"]
    ]
    return "\n".join(lines) or str(reply.get("error", {}).get("message", ""))


def saved_files(entry: dict[str, Any]) -> list[dict[str, str]]:
    """Every file that a node saved; previews in the temporary folder are left out."""
    lists = [items for output in entry["outputs"].values() for items in output.values() if isinstance(items, list)]
    files = [item for items in lists for item in items if isinstance(item, dict) and "filename" in item]
    return [file for file in files if file.get("type") == "output"]


def change(graph: Graph, setting: str, comfy: Comfy) -> None:
    """Apply `NODE.INPUT=VALUE`: JSON if it can be read as such, else text; `@FILE` uploads the file."""
    address, found, value = setting.partition("=")
    number, _, name = address.partition(".")
    if not found or name not in graph.get(number, {}).get("inputs", {}):
        raise HeadlessError(f"--set {setting}: expected NODE.INPUT=VALUE with a node and an input of the workflow.")
    if value.startswith("@"):
        graph[number]["inputs"][name] = comfy.upload(Path(value[1:]))
        return
    try:
        graph[number]["inputs"][name] = json.loads(value)
    except ValueError:
        graph[number]["inputs"][name] = value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workflow", type=Path, help="a graph in API format, as in workflows/api/")
    parser.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="@FILE uploads a file")
    parser.add_argument("--server", default="http://127.0.0.1:8188")
    parser.add_argument("--folder", type=Path, default=Path(), help="where to put the files")
    options = parser.parse_args()
    comfy = Comfy(options.server)
    try:
        graph = json.loads(options.workflow.read_text(encoding="utf-8"))
        for setting in options.set:
            change(graph, setting, comfy)
        entry = comfy.run(graph, lambda text: print(text, file=sys.stderr))
        files = saved_files(entry)
        if not files:
            raise HeadlessError("The workflow ended, but no node saved a file.")
        for item in files:
            path = options.folder / Path(item["filename"]).name
            path.write_bytes(comfy.fetch(item))
            print(path)
    except (HeadlessError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped, on the server too.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
