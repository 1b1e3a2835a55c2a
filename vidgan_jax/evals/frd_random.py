"""`frd_random`: Frechet distance on features of a random 3-D network.

Honest about its name: it needs no weights and is good for comparing
checkpoints and models on the same data set with the same number of clips. It is
not FVD and must not be put beside one.
"""

from collections.abc import Iterator
import dataclasses

import numpy as np

from vidgan_jax.evals import features
from vidgan_jax.evals.nets import random3d


@dataclasses.dataclass(kw_only=True)
class Evaluator:
  """Compares generated clips with the real ones of the evaluation split.

  Attributes:
    num: generated clips, and at most as many real ones. The distance of two
      samples of one distribution is about C / num, so hold it fixed.
    seed: seed of the generated clips.
    batch: clips at a time.
  """

  num: int = 512
  seed: int = 1
  batch: int = 32

  def __post_init__(self):
    self._real = None

  def run(self, model, source) -> Iterator[tuple[str, float]]:
    """Yields `frd_random` and the numbers of clips that it rests on."""
    apply = random3d.network()
    if self._real is None:  # Real clips do not change from step to step.
      self._real = features.moments(
        apply, _real(source, min(self.num, len(source)), self.batch), self.batch
      )
    fake = features.moments(
      apply, [model.clips(self.seed, self.num)[0]], self.batch
    )
    yield "frd_random", features.frechet(self._real, fake)
    yield "frd_random/num_real", self._real.num
    yield "frd_random/num_generated", fake.num


def _real(source, num, batch):
  for start in range(0, num, batch):
    examples = source.read(range(start, min(start + batch, num)))
    yield np.stack([example["video"] for example in examples])
