"""How far a value would move with other clips: 95 % intervals.

Every value is a function of finite samples. `jackknife` leaves out parts of
either sample; the changes say how much the value varies. It does not resample
with replacement: that duplicates clips, which roughly doubles the finite-sample
bias of a Frechet distance, and a duplicate is its own nearest neighbour. Kernel
distances, which are sums over pairs, leave out every clip in turn at no cost
(`kernels.mmd`). A mean over clips, as of PSNR, has `bootstrap`.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import math
import statistics
from typing import Any
from typing import NamedTuple

import numpy as np
from scipy import stats

from vidgan_jax import errors

Z = statistics.NormalDist().inv_cdf(0.975)  # Half of a 95 % interval.


class Spread(NamedTuple):
  """Mean and standard deviation of a value over parts of the data."""

  mean: float
  std: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
  """A value and what can be said of its error.

  Attributes:
    value: as papers report it, of the whole samples.
    low: lower end of the 95 % interval for the mean of such values over
      repetitions with as many clips. The bias is not taken off.
    high: its upper end.
    bias: what the value owes to the finite samples, to first order (Quenouille
      1956): value - bias is without the term in 1 / N. 0 for unbiased ones, NaN
      where it is not known.
  """

  value: float
  low: float
  high: float
  bias: float


def split(x: np.ndarray, groups: int = 16) -> list[np.ndarray]:
  """Rows dealt out at random to parts for `jackknife`, the same each time."""
  if len(x) < groups:
    raise errors.UserError(
      f"{len(x)} clips cannot be cut in {groups} parts for an interval: "
      "evaluate more clips."
    )
  label = labels(len(x), groups)
  return [x[label == i] for i in range(groups)]


def labels(num: int, groups: int) -> np.ndarray:
  """The number (num,) of the part that each row is dealt to by `split`."""
  order = np.random.default_rng(0).permutation(num)
  return np.argsort(order) % groups


def jackknife(
  statistic: Callable[[list, list], Any],
  fake: Sequence[Any],
  real: Sequence[Any],
) -> Estimate:
  """Leaves out one part of either sample in turn (Shao and Tu 1995, ch. 2.3).

    se^2 = (G-1)/G sum (v_g - mean v)^2, of both samples added
    bias = (G-1) (mean v_g - v), likewise

  v_g: without part g of G. The interval is v +- t se, t of Student with the
  smaller G - 1 degrees of freedom. As parts are whole sixteenths it also holds
  for nearest neighbours, which leaving out one clip would not (ibid.). In the
  mean se^2 is not too small (Efron and Stein 1981): where the true distance is
  0, the interval is too wide rather than too narrow.

  Args:
    statistic: of the two lists of parts that are left: a number, or an array of
      several, and so are the fields of the result.
    fake: at least 3 parts, arrays from `split` or moments from `grouped`.
    real: the same of the real clips.
  """
  groups = min(len(fake), len(real))
  if groups < 3:
    raise ValueError(f"An interval needs 3 parts of each sample, not {groups}.")
  return from_left_out(
    statistic(list(fake), list(real)),
    [statistic(without(fake, g), list(real)) for g in range(len(fake))],
    [statistic(list(fake), without(real, g)) for g in range(len(real))],
  )


def from_left_out(value: Any, *left: Sequence[Any]) -> Estimate:
  """The interval of `jackknife` from the values themselves.

  Args:
    value: of the whole samples.
    *left: for each sample the values without each of its parts.
  """
  variance = sum((len(v) - 1) * np.var(v, axis=0) for v in left)
  bias = sum((len(v) - 1) * (np.mean(v, axis=0) - value) for v in left)
  return from_variance(value, variance, bias, min(map(len, left)))


def batch_means(spread: Spread, parts: int) -> tuple[float, float]:
  """95 % interval of a mean over some parts of the clips (Conway 1963)."""
  variance = spread.std**2 / (parts - 1)
  estimate = from_variance(spread.mean, variance, 0.0, parts)
  return estimate.low, estimate.high


def mean(values: np.ndarray) -> float:
  """The mean of those of (N,) values that are finite; NaN where none is."""
  values = values[np.isfinite(values)]
  return float(values.mean()) if len(values) else float("nan")


def bootstrap(
  values: np.ndarray, resamples: int, seed: int
) -> tuple[float, float]:
  """95 % interval of a mean by the percentile bootstrap (Efron 1979).

  Args:
    values: (N,), one a clip; NaN are left out.
    resamples: of N clips each, drawn with replacement.
    seed: of the draws.
  """
  values = values[np.isfinite(values)]
  if not len(values):
    return float("nan"), float("nan")
  return percentiles(resampled(values, resamples, seed))


def resampled(
  values: np.ndarray,
  resamples: int,
  seed: int,
  statistic: Callable[..., np.ndarray] = np.mean,
) -> np.ndarray:
  """A statistic of samples drawn with replacement, for an interval.

  Args:
    values: (N,), one a clip.
    resamples: R, of N clips each.
    seed: of the draws: two arrays of N values are drawn alike.
    statistic: such as `np.median`: (R, N), axis=1 -> (R,).
  """
  rng = np.random.default_rng(seed)
  drawn = rng.integers(0, len(values), (resamples, len(values)))
  return statistic(values[drawn], axis=1)


def percentiles(drawn: np.ndarray) -> tuple[float, float]:
  """The middle 95 % of what `resampled` gave."""
  low, high = np.percentile(drawn, (2.5, 97.5))
  return float(low), float(high)


def wilson(count: float, num: int) -> tuple[float, float]:
  """95 % interval of a share, `count` of `num` (Wilson 1927).

    all p with |count / num - p| <= z sqrt(p (1 - p) / num)

  Votes that count half, as ties do, make the share vary less than a coin does:
  the interval is then on the safe side.
  """
  share = count / num
  middle = share + Z * Z / (2 * num)
  half = Z * math.sqrt(share * (1 - share) / num + (Z / (2 * num)) ** 2)
  scale = 1 + Z * Z / num
  # The ends of [0, 1] are exact, whatever rounding says.
  return (
    (middle - half) / scale if count else 0.0,
    (middle + half) / scale if count < num else 1.0,
  )


def without(parts: Sequence[Any], g: int) -> list[Any]:
  """All parts but that of number `g`."""
  return [*parts[:g], *parts[g + 1 :]]


def from_variance(
  value: Any, variance: Any, bias: Any, groups: float
) -> Estimate:
  """Value +- t sqrt(variance), t of Student with groups - 1 degrees."""
  margin = stats.t.ppf(0.975, groups - 1) * np.sqrt(variance)
  plain = lambda x: float(x) if np.ndim(x) == 0 else x
  return Estimate(
    value=plain(value),
    low=plain(value - margin),
    high=plain(value + margin),
    bias=plain(bias),
  )
