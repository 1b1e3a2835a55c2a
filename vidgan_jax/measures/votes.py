"""What votes for one of two say: strengths, and whether raters agree."""

from collections.abc import Sequence

import numpy as np

from vidgan_jax import errors


class NoRankingError(errors.UserError):
  """The votes do not determine a ranking; says why."""


def bradley_terry(wins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Strengths s of maximal likelihood: P(i beats j) = 1 / (1 + exp(s_j - s_i)).

  Newton's method on the concave log-likelihood (Bradley and Terry 1952); a
  finite answer exists, and is unique, if and only if every system has lost to
  every other by some chain of votes (Ford 1957).

  Args:
    wins: (K, K) float, [i, j] the votes for i against j, ties half to each.

  Returns:
    Strengths (K,), which sum to zero, and their standard errors (K,), from the
    inverse of the observed information on that plane.

  Raises:
    NoRankingError: there is no finite answer.
  """
  size = len(wins)
  votes = wins + wins.T
  met = _reach(votes > 0)
  if not met.all():
    apart = np.flatnonzero(~met[0])
    raise NoRankingError(
      f"systems {apart.tolist()} have no vote that connects them to system 0"
    )
  beats = _reach(wins > 0)
  if not beats.all():
    always = np.flatnonzero(beats.sum(1) > beats.sum(0)).tolist()
    raise NoRankingError(
      f"systems {always} have never lost a vote to those below them, so how "
      "much better they are has no upper bound"
    )
  strengths, mean = np.zeros(size), np.full((size, size), 1 / size)
  for _ in range(1000):
    odds = strengths[:, None] - strengths
    p = 1 / (1 + np.exp(-odds))  # [i, j]: i beats j.
    # First and minus the second derivatives of the log-likelihood
    # sum_ij wins_ij log p_ij; p_ji = 1 - p_ij.
    slope = (wins - votes * p).sum(1)
    weights = votes * p * p.T
    information = np.diag(weights.sum(1)) - weights
    # The information is singular along (1, ..., 1) alone: `mean` fills that.
    covariance = np.linalg.inv(information + mean) - mean
    step = covariance @ slope
    longest = np.abs(step).max()
    strengths = strengths + step / max(1.0, longest)  # No leap beyond 1.
    if longest < 1e-12:
      break
  strengths -= strengths.mean()
  return strengths, np.sqrt(np.diag(covariance))


def _reach(edges: np.ndarray) -> np.ndarray:
  """(K, K) bool: is there a way along the edges from i to j?"""
  reach = edges | np.eye(len(edges), dtype=bool)
  for _ in range(len(edges)):
    reach = (reach.astype(int) @ reach) > 0
  return reach


def krippendorff(units: Sequence[Sequence[float]]) -> float | None:
  """Krippendorff's alpha for interval data (Krippendorff 2011).

  1 - D_o / D_e: the mean squared difference of two values of one unit, over
  that of any two values. 1 is perfect agreement, 0 what chance gives.

  Args:
    units: the values given to each unit; those with one value do not count.

  Returns:
    alpha, or None where all values are equal, or no unit has two.
  """
  units = [np.asarray(u, float) for u in units if len(u) > 1]
  if not units:
    return None
  values = np.concatenate(units)
  total = len(values)
  # Over ordered pairs, sum (a - b)^2 = 2 m sum a^2 - 2 (sum a)^2.
  spread = lambda u: 2 * (len(u) * (u @ u) - u.sum() ** 2)
  observed = sum(spread(u) / (len(u) - 1) for u in units) / total
  expected = spread(values) / (total * (total - 1))
  return float(1 - observed / expected) if expected > 0 else None
