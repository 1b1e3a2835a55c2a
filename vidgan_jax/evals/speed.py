"""Speed of sampling on this machine."""

from collections.abc import Iterator
import dataclasses
import time

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """Times `model.clips`, pixels on the host included.

  Attributes:
    num: clips in one timed call.
    repeats: timed calls; the median counts.
  """

  num: int = 64
  repeats: int = 5

  def run(self, model, source) -> Iterator[tuple[str, float]]:
    """Yields clips/s, and the latency of a single clip in milliseconds."""
    del source
    rate = self.num / self._seconds(model, self.num)
    yield "speed/clips_per_second", rate
    yield "speed/ms_per_single_clip", 1e3 * self._seconds(model, 1)

  def _seconds(self, model, num):
    times = []
    for i in range(self.repeats + 1):  # The first one may compile.
      start = time.perf_counter()
      model.clips(i, num, batch=num)
      times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))
