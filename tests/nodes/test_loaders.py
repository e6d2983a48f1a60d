import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import dev

PROMPTS = ["pan left", "", "Zoom in, slowly; a red house!", "a b c d e f g h i j"]


def test_the_demo_folder_is_added_once_and_takes_nothing_away(
    node_classes: dict[str, Any], host_module: Callable[[str], Any]
) -> None:
    paths = host_module("folder_paths")
    assert paths.get_folder_paths("i2v_demo") == [str(dev.ROOT / "demo")]
    assert ".safetensors" in paths.folder_names_and_paths["i2v_demo"][1]
    assert str(dev.ROOT / "demo") not in paths.get_folder_paths("checkpoints")


def test_the_list_follows_the_folders(node_classes: dict[str, Any], save: Callable[..., Any]) -> None:
    saved = save("appears")
    listed = node_classes["I2VLoadCheckpoint"].INPUT_TYPES()["required"]["checkpoint"]
    assert saved.name in (listed[1]["options"] if len(listed) > 1 and "options" in listed[1] else listed[0])
    saved.path.unlink()
    with pytest.raises(ValueError, match=saved.path.stem):
        node_classes["I2VLoadCheckpoint"].execute(saved.name)


def test_a_replaced_file_is_loaded_again(node_classes: dict[str, Any], save: Callable[..., Any]) -> None:
    saved, node = save("replaced"), node_classes["I2VLoadCheckpoint"]
    before = node.fingerprint_inputs(saved.name, "auto")
    assert node.fingerprint_inputs(saved.name, "auto") == before
    os.utime(saved.path, ns=(1, 1))
    assert node.fingerprint_inputs(saved.name, "auto") != before


@pytest.mark.parametrize("text", PROMPTS)
def test_clip_text_encode_equals_the_core(tiny: Any, host_module: Callable[[str], Any], text: str) -> None:
    [[tokens, extra]] = host_module("nodes").CLIPTextEncode().encode(tiny.clip, text)[0]
    expected, pooled = tiny.saved.checkpoint.text_encoder.encode([text])
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(extra["pooled_output"], pooled, atol=1e-5, rtol=0)


def test_weights_in_the_prompt_move_only_their_words(tiny: Any) -> None:
    def encode(text: str) -> torch.Tensor:
        return tiny.clip.encode_from_tokens(tiny.clip.tokenize(text))[0]

    plain, weighted, empty = (
        encode("pan left now"),
        encode("pan (left:1.5) now"),
        encode("")[: len("xxx") + 30],
    )
    torch.testing.assert_close(weighted[2], empty[2] + 1.5 * (plain[2] - empty[2]))
    assert torch.equal(weighted[[0, 1, 3, 4]], plain[[0, 1, 3, 4]])


def test_a_long_prompt_becomes_several_stretches(tiny: Any) -> None:
    tokens = tiny.clip.encode_from_tokens(tiny.clip.tokenize("word " * 40))
    assert tokens.shape == (1, 64, 64)


def test_a_deeper_layer_is_refused_and_the_last_is_the_usual(tiny: Any) -> None:
    clip = tiny.clip.clone()
    tokens = clip.tokenize("pan left")
    usual = clip.encode_from_tokens(tokens)
    clip.clip_layer(-1)
    assert torch.equal(clip.encode_from_tokens(tokens), usual)
    clip.clip_layer(-2)
    with pytest.raises(ValueError, match="remove CLIP Set Last Layer"):
        clip.encode_from_tokens(tokens)


@pytest.mark.parametrize("kind", ["convolutions", "patches"])
def test_the_vae_equals_the_core_up_to_the_scale_that_the_model_applies(
    core: Callable[[str], Any], save: Callable[..., Any], load: Callable[[Any], Any], kind: str
) -> None:
    patches = core("model.patch_autoencoder").PatchAutoencoderConfig() if kind == "patches" else None
    loaded = load(save(kind, autoencoder=patches))
    pixels, autoencoder = torch.rand(2, 32, 48, 3), loaded.saved.checkpoint.autoencoder
    expected = autoencoder.encode(pixels.movedim(-1, 1) * 2 - 1)
    latents = loaded.model.model.process_latent_in(loaded.vae.encode(pixels))
    torch.testing.assert_close(latents, expected, atol=1e-5, rtol=0)
    decoded = loaded.vae.decode(loaded.model.model.process_latent_out(expected))
    wanted = ((autoencoder.decode(expected) + 1) / 2).clamp(0, 1).movedim(1, -1)
    torch.testing.assert_close(decoded, wanted, atol=1e-5, rtol=0)


