"""What the registry asks of pyproject.toml, and that version, changelog and archive agree."""

import re
import sys
from typing import Any

import pytest

import dev

if sys.version_info < (3, 11):
    pytest.skip("needs the TOML parser of Python 3.11", allow_module_level=True)

import tomllib

VERSION = r"\d+\.\d+\.\d+"
# The host brings them, or its users chose a build of their own.
NEVER_REQUIRED = {"torch", "torchvision", "torchaudio", "numpy", "pillow", "av", "transformers", "opencv-python"}


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    return tomllib.loads((dev.ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def name_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()


def test_the_id_follows_the_rules_and_never_changes(tables: dict[str, Any]) -> None:
    name = tables["project"]["name"]
    assert name == dev.PACK == "i2v-diffusion", "the registry's id of a node pack is for ever"
    assert re.fullmatch(r"[a-z][a-z0-9._-]{0,98}", name)
    assert "comfyui" not in name


def test_nothing_that_the_registry_needs_is_missing(tables: dict[str, Any]) -> None:
    project, comfy = tables["project"], tables["tool"]["comfy"]
    assert re.fullmatch(VERSION, project["version"])
    assert 20 <= len(project["description"]) <= 200
    assert project["urls"].keys() >= {"Repository", "Documentation", "Bug Tracker"}
    assert all(url.startswith("https://") for url in project["urls"].values())
    assert (dev.ROOT / project["license"]["file"]).is_file()
    assert (dev.ROOT / project["readme"]).is_file()
    assert project["requires-python"] == ">=3.10"
    assert comfy["PublisherId"] and comfy["DisplayName"]
    assert "web" not in comfy, "help pages would be served under the project's name, not under the folder's"


def test_the_minimum_host_is_the_one_that_is_tested(tables: dict[str, Any]) -> None:
    required = tables["tool"]["comfy"]["requires-comfyui"].removeprefix(">=")
    assert required in (dev.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert required in (dev.ROOT / "README.md").read_text(encoding="utf-8")


def test_installing_the_pack_changes_nothing_that_the_host_brings(tables: dict[str, Any]) -> None:
    lines = (dev.ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line.strip() and not line.startswith("#")]
    assert sorted(wanted) == sorted(tables["project"]["dependencies"]), "one list for pip, the other for the registry"
    assert not {name_of(line) for line in wanted} & NEVER_REQUIRED
    assert not [name for name in ("install.py", "prestartup_script.py") if (dev.ROOT / name).exists()]


def test_the_newest_release_in_the_changelog_is_the_version(tables: dict[str, Any]) -> None:
    text = (dev.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(rf"^## ({VERSION})", text, re.MULTILINE)
    assert releases[0] == tables["project"]["version"]
    numbers = [tuple(map(int, release.split("."))) for release in releases]
    assert numbers == sorted(numbers, reverse=True)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE)[0] in ("Unreleased", releases[0])
