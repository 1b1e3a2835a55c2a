"""Clip ops, written once for NumPy and jax.numpy.

A random op draws uniform numbers from a stream of its own, `draw(n) -> (n,)`,
which depends on (seed, position, place of the op) and on nothing else.
"""

from collections.abc import Callable
from collections.abc import Iterable
import io
import operator
from typing import Any

import jax
import numpy as np
from PIL import Image

from vidgan_jax import config
from vidgan_jax.data import oplang
from vidgan_jax.data import signals


def build(
  text: str | list[oplang.Op],
) -> Callable[[signals.Example, Any], signals.Example]:
  """Clip ops in NumPy: fn(example, seed) -> example.

  The example is as a source gives it: `video` (T, H, W, C) uint8 or `frames`
  (T,) of encoded pictures, decoded as soon as pixels are needed and, after a
  choice of frames, only the chosen ones. `seed` is an int or a tuple of them.
  What `signals.SIGNALS` does not name is dropped.
  """
  ops = oplang.plan(text) if isinstance(text, str) else text

  def on_clip(example, seed):
    example = {k: example[k] for k in signals.known(example)}
    for i, op in enumerate(ops):
      rng = np.random.default_rng([*np.atleast_1d(seed).tolist(), i])
      draw = lambda n, rng=rng: rng.random(n, np.float32)
      example = apply(np, op, example, draw)
    return decoded(example)

  return on_clip


def apply(
  xp: Any, op: oplang.Op, example: signals.Example, draw: Callable
) -> signals.Example:
  """One op on one example, in NumPy or (a video, no `frames`) jax.numpy."""
  name, kwargs = op
  check_signals(op, example)
  if name in oplang.SELECTIONS:
    length = example["times"].shape[0]
    if length < oplang.span(op):
      raise signals.DataError(oplang.too_short(op, length))
    start, index = choose(xp, op, length, draw)
    shown = signals.at_frames(example, index, operator.getitem)
    return example | shown | {"times": shown["times"] - example["times"][start]}
  if name == "fps":
    return _fps(example, kwargs["rate"])
  if name == "shift_time":
    shift = draw(1)[0] * np.float32(kwargs["seconds"])
    return example | {"times": example["times"] + shift}
  example = decoded(example)
  video = example["video"]
  if name == "value_range":
    lo, hi = np.float32(kwargs["lo"]), np.float32(kwargs["hi"])
    video = video.astype(xp.float32) / np.float32(255) * (hi - lo) + lo
    return example | {"video": video}
  if name == "resize":
    return example | {
      k: _resize(example[k], kwargs["size"], signals.SIGNALS[k].resize)
      for k in signals.along("h", example)
    }
  if name in ("reverse", "flip_lr"):
    yes = draw(1)[0] < 0.5
    turn = signals.backwards if name == "reverse" else signals.mirrored
    turned = turn(example)
    return example | {
      k: xp.where(yes, v, example[k]) for k, v in turned.items()
    }
  h, w = kwargs["height"], kwargs["width"]
  if video.shape[1] < h or video.shape[2] < w:
    raise signals.DataError(oplang.too_small(op, *video.shape[1:3]))
  rows, columns = video.shape[1] - h, video.shape[2] - w
  if name == "center_crop":
    corner = rows // 2, columns // 2
  else:
    u = draw(2)
    corner = _integer(xp, u[0], rows + 1), _integer(xp, u[1], columns + 1)
  cut = _cut if xp is np else _cut_traced
  return example | signals.window(example, corner, (h, w), cut)


def _cut(x: np.ndarray, begin: list[int], size: list[int]) -> np.ndarray:
  """The box of this size, -1 for all of an axis, that begins there."""
  ends = (None if n < 0 else b + n for b, n in zip(begin, size))
  return x[tuple(map(slice, begin, ends))]


def _cut_traced(x: jax.Array, begin: list[Any], size: list[int]) -> jax.Array:
  """The same under jit, where the corner is not known."""
  size = [x.shape[i] if n < 0 else n for i, n in enumerate(size)]
  return jax.lax.dynamic_slice(x, begin, size)


def choose(
  xp: Any, op: oplang.Op, length: Any, draw: Callable
) -> tuple[Any, jax.Array | np.ndarray]:
  """Where the window starts, and the (frames,) indices chosen, both int32."""
  name, kwargs = op
  choices = length - oplang.span(op) + 1
  if name == "first":
    start = 0 * choices
  elif name == "middle":
    start = (choices - 1) // 2
  else:
    start = _integer(xp, draw(1)[0], choices)
  if name != "sparse":
    return start, start + xp.arange(kwargs["frames"]) * kwargs["stride"]
  # The first number is the window's; the next ones rank its frames.
  ranks = xp.argsort(draw(1 + kwargs["span"])[1:])
  return start, start + xp.sort(ranks[: kwargs["frames"]])


def _integer(xp: Any, u: Any, n: Any) -> Any:
  """Uniform number in [0, 1) -> integer in [0, n)."""
  # The product can round up to n.
  return xp.minimum(xp.floor(u * n).astype(xp.int32), n - 1)


def _fps(example: signals.Example, rate: float) -> signals.Example:
  times = example["times"] - example["times"][0]
  count = _fps_count(times, rate)
  grid = np.arange(count, dtype=np.float32) / np.float32(rate)
  index = np.searchsorted((times[1:] + times[:-1]) / 2, grid)
  shown = signals.at_frames(example, index, operator.getitem)
  return example | shown | {"times": grid}


