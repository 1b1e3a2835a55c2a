"""`jedi`: kernel distance on V-JEPA's features (Luo et al. 2024).

100 times the biased MMD with the kernel (x.y/D)^2. It wants fewer clips than a
Frechet distance and agrees better with people. Weights: docs/metrics.md.
"""

from collections.abc import Iterator
import dataclasses
import functools

from vidgan_jax import config as config_lib
from vidgan_jax import evals
from vidgan_jax.evals import distribution
from vidgan_jax.evals import statistics
from vidgan_jax.evals import weights
from vidgan_jax.evals.nets import vjepa


@dataclasses.dataclass(kw_only=True)
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
    config_lib.check_name(self.protocol, vjepa.PROTOCOLS, "jedi: protocol")
    self._real = None

  def run(self, model, source) -> Iterator[tuple[str, evals.Value]]:
    """Yields `jedi`."""
    try:
      params, sha256 = weights.load("vjepa")
    except weights.Missing as error:
      yield "jedi", evals.missing(error)
      return
    net = distribution.Network(
      apply=_apply(self.protocol),
      params=params,
      card={
        "network": "vjepa",
        "features": "1280, the probe's pooler",
        "weights": sha256,
        "input": f"{self.protocol}: {vjepa.PROTOCOLS[self.protocol]}",
      },
    )
    cut = distribution.Cut(frames=self.frames)
    options = dict(batch=self.batch, parts=1, cut=cut)
    if self._real is None:
      self._real = distribution.real(source, net, self.num, **options)
    fake = distribution.generated(model, net, self.num, self.seed, **options)
    distribution.same_size(fake, self._real)
    num = {"generated": fake.num, "real": self._real.num}
    facts = distribution.card(
      source,
      model,
      **net.card,
      frames=self.frames,
      size=list(fake.shape),
      num=num,
      seed=self.seed,
      estimator="100 MMD^2, (x.y/D)^2, biased",
    )
    found = statistics.jedi(fake.rows, self._real.rows)
    yield (
      "jedi",
      evals.Value(
        found.value,
        found.low,
        found.high,
        num,
        facts,
        distribution.short(self.num, *num.values()),
      ),
    )


@functools.cache
def _apply(protocol):
  def apply(params, video):
    video = vjepa.preprocess(video, protocol)
    return vjepa.Network().apply({"params": params}, video)["features"]

  return apply
