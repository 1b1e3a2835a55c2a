"""`speed`: what sampling costs on this machine, and how soon it begins."""

from collections.abc import Iterator
import dataclasses
import resource
import sys
import time

import jax
import numpy as np

from vidgan_jax import evals


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """Times `model.clips`, pixels on the host included.

  Attributes:
    num: clips in one timed call.
    repeats: timed calls; the median counts, and its interval is from the
      fastest to the slowest: for 5 repeats one of 94 %.
  """

  num: int = 64
  repeats: int = 5

  def run(self, model, source) -> Iterator[tuple[str, evals.Value]]:
    """Yields clips/s, latency, time a frame, parameters, FLOPs and memory."""
    del source
    if not hasattr(model, "params"):
      yield (
        "speed/clips_per_second",
        evals.missing("not computed: files have no speed, a checkpoint has"),
      )
      return
    device = jax.devices()[0]
    facts = {
      "device": f"{device.device_kind} x {jax.device_count()}",
      "repeats": self.repeats,
      "num": self.num,
    }

    def value(number, **more):
      """Of one number, or of those of the repeats: their median and ends."""
      number, note = np.atleast_1d(number), ""
      ends = float(number.min()), float(number.max())
      if len(number) < 2:
        ends = None, None
        note = f"no interval: {more.pop('once', 'timed once')}"
      return evals.Value(
        float(np.median(number)), *ends, protocol={**facts, **more}, note=note
      )

    seconds, shape = self._seconds(model, self.num)
    yield "speed/clips_per_second", value(self.num / seconds)
    yield (
      "speed/ms_per_frame",
      value(1e3 * seconds / (self.num * shape[1]), size=list(shape[1:4])),
    )
    single, _ = self._seconds(model, 1)
    yield "speed/ms_per_single_clip", value(1e3 * single)
    try:
      first, _ = self._seconds(model, 1, np.float32(model.times[:1]))
      how = "one clip, its first frame drawn by itself"
    except ValueError:  # A generator of clips of one length.
      first, how = single, "one clip: its first frame comes with its last"
    yield "speed/ms_to_first_frame", value(1e3 * first, estimator=how)
    yield (
      "speed/parameters",
      value(
        sum(np.size(leaf) for leaf in jax.tree.leaves(model.params)),
        once="counted",
      ),
    )
    flops = model.flops() if hasattr(model, "flops") else None
    yield (
      "speed/gflop_per_clip",
      (
        evals.missing("not computed: XLA does not say")
        if flops is None
        else value(
          flops / 1e9,
          estimator="XLA's cost analysis of one clip",
          once="counted",
        )
      ),
    )
    memory, where = _memory(device)
    yield (
      "speed/peak_mib",
      value(memory / 2**20, estimator=where, once="a maximum"),
    )

  def _seconds(self, model, num, seconds=None):
    """Of each repeat, and the shape of the clips."""
    times = []
    for i in range(self.repeats + 1):  # The first one may compile.
      start = time.perf_counter()
      video, _ = model.clips(i, num, batch=num, times=seconds)
      times.append(time.perf_counter() - start)
    return np.array(times[1:]), video.shape


def _memory(device) -> tuple[float, str]:
  """Bytes, and whose."""
  stats = device.memory_stats() or {}
  if "peak_bytes_in_use" in stats:
    return stats["peak_bytes_in_use"], "peak of the device since the start"
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  unit = 1 if sys.platform == "darwin" else 1024
  return peak * unit, "peak of the process since the start"
