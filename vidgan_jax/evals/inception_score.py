"""`inception_score`: of clips, by C3D as it was tuned on UCF-101.

Salimans et al. 2016, with the network of Saito et al. 2017: 16 frames, splits
in the order of the clips. Only for models of UCF-101. Weights: docs/metrics.md.
"""

from collections.abc import Iterator
import dataclasses

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax import rooms
from vidgan_jax.evals import distribution
from vidgan_jax.measures import classes
from vidgan_jax.measures import intervals
from vidgan_jax.nets import c3d
from vidgan_jax.nets import store as weights

_FRAMES = 16  # The network's.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """The score rises with `num`: papers use 10,000, StyleGAN-V 2,048.

  Attributes:
    num: generated clips, at most 10,000.
    splits: mean and deviation are over them.
    protocol: how clips are resized, see `c3d.PROTOCOLS`.
    seed: of the generated clips.
    batch: clips at a time.
  """

  num: int = 2048
  splits: int = 10
  protocol: str = "tgan2"
  seed: int = 1
  batch: int = 16

  def __post_init__(self):
    rooms.check_name(self.protocol, c3d.PROTOCOLS, "inception_score: protocol")
    if self.num > distribution.KEEP:
      raise errors.UserError(
        f"inception_score: num is {self.num}: give at most {distribution.KEEP}."
      )

  def run(self, sampler, reference) -> Iterator[tuple[str, evals.Value]]:
    """Yields `isNUM_ucf`."""
    del reference
    try:
      network = distribution.trained(
        "c3d",
        distribution.through(
          c3d, c3d.Network(self.protocol), self.protocol, "logits"
        ),
        features="101 logits",
        input=f"{self.protocol}: {c3d.PROTOCOLS[self.protocol]}",
      )
    except weights.Missing as error:
      yield f"is{self.num}_ucf", evals.missing(error)
      return
    cut = distribution.Cut(frames=_FRAMES)
    logits = distribution.generated(
      sampler, network, self.num, self.seed, self.batch, cut
    ).rows
    mean, deviation = classes.inception_score(logits, self.splits)
    interval = None
    if self.splits > 1:
      spread = intervals.Spread(mean, deviation)
      interval = intervals.batch_means(spread, self.splits)
    common = distribution.measurement(
      sampler,
      None,
      len(logits),
      distribution.short(self.num, len(logits), self.num),
      **network.card,
      frames=_FRAMES,
      splits=self.splits,
      seed=self.seed,
    )
    value = common.value(
      mean,
      interval,
      "higher",
      "exp E KL, mean over splits; interval from the splits",
      note=f"deviation of a split {deviation:.3g}",
      reason="one split",
    )
    yield f"is{len(logits)}_ucf", value
