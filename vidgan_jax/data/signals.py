"""What a clip may carry: one table, one row a signal.

A source says in `spec` which signals its clips have. The clip ops act on axes:
a choice of frames picks along every `t`, a crop cuts every `h` and `w`, and
mirroring and playing backwards turn them. So a new signal is one row here; the
pipeline, the data in memory and the evaluation carry it like the others.

The functions work on arrays of any library: NumPy, jax, TensorFlow.
"""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
from typing import Any

import numpy as np

from vidgan_jax import errors
from vidgan_jax import rooms

Example = dict[str, Any]


class DataError(errors.UserError):
  """Data that cannot be what the config asks for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signal:
  """One row of `SIGNALS`.

  Attributes:
    axes: a letter for each: t frames (the first, where there is one), h and w
      pixels, c channels, n features, l places of a text.
    dtype: NumPy's; a batch holds this one.
    resize: how pixels between pixels are made: 'linear' or 'nearest'; None: it
      would not be true after `resize`, which is refused.
    between: an entry lies between two frames, so there are T - 1, and frames
      must stay the neighbours that they were.
    backwards: it is still true when the clip runs backwards.
    mirror: factors of the last axis when left and right change places.
    batched: whether a batch can hold it; text cannot go through jit.
  """

  axes: str
  dtype: Any
  resize: str | None = None
  between: bool = False
  backwards: bool = True
  mirror: tuple[float, ...] = ()
  batched: bool = True


SIGNALS = {
  "video": Signal(axes="thwc", dtype=np.uint8, resize="linear"),
  # Encoded pictures in place of `video`, which the ops decode.
  "frames": Signal(axes="t", dtype=object),
  # Seconds of each frame.
  "times": Signal(axes="t", dtype=np.float32),
  # Number of the class.
  "label": Signal(axes="", dtype=np.int32),
  # What the clip shows, as a user would write it.
  "caption": Signal(axes="", dtype=object, batched=False),
  # The caption's tokens, from 1 on; 0 behind the last.
  "text": Signal(axes="l", dtype=np.int32),
  # Or what a frozen encoder made of them; zeros behind the last.
  "text_vectors": Signal(axes="ln", dtype=np.float32),
  # What sounds while a frame is shown.
  "sound": Signal(axes="tn", dtype=np.float32, backwards=False),
  # What is seen at each pixel, by number; 0 is the background.
  "layout": Signal(axes="thw", dtype=np.uint8, resize="nearest"),
  # (x, y) pixels from each frame to the next.
  "flow": Signal(
    axes="thwc",
    dtype=np.float32,
    between=True,
    backwards=False,
    mirror=(-1, 1),
  ),
}


def known(names: Iterable[str], batched: bool = False) -> list[str]:
  """Those of the names that are signals; `batched`: that a batch can hold."""
  names = set(names)
  return [
    k for k, s in SIGNALS.items() if k in names and (s.batched or not batched)
  ]


def along(letter: str, names: Iterable[str]) -> list[str]:
  """Those of the names that are signals with this axis."""
  return [k for k in known(names) if letter in SIGNALS[k].axes]


# ------------------------------------------------------------ ops on the axes


def at_frames(example: Example, index: Any, take: Callable) -> Example:
  """Every signal of time, at some frames.

  Args:
    example: signals of one clip.
    index: (T,) numbers of frames.
    take: (array, index) -> array[index], of the array library.

  Returns:
    The signals that have changed; of those between frames T - 1 entries.
  """
  return {
    k: take(example[k], index[:-1] if SIGNALS[k].between else index)
    for k in along("t", example)
  }


def window(
  example: Example,
  corner: tuple[Any, Any],
  size: tuple[int, int],
  cut: Callable,
) -> Example:
  """Every signal of pixels, cropped.

  Args:
    example: signals of one clip.
    corner: row and column where the window begins.
    size: its height and width.
    cut: (array, begin, size) -> the box, of the array library; a size of -1
      is all of that axis.

  Returns:
    The signals that have changed.
  """
  out = {}
  for k in along("h", example):
    axes = SIGNALS[k].axes
    begin = dict(zip("hw", corner))
    sizes = dict(zip("hw", size))
    out[k] = cut(
      example[k],
      [begin.get(a, 0) for a in axes],
      [sizes.get(a, -1) for a in axes],
    )
  return out


def backwards(example: Example) -> Example:
  """The signals that change when the clip runs backwards; times still rise."""
  times = example["times"]
  turned = {k: example[k][::-1] for k in along("t", example)}
  return turned | {"times": times[0] + times[-1] - times[::-1]}


def mirrored(example: Example) -> Example:
  """The signals that change when left and right change places."""
  out = {}
  for k in along("w", example):
    before = (slice(None),) * SIGNALS[k].axes.index("w")
    out[k] = example[k][(*before, slice(None, None, -1))]
    if SIGNALS[k].mirror:
      out[k] = out[k] * np.array(SIGNALS[k].mirror, SIGNALS[k].dtype)
  return out


def untrue(
  op: str, stride: int, names: Iterable[str]
) -> tuple[str, str] | None:
  """The first signal that an op would make untrue, and why; None: it may."""
  apart = op in ("reverse", "fps", "sparse") or stride > 1
  for k in known(names):
    signal = SIGNALS[k]
    if op == "resize" and "h" in signal.axes and not signal.resize:
      return k, "it cannot be resized"
    if signal.between and apart:
      return k, "it leads from each frame to the next"
    if op == "reverse" and not signal.backwards:
      return k, "it does not run backwards"
  return None


# ----------------------------------------------------------------- the task


class Asked(dict):
  """An example that says what it has when a task asks for something else."""

  def __missing__(self, name: str) -> Any:
    raise errors.UserError(
      f"The task asks for the signal {name!r}, but the clips have "
      f"{', '.join(map(repr, self)) or 'none'} alone. "
      + (
        "Choose a source that gives it (of captions config.data.text makes "
        "'text' or 'text_vectors'; sprites gives the others, named in "
        "config.data.options.supervision), or set config.task to what the "
        "clips have."
        if name in SIGNALS
        else "There is no such signal. " + rooms.nearest(name, SIGNALS)
      )
    )


def prepared(prepare: Callable | None, example: Example, seed: Any) -> Any:
  """What the task makes of an example.

  Args:
    prepare: of the task; None: the example as it is.
    example: signals of one clip.
    seed: as `prepare` takes it.

  Returns:
    What `prepare` returns, and beside it the signals of pixels that the task
    has not given: losses may look at them.
  """
  if prepare is None:
    return example
  out = prepare(Asked(example), seed)
  beside = set(along("h", example)) - {"video", *out["given"]}
  return {k: example[k] for k in sorted(beside)} | out
