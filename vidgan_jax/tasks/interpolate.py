"""More frames a second.

given: video, zero where a frame is to be made; mask, 1 there. target: all
frames; weight: the mask. base: 'temporal'; set config.model.generator.compose.
When a frame is to be shown is in `times` alone. Real footage gets `rate` frames
for one or, by `vidgan process interpolate:fps=60`, any number a second.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidgan_jax import baselines as classical
from vidgan_jax import config
from vidgan_jax import tasks


def make(rate: int = 2, arbitrary: bool = False) -> tasks.Task:
  """Builds the task.

  Args:
    rate: of the clip's frames each rate-th is given, and the last; of real
      footage, frames out for each step from frame to frame.
    arbitrary: the steps between given frames are random, 1 to `rate`, so that
      the model learns frames at any phase between two, as fps=60 of 24 needs.

  Raises:
    config.ConfigError: rate is less than 2.
  """
  if rate < 2:
    raise config.ConfigError(
      f"config.task.options.rate is {rate}; 2 or 4 frames for one, say."
    )

  def prepare(example: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    video = example["video"]
    t = video.shape[0]
    lost = (np.arange(t) % rate > 0).astype(np.float32)
    if arbitrary:
      import tensorflow as tf

      steps = tf.random.stateless_uniform([t], seed, 1, rate + 1, tf.int32)
      known = tf.cumsum(steps, exclusive=True)
      lost = 1 - tf.reduce_max(tf.one_hot(known, t), 0)
    lost = lost * (np.arange(t) < t - 1)  # The last frame is known.
    mask = 0 * video[..., :1] + lost[:, None, None, None]
    return tasks.hidden(example, mask)

  def given(
    video: np.ndarray,
    times: np.ndarray,
    mask: np.ndarray | None = None,
    rate: int = rate,
  ) -> dict[str, np.ndarray]:
    del times, mask
    shape = ((len(video) - 1) * rate + 1, *video.shape[1:])
    out, unknown = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    out[::rate], unknown[::rate] = video, 0
    return {"video": out, "mask": unknown[..., :1]}

  return tasks.Task(
    prepare=prepare,
    footage=tasks.Footage(given=given, rate=rate),
    baselines={
      "average": classical.average(),
      "hold": classical.hold(),
      "minterpolate": classical.minterpolate(tune=("bidir", "bilat")),
    },
    tf=arbitrary,
  )
