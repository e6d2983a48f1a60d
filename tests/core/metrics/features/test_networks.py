"""I3D, C3D, Inception and RAFT from files in their real layouts, with small or seeded weights."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import pytorch_fid.inception as pytorch_fid
import torch
from torch.nn import functional as F

from i2v_core.metrics.distribution import frechet_distance
from i2v_core.metrics.features.c3d import C3D, load_c3d
from i2v_core.metrics.features.c3d import prepare_clips as prepare_for_c3d
from i2v_core.metrics.features.flow import load_raft, weightless_flow
from i2v_core.metrics.features.i3d import I3D, MaxPool, Unit3D, load_i3d, prepare_clips
from i2v_core.metrics.features.inception import build_inception, load_inception, resize_like_tensorflow


class ScriptedI3D(torch.nn.Module):
    """Takes what StyleGAN-V's archive takes, and returns one number for each channel."""

    def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        assert return_features and not rescale and not resize
        return x.mean(dim=(2, 3, 4))


class ScriptedC3D(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().mean(dim=(2, 3, 4)).div(10).softmax(-1)


def script(module: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(path)
    return path


def i3d_names() -> set[str]:
    """The names of i3d_pretrained_400.pt, as VideoGPT's module spells them."""
    units = ["Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3"]
    modules = [f"Mixed_{name}" for name in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")]
    units += [f"{module}.{branch}" for module in modules for branch in ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")]
    bn = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {f"{unit}.conv3d.weight" for unit in units} | {f"{unit}.bn.{part}" for unit in units for part in bn}
    return names | {"logits.conv3d.weight", "logits.conv3d.bias"}


def test_i3d_has_the_names_and_the_size_of_the_public_file() -> None:
    with torch.device("meta"):
        network = I3D()
    assert set(network.state_dict()) == i3d_names()
    assert sum(parameter.numel() for parameter in network.parameters()) == 12_697_264


@pytest.mark.parametrize(("kernel", "stride", "size"), [(7, 2, 10), (7, 2, 11), (3, 1, 5), (3, 2, 6), (2, 2, 5)])
def test_padding_is_tensorflows_same(kernel: int, stride: int, size: int) -> None:
    """Output i sees the input from i * stride - before on, with before half of the total and the odd one after."""
    x = torch.rand(1, 1, size, size, size)
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    line = torch.arange(kernel, dtype=torch.float32) + 1
    unit = Unit3D(1, 1, kernel, stride, last=True)
    weight = torch.einsum("i,j,k->ijk", line, line, line)[None, None]
    unit.load_state_dict({"conv3d.weight": weight, "conv3d.bias": torch.zeros(1)})
    padded = torch.zeros(1, 1, *[size + total] * 3)
    padded[..., total // 2 : total // 2 + size, total // 2 : total // 2 + size, total // 2 : total // 2 + size] = x
    windows = padded[0, 0].unfold(0, kernel, stride).unfold(1, kernel, stride).unfold(2, kernel, stride)
    expected = torch.einsum("xyzijk,i,j,k->xyz", windows, line, line, line)
    torch.testing.assert_close(unit(x)[0, 0], expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(MaxPool((kernel,) * 3, (stride,) * 3)(x)[0, 0], windows.amax((-1, -2, -3)))


def test_i3d_reads_its_state_dict_and_tells_clips_apart(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(I3D().state_dict(), tmp_path / "i3d_pretrained_400.pt")
    features = load_i3d(tmp_path / "i3d_pretrained_400.pt")
    clips = 2 * torch.rand(1, 3, 10, 20, 24, generator=torch.Generator().manual_seed(0)) - 1
    logits = features(clips)
    assert logits.shape == (1, 400)
    assert torch.isfinite(logits).all()
    with pytest.raises(ValueError, match=r"FVD and KVD need clips of 10 frames or more, .* got 9"):
        features(clips[:, :, :9])


def test_resizing_is_plain_bilinear_in_both_published_ways() -> None:
    clips = torch.rand(1, 3, 2, 40, 60) * 2 - 1
    frames = clips[0].transpose(0, 1)
    stretched = F.interpolate(frames, (224, 224), mode="bilinear", align_corners=False).transpose(0, 1)
    torch.testing.assert_close(prepare_clips(clips, "stretch")[0], stretched)
    fitted = F.interpolate(frames, (224, 336), mode="bilinear", align_corners=False).transpose(0, 1)
    torch.testing.assert_close(prepare_clips(clips, "crop")[0], fitted[..., 56:280])


def test_the_torchscript_archives_are_taken_as_they_are(tmp_path: Path) -> None:
    clips = torch.rand(2, 3, 16, 30, 30) * 2 - 1
    i3d = load_i3d(script(ScriptedI3D(), tmp_path / "i3d_torchscript.pt"))
    torch.testing.assert_close(i3d(clips), prepare_clips(clips, "stretch").mean((2, 3, 4)))
    c3d = load_c3d(script(ScriptedC3D(), tmp_path / "c3d_ucf101.pt"))
    levels = (clips + 1) * 127.5
    torch.testing.assert_close(c3d(clips), levels.round().mean((2, 3, 4)).div(10).softmax(-1), rtol=1e-4, atol=1e-5)


def test_c3d_has_tgan2s_layers_and_preprocessing(tmp_path: Path) -> None:
    network = C3D()
    assert network.fc6.weight.shape == (4096, 512 * 4 * 4)
    assert network.fc8.weight.shape == (101, 4096)
    torch.save({name: tensor.half() for name, tensor in network.state_dict().items()}, tmp_path / "c3d.pt")
    clips = torch.zeros(1, 3, 16, 24, 24)
    probabilities = load_c3d(tmp_path / "c3d.pt")(clips)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(1))
    red = clips.clone()
    red[:, 0] = 1
    prepared = prepare_for_c3d(red)
    # TGAN2 takes (byte - 128) / 128, and its first layers make of it BGR bytes without their mean.
    expected = torch.tensor([127.5 - 90.25164795, 127.5 - 97.65701294, 255 - 101.4083252])
    torch.testing.assert_close(prepared[0, :, 0, 0, 0], expected)
    with pytest.raises(ValueError, match=r"Inception Score needs clips of 16 frames or more, .* got 8"):
        load_c3d(tmp_path / "c3d.pt")(clips[:, :, :8])


def test_tgan2s_own_names_are_understood(tmp_path: Path) -> None:
    np.savez(tmp_path / "conv3d_deepnetA_ucf.npz", **{"conv1a/W": np.zeros(1), "fc8/b": np.zeros(101)})
    with pytest.raises(ValueError, match=r"of another shape: conv1a.weight \(1\)"):
        load_c3d(tmp_path / "conv3d_deepnetA_ucf.npz")


def test_inception_equals_pytorch_fid_on_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole class of pytorch-fid, fed [0, 1] as it says; at 299 pixels, where nobody resizes."""
    torch.manual_seed(0)
    weights = {
        name: torch.rand_like(tensor) + 0.5 if name.endswith("running_var") else tensor
        for name, tensor in build_inception().state_dict().items()
    }
    path = tmp_path / "weights-inception-2015-12-05-6726825d.pth"
    torch.save(weights, path)
    monkeypatch.setattr(pytorch_fid, "load_state_dict_from_url", lambda *_, **__: weights)
    reference = pytorch_fid.InceptionV3([3]).eval()
    clip = 2 * torch.rand(3, 2, 299, 299, generator=torch.Generator().manual_seed(0)) - 1
    unit = ((clip + 1) * 127.5).round().transpose(0, 1) / 255
    with torch.inference_mode():
        expected = reference(unit)[0].flatten(1)
    features = load_inception(path)(clip)
    assert features.shape == (2, 2048)
    # It takes x / 127.5 - 1 where the network of 2015, and torch-fidelity, take (x - 128) / 128.
    torch.testing.assert_close(features, expected, rtol=0, atol=0.01 * expected.abs().max().item())


@pytest.mark.parametrize("side", [7, 20])
def test_resizing_for_inception_is_tensorflow_1s(side: int) -> None:
    """Output i lies at i * old / new, between its two neighbors; the last one is held."""
    picture = torch.rand(1, 2, 11, 13)
    new = resize_like_tensorflow(picture, side)

    def weights(size: int) -> torch.Tensor:
        place = torch.arange(side) * size / side
        low = place.floor().long()
        matrix = torch.zeros(side, size)
        matrix[torch.arange(side), low] = 1 - (place - low)
        matrix[torch.arange(side), (low + 1).clamp_max(size - 1)] += place - low
        return matrix

    torch.testing.assert_close(new, weights(11) @ picture @ weights(13).T, rtol=1e-4, atol=1e-5)


def test_raft_takes_torchvisions_weights(tmp_path: Path) -> None:
    from torchvision.models.optical_flow import raft_small

    torch.save(raft_small(weights=None).state_dict(), tmp_path / "raft_small_C_T_V2-01064c6d.pth")
    estimator = load_raft(tmp_path / "raft_small_C_T_V2-01064c6d.pth")
    assert estimator.name == "RAFT raft_small_C_T_V2-01064c6d"
    flow = estimator.estimate(torch.rand(3, 2, 32, 40))
    assert flow.shape == (1, 2, 32, 40)
    assert torch.isfinite(flow).all()


def test_weightless_flow_finds_a_shift() -> None:
    picture = F.interpolate(torch.rand(1, 3, 12, 12), (64, 64), mode="bicubic")[0] * 2 - 1
    clip = torch.stack([picture, picture.roll(2, dims=-1)], dim=1)
    flow = weightless_flow().estimate(clip)
    assert flow.shape == (1, 2, 64, 64)
    across, down = flow[0, :, 16:48, 16:48].flatten(1).median(-1).values
    # The flow leads from the first frame to where its content lies in the second.
    assert across.item() == pytest.approx(2, abs=0.3)
    assert down.item() == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize(
    ("load", "sentence"),
    [
        (load_i3d, "--i3d .*i3d_pretrained_400.pt.*none is published"),
        (load_c3d, "--c3d .*c3d_ucf101.pt"),
        (load_inception, "--inception .*6726825d.pth.*begins with 6726825d"),
        (load_raft, "--raft .*raft_large"),
    ],
)
def test_a_missing_or_other_file_is_one_sentence(load: object, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=sentence):
        load(None)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other.pt' does not hold .* missing: .*unexpected: weight \(1\)"):
        load(tmp_path / "other.pt")


def test_zeros_against_ones_is_the_published_number() -> None:
    """common_metrics_on_video_quality: 8 clips of 30 frames, 3x64x64, zeros against ones, gives FVD 151.256."""
    path = os.environ.get("I2V_I3D_WEIGHTS")
    if path is None:
        pytest.skip("set I2V_I3D_WEIGHTS to i3d_torchscript.pt or i3d_pretrained_400.pt")
    features = load_i3d(path)
    black, white = (features(torch.full((8, 3, 30, 64, 64), value)) for value in (-1.0, 1.0))
    assert frechet_distance(black, white) == pytest.approx(151.256, abs=0.2)
