"""Adapters in and out: what a method adds to a base model, with the weights of the base that it fine-tuned jointly."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import nn

from ..decoding import DecodingError, decode, shown
from ..diffusion.schedule import Betas
from ..files import StrPath
from ..methods import METHODS, Method
from ..text_files import TextFileError, parse_json
from .configs import decode_config, read_description
from .contents import UNET, NetworkPart, Tensors, below, check_finite, check_part
from .files import CheckpointError, read_tensors, write_tensors

FORMAT = "1"
OPTIONS, BETAS = "i2v.train_options", "i2v.betas"  # of its training


@dataclass(frozen=True)
class AdapterContents:
    """Everything in one adapter file.

    Attributes:
        kind: key in `METHODS`, the method's word.
        config: of the adapter's module.
        tensors: of the adapter's module.
        unet: weights of the base that were fine-tuned jointly, by the U-Net's names; they replace the base's.
        metadata: text of the file's header.
    """

    kind: str
    config: Any
    tensors: Tensors
    unet: Tensors
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Adapter:
    """An adapter's network, ready to run, and the base's weights that go with it."""

    kind: str
    module: nn.Module
    unet: Tensors
    metadata: Mapping[str, str]

    @property
    def method(self) -> Method:
        """The method with this network, as it was trained."""
        return METHODS[self.kind].of(self.module, trained_options(self.kind, self.metadata))

    @property
    def betas(self) -> Betas:
        """The betas that it was trained on, beside those of its base."""
        return trained_betas(self.metadata)


def trained_options(kind: str, metadata: Mapping[str, str]) -> Any:
    """The options that an adapter was trained with, by its header; a key that this version has not is passed over.

    Raises CheckpointError for a value that it does not know.
    """
    training = METHODS[kind].training
    text = metadata.get(OPTIONS)
    if training is None or text is None:
        return None if training is None else training.options()
    try:
        values = parse_json(text, f"its '{OPTIONS}'")
        known = {entry.name for entry in fields(training.options)}
        given = {name: value for name, value in values.items() if name in known} if isinstance(values, dict) else values
        return decode(training.options, given, OPTIONS)
    except (TextFileError, DecodingError) as error:
        raise CheckpointError(f"in its header, {error}") from error


def trained_betas(metadata: Mapping[str, str]) -> Betas:
    """The betas that an adapter was trained on, by its header; raises CheckpointError for others than are known."""
    betas = metadata.get(BETAS, "base")
    if betas not in get_args(Betas):
        raise CheckpointError(f"in its header, '{BETAS}' is '{shown(betas)}'; this version knows {get_args(Betas)}")
    return cast(Betas, betas)


def part_of(kind: str) -> NetworkPart:
    """Prefix, configuration and module of a method's adapter files."""
    method = METHODS[kind]
    return NetworkPart(kind, f"{kind}.", (method.config,), method.build)


def is_adapter(path: StrPath) -> bool:
    """A readable weights file says of itself that it is an adapter.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it cannot be read at all.
    """
    return read_tensors(path, described=True).metadata.get("i2v.kind") in METHODS


def read_adapter(path: StrPath, *, described: bool = False) -> AdapterContents:
    """Read an adapter file without building its network.

    Args:
        described: what is larger than a vector gets no numbers, only shape and kind; enough to describe the file.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file cannot be used; one sentence says why and what to do.
    """
    try:
        file = read_tensors(path, described=described)
        kind = file.metadata.get("i2v.kind")
        if kind == "checkpoint" or kind is None:
            raise CheckpointError("it is no adapter of this pack but a whole model; load it with Load I2V Checkpoint")
        if kind not in METHODS or file.metadata.get("i2v.format") != FORMAT:
            raise CheckpointError(
                f"it is of kind '{shown(kind)}' in format {shown(file.metadata.get('i2v.format'))}, and this version "
                f"reads {', '.join(METHODS)} in format {FORMAT}; update this pack"
            )
        part = part_of(kind)
        config = decode_config(part.configs, read_description(file.metadata))
        trained_options(kind, file.metadata), trained_betas(file.metadata)
        tensors, unet = below(file.tensors, part.prefix), below(file.tensors, UNET.prefix)
        if len(tensors) + len(unet) != len(file.tensors):
            raise CheckpointError(f"it holds weights besides those under '{part.prefix}' and '{UNET.prefix}'")
        check_part(part, config, tensors)
        if not described:
            check_finite(file.tensors)
        return AdapterContents(kind, config, tensors, unet, file.metadata)
    except CheckpointError as error:
        raise CheckpointError(f"Cannot load '{Path(path).name}': {error}") from error


