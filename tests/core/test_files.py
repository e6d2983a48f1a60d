"""A file appears complete or not at all, and the error names the folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from i2v_core.files import atomic_folder, atomic_path


@pytest.fixture
def locked_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that this process may read but not write; the superuser steps down for the test."""
    if os.name != "posix":
        pytest.skip("folder rights are a POSIX matter")
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    assert not list(folder.iterdir())
    folder.chmod(0o755)


def test_success_leaves_the_file_and_nothing_else(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "clip.mp4") as temporary:
        temporary.write_bytes(b"whole")
        assert temporary.parent == tmp_path
        assert not (tmp_path / "clip.mp4").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]
    assert (tmp_path / "clip.mp4").read_bytes() == b"whole"


def test_a_new_file_has_the_usual_rights(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "atomic") as temporary:
        temporary.write_bytes(b"x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), FileNotFoundError("other")])
def test_an_exception_keeps_the_old_file_and_passes_through(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "state.bin"
    target.write_bytes(b"old")
    with pytest.raises(type(error)) as raised, atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert raised.value is error
    assert [p.name for p in tmp_path.iterdir()] == ["state.bin"]
    assert target.read_bytes() == b"old"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match="absent' does not exist"),
        atomic_path(tmp_path / "absent" / "x"),
    ):
        pytest.fail("the body must not run")


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file' is not a folder"), atomic_path(tmp_path / "file" / "x"):
        pytest.fail("the body must not run")


def test_an_unwritable_folder_is_named(locked_folder: Path) -> None:
    with pytest.raises(PermissionError, match="locked' is not writable"), atomic_path(locked_folder / "x"):
        pytest.fail("the body must not run")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    full = pytest.raises(OSError, match=f"the disk of the folder '{tmp_path}' is full")
    with full, atomic_path(tmp_path / "x"), Path("/dev/full").open("wb", buffering=0) as device:
        device.write(b"x")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_writer_that_replaces_the_file_does_not_hide_it_from_others(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "shared") as temporary:
        temporary.unlink()
        temporary.touch(mode=0o600)
    (tmp_path / "plain").touch()
    assert (tmp_path / "shared").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "clip") as temporary:
        (temporary / "1.png").write_bytes(b"x")
        assert not (tmp_path / "clip").exists()
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["clip", "clip/1.png"]
    with pytest.raises(RuntimeError, match="stop"), atomic_folder(tmp_path / "other") as temporary:
        (temporary / "1.png").write_bytes(b"x")
        raise RuntimeError("stop")
    assert [p.name for p in tmp_path.iterdir()] == ["clip"]


def test_a_folder_is_never_replaced(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="exists already"), atomic_folder(tmp_path):
        pass
    with pytest.raises(FileNotFoundError, match="absent' does not exist"), atomic_folder(tmp_path / "absent" / "x"):
        pass
