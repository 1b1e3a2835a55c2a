"""Light and colour put right: exposure, contrast, gamma, saturation, vignette.

given: video, the degraded clip, 8 bits; vector, its `tasks.statistics`, as no
tile knows how bright the whole is. target: the clip. base: 'levels'.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidgan_jax import baselines as classical
from vidgan_jax import config
from vidgan_jax import tasks

# How an attribute changes from frame to frame -> how often.
FLICKER = {"none": 6.0, "white": 1.0, "smooth": 1.0}


def make(
  exposure: tuple[float, float] = (-1.0, 0.4),
  gamma: tuple[float, float] = (0.8, 2.0),
  contrast: tuple[float, float] = (0.5, 1.1),
  saturation: tuple[float, float] = (0.4, 1.2),
  vignette: tuple[float, float] = (0.0, 0.5),
  flicker: Mapping[str, float] | None = None,
  amount: float = 0.1,
  clean: float = 0.0,
) -> tasks.Task:
  """Builds the task.

  Args:
    exposure: range, in stops; this and the next four as in `degrade.light`.
    gamma: range; above 1 is darker.
    contrast: range.
    saturation: range; 0 is grey.
    vignette: range; 1 is black corners.
    flicker: kind -> how often. Clips of 'none' are degraded alike in all
      frames; in the others all five change, each by itself: 'white', at random,
      or 'smooth', in slow waves. Default: `FLICKER`.
    amount: standard deviation of the change, in shares of each range's width;
      what has twice the same number as its range never changes.
    clean: share of clips that are given as they are: what needs nothing is to
      stay.

  Raises:
    config.ConfigError: an unknown kind, or a share beyond 0 and 1.
  """
  if not 0 <= clean <= 1:
    raise config.ConfigError(
      f"config.task.options.clean is {clean}; a share is from 0 to 1."
    )
  weights = tasks.weights("flicker", flicker, FLICKER)
  ranges = (exposure, gamma, contrast, saturation, vignette)

  def prepare(example: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    import tensorflow as tf

    from vidgan_jax.tasks import degrade

    video = example["video"]
    kind, *seeds = degrade.split(seed, len(ranges) + 1)
    kind = degrade.choose(kind, [*weights.values()])
    numbers = [
      degrade.flicker(s, video.shape[0], low, high, amount, [*weights], kind)
      for s, (low, high) in zip(seeds, ranges)
    ]
    degraded = degrade.light(video, *numbers)
    if clean:
      # A seed of its own: without it, clips are degraded as they ever were.
      draw = degrade.uniform(
        tf.random.experimental.stateless_fold_in(seed, len(ranges) + 1), 0, 1
      )
      degraded = tf.where(draw < clean, video, degraded)
    degraded = degrade.eight_bit(degraded)
    return tasks.pair(example, _given(degraded, tf))

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
    footage=tasks.Footage(
      given=lambda video, times, mask=None: _given(video, np),
      vector_dim=tasks.STATISTICS,
    ),
    baselines=classical.Available(baselines),
    tf=True,
  )


def _given(video: Any, xp: Any) -> dict[str, Any]:
  return {"video": video, "vector": tasks.statistics(video, xp)}
