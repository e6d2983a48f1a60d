"""The host's folders of weights; the demo checkpoint of this pack is listed with the user's own."""

from pathlib import Path

import folder_paths

DEMO, DEMO_ADAPTERS = "i2v_demo", "i2v_demo_adapters"
KINDS = ("checkpoints", "diffusion_models", DEMO)
ADAPTER_KINDS = ("model_patches", DEMO_ADAPTERS)
PACK = Path(__file__).parents[2]


def register_demo_folders() -> None:
    """Make the pack's demo folders known to the host, adding to what the user may have configured."""
    for kind, folder in ((DEMO, PACK / "demo"), (DEMO_ADAPTERS, PACK / "demo" / "adapters")):
        folder_paths.add_model_folder_path(kind, str(folder))
        # A name that is new to the host starts with no file types, which means all.
        folder_paths.folder_names_and_paths[kind][1].update(folder_paths.supported_pt_extensions)


def checkpoint_names() -> list[str]:
    """Names of all weights files that may hold a model, as the host lists them."""
    adapters = {f"adapters{separator}{name}" for name in _listed((DEMO_ADAPTERS,)) for separator in "/\\"}
    return [name for name in _listed(KINDS) if name not in adapters]


def checkpoint_path(name: str) -> Path:
    """Find a file by its listed name.

    Raises FileNotFoundError if it has gone since.
    """
    return _path(KINDS, name)


def adapter_names() -> list[str]:
    """Names of all weights files that may hold an adapter, as the host lists them."""
    return _listed(ADAPTER_KINDS)


def adapter_path(name: str) -> Path:
    """Find an adapter by its listed name; raises as `checkpoint_path` does."""
    return _path(ADAPTER_KINDS, name)


def _listed(kinds: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(name for kind in kinds for name in folder_paths.get_filename_list(kind)))


def _path(kinds: tuple[str, ...], name: str) -> Path:
    found = next((path for kind in kinds if (path := folder_paths.get_full_path(kind, name))), None)
    if found is None:
        raise FileNotFoundError(f"There is no weights file '{name}' any more: refresh the list and choose again.")
    return Path(found)
