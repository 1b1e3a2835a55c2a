"""Distances between clips in the space of their features.

Precision and recall, density and coverage, the nearest clip, and how far two
clips are apart. NumPy in float64; features are (N, D). Of two sets the
generated one comes first: `fake`, `real`.
"""

from typing import NamedTuple

import numpy as np

from vidgan_jax.measures import intervals
from vidgan_jax.measures import points


class Shares(NamedTuple):
  """See `shares`."""

  precision: float
  recall: float
  density: float
  coverage: float


def shares(
  fake: np.ndarray, real: np.ndarray, k: int = 3, k_density: int = 5
) -> Shares:
  """Precision, recall, density, coverage: how two sets lie in each other.

  A ball reaches from each clip to its k-th neighbour in its own set. Precision
  and recall (Kynkaanniemi et al. 2019): the share of generated clips in a ball
  of a real one, and the reverse. With balls of `k_density` (Naeem et al. 2020,
  eqs. 3 and 4), density: the mean number of balls of real clips that a
  generated one is in, over k; 1 is expected of the same distribution, and it
  can be more. Coverage: the share of real clips with a generated one in their
  ball. One outlier among the real clips harms precision, but not these two.
  """
  fake = points.checked(fake, k + 1)
  real = points.checked(real, max(k, k_density) + 1)
  (own,) = _radii(fake, k)
  balls, wide = _radii(real, k, k_density)
  precise, dense, seen, covered = 0, 0, False, False
  # d has some generated clips as rows, all real ones as columns.
  for d in points.squared_distances(fake, real):
    precise += (d <= balls).any(1).sum()
    inside = d <= wide
    dense += inside.sum()
    covered |= inside.any(0)
    seen |= (d <= own[: len(d), None]).any(0)
    own = own[len(d) :]  # Of the rows that are still to come.
  return Shares(
    precision=precise / len(fake),
    recall=float(np.mean(seen)),
    density=dense / (k_density * len(fake)),
    coverage=float(np.mean(covered)),
  )


def estimate(
  fake: np.ndarray,
  real: np.ndarray,
  groups: int = 16,
  k: int = 3,
  k_density: int = 5,
) -> intervals.Estimate:
  """`shares` with the interval of `jackknife`; each distance is taken once.

  Args:
    fake: (N, D).
    real: (M, D).
    groups: parts of each that are left out in turn.
    k: see `shares`.
    k_density: likewise.

  Returns:
    The four numbers, arrays of the fields of `Shares`.
  """
  least = lambda x: max(k, k_density) + 1 + -(-len(x) // groups)
  fake = points.checked(fake, least(fake))
  real = points.checked(real, least(real))
  x, y = (intervals.labels(len(rows), groups) for rows in (fake, real))
  # A part of the real clips changes the balls of those that are left, and takes
  # its columns of distances away; a part of the generated ones its rows. So one
  # pass over the distances is enough: what each row and column meets is kept,
  # first for all clips, then without each part: (1 + groups, ...).
  (own,) = _radii_without(fake, x, k)
  balls, wide = _radii_without(real, y, k, k_density)
  precise = np.zeros((1 + groups, len(fake)), bool)
  dense = np.zeros((1 + groups, len(fake)), int)
  seen = np.zeros((1 + groups, len(real)), bool)
  covered = np.zeros((1 + groups, len(real)), bool)
  covers = np.zeros((groups, len(real)), bool)  # Each part of the generated.
  start = 0
  for d in points.squared_distances(fake, real):
    rows = slice(start, start + len(d))
    start += len(d)
    for g in range(1 + groups):
      # Balls of a part that is left out have the radius -1: nothing meets them.
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

  return intervals.from_left_out(
    means(precise[0], seen[0], dense[0], covered[0]),
    [  # Without each part of the generated clips.
      means(
        precise[0, x != g],
        seen[1 + g],
        dense[0, x != g],
        np.delete(covers, g, 0).any(0),
      )
      for g in range(groups)
    ],
    [  # Without each part of the real ones.
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
  return np.sqrt(_radii(points.checked(x, 2), 1)[0])


def nearest(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Distance (N,) to the nearest row of y (M, D) and its number (N,)."""
  x, y = points.checked(x), points.checked(y, 1)
  squared, index = [], []
  for block in points.squared_distances(x, y):
    index.append(block.argmin(1))
    squared.append(block.min(1))
  return np.sqrt(np.concatenate(squared)), np.concatenate(index)


def diversity(features: np.ndarray) -> float:
  """Mean distance of two different clips in the space of the features.

  0 when all clips are one; to be read beside that of real clips.
  """
  x = points.checked(features, 2)
  total = sum(np.sqrt(d).sum() for d in points.squared_distances(x, x))
  return float(total / (len(x) * (len(x) - 1)))


def diversity_estimate(features: np.ndarray) -> intervals.Estimate:
  """`diversity` with its interval: every clip is left out in turn, exactly."""
  x = points.checked(features, 3)
  sums = np.concatenate(
    [np.sqrt(d).sum(1) for d in points.squared_distances(x, x)]
  )
  num, total = len(x), sums.sum()
  left = (total - 2 * sums) / ((num - 1) * (num - 2))
  return intervals.from_left_out(float(total / (num * (num - 1))), left)


def _radii(x: np.ndarray, *ks: int) -> np.ndarray:
  """Squared distance of each row to the k-th of the others: (ks, N)."""
  radii = []
  for block in points.squared_distances(x, x):  # Itself, at 0, is the first.
    radii.append(np.partition(block, ks, axis=1)[:, ks])
  return np.concatenate(radii).T


def _radii_without(x: np.ndarray, label: np.ndarray, *ks: int) -> np.ndarray:
  """`_radii` of all rows and without those of each label: (ks, 1 + labels, N).

  Those that are left out have -1: nothing is in their balls.
  """
  columns = [np.flatnonzero(label == g) for g in range(label.max() + 1)]
  kth = lambda near: np.partition(np.concatenate(near, 1), ks, axis=1)[:, ks]
  radii = []
  for block in points.squared_distances(x, x):
    # The nearest of all are among the nearest of each part.
    near = [np.sort(block[:, part], 1)[:, : max(ks) + 1] for part in columns]
    fewer = [kth(intervals.without(near, g)) for g in range(len(columns))]
    radii.append(np.stack([kth(near), *fewer]))
  radii = np.concatenate(radii, 1).transpose(2, 0, 1)
  for g, part in enumerate(columns):
    radii[:, 1 + g, part] = -1
  return radii
