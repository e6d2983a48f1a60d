"""Names of output files: filled in as for the nodes of the host, the same on every system, never too long."""

import logging
import re
import time
from typing import Any

import pytest

PROMPT = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 42, "model": ["1", 0]}, "_meta": {"title": "Draw"}},
    "4": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat/dog: happy?"}},
    "5": {"class_type": "CLIPTextEncode", "inputs": {"text": "second"}},
}
WORKFLOW = {
    "nodes": [
        {"id": 5, "title": "Words", "properties": {"Node name for S&R": "Named"}},
        {"id": 4, "title": "Named", "properties": None},
    ]
}


@pytest.fixture(scope="module")
def output(pack: Any, host_module: Any) -> Any:
    import importlib

    return importlib.import_module(f"{pack.__name__}.nodes.host.output")


def test_dates_and_widgets_are_filled_in(output: Any) -> None:
    extra = {"workflow": WORKFLOW}
    now = time.localtime()
    for prefix, expected in (
        ("%date:yyyy-MM-dd%/clip", time.strftime("%Y-%m-%d/clip", now)),
        ("%date:yy.M.d%", f"{now.tm_year % 100:02}.{now.tm_mon}.{now.tm_mday}"),
        ("a_%KSampler.seed%", "a_42"),
        ("%Draw.seed%", "42"),
        ("%Words.text%_%Named.text%", "second_second"),
        ("%CLIPTextEncode.text%", "a cat_dog: happy?"),
        ("%KSampler.model%_%KSampler.none%_%None.seed%", "%KSampler.model%_%KSampler.none%_%None.seed%"),
        ("%width%_%year%_100%", "%width%_%year%_100%"),
    ):
        assert output.filled_in(prefix, PROMPT, extra) == expected
    assert re.fullmatch(r"\d\d-\d\d-\d\d", output.filled_in("%date:hh-mm-ss%", None, None))
    assert output.filled_in("%KSampler.seed%", PROMPT, None) == "42"


def reserve(output: Any, prefix: str) -> Any:
    return output.output_file(prefix, ".mp4", height=48, width=64, temporary=True)


def test_what_windows_forbids_is_replaced_and_said_once(output: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert reserve(output, "names/a: b?*").path.name == "a_ b___00001_.mp4"
        for prefix, subfolder, name in (
            (r"names\windows\clip", "names/windows", "clip"),
            ("names/con/nul.txt", "names/_con", "_nul.txt"),
            ("names/dots./end. ", "names/dots", "end"),
            ("names/%width%x%height%", "names", "64x48"),
            ("names/été 猫", "names", "été 猫"),
        ):
            file = reserve(output, prefix)
            assert (file.subfolder, file.path.name) == (subfolder, f"{name}_00001_.mp4")
    assert len([record for record in caplog.records if "a: b" in record.getMessage()]) == 1


@pytest.mark.parametrize("prefix", ["a" * 245, "猫" * 82, "b" * 256 + "/clip"])
def test_a_name_that_is_too_long_is_refused_before_anything_is_encoded(output: Any, prefix: str) -> None:
    with pytest.raises(ValueError, match=r"it is longer than \d+ bytes"):
        reserve(output, prefix)
    assert reserve(output, "c" * 200).path.name.endswith("_00001_.mp4")


@pytest.mark.parametrize("prefix", ["../clip", "", " ", ".", "/clip", "a/../../clip", r"C:\clip", r"\\server\share"])
def test_names_outside_the_folder_are_refused(output: Any, prefix: str) -> None:
    with pytest.raises(ValueError, match="below the output folder"):
        reserve(output, prefix)
