"""Frechet distance of two Gaussians: FID, FVD.

Moments are gathered from a stream of features, so that memory does not grow
with the number of clips. Of two sets the generated one comes first: `fake`,
`real`.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools

import numpy as np

from vidgan_jax import errors
from vidgan_jax.measures import intervals
from vidgan_jax.measures import points

_ROWS = 512  # rows whose moments are taken at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
  """First two moments of features.

  Attributes:
    num: how many rows they come from.
    mean: (D,).
    scatter: (D, D), the sum of (x - mean) (x - mean)^T.
  """

  num: int
  mean: np.ndarray
  scatter: np.ndarray

  @property
  def cov(self) -> np.ndarray:
    """(D, D), the unbiased covariance."""
    if self.num < 2:
      raise errors.UserError(
        f"A covariance needs at least 2 clips, not {self.num}."
      )
    return self.scatter / (self.num - 1)

  def merge(self, other: "Moments") -> "Moments":
    """Of both sets of rows together (Chan et al. 1983, eq. 2.1)."""
    num = self.num + other.num
    gap = other.mean - self.mean
    return Moments(
      num=num,
      mean=self.mean + gap * (other.num / num),
      scatter=self.scatter
      + other.scatter
      + np.outer(gap, gap) * (self.num * other.num / num),
    )


def merged(parts: Iterable[Moments]) -> Moments:
  """The moments of all parts together."""
  return functools.reduce(Moments.merge, parts)


def moments(blocks: Iterable[np.ndarray]) -> Moments:
  """Moments of a stream of features (n, D); how it is cut changes no digit."""
  (only,) = grouped(blocks, 1)
  return only


def grouped(blocks: Iterable[np.ndarray], groups: int = 16) -> list[Moments]:
  """`moments` in `groups` parts, for `jackknife` and `extrapolated`.

  Rows are dealt out at random, the same way each time, as their order may have
  a period (labels in turn); merged the parts are the whole.
  """
  parts: list[Moments | None] = [None] * groups
  num = 0
  # Chunks of a fixed size, a multiple of the parts: how the stream is cut does
  # not even change the order in which numbers are added.
  for rows in _chunks(blocks, -(-_ROWS // groups) * groups):
    rows = rows[np.random.default_rng(num).permutation(len(rows))]
    num += len(rows)
    for i in range(min(groups, len(rows))):
      x = rows[i::groups]
      mean = x.mean(0)
      new = Moments(num=len(x), mean=mean, scatter=(x - mean).T @ (x - mean))
      parts[i] = new if parts[i] is None else parts[i].merge(new)
  if num < max(2, groups):
    raise errors.UserError(
      f"Moments in {groups} parts need at least {max(2, groups)} clips; {num} "
      "came: evaluate more clips, or with fewer parts."
    )
  return parts


def _chunks(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
  """The same rows, `size` at a time, however they come."""
  held, count = [], 0
  for block in blocks:
    block = points.checked(block)
    while len(block):
      held.append(block[: size - count])
      count += len(held[-1])
      block = block[len(held[-1]) :]
      if count == size:
        yield np.concatenate(held)
        held, count = [], 0
  if count:
    yield np.concatenate(held)


def distance(fake: Moments, real: Moments) -> float:
  """Frechet distance of two Gaussians (Dowson and Landau 1982): FID, FVD.

    |m - n|^2 + tr(A + B - 2 (A B)^1/2)

  The trace of the root is the sum of the singular values of A^1/2 B^1/2, with
  A^1/2 from `eigh`: the eigenvalues of the symmetric A^1/2 B A^1/2 are their
  squares, and taking those would cost half of the digits where covariances are
  singular (fewer clips than features).
  """
  points.same_width(fake.mean, real.mean)
  cross = _root(fake.cov)[0].T @ _root(real.cov)[0]
  return _from_roots(fake, real, np.linalg.svd(cross, compute_uv=False))


def _from_roots(fake, real, singular):
  """The distance, of the singular values of A^1/2 B^1/2."""
  distance = np.sum((fake.mean - real.mean) ** 2)
  distance += np.trace(fake.cov) + np.trace(real.cov) - 2 * singular.sum()
  return float(max(distance, 0.0))


def _root(cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """R (D, rank) with R R^T = cov, and its pseudo-inverse."""
  values, vectors = np.linalg.eigh(cov)
  # What is below rounding of the largest eigenvalue is 0.
  positive = values > values[-1] * len(values) * np.finfo(np.float64).eps
  root, vectors = np.sqrt(values[positive]), vectors[:, positive]
  return vectors * root, (vectors / root).T


def estimate(
  fake: Moments, real: Moments, fake_rows: np.ndarray, real_rows: np.ndarray
) -> intervals.Estimate:
  """`distance` with its interval, by the infinitesimal jackknife.

  Jaeckel 1972: the variance is that of what each clip adds to the distance to
  first order (its influence), for a row x of the set with moments m, A, beside
  the other set's n, B,

    2 (m - n) . (x - m) + (x - m)^T (I - T) (x - m),

  with T the map that carries the one Gaussian to the other, T A T = B; likewise
  for the other set. With A = R R^T, B = S S^T and R^T S = U s V^T,

    T = S V U^T R^+,

  and the sum of s is the trace in `distance`: the whole costs no more than two
  distances. The rows of a clip, its frames, agree: their mean is one
  observation.

  Args:
    fake: moments of all rows.
    real: likewise.
    fake_rows: (clips, rows of a clip, D), all of them or some at random.
    real_rows: likewise.
  """
  points.same_width(fake.mean, real.mean)
  root_a, inverse_a = _root(fake.cov)  # (D, rank of A) and (rank of A, D).
  root_b, inverse_b = _root(real.cov)
  u, singular, v = np.linalg.svd(root_a.T @ root_b, full_matrices=False)
  middle = u @ v  # (rank of A, rank of B)
  variance, least = 0.0, np.inf
  for own, other, rows, transport in (
    (fake, real, fake_rows, root_b @ middle.T @ inverse_a),
    (real, fake, real_rows, root_a @ middle @ inverse_b),
  ):
    x = points.checked(rows.reshape(-1, rows.shape[-1]), 2) - own.mean
    adds = 2 * x @ (own.mean - other.mean) + ((x - x @ transport) * x).sum(1)
    clips = own.num / rows.shape[1]
    variance += np.var(adds.reshape(rows.shape[:2]).mean(1), ddof=1) / clips
    least = min(least, clips)
  value = _from_roots(fake, real, singular)
  return intervals.from_variance(value, variance, np.nan, least)


def extrapolated(
  fake: Sequence[Moments], real: Sequence[Moments], seed: int = 0
) -> float:
  """The distance at 1 / N = 0 (Chong and Forsyth 2020, section 4).

  The distance of finite samples is about F + C / N. It is computed for shares
  of the data, from a quarter to all, and a line in 1 / share is fitted; its
  value at 0 is F. Unlike there both samples are cut, the real one is finite
  too. The shares are whole parts, so the clips are read once.

  Args:
    fake: at least 8 parts, from `grouped`.
    real: as many.
    seed: which parts make a share.
  """
  groups = len(fake)
  if groups != len(real) or groups < 8:
    raise errors.UserError(
      f"frechet.extrapolated: {groups} parts of generated and {len(real)} of "
      "real clips; give at least 8, as many of each."
    )
  rng = np.random.default_rng(seed)
  sizes = np.arange(groups // 4, groups + 1)
  share = lambda parts, size: merged(
    parts[i] for i in rng.choice(groups, size, replace=False)
  )
  values = [distance(share(fake, size), share(real, size)) for size in sizes]
  slope, value = np.polyfit(groups / sizes, values, 1)
  return float(value)


def extrapolated_estimate(
  fake: Sequence[Moments], real: Sequence[Moments], seed: int = 0
) -> intervals.Estimate:
  """`extrapolated` with an interval: two parts of either set are left out.

  Of both at once, as both must have as many; up to twice too wide, as the
  shares of what is left are others.
  """
  left = [
    extrapolated([*fake[:g], *fake[g + 2 :]], [*real[:g], *real[g + 2 :]], seed)
    for g in range(0, len(fake) - 1, 2)
  ]
  return intervals.from_left_out(extrapolated(fake, real, seed), left)
