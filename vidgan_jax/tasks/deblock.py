"""Clips without the marks of compression.

given: video, decoded; vector (T, 1), the quality / 100 of JPEG or the crf / 50
of a codec, unless blind. target: the clip before. base: 'copy'.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidgan_jax import baselines as classical
from vidgan_jax import tasks

# codec -> qualities, unit of the vector, a quality for footage of unknown one.
CODECS = {
  "jpeg": ((8, 40), 100, 20),
  "h264": ((28, 44), 50, 34),
  "hevc": ((28, 46), 50, 36),
  "vp9": ((36, 60), 50, 48),
}


def make(
  codec: str = "jpeg",
  quality: tuple[float, float] | None = None,
  blind: bool = True,
) -> tasks.Task:
  """Builds the task.

  Args:
    codec: 'jpeg' (each frame by itself), 'h264', 'hevc' or 'vp9'.
    quality: range of JPEG's quality (less is worse) or of the codec's crf
      (more is worse); None: that of `CODECS`.
    blind: the model is not told the quality.

  Raises:
    config.ConfigError: an unknown codec.
  """
  tasks.check("codec", codec, CODECS)
  usual, unit, middle = CODECS[codec]
  low, high = quality or usual

  def prepare(example: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    from vidgan_jax.tasks import degrade

    video = example["video"]
    level = degrade.uniform(seed, low, high + 1) // 1  # A whole number.
    if codec == "jpeg":
      clip = {"video": degrade.jpeg(video, level)}
    else:
      clip = {"video": degrade.codec(video, level, codec)}
    if not blind:
      clip["vector"] = 0 * video[:, 0, 0, :1] + level / unit
    return tasks.pair(example, clip)

  def given(
    video: np.ndarray,
    times: np.ndarray,
    mask: np.ndarray | None = None,
    quality: float = middle,
  ) -> dict[str, np.ndarray]:
    del times, mask
    vector = np.full((len(video), 1), quality / unit, np.float32)
    return {"video": video, "vector": vector}

  baselines = {
    "deblock": classical.deblock(tune=("weak", "strong")),
    "spp": classical.spp(tune=(4, 8, 14, 20)),
    "nlmeans": classical.nlmeans(tune=(2, 3.5, 5, 8)),
    "copy": classical.copy(),
  }
  return tasks.Task(
    prepare=prepare,
    footage=tasks.Footage(
      given=tasks.as_it_is if blind else given, vector_dim=0 if blind else 1
    ),
    baselines=classical.Available(baselines),
    tf=True,
  )
