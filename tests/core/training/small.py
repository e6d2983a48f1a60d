"""A recipe so small that it trains in seconds."""

from dataclasses import replace
from pathlib import Path

from i2v_core.model.patch_autoencoder import PatchAutoencoderConfig
from i2v_core.model.text_encoder import TextEncoderConfig
from i2v_core.model.video_unet import VideoUNetConfig
from i2v_core.presets import PRESETS
from i2v_core.training.loop import TrainConfig
from i2v_core.training.moving_crops import MovingCropsConfig
from i2v_core.training.recipe import Recipe


def small_recipe(folder: Path, steps: int = 4) -> Recipe:
    unet = VideoUNetConfig(
        in_channels=8, out_channels=4, model_channels=32, channel_mult=(1, 1), num_res_blocks=1,
        attention_levels=(1,), head_dim=32, context_dim=32, init_attention=False, pooled_text_dim=32,
    )  # fmt: skip
    train = TrainConfig(
        output_dir=str(folder / "video"), max_train_steps=steps, train_batch_size=2, lr_warmup_steps=2,
        checkpointing_steps=2, logging_steps=2,
    )  # fmt: skip
    return Recipe(
        train=train,
        refine=replace(train, output_dir=str(folder / "refine"), max_train_steps=2),
        unet=unet,
        data=MovingCropsConfig(frames=3, size=32, photographs=("skimage:chelsea.png",)),
        autoencoder=PatchAutoencoderConfig(latent_channels=4, refine_channels=4),
        text_encoder=TextEncoderConfig(vocab_size=64, features=32, layers=1, max_length=8),
        preset=replace(PRESETS["demo"], frames=3, height=32, width=32, steps=2),
    )
