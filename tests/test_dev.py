"""The parts of dev.py that decide something, without network or server."""

import sys
from pathlib import Path

import pytest

import dev

GRAPH = {
    "3": {"class_type": "LoadImage", "inputs": {"image": "old.png"}},
    "7": {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "pan left"},
        "_meta": {"title": "Prompt"},
    },
    "8": {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "blurry"},
        "_meta": {"title": "Negative Prompt"},
    },
    "9": {"class_type": "I2VVideoLatent", "inputs": {"frames": 16, "image": ["3", 0]}},
    "10": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20, "latent_image": ["9", 0]}},
    "11": {"class_type": "I2VCombineVideo", "inputs": {"frames": ["10", 0]}},
}


def test_settings_reach_the_widgets_of_the_right_nodes() -> None:
    edited = dev.edit_graph(GRAPH, image="new.png", prompt="zoom in", frames=8, seed=5, steps=3)
    assert edited["3"]["inputs"]["image"] == "new.png"
    assert (edited["7"]["inputs"]["text"], edited["8"]["inputs"]["text"]) == ("zoom in", "blurry")
    assert edited["9"]["inputs"] == {"frames": 8, "image": ["3", 0]}
    assert (edited["10"]["inputs"]["seed"], edited["10"]["inputs"]["steps"]) == (5, 3)


def test_links_are_not_settings() -> None:
    assert dev.edit_graph(GRAPH, frames=8)["11"]["inputs"]["frames"] == ["10", 0]


def test_settings_left_out_change_nothing_and_the_original_stays() -> None:
    assert dev.edit_graph(GRAPH, prompt=None, frames=None) == GRAPH
    dev.edit_graph(GRAPH, image="new.png")
    assert GRAPH["3"]["inputs"]["image"] == "old.png"


def test_the_seed_of_a_noise_node_counts_too() -> None:
    graph = {"1": {"class_type": "RandomNoise", "inputs": {"noise_seed": 0}}}
    assert dev.edit_graph(graph, seed=9)["1"]["inputs"]["noise_seed"] == 9


def test_a_setting_without_a_widget_is_an_error() -> None:
    with pytest.raises(dev.DevError, match="no widget for steps"):
        dev.edit_graph({"3": GRAPH["3"]}, steps=4)


def test_the_video_is_found_among_other_outputs(tmp_path: Path) -> None:
    preview = {"filename": "still.png", "subfolder": "", "type": "temp"}
    video = {"filename": "clip_00001.mp4", "subfolder": "i2v", "type": "output"}
    entry = {"outputs": {"1": {"images": [preview]}, "2": {"images": [video], "animated": [True]}}}
    assert dev.video_file(entry, tmp_path) == tmp_path / "i2v" / "clip_00001.mp4"


def test_a_run_without_a_video_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(dev.DevError, match="no node reported a video"):
        dev.video_file({"outputs": {"2": {"text": ["done"]}}}, tmp_path)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs the TOML parser of Python 3.11")
@pytest.mark.parametrize("name", ["standalone", "train", "evaluate", "dev"])
def test_extras_read_by_pattern_are_those_of_a_toml_parser(name: str) -> None:
    import tomllib

    project = tomllib.loads((dev.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert dev.extra(name) == project["optional-dependencies"][name]


def test_further_arguments_reach_pytest_in_order() -> None:
    options, rest = dev.parse(["test", "tests/core", "-k", "a or b", "-q", "tests/nodes"])
    assert options.run is dev.test
    assert rest == ["tests/core", "-k", "a or b", "-q", "tests/nodes"]


def test_quick_is_no_argument_of_pytest() -> None:
    options, rest = dev.parse(["test", "--quick", "-x"])
    assert options.quick
    assert rest == ["-x"]


def test_the_closing_line_of_pytest_is_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever failed before it, so that who looks at the end of a log sees what the tests came to."""
    monkeypatch.setattr(dev, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "set_up", lambda *_: tmp_path)
    monkeypatch.setattr(dev, "ensure_chromium", lambda: None)
    for tool, code in (("ruff", "raise SystemExit(1)"), ("mypy", ""), ("pytest", "print('9 passed in 1.00s')")):
        (tmp_path / f"{tool}.py").write_text(code, encoding="utf-8")
    options, rest = dev.parse(["test"])
    assert options.run(options, rest) == 1
    printed = capfd.readouterr()
    assert printed.out.splitlines()[-1] == "9 passed in 1.00s"
    assert "failed: ruff format, ruff check\n" in printed.err


def test_a_failed_benchmark_is_named_and_the_others_still_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "benchmarks").mkdir()
    for name, code in (("a", "raise SystemExit('wrong')"), ("b", "import sys; print(sys.argv[1:])"), ("_c", "1 / 0")):
        (tmp_path / "benchmarks" / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(dev, "set_up", lambda *_: tmp_path)
    options, rest = dev.parse(["bench", "--runs", "1"])
    assert options.run(options, rest) == 1
    printed = capfd.readouterr()
    assert "['--runs', '1']" in printed.out
    assert "failed: a.py\n" in printed.err


def test_demo_refuses_unknown_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        dev.parse(["demo", "--framez", "8"])
    assert "--framez" in capsys.readouterr().err


def test_the_pack_is_linked_once_under_any_name(tmp_path: Path) -> None:
    dev.link_pack(tmp_path)
    assert (tmp_path / dev.PACK).resolve() == dev.ROOT
    (tmp_path / dev.PACK).rename(tmp_path / "any name")
    dev.link_pack(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["any name"]


def test_a_link_to_a_moved_clone_is_replaced_but_a_folder_is_not(tmp_path: Path) -> None:
    (tmp_path / dev.PACK).symlink_to(tmp_path / "gone")
    dev.link_pack(tmp_path)
    assert (tmp_path / dev.PACK).resolve() == dev.ROOT
    (tmp_path / dev.PACK).unlink()
    (tmp_path / dev.PACK).mkdir()
    with pytest.raises(dev.DevError, match="another copy"):
        dev.link_pack(tmp_path)


def test_a_step_runs_again_only_when_its_input_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "VENV", tmp_path)
    runs: list[str] = []
    for wanted in ("a", "a", "b"):
        dev.once("step", wanted, lambda wanted=wanted: runs.append(wanted))
    assert runs == ["a", "b"]


def test_a_failed_step_is_not_remembered_and_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "VENV", tmp_path)

    def fail() -> None:
        dev.run_step("a step", sys.executable, "-c", "raise SystemExit('disk full')")

    for _ in range(2):
        with pytest.raises(dev.DevError, match=r"(?s)a step: failed with exit code 1.*disk full"):
            dev.once("step", "a", fail)


def test_comfyui_path_must_be_a_comfyui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(dev.DevError, match=r"no main\.py was found"):
        dev.find_host()
    (tmp_path / "main.py").touch()
    assert dev.find_host() == tmp_path
