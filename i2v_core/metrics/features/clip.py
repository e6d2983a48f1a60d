"""CLIP embeddings of frames and texts, from a transformers folder or from a file in OpenCLIP's layout.

Preprocessing is that of the published metrics: RGB bytes, bicubic resize of the short side with Pillow's antialiasing,
center crop, CLIP's mean and deviation, float32. Torch's own resize differs in the third decimal.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ...files import StrPath
from ...text_files import read_json
from ...video.frames import clip_to_frames, to_bytes
from ...weights.files import CheckpointError
from .files import is_torchscript, load_torchscript, load_weights, optional_module, required_path, state_dict

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# OpenAI's own state dicts carry these, and were trained with QuickGELU.
OPENAI_MARKS = {"input_resolution", "context_length", "vocab_size"}
HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104}  # of the vision towers H, g and bigG; 64 elsewhere
BATCH = 32


@dataclass(frozen=True)
class ClipModel:
    """Frames and texts to embeddings of one space.

    Attributes:
        name: what to call it beside a number.
        size: side of the pictures it takes.
        pictures: `n 3 size size`, normalized, to `n d`.
        texts: sentences to `n d`; None without a text tower or tokenizer.
    """

    name: str
    size: int
    pictures: Callable[[Tensor], Tensor]
    texts: Callable[[list[str]], Tensor] | None

    def encode_frames(self, clip: Tensor) -> Tensor:
        """Embed every frame of a clip `c t h w` in [-1, 1]: `t d`, not normalized, on the CPU."""
        pictures = preprocess(clip, self.size)
        with torch.inference_mode():
            return torch.cat([self.pictures(part).float().cpu() for part in pictures.split(BATCH)])

    def encode_text(self, text: str) -> Tensor:
        """Embed one sentence, cut to the tower's length: `d`. Raises ValueError if this CLIP cannot read."""
        if self.texts is None:
            raise ValueError(f"CLIPSIM needs a text tower and a tokenizer, and {self.name} has none.")
        with torch.inference_mode():
            return self.texts([text])[0].float().cpu()


def preprocess(clip: Tensor, size: int) -> Tensor:
    """Turn the frames of a clip `c t h w` in [-1, 1] into CLIP's input `t 3 size size`."""
    from PIL import Image

    height, width = clip.shape[-2:]
    scale = size / min(height, width)
    # As torchvision rounds: the long side down.
    new = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    left, top = (round((side - size) / 2) for side in new)
    frames = []
    for frame in to_bytes(clip_to_frames(clip)).cpu().numpy():
        picture = Image.fromarray(frame)
        resized = picture if scale == 1 else picture.resize(new, Image.Resampling.BICUBIC)
        frames.append(np.asarray(resized.crop((left, top, left + size, top + size)), dtype=np.float32) / 255)
    pixels = (torch.from_numpy(np.stack(frames)) - torch.tensor(MEAN)) / torch.tensor(STD)
    return rearrange(pixels, "t h w c -> t c h w").contiguous()


def load_clip(path: StrPath | None, *, device: str = "cpu", quick_gelu: bool | None = None) -> ClipModel:
    """Load CLIP from a transformers folder or a file in OpenCLIP's layout.

    Args:
        quick_gelu: activation of a file: True for OpenAI's, DFN's and MetaCLIP's weights, False for LAION's. None reads
            it from the file's own marks or from `open_clip_config.json` beside it; a folder always tells it itself.

    Raises:
        FileNotFoundError: no file; the sentence names the usual ones.
        ValueError: a library is missing, another kind of file, or an activation that cannot be told.
    """
    found = required_path("clip", path)
    if found.is_dir():
        return _from_transformers(found, device)
    return _from_open_clip(found, device, quick_gelu)


