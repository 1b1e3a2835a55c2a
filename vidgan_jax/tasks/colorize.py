"""Colour for grey clips.

given: video, the luma (BT.709) in all channels, true colours at the hints;
mask, 1 where the colour is unknown; vector, `tasks.statistics` of the luma.
target: the clip. base: 'paint'; set config.model.generator.keep_luma.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidgan_jax import baselines as classical
from vidgan_jax import tasks


def make(hints: int = 0, reference: float = 0.0) -> tasks.Task:
  """Builds the task.

  Args:
    hints: each clip has 0 to so many pixels, anywhere, whose colour is given.
    reference: share of clips of which one whole frame is given in colour.
  """

  def prepare(example: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    import tensorflow as tf

    from vidgan_jax.tasks import degrade

    video = example["video"]
    t, h, w = video.shape[:3]
    a, b, c, d = degrade.split(seed, 4)
    known = tf.zeros([t * h * w])
    if hints:
      where = tf.random.stateless_uniform([hints], a, 0, t * h * w, tf.int32)
      number = tf.random.stateless_uniform([], b, 0, hints + 1, tf.int32)
      there = tf.cast(tf.range(hints) < number, tf.float32)
      known = tf.tensor_scatter_nd_max(known, where[:, None], there)
    # Beyond the last frame: none.
    frame = tf.random.stateless_uniform([], c, 0, t, tf.int32)
    frame = tf.where(degrade.uniform(d, 0, 1) < reference, frame, t)
    whole = tf.cast(tf.range(t) == frame, tf.float32)
    known = tf.maximum(
      tf.reshape(known, [t, h, w, 1]), whole[:, None, None, None]
    )
    return tasks.pair(example, _given(video, 1 - known, tf))

  return tasks.Task(
    prepare=prepare,
    footage=tasks.Footage(
      given=lambda video, times, mask=None: _given(video, mask, np),
      vector_dim=tasks.STATISTICS,
      unmasked="no colour is given, so the result stays almost grey: paint some"
      " pixels, and give a --mask that is black there and white elsewhere",
      measures=("chroma_error", "psnr_chroma", "temporal_chroma"),
    ),
    baselines={"gray": classical.copy()},
    tf=True,
  )


def _given(video: Any, mask: Any, xp: Any) -> dict[str, Any]:
  """What the model sees: colours are taken from where the mask is 0."""
  luma = tasks.gray(video)
  mask = 0 * video[..., :1] + 1 if mask is None else mask
  return {
    "video": video * (1 - mask) + luma * mask,
    "mask": mask,
    "vector": tasks.statistics(luma, xp),
  }
