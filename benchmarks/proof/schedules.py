"""How large the proof is on one machine: sizes, steps and seeds."""

from dataclasses import dataclass, field

from i2v_core.data.moving_crops import MovingCropsConfig
from i2v_core.model.patch_autoencoder import PatchAutoencoderConfig
from i2v_core.model.text_encoder import TextEncoderConfig
from i2v_core.model.video_unet import VideoUNetConfig


@dataclass(frozen=True)
class Schedule:
    """Sizes of data and networks, and how long each part takes.

    Attributes:
        unet: of the text-to-video base; the image base is the same without its temporal layers.
        base_steps, image_base_steps: trainings of the two bases; variant_steps: of every variant.
        clips: scored for a table row; grid_clips: for each cell of the grid of guidance scales.
        seeds: every variant is trained once with each.
    """

    name: str
    data: MovingCropsConfig
    unet: VideoUNetConfig
    autoencoder: PatchAutoencoderConfig
    base_steps: int
    image_base_steps: int
    variant_steps: int
    batch: int
    clips: int
    grid_clips: int
    judge_steps: int
    refine_steps: int = 400
    sampling_steps: int = 20
    text_encoder: TextEncoderConfig = field(
        default_factory=lambda: TextEncoderConfig(vocab_size=4096, features=64, layers=2, heads=2, max_length=32)
    )
    base_learning_rate: float = 1.8e-3
    learning_rate: float = 1.5e-3
    seeds: tuple[int, ...] = (0,)
    device: str = "cpu"
    rows: tuple[str, ...] | None = None  # claims by their experiment; None: all


def _unet(width: int, multipliers: tuple[int, ...], head: int) -> VideoUNetConfig:
    return VideoUNetConfig(
        in_channels=16,
        out_channels=16,
        model_channels=width,
        channel_mult=multipliers,
        num_res_blocks=1,
        attention_levels=tuple(range(1, len(multipliers))),
        head_dim=head,
        context_dim=64,
        init_attention=False,
        pooled_text_dim=64,
    )


PATCHES = PatchAutoencoderConfig(patch=4, latent_channels=16, refine_channels=32)

SCHEDULES: dict[str, Schedule] = {
    # About four hours on one core of 2025, in pieces of minutes.
    "cpu": Schedule(
        name="cpu",
        data=MovingCropsConfig(frames=8, size=32, detail=4),
        unet=_unet(32, (1, 2), 32),
        autoencoder=PATCHES,
        base_steps=1500,
        image_base_steps=500,
        variant_steps=1000,
        batch=16,
        clips=140,
        grid_clips=56,
        judge_steps=400,
        sampling_steps=12,
    ),
    # About half an hour on a card of the H200 class, four to six processes at a time.
    "gpu": Schedule(
        name="gpu",
        data=MovingCropsConfig(frames=16, size=64, detail=4),
        unet=_unet(64, (1, 2, 2), 64),
        autoencoder=PATCHES,
        base_steps=10_000,
        image_base_steps=3000,
        variant_steps=3000,
        batch=64,
        clips=518,
        grid_clips=140,
        judge_steps=2000,
        seeds=(0, 1, 2),
        device="cuda",
    ),
    # Seconds: shows that every part runs, and nothing else.
    "tiny": Schedule(
        name="tiny",
        data=MovingCropsConfig(frames=4, size=16),
        unet=_unet(32, (1, 1), 16),
        autoencoder=PatchAutoencoderConfig(patch=4, latent_channels=16, refine_channels=8),
        base_steps=2,
        image_base_steps=2,
        variant_steps=2,
        batch=2,
        clips=7,
        grid_clips=7,
        judge_steps=3,
        refine_steps=2,
        sampling_steps=2,
    ),
}
