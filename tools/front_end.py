"""The host's real front end in a headless browser: for the browser tests and for laying out workflows."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.comfy_server import ComfyServer

# Quiet and offline: without these Chromium keeps calling home.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
READY = "() => window.app?.graph && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 100"


def without_addresses(text: str) -> str:
    """A message that two servers write alike: without ports, queries and positions in scripts."""
    return re.sub(r"https?://[^/\s]+|\?[^\s:]*|:\d+", "", text)


def open_editor(browser: Any, server: ComfyServer, images: Path, errors: list[str] | None = None) -> Any:
    """A page with the graph editor ready, and the pictures of a folder in the server's input folder.

    What the page reports as an error, from its first request on, is appended to `errors`.
    """
    # Otherwise the template browser opens over the graph for a first-time user.
    server.post("/settings", {"Comfy.TutorialCompleted": True})
    for image in images.glob("*.jpg"):
        server.upload(image)
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    if errors is not None:
        page.on("console", lambda said: errors.extend([without_addresses(said.text)] if said.type == "error" else []))
        page.on("pageerror", lambda error: errors.append(without_addresses(str(error))))
    page.goto(server.url, timeout=300_000)
    page.wait_for_function(READY, timeout=300_000)
    return page


def answer(page: Any, script: str, argument: Any = None, seconds: float = 60) -> Any:
    """What an asynchronous function in the page answers, for which Playwright's `evaluate` would wait for ever.

    A page that does not answer is loaded anew and asked once more, which is said.

    Raises:
        playwright.sync_api.TimeoutError: it does not answer the second time either.
    """
    from playwright.sync_api import TimeoutError as NoAnswer

    def ask() -> Any:
        return page.wait_for_function(script, arg=argument, timeout=seconds * 1000).json_value()

    try:
        return ask()
    except NoAnswer:
        print(f"The page did not answer within {seconds:.0f} s and is loaded anew.", file=sys.stderr, flush=True)
        page.reload(timeout=300_000)
        page.wait_for_function(READY, timeout=300_000)
        return ask()


@contextmanager
def front_end(server: ComfyServer, chromium: str, images: Path, errors: list[str] | None = None) -> Iterator[Any]:
    """`open_editor` in a browser of its own, as a Playwright page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield open_editor(browser, server, images, errors)
        browser.close()
