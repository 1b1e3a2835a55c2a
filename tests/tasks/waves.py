"""Soft, moving waves: a clip that looks like something."""

import numpy as np


def waves(t, h, w, seed=0):
  """(t, h, w, 3) float64 in [-1, 1], a wave a channel."""
  rng = np.random.default_rng(seed)
  clock, y, x = np.meshgrid(*map(np.arange, (t, h, w)), indexing="ij")
  channels = []
  for _ in range(3):
    a, b, c = rng.uniform(0.1, 0.4, 3)
    channels.append(np.sin(a * x + b * y + c * clock + rng.uniform(0, 6)))
  return np.stack(channels, -1)
