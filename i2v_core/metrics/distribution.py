"""Distances between two sets of clips on any features: Fréchet (FVD, FID), kernel (KVD, KID), and the Inception Score.

None of them knows the network: features of I3D make FVD, of Inception FID. All of them depend on the number of samples;
Fréchet distances fall about as 1/n for equal distributions, so only equal n may be compared.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..files import StrPath, atomic_path
from .checks import at_least, finite


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance between the Gaussians of two sets of features `n d` and `m d` (Heusel et al. 2017, eq. 6).

    Without a matrix square root: of centered and scaled sets A and B the trace of (S_A S_B)^(1/2) is the nuclear norm
    of A B^T. Exact also for n < d, where the covariances are singular. Covariances divide by n - 1.

    Raises:
        ValueError: fewer than two rows, different widths, or NaN.
    """
    a, b = _rows(a), _rows(b)
    _same_width(a.shape[1], b.shape[1])
    factors = [(x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (a, b)]
    variance = sum(float(x.square().sum()) for x in factors)
    # The triangular factor has the same products and at most d rows.
    left, right = (torch.linalg.qr(x, mode="r").R if len(x) > x.shape[1] else x for x in factors)
    cross = torch.linalg.svdvals(left @ right.T).sum()
    return max(float((a.mean(0) - b.mean(0)).square().sum() + variance - 2 * cross), 0.0)


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Number, mean `d` and scatter `d d` (sum of squared deviations) of a set of features, in float64.

    What a stream of features leaves behind: sets are merged exactly, in any order and on any machine.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "FeatureStatistics":
        """Of features `n d`, n at least 1; raises ValueError for NaN or another shape."""
        rows = _rows(features, least=1)
        centered = rows - rows.mean(0)
        return cls(len(rows), rows.mean(0), centered.T @ centered)

    def merge(self, other: "FeatureStatistics") -> "FeatureStatistics":
        """Of both sets together (Chan et al. 1979); raises ValueError for different widths."""
        _same_width(len(self.mean), len(other.mean))
        count = self.count + other.count
        shift = other.mean - self.mean
        scatter = self.scatter + other.scatter + torch.outer(shift, shift) * (self.count * other.count / count)
        return FeatureStatistics(count, self.mean + shift * (other.count / count), scatter)

    @property
    def covariance(self) -> Tensor:
        """`d d`, divided by n - 1; raises ValueError for fewer than two samples."""
        at_least(self.count, 2, "A covariance, in samples,")
        return self.scatter / (self.count - 1)

    def save(self, path: StrPath, metadata: dict[str, str] | None = None) -> None:
        """Write a safetensors file, atomically; `metadata` says which network and which clips."""
        from safetensors.torch import save_file

        tensors = {"count": torch.tensor(self.count), "mean": self.mean, "scatter": self.scatter}
        with atomic_path(path) as temporary:
            save_file({name: t.contiguous() for name, t in tensors.items()}, temporary, metadata=metadata)

    @classmethod
    def load(cls, path: StrPath) -> "FeatureStatistics":
        """Read what `save` wrote; raises ValueError for another file."""
        from safetensors.torch import load_file

        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no file of feature statistics '{path}'.")
        tensors: dict[str, Any] = load_file(path)
        if set(tensors) != {"count", "mean", "scatter"}:
            raise ValueError(f"'{path}' holds {sorted(tensors)}, expected feature statistics: count, mean, scatter.")
        return cls(int(tensors["count"]), tensors["mean"], tensors["scatter"])


def frechet_distance_of_statistics(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """The same distance from merged statistics, by eigenvalues in float64.

    Raises ValueError for fewer than two samples or different widths.
    """
    _same_width(len(a.mean), len(b.mean))
    covariance_a, covariance_b = a.covariance, b.covariance
    values, vectors = torch.linalg.eigh(covariance_a)
    root = vectors * _without_rounding(values).sqrt()
    cross = _without_rounding(torch.linalg.eigvalsh(root.T @ covariance_b @ root)).sqrt().sum()
    shift = (a.mean - b.mean).square().sum()
    return max(float(shift + covariance_a.trace() + covariance_b.trace() - 2 * cross), 0.0)


def kernel_distance(a: Tensor, b: Tensor, *, degree: int = 3, gamma: float | None = None, coef0: float = 1.0) -> float:
    """Squared maximum mean discrepancy with the kernel (gamma x.y + coef0)^degree, unbiased (Binkowski et al. 2018).

    Unlike the Fréchet distance it has no bias at small n; around equal distributions it scatters about 0, also below.

    Args:
        a, b: features `n d` and `m d`.
        gamma: 1/d unless given. The defaults make KVD and KID; JEDi takes degree 2 and coef0 0.

    Raises:
        ValueError: fewer than two rows, different widths, or NaN.
    """
    a, b = _rows(a), _rows(b)
    _same_width(a.shape[1], b.shape[1])
    gamma = 1 / a.shape[1] if gamma is None else gamma

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (gamma * (x @ y.T) + coef0) ** degree

    def within(x: Tensor) -> Tensor:
        products = kernel(x, x)
        return (products.sum() - products.diagonal().sum()) / (len(x) * (len(x) - 1))

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


def inception_score(probabilities: Tensor, *, splits: int = 10, seed: int = 42) -> tuple[float, float]:
    """Inception Score: exp of the mean divergence of p(y|x) from p(y); mean and deviation over splits.

    The video one takes C3D's class probabilities of UCF101. No real data enters.

    Args:
        probabilities: `n k`, rows that sum to 1.
        splits: equal parts after shuffling with `seed`, as in StyleGAN-V.

    Raises:
        ValueError: fewer rows than splits, rows that are no probabilities, or NaN.
    """
    rows = _rows(probabilities, least=1)
    at_least(len(rows), splits, f"The Inception Score with {splits} splits, in clips,")
    if (rows < 0).any() or not torch.allclose(rows.sum(-1), torch.ones(()).double(), atol=1e-3):
        raise ValueError("Expected class probabilities, rows that sum to 1: apply softmax to the network's output.")
    rows = rows[torch.from_numpy(np.random.RandomState(seed).permutation(len(rows)))]
    scores = []
    for i in range(splits):
        part = rows[i * len(rows) // splits : (i + 1) * len(rows) // splits]
        divergence = torch.special.xlogy(part, part / part.mean(0).clamp_min(1e-300)).sum(-1)
        scores.append(divergence.mean().exp())
    values = torch.stack(scores)
    return float(values.mean()), float(values.std(unbiased=False))


def _rows(features: Tensor, least: int = 2) -> Tensor:
    if features.ndim != 2:
        raise ValueError(f"Expected features `n d`, one row for each sample, got shape {tuple(features.shape)}.")
    at_least(len(features), least, "A distance between distributions, in samples,")
    return finite(features, "The features").double()


def _same_width(a: int, b: int) -> None:
    if a != b:
        raise ValueError(f"Features of width {a} and {b} come from different networks: use one for both sets.")


def _without_rounding(eigenvalues: Tensor) -> Tensor:
    # Zeros of a singular matrix come out as about 1e-16 of the largest; their roots would add up to something.
    threshold = eigenvalues.amax().clamp_min(0) * len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps
    return torch.where(eigenvalues > threshold, eigenvalues, 0)
