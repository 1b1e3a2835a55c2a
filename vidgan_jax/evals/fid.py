"""`fid`: Frechet and kernel inception distance on frames.

Heusel et al. 2017, Binkowski et al. 2018. All frames of the clips that come
count alike, so that each clip has the same weight. Weights: docs/metrics.md.
"""

from collections.abc import Iterator
import dataclasses
import functools

from vidgan_jax import evals
from vidgan_jax.evals import distribution
from vidgan_jax.evals import statistics
from vidgan_jax.evals import weights
from vidgan_jax.evals.nets import inception


@dataclasses.dataclass(kw_only=True)
class Evaluator:
  """FID and KID on the 2048 pooled features of Inception-V3.

  Attributes:
    num: generated clips, and at most as many real ones.
    frames: of a clip; None: all.
    protocol: 'tensorflow' or 'pytorch_fid', see `inception.preprocess`.
    seed: of the generated clips and of KID's subsets.
    batch: clips at a time.
  """

  num: int = 2048
  frames: int | None = None
  protocol: str = "tensorflow"
  seed: int = 1
  batch: int = 4

  def __post_init__(self):
    self._real = None

  def run(self, model, source) -> Iterator[tuple[str, evals.Value]]:
    """Yields `fid` and `kid`; without intervals, as frames of a clip agree."""
    try:
      params, sha256 = weights.load("inception")
    except weights.Missing as error:
      for name in ("fid", "kid"):
        yield name, evals.missing(error)
      return
    net = distribution.Network(
      apply=_apply(self.protocol),
      params=params,
      card={
        "network": "inception",
        "features": "2048, the last pooling, of frames",
        "weights": sha256,
        "input": self.protocol,
      },
    )
    cut = distribution.Cut(frames=self.frames)
    options = dict(batch=self.batch, parts=1, cut=cut)
    if self._real is None:
      self._real = distribution.real(source, net, self.num, **options)
    fake = distribution.generated(model, net, self.num, self.seed, **options)
    protocol = distribution.card(
      source, model, **net.card, frames=self.frames, seed=self.seed
    )
    note = distribution.short(self.num, fake.num, self._real.num)
    yield from distribution.figures(
      fake, self._real, {"frechet": "fid"}, protocol, note
    )
    size = min(1000, len(fake.rows), len(self._real.rows))
    value, deviation = statistics.kid(
      fake.rows, self._real.rows, size=size, seed=self.seed
    )
    num = {"generated": fake.num, "real": self._real.num}
    facts = {
      **protocol,
      "size": list(fake.shape),
      "num": num,
      "estimator": f"unbiased MMD^2, (x.y/D + 1)^3, 100 subsets of {size}",
    }
    text = f"{note}; " * bool(note) + f"deviation of a subset {deviation:.3g}"
    yield "kid", evals.Value(value, num=num, protocol=facts, note=text)


@functools.cache
def _apply(protocol):
  def apply(params, video):
    frames = video.reshape(-1, *video.shape[2:])
    frames = inception.preprocess(frames, protocol)
    found = inception.Network().apply({"params": params}, frames)["features"]
    return found.reshape(*video.shape[:2], -1)

  return apply
