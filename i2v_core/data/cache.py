"""Latents and text features of clips, encoded once and kept as safetensors.

An entry's name is the SHA-256 of everything it depends on: the bytes of the file, how frames are taken from it, and the
weights of the encoder. So a changed file or setting makes a new entry, and runs and processes can share a folder. All
usable frames of a file are kept, more than a clip has: where a clip begins is drawn anew every time.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..unusable import UNUSABLE
from ..video import to_model_range
from .audit import OnFile
from .clip import FileClip
from .file_clips import Choice, FileClips, UsedFile, decoder_threads
from .records import kept_file
from .sampling import Timeline

logger = logging.getLogger("i2v_core.training")

FRAMES_AT_ONCE = 16
FORMAT = 1


@dataclass(frozen=True)
class CacheEncoders:
    """The encoders whose outputs a cache keeps.

    Attributes:
        pixels: frames `b c h w` in [-1, 1] to latents `b c h w`, each frame by itself.
        pixels_hash: of its weights, see `weights_hash`.
        texts: captions to features `b n d` and pooled ones `b d` (or None); None keeps no text, for runs that train the
            text encoder.
        texts_hash: of its weights.
        device: where `pixels` wants its input.
    """

    pixels: Callable[[Tensor], Tensor]
    pixels_hash: str
    texts: Callable[[list[str]], tuple[Tensor, Tensor | None]] | None = None
    texts_hash: str = ""
    device: str | torch.device = "cpu"


def weights_hash(module: nn.Module) -> str:
    """SHA-256 of all weights of a network, with their names and types; the device does not matter."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class UnreadableError(ValueError):
    """A file that was good when the run began cannot be read any more."""


class CachedClips(Dataset[FileClip]):
    """The same clips as those of `clips`, with latents in place of pixels; only the given picture is decoded."""

    def __init__(self, clips: FileClips, pixels_hash: str, texts_hash: str = "") -> None:
        self.clips = clips
        self.pixels_hash, self.texts_hash = pixels_hash, texts_hash
        self.folder = clips.store.folder

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, item: int) -> FileClip:
        return self.clip(item)

    def clip(self, item: int) -> FileClip:
        return self.clips.first_readable(item, self._read)

    def summary(self) -> str:
        return f"{self.clips.summary()}\nlatents from {self.folder}"

    def fingerprint(self) -> str:
        return self.clips.fingerprint()

    def text(self, caption: str) -> tuple[Tensor, Tensor | None]:
        """Features of a caption that was kept, "" among them: `n d`, and pooled `d` or None; float32."""
        kept = load_file(self.text_path(caption))
        pooled = kept.get("pooled_text")
        return kept["text"].float(), None if pooled is None else pooled.float()

    def latents_path(self, file: UsedFile, timeline: Timeline) -> Path:
        """Path of a file's cached latents."""
        told = (FORMAT, file.content, file.size, timeline.shots, self.clips.config.cache_dtype, self.pixels_hash)
        return self._path("latents", told)

    def text_path(self, caption: str) -> Path:
        """Path of a caption's cached features."""
        return self._path("texts", (FORMAT, caption, self.clips.config.cache_dtype, self.texts_hash))

    def _path(self, kind: str, told: tuple[object, ...]) -> Path:
        name = hashlib.sha256(repr(told).encode()).hexdigest()
        return self.folder / kind / name[:2] / f"{name[2:]}.safetensors"

    def _read(self, choice: Choice) -> FileClip:
        file, frames = choice.file, choice.window.frames
        rows = [choice.timeline.row(frame) for frame in frames]
        path = self.latents_path(file, choice.timeline)
        try:
            with safe_open(path, "pt") as kept:
                # Only this stretch is read from the disk.
                stretch = kept.get_slice("latents")[rows[0] : rows[-1] + 1]
        except SafetensorError as error:
            raise ValueError(f"its latents '{path}' cannot be read ({error}): delete that file") from error
        latents = stretch[[row - rows[0] for row in rows]]
        index, given = choice.timeline.index, frames[choice.image_index]
        [picture] = file.media.read([given], index, file.size, decoder_threads())
        text, pooled = self.text(file.caption) if self.texts_hash else (None, None)
        return FileClip(
            pixels=None,
            image=rearrange(to_model_range(picture), "h w c -> c h w"),
            image_index=choice.image_index,
            caption=file.caption,
            latents=rearrange(latents.float(), "t c h w -> c t h w"),
            fps=choice.window.fps,
            stride=choice.window.stride,
            text=text,
            pooled_text=pooled,
            name=file.name,
        )


