"""Features of many clips, their moments, and distances between the moments."""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
  """First two moments of features, in float64.

  Attributes:
    num: how many samples they come from.
    mean: (D,).
    cov: (D, D), the unbiased covariance.
  """

  num: int
  mean: np.ndarray
  cov: np.ndarray


def moments(
  apply: Callable, videos: Iterable[np.ndarray], batch: int = 32
) -> Moments:
  """Streams clips through a feature network and keeps only the moments.

  Args:
    apply: (B, T, H, W, 3) float32 in [-1, 1] -> (B, D); it is jitted here,
      once for each function: give the same one again, not an equal one.
    videos: arrays of uint8 clips (N, T, H, W, 3), N as it comes.
    batch: clips for one call of `apply`; does not change the result.
  """
  num, total, outer, shift = 0, None, None, None
  for video in videos:
    for start in range(0, len(video), batch):
      part = video[start : start + batch]
      # The last part is filled up, so that `apply` compiles once.
      fill = np.repeat(part[-1:], batch - len(part), 0)
      x = _features(apply, np.concatenate([part, fill]))
      x = np.asarray(x, np.float64)[: len(part)]
      if shift is None:
        # Moments about a typical vector: no digits cancel.
        shift = x.mean(0)
        total = np.zeros_like(shift)
        outer = np.zeros((len(shift), len(shift)))
      x = x - shift
      num += len(x)
      total += x.sum(0)
      outer += x.T @ x
  if num < 2:
    raise ValueError(f"Moments need at least 2 clips; {num} came.")
  mean = total / num
  cov = (outer - num * np.outer(mean, mean)) / (num - 1)
  return Moments(num=num, mean=mean + shift, cov=cov)


@functools.partial(jax.jit, static_argnums=0)
def _features(apply, video):
  return apply(video.astype(jnp.float32) / 127.5 - 1.0)


def frechet(a: Moments, b: Moments) -> float:
  """Frechet distance between two Gaussians (Heusel et al. 2017, eq. 6).

  |m_a - m_b|^2 + tr(A + B - 2 (A B)^1/2) in float64; the trace of the root is
  the sum of the roots of the eigenvalues of A^1/2 B A^1/2, which is symmetric.
  """
  values, vectors = np.linalg.eigh(a.cov)
  root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
  eigenvalues = np.linalg.eigvalsh(root @ b.cov @ root)
  cross = np.sqrt(np.maximum(eigenvalues, 0)).sum()
  distance = np.sum((a.mean - b.mean) ** 2)
  distance += np.trace(a.cov) + np.trace(b.cov) - 2 * cross
  return float(max(distance, 0.0))
