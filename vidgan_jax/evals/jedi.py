"""`jedi`: kernel distance on V-JEPA's features (Luo et al. 2024).

100 times the biased MMD with the kernel (x.y/D)^2. It wants fewer clips than a
Frechet distance and agrees better with people. Weights: docs/metrics.md.
"""

from collections.abc import Iterator
import dataclasses
import functools

from vidgan_jax import evals
from vidgan_jax import rooms
from vidgan_jax.evals import distribution
from vidgan_jax.measures import kernels
from vidgan_jax.nets import store as weights
from vidgan_jax.nets import vjepa


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """The paper takes 5,000 clips.

  Attributes:
    num: generated clips, and at most as many real ones.
    frames: of a clip, even.
    protocol: how clips are resized, see `vjepa.PROTOCOLS`.
    seed: of the generated clips.
    batch: clips at a time.
  """

  num: int = 5000
  frames: int = 16
  protocol: str = "squash"
  seed: int = 1
  batch: int = 4

  def __post_init__(self):
    rooms.check_name(self.protocol, vjepa.PROTOCOLS, "jedi: protocol")

  def run(self, model, source) -> Iterator[tuple[str, evals.Value]]:
    """Yields `jedi`; if not of 16 frames, with the length behind."""
    name, how = "jedi", distribution.length(source, self.frames)
    if how != "16f":
      name = f"jedi_{how}"
    try:
      net = distribution.trained(
        "vjepa",
        _apply(self.protocol),
        features="1280, the probe's pooler",
        input=f"{self.protocol}: {vjepa.PROTOCOLS[self.protocol]}",
      )
    except weights.Missing as error:
      yield name, evals.missing(error)
      return
    pair = distribution.compare(
      model,
      source,
      net,
      num=self.num,
      seed=self.seed,
      batch=self.batch,
      cut=distribution.Cut(frames=self.frames),
    )
    found = kernels.jedi(pair.fake.rows, pair.real.rows)
    estimator = "100 MMD^2, (x.y/D)^2, biased; jackknife over clips"
    ends = found.low, found.high
    paper = "the paper takes 5,000 clips of each"
    few = min(pair.fake.num, pair.real.num) < 5000
    note = "; ".join(filter(None, (pair.kept, paper * few)))
    yield name, pair.value(estimator, found.value, *ends, note=note)


@functools.cache
def _apply(protocol):
  def apply(params, video):
    video = vjepa.preprocess(video, protocol)
    return vjepa.Network().apply({"params": params}, video)["features"]

  return apply
