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

from vidgan_jax.evals import fidelity

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
      1956): value - bias is without the term in 1 / N. 0 for unbiased ones.
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
      raise ValueError(f"A covariance needs at least 2 clips, not {self.num}.")
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
    raise ValueError(
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
  cross = _root(fake.cov).T @ _root(real.cov)
  distance = np.sum((fake.mean - real.mean) ** 2)
  distance += np.trace(fake.cov) + np.trace(real.cov)
  distance -= 2 * np.linalg.svd(cross, compute_uv=False).sum()
  return float(max(distance, 0.0))


def _root(cov: np.ndarray) -> np.ndarray:
  """R (D, rank) with R R^T = cov."""
  values, vectors = np.linalg.eigh(cov)
  there = values > values[-1] * len(values) * np.finfo(np.float64).eps
  return vectors[:, there] * np.sqrt(values[there])


def frechet_estimate(
  fake: Sequence[Moments], real: Sequence[Moments]
) -> Estimate:
  """`frechet` with its interval; both in parts, from `grouped`."""
  return jackknife(lambda a, b: frechet(merged(a), merged(b)), fake, real)


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
    raise ValueError(
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


# ------------------------------------------------------------------ intervals


def split(x: np.ndarray, groups: int = 16) -> list[np.ndarray]:
  """Rows dealt out at random to parts for `jackknife`, the same each time."""
  if len(x) < groups:
    raise ValueError(
      f"{len(x)} clips cannot be cut in {groups} parts for an interval: "
      "evaluate more clips."
    )
  order = np.random.default_rng(0).permutation(len(x))
  return [x[order[i::groups]] for i in range(groups)]


def jackknife(
  statistic: Callable[[list, list], float],
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
    statistic: of the two lists of parts that are left.
    fake: at least 3 parts, arrays from `split` or moments from `grouped`.
    real: the same of the real clips.
  """
  groups = min(len(fake), len(real))
  if groups < 3:
    raise ValueError(f"An interval needs 3 parts of each sample, not {groups}.")
  value = statistic(list(fake), list(real))
  left = [
    [statistic(_without(fake, g), list(real)) for g in range(len(fake))],
    [statistic(list(fake), _without(real, g)) for g in range(len(real))],
  ]
  variance = sum((len(v) - 1) * np.var(v) for v in left)
  bias = sum((len(v) - 1) * (np.mean(v) - value) for v in left)
  return _estimate(value, variance, bias, groups)


def _without(parts, g):
  return [*parts[:g], *parts[g + 1 :]]


def _estimate(value, variance, bias, groups):
  margin = stats.t.ppf(0.975, groups - 1) * np.sqrt(variance)
  return Estimate(
    value=float(value),
    low=float(value - margin),
    high=float(value + margin),
    bias=float(bias),
  )


# -------------------------------------------------------------------- kernels


def kvd(fake: np.ndarray, real: np.ndarray) -> Estimate:
  """Kernel video distance: `mmd` on I3D logits (Unterthiner et al. 2019)."""
  return mmd(fake, real)


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
) -> Estimate:
  """Squared maximum mean discrepancy (Gretton et al. 2012, eqs. 3 and 5).

    mean k(x, x') + mean k(y, y') - 2 mean k(x, y),
    k(x, y) = (x . y / D + offset)^degree

  `unbiased` leaves k(x, x) of a clip with itself out; the value can then be
  below 0. The interval leaves out every clip in turn, exactly, by the sums of
  the kernel's rows; memory does not grow with their number squared.

  Args:
    fake: (M, D).
    real: (N, D).
    degree: of the polynomial.
    offset: sklearn's `coef0`; its gamma is 1 / D.
    unbiased: without the diagonal.
  """
  x, y = _checked(fake, 3), _checked(real, 3)
  _same(x[0], y[0])
  power = lambda dot: _power(dot / x.shape[1] + offset, degree)
  rows = lambda a, b: np.concatenate(
    [power(some @ b.T).sum(1) for some in _blocks(a, len(b))]
  )
  xx, yy, xy, yx = rows(x, x), rows(y, y), rows(x, y), rows(y, x)
  x_own, y_own = power((x * x).sum(1)), power((y * y).sum(1))

  def within(total, diagonal, num):
    if unbiased:
      return (total - diagonal) / (num * (num - 1))
    return total / num**2

  m, n = len(x), len(y)
  one = within(xx.sum(), x_own.sum(), m)
  two = within(yy.sum(), y_own.sum(), n)
  value = one + two - 2 * xy.sum() / (m * n)
  # Without clip i its row and its column go, and the corner that both have.
  fewer = within(xx.sum() - 2 * xx + x_own, x_own.sum() - x_own, m - 1)
  no_x = fewer + two - 2 * (xy.sum() - xy) / ((m - 1) * n)
  fewer = within(yy.sum() - 2 * yy + y_own, y_own.sum() - y_own, n - 1)
  no_y = one + fewer - 2 * (xy.sum() - yx) / (m * (n - 1))
  variance = (m - 1) * np.var(no_x) + (n - 1) * np.var(no_y)
  bias = (m - 1) * (no_x.mean() - value) + (n - 1) * (no_y.mean() - value)
  return _estimate(value, variance, bias, min(m, n))


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
    raise ValueError(
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


# ----------------------------------------------------------- nearest neighbours


class PrecisionRecall(NamedTuple):
  """Shares: of fakes that look real, of what is real that is generated."""

  precision: float
  recall: float


class DensityCoverage(NamedTuple):
  """See `density_coverage`."""

  density: float
  coverage: float


def precision_recall(
  fake: np.ndarray, real: np.ndarray, k: int = 3
) -> PrecisionRecall:
  """Share of one set within the balls of the other (Kynkaanniemi et al. 2019).

  A ball reaches from each clip to its k-th neighbour in its own set.
  """
  fake, real = _checked(fake, k + 1), _checked(real, k + 1)
  precision = _covered(fake, real, _radii(real, k)) > 0
  recall = _covered(real, fake, _radii(fake, k)) > 0
  return PrecisionRecall(float(precision.mean()), float(recall.mean()))


def density_coverage(
  fake: np.ndarray, real: np.ndarray, k: int = 5
) -> DensityCoverage:
  """Density and coverage (Naeem et al. 2020, eqs. 3 and 4).

  Density: the mean number of balls of real clips that a generated one is in,
  over k; 1 is expected of the same distribution, and it can be more. Coverage:
  the share of real clips with a generated one in their ball. One outlier among
  the real clips does not spoil them as it does precision.
  """
  fake, real = _checked(fake, 1), _checked(real, k + 1)
  radii = _radii(real, k)
  density = _covered(fake, real, radii).mean() / k
  nearest = np.concatenate([d.min(1) for d in _squared(real, fake)])
  return DensityCoverage(float(density), float((nearest <= radii).mean()))


def nearest(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Distance (N,) to the nearest row of y (M, D) and its number (N,)."""
  x, y = _checked(x), _checked(y, 1)
  squared, index = [], []
  for block in _squared(x, y):
    index.append(block.argmin(1))
    squared.append(block.min(1))
  return np.sqrt(np.concatenate(squared)), np.concatenate(index)


def _radii(x: np.ndarray, k: int) -> np.ndarray:
  """Squared distance of each row to the k-th of the others: (N,)."""
  found = []
  for block in _squared(x, x):  # Itself, at 0, is the first.
    found.append(np.partition(block, k, axis=1)[:, k])
  return np.concatenate(found)


def _covered(x: np.ndarray, y: np.ndarray, radii: np.ndarray) -> np.ndarray:
  """In how many balls of y's rows each row of x is: (N,)."""
  return np.concatenate([(d <= radii).sum(1) for d in _squared(x, y)])


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
  a, b = (_patches(clips, patches, frames, seed) for clips in (fake, real))
  if not a or len(a) != len(b):
    raise ValueError(
      f"swd: pyramids of {len(a)} and {len(b)} levels; give clips of the same "
      "size, at least 16 x 16 pixels."
    )
  return fidelity.sliced_wasserstein(a, b, seed)


def _patches(clips, patches, frames, seed):
  """One array (patches, D) a level, the same number from each clip or +- 1."""
  counts = np.diff(np.linspace(0, patches, len(clips) + 1).astype(int))
  found = []
  for i, (clip, count) in enumerate(zip(clips, counts)):
    rng = np.random.default_rng((seed, i))
    some = np.asarray(clip)[rng.permutation(len(clip))[:frames]]
    if not np.isfinite(some).all():
      raise ValueError(f"swd: clip {i} has pixels that are not finite.")
    if some.dtype == np.uint8:
      some = some / 127.5 - 1
    place = int(rng.integers(2**31))
    found.append(fidelity.descriptors(some, None, place, int(count)))
  return [np.concatenate(level) for level in zip(*found)]


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
    raise ValueError(
      f"The features of {bad} of {len(x)} clips are not finite: look for NaN "
      "pixels in these clips, or for damaged weights."
    )
  if len(x) < least:
    raise ValueError(f"{len(x)} clips came; at least {least} are needed.")
  return x


def _same(a: np.ndarray, b: np.ndarray) -> None:
  if a.shape != b.shape:
    raise ValueError(
      f"Features of {a.size} and of {b.size} numbers cannot be compared: both "
      "sets must go through the same network."
    )
