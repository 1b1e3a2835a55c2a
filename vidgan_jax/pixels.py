"""Pixels: 8 bits and [-1, 1], brightness, and kernels that resize."""

from typing import Any

import numpy as np

# Shares of R, G and B in the brightness, by ITU-R recommendation.
LUMA = {"bt601": (0.299, 0.587, 0.114), "bt709": (0.2126, 0.7152, 0.0722)}


def to_bytes(video: Any) -> Any:
  """[-1, 1] -> uint8, clipped and rounded; an array of NumPy or of JAX."""
  return ((video.clip(-1, 1) + 1) * 127.5).round().astype("uint8")


def to_floats(video: Any) -> Any:
  """uint8 -> [-1, 1], float32; an array of NumPy or of JAX."""
  return video.astype("float32") / 127.5 - 1


def lanczos(x: np.ndarray, lobes: int = 3) -> np.ndarray:
  """Lanczos' kernel, sinc(x) sinc(x / lobes) for |x| < lobes (Duchon 1979)."""
  return np.where(abs(x) < lobes, np.sinc(x) * np.sinc(x / lobes), 0.0)


def keys(x: np.ndarray, a: float) -> np.ndarray:
  """The cubic kernel of Keys (1981), eq. 4 with a free parameter.

  (a + 2) |x|^3 - (a + 3) |x|^2 + 1            for |x| <= 1
  a |x|^3 - 5 a |x|^2 + 8 a |x| - 4 a          for 1 < |x| < 2
  """
  x = abs(x)
  near = ((a + 2) * x - (a + 3)) * x * x + 1
  far = a * (((x - 5) * x + 8) * x - 4)
  return np.where(x <= 1, near, np.where(x < 2, far, 0))
