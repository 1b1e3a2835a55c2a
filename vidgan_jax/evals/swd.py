"""`swd`: texture, by the sliced Wasserstein distance of Laplacian patches.

Karras et al. 2018, section 5, on frames of clips: needs no network. It sees
blur, noise and blocks, and nothing of motion.
"""

from collections.abc import Iterator
import dataclasses
import math

import numpy as np

from vidgan_jax import evals
from vidgan_jax.evals import distribution
from vidgan_jax.measures import texture


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """Compares patches of generated and of real clips.

  Attributes:
    num: clips of each, at most.
    patches: of each set, a level.
    frames: of each clip.
    seed: of the clips, the places and the directions.
    batch: clips at a time.
  """

  num: int = 256
  patches: int = 16_384
  frames: int = 8
  seed: int = 1
  batch: int = 32

  def run(self, sampler, reference) -> Iterator[tuple[str, evals.Value]]:
    """Yields `swd`."""
    num = min(self.num, len(reference))
    real = list(
      self._frames(distribution.real_clips(reference, num, self.batch))
    )
    fake = list(
      self._frames(
        distribution.generated_clips(sampler, self.seed, self.num, self.batch)
      )
    )
    common = distribution.measurement(
      sampler,
      reference,
      {"generated": len(fake), "real": len(real)},
      distribution.short(self.num, len(fake), len(real)),
      patches=self.patches,
      frames=self.frames,
      seed=self.seed,
    )
    estimate = texture.distance(
      fake, real, patches=self.patches, frames=self.frames, seed=self.seed
    )
    low = estimate.low
    value = common.value(
      estimate.value,
      (low if math.isnan(low) else max(low, 0.0), estimate.high),
      "lower",
      "1000 x sliced Wasserstein, 256 directions, Laplacian pyramid; interval "
      "from 8 parts of the clips",
    )
    yield "swd", value

  def _frames(self, videos):
    """Yields some frames of each clip, so that memory holds no more."""
    number = 0
    for video in videos:
      for clip in video:
        rng = np.random.default_rng((self.seed, number))
        yield clip[np.sort(rng.permutation(len(clip))[: self.frames])].copy()
        number += 1
