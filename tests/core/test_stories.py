"""Each part continues the one before; the shared frame is there once."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from i2v_core import Checkpoint
from i2v_core.data.moving_crops import MovingCrops
from i2v_core.generate import GenerateConfig, animate
from i2v_core.metrics.color_drift import color_drift
from i2v_core.stories import Part, join_clips, read_story, tell_story
from i2v_core.training.new_model import fitted_autoencoder, new_networks, new_preset
from i2v_core.video import clip_to_frames
from tests.core.training.small import small_recipe

PICTURE = torch.linspace(0.1, 0.8, 32 * 32 * 3).reshape(32, 32, 3)
PARTS = [Part("pan left"), Part("zoom in", frames=4, seed=9, guidance=1.0), Part("still", negative="zoom in")]
CONFIG = GenerateConfig(seed=5)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("stories")
    recipe = small_recipe(folder)
    text_encoder, unet = new_networks(recipe)
    for parameter in unet.out.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    autoencoder = fitted_autoencoder(recipe, MovingCrops(recipe.data), folder / "patches.safetensors")
    return Checkpoint(unet.eval(), None, autoencoder, text_encoder, new_preset(recipe), "i2v", {})


def test_a_story_of_one_part_is_an_animation(checkpoint: Checkpoint) -> None:
    story = tell_story(checkpoint, PICTURE, [Part("pan left")], config=CONFIG)
    assert torch.equal(story.clip, animate(checkpoint, PICTURE, "pan left", config=CONFIG))
    assert story.joins == ()
    assert torch.equal(story.parts()[0], story.clip)


def test_shared_frames_are_there_once(checkpoint: Checkpoint) -> None:
    story = tell_story(checkpoint, PICTURE, PARTS, config=CONFIG)
    assert story.clip.shape == (3, 3 + 3 + 2, 32, 32)
    assert story.joins == (2, 5)
    assert [part.shape[1] for part in story.parts()] == [3, 4, 3]
    for before, after in zip(story.parts(), story.parts()[1:], strict=False):
        assert torch.equal(before[:, -1], after[:, 0])


def test_a_part_with_a_picture_of_its_own_begins_after_a_cut(checkpoint: Checkpoint, tmp_path: Path) -> None:
    other = (torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(0)) * 255).byte()
    Image.fromarray(other.numpy()).save(tmp_path / "other.png")
    told = [PARTS[0], PARTS[1], {"prompt": "still", "image": "other.png"}, "zoom in"]
    parts = read_story(write(tmp_path, [asdict(each) if isinstance(each, Part) else each for each in told]))
    story = tell_story(checkpoint, PICTURE, parts, config=CONFIG)
    assert story.clip.shape[1] == 3 + 3 + 3 + 2
    assert (story.joins, story.cuts) == ((2, 8), (6,))
    first, second, third, fourth = story.parts()
    assert [part.shape[1] for part in story.parts()] == [3, 4, 3, 3]
    assert torch.equal(first[:, -1], second[:, 0]) and torch.equal(third[:, -1], fourth[:, 0])
    assert torch.equal(third, animate(checkpoint, other, "still", config=replace(CONFIG, seed=5 + 2)))
    assert [(scene.shape[1], ends) for scene, ends in story.scenes()] == [(6, [2, 5]), (5, [2, 4])]
    alone = tell_story(checkpoint, PICTURE, [replace(parts[2], seed=7)], config=CONFIG)
    assert torch.equal(alone.clip, third) and alone.cuts == ()


def test_a_part_is_the_animation_of_the_last_frame_with_its_own_words_and_numbers(checkpoint: Checkpoint) -> None:
    story = tell_story(checkpoint, PICTURE, PARTS, config=CONFIG)
    first, second, third = story.parts()
    own = GenerateConfig(seed=9, frames=4, guidance=1.0)
    again = animate(checkpoint, clip_to_frames(first)[-1], "zoom in", config=own)
    torch.testing.assert_close(second[:, 1:], again[:, 1:], rtol=0, atol=1e-4)
    own = GenerateConfig(seed=5 + 2)
    again = animate(checkpoint, clip_to_frames(second)[-1], "still", negative_prompt="zoom in", config=own)
    torch.testing.assert_close(third[:, 1:], again[:, 1:], rtol=0, atol=1e-4)


def test_a_part_says_only_what_it_changes() -> None:
    story = GenerateConfig(seed=5, steps=7, guidance=2.0, text_scale=3.0)
    assert Part("").config(story, 2) == replace(story, seed=7)
    assert Part("", seed=0, text_scale=1.0, image_scale=0.5).config(story, 2) == replace(
        story, seed=0, text_scale=1.0, image_scale=0.5
    )


def test_latents_are_handed_over_without_another_round_trip(checkpoint: Checkpoint) -> None:
    by_pixels, by_latents = (
        tell_story(checkpoint, PICTURE, PARTS, config=CONFIG, handover=way) for way in ("pixels", "latents")
    )
    assert torch.equal(by_pixels.parts()[0], by_latents.parts()[0])
    assert not torch.equal(by_pixels.parts()[1], by_latents.parts()[1])


def test_matched_colors_end_every_part_on_the_picture_s(checkpoint: Checkpoint) -> None:
    plain, matched = (tell_story(checkpoint, PICTURE, PARTS, config=CONFIG, color_match=match) for match in (0.0, 1.0))
    given = PICTURE.permute(2, 0, 1) * 2 - 1
    ends = [*plain.joins, -1]
    before, after = (color_drift(story.clip[:, ends], given) for story in (plain, matched))
    assert (after < 0.5 * before).all()
    assert torch.equal(plain.clip[:, 0], matched.clip[:, 0])


def test_progress_names_the_part(checkpoint: Checkpoint) -> None:
    seen: list[tuple[int, int, int]] = []
    tell_story(checkpoint, PICTURE, PARTS[:2], config=CONFIG, on_step=lambda *at: seen.append(at))
    assert seen == [(0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 2)]


def test_joining_keeps_the_earlier_clip_s_copy_of_what_is_shared() -> None:
    a, b = torch.randn(3, 4, 2, 2), torch.randn(3, 3, 2, 2)
    assert torch.equal(join_clips([a, b], shared=2), torch.cat([a, b[:, 2:]], dim=1))
    assert torch.equal(join_clips([a, b], shared=0), torch.cat([a, b], dim=1))
    assert torch.equal(join_clips([a]), a)


def test_a_matched_join_takes_the_tint_of_later_clips_away() -> None:
    whole = torch.rand(3, 7, 8, 8) - 0.5
    gain, offset = torch.tensor([0.9, 1.1, 1.0])[:, None, None, None], 0.1
    clips = [whole[:, :3], gain * whole[:, 2:5] + offset, whole[:, 4:] / gain - offset]
    torch.testing.assert_close(join_clips(clips, match=True), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("clips", "arguments", "sentence"),
    [
        ([], {}, "one or more clips"),
        ([torch.zeros(3, 2, 8, 8), torch.zeros(3, 2, 8, 16)], {}, "clip 2 is 16x8 with 3 channels, the first is 8x8"),
        ([torch.zeros(3, 2, 8, 8), torch.zeros(3, 1, 8, 8)], {}, "clip 2 has 1 frames, and 1 of them are shared"),
        ([torch.zeros(3, 2, 8, 8)], {"shared": 0, "match": True}, "needs shared frames"),
    ],
)
def test_clips_that_do_not_fit_are_refused(clips: list[torch.Tensor], arguments: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        join_clips(clips, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"parts": []}, "at least one part"),
        ({"color_match": 1.5}, "from 0, not at all, to 1, wholly; got 1.5"),
        ({"color_match": 0.5, "handover": "latents"}, "hand over pixels"),
    ],
)
def test_stories_that_cannot_be_told_are_refused(
    checkpoint: Checkpoint, arguments: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        tell_story(checkpoint, PICTURE, **({"parts": PARTS} | arguments))  # type: ignore[arg-type]


def write(folder: Path, value: object) -> Path:
    path = folder / "story.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_story_file_is_a_list_of_prompts_or_parts(tmp_path: Path) -> None:
    parts = read_story(write(tmp_path, ["pan left", {"prompt": "zoom in", "frames": 4, "guidance": 2, "seed": 1}]))
    assert parts == [Part("pan left"), Part("zoom in", frames=4, guidance=2.0, seed=1)]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("pan left", "story.json' is no valid JSON"),
        ({}, "a list of one or more parts"),
        ([], "a list of one or more parts"),
        (["still", 5], "part 2 of 'story.json' should be a prompt or an object with 'prompt'"),
        (["still", {"promt": "still"}], "part 2 of 'story.json': there is no key 'promt'; did you mean 'prompt'"),
        ("[" * 50_000, "story.json' is nested more than 64 deep"),
        ([{"prompt": "still", "seed": 10**30}], "story.json' has the number 10+, which is beyond"),
        ([{"prompt": "still", "seed": -1}], "part 1 of 'story.json': seed must be from 0 to 9223372036854775807"),
        ('["still", {"prompt": "in", "guidance": NaN}]', "only finite numbers"),
        ([{"prompt": "still", "seed": "one"}], "part 1 of 'story.json': .*seed"),
        ([{"prompt": "still", "frames": 1}], "at least 2 frames"),
        (
            ["still", {"prompt": "still", "image": "none.png"}],
            "part 2 of .*: there is no picture 'none.png'",
        ),
    ],
)
def test_what_a_story_file_cannot_hold_is_named(tmp_path: Path, value: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_story(write(tmp_path, value))
