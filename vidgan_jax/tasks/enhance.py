"""Light and colour put right: exposure, contrast, gamma, saturation, vignette.

given: video, the spoilt clip, 8 bits; vector, its `tasks.statistics`, as no
tile knows how bright the whole is. target: the clip. base: 'copy'.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidgan_jax import tasks
from vidgan_jax.evals import classical


def make(
  exposure: tuple[float, float] = (-1.0, 0.4),
  gamma: tuple[float, float] = (0.8, 2.0),
  contrast: tuple[float, float] = (0.5, 1.1),
  saturation: tuple[float, float] = (0.4, 1.2),
  vignette: tuple[float, float] = (0.0, 0.5),
  flicker: float = 0.25,
) -> tasks.Task:
  """Builds the task.

  With x in [0, 1], p of each range a random number and r the distance from the
  middle, 1 in the corners:

    x <- (2^exposure x (1 - vignette r^2))^gamma
    x <- 1/2 + contrast (x - 1/2), luma + saturation (x - luma)

  Args:
    exposure: range, in stops.
    gamma: range; above 1 is darker.
    contrast: range.
    saturation: range; 0 is grey.
    vignette: range; 1 is black corners.
    flicker: share of clips whose light changes from frame to frame; the others
      are spoilt alike in all frames.
  """
  ranges = (exposure, gamma, contrast, saturation, vignette)

  def prepare(example: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    import tensorflow as tf

    from vidgan_jax.data import degrade

    video = example["video"]
    t, h, w = video.shape[:3]
    *seeds, a, b = degrade.split(seed, len(ranges) + 2)
    stops, power, spread, colour, corner = (
      degrade.uniform(s, *r) for s, r in zip(seeds, ranges)
    )
    strength = tf.where(degrade.uniform(a, 0, 1) < flicker, 0.15, 0.0)
    waver = tf.random.stateless_normal([t, 1, 1, 1], b) * strength
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in (h, w))
    radius = ((y[:, None] ** 2 + x**2) / 2)[..., None]
    light = (video + 1) / 2 * 2 ** (stops + waver) * (1 - corner * radius)
    light = tf.clip_by_value(light, 0, 1) ** power
    light = 0.5 + spread * (light - 0.5)
    luma = tasks.gray(light)
    spoilt = degrade.eight_bit((luma + colour * (light - luma)) * 2 - 1)
    return {
      "given": _given(spoilt, tf),
      "target": video,
      "times": example["times"],
    }

  gammas = (0.5, 0.6, 0.7, 0.8, 1.0)
  baselines = {
    "copy": classical.copy(),
    "auto_levels": classical.auto_levels(tune=(0.0, 0.5, 2.0)),
    "auto_levels_gamma": classical.auto_levels_gamma(gammas),
    "frame_levels_gamma": classical.auto_levels_gamma(gammas, "frame"),
    "stretch": classical.stretch(tune=(0.0, 0.5, 2.0)),
  }
  return tasks.Task(
    prepare=prepare,
    given=lambda video, times, mask=None: _given(video, np),
    baselines=classical.Available(baselines),
    preview=tasks.preview,
    vector_dim=tasks.STATISTICS,
    tf=True,
  )


def _given(video: Any, xp: Any) -> dict[str, Any]:
  return {"video": video, "vector": tasks.statistics(video, xp)}
