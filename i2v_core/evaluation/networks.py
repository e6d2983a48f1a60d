"""The networks of an evaluation, each loaded from its file or replaced by the sentence why it is not there."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from ..metrics.features.c3d import load_c3d
from ..metrics.features.clip import ClipModel, load_clip
from ..metrics.features.flow import FlowEstimator, load_raft, weightless_flow
from ..metrics.features.i3d import ClipFeatures, load_i3d
from ..metrics.features.inception import load_inception
from .measures import FeatureEncoders

T = TypeVar("T")


@dataclass(frozen=True)
class NetworkFiles:
    """Paths of the weights that the user has, see `metrics/features/files.py`; `quick_gelu` as `load_clip` takes it."""

    clip: Path | None = None
    i3d: Path | None = None
    c3d: Path | None = None
    inception: Path | None = None
    raft: Path | None = None
    quick_gelu: bool | None = None

    def identities(self) -> dict[str, str]:
        """Name and sha256 of every file given (of a folder: of its largest file), to stand beside the numbers."""
        given = ((field.name, getattr(self, field.name)) for field in fields(self) if field.name != "quick_gelu")
        return {
            kind: f"{path.name} sha256 {_sha256(path)}" for kind, path in given if path is not None and path.exists()
        }


@dataclass(frozen=True)
class Networks:
    """The networks that were loaded."""

    clip: ClipModel | str
    flow: FlowEstimator | str
    i3d: ClipFeatures | str
    c3d: ClipFeatures | str
    inception: Callable[[Tensor], Tensor] | str

    @classmethod
    def load(cls, files: NetworkFiles, device: str) -> "Networks":
        """Load what there is; a missing or unfit file leaves its sentence and does not stop the others."""
        flow = (lambda: load_raft(files.raft, device=device)) if files.raft else weightless_flow
        return cls(
            clip=_loaded(lambda: load_clip(files.clip, device=device, quick_gelu=files.quick_gelu)),
            flow=_loaded(flow),
            i3d=_loaded(lambda: load_i3d(files.i3d, device=device)),
            c3d=_loaded(lambda: load_c3d(files.c3d, device=device)),
            inception=_loaded(lambda: load_inception(files.inception, device=device)),
        )

    def encoders(self) -> FeatureEncoders:
        """For the measures of single clips."""
        clip, flow = self.clip, self.flow
        return FeatureEncoders(
            frames=clip if isinstance(clip, str) else clip.encode_frames,
            text=clip if isinstance(clip, str) else clip.encode_text,
            flow=flow if isinstance(flow, str) else flow.estimate,
        )

    def names(self) -> dict[str, str]:
        """Names of the networks whose kind varies."""
        named = {"clip": self.clip, "flow": self.flow}
        return {kind: network.name for kind, network in named.items() if not isinstance(network, str)}


def _loaded(load: Callable[[], T]) -> T | str:
    try:
        return load()
    except (ValueError, OSError) as error:
        return str(error)


def _sha256(path: Path) -> str:
    file = max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size) if path.is_dir() else path
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
