"""`cd_fvd`: content-debiased Frechet distance, on VideoMAE v2.

Ge et al. 2024: features of a network that had to tell motions apart, which see
much more of time than I3D's do. Weights: docs/metrics.md.
"""

import dataclasses

from vidgan_jax.evals import distribution
from vidgan_jax.nets import videomae

_PAPER = 2048  # generated clips


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator(distribution.Distance):
  """Frechet distance of 1408 features.

  Attributes:
    num: generated clips.
    real: real clips, at most; the paper takes all there are.
    frames: of a clip, even.
    seed: of the generated clips.
    batch: clips at a time.
  """

  real: int = 2048
  frames: int = 16
  batch: int = 4

  def network(self, reference):
    """VideoMAE v2."""
    return distribution.trained(
      "videomae",
      distribution.through(videomae, videomae.Network(), "cdfvd", "features"),
      features="1408, mean of the tokens",
      input=f"cdfvd: {videomae.PROTOCOLS['cdfvd']}",
    )

  def names(self, num, reference):
    """`cd_fvd`; if not of 16 frames, with the length behind."""
    return {"frechet": self.with_length("cd_fvd", reference)}

  def figures(self, comparison, names):
    """The distance; says so where the paper takes more clips."""
    if comparison.fake.num < _PAPER:
      paper = f"the paper takes {_PAPER:,} generated clips"
      note = "; ".join(filter(None, (comparison.note, paper)))
      comparison = dataclasses.replace(comparison, note=note)
    return distribution.figures(comparison, names)