def load_adapter(path: StrPath, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Adapter:
    """Load an adapter with its network built; raises as `read_adapter` does. Weights are float32 unless said."""
    contents, dtype = read_adapter(path), dtype or torch.float32
    module = METHODS[contents.kind].build(contents.config, device="meta", dtype=dtype)
    # Copies, so that nothing holds on to the file, which may be replaced while the network lives.
    owned = {name: tensor.to(device, dtype, copy=True) for name, tensor in contents.tensors.items()}
    module.load_state_dict(owned, assign=True)
    unet = {name: tensor.to(device, dtype, copy=True) for name, tensor in contents.unet.items()}
    return Adapter(contents.kind, module.eval(), unet, contents.metadata)


def save_adapter(
    path: StrPath,
    kind: str,
    module: nn.Module,
    *,
    unet: Mapping[str, torch.Tensor] | None = None,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write an adapter as safetensors; the file appears complete or not at all.

    Args:
        kind: key in `METHODS`; the module has a `config` of that kind.
        unet: weights of the base that were fine-tuned jointly, by the U-Net's names.
        metadata: further text for the header, such as `i2v.base_sha256` and `i2v.train_steps`.
        dtype: of the floating-point weights in the file; None keeps theirs.
    """
    contents = AdapterContents(kind, cast(Any, module.config), module.state_dict(), dict(unet or {}), metadata or {})
    write_adapter(path, contents, dtype=dtype)


def write_adapter(path: StrPath, contents: AdapterContents, *, dtype: torch.dtype | None = None) -> None:
    """Write the weights of an adapter as `save_adapter` does."""
    kind = contents.kind
    tensors = {part_of(kind).prefix + name: tensor for name, tensor in contents.tensors.items()}
    tensors |= {UNET.prefix + name: tensor for name, tensor in contents.unet.items()}
    if dtype is not None:
        tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
    header = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"lvdm-video-unet/{kind}",
        "modelspec.implementation": "i2v_core",
        "modelspec.title": kind.replace("_", " "),
        **contents.metadata,
        "i2v.kind": kind,
        "i2v.format": FORMAT,
        "i2v.config": json.dumps(asdict(contents.config)),
    }
    write_tensors(path, tensors, header)


def check_replacement(own: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], adapter: str) -> None:
    """Refuse weights that an adapter fine-tuned jointly if a U-Net, whose weights are `own`, is not their base.

    Raises ValueError naming the first weight that this U-Net has not, or has in another shape; `adapter` is what the
    sentence calls the adapter.
    """
    for name, tensor in tensors.items():
        if name not in own or own[name].shape != tensor.shape:
            has = f"of shape {tuple(own[name].shape)}" if name in own else "missing"
            raise ValueError(
                f"{adapter} was trained with another base: its '{name}' has shape {tuple(tensor.shape)}, "
                f"the model's is {has}; use the model that the adapter's page names"
            )


def mean_weights(given: Iterable[Mapping[str, torch.Tensor]]) -> Tensors:
    """The weights of the base that adapters fine-tuned jointly; those that several trained are averaged.

    So the order of adapters does not matter. Fine-tuned from one base, weights stay good between one another (model
    soups, arXiv:2203.05482).
    """
    by_name: dict[str, list[torch.Tensor]] = {}
    for tensors in given:
        for name, tensor in tensors.items():
            by_name.setdefault(name, []).append(tensor)
    return {
        name: each[0] if len(each) == 1 else torch.stack([tensor.float() for tensor in each]).mean(0).to(each[0])
        for name, each in by_name.items()
    }


def replace_weights(unet: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put the weights that an adapter fine-tuned jointly into the base's U-Net; raises as `check_replacement` does."""
    check_replacement(unet.state_dict(), tensors, "the adapter")
    unet.load_state_dict(tensors, strict=False)
