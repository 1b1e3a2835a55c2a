"""`jedi`: kernel distance on V-JEPA's features (Luo et al. 2025).

100 times the biased MMD with the kernel (x.y/D)^2. It wants fewer clips than a
Frechet distance and agrees better with people. Weights: docs/metrics.md.
"""

import dataclasses
from typing import ClassVar

from vidgan_jax import rooms
from vidgan_jax.evals import distribution
from vidgan_jax.measures import kernels
from vidgan_jax.nets import vjepa

_PAPER = 5000  # clips of each


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator(distribution.Distance):
  """The paper takes 5,000 clips.

  Attributes:
    num: generated clips, and at most as many real ones.
    frames: of a clip, even.
    protocol: how clips are resized, see `vjepa.PROTOCOLS`.
    seed: of the generated clips.
    batch: clips at a time.
  """

  least: ClassVar[int] = 3
  num: int = _PAPER
  frames: int = 16
  protocol: str = "squash"
  batch: int = 4

  def __post_init__(self):
    rooms.check_name(self.protocol, vjepa.PROTOCOLS, "jedi: protocol")

  def network(self, reference):
    """V-JEPA."""
    return distribution.trained(
      "vjepa",
      distribution.through(vjepa, vjepa.Network(), self.protocol, "features"),
      features="1280, the probe's pooler",
      input=f"{self.protocol}: {vjepa.PROTOCOLS[self.protocol]}",
    )

  def names(self, num, reference):
    """`jedi`; if not of 16 frames, with the length behind."""
    return {"jedi": self.with_length("jedi", reference)}

  def figures(self, comparison, names):
    """The distance; says so where the paper takes more clips."""
    fake, real = comparison.fake, comparison.real
    estimate = kernels.jedi(fake.rows, real.rows)
    few = min(fake.num, real.num) < _PAPER
    notes = comparison.kept, f"the paper takes {_PAPER:,} clips of each" * few
    value = comparison.value(
      estimate.value,
      (estimate.low, estimate.high),
      "lower",
      "100 MMD^2, (x.y/D)^2, biased; jackknife over clips",
      note="; ".join(filter(None, notes)),
    )
    yield names["jedi"], value
