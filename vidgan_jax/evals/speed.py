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
  """Times `sampler.clips`, pixels on the host included.

  Attributes:
    num: clips in one timed call.
    repeats: timed calls; the median counts, and its interval is from the
      fastest to the slowest: for 5 repeats one of 94 %.
  """

  num: int = 64
  repeats: int = 5

  def run(self, sampler, reference) -> Iterator[tuple[str, evals.Value]]:
    """Yields clips/s, latency, time a frame, parameters, FLOPs and memory."""
    del reference
    if isinstance(sampler, evals.Reference):
      reason = "not computed: files have no speed, a checkpoint has"
      yield "speed/clips_per_second", evals.missing(reason)
      return
    device = jax.devices()[0]
    common = evals.Measurement(
      protocol={
        "device": f"{device.device_kind} x {jax.device_count()}",
        "repeats": self.repeats,
        "num": self.num,
      }
    )

    def timed(numbers, unit, better="lower", estimator="", **facts):
      """The median of the repeats; the interval is from end to end."""
      ends = float(min(numbers)), float(max(numbers))
      return common.value(
        np.median(numbers),
        ends if len(numbers) > 1 else None,
        better,
        estimator,
        unit=unit,
        reason="timed once",
        **facts,
      )

    seconds, shape = self._seconds(sampler, self.num)
    rate = timed(self.num / seconds, "clips/s", "higher")
    yield "speed/clips_per_second", rate
    frame = 1e3 * seconds / (self.num * shape[1])
    yield "speed/ms_per_frame", timed(frame, "ms", size=[*shape[1:4]])
    single, _ = self._seconds(sampler, 1)
    yield "speed/ms_per_single_clip", timed(1e3 * single, "ms")
    try:
      first, _ = self._seconds(sampler, 1, np.float32(sampler.times[:1]))
      how = "one clip, its first frame drawn by itself"
    except ValueError:  # A generator of clips of one length.
      first, how = single, "one clip: its first frame comes with its last"
    yield "speed/ms_to_first_frame", timed(1e3 * first, "ms", estimator=how)
    size = sum(map(np.size, jax.tree.leaves(sampler.params)))
    yield "speed/parameters", common.value(size, None, "", reason="counted")
    flops, how = sampler.flops(), "XLA's cost analysis of one clip"
    if flops is None:
      value = evals.missing("not computed: XLA does not say")
    else:
      value = common.value(
        flops / 1e9, None, "lower", how, unit="GFLOP", reason="counted"
      )
    yield "speed/gflop_per_clip", value
    memory, whose = _memory(device)
    value = common.value(
      memory / 2**20, None, "lower", whose, unit="MiB", reason="a maximum"
    )
    yield "speed/peak_mib", value

  def _seconds(self, sampler, num, times=None):
    """Seconds of each repeat, and the shape of the clips."""
    seconds = []
    for i in range(self.repeats + 1):  # The first one may compile.
      start = time.perf_counter()
      video = sampler.clips(sampler.ask(num), i, batch=num, times=times)
      seconds.append(time.perf_counter() - start)
    return np.array(seconds[1:]), video.shape


def _memory(device) -> tuple[float, str]:
  """Bytes, and whose."""
  stats = device.memory_stats() or {}
  if "peak_bytes_in_use" in stats:
    return stats["peak_bytes_in_use"], "peak of the device since the start"
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  unit = 1 if sys.platform == "darwin" else 1024
  return peak * unit, "peak of the process since the start"
