"""Clips without their noise.

given: video, the noisy clip, clipped and rounded to 8 bits as files are; unless
blind, its standard deviation in the units of [-1, 1]: vector (T, 1) or, if
spatial, map (T, H, W, 1). target: the clean clip. base: 'copy'.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidgan_jax import baselines as classical
from vidgan_jax import tasks


def make(
  sigma: tuple[float, float] = (5.0, 50.0),
  poisson: float = 0.0,
  blind: bool = False,
  spatial: bool = False,
) -> tasks.Task:
  """Builds the task.

  Args:
    sigma: least and greatest standard deviation, in 255ths of black to white;
      one number a clip. Twice the same number: always that. A least one of 0
      teaches a model to leave clean footage, or clean places, alone.
    poisson: share of clips with shot noise, of that deviation at mid-grey,
      in place of Gaussian noise.
    blind: the model is not told sigma.
    spatial: noise varies over the frame, and slowly in time, between two levels
      a clip; the model is told a map of it, and not the vector: set
      config.model.generator.vector_dim to 0. Of real footage, the map is
      `sigma` times the mask, how noisy a place is from 0 to 1, or everywhere
      `sigma` if there is no mask.
  """

  def prepare(example: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    from vidgan_jax.tasks import degrade

    a, b = degrade.split(seed, 2)
    video = example["video"]
    if spatial:
      level = degrade.field(a, tuple(video.shape[:3]), *sigma) / 127.5
    else:
      level = degrade.uniform(a, *sigma) / 127.5
    noisy = degrade.noise(video, b, level, poisson)
    clip = {"video": degrade.eight_bit(noisy)}
    if not blind and spatial:
      clip["map"] = level
    elif not blind:
      clip["vector"] = 0 * video[:, 0, 0, :1] + level
    return tasks.pair(example, clip)

  def given(
    video: np.ndarray,
    times: np.ndarray,
    mask: np.ndarray | None = None,
    sigma: float = 25.0,
  ) -> dict[str, np.ndarray]:
    del times
    if spatial:
      level = 0 * video[..., :1] + 1 if mask is None else mask
      return {"video": video, "map": level * np.float32(sigma / 127.5)}
    vector = np.full((len(video), 1), sigma / 127.5, np.float32)
    return {"video": video, "vector": vector}

  baselines = {
    "hqdn3d": classical.hqdn3d(tune=(1.0, 1.6, 2.4), relative=True),
    "nlmeans": classical.nlmeans(tune=(0.6, 0.7, 0.8), relative=True),
    "atadenoise": classical.atadenoise(tune=(0.05, 0.1, 0.3)),
  }
  return tasks.Task(
    prepare=prepare,
    footage=tasks.Footage(
      given=tasks.as_it_is if blind else given,
      vector_dim=0 if blind or spatial else 1,
    ),
    baselines=classical.Available(baselines),
    tf=True,
  )
