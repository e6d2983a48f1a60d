"""The options of all commands that run a base: its file, its adapters, and the files of the networks beside it."""

import argparse
from pathlib import Path
from typing import Any

from .known import AUTOENCODER, IMAGE_ENCODER, TEXT_ENCODER

COMPANIONS = (AUTOENCODER, TEXT_ENCODER, IMAGE_ENCODER)


def add_base_arguments(sub: argparse.ArgumentParser, default: Path) -> None:
    """Options that name the base; `default` is its file where none is given."""
    sub.add_argument("--checkpoint", default=default)
    sub.add_argument("--preset", help="what the base was trained as, where its weights do not tell")
    sub.add_argument("--adapter", action="append", default=[], help="adapter file; may be given several times")
    for companion in COMPANIONS:
        sub.add_argument(
            f"--{companion.option}", metavar="FILE",
            help=f"{companion.what}, where the checkpoint holds none: {'; '.join(companion.known.values())}",
        )  # fmt: skip


def base_files(arguments: argparse.Namespace) -> dict[str, Any]:
    """These options as keyword arguments of `load_checkpoint`."""
    names = ("preset", *(companion.argument for companion in COMPANIONS))
    return {name: getattr(arguments, name) for name in names}
