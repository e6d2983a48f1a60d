"""What the pictures of the documentation are made of."""

from pathlib import Path

import pytest
from PIL import Image

import dev
from tools.examples import EXAMPLES, Canvas
from tools.pictures import THUMBNAIL, api_workflow, changed, runnable, save, sheet, thumbnail

RED, BLUE = (250, 5, 5), (5, 5, 250)


def frames(*colors: tuple[int, int, int]) -> list[Image.Image]:
    return [Image.new("RGB", (64, 64), color) for color in colors]


def test_changes_replace_inputs_and_nodes_in_a_copy() -> None:
    graph = {"1": {"class_type": "A", "inputs": {"x": 1}}}
    new = changed(graph, {"2": {"class_type": "B", "inputs": {"y": 2}}, "2.y": 3, "1.x": ["2", 0]})
    assert new == {"1": {"class_type": "A", "inputs": {"x": ["2", 0]}}, "2": {"class_type": "B", "inputs": {"y": 3}}}
    assert graph["1"]["inputs"] == {"x": 1}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_changes_inputs_and_links_that_exist(name: str) -> None:
    what, kinds = EXAMPLES[name], set()
    for run in [what] if isinstance(what, Canvas) else what:
        before, graph = api_workflow(run.workflow), changed(api_workflow(run.workflow), run.changes)
        for place in run.changes:
            number, _, key = place.partition(".")
            known = {**before, **{n: run.changes[n] for n in run.changes if "." not in n}}
            assert not key or key in known[number]["inputs"], f"{name}: {place}"
        for node in graph.values():
            links = [value for value in node["inputs"].values() if isinstance(value, list)]
            assert all(source in graph for source, _ in links), name
        kinds |= {node["class_type"] for node in graph.values()}
    assert name in kinds, "an example shows the node of its page"


def test_rows_stand_below_one_another_and_single_frames_side_by_side() -> None:
    rows = sheet([("red", frames(RED, BLUE)), ("blue", frames(BLUE))])
    assert rows.getpixel((rows.width - 50, 40)) == BLUE
    assert rows.getpixel((rows.width - 150, 140)) == BLUE
    assert rows.getpixel((rows.width - 150, 40)) == RED
    singles = sheet([("red", frames(RED)), ("blue", frames(BLUE))])
    assert singles.width > singles.height
    assert (singles.getpixel((50, 100)), singles.getpixel((300, 100))) == (RED, BLUE)


def test_a_thumbnail_shows_first_middle_and_last_frame_above_the_graph() -> None:
    graph = Image.new("RGB", (900, 300), (100, 100, 100))
    picture = thumbnail(graph, frames(RED, BLUE, BLUE, RED, RED))
    assert picture.size == THUMBNAIL
    assert [picture.getpixel((x, 100)) for x in (100, 384, 700)] == [RED, BLUE, RED]
    assert picture.getpixel((384, 400)) == (100, 100, 100)
    assert thumbnail(graph, []).getpixel((5, 5)) == (100, 100, 100)


def test_a_picture_that_cannot_be_made_small_enough_is_refused(tmp_path: Path) -> None:
    noise = Image.effect_noise((400, 400), 90).convert("RGB")
    with pytest.raises(ValueError, match="stays above 2000 bytes"):
        save(noise, tmp_path / "noise.jpg", width=400, largest=2000)
    save(noise, tmp_path / "noise.jpg", width=100, largest=10_000)
    with Image.open(tmp_path / "noise.jpg") as written:
        assert written.size == (100, 100)


def test_the_workflows_that_need_no_file_are_those_of_the_index() -> None:
    assert "animate_image" in runnable()
    assert "loop" not in runnable()
    assert all((dev.ROOT / f"workflows/{name}.json").is_file() for name in runnable())
