"""Each published protocol finds clips, prompts and categories in its data set's own layout."""

import json
import shutil
from pathlib import Path

import pytest

import dev
from i2v_core.evaluation.protocol import GenerationProtocol, read_protocol
from i2v_core.evaluation.tasks import find_sources, load_task
from tests.core.evaluation.small_clips import write_clips


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"), count=1)["truth"] / "clip0.mp4"


def lay_out(clip: Path, root: Path, files: dict[str, str | None]) -> Path:
    """Write texts, and copies of the clip where there is none."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            shutil.copy(clip, path)
        else:
            path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        (
            "webvid",
            {"results_2M_val.csv": "videoid,page_dir,name\n7,000_050,a fox runs\n", "videos/000_050/7.mp4": None},
            ("000_050-7", "a fox runs", None),
        ),
        ("dtdb", {"waterfall/x.mp4": None}, ("waterfall-x", "waterfall", "waterfall")),
        (
            "msrvtt",
            {
                "metadata.jsonl": json.dumps({"file_name": "TrainValVideo/video6513.mp4", "text": "a man cooks"}),
                "TrainValVideo/video6513.mp4": None,
            },
            ("TrainValVideo-video6513", "a man cooks", None),
        ),
        (
            "ucf101",
            {"ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi": None},
            ("ApplyEyeMakeup-v_ApplyEyeMakeup_g01_c01", "apply eye makeup", "ApplyEyeMakeup"),
        ),
    ],
)
def test_data_sets_are_found_as_their_protocols_say(
    name: str, files: dict[str, str | None], expected: tuple[str, str, str | None], clip: Path, tmp_path: Path
) -> None:
    folder = lay_out(clip, tmp_path, files)
    protocol = read_protocol(dev.ROOT / f"configs/protocols/{name}.toml", [f"folder={folder}", "fps=8", "clips=3"])
    cut = protocol.cut(2, 32, 32)
    found = find_sources(protocol, cut)
    assert found.left_out == {}
    (source,) = found.chosen
    task = load_task(source, protocol, cut)
    assert (task.name, task.caption, source.category) == expected
    assert task.truth is not None
    assert task.truth.shape == (3, 2, 32, 32)
    assert task.image.shape == (32, 32, 3)


def test_random_clips_come_from_the_seed_and_others_take_the_place_of_broken_ones(clip: Path, tmp_path: Path) -> None:
    files: dict[str, str | None] = {f"{i}.mp4": None for i in range(6)} | {f"{i}.txt": f"clip {i}" for i in range(6)}
    folder = lay_out(clip, tmp_path, files | {"2.mp4": "no video"})

    def names(seed: int) -> tuple[list[str], list[str]]:
        protocol = GenerationProtocol(clips=5, folder=str(folder), choose="random", seed=seed)
        found = find_sources(protocol, protocol.cut(2, 32, 32))
        return [source.name for source in found.chosen], list(found.left_out)

    assert names(0) == (["0", "1", "3", "4", "5"], ["2"])
    few = GenerationProtocol(clips=3, folder=str(folder), choose="random", seed=1)
    drawn = [source.name for source in find_sources(few, few.cut(2, 32, 32)).chosen]
    assert drawn == sorted(drawn)
    assert drawn == [source.name for source in find_sources(few, few.cut(2, 32, 32)).chosen]


def test_a_folder_without_a_usable_clip_says_why(clip: Path, tmp_path: Path) -> None:
    folder = lay_out(clip, tmp_path, {"a.mp4": None})
    protocol = GenerationProtocol(folder=str(folder))
    with pytest.raises(ValueError, match=r"the first, 'a': has no caption: expected a text file"):
        find_sources(protocol, protocol.cut(2, 32, 32))
    with pytest.raises(FileNotFoundError, match="set the protocol's folder"):
        find_sources(GenerationProtocol(folder=str(tmp_path / "absent")), protocol.cut(2, 32, 32))
