"""`frd_random`: Frechet distance on energies of random filters in bands.

Honest about its name: it needs no weights and is good for comparing
checkpoints and models on the same data set with the same number of clips. It is
not FVD and must not be put beside one. It sees noise, blur, blocks, rest, order
and repetition of frames, and dropped scenes; not time backwards.
"""

from collections.abc import Iterator
import dataclasses
from typing import Any

from vidgan_jax import evals
from vidgan_jax import pixels
from vidgan_jax.evals import distribution
from vidgan_jax.measures import neighbours
from vidgan_jax.nets import random3d

NAMES = distribution.names("frd_random", "krd_random", "random")


@dataclasses.dataclass(kw_only=True)
class Evaluator:
  """Compares generated clips with the real ones of the evaluation split.

  Attributes:
    num: generated clips, and at most as many real ones. The distance of two
      samples of one distribution is about C / num, so hold it fixed.
    seed: seed of the generated clips.
    batch: clips at a time; it changes no value.
    nearest: after `run`, how far each generated clip is from the nearest real
      one, (N,).
  """

  num: int = 512
  seed: int = 1
  batch: int = 32
  nearest: Any = dataclasses.field(default=None, init=False, repr=False)

  def run(self, model, source) -> Iterator[tuple[str, evals.Value]]:
    """Yields `frd_random`, its kernel distance, and shares of neighbours."""
    pair = distribution.compare(
      model,
      source,
      network(),
      num=self.num,
      seed=self.seed,
      batch=self.batch,
    )
    self.nearest, _ = neighbours.nearest(pair.fake.rows, pair.real.rows)
    yield from distribution.figures(pair, NAMES)


def network() -> distribution.Network:
  """The random network for clips of uint8."""
  return distribution.Network(
    apply=_features,
    params=random3d.params(),
    card={"network": random3d.VERSION, "input": "[-1, 1], as they are"},
  )


def _features(params, video):
  return random3d.apply(params, pixels.to_floats(video))
