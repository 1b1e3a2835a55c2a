"""How far generated clips are from real ones, from their features.

NumPy in float64. Features are arrays (N, D), one row a clip (or a frame);
moments are gathered from a stream of such arrays, so that memory does not grow
with the number of clips. Of two sets the generated one comes first: `fake`,
`real`. Features that are not finite are refused: a NaN frame must not become a
number.

Intervals. Every value is a function of two finite samples, and repeated with
other clips it would differ. `jackknife` leaves out parts of either sample and
tells from the changes how much. It needs no resampling with replacement, which
for these statistics is wrong: doubled clips raise a Frechet distance by as much
again as the samples' finiteness does, and are their own nearest neighbours. The
kernel distances, which are sums over pairs, leave out every clip in turn at no
cost (`mmd`). Means over clips, as PSNR, have `restoration.interval`.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import hashlib
from typing import Any
from typing import NamedTuple

import numpy as np
from scipy import special
from scipy import stats

from vidgan_jax import errors
from vidgan_jax.measures import fidelity

_ROWS = 512  # rows whose moments are taken at a time
_PAIRS = 2**22  # distances held at a time


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


# -------------------------------------------------------------------- moments


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
  """Of all parts together."""
  return functools.reduce(Moments.merge, parts)


def moments(blocks: Iterable[np.ndarray]) -> Moments:
  """Of a stream of features (n, D), n as it comes; it changes no digit."""
  (only,) = grouped(blocks, 1)
  return only


def grouped(blocks: Iterable[np.ndarray], groups: int = 16) -> list[Moments]:
  """The same in `groups` parts, for `jackknife` and `frechet_inf`.

  Rows are dealt out at random, the same way each time, as their order may have
  a period (labels in turn); merged the parts are the whole.
  """
  parts: list[Moments | None] = [None] * groups
  num = 0
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
    block = _checked(block)
    while len(block):
      held.append(block[: size - count])
      count += len(held[-1])
      block = block[len(held[-1]) :]
      if count == size:
        yield np.concatenate(held)
        held, count = [], 0
  if count:
    yield np.concatenate(held)


# -------------------------------------------------------------------- Frechet


def frechet(fake: Moments, real: Moments) -> float:
  """Frechet distance of two Gaussians (Dowson and Landau 1982): FID, FVD.

    |m - n|^2 + tr(A + B - 2 (A B)^1/2)

  The trace of the root is the sum of the singular values of A^1/2 B^1/2, with
  A^1/2 from `eigh`: the eigenvalues of the symmetric A^1/2 B A^1/2 are their
  squares, and taking those would cost half of the digits where covariances are
  singular (fewer clips than features).
  """
  _same(fake.mean, real.mean)
  cross = _root(fake.cov)[0].T @ _root(real.cov)[0]
  return _distance(fake, real, np.linalg.svd(cross, compute_uv=False))


def _distance(fake, real, singular):
  distance = np.sum((fake.mean - real.mean) ** 2)
  distance += np.trace(fake.cov) + np.trace(real.cov) - 2 * singular.sum()
  return float(max(distance, 0.0))


def _root(cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """R (D, rank) with R R^T = cov, and its pseudo-inverse."""
  values, vectors = np.linalg.eigh(cov)
  there = values > values[-1] * len(values) * np.finfo(np.float64).eps
  root, vectors = np.sqrt(values[there]), vectors[:, there]
  return vectors * root, (vectors / root).T


def frechet_estimate(
  fake: Moments, real: Moments, fake_rows: np.ndarray, real_rows: np.ndarray
) -> Estimate:
  """`frechet` with its interval, by the infinitesimal jackknife.

  Jaeckel 1972: the variance is that of what each clip adds to the distance to
  first order, for a row x of the one set

    2 (m - n) . (x - m) + (x - m)^T (I - T) (x - m),

  with T the map that carries its Gaussian to the other, likewise for the other
  set. So the whole costs no more than two distances. The rows of a clip, its
  frames, agree: their mean is one observation.

  Args:
    fake: moments of all rows.
    real: likewise.
    fake_rows: (clips, rows of a clip, D), all of them or some at random.
    real_rows: likewise.
  """
  _same(fake.mean, real.mean)
  root_a, inverse_a = _root(fake.cov)
  root_b, inverse_b = _root(real.cov)
  u, singular, v = np.linalg.svd(root_a.T @ root_b, full_matrices=False)
  middle = u @ v  # (rank of A, rank of B)
  variance, least = 0.0, np.inf
  for one, other, rows, way in (
    (fake, real, fake_rows, root_b @ middle.T @ inverse_a),
    (real, fake, real_rows, root_a @ middle @ inverse_b),
  ):
    x = _checked(rows.reshape(-1, rows.shape[-1]), 2) - one.mean
    adds = 2 * x @ (one.mean - other.mean) + ((x - x @ way) * x).sum(1)
    clips = one.num / rows.shape[1]
    variance += np.var(adds.reshape(rows.shape[:2]).mean(1), ddof=1) / clips
    least = min(least, clips)
  return _estimate(_distance(fake, real, singular), variance, np.nan, least)


def frechet_inf(
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
      f"frechet_inf: {groups} parts of generated and {len(real)} of real clips;"
      " give at least 8, as many of each."
    )
  rng = np.random.default_rng(seed)
  sizes = np.arange(groups // 4, groups + 1)
  some = lambda parts, size: merged(
    parts[i] for i in rng.choice(groups, size, replace=False)
  )
  values = [frechet(some(fake, size), some(real, size)) for size in sizes]
  slope, value = np.polyfit(groups / sizes, values, 1)
  return float(value)


def frechet_inf_estimate(
  fake: Sequence[Moments], real: Sequence[Moments], seed: int = 0
) -> Estimate:
  """`frechet_inf` with an interval: two parts of either set are left out.

  Of both at once, as both must have as many; up to twice too wide, as the
  shares of what is left are others.
  """
  left = [
    frechet_inf(*(_without(_without(s, g), g) for s in (fake, real)), seed)
    for g in range(0, len(fake) - 1, 2)
  ]
  return _left_out(frechet_inf(fake, real, seed), left)


# ------------------------------------------------------------------ intervals


def split(x: np.ndarray, groups: int = 16) -> list[np.ndarray]:
  """Rows dealt out at random to parts for `jackknife`, the same each time."""
  if len(x) < groups:
    raise errors.UserError(
      f"{len(x)} clips cannot be cut in {groups} parts for an interval: "
      "evaluate more clips."
    )
  label = _labels(len(x), groups)
  return [x[label == i] for i in range(groups)]


def _labels(num: int, groups: int) -> np.ndarray:
  """The part (num,) of each row."""
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
  return _left_out(
    statistic(list(fake), list(real)),
    [statistic(_without(fake, g), list(real)) for g in range(len(fake))],
    [statistic(list(fake), _without(real, g)) for g in range(len(real))],
  )


def _left_out(value, *left):
  """Of the values without each part of the one sample, and of the other."""
  variance = sum((len(v) - 1) * np.var(v, axis=0) for v in left)
  bias = sum((len(v) - 1) * (np.mean(v, axis=0) - value) for v in left)
  return _estimate(value, variance, bias, min(map(len, left)))


def batch_means(found: Spread, parts: int) -> tuple[float, float]:
  """95 % interval of a mean over some parts of the clips (Conway 1963)."""
  one = _estimate(found.mean, found.std**2 / (parts - 1), 0.0, parts)
  return one.low, one.high


def wilson(count: int, num: int) -> tuple[float, float]:
  """95 % interval of a share, `count` of `num` (Wilson 1927)."""
  low, high = stats.binomtest(count, num).proportion_ci(method="wilson")
  return float(low), float(high)


def _without(parts, g):
  return [*parts[:g], *parts[g + 1 :]]


def _estimate(value, variance, bias, groups):
  margin = stats.t.ppf(0.975, groups - 1) * np.sqrt(variance)
  plain = lambda x: float(x) if np.ndim(x) == 0 else x
  return Estimate(
    value=plain(value),
    low=plain(value - margin),
    high=plain(value + margin),
    bias=plain(bias),
  )


# -------------------------------------------------------------------- kernels


def jedi(fake: np.ndarray, real: np.ndarray) -> Estimate:
  """100 times the biased `mmd` of degree 2, offset 0 (Luo et al. 2025)."""
  found = mmd(fake, real, degree=2, offset=0.0, unbiased=False)
  return Estimate(**{k: 100 * v for k, v in dataclasses.asdict(found).items()})


def mmd(
  fake: np.ndarray,
  real: np.ndarray,
  *,
  degree: int = 3,
  offset: float = 1.0,
  unbiased: bool = True,
  each: int = 1,
) -> Estimate:
  """Squared maximum mean discrepancy (Gretton et al. 2012, eqs. 3 and 5).

    mean k(x, x') + mean k(y, y') - 2 mean k(x, y),
    k(x, y) = (x . y / D + offset)^degree

  The defaults are the kernel video distance (Unterthiner et al. 2019) of I3D's
  logits. `unbiased` leaves k(x, x) of a row with itself out; the value can then
  be below 0. The interval leaves out every clip in turn, exactly, by the sums
  of the kernel's rows; memory does not grow with their number squared.

  Args:
    fake: (M, D).
    real: (N, D).
    degree: of the polynomial.
    offset: sklearn's `coef0`; its gamma is 1 / D.
    unbiased: without the diagonal.
    each: rows of a clip, one after the other; they are left out together.
  """
  x, y = _checked(fake, 3 * each), _checked(real, 3 * each)
  _same(x[0], y[0])
  kernel = lambda dot: _power(dot / x.shape[1] + offset, degree)
  by_clip = lambda sums: sums.reshape(-1, each).sum(1)

  def sums(a, b):
    """Of the kernel's rows and columns."""
    rows, columns = [], 0
    for some in _blocks(a, len(b)):
      block = kernel(some @ b.T)
      rows.append(block.sum(1))
      columns = columns + block.sum(0)
    return np.concatenate(rows), columns

  def within(total, diagonal, num):
    if unbiased:
      return (total - diagonal) / (num * (num - 1))
    return total / num**2

  def alone(a):
    """Of one set: its term, and that without each clip."""
    rows, _ = sums(a, a)
    own = kernel((a * a).sum(1))
    # Without a clip its rows and columns go, and the corner that both have.
    clips = a.reshape(-1, each, a.shape[1])
    corner = kernel(clips @ clips.swapaxes(1, 2)).sum((1, 2))
    total = rows.sum() - 2 * by_clip(rows) + corner
    return within(rows.sum(), own.sum(), len(a)), within(
      total, own.sum() - by_clip(own), len(a) - each
    )

  m, n = len(x), len(y)
  (one, fewer_x), (two, fewer_y) = alone(x), alone(y)
  xy, yx = map(by_clip, sums(x, y))
  total = xy.sum()
  value = one + two - 2 * total / (m * n)
  no_x = fewer_x + two - 2 * (total - xy) / ((m - each) * n)
  no_y = one + fewer_y - 2 * (total - yx) / (m * (n - each))
  variance = sum((len(v) - 1) * np.var(v) for v in (no_x, no_y))
  bias = sum((len(v) - 1) * (v.mean() - value) for v in (no_x, no_y))
  return _estimate(value, variance, bias, min(m, n) // each)


def _power(x: np.ndarray, degree: int) -> np.ndarray:
  """By products: NumPy's own power is ten times slower."""
  return functools.reduce(np.multiply, [x] * degree)


def kid(
  fake: np.ndarray,
  real: np.ndarray,
  *,
  subsets: int = 100,
  size: int = 1000,
  seed: int = 0,
) -> Spread:
  """Kernel inception distance (Binkowski et al. 2018), over random subsets.

  The unbiased `mmd` of `size` clips of each, drawn without replacement. The
  deviation is that of one subset, not the error of the mean: for that, see
  `mmd` on all clips.
  """
  if min(len(fake), len(real)) < size:
    raise errors.UserError(
      f"kid: subsets of {size} from {len(fake)} generated and {len(real)} real "
      "ones; evaluate more, or ask for a smaller size (another protocol)."
    )
  rng = np.random.default_rng(seed)
  some = lambda x: x[rng.choice(len(x), size, replace=False)]
  values = [mmd(some(fake), some(real)).value for _ in range(subsets)]
  return Spread(float(np.mean(values)), float(np.std(values)))


# ------------------------------------------------------------------ one sample


def inception_score(logits: np.ndarray, splits: int = 10) -> Spread:
  """Inception score, exp E KL(p(y|x) | p(y)), over splits.

  Salimans et al. 2016, section 4; the splits are consecutive and p(y) is that
  of each, so the order of the clips must not depend on their class. The score
  rises with their number.

  Args:
    logits: (N, classes), before softmax.
    splits: how many; mean and deviation are over them.
  """
  logits = _checked(logits, splits)
  log = logits - special.logsumexp(logits, 1, keepdims=True)
  scores = []
  for part in np.array_split(log, splits):
    marginal = special.logsumexp(part, 0) - np.log(len(part))
    divergence = (np.exp(part) * (part - marginal)).sum(1)
    scores.append(np.exp(divergence.mean()))
  return Spread(float(np.mean(scores)), float(np.std(scores)))


def diversity(features: np.ndarray) -> float:
  """Mean distance of two different clips in the space of the features.

  0 when all clips are one; to be read beside that of real clips.
  """
  x = _checked(features, 2)
  total = sum(np.sqrt(d).sum() for d in _squared(x, x))
  return float(total / (len(x) * (len(x) - 1)))


def diversity_estimate(features: np.ndarray) -> Estimate:
  """`diversity` with its interval: every clip is left out in turn, exactly."""
  x = _checked(features, 3)
  sums = np.concatenate([np.sqrt(d).sum(1) for d in _squared(x, x)])
  num, total = len(x), sums.sum()
  left = (total - 2 * sums) / ((num - 1) * (num - 2))
  return _left_out(float(total / (num * (num - 1))), left)


# ----------------------------------------------------------- nearest neighbours


class Neighbours(NamedTuple):
  """See `neighbours`."""

  precision: float
  recall: float
  density: float
  coverage: float


def neighbours(
  fake: np.ndarray, real: np.ndarray, k: int = 3, k_density: int = 5
) -> Neighbours:
  """Shares of one set in the balls of the other.

  A ball reaches from each clip to its k-th neighbour in its own set. Precision
  and recall (Kynkaanniemi et al. 2019): the share of generated clips in a ball
  of a real one, and the reverse. With balls of `k_density` (Naeem et al. 2020,
  eqs. 3 and 4), density: the mean number of balls of real clips that a
  generated one is in, over k; 1 is expected of the same distribution, and it
  can be more. Coverage: the share of real clips with a generated one in their
  ball. One outlier among the real clips does not spoil these two as it does
  precision.
  """
  fake, real = _checked(fake, k + 1), _checked(real, max(k, k_density) + 1)
  (own,) = _radii(fake, k)
  balls, wide = _radii(real, k, k_density)
  precise, dense, seen, covered = 0, 0, False, False
  for d in _squared(fake, real):
    precise += (d <= balls).any(1).sum()
    inside = d <= wide
    dense += inside.sum()
    covered |= inside.any(0)
    seen |= (d <= own[: len(d), None]).any(0)
    own = own[len(d) :]
  return Neighbours(
    precision=precise / len(fake),
    recall=float(np.mean(seen)),
    density=dense / (k_density * len(fake)),
    coverage=float(np.mean(covered)),
  )


def neighbours_estimate(
  fake: np.ndarray,
  real: np.ndarray,
  groups: int = 16,
  k: int = 3,
  k_density: int = 5,
) -> Estimate:
  """`neighbours` with the interval of `jackknife`; each distance is taken once.

  Args:
    fake: (N, D).
    real: (M, D).
    groups: parts of each that are left out in turn.
    k: see `neighbours`.
    k_density: likewise.

  Returns:
    The four numbers, arrays of the fields of `Neighbours`.
  """
  least = lambda x: max(k, k_density) + 1 + -(-len(x) // groups)
  fake, real = _checked(fake, least(fake)), _checked(real, least(real))
  x, y = _labels(len(fake), groups), _labels(len(real), groups)
  # First of all rows, then without each part: (1 + groups, ...).
  (own,) = _radii_without(fake, x, k)
  balls, wide = _radii_without(real, y, k, k_density)
  precise = np.zeros((1 + groups, len(fake)), bool)
  dense = np.zeros((1 + groups, len(fake)), int)
  seen = np.zeros((1 + groups, len(real)), bool)
  covered = np.zeros((1 + groups, len(real)), bool)
  covers = np.zeros((groups, len(real)), bool)  # Each part of the generated.
  start = 0
  for d in _squared(fake, real):
    rows = slice(start, start + len(d))
    start += len(d)
    for g in range(1 + groups):
      precise[g, rows] = (d <= balls[g]).any(1)
      inside = d <= wide[g]
      dense[g, rows] = inside.sum(1)
      covered[g] |= inside.any(0)
      seen[g] |= (d <= own[g, rows, None]).any(0)
      if g == 0:
        for part in range(groups):
          covers[part] |= inside[x[rows] == part].any(0)

  def means(precise, seen, dense, covered):
    density = dense.sum() / (k_density * len(dense))
    return np.array([precise.mean(), seen.mean(), density, covered.mean()])

  return _left_out(
    means(precise[0], seen[0], dense[0], covered[0]),
    [
      means(
        precise[0, x != g],
        seen[1 + g],
        dense[0, x != g],
        np.delete(covers, g, 0).any(0),
      )
      for g in range(groups)
    ],
    [
      means(
        precise[1 + g],
        seen[0, y != g],
        dense[1 + g],
        covered[1 + g, y != g],
      )
      for g in range(groups)
    ],
  )


def spacing(x: np.ndarray) -> np.ndarray:
  """Distance (N,) of each row to the nearest other one."""
  return np.sqrt(_radii(_checked(x, 2), 1)[0])


def nearest(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Distance (N,) to the nearest row of y (M, D) and its number (N,)."""
  x, y = _checked(x), _checked(y, 1)
  squared, index = [], []
  for block in _squared(x, y):
    index.append(block.argmin(1))
    squared.append(block.min(1))
  return np.sqrt(np.concatenate(squared)), np.concatenate(index)


def _radii(x: np.ndarray, *ks: int) -> np.ndarray:
  """Squared distance of each row to the k-th of the others: (ks, N)."""
  found = []
  for block in _squared(x, x):  # Itself, at 0, is the first.
    found.append(np.partition(block, ks, axis=1)[:, ks])
  return np.concatenate(found).T


def _radii_without(x: np.ndarray, label: np.ndarray, *ks: int) -> np.ndarray:
  """`_radii` of all rows and without those of each label: (ks, 1 + labels, N).

  Those that are left out have -1: nothing is in their balls.
  """
  columns = [np.flatnonzero(label == g) for g in range(label.max() + 1)]
  kth = lambda some: np.partition(np.concatenate(some, 1), ks, axis=1)[:, ks]
  found = []
  for block in _squared(x, x):  # The nearest of all are among each part's.
    near = [np.sort(block[:, some], 1)[:, : max(ks) + 1] for some in columns]
    fewer = [kth(_without(near, g)) for g in range(len(columns))]
    found.append(np.stack([kth(near), *fewer]))
  radii = np.concatenate(found, 1).transpose(2, 0, 1)
  for g, some in enumerate(columns):
    radii[:, 1 + g, some] = -1
  return radii


def _squared(x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
  """Squared distances, some rows (n, M) at a time.

  |x|^2 + |y|^2 - 2 x . y about the mean, so that few digits cancel; of the same
  array the diagonal is 0.
  """
  _same(x[0], y[0])
  same, mean = x is y, y.mean(0)
  x, y = x - mean, y - mean
  lengths, start = (y * y).sum(1), 0
  for a in _blocks(x, len(y)):
    squared = (a * a).sum(1)[:, None] + lengths - 2 * a @ y.T
    if same:
      squared[np.arange(len(a)), start + np.arange(len(a))] = 0
    start += len(a)
    yield np.maximum(squared, 0)


def _blocks(x: np.ndarray, width: int) -> Iterator[np.ndarray]:
  """Some rows at a time, so that `width` values for each fit in memory."""
  rows = max(1, _PAIRS // width)
  for start in range(0, len(x), rows):
    yield x[start : start + rows]


# -------------------------------------------------------------------- texture


def swd(
  fake: Sequence[np.ndarray],
  real: Sequence[np.ndarray],
  *,
  patches: int = 16_384,
  frames: int = 8,
  seed: int = 0,
) -> float:
  """Sliced Wasserstein distance of Laplacian patches (Karras et al. 2018).

  Needs no network. See `fidelity.sliced_wasserstein`, which compares a clip
  with its target; here the patches of a level come from all clips alike.

  Args:
    fake: clips (T, H, W, 3), uint8 or in [-1, 1]; they are read once.
    real: the same; as many or not, but of the same size.
    patches: of each set, a level.
    frames: of each clip, at most, taken at random.
    seed: of frames, places and directions.
  """
  return swd_estimate(
    fake, real, patches=patches, frames=frames, seed=seed, parts=1
  ).value


def swd_estimate(
  fake: Sequence[np.ndarray],
  real: Sequence[np.ndarray],
  *,
  patches: int = 16_384,
  frames: int = 8,
  seed: int = 0,
  parts: int = 8,
) -> Estimate:
  """`swd` with an interval over clips.

  Each of some disjoint parts of the clips has a distance as well. They rest on
  fewer clips, so that their deviation is larger than that of the whole by the
  root of their number (batch means, Conway 1963). NaN for less than 3 parts.

  Args:
    fake: see `swd`.
    real: likewise.
    patches: likewise.
    frames: likewise.
    seed: likewise.
    parts: at most; a part has two clips of each set at least.
  """
  parts = min(parts, len(fake) // 2, len(real) // 2)
  (a, of_a), (b, of_b) = (
    _patches(clips, patches, frames, seed) for clips in (fake, real)
  )
  if not a or len(a) != len(b):
    raise errors.UserError(
      f"swd: pyramids of {len(a)} and {len(b)} levels; give clips of the same "
      "size, at least 16 x 16 pixels."
    )
  value = fidelity.sliced_wasserstein(a, b, seed)
  if parts < 3:
    return Estimate(value=value, low=np.nan, high=np.nan, bias=np.nan)
  values = []
  for i in range(parts):
    rows = [np.flatnonzero(clips % parts == i) for clips in (of_a, of_b)]
    some = min(map(len, rows))  # As many patches of each, all but a few.
    levels = (
      [level[index[:some]] for level in one] for one, index in zip((a, b), rows)
    )
    values.append(fidelity.sliced_wasserstein(*levels, seed))
  return _estimate(value, np.var(values, ddof=1) / parts, np.nan, parts)


def _patches(clips, patches, frames, seed):
  """(patches, D) a level, as many from each clip or +- 1, and whose they are.

  Clips have other numbers there, at random: their order may have a period.
  """
  counts = np.diff(np.linspace(0, patches, len(clips) + 1).astype(int))
  number = np.random.default_rng(seed).permutation(len(clips))
  found = []
  for i, (clip, count) in enumerate(zip(clips, counts)):
    rng = np.random.default_rng((seed, i))
    some = np.asarray(clip)[rng.permutation(len(clip))[:frames]]
    if not np.isfinite(some).all():
      raise errors.UserError(f"swd: clip {i} has pixels that are not finite.")
    if some.dtype == np.uint8:
      some = some / 127.5 - 1
    place = int(rng.integers(2**31))
    found.append(fidelity.descriptors(some, None, place, int(count)))
  levels = [np.concatenate(level) for level in zip(*found)]
  return levels, np.repeat(number, counts)


# ----------------------------------------------------------------------- hash


def digest(value: Any) -> str:
  """A name for what a cached number depends on: 64 hexadecimal digits.

  Args:
    value: mappings, lists, tuples, arrays, text, numbers, booleans, None, bytes
      in each other. The order of a mapping does not count, all else does, the
      type as well.

  Raises:
    TypeError: anything else, whose text might not be the same again.
  """
  sha = hashlib.sha256()
  _feed(sha.update, value)
  return sha.hexdigest()


def _feed(update, value):
  if isinstance(value, Mapping):
    update(b"mapping %d:" % len(value))
    for key in sorted(value):
      _feed(update, key)
      _feed(update, value[key])
  elif isinstance(value, (list, tuple)):
    update(b"list %d:" % len(value))
    for item in value:
      _feed(update, item)
  elif (
    isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject
  ):
    update(f"array {value.dtype.str} {value.shape}:".encode())
    update(np.ascontiguousarray(value).tobytes())
  elif isinstance(value, bytes):
    update(b"bytes %d:" % len(value) + value)
  elif value is None or isinstance(value, (bool, int, float, str)):
    text = repr(value).encode()
    update(f"{type(value).__name__} {len(text)}:".encode() + text)
  else:
    raise TypeError(f"digest: cannot name a {type(value).__name__}: {value!r}")


# --------------------------------------------------------------------- checks


def _checked(x: np.ndarray, least: int = 0) -> np.ndarray:
  """Features (N, D) in float64."""
  x = np.asarray(x, np.float64)
  if x.ndim != 2:
    raise ValueError(f"Features are (N, D), a row a clip, not {x.shape}.")
  bad = len(x) - int(np.isfinite(x).all(1).sum())
  if bad:
    raise errors.UserError(
      f"The features of {bad} of {len(x)} clips are not finite: look for NaN "
      "pixels in these clips, or for damaged weights."
    )
  if len(x) < least:
    raise errors.UserError(f"{len(x)} clips came; at least {least} are needed.")
  return x


def _same(a: np.ndarray, b: np.ndarray) -> None:
  if a.shape != b.shape:
    raise errors.UserError(
      f"Features of {a.size} and of {b.size} numbers cannot be compared: both "
      "sets must go through the same network."
    )
