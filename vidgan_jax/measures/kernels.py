"""Kernel distances of two sets of features: KID, KVD, JEDi.

NumPy in float64; features are (N, D). Of two sets the generated one comes
first: `fake`, `real`.
"""

import dataclasses
import functools

import numpy as np

from vidgan_jax import errors
from vidgan_jax.measures import intervals
from vidgan_jax.measures import points


def jedi(fake: np.ndarray, real: np.ndarray) -> intervals.Estimate:
  """100 times the biased `mmd` of degree 2, offset 0 (Luo et al. 2024)."""
  estimate = mmd(fake, real, degree=2, offset=0.0, unbiased=False)
  return intervals.Estimate(
    **{name: 100 * x for name, x in dataclasses.asdict(estimate).items()}
  )


def mmd(
  fake: np.ndarray,
  real: np.ndarray,
  *,
  degree: int = 3,
  offset: float = 1.0,
  unbiased: bool = True,
  each: int = 1,
) -> intervals.Estimate:
  """Squared maximum mean discrepancy (Gretton et al. 2012, eqs. 3 and 5).

    mean k(x, x') + mean k(y, y') - 2 mean k(x, y),
    k(x, y) = (x . y / D + offset)^degree

  The defaults are the kernel video distance (Unterthiner et al. 2018) of I3D's
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
  # Two clips must be left where one is left out.
  x, y = points.checked(fake, 3 * each), points.checked(real, 3 * each)
  points.same_width(x[0], y[0])
  kernel = lambda dot: _power(dot / x.shape[1] + offset, degree)
  by_clip = lambda sums: sums.reshape(-1, each).sum(1)

  def sums(a, b):
    """Of the kernel's rows (len(a),) and columns (len(b),)."""
    rows, columns = [], 0
    for part in points.blocks(a, len(b)):
      block = kernel(part @ b.T)
      rows.append(block.sum(1))
      columns = columns + block.sum(0)
    return np.concatenate(rows), columns

  def within(total, diagonal, num):
    """The mean kernel of two rows of one set, or of two different ones."""
    if unbiased:
      return (total - diagonal) / (num * (num - 1))
    return total / num**2

  def alone(a):
    """Of one set: its term, and (clips,) that without each clip."""
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
  (xx, fewer_x), (yy, fewer_y) = alone(x), alone(y)
  xy, yx = map(by_clip, sums(x, y))
  total = xy.sum()
  value = xx + yy - 2 * total / (m * n)
  # Without each clip of x, and of y.
  no_x = fewer_x + yy - 2 * (total - xy) / ((m - each) * n)
  no_y = xx + fewer_y - 2 * (total - yx) / (m * (n - each))
  variance = sum((len(v) - 1) * np.var(v) for v in (no_x, no_y))
  bias = sum((len(v) - 1) * (v.mean() - value) for v in (no_x, no_y))
  return intervals.from_variance(value, variance, bias, min(m, n) // each)


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
) -> intervals.Spread:
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
  subset = lambda x: x[rng.choice(len(x), size, replace=False)]
  values = [mmd(subset(fake), subset(real)).value for _ in range(subsets)]
  return intervals.Spread(float(np.mean(values)), float(np.std(values)))
