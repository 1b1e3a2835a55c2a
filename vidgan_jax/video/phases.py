"""Frames at the times of an even grid, each made at its own phase.

A stage that has an `fps` is shown the frames that there are and, between them,
those that are wanted, marked unknown by the mask. What is not on the grid is
dropped behind it. Of 24 frames a second so become 60: the first one, two at 0.4
and 0.8 of the way to the second, two at 0.2 and 0.6 from there to the third.

Across a scene cut, and where two frames are too far apart for the stage to see
both, nothing is made up: the nearest frame is shown.
"""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import fractions
import itertools
from typing import Any

import numpy as np

from vidgan_jax.video import edits
from vidgan_jax.video import read
from vidgan_jax.video import stream

MOST = 8  # unknown frames in a row: so far a model looks for a known one
# Seconds. A frame so near to the grid is on it: containers round their times.
NEAR = fractions.Fraction(1, 1000)


def check(name: str, *, rate: Any, fps: Any) -> None:
  """Checks the options of what makes frames between frames; None: not given.

  Raises:
    read.VideoError: says in which range they are.
  """
  number = isinstance(fps, (int, float, fractions.Fraction))
  if fps is not None and not (number and 0 < fps <= 1000):
    raise read.VideoError(
      f"The option fps of {name} is {fps!r}: give frames a second, above 0 and "
      "at most 1000."
    )
  # With more in a row than `MOST` a model would not see a known frame.
  whole = isinstance(rate, int) and 2 <= rate <= MOST + 1
  if rate is not None and (fps is not None or not whole):
    raise read.VideoError(
      f"The option rate of {name} is {rate!r}: give how many frames one "
      f"becomes, 2 to {MOST + 1}, and no fps beside it."
    )


def around(step: stream.Step) -> list[stream.Step]:
  """What a step of a chain stands for: of a stage with an `fps` three."""
  if not step.fps or not isinstance(step, stream.Stage):
    return [step]
  rate = fractions.Fraction(step.fps).limit_denominator(1001)
  marks = collections.deque()
  return [Ask(fps=rate, marks=marks), step, Pick(fps=rate, marks=marks)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ask(stream.Step):
  """Puts unknown frames between the known ones.

  Attributes:
    fps: of the grid, which starts at the first frame, on the input's clock:
      with `--speed 0.5` half as many come out.
    marks: of each frame on its way to `Pick`, its time on the grid, None if it
      is not there, and the mask that it came with.
  """

  fps: fractions.Fraction
  marks: collections.deque = dataclasses.field(repr=False)
  name = "ask"

  def frames(self, frames: Iterable[stream.Frame]) -> Iterator[stream.Frame]:
    """Frames with images -> the same, masked, and those that are wanted."""
    self.marks.clear()
    held, start, k = None, None, 0
    for frame in itertools.chain(frames, [None]):
      if held is None:
        start = frame and frame.time
      else:
        end = frame.time if frame else held.time + held.duration
        wanted = []
        while start + k / self.fps < end - NEAR:
          wanted.append(start + k / self.fps)
          k += 1
        own = None
        if wanted and wanted[0] <= held.time + NEAR:
          own = wanted.pop(0)
        yield self._masked(held, own, False)
        yield from self._between(held, frame, wanted)
      held = frame

  def _between(self, before, after, times) -> Iterator[stream.Frame]:
    """Frames at these times."""
    apart = after is None or after.shot != before.shot or len(times) > MOST
    for time in times:
      nearest = before
      if after is not None and 2 * time > before.time + after.time:
        nearest = after
      copy = dataclasses.replace(nearest, time=time)
      if not apart:
        # What there would be without a network: `--strength` mixes it in.
        share = (time - before.time) / (after.time - before.time)
        copy.image = edits.mixed(before.image, after.image, float(share))
        copy.picture = None
      yield self._masked(copy, time, not apart)

  def _masked(self, frame, time, unknown) -> stream.Frame:
    self.marks.append((time, frame.mask))
    mask = np.full(frame.image.shape[:2], unknown)
    return dataclasses.replace(frame, mask=mask)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pick(stream.Step):
  """Keeps what is on the grid, see `Ask`."""

  fps: fractions.Fraction
  marks: collections.deque = dataclasses.field(repr=False)
  name = "pick"

  def frames(self, frames: Iterable[stream.Frame]) -> Iterator[stream.Frame]:
    """Frames that `Ask` let through -> those of the grid, with their masks."""
    for frame in frames:
      time, mask = self.marks.popleft()
      if time is not None:
        yield dataclasses.replace(
          frame, time=time, duration=1 / self.fps, mask=mask
        )