def _from_transformers(folder: Path, device: str) -> ClipModel:
    transformers = optional_module("transformers")
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"'{folder}' has no config.json: expected a transformers folder of a CLIP model.")
    kind = _settings(folder / "config.json").get("model_type")
    if kind != "clip":
        raise CheckpointError(f"'{folder}' holds a model of type {kind!r}, expected 'clip'.")
    model = transformers.CLIPModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    model = model.to(device).eval().requires_grad_(False)
    texts = None
    if any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        length = model.config.text_config.max_position_embeddings

        def texts(sentences: list[str]) -> Tensor:
            tokens = tokenizer(sentences, padding=True, truncation=True, max_length=length, return_tensors="pt")
            return _features(model.get_text_features(**tokens.to(device)))

    return ClipModel(
        f"CLIP {folder.name}",
        model.config.vision_config.image_size,
        lambda pictures: _features(model.get_image_features(pixel_values=pictures.to(device))),
        texts,
    )


def _settings(file: Path) -> dict[str, Any]:
    values = read_json(file)
    if not isinstance(values, dict):
        raise CheckpointError(f"'{file}' should hold a JSON object.")
    return values


def _features(output: Any) -> Tensor:
    # A tensor before transformers 5, an object since.
    return output if isinstance(output, Tensor) else output.pooler_output


def _from_open_clip(file: Path, device: str, quick_gelu: bool | None) -> ClipModel:
    open_clip = optional_module("open_clip")
    tensors = dict(load_torchscript(file, "cpu").state_dict()) if is_torchscript(file) else state_dict(file)
    tensors = {name.removeprefix("module."): tensor.float() for name, tensor in tensors.items()}
    if "visual.conv1.weight" not in tensors or "text_projection" not in tensors:
        raise CheckpointError(f"'{file}' is no CLIP in OpenCLIP's layout: 'visual.conv1.weight' is missing.")
    activation = _activation(file, tensors) if quick_gelu is None else quick_gelu
    tensors = {name: tensor for name, tensor in tensors.items() if name not in OPENAI_MARKS}
    config = _open_clip_config(tensors)
    model = open_clip.CLIP(**config, quick_gelu=activation)
    load_weights(model, tensors, file, "a CLIP in OpenCLIP's layout")
    model = model.to(device)
    tokenize = open_clip.SimpleTokenizer(context_length=config["text_cfg"]["context_length"])
    return ClipModel(
        f"CLIP {file.stem}",
        config["vision_cfg"]["image_size"],
        lambda pictures: model.encode_image(pictures.to(device)),
        lambda sentences: model.encode_text(tokenize(sentences).to(device)),
    )


def _activation(file: Path, tensors: dict[str, Tensor]) -> bool:
    if tensors.keys() >= OPENAI_MARKS:
        return True
    config = file.with_name("open_clip_config.json")
    if config.is_file():
        return bool(_settings(config).get("model_cfg", {}).get("quick_gelu", False))
    raise ValueError(
        f"'{file}' does not tell its activation, and the wrong one changes every number: say --quick-gelu for weights "
        "of OpenAI, DFN or MetaCLIP, --no-quick-gelu for LAION's, or put open_clip_config.json beside the file."
    )


def _open_clip_config(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Sizes of both towers, read from the shapes of the weights."""
    width, _, patch, _ = tensors["visual.conv1.weight"].shape
    positions = len(tensors["visual.positional_embedding"]) - 1
    text_width = tensors["token_embedding.weight"].shape[1]

    def layers(prefix: str) -> int:
        found = (re.match(rf"{prefix}transformer\.resblocks\.(\d+)\.", name) for name in tensors)
        return 1 + max(int(match[1]) for match in found if match)

    def ratio(prefix: str, width: int) -> float:
        return len(tensors[f"{prefix}transformer.resblocks.0.mlp.c_fc.weight"]) / width

    vision = {
        "layers": layers("visual."), "width": width, "head_width": HEAD_WIDTHS.get(width, 64), "patch_size": patch,
        "image_size": patch * round(positions**0.5), "mlp_ratio": ratio("visual.", width),
    }  # fmt: skip
    text = {
        "context_length": len(tensors["positional_embedding"]), "vocab_size": len(tensors["token_embedding.weight"]),
        "width": text_width, "heads": text_width // 64, "layers": layers(""), "mlp_ratio": ratio("", text_width),
    }  # fmt: skip
    return {"embed_dim": tensors["text_projection"].shape[1], "vision_cfg": vision, "text_cfg": text}
