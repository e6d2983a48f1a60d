"""Recognition of networks from the names and shapes of their weights, never from the file's name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeVar

from torch import Tensor

from ..model.autoencoder import AutoencoderConfig
from ..model.dual_reference_decoder import FUSION_HEAD_DIM, DualReferenceConfig
from ..model.image_projection import ImageProjectionConfig
from ..model.video_unet import INIT_ATTENTION_HEADS, VideoUNetConfig
from ..presets import PRESETS, Preset
from .files import CheckpointError

C = TypeVar("C")
Dialect = Literal["i2v", "lvdm", "modelscope", "diffusers", "ldm"]

SD1_CONTEXT, SD1_HEADS = 768, 8
MOST_BLOCKS = 256  # that follow each other in one network; the deepest public one has 48
QUERIES = 16  # of every public image projection, for each frame
DEFAULT_FPS = {"dynamicrafter_256": 3, "dynamicrafter_1024": 10} | {
    name: 16 for name in PRESETS if name.startswith("videocrafter")
}
# Stable Diffusion 2.1 comes trained on eps or v with the same names and shapes; this bias tells them apart.
V_PREDICTION_BIAS, V_PREDICTION_DEVIATION = "output_blocks.11.1.transformer_blocks.0.norm1.bias", 0.09


class Shapes:
    """Shapes by name; asking for one that is missing is an error that names it."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}

    def __getitem__(self, name: str) -> tuple[int, ...]:
        return self.axes(name, None)

    def axes(self, name: str, count: int | None) -> tuple[int, ...]:
        """A shape of so many axes; None is two or more, as all matrices and kernels have."""
        if name not in self.shapes:
            raise CheckpointError(f"it lacks '{name}', without which its architecture cannot be told")
        shape = self.shapes[name]
        if (len(shape) < 2 if count is None else len(shape) != count) or 0 in shape:
            wanted = "two or more" if count is None else str(count)
            raise CheckpointError(f"its '{name}' has the shape {shape}; expected {wanted} axes, none of length zero")
        return shape

    def any(self, pattern: str) -> str | None:
        """First name that matches from its beginning."""
        return next((name for name in self.shapes if re.match(pattern, name)), None)

    def count(self, pattern: str) -> int:
        """One more than the largest number that the pattern's group takes; 0 without a match.

        Raises CheckpointError for a number that no network has, before anything is counted up to it.
        """
        return count_blocks(re.match(pattern, name) for name in self.shapes)


def count_blocks(matches: Iterable[re.Match[str] | None]) -> int:
    """One more than the largest number in the first group of these; 0 for none. Raises as `Shapes.count`."""
    numbers = [match[1] for match in matches if match]
    if wrong := next((number for number in numbers if len(number) > 5 or int(number) >= MOST_BLOCKS), None):
        raise CheckpointError(f"one of its tensors belongs to block {wrong[:12]}; no network has {MOST_BLOCKS}")
    return 1 + max(map(int, numbers), default=-1)


def dialect_of(names: Iterable[str]) -> Dialect | None:
    """Dialect of the names of a U-Net, without prefix; None if they are none's."""
    names = set(names)
    if "conv_in.weight" in names and any(name.startswith("down_blocks.") for name in names):
        return "diffusers"
    if not any(name.startswith("input_blocks.") for name in names):
        return None
    if any(re.match(r"input_blocks\.(\d+\.op|0\.1)\.", name) for name in names):
        return "modelscope"
    temporal = any(".temopral_conv." in name or name.startswith("init_attn.") for name in names)
    return "lvdm" if temporal or any(name.startswith("middle_block.3.") for name in names) else "ldm"


