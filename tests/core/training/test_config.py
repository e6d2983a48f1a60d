"""A configuration file is understood whole or refused, with the key that was probably meant."""

from dataclasses import replace
from pathlib import Path

import pytest

from i2v_core.decoding import decode
from i2v_core.training.config import TrainConfig, TrainingConfig
from i2v_core.training.config_file import merged, parse_config, read_config, resolved, write_config
from i2v_core.training.methods import VIDEO_BASE, adapter_task, find_method, method_names, training_of
from tests.core.training.small import small_recipe

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted([*ROOT.glob("configs/*.toml"), *ROOT.glob("configs/paper/*.toml")])
RECIPES = sorted([*ROOT.glob("demo/**/*.toml"), *EXAMPLES])
SMALLEST = {"method": {"name": "look_back"}, "train": {"output_dir": "runs", "max_train_steps": 10}}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    odd = replace(
        recipe,
        train=replace(recipe.train, output_name='a "quoted" name, é, \\ and\nmore', checkpoints_total_limit=3),
        optim=replace(recipe.optim, param_groups={"text encoder": 1e-30}),
        data=replace(recipe.data, photographs=tuple(f"skimage:{i:030d}.png" for i in range(8))),
    )
    for config in (recipe, odd):
        write_config(config, tmp_path / "config.toml")
        assert read_config(tmp_path / "config.toml") == config


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid(path: Path) -> None:
    config = read_config(path)
    assert config.method.name in {VIDEO_BASE, *method_names()}
    assert parse_config(resolved(config)) == config


def test_single_keys_are_set_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    write_config(parse_config(SMALLEST), path)
    config = read_config(
        path,
        ["train.max_train_steps=200", "train.ema.decay=0.5", "optim.param_groups.unet=1e-5", "data.size=32",
         "validation.prompt=pan left", "method.options.initialization=inversion", "diffusion.snr_gamma=5"],
    )  # fmt: skip
    assert (config.train.max_train_steps, config.train.ema.decay, config.data.size) == (200, 0.5, 32)
    assert config.optim.param_groups == {"unet": 1e-5}
    assert config.validation.prompt == "pan left"
    assert config.method.options == {"initialization": "inversion"}
    assert config.diffusion.snr_gamma == 5.0
    for wrong in ("max_train_steps=1", "train.max_train_steps", "train.seed.deeper=1"):
        with pytest.raises(ValueError, match=r"expected section.key=value|which is no section"):
            read_config(path, [wrong])


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train.max_trian_steps", "train.max_train_steps"),
        ("train.learning_rate", "optim.learning_rate"),
        ("train.ema.decai", "train.ema.decay"),
        ("optimm.learning_rate", "optim"),
        ("data.photograps", "data.photographs"),
    ],
)
def test_an_unknown_key_is_named_with_its_nearest_neighbor(tmp_path: Path, key: str, nearest: str) -> None:
    path = tmp_path / "config.toml"
    write_config(parse_config(SMALLEST), path)
    unknown = key.partition(".")[0] if key.startswith("optimm") else key
    with pytest.raises(ValueError, match=f"there is no key '{unknown}'; did you mean '{nearest}'\\?$"):
        read_config(path, [f"{key}=1"])


