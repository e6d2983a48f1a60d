"""State dicts for the host's nodes that save models, so that Load I2V Checkpoint reads ours again."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ...i2v_core.weights import CheckpointContents, CheckpointError
from ...i2v_core.weights.checkpoint import header
from ...i2v_core.weights.configs import packed_header
from ...i2v_core.weights.contents import (
    AUTOENCODER,
    IMAGE_PROJECTION,
    TEXT_ENCODER,
    NetworkPart,
    Tensors,
    below,
    check_part,
)
from ...i2v_core.weights.foreign import TEXT_TOWERS, VISION_TOWER
from ...i2v_core.weights.recognize import recognize_autoencoder
from .clip import NAME
from .image_projection import HostImageProjection

OUR_TEXT = f"{NAME}.transformer."
TOWER = re.compile(r"clip_[a-z]\.transformer\.")  # the host's module around a CLIP tower


@dataclass(frozen=True)
class SavedParts:
    """Parts of a file beside the U-Net: the description of the model's source, and its image projection."""

    contents: CheckpointContents
    projection: HostImageProjection | None

    @classmethod
    def of(cls, contents: CheckpointContents, projection: HostImageProjection | None) -> "SavedParts":
        no_tensors: dict[str, Any] = {"unet": {}, "image_projection": None, "autoencoder": None, "text_encoder": None}
        return cls(replace(contents, **no_tensors, clip_text=None, clip_vision=None), projection)

    def tensors(
        self, clip: Mapping[str, Tensor] | None, vae: Mapping[str, Tensor] | None, vision: Mapping[str, Tensor] | None
    ) -> Tensors:
        """Tensors by the names of a checkpoint of ours, with its header among them.

        Args:
            clip, vae, vision: weights of what is connected to the node, by the host's names.

        Raises ValueError for a VAE or CLIP of which a file of ours could not tell how it is built.
        """
        tensors: Tensors = {}
        if self.projection is not None:
            tensors |= _under(IMAGE_PROJECTION.prefix, self.projection.patcher.model.state_dict())
        contents = replace(
            self.contents,
            autoencoder_config=None,
            text_encoder_config=None,
            missing_autoencoder=self.contents.latents_config if vae is None else None,
        )
        if vae is not None:
            contents = replace(contents, autoencoder_config=_autoencoder_config(self.contents, dict(vae)))
            tensors |= _under(AUTOENCODER.prefix, vae)
        if clip is not None and (ours := below(clip, OUR_TEXT)):
            _check(TEXT_ENCODER, self.contents.text_encoder_config, ours, "CLIP")
            contents = replace(contents, text_encoder_config=self.contents.text_encoder_config)
            tensors |= _under(TEXT_ENCODER.prefix, ours)
        elif clip is not None:
            tower = {name[found.end() :]: clip[name] for name in clip if (found := TOWER.match(name))}
            tensors |= _under(TEXT_TOWERS[1], tower)
        if vision is not None:
            tensors |= _under(VISION_TOWER, vision)
        return tensors | packed_header(header(contents, "i2v", {}))


def _autoencoder_config(known: CheckpointContents, tensors: Tensors) -> Any:
    """The configuration of a VAE: that of the model's own file if it fits, for no tensor tells a scale."""
    try:
        if known.latents_config is not None:
            check_part(AUTOENCODER, known.latents_config, tensors)
            return known.latents_config
    except CheckpointError:
        pass  # another VAE than that of the file
    try:
        config = recognize_autoencoder(tensors)
    except CheckpointError as error:
        raise _not_kept("VAE", error) from error
    _check(AUTOENCODER, config, tensors, "VAE")
    # The U-Net goes on making latents of the scale that it was trained on.
    known_scale = {} if known.latents_config is None else {"scale_factor": known.latents_config.scale_factor}
    return replace(config, **known_scale)


def _check(part: NetworkPart, config: Any, tensors: Tensors, label: str) -> None:
    if config is None:
        raise _not_kept(label, "the model's own file has none")
    try:
        check_part(part, config, tensors)
    except CheckpointError as error:
        raise _not_kept(label, error) from error


def _not_kept(label: str, why: object) -> ValueError:
    return ValueError(
        f"The connected {label} cannot be saved with this model ({why}). Connect the one of Load I2V Checkpoint, or "
        "save the model alone with Save Model."
    )


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}
