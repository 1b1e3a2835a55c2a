"""Features as points of a space: checked, some at a time, and how far apart.

NumPy in float64. Features are arrays (N, D), one row a clip (or a frame).
Those that are not finite are refused: a NaN frame must not become a number.
"""

from collections.abc import Iterator

import numpy as np

from vidgan_jax import errors

_PAIRS = 2**22  # distances held at a time


def checked(x: np.ndarray, least: int = 0) -> np.ndarray:
  """Features (N, D) in float64, `least` of them at least.

  Raises:
    ValueError: too few, of another shape, or not finite.
  """
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


def same_width(a: np.ndarray, b: np.ndarray) -> None:
  """Refuses two rows (D,) of features that are not of one network."""
  if a.shape != b.shape:
    raise errors.UserError(
      f"Features of {a.size} and of {b.size} numbers cannot be compared: both "
      "sets must go through the same network."
    )


def blocks(x: np.ndarray, width: int) -> Iterator[np.ndarray]:
  """Some rows at a time, so that `width` values for each fit in memory."""
  rows = max(1, _PAIRS // width)
  for start in range(0, len(x), rows):
    yield x[start : start + rows]


def squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
  """Squared distances from x (N, D) to y (M, D), some rows (n, M) at a time.

    |x - y|^2 = |x|^2 + |y|^2 - 2 x . y

  about the mean of y, so that few digits cancel; of the same array the diagonal
  is 0.
  """
  same_width(x[0], y[0])
  same, mean = x is y, y.mean(0)
  x, y = x - mean, y - mean
  lengths, start = (y * y).sum(1), 0
  for a in blocks(x, len(y)):
    squared = (a * a).sum(1)[:, None] + lengths - 2 * a @ y.T
    if same:
      squared[np.arange(len(a)), start + np.arange(len(a))] = 0
    start += len(a)
    yield np.maximum(squared, 0)
