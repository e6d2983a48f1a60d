"""The audit names what it finds, uses what it can, and fails for nothing."""

import json
import re
import sys
from pathlib import Path

import pytest

from i2v_core.__main__ import main
from i2v_core.data import audit_data, open_data
from i2v_core.video import write_video
from tests.core.data.written import (
    config,
    panned,
    record_labeled,
    record_scenes,
    record_variable,
    write_bad_files,
)
from tests.core.video.ffmpeg import CASES
from tests.core.video.numbered import COUNT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    record_labeled(folder / "constant.mp4")
    record_labeled(folder / "turned.mp4", rotation=90)
    record_variable(folder / "variable.mp4")
    record_scenes(folder / "scenes.mp4", [("chelsea.png", 20), ("coffee.png", 15), ("rocket.jpg", 5)])
    for name in ("constant", "turned", "variable"):
        (folder / f"{name}.txt").write_text(f"a {name} clip\n")
    return folder


@pytest.fixture(scope="module")
def bad(folder: Path) -> dict[str, str]:
    return write_bad_files(folder, folder / "constant.mp4")


def test_every_file_is_described_or_named_with_the_reason(folder: Path, bad: dict[str, str]) -> None:
    audit = audit_data(config(folder))
    found = {row.name: row for row in audit.rows}
    assert {row.name for row in audit.used} == {"constant.mp4", "turned.mp4", "variable.mp4", "scenes.mp4"}
    for name, reason in bad.items():
        assert re.search(reason, found[name].problem), (name, found[name].problem)
    turned, variable = found["turned.mp4"], found["variable.mp4"]
    assert (turned.height, turned.width, turned.rotation) == (128, 64, 90)
    assert (variable.variable, found["constant.mp4"].variable) == (True, False)
    assert (variable.frames, found["constant.mp4"].fps) == (COUNT, 30)
    assert found["scenes.mp4"].cuts == 2


def test_text_and_json_say_the_same(folder: Path, bad: dict[str, str]) -> None:
    audit = audit_data(config(folder))
    text, values = audit.text(), json.loads(audit.json())
    assert (values["clips"], values["used"], values["layout"]) == (4 + len(bad), 4, "files")
    assert set(values["skipped"]) == set(bad)
    assert values["without_caption"] == ["scenes.mp4"]
    assert values["variable_rate"] == ["variable.mp4"]
    assert values["rotated"] == ["turned.mp4"]
    assert values["with_cuts"] == ["scenes.mp4"]
    assert values["sizes"] == {"128x64": 2, "64x48": 1, "64x128": 1}
    assert sum(values["rates"].values()) == sum(values["lengths"].values()) == 4
    assert len(values["files"]) == values["clips"]
    assert all(f"skipped: {name}: " in text for name in bad)
    assert f"4 of {4 + len(bad)} clips are used" in text


def test_what_is_done_to_frames_is_told_and_training_reads_them(tmp_path: Path) -> None:
    notes = {
        "avi_h264_bframes.avi": "time stamps of no use",
        "hevc_cut_noedit.mp4": "3 frames at the beginning",
        "hflip.mp4": "mirrored",
        "sar.mp4": "made square",
        "interlaced.mp4": "deinterlaced",
        "hdr_pq.mp4": "mapped to SDR",
        "apac_only.mp4": "",
    }
    for name in notes:
        (tmp_path / name).write_bytes((CASES / name).read_bytes())
    audit = audit_data(config(tmp_path))
    assert all(note in audit.text() for note in notes.values())
    assert {row.name: row.notes[0] if row.notes else "" for row in audit.used}.keys() == notes.keys()
    assert all(notes[row.name] in " ".join(row.notes) for row in audit.used)
    data = open_data(config(tmp_path))
    assert {data.clip(item).name for item in range(len(data))} == set(notes)


def test_a_caption_where_the_file_should_be_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "good.mp4").write_bytes((CASES / "rot90.mp4").read_bytes())
    rows = [{"file_name": "good.mp4", "text": "a pan"}, {"file_name": "a long caption, " * 30, "text": "swapped.mp4"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    audit = audit_data(config(tmp_path))
    assert [row.name for row in audit.used] == ["good.mp4"]
    assert "metadata.jsonl line 2: names no file: 'a long caption" in audit.text()
    assert "(File name too long)" in audit.text()


def test_a_clip_too_slow_for_the_rate_asked_for_is_not_shown_with_repeated_frames(folder: Path) -> None:
    found = {row.name: row.problem for row in audit_data(config(folder, target_fps=29.0)).rows}
    assert found["scenes.mp4"] == "has 25 frames per second, fewer than data.target_fps 29"
    assert not found["constant.mp4"]


def test_a_file_is_looked_at_once_until_it_changes(folder: Path, tmp_path: Path) -> None:
    settings = config(tmp_path, cache_directory=str(tmp_path / "kept"))
    clip = tmp_path / "clip.mp4"
    write_video(clip, panned("chelsea.png", 12), 25)
    assert audit_data(settings).rows[0].frames == 12
    [kept] = (tmp_path / "kept").rglob("*.json")
    state = kept.stat().st_mtime_ns
    assert audit_data(settings).rows[0].frames == 12
    assert kept.stat().st_mtime_ns == state
    write_video(clip, panned("chelsea.png", 14), 25)
    assert audit_data(settings).rows[0].frames == 14


def test_a_damaged_record_is_made_anew(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", panned("chelsea.png", 12), 25)
    audit_data(config(tmp_path))
    [kept] = (tmp_path / ".i2v_cache").rglob("*.json")
    for content in ("", "{}", '{"index": 3, "changes": null}'):
        kept.write_text(content)
        assert audit_data(config(tmp_path)).rows[0].frames == 12


def test_data_without_a_usable_clip_is_refused_with_the_reasons(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no clip of .* can be used[\s\S]*skipped: empty\.mp4"):
        open_data(config(tmp_path))


def test_the_command_prints_the_text_and_writes_json(
    folder: Path, bad: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    report = tmp_path / "report.json"
    monkeypatch.setattr(sys, "argv", ["i2v_core", "audit", str(folder), "--frames", "8", "--json", str(report)])
    assert main() == 0
    assert f"4 of {4 + len(bad)} clips are used" in capsys.readouterr().out
    assert json.loads(report.read_text())["used"] == 4
    monkeypatch.setattr(sys, "argv", ["i2v_core", "audit", str(tmp_path / "gone")])
    assert main() == 1
    assert "There is no data" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_names_the_option_that_moves_what_is_kept(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes((CASES / "rot90.mp4").read_bytes())
    (tmp_path / ".i2v_cache").write_text("a file where the folder should be")
    with pytest.raises(OSError, match=r"Cannot keep in .*Set data\.cache_directory \(audit: --cache-directory\)"):
        audit_data(config(tmp_path))
    assert audit_data(config(tmp_path, cache_directory=str(tmp_path / "kept"))).used
