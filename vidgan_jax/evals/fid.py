"""`fid`: Frechet and kernel inception distance on frames.

Heusel et al. 2017, Binkowski et al. 2018. All frames of the clips that come
count alike, so that each clip has the same weight. Weights: docs/metrics.md.
"""

import dataclasses
import functools

from vidgan_jax.evals import distribution
from vidgan_jax.measures import kernels
from vidgan_jax.nets import inception


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator(distribution.Distance):
  """FID and KID on the 2048 pooled features of Inception-V3.

  The intervals are over clips, not frames.

  Attributes:
    num: generated clips, and at most as many real ones.
    frames: of a clip; None: all.
    protocol: 'tensorflow' or 'pytorch_fid', see `inception.preprocess`.
    seed: of the generated clips and of KID's subsets.
    batch: clips at a time.
  """

  frames: int | None = None
  protocol: str = "tensorflow"
  batch: int = 4

  def network(self, reference):
    """Inception-V3."""
    return distribution.trained(
      "inception",
      _apply(self.protocol),
      features="2048, the last pooling, of frames",
      input=self.protocol,
    )

  def names(self, num, reference):
    """`fid` and `kid`."""
    return {"frechet": "fid", "subsets": "kid"}

  def figures(self, comparison, names):
    """FID, and KID as papers have it, over subsets."""
    yield from distribution.figures(comparison, names)
    fake, real = comparison.fake, comparison.real
    size = min(1000, len(fake.rows), len(real.rows))
    number, deviation = kernels.kid(
      fake.rows, real.rows, size=size, seed=self.seed
    )
    estimator = f"unbiased MMD^2, (x.y/D + 1)^3, 100 subsets of {size}"
    interval = None
    if min(fake.num, real.num) >= 3:
      # That of the distance of all clips, around the mean of the subsets.
      whole = kernels.mmd(fake.rows, real.rows, each=fake.each)
      interval = tuple(
        number + end - whole.value for end in (whole.low, whole.high)
      )
      estimator += "; jackknife over clips, all frames at once"
    notes = f"deviation of a subset {deviation:.3g}", comparison.kept
    note = "; ".join(filter(None, notes))
    value = comparison.value(number, interval, "lower", estimator, note=note)
    yield names["subsets"], value


@functools.cache
def _apply(protocol):
  def apply(params, video):
    frames = video.reshape(-1, *video.shape[2:])
    frames = inception.preprocess(frames, protocol)
    rows = inception.Network().apply({"params": params}, frames)["features"]
    return rows.reshape(*video.shape[:2], -1)

  return apply
