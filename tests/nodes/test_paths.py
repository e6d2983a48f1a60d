"""What a workflow may name: files below the host's folders, under names that every system takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BAD_NAMES = {
    "empty": "", "dot": ".", "parent": "..", "slash": "a/b", "backslash": "a\\b", "drive": "C:", "stream": "a:b",
    "device": "CON", "small device": "nul", "device with an ending": "com1.tar", "superscript": "LPT²",
    "dot behind": "name.", "blank behind": "name ", "hidden": ".name", "NUL": "a\0b", "line": "a\nb",
    "control": "a\x7f", "surrogate": "a\ud800", "wildcard": "a*", "long": "a" * 238, "long in bytes": "ä" * 120,
}  # fmt: skip


@pytest.fixture
def paths(pack: Any) -> Any:
    import importlib

    return importlib.import_module(".nodes.host.paths", pack.__name__)


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_a_name_that_some_system_does_not_take_is_refused(paths: Any, name: str) -> None:
    with pytest.raises(ValueError, match=r"^output_name must be a plain name.*$") as caught:
        paths.checked_name(name, "output_name")
    str(caught.value).encode()
    if name not in ("a/b", "a\\b"):
        with pytest.raises(ValueError, match="below the output folder"):
            paths.checked_prefix(f"I2V/{name}", "filename_prefix", "/nowhere")


@pytest.mark.parametrize("name", ["my_look_back", "Mein Clip 2", "猫.v2", "concert", "a" * 200])
def test_other_names_are_taken(paths: Any, name: str) -> None:
    assert paths.checked_name(name, "output_name") == name


@pytest.mark.parametrize(
    "prefix", ["../clip", "/etc/clip", "\\\\server\\share\\clip", "I2V//clip", "C:/clip", "~\\x", "x/"]
)
def test_a_prefix_stays_below_its_folder(paths: Any, prefix: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="below the output folder"):
        paths.checked_prefix(prefix, "filename_prefix", str(tmp_path))


def test_links_are_followed_before_a_path_is_taken(
    paths: Any, host_module: Callable[[str], Any], tmp_path: Path
) -> None:
    root = Path(host_module("folder_paths").get_input_directory())
    (root / "clips").mkdir(exist_ok=True)
    for name, target in (("inside", root / "clips"), ("link_a", tmp_path), ("link_b", tmp_path / "nothing")):
        (root / name).symlink_to(target)
    assert paths.existing_path("clips", "data") == root / "clips"
    assert paths.existing_path(str(root / "inside"), "data") == root / "inside"
    sentences = []
    for name in ("link_a", "link_b"):
        with pytest.raises(ValueError, match="outside of") as caught:
            paths.existing_path(name, "data")
        sentences.append(str(caught.value).replace(name, "link"))
    assert sentences[0] == sentences[1], "a message tells nothing of what is elsewhere"
    (tmp_path / "output").mkdir()
    (tmp_path / "output/link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="by a link"):
        paths.checked_prefix("link/clip", "filename_prefix", str(tmp_path / "output"))


@pytest.mark.parametrize(
    "text", ["/etc", "/", "..", "clips/../..", "~/clips", "\\\\server\\share", "//server/share", "C:\\clips"]
)
def test_nothing_else_of_the_machine_is_read(paths: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r"^data[^\n]*(outside of|below the input folder)[^\n]*$"):
        paths.existing_path(text, "data")


def test_models_may_be_named_and_code_may_not(paths: Any, host_module: Callable[[str], Any]) -> None:
    roots = paths.allowed_folders()
    kinds = host_module("folder_paths").folder_names_and_paths
    assert Path(kinds["checkpoints"][0][0]) in roots
    assert not {Path(folder) for folder in kinds["custom_nodes"][0]} & set(roots)
