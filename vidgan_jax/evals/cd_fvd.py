"""`cd_fvd`: content-debiased Frechet distance, on VideoMAE v2.

Ge et al. 2024: features of a network that had to tell motions apart, which see
much more of time than I3D's do. Weights: docs/metrics.md.
"""

from collections.abc import Iterator
import dataclasses

from vidgan_jax import evals
from vidgan_jax.evals import distribution
from vidgan_jax.nets import store as weights
from vidgan_jax.nets import videomae


@dataclasses.dataclass(frozen=True, kw_only=True)
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

  def run(self, model, source) -> Iterator[tuple[str, evals.Value]]:
    """Yields `cd_fvd`; if not of 16 frames, with the length behind."""
    name, how = "cd_fvd", distribution.length(source, self.frames)
    if how != "16f":
      name = f"cd_fvd_{how}"
    try:
      net = distribution.trained(
        "videomae",
        _apply,
        features="1408, mean of the tokens",
        input=f"cdfvd: {videomae.PROTOCOLS['cdfvd']}",
      )
    except weights.Missing as error:
      yield name, evals.missing(error)
      return
    pair = distribution.compare(
      model,
      source,
      net,
      num=self.num,
      num_real=self.real,
      seed=self.seed,
      batch=self.batch,
      cut=distribution.Cut(frames=self.frames),
    )
    if pair.fake.num < 2048:
      paper = "the paper takes 2,048 generated clips"
      note = "; ".join(filter(None, (pair.note, paper)))
      pair = dataclasses.replace(pair, note=note)
    yield from distribution.figures(pair, {"frechet": name})


def _apply(params, video):
  video = videomae.preprocess(video)
  return videomae.Network().apply({"params": params}, video)["features"]
