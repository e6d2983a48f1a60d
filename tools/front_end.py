"""The host's real front end in a headless browser: for the browser tests and for laying out workflows."""

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


@contextmanager
def front_end(server: ComfyServer, chromium: str, images: Path) -> Iterator[Any]:
    """A Playwright page with the graph editor ready, and the pictures of a folder in the server's input folder."""
    from playwright.sync_api import sync_playwright

    # Otherwise the template browser opens over the graph for a first-time user.
    server.post("/settings", {"Comfy.TutorialCompleted": True})
    for image in images.glob("*.jpg"):
        server.upload(image)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(server.url, timeout=120_000)
        page.wait_for_function(READY, timeout=120_000)
        yield page
        browser.close()
