"""Weights of the feature networks: each one's file, its usual source, and reading it. Nothing is ever downloaded."""

import importlib
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ...files import StrPath
from ...weights.files import CheckpointError, read_tensors


@dataclass(frozen=True)
class WeightsSource:
    """A weights file to bring: its usual name, its source, and its hash as far as one is published."""

    metrics: str
    file: str
    source: str
    checksum: str


# Only hashes that the publishers state; torch hub writes the first eight digits of the sha256 into file names.
SOURCES = {
    "clip": WeightsSource(
        "ISIM, CLIPSIM, F-Consistency, FFF_CLIP and subject and image consistency",
        "a transformers folder such as clip-vit-base-patch32, or an OpenCLIP or OpenAI file such as ViT-B-32.pt",
        "openai/clip-vit-base-patch32 or openai/clip-vit-large-patch14 on Hugging Face, or OpenAI's CLIP repository",
        "ViT-B-32.pt 40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af, "
        "ViT-L-14.pt b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    ),
    "i3d": WeightsSource(
        "FVD and KVD",
        "i3d_pretrained_400.pt (a state dict) or i3d_torchscript.pt",
        "the links in common_metrics_on_video_quality or VideoGPT, or StyleGAN-V",
        "none is published",
    ),
    "c3d": WeightsSource(
        "the video Inception Score",
        "c3d_ucf101.pt (TorchScript), or conv3d_deepnetA_ucf.npz or a state dict with the same layer names",
        "StyleGAN-V or TGAN2",
        "none is published",
    ),
    "inception": WeightsSource(
        "frame-wise FID",
        "weights-inception-2015-12-05-6726825d.pth",
        "the releases of torch-fidelity, or pt_inception-2015-12-05-6726825d.pth of pytorch-fid",
        "begins with 6726825d",
    ),
    "raft": WeightsSource(
        "dynamic degree and flow on RAFT",
        "raft_large_C_T_SKHT_V2-ff5fadd5.pth or raft_small_C_T_V2-01064c6d.pth",
        "torchvision's model pages",
        "begins with ff5fadd5 or 01064c6d",
    ),
}


def required_path(kind: str, path: StrPath | None) -> Path:
    """Return the path if something is there; raises FileNotFoundError naming file, source and hash otherwise."""
    if path is not None and Path(path).exists():
        return Path(path)
    wanted = SOURCES[kind]
    given = "none was given" if path is None else f"there is nothing at '{path}'"
    raise FileNotFoundError(
        f"No weights for {wanted.metrics}: {given}. Give --{kind} the path of {wanted.file}. "
        f"Usual source: {wanted.source}; sha256: {wanted.checksum}. Nothing is downloaded."
    )


def state_dict(path: Path) -> dict[str, Tensor]:
    """Read named tensors; raises CheckpointError with the file's name for anything else."""
    try:
        return read_tensors(path).tensors
    except CheckpointError as error:
        raise CheckpointError(f"'{path}' cannot be read: {error}") from error


def load_weights(network: torch.nn.Module, tensors: dict[str, Tensor], path: Path, what: str) -> torch.nn.Module:
    """Fill a network for evaluation; raises CheckpointError naming the keys that do not fit."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = sorted(set(expected) - set(tensors) - counters)
    unexpected = sorted(set(tensors) - set(expected))
    other = sorted(name for name in set(expected) & set(tensors) if tuple(tensors[name].shape) != expected[name])
    if missing or unexpected or other:
        lists = {"missing": missing, "unexpected": unexpected, "of another shape": other}
        told = "; ".join(f"{word}: {', '.join(names[:3])} ({len(names)})" for word, names in lists.items() if names)
        raise CheckpointError(f"'{path}' does not hold {what}: {told}. Choose the file that --help names.")
    network.load_state_dict(tensors, strict=False)
    return network.eval().requires_grad_(False)


def is_torchscript(path: Path) -> bool:
    """Tell from a file's content that it is a TorchScript archive."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def load_torchscript(path: Path, device: str) -> Any:
    """Load a TorchScript archive, whose code is restricted to tensor operations."""
    with warnings.catch_warnings():
        # PyTorch means to drop the format; that is why every network here has a form that reads plain tensors.
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(str(path), map_location=device).eval()


def optional_module(name: str) -> ModuleType:
    """Import a library of the `evaluate` extra; raises ValueError saying how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"This needs the library '{name.partition('.')[0]}': run `pip install \".[evaluate]\"` ({error})."
        ) from error
