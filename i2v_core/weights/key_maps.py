"""Parameter names of every dialect against ours, which are LVDM's. Pure functions on names without a prefix.

Each pair of functions is a bijection: `to_x(from_x(name)) == name` for every name of a network.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ..model.video_unet import VideoUNetConfig

RESIDUAL_BLOCK = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
)


def from_lvdm(name: str) -> str:
    """Ours, but for the rate embedding of DynamiCrafter 256, which later checkpoints renamed."""
    return re.sub(r"^framestride_embed\.", "fps_embedding.", name)


def from_mangled(name: str, words: Iterable[str]) -> str:
    """A name from which LDM's moving average (`LitEma`) took all dots, with them.

    Args:
        words: all components of such names that are no numbers; a name with others stays as it is.
    """
    found = re.match(r"(input_blocks|output_blocks)(\d+)(\d)(?=\D)", name)  # the second number has one digit
    head, rest = (list(found.groups()), name[found.end() :]) if found else ([], name)
    longest_first = sorted(words, key=len, reverse=True)
    components = re.findall("|".join([*map(re.escape, longest_first), r"\d"]), rest)
    return ".".join([*head, *components]) if "".join(components) == rest else name


def from_modelscope(name: str) -> str:
    """`UNetSD` keeps the first temporal transformer and the downsamplings one level higher."""
    name = re.sub(r"^input_blocks\.0\.1\.", "init_attn.0.", name)
    return re.sub(r"^(input_blocks\.\d+)\.op\.", r"\1.0.op.", name)


def to_modelscope(name: str) -> str:
    """Inverse of `from_modelscope`."""
    name = re.sub(r"^init_attn\.0\.", "input_blocks.0.1.", name)
    return re.sub(r"^(input_blocks\.\d+)\.0\.op\.", r"\1.op.", name)


def ldm_to_temporal(name: str) -> str:
    """Name of a Stable Diffusion parameter once temporal transformers lie behind the spatial ones."""
    name = re.sub(r"^middle_block\.2\.", "middle_block.3.", name)
    return re.sub(r"^(output_blocks\.\d+)\.2\.conv\.", r"\1.3.conv.", name)


def temporal_to_ldm(name: str) -> str:
    """Inverse of `ldm_to_temporal`, for the spatial parameters of a temporal U-Net."""
    name = re.sub(r"^middle_block\.3\.", "middle_block.2.", name)
    return re.sub(r"^(output_blocks\.\d+)\.3\.conv\.", r"\1.2.conv.", name)


@dataclass(frozen=True)
class Layout:
    """The layout that decides diffusers' names of layers: levels, residual blocks of each, and attention."""

    levels: int
    res_blocks: int
    attention_levels: tuple[int, ...]
    temporal: bool


def layout_of(config: VideoUNetConfig) -> Layout:
    """Layout of one of our configurations."""
    levels = tuple(sorted(config.attention_levels))
    return Layout(len(config.channel_mult), config.num_res_blocks, levels, config.temporal_attention)


def diffusers_layout(names: Iterable[str]) -> Layout:
    """Layout of a diffusers U-Net, from its parameter names."""
    names = list(names)
    resnets = {match.groups() for name in names if (match := re.match(r"down_blocks\.(\d+)\.resnets\.(\d+)\.", name))}
    attention = {match[1] for name in names if (match := re.match(r"down_blocks\.(\d+)\.attentions\.", name))}
    numbers = {number for pair in resnets for number in pair} | attention
    if any(len(number) > 2 for number in numbers):
        raise ValueError(f"no network has a level or block {min(numbers, key=lambda number: -len(number))[:12]}")
    return Layout(
        levels=1 + max((int(level) for level, _ in resnets), default=-1),
        res_blocks=1 + max((int(block) for level, block in resnets if level == "0"), default=-1),
        attention_levels=tuple(sorted(map(int, attention))),
        temporal=any(".temp_attentions." in name for name in names),
    )


def diffusers_modules(layout: Layout) -> Iterator[tuple[str, str]]:
    """Every module's name, ours and that of diffusers' `UNet3DConditionModel` or two-dimensional U-Net."""
    yield "time_embed.0", "time_embedding.linear_1"
    yield "time_embed.2", "time_embedding.linear_2"
    yield "input_blocks.0.0", "conv_in"
    yield "init_attn.0", "transformer_in"
    yield "out.0", "conv_norm_out"
    yield "out.2", "conv_out"

    stride = layout.res_blocks + 1
    for level in range(layout.levels):
        theirs = f"down_blocks.{level}"
        for i in range(layout.res_blocks):
            ours = f"input_blocks.{1 + stride * level + i}"
            yield from _residual(f"{ours}.0", theirs, i)
            yield from _attention(ours, theirs, i, level in layout.attention_levels, layout.temporal)
        if level < layout.levels - 1:
            yield f"input_blocks.{stride * (level + 1)}.0.op", f"{theirs}.downsamplers.0.conv"

    yield from _residual("middle_block.0", "mid_block", 0)
    yield from _attention("middle_block", "mid_block", 0, True, layout.temporal)
    yield from _residual(f"middle_block.{2 + layout.temporal}", "mid_block", 1)

    for up in range(layout.levels):
        theirs, attention = f"up_blocks.{up}", layout.levels - 1 - up in layout.attention_levels
        for i in range(stride):
            ours = f"output_blocks.{stride * up + i}"
            yield from _residual(f"{ours}.0", theirs, i)
            yield from _attention(ours, theirs, i, attention, layout.temporal)
        if up < layout.levels - 1:
            child = 1 + attention * (1 + layout.temporal)
            yield f"output_blocks.{stride * up + stride - 1}.{child}.conv", f"{theirs}.upsamplers.0.conv"


def from_diffusers(name: str, layout: Layout) -> str:
    """Our name of a parameter of diffusers' U-Net; a name it does not have stays as it is."""
    return _rename(name, _module_names(layout)[0])


def to_diffusers(name: str, layout: Layout) -> str:
    """Inverse of `from_diffusers`."""
    return _rename(name, _module_names(layout)[1])


@lru_cache(maxsize=8)
def _module_names(layout: Layout) -> tuple[dict[str, str], dict[str, str]]:
    """Names of all modules, theirs to ours and ours to theirs."""
    pairs = list(diffusers_modules(layout))
    return {theirs: ours for ours, theirs in pairs}, dict(pairs)


def _residual(ours: str, theirs: str, index: int) -> Iterator[tuple[str, str]]:
    for here, there in RESIDUAL_BLOCK:
        yield f"{ours}.{here}", f"{theirs}.resnets.{index}.{there}"
    yield f"{ours}.temopral_conv", f"{theirs}.temp_convs.{index}"


def _attention(ours: str, theirs: str, index: int, present: bool, temporal: bool) -> Iterator[tuple[str, str]]:
    if present:
        yield f"{ours}.1", f"{theirs}.attentions.{index}"
        if temporal:
            yield f"{ours}.2", f"{theirs}.temp_attentions.{index}"


def _rename(name: str, modules: Mapping[str, str]) -> str:
    head = name
    while head:
        if head in modules:
            return modules[head] + name[len(head) :]
        head = head.rpartition(".")[0]
    return name
