"""Mouths that say what is heard: the lower half of a face, made of sound.

given: video, where the mask is 1 the same place of another frame of the clip,
as Wav2Lip's second frame (Prajwal et al. 2020, section 3.2); mask, 1 in the
lower half; sound, the rows of data/sound.py. target: the clip; weight: the
mask. base: 'copy', the mouth of the other frame, which does not move; set
config.model.generator.compose, so that what is seen stays.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidgan_jax import baselines as classical
from vidgan_jax import errors
from vidgan_jax import tasks


def make(top: float = 0.5) -> tasks.Task:
  """Builds the task.

  Args:
    top: where the hidden part begins, as a share of the frame's height; it goes
      down to the lower border.

  Raises:
    UserError: nothing would be hidden, or all.
  """
  if not 0 < top < 1:
    raise errors.UserError(
      f"config.task.options.top is {top}: give a share of the height above 0 "
      "and below 1, such as 0.5."
    )

  def hides(height: int, width: int) -> np.ndarray:
    below = np.arange(height) >= round(top * height)
    return np.broadcast_to(below[:, None], (height, width))

  def prepare(example: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    video, sound = example["video"], example["sound"]
    frames, height, width = video.shape[:3]
    hidden = hides(height, width)[..., None].astype(np.float32)
    mask = 0 * video[..., :1] + hidden
    # The second number of a seed is another one for each clip that is shown.
    other = video[seed[1] % frames]
    given = {"video": video * (1 - mask) + other * mask, "mask": mask}
    return tasks.pair(example, given | {"sound": sound}, weight=mask)

  def given(
    video: np.ndarray,
    times: np.ndarray,
    mask: np.ndarray | None = None,
    sound: np.ndarray | None = None,
  ) -> dict[str, np.ndarray]:
    """What the model sees; `video` shows the other frame where it is hidden."""
    del times
    if mask is None:
      mask = 0 * video[..., :1] + hides(*video.shape[1:3])[..., None]
    known = {} if sound is None else {"sound": sound}
    return {"video": video, "mask": mask.astype(np.float32)} | known

  return tasks.Task(
    prepare=prepare,
    footage=tasks.Footage(
      given=given,
      hides=hides,
      hears=True,
      unmasked="the lower part of the frame is made anew, so it should show a "
      "face as those of the training do: --crop to it, or give a --mask that is"
      " white on the mouth",
    ),
    baselines={"still": classical.copy()},
    tf=True,
  )
