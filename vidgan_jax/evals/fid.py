"""`fid`: Frechet and kernel inception distance on frames.

Heusel et al. 2017, Binkowski et al. 2018. All frames of the clips that come
count alike, so that each clip has the same weight. Weights: docs/metrics.md.
"""

from collections.abc import Iterator
import dataclasses
import functools

from vidgan_jax import evals
from vidgan_jax.evals import distribution
from vidgan_jax.measures import kernels
from vidgan_jax.nets import inception
from vidgan_jax.nets import store as weights


@dataclasses.dataclass(frozen=True, kw_only=True)
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

  def run(self, model, source) -> Iterator[tuple[str, evals.Value]]:
    """Yields `fid` and `kid`; the intervals are over clips, not frames."""
    try:
      net = distribution.trained(
        "inception",
        _apply(self.protocol),
        features="2048, the last pooling, of frames",
        input=self.protocol,
      )
    except weights.Missing as error:
      for name in ("fid", "kid"):
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
    yield from distribution.figures(pair, {"frechet": "fid"})
    fake, real = pair.fake, pair.real
    size = min(1000, len(fake.rows), len(real.rows))
    value, deviation = kernels.kid(
      fake.rows, real.rows, size=size, seed=self.seed
    )
    estimator = f"unbiased MMD^2, (x.y/D + 1)^3, 100 subsets of {size}"
    ends = ()
    if min(fake.num, real.num) >= 3:
      found = kernels.mmd(fake.rows, real.rows, each=fake.each)
      ends = value + found.low - found.value, value + found.high - found.value
      estimator += "; jackknife over clips, all frames at once"
    notes = f"deviation of a subset {deviation:.3g}", pair.kept
    note = "; ".join(filter(None, notes))
    yield "kid", pair.value(estimator, value, *ends, note=note)


@functools.cache
def _apply(protocol):
  def apply(params, video):
    frames = video.reshape(-1, *video.shape[2:])
    frames = inception.preprocess(frames, protocol)
    found = inception.Network().apply({"params": params}, frames)["features"]
    return found.reshape(*video.shape[:2], -1)

  return apply
