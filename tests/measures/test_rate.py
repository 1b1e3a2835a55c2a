"""BD-rate beside a quadrature of the curves."""

import pathlib
import re

import numpy as np
import pytest

from vidgan_jax.measures import rate as lib


def pchip(x, y, at):
  """Fritsch and Butland's monotone cubic, as in Moler 2004, section 3.4."""
  h, d = np.diff(x), np.diff(y) / np.diff(x)
  slope = np.zeros(len(x))
  for i in range(1, len(x) - 1):
    if d[i - 1] * d[i] > 0:
      a, b = 2 * h[i] + h[i - 1], h[i] + 2 * h[i - 1]
      slope[i] = (a + b) / (a / d[i - 1] + b / d[i])
  for end, (i, j) in ((0, (0, 1)), (-1, (-1, -2))):
    s = ((2 * h[i] + h[j]) * d[i] - h[i] * d[j]) / (h[i] + h[j])
    if s * d[i] <= 0:
      s = 0
    elif d[i] * d[j] <= 0 and abs(s) > 3 * abs(d[i]):
      s = 3 * d[i]
    slope[end] = s
  k = np.clip(np.searchsorted(x, at, "right") - 1, 0, len(h) - 1)
  u = (at - x[k]) / h[k]
  cubic = y[k] * (1 + 2 * u) * (1 - u) ** 2 + y[k + 1] * u * u * (3 - 2 * u)
  return cubic + h[k] * u * (1 - u) * (slope[k] * (1 - u) - slope[k + 1] * u)


RATES = np.array([100.0, 210.0, 390.0, 850.0])
PSNRS = np.array([30.0, 33.5, 35.5, 38.4])


def test_bd_rate_of_a_share():
  """The same curve at a fifth less of every rate."""
  assert lib.bd_rate(RATES, PSNRS, RATES, PSNRS) == pytest.approx(0)
  got = lib.bd_rate(0.8 * RATES[::-1], PSNRS[::-1], RATES, PSNRS)
  assert got == pytest.approx(-20)
  assert lib.bd_rate(RATES, PSNRS, 0.8 * RATES, PSNRS) == pytest.approx(25)


def test_the_example_of_the_docs(capsys):
  docs = pathlib.Path(__file__).parents[2] / "docs" / "metrics.md"
  (example,) = re.findall(r"```python\n(.*?)```", docs.read_text(), re.DOTALL)
  exec(compile(example, "docs/metrics.md", "exec"), {})
  assert capsys.readouterr().out.strip() == example.split("# ")[1].strip()


def test_bd_rate_by_quadrature():
  rates = np.array([80.0, 150.0, 420.0, 600.0, 1200.0])
  psnrs = np.array([29.0, 32.4, 36.0, 36.1, 39.9])
  at = np.linspace(30, 38.4, 40_001)
  at = (at[1:] + at[:-1]) / 2
  mine = pchip(psnrs, np.log10(rates), at)
  gap = (mine - pchip(PSNRS, np.log10(RATES), at)).mean()
  got = lib.bd_rate(rates, psnrs, RATES, PSNRS)
  assert got == pytest.approx(100 * (10**gap - 1), rel=1e-6)


@pytest.mark.parametrize(
  "rates, psnrs, message",
  [
    (RATES[:3], PSNRS[:3], "at least 4"),
    (RATES, PSNRS + 20, "do not overlap"),
    (RATES, PSNRS[::-1], "not a curve"),
    (-RATES, PSNRS, "not a curve"),
    (RATES, PSNRS * [1, 1, 1, np.inf], "not a curve"),
  ],
)
def test_what_has_no_bd_rate(rates, psnrs, message):
  with pytest.raises(ValueError, match=message):
    lib.bd_rate(rates, psnrs, RATES, PSNRS)