def test_previews_show_the_colors_of_the_frames(
    core: Callable[[str], Any], save: Callable[..., Any], load: Callable[[Any], Any]
) -> None:
    model = core("model.patch_autoencoder")
    colors = (torch.rand(1, 3, 4, 4) * 1.2 - 0.6).repeat_interleave(8, 2).repeat_interleave(8, 3)
    saved = save("preview", autoencoder=model.PatchAutoencoderConfig(latent_channels=12))
    autoencoder = saved.checkpoint.autoencoder
    model.fit_patches(autoencoder, colors + 0.1 * torch.randn(1, 3, 32, 32))
    core("weights").save_checkpoint(saved.path, saved.checkpoint)
    latent_format = load(saved).model.model.latent_format
    latents = autoencoder.encode(colors).movedim(1, -1)
    factors, bias = map(torch.tensor, (latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias))
    torch.testing.assert_close(latents @ factors + bias, colors[:, :, ::4, ::4].movedim(1, -1), atol=0.1, rtol=0)


def test_parts_that_the_file_lacks_say_so_when_used(
    tiny: Any, core: Callable[[str], Any], load: Callable[[Any], Any], host_module: Callable[[str], Any]
) -> None:
    lone = tiny.saved.path.with_name("unet_only.safetensors")
    config = core("model.video_unet").VideoUNetConfig(model_channels=64, channel_mult=(1, 2, 2))
    weights = core("weights")
    unet = core("model.video_unet").VideoUNet(config)
    preset = core("presets").PRESETS["modelscope"]
    weights.save_checkpoint(lone, weights.Checkpoint(unet, None, None, None, preset, "i2v", {}))
    loaded = load(type(tiny.saved)(lone.name, lone, None))
    assert loaded.clip is loaded.clip_vision is loaded.image_projection is None
    with pytest.raises(RuntimeError, match="VAE is invalid"):
        loaded.vae.decode(torch.zeros(1, 4, 8, 8))
    with pytest.raises(RuntimeError, match="clip input is invalid"):
        host_module("nodes").CLIPTextEncode().encode(loaded.clip, "pan left")


def refused(node_classes: dict[str, Any], path: Path) -> str:
    with pytest.raises(ValueError, match=path.name) as caught:
        node_classes["I2VLoadCheckpoint"].execute(path.name)
    return str(caught.value)


def test_files_that_are_no_checkpoint_are_refused_by_name_and_reason(node_classes: dict[str, Any], tiny: Any) -> None:
    folder, whole = tiny.saved.path.parent, tiny.saved.path.read_bytes()
    truncated, other = folder / "truncated.safetensors", folder / "other.safetensors"
    truncated.write_bytes(whole[: len(whole) // 2])
    assert "truncated" in refused(node_classes, truncated)
    other.write_bytes(b"hello, this is a text" * 10)
    assert refused(node_classes, other)

    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    tensors = load_file(tiny.saved.path)
    gone = tensors.pop("model.diffusion_model.out.2.weight")
    assert gone.numel()
    incomplete = folder / "incomplete.safetensors"
    save_file(tensors, incomplete, header["__metadata__"])
    assert "out.2.weight" in refused(node_classes, incomplete)


def test_the_image_projection_equals_the_core_and_checks_its_encoder(
    core: Callable[[str], Any], save: Callable[..., Any], load: Callable[[Any], Any]
) -> None:
    config = core("model.image_projection").ImageProjectionConfig(64, 2, 2, 32, 4, 3, 48, 64)
    loaded = load(save("projection", projection=config, image_gate="learned"))
    features = torch.randn(1, 10, 48)
    tokens = loaded.image_projection(features)
    assert tokens.shape == (1, 3, 4, 64)
    expected = loaded.saved.checkpoint.image_projection(features)
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="features of width 48, clip_vision gives 32"):
        loaded.image_projection(torch.randn(1, 10, 32))
