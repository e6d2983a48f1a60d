"""Where the host keeps weights; the demo checkpoint of this pack is listed beside the user's own."""

from pathlib import Path

import folder_paths

DEMO = "i2v_demo"
KINDS = ("checkpoints", "diffusion_models", DEMO)
PACK = Path(__file__).parents[2]


def register_demo_folder() -> None:
    """Make the pack's demo folder known to the host, adding to what the user may have configured."""
    folder_paths.add_model_folder_path(DEMO, str(PACK / "demo"))
    # A name that is new to the host starts with no file types, which means all.
    folder_paths.folder_names_and_paths[DEMO][1].update(folder_paths.supported_pt_extensions)


def checkpoint_names() -> list[str]:
    """Names of all weights files that may hold a model, as the host lists them."""
    return list(dict.fromkeys(name for kind in KINDS for name in folder_paths.get_filename_list(kind)))


def checkpoint_path(name: str) -> Path:
    """Find a file by its listed name.

    Raises FileNotFoundError if it has gone since.
    """
    found = next((path for kind in KINDS if (path := folder_paths.get_full_path(kind, name))), None)
    if found is None:
        raise FileNotFoundError(f"There is no weights file '{name}' any more: refresh the list and choose again.")
    return Path(found)