def fill_cache(
    clips: FileClips, encoders: CacheEncoders, *, part: int = 0, parts: int = 1, on_file: OnFile | None = None
) -> CachedClips:
    """Encode what is not kept yet, and return the clips that read it.

    Entries appear complete or not at all: an interrupted filling goes on where it was. A file that cannot be read is
    named in the log and passed over.

    Args:
        part, parts: which of how many processes this is. Each begins with files of its own and goes on with what the
            others have not done, from their end on: who returns finds everything kept, and nobody waits.
        on_file: called with the files done, their number, and a name.
    """
    cached = CachedClips(clips, encoders.pixels_hash, encoders.texts_hash if encoders.texts else "")
    numbers = _shared_out(len(clips.files), part, parts)
    if encoders.texts is not None:
        for caption in {"": None} | {clips.files[number].caption: None for number in numbers}:
            _keep_text(cached, caption, encoders.texts)
    for done, number in enumerate(numbers, start=1):
        file = clips.files[number]
        try:
            _keep_latents(cached, file, encoders)
        except UnreadableError as error:
            logger.warning("%s is not kept: %s", file.name, error)
        if on_file is not None:
            on_file(done, len(numbers), file.name)
    return cached


def _shared_out(count: int, part: int, parts: int) -> list[int]:
    """All numbers below `count`: this part's own ascending, then those of the others descending."""
    others = [number for number in range(count) if number % parts != part]
    return [*range(part, count, parts), *reversed(others)]


def _keep_latents(cached: CachedClips, file: UsedFile, encoders: CacheEncoders) -> None:
    try:
        timeline = cached.clips.timeline(file)
    except UNUSABLE as error:
        raise UnreadableError(error) from error
    path = cached.latents_path(file, timeline)
    if not path.exists():
        encoded = torch.cat(list(_encode(cached.clips, file, timeline, encoders)))
        _save(path, {"latents": encoded}, {"file": file.name})


@torch.no_grad()
def _encode(clips: FileClips, file: UsedFile, timeline: Timeline, encoders: CacheEncoders) -> Iterator[Tensor]:
    """Latents `t c h w` of the usable frames, a few at a time."""
    dtype = getattr(torch, clips.config.cache_dtype)
    waiting: list[Tensor] = []

    def encoded() -> Tensor:
        pixels = rearrange(to_model_range(torch.stack(waiting)), "t h w c -> t c h w")
        waiting.clear()
        return encoders.pixels(pixels.to(encoders.device)).to("cpu", dtype)

    for picture in _pictures(file, timeline):
        waiting.append(picture)
        if len(waiting) == FRAMES_AT_ONCE:
            yield encoded()
    if waiting:
        yield encoded()


def _pictures(file: UsedFile, timeline: Timeline) -> Iterator[Tensor]:
    """The usable frames, `h w 3` each; what is wrong with the file is an UnreadableError."""
    try:
        yield from file.media.stream(timeline.frames(), timeline.index, file.size, decoder_threads())
    except UNUSABLE as error:
        raise UnreadableError(error) from error


@torch.no_grad()
def _keep_text(cached: CachedClips, caption: str, encode: Callable[[list[str]], tuple[Tensor, Tensor | None]]) -> None:
    path = cached.text_path(caption)
    if path.exists():
        return
    text, pooled = encode([caption])
    features = {"text": text[0]} | ({} if pooled is None else {"pooled_text": pooled[0]})
    dtype = getattr(torch, cached.clips.config.cache_dtype)
    _save(path, {name: tensor.to("cpu", dtype) for name, tensor in features.items()}, {"caption": caption})


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    with kept_file(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)
