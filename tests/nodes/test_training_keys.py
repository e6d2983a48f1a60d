"""The keys that a workflow may set are a list, and everything else is closed until somebody opens it."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import pytest

# Files, states to go on from, processes and devices; a key that is new belongs here or into `nodes/training_keys.py`.
CLOSED = {
    "method.name", "train.output_dir", "train.device", "train.resume_from_checkpoint", "train.output_name",
    "train.dataloader_num_workers", "train.find_unused_parameters", "model.pretrained_model_name_or_path", "model.vae",
    "model.image_encoder", "data.path", "data.cache_directory", "data.confined", "data.photographs",
    "diffusion.prediction", "diffusion.betas", "validation.image", "logging.report_to", "optim.param_groups",
    "method.options.begin_with",
    "method.options.encoder_file", "method.adapter.channels", "method.adapter.image_features", "method.adapter.sites",
    "method.adapter.projection.image_features", "method.adapter.projection.output_features",
    "method.adapter.injection.sites", "method.adapter.injection.context_dim",
    "data.folder", "data.split", "data.figures", "data.motions", "data.backgrounds", "data.sides", "data.off_center",
    "data.named", "data.colors", "data.placed",
}  # fmt: skip
CLOSED_TABLES = ("model.", "method.adapter.unet.", "method.adapter.injection.visual_detail.")


@pytest.fixture(scope="module")
def keys(pack: Any) -> Any:
    return importlib.import_module(".nodes.training_keys", pack.__name__)


def leaves(kind: type, place: str) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(kind)
    for field in fields(kind):
        key = f"{place}.{field.name}" if place else field.name
        nested = [hint for hint in (hints[field.name], *get_args(hints[field.name])) if is_dataclass(hint)]
        yield from leaves(nested[0], key) if nested else [(key, hints[field.name])]


@pytest.fixture(scope="module")
def known(core: Callable[[str], Any]) -> dict[str, set[Any]]:
    """Every key of every kind of training, and the types that it may have."""
    found = dict[str, set[Any]]()
    sections = [(core("training.config").TrainingConfig, "")]
    sections += [(kind.config, "data") for kind in core("data.datasets").DATASETS.values()]
    for method in core("methods").METHODS.values():
        sections += [(method.training.options, "method.options"), (method.config, "method.adapter")]
    for kind, place in sections:
        for key, hint in leaves(kind, place):
            found.setdefault(key, set()).add(hint)
    return {key: hints for key, hints in found.items() if key not in ("data", "method.options", "method.adapter")}


def test_every_key_is_either_open_or_closed(keys: Any, known: dict[str, set[Any]]) -> None:
    named = {key for key in known if not key.startswith(CLOSED_TABLES)} | {key for key in CLOSED if key in known}
    open_keys = {key for key in keys.KEYS if not key.startswith("optim.param_groups.")}
    assert open_keys | CLOSED == named
    assert not open_keys & CLOSED
    assert not [key for key in open_keys if key.startswith(CLOSED_TABLES)]


def test_no_open_key_is_free_text_but_the_prompt(keys: Any, known: dict[str, set[Any]]) -> None:
    free = {key for key in keys.KEYS & known.keys() for hint in known[key] if str in (hint, *get_args(hint))}
    assert free == {"validation.prompt", "method.options.trained_along"}, "names of weights, and a prompt"


@pytest.mark.parametrize("key", sorted(CLOSED))
def test_a_closed_key_is_named(keys: Any, key: str) -> None:
    with pytest.raises(ValueError, match=rf"may not set '{key}'.*command line"):
        keys.check_keys(f"{key} = 'x'")


def test_open_keys_pass_and_a_misspelled_one_finds_its_neighbor(keys: Any) -> None:
    keys.check_keys(
        "[train]\nmax_train_steps = 3\n[optim.param_groups]\nadapter = 0.1\n[data]\n[method.adapter.encoder]"
    )
    with pytest.raises(ValueError, match=r"did you mean train\.max_train_steps"):
        keys.check_keys("train.max_steps = 3")
    for table in ("model", "model.unet.deeper", "method.adapter.unet"):
        with pytest.raises(ValueError, match=f"may not set '{table}"):
            keys.check_keys(f"[{table}]\nin_channels = 3")
