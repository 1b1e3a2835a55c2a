"""Numbers and texts as a page shows them."""

import html
import math
from typing import Any

import numpy as np


def safe(value: Any) -> str:
  """For HTML, in quotes as well."""
  return html.escape(str(value), quote=True)


def number(value: float) -> str:
  """Four digits; whole and large ones in groups."""
  value = float(value)
  if not math.isfinite(value):
    return {"inf": "∞", "-inf": "−∞"}.get(str(value), "–")
  if 1000 <= abs(value) < 1e15:
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    return _minus(f"{float(f'{value:.4g}'):,.{digits}f}".replace(",", "\u202f"))
  return _four(value)


def whole(num: Any) -> str:
  """A count, all of its digits, in groups."""
  if isinstance(num, (int, np.integer)) or float(num).is_integer():
    return f"{int(num):,}".replace(",", "\u202f")
  return number(num)


def short(value: float) -> str:
  """For an axis: 20k, 1.5M."""
  for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
    if abs(value) >= size:
      return _minus(f"{value / size:.4g}{letter}")
  return _four(value)


def _four(value: float) -> str:
  """Four digits, and the power of ten where there is one."""
  text, _, power = f"{value:.4g}".partition("e")
  return _minus(f"{text}e{int(power)}" if power else text)


def _minus(text: str) -> str:
  return text.replace("-", "−")
