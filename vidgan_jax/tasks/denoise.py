"""Clips without their noise.

given: video, the noisy clip, clipped and rounded to 8 bits as files are;
vector (T, 1), its standard deviation in the units of [-1, 1], unless blind.
target: the clean clip. base: 'copy'.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidgan_jax import tasks
from vidgan_jax.evals import classical


def make(
  sigma: tuple[float, float] = (5.0, 50.0),
  poisson: float = 0.0,
  blind: bool = False,
) -> tasks.Task:
  """Builds the task.

  Args:
    sigma: least and greatest standard deviation, in 255ths of black to white;
      one number a clip. Twice the same number: always that.
    poisson: share of clips with shot noise, of that deviation at mid-grey,
      in place of Gaussian noise.
    blind: the model is not told sigma.
  """

  def prepare(example: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    import tensorflow as tf

    from vidgan_jax.data import degrade

    a, b, c = degrade.split(seed, 3)
    video = example["video"]
    level = degrade.uniform(a, *sigma) / 127.5
    noisy = degrade.gaussian_noise(video, b, level)
    if poisson:
      shot = degrade.poisson_noise(video, b, level)
      first = degrade.choose(c, [poisson, 1 - poisson]) == 0
      noisy = tf.where(first, shot, noisy)
    clip = {"video": degrade.eight_bit(noisy)}
    if not blind:
      clip["vector"] = 0 * video[:, 0, 0, :1] + level
    return {"given": clip, "target": video, "times": example["times"]}

  def given(
    video: np.ndarray,
    times: np.ndarray,
    mask: np.ndarray | None = None,
    sigma: float = 25.0,
  ) -> dict[str, np.ndarray]:
    del times, mask
    vector = np.full((len(video), 1), sigma / 127.5, np.float32)
    return {"video": video, "vector": vector}

  baselines = {
    "hqdn3d": classical.hqdn3d(tune=(1.0, 1.6, 2.4), relative=True),
    "nlmeans": classical.nlmeans(tune=(0.6, 0.7, 0.8), relative=True),
    "atadenoise": classical.atadenoise(tune=(0.05, 0.1, 0.3)),
  }
  return tasks.Task(
    prepare=prepare,
    given=tasks.as_it_is if blind else given,
    baselines=classical.Available(baselines),
    preview=tasks.preview,
    vector_dim=0 if blind else 1,
    tf=True,
  )
