"""How long a file would take: `vidgan process --probe`."""

from collections.abc import Callable
import dataclasses
import os
import resource
import sys
import tempfile
import time

from vidgan_jax.video import job
from vidgan_jax.video import plan
from vidgan_jax.video import stream

_PATIENCE = 20.0  # seconds after which two windows must do for --probe


def forecast(
  stages: list[stream.Step],
  path: str,
  out: str,
  options: plan.Options,
  progress: Callable[[int, int], None] = lambda done, total: None,
) -> str:
  """Predicts time and memory from the first windows; writes nothing.

  Args:
    stages: see `job.process`.
    path: what would come in.
    out: where it would go to.
    options: how.
    progress: takes (frames tried, frames in all or 0).

  Returns:
    A line.

  Raises:
    read.VideoError: it could not be done.
  """
  with tempfile.TemporaryDirectory() as scratch:
    kind = plan.container(out, options.format, path)
    options = dataclasses.replace(options, format=kind, resume=False)
    totals, began = [], time.perf_counter()
    at_a_time = step(stages, options.chunk)

    def enough(frames: int) -> bool:
      late = time.perf_counter() - began > _PATIENCE
      return frames >= (2 if late else 4) * at_a_time

    def note(done: int, total: int) -> None:
      totals.append(total)
      progress(done, total)

    summary = job.process(
      stages, path, os.path.join(scratch, "probe"), options, progress=note,
      enough=enough,
    )  # fmt: skip
  marks = summary.marks
  # The first window compiles, and fills the queues. Later ones are taken whole.
  span = max(0, len(marks) // at_a_time - 1) * at_a_time or len(marks) - 1
  rate = span / max(marks[-1] - marks[-1 - span], 1e-6)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  peak /= 2**20 if sys.platform == "darwin" else 2**10
  total = max(totals[-1], summary.frames)
  begin = marks[0] - (marks[-1] - summary.seconds)
  need = begin + total / rate if rate else summary.seconds
  return (
    f"{path}: about {clock_text(need)} for {total} frames ({rate:.1f}"
    f" frames/s after {begin:.1f} s), {peak:.0f} MiB of memory"
  )


def step(stages: list[stream.Step], chunk: int) -> int:
  """Frames of the result that come at a time, a window of a stage."""
  frames = 8
  for stage in stages:
    if isinstance(stage, stream.Stage):
      runner = stream.Runner(stage, chunk=chunk)
      frames = max(frames * stage.rate, runner.step)
  return frames


def clock_text(value: float) -> str:
  """Seconds as M:SS or H:MM:SS."""
  minutes, rest = divmod(round(value), 60)
  hours, minutes = divmod(minutes, 60)
  return (
    f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
  )
