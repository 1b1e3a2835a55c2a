"""`motion`: what moves, and how, in generated clips beside real ones.

A feature distance can be blind to time (Ge et al. 2024); these figures see
nothing else, and none of them is enough by itself: noise moves too.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses

import numpy as np

from vidgan_jax import evals
from vidgan_jax.evals import distribution
from vidgan_jax.measures import intervals
from vidgan_jax.measures import motion as motion_lib

# Name -> rows, distance of two sets of them, unit, protocol.
_DISTANCES = {
  "speed_distance": (
    "speeds",
    motion_lib.speed_distance,
    "pixels",
    "Wasserstein of flow lengths (Farneback), pixels a frame",
  ),
  "spectrum_distance": (
    "spectra",
    motion_lib.spectrum_distance,
    "dB",
    "mean |dB| of spectra of frame differences",
  ),
  "arrow_distance": (
    "arrows",
    motion_lib.arrow_distance,
    "",
    "mean bicovariances that turn with time, in deviations of a clip",
  ),
}
_MEANS = {
  "warping_error": "E_warp along the clip's own flow, mean over clips",
  "order": "1 - von Neumann's ratio, mean over clips",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """What moves in generated clips, beside what moves in real ones.

  Attributes:
    num: clips of each, at most.
    seed: of the generated clips.
    batch: clips at a time.
    parts: of the clips, for intervals.
    share: of real clips, the stillest, that say what stands still.
  """

  num: int = 64
  seed: int = 1
  batch: int = 32
  parts: int = 16
  share: float = 0.05

  def run(self, sampler, reference) -> Iterator[tuple[str, evals.Value]]:
    """Yields distances of what moves, stills, and both sets' E_warp, order."""
    num = min(self.num, len(reference))
    real = reference.once(
      ("motion", num),
      lambda: _measures(distribution.real_clips(reference, num, self.batch)),
    )
    fake = _measures(
      distribution.generated_clips(sampler, self.seed, self.num, self.batch)
    )
    nums = {"generated": len(fake["order"]), "real": len(real["order"])}
    common = distribution.measurement(
      sampler,
      reference,
      nums,
      distribution.short(self.num, *nums.values()),
      seed=self.seed,
    )
    groups = min(self.parts, *nums.values())
    for name, (key, function, unit, estimator) in _DISTANCES.items():
      if isinstance(fake[key], str):
        yield f"motion/{name}", evals.missing(fake[key])
        continue
      interval = None
      if groups >= 3:
        estimate = intervals.jackknife(
          lambda a, b, f=function: f(np.concatenate(a), np.concatenate(b)),
          intervals.split(fake[key], groups),
          intervals.split(real[key], groups),
        )
        interval = max(estimate.low, 0.0), estimate.high
      distance = function(fake[key], real[key])
      value = common.value(distance, interval, "lower", estimator, unit=unit)
      yield f"motion/{name}", value
    yield "motion/still_share", self._stills(common, fake, real)
    for name, estimator in _MEANS.items():
      for suffix, measured in (("", fake), ("_real", real)):
        value = self._mean(common, measured[name], estimator)
        yield f"motion/{name}{suffix}", value

  def _stills(self, common, fake, real) -> evals.Value:
    """The share of clips that move less than the stillest real ones do."""
    # At least the stillest of all: of few real clips it stands for the share.
    rank = max(1, int(self.share * len(real["amounts"])))
    threshold = np.sort(real["amounts"])[rank - 1]
    still, less = (x["amounts"] < threshold for x in (fake, real))
    return common.value(
      still.mean(),
      intervals.wilson(int(still.sum()), len(still)),
      "lower",
      "share of clips that move less than the stillest real ones; Wilson",
      note=f"of {len(less)} real clips {less.sum()} move less",
      threshold=float(threshold),
    )

  def _mean(self, common, rows, estimator) -> evals.Value:
    """The mean over the clips, of which real clips' is the best."""
    if isinstance(rows, str):
      return evals.missing(rows)
    rows = rows[np.isfinite(rows)]
    if not len(rows):
      return evals.missing("not computed: no clip of the set moves")
    interval = intervals.bootstrap(rows, 1000, self.seed)
    return common.value(rows.mean(), interval, "", estimator)


def _measures(videos: Iterable[np.ndarray]) -> dict[str, np.ndarray | str]:
  """All rows of a set of clips, one pass; a text where one needs a package."""
  measures = {
    "amounts": motion_lib.amounts,
    "speeds": motion_lib.speeds,
    "spectra": motion_lib.spectra,
    "arrows": motion_lib.arrows,
    "order": motion_lib.order,
    "warping_error": motion_lib.warping_errors,
  }
  parts = {name: [] for name in measures}
  for video in videos:
    for name, measure in measures.items():
      if isinstance(parts[name], str):
        continue
      try:
        parts[name].append(measure(video))
      except ValueError as error:
        if not str(error).startswith("not computed"):
          raise
        parts[name] = str(error)
  return {
    name: rows if isinstance(rows, str) else np.concatenate(rows)
    for name, rows in parts.items()
  }
