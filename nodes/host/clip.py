"""The host's CLIP around a checkpoint's text encoder, so that CLIP Text Encode drives it."""

import inspect
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import comfy.clip_vision
import comfy.sd
import comfy.sd1_clip
import folder_paths
import torch
from comfy.supported_models_base import ClipTarget
from torch import Tensor

from ...i2v_core.model.text_encoder import END, START, TextEncoder, TextEncoderConfig, word_ids
from ...i2v_core.weights import CheckpointContents

NAME = "i2v"


class HashedWords:
    """Our word tokenizer with the few methods of a Hugging Face tokenizer that the host calls."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    @classmethod
    def from_pretrained(cls, _path: str, vocab_size: int) -> "HashedWords":
        return cls(vocab_size)

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [START, *word_ids(text, self.vocab_size), END]}

    def get_vocab(self) -> dict[str, int]:
        return {}  # words are hashed, so there is no list of them


class HostTextEncoder(TextEncoder):
    """`TextEncoder` behind the host's calling convention for text models."""

    def __init__(self, config: dict[str, int], dtype: torch.dtype, device: torch.device, operations: Any) -> None:
        super().__init__(TextEncoderConfig(**config), operations=operations, dtype=dtype, device=device)
        self.num_layers = self.config.layers

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.token_embedding

    def forward(
        self,
        _tokens: None,
        _attention_mask: None = None,
        *,
        embeds: Tensor,
        num_tokens: Sequence[int],
        intermediate_output: int | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode embedded tokens `b n d`: features, the same as the host's hidden layer, the pooled vector.

        Args:
            num_tokens: tokens of each text up to and with its first END.
        """
        if intermediate_output not in (None, -1):
            raise ValueError(
                f"This small text encoder is used at its last layer, not at {intermediate_output}: "
                "remove CLIP Set Last Layer, or set it to -1."
            )
        features = self.encode_embeddings(embeds)
        ends = torch.tensor(num_tokens, device=features.device) - 1
        return features, features, features[torch.arange(len(features), device=features.device), ends]


def load_clip(contents: CheckpointContents) -> Any | None:
    """The checkpoint's text encoder, ours or an OpenCLIP or CLIP tower; None if it has none."""
    folders = folder_paths.get_folder_paths("embeddings")
    if contents.text_encoder_config is not None and contents.text_encoder is not None:
        return _load_ours(contents.text_encoder_config, contents.text_encoder, folders)
    if contents.clip_text is not None:
        return comfy.sd.load_text_encoder_state_dicts([dict(contents.clip_text)], embedding_directory=folders)
    return None


def load_clip_vision(contents: CheckpointContents) -> Any | None:
    """The checkpoint's image encoder; None if it has none."""
    if contents.clip_vision is None:
        return None
    return comfy.clip_vision.load_clipvision_from_sd(dict(contents.clip_vision), convert_keys=True)


def _load_ours(config: TextEncoderConfig, tensors: dict[str, Tensor], folders: list[str]) -> Any:
    words = partial(
        comfy.sd1_clip.SDTokenizer,
        tokenizer_path="",
        max_length=config.max_length,
        embedding_size=config.features,
        embedding_key=NAME,
        tokenizer_class=HashedWords,
        tokenizer_args={"vocab_size": config.vocab_size},
    )
    encoder = partial(
        comfy.sd1_clip.SDClipModel,
        max_length=config.max_length,
        textmodel_json_config=asdict(config),
        model_class=HostTextEncoder,
        special_tokens={"start": START, "end": END, "pad": END},
    )
    target = ClipTarget(
        partial(comfy.sd1_clip.SD1Tokenizer, name=NAME, tokenizer=words),
        partial(comfy.sd1_clip.SD1ClipModel, name=NAME, clip_model=encoder),
    )
    arguments: dict[str, Any] = {
        "embedding_directory": folders,
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        # The host's half precision saves nothing here and would move every result.
        "model_options": {"dtype": torch.float32},
    }
    # Newer hosts load the weights before they place the model, older ones after.
    if "state_dict" in inspect.signature(comfy.sd.CLIP).parameters:
        return comfy.sd.CLIP(target, state_dict=[dict(tensors)], **arguments)
    clip = comfy.sd.CLIP(target, **arguments)
    clip.load_sd(dict(tensors))
    return clip
