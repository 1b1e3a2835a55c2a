"""Lines of a clip as one might have drawn them, by arithmetic alone.

What all array libraries know, `xp` being NumPy, jax.numpy or TensorFlow: so
lines are drawn on the device, under `jax.vmap`, as well as in tf.data.
"""

from typing import Any

import numpy as np

from vidgan_jax import tasks

_CELLS = 5  # Of the random fields to a side.
NUMBERS = 5 + 3 * _CELLS**2  # Random numbers that `draw` takes.


def draw(video: Any, numbers: Any, xp: Any) -> Any:
  """Dark lines on white, by differences of Gaussians.

    S = p (G_s(I) - G_1.6s(I)),
    line = 1 if S > -e, else 1 + tanh(f (S + e))

  (Winnemoeller et al. 2006, eq. 7; without the tone of 2012, eq. 7, which would
  make dark areas black), I being the luma in [0, 1]. Width s, weight p,
  threshold e and softness f are random: a network that has seen one kind of
  edges alone fails on what a hand draws. In half of the clips lines break where
  a smooth random field is low; they lie up to a pixel beside their place.

  Args:
    video: (T, H, W, 3) in [-1, 1].
    numbers: (NUMBERS,) in [0, 1); the same for all frames, so nothing boils.
    xp: library of the two.

  Returns:
    (T, H, W, 3) in [-1, 1], grey.
  """
  sigma, weight, level, soft, whole = (numbers[i] for i in range(5))
  luma = (tasks.gray(video)[..., :1] + 1) / 2
  sigma = 0.4 + 0.6 * sigma
  weight = 8 + 16 * weight
  near, wide = (_blur(luma, s, xp) for s in (sigma, 1.6 * sigma))
  s = weight * (near - wide) + 0.04 + 0.1 * level
  ink = -xp.tanh(xp.minimum((5 + 15 * soft) * s, 0))
  fields = [
    _field(numbers[5 + i * _CELLS**2 : 5 + (i + 1) * _CELLS**2], luma, xp)
    for i in range(3)
  ]
  step = lambda x: xp.minimum(xp.maximum(x, 0), 1)
  ink *= xp.maximum(step(8 * fields[0] - 1.6), step(99 * (whole - 0.5)))
  ink = _moved(ink, 2 * fields[1] - 1, 2 * fields[2] - 1, xp)
  return 1 - 2 * ink + 0 * video


def _blur(x: Any, sigma: Any, xp: Any) -> Any:
  """Gaussian blur of (T, H, W, 1) by products with a matrix a side."""

  def kernel(size):
    apart = np.arange(size, dtype=np.float32) - np.arange(size)[:, None]
    k = xp.exp(-np.float32(apart**2) / (2 * sigma**2))
    return k / xp.einsum("ab->a", k)[:, None]

  rows, columns = kernel(int(x.shape[1])), kernel(int(x.shape[2]))
  return xp.einsum("ah,thwc,bw->tabc", rows, x, columns)


def _field(numbers: Any, like: Any, xp: Any) -> Any:
  """_CELLS^2 numbers -> (H, W, 1), linear between them."""

  def ramp(size):
    place = np.linspace(0, _CELLS - 1, size, dtype=np.float32)
    away = abs(place[:, None] - np.arange(_CELLS, dtype=np.float32))
    return np.maximum(1 - away, 0).astype(np.float32)

  cells = xp.reshape(numbers, (_CELLS, _CELLS))
  rows, columns = ramp(int(like.shape[1])), ramp(int(like.shape[2]))
  return xp.einsum("ha,ab,wb->hw", rows, cells, columns)[..., None]


def _moved(x: Any, right: Any, down: Any, xp: Any) -> Any:
  """(T, H, W, 1) sampled up to a pixel aside: bilinear, by its 9 shifts."""
  near = lambda way, i: xp.maximum(1 - abs(way - i), 0)
  total = 0
  for i in (-1, 0, 1):
    for j in (-1, 0, 1):
      shifted = xp.roll(x, (-i, -j), (1, 2))
      total += near(down, i) * near(right, j) * shifted
  return total
