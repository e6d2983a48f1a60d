"""What the host's Save Checkpoint and Save Model write of our models, Load I2V Checkpoint reads: the same video."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture
def resave(
    host_module: Callable[[str], Any], node_classes: dict[str, Any], tmp_path: Path
) -> Callable[..., tuple[Any, ...]]:
    """Save through a node of the host and load through ours; the outputs of the loader."""
    paths, merging = host_module("folder_paths"), host_module("comfy_extras.nodes_model_merging")
    paths.add_model_folder_path("checkpoints", str(tmp_path))

    def resaved(node: str, *connected: Any, **named: Any) -> tuple[Any, ...]:
        saver = getattr(merging, node)()
        saver.output_dir = str(tmp_path)
        name = tmp_path.name
        saver.save(*connected, **named, filename_prefix=name, prompt={"1": {}}, extra_pnginfo={"workflow": {}})
        paths.filename_list_cache.clear()
        return tuple(node_classes["I2VLoadCheckpoint"].execute(f"{name}_00001_.safetensors").result)

    return resaved


def with_lora(model: Any) -> Any:
    """The model as a LoRA of the host leaves it: patched, not merged."""
    patched, draw, weights = model.clone(), torch.Generator().manual_seed(3), model.model.state_dict()
    shapes = {name: weights[name].shape for name in weights if name.endswith("attn2.to_k.weight")}
    patched.add_patches({name: ("diff", (torch.randn(shape, generator=draw),)) for name, shape in shapes.items()}, 0.5)
    return patched


@pytest.mark.parametrize("autoencoder", ["convolutions", "patches"])
def test_save_checkpoint_keeps_the_video_with_a_merged_lora(
    autoencoder: str,
    core: Callable[[str], Any],
    save: Callable[..., Any],
    load: Callable[[Any], Any],
    resave: Callable[..., tuple[Any, ...]],
    prepare: Callable[..., Any],
    sample: Callable[..., Any],
) -> None:
    patches = core("model.patch_autoencoder").PatchAutoencoderConfig() if autoencoder == "patches" else None
    loaded = load(save(f"saved_{autoencoder}", autoencoder=patches))
    changed = with_lora(loaded.model)
    expected = sample(changed, prepare(loaded))
    assert not torch.equal(expected, sample(loaded.model, prepare(loaded)))
    model, clip, vae, _, _ = resave("CheckpointSave", changed, clip=loaded.clip, vae=loaded.vae)
    again = replace(loaded, model=model, clip=clip, vae=vae)
    assert torch.equal(sample(model, prepare(again)), expected)
    assert torch.equal(vae.decode(expected), loaded.vae.decode(expected))
    assert model.model.preset == loaded.model.model.preset


def test_save_model_keeps_the_scale_of_latents_without_a_vae(
    tiny: Any, resave: Callable[..., tuple[Any, ...]], prepare: Callable[..., Any], sample: Callable[..., Any]
) -> None:
    model, clip, vae, _, _ = resave("ModelSave", tiny.model)
    assert clip is None
    assert vae.first_stage_model is None
    assert torch.equal(sample(model, prepare(tiny)), sample(tiny.model, prepare(tiny)))


def test_an_image_projection_is_saved_with_its_model(
    core: Callable[[str], Any], save: Callable[..., Any], load: Callable[[Any], Any], resave: Callable[..., Any]
) -> None:
    config = core("model.image_projection").ImageProjectionConfig(64, 1, 1, frames=None, output_features=64)
    loaded = load(save("saved_projection", projection=config, image_gate="fixed", image_token_layout="shared"))
    *_, projection = resave("ModelSave", loaded.model)
    features = torch.rand(1, 5, config.image_features)
    assert torch.equal(projection(features), loaded.image_projection(features))


def test_towers_of_clip_are_saved_where_a_checkpoint_has_them(tiny: Any) -> None:
    weight = torch.ones(2)
    text = {"clip_h.transformer.text_model.final_layer_norm.weight": weight, "clip_h.logit_scale": weight}
    saved = tiny.model.model.state_dict_for_saving(text, None, {"vision_model.post_layernorm.weight": weight})
    places = {name for name, tensor in saved.items() if tensor is weight}
    assert places == {
        "cond_stage_model.transformer.text_model.final_layer_norm.weight",
        "embedder.model.visual.vision_model.post_layernorm.weight",
    }


def test_another_vae_is_kept_by_its_shapes_or_refused_in_a_sentence(
    core: Callable[[str], Any], save: Callable[..., Any], load: Callable[[Any], Any], resave: Callable[..., Any]
) -> None:
    loaded = load(save("saved_first"))
    wider = load(save("saved_second", autoencoder=core("model.autoencoder").AutoencoderConfig(32, (1, 2), 1, 12)))
    model, _, vae, _, _ = resave("CheckpointSave", loaded.model, clip=loaded.clip, vae=wider.vae)
    assert model.model.latent_format.scale_factor == 0.5, "of the model's own autoencoder"
    latents = torch.rand(2, 12, 4, 4)
    assert torch.equal(vae.decode(latents), wider.vae.decode(latents))
    patches = load(save("saved_third", autoencoder=core("model.patch_autoencoder").PatchAutoencoderConfig()))
    with pytest.raises(ValueError, match="The connected VAE cannot be saved with this model"):
        resave("CheckpointSave", loaded.model, clip=loaded.clip, vae=patches.vae)
