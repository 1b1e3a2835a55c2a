"""Pixels: 8 bits and [-1, 1], brightness, and kernels that resize."""

from collections.abc import Callable
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


def bicubic(x: np.ndarray) -> np.ndarray:
  """`keys` as Pillow has it, a = -1/2."""
  return keys(x, -0.5)


def resize(
  video: np.ndarray, height: int, width: int, kernel: Callable = bicubic
) -> np.ndarray:
  """Resizes (..., H, W, C), antialiased, as Pillow does; bicubic by default.

  Rows, then columns, by one matrix each: pixel i of the result is

    sum_j w_ij x_j / sum_j w_ij,  w_ij = k((j + 1/2 - r (i + 1/2)) / max(r, 1)),

  r source pixels to one of the result: where it shrinks, the kernel is wider.
  """
  video = np.moveaxis(video, -1, -3)
  rows = _matrix(video.shape[-2], height, kernel)
  columns = _matrix(video.shape[-1], width, kernel)
  return np.moveaxis(rows @ video @ columns.T, -3, -1)


def _matrix(size: int, out: int, kernel: Callable) -> np.ndarray:
  """Weights of the source pixels: (out, size), rows of sum 1; see `resize`."""
  ratio = size / out
  stretch = max(ratio, 1.0)
  centre = (np.arange(out)[:, None] + 0.5) * ratio
  weight = kernel((np.arange(size) + 0.5 - centre) / stretch)
  return (weight / weight.sum(1, keepdims=True)).astype(np.float32)
