"""The probe measures what a wrong word, no text and a wrong picture cost, and leaves the training alone."""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from i2v_core.data.clips import ClipBatch
from i2v_core.data.moving_crops import TEST_PHOTOGRAPHS, MovingCrops, MovingCropsConfig
from i2v_core.training.config import LoggingConfig
from i2v_core.training.log import read_log
from i2v_core.training.methods import adapter_task, run
from i2v_core.training.objective import ClipLosses
from i2v_core.training.per_clip_random import PerClipRandom
from i2v_core.training.probe import TIMES, Probe
from tests.core.training.tiny import tiny_config


class Pixels:
    """Latents that are the pixels."""

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels

    def encode_clip(self, clip: torch.Tensor) -> torch.Tensor:
        return clip


def test_what_is_wrong_costs_what_it_is_worth() -> None:
    config = MovingCropsConfig(frames=2, size=16)
    held_out = MovingCrops(replace(config, photographs=TEST_PHOTOGRAPHS))
    times = set()

    def loss(batch: ClipBatch, draws: PerClipRandom) -> ClipLosses:
        """A listener: no words cost 1, wrong ones 2, a wrong picture 4."""
        assert draws.timestep is not None
        times.add(draws.timestep)
        clips = [held_out.clip(item) for item in batch.items]
        costs = [
            0 if said == clip.caption else 1 if said == "" else 2
            for said, clip in zip(batch.captions, clips, strict=True)
        ]
        own = torch.stack([clip.image for clip in clips])
        picture = torch.stack([batch.image, batch.image_latent[:, :, 0]])
        wrong = (picture != own).flatten(2).any(2).all(0)
        plain = torch.tensor(costs) + 4 * wrong
        return ClipLosses(*[plain.float()] * 5)

    row = Probe(loss, MovingCrops(config), Pixels(), clips=5, batch_size=3, timesteps=1000).row("cpu")
    assert times == {int(1000 * time) for time in TIMES}
    for time in times:
        found = [row[f"probe_{time}{of}"] for of in ("", "_word", "_text", "_picture", "_word_error")]
        assert found == [0, 2, 1, 4, 0]


def test_it_sees_the_same_clips_noise_and_times_again(tmp_path: Path) -> None:
    task = adapter_task(tiny_config(tmp_path))
    for parameter in task.objective.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    probe = Probe(task.objective.loss, task.data, task.autoencoder, clips=2, batch_size=2, timesteps=1000)
    first = probe.row("cpu")
    task.objective.loss(probe._batches[0].batch, PerClipRandom.of(0, [1, 2]))  # type: ignore[index]
    assert probe.row("cpu") == first
    assert first["probe_600_text"] != 0 and first["probe_600_picture"] != 0


def test_a_probe_is_in_the_log_and_changes_nothing(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, max_train_steps=2)
    results = []
    for name, every in (("with", 2), ("without", 0)):
        logging = LoggingConfig("none", logging_steps=1, probe_steps=every, probe_clips=2, plan_steps=0)
        train = replace(config.train, output_dir=str(tmp_path / name))
        results.append(load_file(run(replace(config, train=train, logging=logging))))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[1])
    first, second = read_log(tmp_path / "with")
    assert "probe_999" not in first and {"probe_999", "probe_300_word", "probe_300_picture_error"} <= set(second)
    assert not any("probe" in name for row in read_log(tmp_path / "without") for name in row)
