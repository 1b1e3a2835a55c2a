"""`fvd`: Frechet and kernel video distance on I3D, as papers name them.

Unterthiner et al. 2018; protocols of StyleGAN-V (Skorokhodov et al. 2022):
`fvd2048_16f` is of 2048 generated clips of 16 frames, `..._subsample8f` of
each 8th frame. The number in the name counts the generated clips actually used.
Weights: docs/metrics.md.
"""

import dataclasses
import math

from vidgan_jax import rooms
from vidgan_jax.evals import distribution
from vidgan_jax.measures import frechet
from vidgan_jax.nets import i3d


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator(distribution.Distance):
  """Everything that the 400 logits of I3D say of two sets of clips.

  Attributes:
    num: generated clips, and at most as many real ones.
    frames: of a clip, at least 9.
    stride: from one frame to the next; the papers' `subsample`.
    protocol: how clips are resized, see `i3d.PROTOCOLS`.
    extrapolate: adds `fvd_inf`, the distance for endless samples (Chong and
      Forsyth 2020).
    seed: of the generated clips.
    batch: clips at a time.
  """

  frames: int = 16
  stride: int = 1
  protocol: str = "styleganv"
  extrapolate: bool = False
  batch: int = 16

  def __post_init__(self):
    rooms.check_name(self.protocol, i3d.PROTOCOLS, "fvd: protocol")

  def network(self, reference):
    """I3D."""
    return distribution.trained(
      "i3d",
      distribution.through(i3d, i3d.Network(), self.protocol, "logits"),
      features="400 logits",
      input=f"{self.protocol}: {i3d.PROTOCOLS[self.protocol]}",
    )

  def names(self, num, reference):
    """As papers have them."""
    length = distribution.length(reference, self.frames, self.stride)
    suffix = f"{num}_{length}"
    names = distribution.names(f"fvd{suffix}", f"kvd{suffix}", f"i3d{suffix}")
    return names | {"endless": f"fvd_inf{suffix}"}

  def figures(self, comparison, names):
    """Distances, precision, recall, density and coverage."""
    yield from distribution.figures(comparison, names)
    if self.extrapolate:
      number, interval, note = math.nan, None, ""
      try:
        estimate = frechet.extrapolated_estimate(
          *(
            frechet.grouped([sample.rows])
            for sample in (comparison.fake, comparison.real)
          )
        )
        number, interval = estimate.value, (estimate.low, estimate.high)
      except ValueError as error:
        note = f"not computed: {error}"
      how = "Frechet at 1/N = 0; jackknife over eighths of the clips"
      value = comparison.value(number, interval, "lower", how, note=note)
      yield names["endless"], value
