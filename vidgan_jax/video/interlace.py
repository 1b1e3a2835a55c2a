"""Interlaced pictures, whose lines are of two times, become whole ones.

Such a picture holds two fields: the even lines were taken at one time, the odd
lines half a frame later. What moves has combs, which a network would enlarge or
learn. `whole` keeps the first field and makes the other lines from it and from
the pictures before and after, by FFmpeg's bwdif (Weston three-field filter with
yadif's check; T. Mundt, J. Cowgill, FFmpeg 2016).
"""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import fractions

import av

from vidgan_jax.video import read

# One picture for one, the order of fields as each says, the others as they are.
_FILTER = "bwdif", "mode=send_frame:parity=auto:deint=interlaced"


def whole(
  pictures: Iterable[tuple[av.VideoFrame, fractions.Fraction]],
  count: Callable[[], None] = lambda: None,
  make: bool = True,
) -> Iterator[tuple[av.VideoFrame, fractions.Fraction]]:
  """Pictures without combs; those before the first interlaced one as they are.

  Args:
    pictures: as they are stored, with their times; see `Reader.pictures`.
    count: is called for each one that says that it is interlaced.
    make: False: they stay as they are.

  Yields:
    As many pictures with the same times.
  """
  filters, kind, times = None, None, collections.deque()
  for picture, time in pictures:
    # PNG calls the order in which it stores pixels so.
    combed = picture.interlaced_frame and not picture.format.is_rgb
    if combed:
      count()
    this = picture.format.name, picture.height, picture.width
    if filters and this != kind:
      yield from _made(filters, None, times)
      filters = None
    if filters is None and make and combed:
      filters, kind = read.graph_of(*this, _FILTER), this
    if filters is None:
      yield picture, time
    else:
      times.append((time, picture.duration, picture.time_base))
      yield from _made(filters, picture, times)
  if filters:
    yield from _made(filters, None, times)


def _made(filters, picture, times):
  """Gives a picture, or None at the end; yields what is done, with its time."""
  filters.push(picture)
  with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
    while True:
      made = filters.pull()
      time, made.duration, made.time_base = times.popleft()
      yield made, time