def test_an_unknown_option_of_a_method_is_named_before_anything_is_loaded() -> None:
    config = parse_config({**SMALLEST, "method": {"name": "look_back", "options": {"initialisation": "hybrid"}}})
    with pytest.raises(ValueError, match=r"'method.options.initialisation'; did you mean 'method.options.init"):
        adapter_task(config)
    config = parse_config({**SMALLEST, "method": {"name": "look_back", "adapter": {"deapth": 3}}})
    with pytest.raises(ValueError, match=r"'method.adapter.deapth'; did you mean 'method.adapter.depth'"):
        adapter_task(config)
    with pytest.raises(ValueError, match=r"name its base in model\.pretrained_model_name_or_path"):
        adapter_task(parse_config(SMALLEST))
    with pytest.raises(ValueError, match="there is no training of 'look_bck'; choose one of video_base, look_back"):
        adapter_task(parse_config({**SMALLEST, "method": {"name": "look_bck"}}))


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        (
            "train",
            {"output_dir": "runs", "max_train_steps": "ten"},
            "max_train_steps should be a whole number, got 'ten'",
        ),
        ("train", {"output_dir": "runs"}, r"lacks \['max_train_steps'\]"),
        ("train", {"output_dir": "runs", "max_train_steps": 0}, "max_train_steps must be at least 1, got 0"),
        ("train", {"output_dir": "", "max_train_steps": 1, "mixed_precision": "fp8"}, "mixed_precision"),
        ("data", {"kind": "film"}, "there is no data.kind 'film'; choose one of moving_crops"),
        ("data", 3, "data should be a section with keys of its own, got 3"),
        ("data", [1], r"data should be a section with keys of its own, got \[1\]"),
        ("data", {"kind": []}, r"there is no data.kind '\[\]'"),
        ("data", {"seed": -1}, "data: seed must be from 0 to 9223372036854775807, got -1"),
        ("validation", {"fps": 0.0}, "validation: fps must be from 0.001 to 10000.0, got 0.0"),
        ("diffusion", {"noisy_share": -1e9}, "diffusion: noisy_share must be from 0 to 1, got -1000000000.0"),
        ("optim", {"learning_rate": float("nan")}, "optim.learning_rate should be a finite number, got nan"),
        ("lora", 7, "lora should be a table"),
        (
            "train",
            {"output_dir": "", "max_train_steps": 1, "ema": {"decay": 1.0}},
            r"train.ema.decay must be in \[0, 1",
        ),
    ],
)
def test_a_wrong_value_is_named(section: str, values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_config({**SMALLEST, section: values})


@pytest.mark.parametrize(
    ("method", "given", "expected"),
    [
        ("look_back", {}, (None, 4, None, False)),
        ("look_back", {"frame_stride": 1}, (None, 1, None, False)),
        ("image_retention", {}, (None, 4, None, False)),
        ("trip", {}, (4.0, 1, None, False)),
        ("trip", {"frame_stride": 2}, (None, 2, None, False)),
        ("dynamicrafter", {}, (None, 1, 6, True)),
        ("dynamicrafter", {"target_fps": 8.0}, (8.0, 1, None, True)),
        ("dynamicrafter", {"rand_cond_frame": False}, (None, 1, 6, False)),
        ("video_base", {}, (None, 1, None, False)),
    ],
)
def test_clips_of_files_are_taken_as_the_method_s_paper_does_where_nobody_says(
    method: str, given: dict[str, object], expected: tuple[object, ...]
) -> None:
    data = parse_config({**SMALLEST, "method": {"name": method}, "data": {"kind": "files", "path": "x", **given}}).data
    assert (data.target_fps, data.frame_stride, data.frame_stride_max, data.rand_cond_frame) == expected


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[train\n")
    with pytest.raises(ValueError, match=r"config\.toml' is no valid TOML"):
        read_config(path)


def test_defaults_are_those_of_the_documentation() -> None:
    config = parse_config(SMALLEST)
    assert isinstance(config, TrainingConfig)
    assert config.train == TrainConfig("runs", 10)
    assert config.name == "look_back"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_options_and_adapters_of_the_example_configurations_are_the_methods(path: Path) -> None:
    method = find_method(read_config(path).method.name)
    training = training_of(method)
    given = read_config(path).method
    assert isinstance(decode(training.options, given.options, "method.options"), training.options)
    adapter = method.config
    assert isinstance(decode(adapter, given.adapter, "method.adapter"), adapter)


def test_further_values_go_into_tables_or_replace_another_method_and_kind() -> None:
    own = {"method": {"name": "trip", "options": {"trained": "all"}}, "data": {"kind": "files", "path": "a"}, "x": 1}
    assert merged(own, {"data": {"path": "b"}, "x": 2}) == {**own, "data": {"kind": "files", "path": "b"}, "x": 2}
    assert merged(own, {"method": {"name": "look_back"}})["method"] == {"name": "look_back"}
    assert merged(own, {"data": {"kind": "moving_crops"}})["data"] == {"kind": "moving_crops"}
    assert own["x"] == 1
