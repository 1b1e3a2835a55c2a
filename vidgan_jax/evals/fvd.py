"""`fvd`: Frechet and kernel video distance on I3D, as papers name them.

Unterthiner et al. 2018; protocols of StyleGAN-V (Skorokhodov et al. 2022):
`fvd2048_16f` is of 2048 generated clips of 16 frames, `..._subsample8f` of
each 8th frame. The number in the name is that of the generated clips that were
there. Weights: docs/metrics.md.
"""

from collections.abc import Iterator
import dataclasses
import functools
import math

from vidgan_jax import evals
from vidgan_jax import rooms
from vidgan_jax.evals import distribution
from vidgan_jax.measures import frechet
from vidgan_jax.nets import i3d
from vidgan_jax.nets import store as weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """Everything that the 400 logits of I3D tell.

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

  num: int = 2048
  frames: int = 16
  stride: int = 1
  protocol: str = "styleganv"
  extrapolate: bool = False
  seed: int = 1
  batch: int = 16

  def __post_init__(self):
    rooms.check_name(self.protocol, i3d.PROTOCOLS, "fvd: protocol")

  def run(self, model, source) -> Iterator[tuple[str, evals.Value]]:
    """Yields the distances, precision, recall, density and coverage."""
    try:
      net = distribution.trained(
        "i3d",
        _apply(self.protocol),
        features="400 logits",
        input=f"{self.protocol}: {i3d.PROTOCOLS[self.protocol]}",
      )
    except weights.Missing as error:
      yield f"fvd{self._suffix(self.num, source)}", evals.missing(error)
      return
    pair = distribution.compare(
      model,
      source,
      net,
      num=self.num,
      seed=self.seed,
      batch=self.batch,
      cut=distribution.Cut(frames=self.frames, stride=self.stride),
    )
    suffix = self._suffix(pair.fake.num, source)
    names = distribution.names(f"fvd{suffix}", f"kvd{suffix}", f"i3d{suffix}")
    yield from distribution.figures(pair, names)
    if self.extrapolate:
      value, low, high, note = math.nan, math.nan, math.nan, ""
      try:
        found = frechet.extrapolated_estimate(
          *(frechet.grouped([one.rows]) for one in (pair.fake, pair.real))
        )
        value, low, high = found.value, found.low, found.high
      except ValueError as error:
        note = f"not computed: {error}"
      estimator = "Frechet at 1/N = 0; jackknife over eighths of the clips"
      yield (
        f"fvd_inf{suffix}",
        pair.value(estimator, value, low, high, note=note),
      )

  def _suffix(self, num, source):
    return f"{num}_{distribution.length(source, self.frames, self.stride)}"


@functools.cache
def _apply(protocol):
  def apply(params, video):
    video = i3d.preprocess(video, protocol)
    return i3d.Network().apply({"params": params}, video)["logits"]

  return apply