def recognize_unet(tensors: Mapping[str, Tensor]) -> VideoUNetConfig:
    """Configuration of a U-Net with our names and Linear-shaped projections.

    Raises CheckpointError naming what is missing or impossible.
    """
    shapes = Shapes(tensors)
    width, in_channels = shapes["input_blocks.0.0.weight"][:2]
    widths, blocks, attention = _levels(shapes)
    if any(channels % width for channels in widths):
        raise CheckpointError(f"the widths of its levels {widths} are no multiples of {width}")
    context_dim = shapes["middle_block.1.transformer_blocks.0.attn2.to_k.weight"][1]
    relative = shapes.any(r".*\.relative_position_k\.")
    pooled = shapes.any(r"label_emb\.")
    learned = shapes.any(r".*\.attn2\.alpha$")
    gated = shapes.any(r".*\.attn2\.to_[kv]_ip\.")
    return _made(
        VideoUNetConfig,
        in_channels=in_channels,
        out_channels=shapes["out.2.weight"][0],
        model_channels=width,
        channel_mult=tuple(channels // width for channels in widths),
        num_res_blocks=blocks,
        attention_levels=attention,
        num_heads=SD1_HEADS if context_dim == SD1_CONTEXT else None,
        head_dim=_head_dim(shapes),
        context_dim=context_dim,
        temporal_convolution=shapes.any(r".*\.temopral_conv\.") is not None,
        temporal_attention=shapes.any(r"middle_block\.3\.") is not None,
        init_attention=shapes.any(r"init_attn\.") is not None,
        relative_position=shapes[relative][0] // 2 if relative else None,
        image_gate="learned" if learned else "fixed" if gated else "none",
        image_token_layout="shared" if gated and in_channels == 4 else "per_frame",
        fps_embedding=shapes.any(r"fps_embedding\.") is not None,
        pooled_text_dim=shapes["label_emb.0.0.weight"][1] if pooled else None,
    )


def _levels(shapes: Shapes) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """Width of each level, residual blocks of the first, and the levels with attention."""
    widths: list[int | None] = [None]
    blocks, attention = 0, set()
    for i in range(1, shapes.count(r"input_blocks\.(\d+)\.")):
        if shapes.any(rf"input_blocks\.{i}\.0\.op\."):
            widths.append(None)
            continue
        level = len(widths) - 1
        widths[level] = shapes[f"input_blocks.{i}.0.out_layers.3.weight"][0]
        blocks += level == 0
        if shapes.any(rf"input_blocks\.{i}\.1\."):
            attention.add(level)
    found = tuple(width for width in widths if width is not None)
    if len(found) < len(widths):
        raise CheckpointError("one level has no residual block ('input_blocks.*.0.out_layers.3.weight')")
    return found, blocks, tuple(sorted(attention))


def _head_dim(shapes: Shapes) -> int:
    """Width of a head where the shapes tell it, and otherwise that of every public checkpoint."""
    if relative := shapes.any(r".*\.relative_position_k\."):
        return shapes[relative][1]
    if shapes.any(r"init_attn\."):
        return shapes["init_attn.0.proj_in.weight"][0] // INIT_ATTENTION_HEADS
    return VideoUNetConfig.head_dim


def recognize_preset(
    config: VideoUNetConfig, unet: Mapping[str, Tensor], scale_table: Tensor | None, video_decoder: bool
) -> Preset:
    """Preset of a foreign model.

    Args:
        config, unet: of its U-Net.
        scale_table: `scale_arr` of the file; ending in 0.3 it means DynamiCrafter 1024, otherwise 512.
        video_decoder: whether the file has ToonCrafter's decoder.

    Raises CheckpointError if no known model looks like this.
    """
    if not (config.temporal_attention or config.temporal_convolution):
        name = _image_preset(config, unet)
    elif config.image_gate == "learned":
        name = "dynamicrafter_256"
    elif config.in_channels == 8 and config.image_gate == "fixed":
        wide = scale_table is not None and scale_table.ndim == 1 and abs(float(scale_table[-1:].sum()) - 0.3) < 0.05
        name = "tooncrafter" if video_decoder else "dynamicrafter_1024" if wide else "dynamicrafter_512"
    elif config.in_channels != 4:
        raise CheckpointError(
            f"no known video model has {config.in_channels} input channels and the image gate "
            f"'{config.image_gate}'; name the preset it was trained with"
        )
    elif config.image_gate == "fixed":
        name = "videocrafter1_i2v_512"
    elif config.relative_position is not None:
        name = "videocrafter1_1024" if config.fps_embedding else "videocrafter1_512"
    else:
        name = "videocrafter2" if config.fps_embedding else "modelscope"
    return PRESETS[name]


def indistinguishable(preset: Preset, scale_table: Tensor | None) -> tuple[str, ...]:
    """Other presets that the same names, shapes and tables could belong to.

    DynamiCrafter's interpolation model differs from 512 in its weights alone, and without `scale_arr` so does 1024.
    """
    if preset.name not in ("dynamicrafter_512", "dynamicrafter_1024"):
        return ()
    wide = preset.name == "dynamicrafter_1024"
    if scale_table is None:
        return ("dynamicrafter_512_interp", "dynamicrafter_512" if wide else "dynamicrafter_1024")
    return () if wide else ("dynamicrafter_512_interp",)


def _image_preset(config: VideoUNetConfig, unet: Mapping[str, Tensor]) -> str:
    if config.in_channels != 4:
        raise CheckpointError(
            f"its first convolution has {config.in_channels} input channels, like an inpainting, depth or "
            "editing model's; only plain text-to-image models (4 channels) can be used"
        )
    if config.context_dim == SD1_CONTEXT:
        return "stable_diffusion_1_5"
    bias = unet.get(V_PREDICTION_BIAS)
    velocity = False
    if bias is not None and bias.ndim == 1 and bias.is_floating_point():
        velocity = float(bias.float().std(unbiased=False)) > V_PREDICTION_DEVIATION
    return "stable_diffusion_2_1" if velocity else "stable_diffusion_2_1_base"


def with_default_fps(config: VideoUNetConfig, preset: Preset) -> VideoUNetConfig:
    """Fill in the frame rate that the checkpoint's own configuration file names, which its weights do not."""
    return replace(config, default_fps=DEFAULT_FPS.get(preset.name, VideoUNetConfig.default_fps))


def recognize_image_projection(tensors: Mapping[str, Tensor]) -> ImageProjectionConfig:
    """Configuration of an image projection; more queries than 16 mean 16 for each frame."""
    shapes = Shapes(tensors)
    _, queries, features = shapes.axes("latents", 3)
    output_features = shapes["proj_out.weight"][0]
    head_dim = ImageProjectionConfig.head_dim
    return _made(
        ImageProjectionConfig,
        features=features,
        depth=shapes.count(r"layers\.(\d+)\."),
        heads=shapes["layers.0.0.to_q.weight"][0] // head_dim,
        head_dim=head_dim,
        queries=QUERIES if queries > QUERIES else queries,
        frames=queries // QUERIES if queries > QUERIES else None,
        image_features=shapes["proj_in.weight"][1],
        output_features=output_features,
    )


def recognize_autoencoder(tensors: Mapping[str, Tensor]) -> AutoencoderConfig:
    """Configuration of an LDM or ToonCrafter autoencoder, with Stable Diffusion's scale, which no tensor tells."""
    shapes = Shapes(tensors)
    width = shapes["encoder.conv_in.weight"][0]
    levels = shapes.count(r"encoder\.down\.(\d+)\.")
    widths = [shapes[f"encoder.down.{level}.block.0.conv2.weight"][0] for level in range(levels)]
    config = _made(
        AutoencoderConfig,
        channels=width,
        channel_mult=tuple(channels // width for channels in widths),
        num_res_blocks=shapes.count(r"encoder\.down\.0\.block\.(\d+)\."),
        latent_channels=shapes["post_quant_conv.weight"][0],
    )
    if not shapes.any(r"decoder\..*(time_stack|attn_refinement)\."):
        return config
    fused = [level for level in range(levels) if shapes.any(rf"decoder\.attn_refinement\.{level}\.to_q\.")]
    queries = [shapes[f"decoder.attn_refinement.{level}.to_q.weight"][0] for level in fused]
    heads = queries[0] // FUSION_HEAD_DIM if queries else DualReferenceConfig.fusion_heads
    return _made(DualReferenceConfig, **vars(config), fusion_levels=tuple(fused), fusion_heads=heads)


def _made(kind: type[C], **values: Any) -> C:
    """A configuration of what was recognized; raises CheckpointError where shapes do not go together."""
    try:
        return kind(**values)
    except (ValueError, ArithmeticError) as error:
        raise CheckpointError(f"its shapes describe no network: {error}") from error