def _fps_count(times: np.ndarray, rate: float) -> int:
  length = np.float32(times[-1] - times[0])
  return int(np.floor(length * np.float32(rate) + np.float32(1e-3))) + 1


def resized(
  height: Any, width: Any, size: int, minimum: Callable = min
) -> tuple[Any, Any]:
  """Height and width when the shorter side becomes `size`, whole numbers."""
  short = minimum(height, width)
  scale = lambda x: (x * size + short // 2) // short
  return scale(height), scale(width)


def nearest(old: Any, new: Any, positions: Any) -> Any:
  """Which of `old` pixels is nearest to each of `new`, integers of any library.

  The centre of pixel i lies at (i + 1/2) old / new, in pixel floor of that.
  """
  return (2 * positions + 1) * old // (2 * new)


def _resize(x: np.ndarray, size: int, how: str) -> np.ndarray:
  """(T, H, W, ...) with the shorter side of `size` pixels."""
  h, w = x.shape[1:3]
  new_h, new_w = resized(h, w, size)
  if (h, w) == (new_h, new_w):
    return x
  if how == "nearest":
    rows = nearest(h, new_h, np.arange(new_h))
    columns = nearest(w, new_w, np.arange(new_w))
    return x[:, rows][:, :, columns]
  # One channel at a time unless Pillow has a mode for them all.
  rgb = x.shape[3:] == (3,) and x.dtype == np.uint8
  planes = x if rgb else np.moveaxis(x.reshape(*x.shape[:3], -1), -1, 1)
  out = np.stack(
    [
      np.asarray(
        Image.fromarray(p).resize((new_w, new_h), Image.Resampling.BILINEAR)
      )
      for p in (planes if rgb else planes.reshape(-1, h, w))
    ]
  )
  if rgb:
    return out
  out = np.moveaxis(out.reshape(*planes.shape[:2], new_h, new_w), 1, -1)
  return out.reshape(len(x), new_h, new_w, *x.shape[3:])


def _frame_size(example: signals.Example) -> tuple[int, int]:
  if "video" in example:
    return example["video"].shape[1:3]
  try:
    with Image.open(io.BytesIO(example["frames"][0])) as picture:
      return picture.height, picture.width
  except (OSError, ValueError, SyntaxError) as e:
    raise signals.DataError(f"its first frame is not a picture: {e}") from e


def decoded(example: signals.Example) -> signals.Example:
  """Replaces `frames` by `video`."""
  if "frames" not in example:
    return example
  video = []
  for i, data in enumerate(example["frames"]):
    try:
      with Image.open(io.BytesIO(data)) as picture:
        video.append(np.asarray(picture.convert("RGB")))
    except (OSError, ValueError, SyntaxError) as e:
      raise signals.DataError(f"picture {i} cannot be decoded: {e}") from e
  out = {k: v for k, v in example.items() if k != "frames"}
  if len({v.shape for v in video}) > 1:
    raise signals.DataError("its pictures are of different sizes")
  return out | {"video": np.stack(video)}


def check_signals(op: oplang.Op, example: signals.Example) -> None:
  """Raises ConfigError if after the op a signal would no longer be true."""
  broken = signals.untrue(op[0], op[1].get("stride", 1), example)
  if broken:
    raise config.ConfigError(
      f"The op {oplang.show(op)} in config.data cannot be done to clips with "
      f"the signal {broken[0]!r}, which would no longer be true: {broken[1]}. "
      "Take the op out, or the signal (of sprites: "
      "config.data.options.supervision)."
    )


def check_usable(example: signals.Example, ops: list[oplang.Op]) -> None:
  """Raises DataError if the ops ask for more frames or pixels than there are.

  Needs no pixels: of encoded pictures it reads the header of the first.
  """
  kind = "frames" if "frames" in example else "video"
  length, times = len(example[kind]), np.asarray(example["times"])
  if length != len(times) or not length:
    raise signals.DataError(f"it has {length} frames and {len(times)} times")
  for name in signals.along("t", example):
    wanted = length - signals.SIGNALS[name].between
    if len(example[name]) != wanted:
      raise signals.DataError(
        f"it has {length} frames and {len(example[name])} entries of "
        f"{name!r}, not {wanted}"
      )
  if any(not np.any(example[name]) for name in signals.along("l", example)):
    raise signals.DataError("its caption is empty")
  size = None
  for op in ops:
    if op[0] == "fps":
      length = _fps_count(times, op[1]["rate"])
    elif op[0] in oplang.SELECTIONS:
      if length < oplang.span(op):
        raise signals.DataError(oplang.too_short(op, length))
      length = op[1]["frames"]
    elif op[0] in ("resize", "crop", "center_crop"):
      if size is None:
        size = _frame_size(example)
      if op[0] == "resize":
        size = resized(*size, op[1]["size"])
        continue
      window = op[1]["height"], op[1]["width"]
      if size[0] < window[0] or size[1] < window[1]:
        raise signals.DataError(oplang.too_small(op, *size))
      size = window


def seconds(ops: list[oplang.Op], times: Iterable[np.ndarray]) -> float:
  """The largest time that a clip can have after the ops.

  Args:
    ops: clip ops, with a choice of frames.
    times: (T,) of each clip of the source.
  """
  window, most = oplang.span(oplang.selection(ops)), 0.0
  shift = sum(o[1]["seconds"] for o in ops if o[0] == "shift_time")
  for op in ops:
    if op[0] == "fps":
      return (window - 1) / op[1]["rate"] + shift
  for t in times:
    if len(t) >= window:
      most = max(
        most, float(np.max(t[window - 1 :] - t[: len(t) - window + 1]))
      )
  return most + shift
