"""The networks of the proof: each begins as its base, sees what it may, and is found again after its training."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from einops import rearrange

from benchmarks.proof.__main__ import ORDER, rows_of, run_experiment
from benchmarks.proof.claims import CLAIMS
from benchmarks.proof.frame_attention import FrameAttention
from benchmarks.proof.networks import Proof
from benchmarks.proof.page import Results, write_page
from benchmarks.proof.probes import ReferenceShare
from benchmarks.proof.rows import held_out_items, make_controls
from benchmarks.proof.schedules import SCHEDULES
from benchmarks.proof.variants import VARIANTS
from i2v_core import Checkpoint, save_checkpoint
from i2v_core.methods import LookBackMethod
from i2v_core.model.look_back import LookBackConfig
from i2v_core.model.patch_autoencoder import PatchAutoencoder
from i2v_core.model.text_encoder import TextEncoder, initialize_text_encoder
from i2v_core.model.video_unet import VideoUNet, initialize_video_unet


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    """The tiny schedule with seeded bases in place of trained ones."""
    folder = tmp_path_factory.mktemp("proof")
    schedule = SCHEDULES["tiny"]
    made = Proof(schedule, folder, folder / "results")
    still = replace(schedule.unet, temporal_attention=False, temporal_convolution=False)
    for name, config in (("text_to_video", schedule.unet), ("text_to_image", still)):
        torch.manual_seed(0)
        unet, text_encoder = VideoUNet(config), TextEncoder(schedule.text_encoder)
        initialize_video_unet(unet)
        initialize_text_encoder(text_encoder)
        torch.nn.init.normal_(unet.out[-1].weight, std=0.1)
        autoencoder = PatchAutoencoder(schedule.autoencoder)
        checkpoint = Checkpoint(unet, None, autoencoder, text_encoder, made.preset(), "i2v", {})
        (folder / name).mkdir()
        path = folder / name / "model.safetensors"
        save_checkpoint(path, checkpoint, metadata={"i2v.train_steps": str(schedule.base_steps)})
    return made


def test_attention_over_frames_begins_as_the_identity() -> None:
    attention = FrameAttention(LookBackConfig(sites={"middle_0": 32}), frames=4, masked=False)
    clip = torch.randn(1, 32, 4, 2, 2)
    assert torch.equal(attention.sites["middle_0"](clip), clip)


def test_masked_attention_sees_no_later_frame() -> None:
    torch.manual_seed(0)
    site = FrameAttention(LookBackConfig(sites={"middle_0": 32}), frames=4, masked=True).sites["middle_0"]
    torch.nn.init.normal_(site.to_out.weight)
    # Group norm runs over a whole clip: as one of fixed numbers it leaves the law to the attention.
    site.norm = torch.nn.Identity()
    clip = torch.randn(1, 32, 4, 2, 2)
    changed = clip.clone()
    changed[:, :, 2:] += 1
    assert torch.equal(site(clip)[:, :, :2], site(changed)[:, :, :2])
    assert not torch.equal(site(clip)[:, :, 2:], site(changed)[:, :, 2:])


def test_the_noted_attention_is_the_attention() -> None:
    q, k, v = torch.randn(3, 2, 6, 8)
    noting, split = ReferenceShare(), "b n (h d) -> b h n d"
    plain = torch.nn.functional.scaled_dot_product_attention(*(rearrange(x, split, h=2) for x in (q, k, v)))
    torch.testing.assert_close(noting(q, k, v, 2), rearrange(plain, "b h n d -> b n (h d)"))
    assert noting.share is not None and ((noting.share > 0) & (noting.share < 1)).all()


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_is_built_from_its_seed(proof: Proof, name: str) -> None:
    base = proof.base(VARIANTS[name].base)
    first, second = (proof.new_module(VARIANTS[name], base, 3).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("experiment", ["V5", "T3", "L4"])
def test_an_experiment_makes_its_rows_once(proof: Proof, experiment: str) -> None:
    make_controls(proof)
    run_experiment(proof, experiment, 0)
    rows = rows_of(experiment) if experiment == "L4" else [experiment]
    paths = [proof.results / "seed0" / f"{name}.json" for name in rows]
    written = [path.stat().st_mtime_ns for path in paths]
    if experiment == "L4":
        run_experiment(proof, experiment, 0)
        assert [path.stat().st_mtime_ns for path in paths] == written
    results = Results.read(proof.results)
    page = write_page(results, proof.schedule, "# Proof")
    told = [verdict for verdict in results.verdicts() if verdict.claim.experiment == experiment]
    assert told and all(verdict.word in page for verdict in told)
    if experiment == "V5":
        assert [verdict.word for verdict in told] == ["confirmed"]


def test_the_items_are_of_pictures_that_training_never_shows(proof: Proof) -> None:
    items = held_out_items(proof, few=False)
    assert len(items) == proof.schedule.clips and len({item.motion for item in items}) == 7


def test_the_order_runs_every_experiment() -> None:
    assert set(ORDER) == {claim.experiment for claim in CLAIMS} and len(ORDER) == len(set(ORDER))
    assert {name for experiment in ORDER for name in rows_of(experiment)} >= {
        row for claim in CLAIMS for row in (claim.more, claim.less) if claim.experiment not in ("T3", "V5")
    }


def test_an_interrupted_training_goes_on_and_ends_alike(proof: Proof, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    whole = proof.variant("look_back", 1)[1].find(LookBackMethod)
    other = replace(proof, folder=tmp_path, on_step=stop)
    for name in ("text_to_video", "text_to_image"):
        (tmp_path / name).symlink_to(proof.folder / name)
    with pytest.raises(Stop):
        other.variant("look_back", 1)
    resumed = replace(other, on_step=None).variant("look_back", 1)[1].find(LookBackMethod)
    assert whole is not None and resumed is not None
    for a, b in zip(whole.module.parameters(), resumed.module.parameters(), strict=True):
        assert torch.equal(a, b)
