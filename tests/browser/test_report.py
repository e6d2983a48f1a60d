"""The report of an evaluation in a real browser: curves drawn, videos playing, nothing fetched from elsewhere."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from i2v_core.__main__ import main
from tests.core.evaluation.small_clips import write_clips

playwright = pytest.importorskip("playwright.sync_api")

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PLAY = """async (video) => {
  await video.play()
  await new Promise((resolve) => {
    if (video.currentTime > 0) resolve()
    else video.addEventListener('timeupdate', () => resolve())
  })
  return [video.videoWidth, video.duration]
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    folders = write_clips(folder / "clips", count=2)
    given = [folders["good"], folders["bad"], "--references", folders["truth"], "--output", folder / "out"]
    patch = pytest.MonkeyPatch()
    patch.setattr(sys, "argv", ["i2v_core", "evaluate", *map(str, given)])
    assert main() == 0
    patch.undo()
    return folder / "out" / "report.html"


@pytest.fixture(scope="module")
def page(report: Path, chromium: str) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()
        page.fetched = []
        page.on("request", lambda request: page.fetched.append(request.url))
        page.goto(report.as_uri())
        yield page
        browser.close()


def test_curves_are_drawn(page: Any) -> None:
    plots = page.locator("svg.curves")
    assert plots.count() == 2, "PSNR and SSIM to the image; there is no CLIP"
    boxes = [line.bounding_box() for line in plots.first.locator("polyline").all()]
    assert len(boxes) == 6, "two results and four controls"
    assert all(box["width"] > 100 for box in boxes)
    assert sum(box["height"] > 20 for box in boxes) >= 3


def test_every_video_plays(page: Any) -> None:
    videos = page.locator("video").all()
    assert len(videos) == 6, "two results and the truth of two clips"
    for video in videos:
        width, duration = video.evaluate(PLAY)
        assert width == 32
        assert duration == pytest.approx(5 / 8, abs=0.1)


def test_contact_sheets_and_tables_are_there(page: Any) -> None:
    shown = page.eval_on_selector_all(".clip img", "images => images.map(image => image.naturalWidth)")
    assert len(shown) == 6
    assert min(shown) > 300
    text = page.inner_text("body")
    assert "bad - good" in text
    assert "not separable" in text or "ordered" in text
    assert "--clip the path of" in text, "what is missing and where to get it"


def test_the_file_is_self_contained(page: Any, report: Path) -> None:
    outside = [url for url in page.fetched if not url.startswith(("data:", report.as_uri()))]
    assert outside == []
