"""Every public checkpoint in every layout in which it is shared is known by its content, under any name."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from i2v_core.model.video_unet import VideoUNet
from i2v_core.weights import load_checkpoint, read_checkpoint
from tests.core.weights.small_files import (
    LAYOUTS,
    VARIANTS,
    Layout,
    small_autoencoder_config,
    small_unet_config,
    write_small,
)
from tests.parity.seeded import seeded_normal

# What no name, shape or table tells, so that a user names the preset; both differ in the default rate alone.
UNTOLD = {"dynamicrafter_512_interp": "dynamicrafter_512"}


@pytest.mark.parametrize("layout", ["full", "pruned"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_recognized_under_a_misleading_name(variant: str, layout: Layout, tmp_path: Path) -> None:
    misleading = "modelscope.bin" if "256" in variant else "dynamicrafter_256.pth"
    contents = read_checkpoint(write_small(tmp_path, variant, layout, name=misleading))
    preset = VARIANTS[variant][1]
    assert contents.preset.name == UNTOLD.get(preset, preset)
    if preset in UNTOLD:
        assert preset in contents.alternatives
    assert contents.unet_config == small_unet_config(variant)
    assert contents.autoencoder_config == small_autoencoder_config(variant)
    looks = small_unet_config(variant).image_gate != "none"
    assert (contents.image_projection is not None) == looks
    assert (contents.clip_text is not None) == (layout == "full")
    assert (contents.clip_vision is not None) == (layout == "full" and looks)


def answer(unet: VideoUNet) -> Tensor:
    """What a network of DynamiCrafter's says to seeded inputs."""
    return unet(
        seeded_normal("x", (1, 8, 16, 4, 4)),
        torch.tensor([801.0]),
        seeded_normal("text", (1, 7, 1024)),
        image_tokens=seeded_normal("image", (1, 16, 16, 1024)),
        fps=torch.tensor([5.0]),
    )


@torch.no_grad()
@pytest.mark.parametrize("variant", ["dynamicrafter_256", "dynamicrafter_512"])
def test_all_layouts_hold_the_same_networks(variant: str, tmp_path: Path) -> None:
    answers, tokens = {}, {}
    for layout in LAYOUTS:
        loaded = load_checkpoint(write_small(tmp_path, variant, layout), towers=False)
        answers[layout] = answer(loaded.unet)
        if loaded.image_projection is not None:
            tokens[layout] = loaded.image_projection(seeded_normal("features", (1, 257, 1280)))
    exact = answers["full"]
    for layout, given in answers.items():
        if layout == "pruned":
            assert 0 < (given - exact).abs().max() < 0.05 * exact.abs().max()
        else:
            assert torch.equal(given, exact)
    assert tokens.keys() == set(LAYOUTS) - {"unet_only"}
    assert torch.equal(tokens["full"], tokens["deepspeed"])


def test_what_a_file_does_not_tell_is_said(tmp_path: Path) -> None:
    def alternatives(variant: str, layout: Layout, preset: str | None = None) -> set[str]:
        return set(read_checkpoint(write_small(tmp_path, variant, layout), preset=preset).alternatives)

    assert alternatives("dynamicrafter_1024", "full") == set()
    assert alternatives("dynamicrafter_512", "full") == {"dynamicrafter_512_interp"}
    untold = {"dynamicrafter_512_interp", "dynamicrafter_1024"}
    assert alternatives("dynamicrafter_1024", "unet_only") == untold
    assert alternatives("dynamicrafter_1024", "unet_only", preset="dynamicrafter_1024") == set()
    assert alternatives("dynamicrafter_256", "unet_only") == alternatives("videocrafter2", "unet_only") == set()
