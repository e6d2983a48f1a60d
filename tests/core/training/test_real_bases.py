"""Adapters train on files, beside bases in the layouts in which the public ones are shared, and animate with them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from i2v_core import Checkpoint, load_checkpoint, save_checkpoint
from i2v_core.data import DataConfig
from i2v_core.denoiser import Denoiser
from i2v_core.generate import GenerateConfig, animate
from i2v_core.training.checkpoint_files import lora_beside
from i2v_core.training.config import (
    LoggingConfig,
    LoraConfig,
    MethodConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    TrainingConfig,
    ValidationConfig,
)
from i2v_core.training.log import read_log
from i2v_core.training.methods import adapter_task, load_base, run
from i2v_core.training.new_model import new_autoencoder, new_networks, new_preset
from i2v_core.video import write_video
from i2v_core.weights import load_adapter
from i2v_core.weights.files import read_tensors
from tests.core.data.written import panned
from tests.core.training.small import small_recipe
from tests.core.weights.companions.small_bases import write_dynamicrafter, write_modelscope, write_stable_diffusion
from tests.core.weights.small import seed
from tests.core.weights.small_files import vision_tower

PICTURE = torch.linspace(0, 1, 32 * 32 * 3).reshape(32, 32, 3)
PROJECTION = {"projection": {"features": 32, "depth": 1, "heads": 1, "head_dim": 32, "queries": 2, "frames": 2}}
LOOK_BACK, FUSION = {"depth": 2, "kernel": 3}, {"features": 32, "heads": 2}
TEMPORAL: dict[str, Any] = {"trained": "temporal"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for i, photograph in enumerate(("chelsea.png", "coffee.png", "astronaut.png")):
        write_video(folder / f"{i}.mp4", panned(photograph, 6), 8)
        (folder / f"{i}.txt").write_text(f"number {i}")
    return folder


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelConfig]:
    folder = tmp_path_factory.mktemp("bases")
    unet, vae, clip = map(str, write_modelscope(folder))
    modelscope = ModelConfig(unet, vae=vae, text_encoder=clip)
    tower = {name.removeprefix("embedder.model."): tensor for name, tensor in vision_tower(layers=1).items()}
    torch.save({name: tensor.contiguous() for name, tensor in tower.items()}, folder / "open_clip_visual.bin")
    return {
        "stable diffusion": ModelConfig(str(write_stable_diffusion(folder / "v1-5.ckpt"))),
        "modelscope": modelscope,
        "modelscope with images": replace(modelscope, image_encoder=str(folder / "open_clip_visual.bin")),
        "dynamicrafter": ModelConfig(str(write_dynamicrafter(folder / "model.ckpt"))),
    }


def config_of(
    clips: Path, folder: Path, model: ModelConfig, method: str, adapter: Any, options: Any, lora: LoraConfig | None
) -> TrainingConfig:
    return TrainingConfig(
        method=MethodConfig(method, adapter, options),
        model=model,
        train=TrainConfig(str(folder / "run"), 2, train_batch_size=1, checkpointing_steps=2, device="cpu"),
        data=DataConfig(str(clips), frames=2, height=32, width=32, cache_latents=True),
        optim=OptimConfig(learning_rate=1e-3, param_groups={"adapter": 1e-3, "unet": 1e-3}, lr_warmup_steps=1),
        lora=lora,
        validation=ValidationConfig(2, num_inference_steps=1, frames=2),
        logging=LoggingConfig("none", logging_steps=1, plan_steps=0),
    )


@pytest.mark.parametrize(
    ("base", "method", "adapter", "options", "lora"),
    [
        ("stable diffusion", "look_back", LOOK_BACK, {}, None),
        ("modelscope", "trip", FUSION, TEMPORAL, None),
        ("modelscope", "trip", FUSION, {}, LoraConfig(rank=2)),
        ("modelscope", "image_retention", {}, {}, None),
        ("modelscope", "image_retention", {}, {}, LoraConfig(rank=2)),
        ("modelscope with images", "dynamicrafter", PROJECTION, {}, None),
        ("dynamicrafter", "dynamicrafter", {}, {"stage": 1}, None),
        ("dynamicrafter", "dynamicrafter", {}, {"stage": 2, **TEMPORAL}, None),
        ("dynamicrafter", "dynamicrafter", {}, {"stage": 2}, LoraConfig(rank=2)),
    ],
)
def test_a_method_trains_beside_a_real_base_and_its_result_animates(
    clips: Path,
    bases: dict[str, ModelConfig],
    tmp_path: Path,
    base: str,
    method: str,
    adapter: Any,
    options: Any,
    lora: LoraConfig | None,
) -> None:
    model = bases[base]
    path = run(config_of(clips, tmp_path, model, method, adapter, options, lora))
    assert all(0 < row["loss"] < 1e4 for row in read_log(path.parent))
    assert (path.parent / "previews" / f"{method}-000002.mp4").stat().st_size
    assert model.pretrained_model_name_or_path is not None
    checkpoint, loaded = load_base(model.pretrained_model_name_or_path, model), load_adapter(path)
    own = checkpoint.unet.state_dict()
    for name, weight in loaded.unet.items():
        assert weight.shape == own[name].shape
    if lora is not None:
        held = read_tensors(lora_beside(path)).tensors
        ups = [name for name in held if name.endswith(".lora_up.weight")]
        assert len(ups) == len(loaded.unet) > 0
    if options.get("stage") == 1:
        assert {name.rpartition("attn2.")[2] for name in loaded.unet} == {"to_k_ip.weight", "to_v_ip.weight"}
    denoiser = Denoiser.adapted(checkpoint.unet, checkpoint.preset, [loaded])
    generation = GenerateConfig(frames=2, height=32, width=32, steps=1)
    made = animate(checkpoint, PICTURE, "a fox", config=generation, denoiser=denoiser)
    assert made.shape == (3, 2, 32, 32)
    assert made.isfinite().all()


def test_a_network_that_is_missing_is_named_with_its_key(
    clips: Path, bases: dict[str, ModelConfig], tmp_path: Path
) -> None:
    alone = ModelConfig(bases["modelscope"].pretrained_model_name_or_path)
    with pytest.raises(ValueError, match=r"holds no autoencoder: .* keys are model\.vae, model\.text_encoder"):
        adapter_task(config_of(clips, tmp_path, alone, "trip", {}, {}, None))
    with pytest.raises(ValueError, match=r"name OpenCLIP's file in model\.image_encoder"):
        adapter_task(config_of(clips, tmp_path, bases["modelscope"], "dynamicrafter", PROJECTION, {}, None))


def test_a_lora_of_nothing_is_refused(clips: Path, bases: dict[str, ModelConfig], tmp_path: Path) -> None:
    config = config_of(clips, tmp_path, bases["stable diffusion"], "look_back", LOOK_BACK, {}, LoraConfig())
    with pytest.raises(ValueError, match=r"none of them is trained: leave \[lora\] out"):
        adapter_task(config)


def test_a_complete_model_trains_on_kept_latents(clips: Path, tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, steps=2)
    text_encoder, unet = new_networks(recipe)
    networks = seed(unet), None, seed(new_autoencoder(recipe)), text_encoder
    save_checkpoint(tmp_path / "base.safetensors", Checkpoint(*networks, new_preset(recipe), "i2v", {}))
    model = replace(recipe.model, pretrained_model_name_or_path=str(tmp_path / "base.safetensors"))
    cache = tmp_path / "cache"
    data = DataConfig(str(clips), frames=3, height=32, width=32, cache_latents=True, cache_directory=str(cache))
    assert load_checkpoint(run(replace(recipe, model=model, data=data))).autoencoder is not None
    assert len(list(cache.glob("latents/*/*.safetensors"))) == 3
    assert not (cache / "texts").exists()
