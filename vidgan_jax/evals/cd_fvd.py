"""`cd_fvd`: content-debiased Frechet distance, on VideoMAE v2.

Ge et al. 2024: features of a network that had to tell motions apart, which see
much more of time than I3D's do. Weights: docs/metrics.md.
"""

from collections.abc import Iterator
import dataclasses

from vidgan_jax import evals
from vidgan_jax.evals import distribution
from vidgan_jax.evals import weights
from vidgan_jax.evals.nets import videomae


@dataclasses.dataclass(kw_only=True)
class Evaluator:
  """Frechet distance of 1408 features.

  Attributes:
    num: generated clips. There all real ones count: set `real` to their number.
    real: real clips, at most.
    frames: of a clip, even.
    seed: of the generated clips.
    batch: clips at a time.
  """

  num: int = 2048
  real: int = 2048
  frames: int = 16
  seed: int = 1
  batch: int = 4

  def __post_init__(self):
    self._real = None

  def run(self, model, source) -> Iterator[tuple[str, evals.Value]]:
    """Yields `cd_fvd`, without an interval: 1408 features cost too much."""
    try:
      params, sha256 = weights.load("videomae")
    except weights.Missing as error:
      yield "cd_fvd", evals.missing(error)
      return
    net = distribution.Network(
      apply=_apply,
      params=params,
      card={
        "network": "videomae",
        "features": "1408, mean of the tokens",
        "weights": sha256,
        "input": f"cdfvd: {videomae.PROTOCOLS['cdfvd']}",
      },
    )
    cut = distribution.Cut(frames=self.frames)
    options = dict(batch=self.batch, parts=1, cut=cut)
    if self._real is None:
      self._real = distribution.real(source, net, self.real, **options)
    fake = distribution.generated(model, net, self.num, self.seed, **options)
    protocol = distribution.card(
      source, model, **net.card, frames=self.frames, seed=self.seed
    )
    yield from distribution.figures(
      fake,
      self._real,
      {"frechet": "cd_fvd"},
      protocol,
      distribution.short(self.num, fake.num, self._real.num, self.real),
    )


def _apply(params, video):
  video = videomae.preprocess(video)
  return videomae.Network().apply({"params": params}, video)["features"]
