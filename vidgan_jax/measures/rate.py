"""How many bits a system saves at equal quality: Bjontegaard's BD-rate."""

import numpy as np
from scipy import interpolate

from vidgan_jax import errors


def bd_rate(
  rates: np.ndarray,
  qualities: np.ndarray,
  anchor_rates: np.ndarray,
  anchor_qualities: np.ndarray,
) -> float:
  """Bjontegaard's mean difference of rate at equal quality, percent.

    100 (10^m - 1),  m the mean over the qualities that both curves have of
    log10 rate - log10 anchor's rate,

  curves by monotone cubic interpolation (pchip) of log rate over quality, as
  JCTVC does, not the cubic fit of VCEG-M33. Below 0: fewer bits.

  Args:
    rates: at least 4 positive numbers, in any unit and order.
    qualities: of each; more rate must be more quality.
    anchor_rates: of what is compared with, in the same unit.
    anchor_qualities: of each.
  """
  curve = _curve("the system", rates, qualities)
  anchor = _curve("the anchor", anchor_rates, anchor_qualities)
  low = max(curve.x[0], anchor.x[0])
  high = min(curve.x[-1], anchor.x[-1])
  if low >= high:
    raise errors.UserError(
      f"bd_rate: qualities from {curve.x[0]:.4g} to {curve.x[-1]:.4g} and "
      f"from {anchor.x[0]:.4g} to {anchor.x[-1]:.4g} do not overlap: measure "
      "at other rates."
    )
  # m is the area between both curves over the width of the overlap.
  area = curve.integrate(low, high) - anchor.integrate(low, high)
  return float(100 * (10 ** (area / (high - low)) - 1))


def _curve(whose, rates, qualities):
  rates = np.asarray(rates, np.float64)
  qualities = np.asarray(qualities, np.float64)
  if rates.ndim != 1 or rates.shape != qualities.shape or len(rates) < 4:
    raise errors.UserError(
      f"bd_rate: {rates.shape} rates and {qualities.shape} qualities of "
      f"{whose}; give at least 4 points."
    )
  order = np.argsort(rates)
  rates, qualities = rates[order], qualities[order]
  finite = np.isfinite([rates, qualities]).all() and rates[0] > 0
  if (
    not finite or np.min(np.diff(rates)) <= 0 or np.min(np.diff(qualities)) <= 0
  ):
    raise errors.UserError(
      f"bd_rate: the points of {whose} are not a curve: rates must be positive "
      "and all different, and more rate must be more quality; rates "
      f"{rates}, qualities {qualities}."
    )
  return interpolate.PchipInterpolator(qualities, np.log10(rates))
