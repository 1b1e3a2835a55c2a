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
_SHOWN = 64  # generated clips that the best and the worst are taken of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator(distribution.Distance):
  """Compares generated clips with the real ones of the evaluation split.

  Attributes:
    num: generated clips, and at most as many real ones. The distance of two
      samples of one distribution is about C / num, so hold it fixed.
    seed: seed of the generated clips.
    batch: clips at a time; it changes no value.
  """

  num: int = 512

  def network(self, reference):
    """The random network."""
    return network()

  def names(self, num, reference):
    """All that `distribution.figures` computes."""
    return NAMES

  def run(self, sampler, reference) -> Iterator[tuple[str, Any]]:
    """Yields the distances, shares of neighbours, and generated clips."""
    comparison = self.compare(sampler, reference)
    yield from self.figures(comparison, NAMES)
    if comparison.kept:
      return  # Which clips the rows are of is not known.
    rows = comparison.fake.rows[:_SHOWN]
    distances, _ = neighbours.nearest(rows, comparison.real.rows)
    num = len(distances)
    yield (
      "Generated",
      evals.Exhibit(
        # They are drawn again: to keep all that were measured takes memory.
        clips=lambda: next(
          distribution.generated_clips(sampler, self.seed, num, num)
        ),
        scores=distances,
        score="distance to the nearest real clip",
      ),
    )


def network() -> distribution.Network:
  """The random network for clips of uint8."""
  return distribution.Network(
    apply=_features,
    params=random3d.params(),
    card={"network": random3d.VERSION, "input": "[-1, 1], as they are"},
  )


def _features(params, video):
  return random3d.apply(params, pixels.to_floats(video))
