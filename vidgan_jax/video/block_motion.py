"""Frames between frames by block motion, for which no network is needed.

  BlockMotion(rate=2).frames(frames)    or    BlockMotion(fps=60).frames(frames)

libavfilter's minterpolate estimates the motion of blocks both ways, by the
search of Tourapis 2002 (EPZS), and mixes overlapping blocks along it. It gets
the frames with places for times: whole places are where frames are wanted.
"""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import fractions
import itertools
import math

import numpy as np

from vidgan_jax.video import edits
from vidgan_jax.video import filters
from vidgan_jax.video import phases
from vidgan_jax.video import stream

# scd: cuts are known already.
_FILTER = "minterpolate=mi_mode=mci:mc_mode=aobmc:vsbmc=1:scd=none:"
_LEAST = 32  # pixels a side that the filter takes
# Ticks from place to place. The filter itself knows 1024 phases.
_TICK = fractions.Fraction(1, 5040)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Placed:
  """A known frame, its place, and which run of even motion it belongs to."""

  place: fractions.Fraction
  frame: stream.Frame
  run: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockMotion(stream.Step):
  """Makes frames between frames by block motion.

  Known frames stay as they are, and those between have 8 bits. Across a cut,
  and with `fps` in a pause (see `phases`), the nearest frame is shown.

  Attributes:
    rate: frames of the result for each step from frame to frame.
    fps: frames a second of the result in place of a rate.
    estimate: 'bidir' or 'bilat', how the motion is estimated.
    strength: 0 shows the mean of the known frames, 1 the moved blocks.
  """

  rate: int = 3
  fps: float | None = None
  estimate: str = "bidir"
  strength: float = 1.0
  name, temporal = "interpolate", True

  def needs(self, skip: int) -> int:
    """None: a search begins with the motion that was found before."""
    del skip
    return 0

  def frames(self, frames: Iterable[stream.Frame]) -> Iterator[stream.Frame]:
    """Frames with images -> the same and those between, or those of a grid."""
    last = None
    runs = itertools.groupby(self._placed(frames), key=lambda known: known.run)
    for _, run in runs:
      first = next(run)
      if last is not None:
        yield from _held(last, first)
      known = collections.deque()
      yield from self._moved(itertools.chain([first], run), known)
      last = known[-1]
    if last is not None:
      yield from _held(last, self._end(last))

  def _placed(self, frames: Iterable[stream.Frame]) -> Iterator[_Placed]:
    """Places: number * rate, or (time - time of the first frame) * fps."""
    before = start = None
    for number, frame in enumerate(frames):
      place = fractions.Fraction(number * self.rate)
      if self.fps:
        start = frame.time if start is None else start
        place = self._near((frame.time - start) * self._grid)
        frame = dataclasses.replace(frame, time=start + place / self._grid)
      run = 0 if before is None else before.run
      run += before is not None and (
        frame.shot != before.frame.shot
        or place - before.place > phases.MOST + 1
      )
      before = _Placed(place=place, frame=frame, run=run)
      yield before

  @property
  def _grid(self) -> fractions.Fraction:
    return fractions.Fraction(self.fps).limit_denominator(1001)

  def _near(self, place: fractions.Fraction) -> fractions.Fraction:
    """A place, or the whole one that it is meant to be."""
    whole = round(place)
    return whole if abs(place - whole) <= phases.NEAR * self._grid else place

  def _end(self, last: _Placed) -> _Placed:
    """Where the last frame is no longer shown."""
    frame = last.frame
    place = last.place + 1
    if self.fps:
      place = self._near(last.place + frame.duration * self._grid)
    after = dataclasses.replace(frame, time=frame.time + frame.duration)
    return dataclasses.replace(last, place=place, frame=after)

  def _moved(
    self, run: Iterable[_Placed], known: collections.deque
  ) -> Iterator[stream.Frame]:
    """Frames at the whole places of a run, without its last known frame.

    Args:
      run: one or more.
      known: gets what is taken of them; the last one is left in it.
    """

    def padded():
      # The filter looks two frames ahead and needs some before it begins: the
      # first and the last frame are repeated there.
      for placed in run:
        beyond = (0,) if known else (-2, -1, 0)
        known.append(placed)
        yield from self._shown(placed, beyond)
      yield from self._shown(placed, (1, 2))

    # The filter rounds phases best if one tick is from frame to frame.
    base = _TICK if self.fps else fractions.Fraction(1)
    options = f"fps={self._clock}:me_mode={self.estimate}"
    for made in filters.filtered(
      padded(), _FILTER + options, flag=self.name, base=base
    ):
      place = round(made.time * self._clock)
      while len(known) > 1 and known[1].place <= place:
        known.popleft()
      if len(known) > 1 and known[0].place <= place:
        yield self._mixed(place, made.image, known[0], known[1])

  @property
  def _clock(self) -> int:
    """Places a second of the filter's clock."""
    return 1 if self.fps else self.rate

  def _shown(self, placed, beyond) -> Iterator[stream.Frame]:
    """What the filter is shown of a frame: it, so many frames away."""
    image = placed.frame.image
    lack = [(0, max(0, _LEAST - side)) for side in image.shape[:2]]
    image = np.pad(image, (*lack, (0, 0)), "edge")
    for k in beyond:
      time = (placed.place + k * self.rate) / self._clock
      yield dataclasses.replace(
        placed.frame, image=image, alpha=None, time=time
      )

  def _mixed(self, place, image, before, after) -> stream.Frame:
    height, width = before.frame.image.shape[:2]
    image = image[:height, :width]
    share = (place - before.place) / (after.place - before.place)
    if not share:
      image = before.frame.image
    elif self.strength < 1:
      mean = edits.mixed(before.frame.image, after.frame.image, float(share))
      image = edits.mixed(mean, image, self.strength)
    return _at(place, image, before, after)


def filled(
  clip: np.ndarray, known: np.ndarray, estimate: str = "bidir"
) -> np.ndarray:
  """(T, H, W, 3) integers -> those from the first known frame to the last.

  Args:
    clip: frames at even times.
    known: numbers of those that are known, rising; the others are made anew.
    estimate: see `BlockMotion`.
  """
  second = fractions.Fraction(1)
  frames = (
    stream.Frame(time=int(i) * second, duration=second, image=clip[i])
    for i in known
  )
  step = BlockMotion(fps=1, estimate=estimate)
  return np.stack([frame.image for frame in step.frames(frames)])


def _held(before: _Placed, after: _Placed) -> Iterator[stream.Frame]:
  """The nearer frame, at the whole places from one to the next."""
  for place in range(math.ceil(before.place), math.ceil(after.place)):
    nearest = before
    if 2 * place > before.place + after.place:
      nearest = after
    yield _at(place, nearest.frame.image, before, after)


def _at(place, image, before, after) -> stream.Frame:
  """A frame at a place, times being on a line between two known ones."""
  step = (after.frame.time - before.frame.time) / (after.place - before.place)
  return dataclasses.replace(
    before.frame,
    time=before.frame.time + (place - before.place) * step,
    duration=step,
    image=image,
    picture=None,
  )
