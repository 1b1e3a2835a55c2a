"""The frames that come next.

given: video, the first frames, then zeros; mask, 1 where it is zero. target:
all frames; weight: the mask. base: 'hold'; set config.model.generator.compose,
and noise_dim for more than one future.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidgan_jax import baselines as classical
from vidgan_jax import config
from vidgan_jax import tasks


def make(known: int = 4) -> tasks.Task:
  """Builds the task.

  Args:
    known: frames that are given of each clip; the others are to be made.

  Raises:
    config.ConfigError: known is less than 1.
  """
  if known < 1:
    raise config.ConfigError(
      f"config.task.options.known is {known}; one frame must be given."
    )

  def prepare(example: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    del seed  # nothing is random
    video = example["video"]
    if video.shape[0] <= known:
      raise config.ConfigError(
        f"Clips of {video.shape[0]} frames have none to predict after "
        f"config.task.options.known={known}: take longer clips or know less."
      )
    lost = (np.arange(video.shape[0]) >= known).astype(np.float32)
    mask = 0 * video[..., :1] + lost[:, None, None, None]
    return tasks.hidden(example, mask)

  def given(
    video: np.ndarray, times: np.ndarray, mask: np.ndarray | None = None
  ) -> dict[str, np.ndarray]:
    """The frames of `mask` are made, by default those after `known`."""
    if mask is None:
      out = prepare({"video": video, "times": times}, None)
      return out["given"]
    return tasks.hide(video, mask)

  return tasks.Task(
    prepare=prepare,
    footage=tasks.Footage(given=given, measures=("psnr_ahead",)),
    baselines={
      "hold": classical.hold(),
      "extrapolation": classical.extrapolation(),
    },
  )
