"""Clips from arrays in device memory: sampled inside jit, no TensorFlow.

Also here, because the tf.data pipeline and the evaluation share them: the
order in which clips are shown (`order`) and the clip ops in NumPy (`build`).

Ops are written once for NumPy and jax.numpy. A random op draws uniform numbers
from a stream of its own, `draw(n) -> (n,)`, which depends on (seed, position,
place of the op) and on nothing else.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import functools
import io
import logging
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax import config
from vidgan_jax import errors

Example = dict[str, Any]
Op = tuple[str, dict[str, Any]]

SELECTIONS = ("clip", "first", "middle", "sparse")
# What a source may know of pixels beside their colours: 'flow' (T-1, H, W, 2)
# float32, (x, y) pixels to the next frame, and 'layout' (T, H, W) uint8. They
# go through the ops with the video, and past the task into the batch.
MAPS = ("flow", "layout")
FIELDS = ("video", "frames", "times", "label", *MAPS)
# What these do to a frame does not depend on the clip that it is in.
_AT_LOAD = ("resize", "center_crop")
# Ops that do not look at pixels: an op of _AT_LOAD may be done before them.
_OF_TIME = (*SELECTIONS, "reverse", "shift_time")


class DataError(errors.UserError):
  """Data that cannot be what the config asks for."""


def order(seed: int, n: int, positions: np.ndarray) -> np.ndarray:
  """Which clip is shown at each position of the endless stream of clips.

  Position p is slot p % n of epoch p // n, and each epoch is a permutation of
  its own: every clip once. It depends on nothing but the arguments, so any
  process can ask for its part, from any step on.

  Args:
    seed: seed of the run.
    n: clips in the data set.
    positions: integers >= 0, any shape.

  Returns:
    Indices in [0, n), int64, of the same shape.
  """
  positions = np.asarray(positions, np.int64)
  epochs, slots = np.divmod(positions, n)
  out = np.empty_like(positions)
  for epoch in np.unique(epochs):
    here = epochs == epoch
    out[here] = _permutation(seed, n, int(epoch))[slots[here]]
  return out


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, n: int, epoch: int) -> np.ndarray:
  return np.random.default_rng([seed, epoch]).permutation(n)


# ---------------------------------------------------------------------- ops


def plan(text: str) -> list[Op]:
  """Parses and checks clip ops: [(name, arguments by name), ...].

  Raises:
    ConfigError: unknown op or argument, a value that makes no sense, or more
      than one choice of frames.
  """
  ops = []
  for name, kwargs in config.bind_ops(text):
    if "width" in kwargs and kwargs["width"] is None:
      kwargs["width"] = kwargs["height"]
    for key, value in kwargs.items():
      real = key in ("lo", "hi", "rate", "seconds")
      good = isinstance(value, int | float if real else int)
      low = {"lo": -np.inf, "hi": -np.inf, "seconds": 0, "rate": 1e-6}
      if not good or isinstance(value, bool) or value < low.get(key, 1):
        raise config.ConfigError(
          f"{key}={value!r} of the op {name!r} in {text!r} must be "
          + ("a number" if real else "a whole number of at least 1")
          + {"rate": " above 0", "seconds": ", 0 or more"}.get(key, "")
          + "."
        )
    if name == "sparse" and kwargs["frames"] > kwargs["span"]:
      raise config.ConfigError(
        f"the op {show((name, kwargs))} in {text!r} cannot find "
        f"{kwargs['frames']} different frames in a window of "
        f"{kwargs['span']}: raise span or lower frames."
      )
    if name == "value_range" and kwargs["lo"] >= kwargs["hi"]:
      raise config.ConfigError(
        f"the op {show((name, kwargs))} in {text!r} needs lo < hi."
      )
    ops.append((name, kwargs))
  if sum(name in SELECTIONS for name, _ in ops) > 1:
    raise config.ConfigError(
      f"{text!r} chooses frames more than once: keep one of "
      f"{', '.join(SELECTIONS)}."
    )
  return ops


def show(op: Op) -> str:
  """The op as a config would write it."""
  return f"{op[0]}({', '.join(f'{k}={v}' for k, v in op[1].items())})"


def span(op: Op) -> int:
  """Frames from the first to the last that a choice of frames may take."""
  name, kwargs = op
  if name == "sparse":
    return kwargs["span"]
  return (kwargs["frames"] - 1) * kwargs["stride"] + 1


def check_maps(op: Op, example: Example) -> None:
  """Raises ConfigError if after the op a map would no longer be true."""
  name, kwargs = op
  steps = name in ("reverse", "fps", "sparse") or kwargs.get("stride", 1) > 1
  broken = {"flow": steps or name == "resize", "layout": name == "resize"}
  for field in MAPS:
    if field in example and broken[field]:
      raise config.ConfigError(
        f"The op {show(op)} in config.data cannot be done to clips with the "
        f"field {field!r}, which would no longer be true. Layouts bear no "
        "resize, and flow, which leads from each frame to the next, no resize, "
        "reverse, fps, sparse or stride: take the op out, or the field (of "
        "sprites: config.data.options.supervision)."
      )


def prepared(prepare: Callable | None, example: Example, seed: Any) -> Any:
  """What the task makes of an example, and the maps of the clip beside it."""
  if prepare is None:
    return example
  maps = {k: example[k] for k in MAPS if k in example}
  return maps | prepare(example, seed)


def selection(ops: list[Op]) -> Op | None:
  """The op that chooses frames, if there is one."""
  return next((op for op in ops if op[0] in SELECTIONS), None)


def min_frames(ops: list[Op]) -> int:
  """Frames that a clip of the source must have; 1 where it cannot be said.

  After `fps` the number of frames is another, which only the clip knows.
  """
  chosen = selection(ops)
  if chosen is None or "fps" in [name for name, _ in ops]:
    return 1
  return span(chosen)


def too_short(op: Op, frames: int) -> str:
  """What to say of a clip that has fewer frames than the op takes."""
  return (
    f"it has {frames} frames and {show(op)} needs {span(op)}: ask for fewer "
    "frames or a smaller stride or span, or prepare longer clips"
  )


def no_selection(text: str) -> str:
  """What to say of ops for training that choose no frames."""
  return (
    f"{text!r} chooses no frames, and a batch needs clips of one length: "
    "begin with clip(16), say, or sparse(3, 16)."
  )


def say_dropped(name: str, dropped: int, n: int, chosen: Op) -> str:
  """One line on clips that are too short."""
  return (
    f"{name}: {dropped} of {n} clips are shorter than the {span(chosen)} "
    f"frames of {show(chosen)} and left out"
  )


def usable(source: Any, ops: list[Op], name: str) -> tuple[np.ndarray, int]:
  """Indices of clips long enough for the ops, as far as the source knows.

  A source may say how many frames its clips have in `lengths`, (N,) integers;
  where it does not, all clips are kept and short ones show when read.

  Returns:
    (indices, number of clips left out).

  Raises:
    DataError: no clip is left.
  """
  n, lengths = len(source), getattr(source, "lengths", None)
  if not n:
    raise DataError(no_clip(name, 0, None, ()))
  if lengths is None:
    return np.arange(n), 0
  index = np.flatnonzero(np.asarray(lengths) >= min_frames(ops))
  if not len(index):
    raise DataError(no_clip(name, n, selection(ops), lengths))
  return index, n - len(index)


def no_clip(name: str, n: int, chosen: Op | None, lengths: Any) -> str:
  """What to say of a source of which no clip is left."""
  if not n:
    return f"{name} is empty: was it prepared from the right folder?"
  return (
    f"{name} has no clip to use: of its {n} clips the longest has "
    f"{max(lengths)} frames, and {show(chosen)} needs {span(chosen)}. Ask for "
    "fewer frames or a smaller stride or span, or prepare longer clips."
  )


def check_usable(example: Example, ops: list[Op]) -> None:
  """Raises DataError if the ops ask for more frames or pixels than there are.

  Needs no pixels: of encoded pictures it reads the header of the first.
  """
  kind = "frames" if "frames" in example else "video"
  length, times = len(example[kind]), np.asarray(example["times"])
  if length != len(times) or not length:
    raise DataError(f"it has {length} frames and {len(times)} times")
  if "flow" in example and len(example["flow"]) != length - 1:
    raise DataError(
      f"it has {length} frames and {len(example['flow'])} fields of flow, not "
      f"{length - 1}"
    )
  size = None
  for op in ops:
    if op[0] == "fps":
      length = _fps_count(times, op[1]["rate"])
    elif op[0] in SELECTIONS:
      if length < span(op):
        raise DataError(too_short(op, length))
      length = op[1]["frames"]
    elif op[0] in ("resize", "crop", "center_crop"):
      if size is None:
        size = _frame_size(example)
      if op[0] == "resize":
        size = resized(*size, op[1]["size"])
        continue
      window = op[1]["height"], op[1]["width"]
      if size[0] < window[0] or size[1] < window[1]:
        raise DataError(too_small(op, *size))
      size = window


def check_label(
  example: Example, num_classes: int, clip: str, name: str
) -> None:
  """Raises DataError if the label is none of the classes."""
  label = example.get("label")
  if label is not None and num_classes and not 0 <= label < num_classes:
    raise DataError(
      f"The label of {clip} of {name} is {label}, out of range: its "
      f"{num_classes} classes are numbered 0 to {num_classes - 1}. Mend the "
      "labels and prepare the data set again."
    )


def reason(error: Exception) -> str:
  """An exception in one line."""
  text = " ".join(str(error).split()) or "no reason given"
  if not isinstance(error, DataError):
    text = f"{type(error).__name__}: {text}"
  return text[:300]


def seconds(ops: list[Op], times: Iterable[np.ndarray]) -> float:
  """The largest time that a clip can have after the ops.

  Args:
    ops: clip ops, with a choice of frames.
    times: (T,) of each clip of the source.
  """
  window, most = span(selection(ops)), 0.0
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


def build(text: str | list[Op]) -> Callable[[Example, Any], Example]:
  """Clip ops in NumPy: fn(example, seed) -> example.

  The example is as a source gives it: `video` (T, H, W, C) uint8 or `frames`
  (T,) of encoded pictures, decoded as soon as pixels are needed and, after a
  choice of frames, only the chosen ones. `seed` is an int or a tuple of them.
  Fields other than `FIELDS` are dropped.
  """
  ops = plan(text) if isinstance(text, str) else text

  def apply(example, seed):
    example = {k: example[k] for k in FIELDS if k in example}
    for i, op in enumerate(ops):
      rng = np.random.default_rng([*np.atleast_1d(seed).tolist(), i])
      draw = lambda n, rng=rng: rng.random(n, np.float32)
      example = _apply(np, op, example, draw)
    return _decoded(example)

  return apply


def _apply(xp: Any, op: Op, example: Example, draw: Callable) -> Example:
  """One op on one example, in NumPy or (a video, no `frames`) jax.numpy."""
  name, kwargs = op
  check_maps(op, example)
  if name in SELECTIONS:
    length = example["times"].shape[0]
    if length < span(op):
      raise DataError(too_short(op, length))
    start, index = _choose(xp, op, length, draw)
    times = example["times"]
    times = times[index] - times[start]
    return example | _pick(example, index) | {"times": times}
  if name == "fps":
    return _fps(example, kwargs["rate"])
  if name == "shift_time":
    shift = draw(1)[0] * np.float32(kwargs["seconds"])
    return example | {"times": example["times"] + shift}
  example = _decoded(example)
  video = example["video"]
  if name == "value_range":
    lo, hi = np.float32(kwargs["lo"]), np.float32(kwargs["hi"])
    video = video.astype(xp.float32) / np.float32(255) * (hi - lo) + lo
    return example | {"video": video}
  if name == "resize":
    return example | {"video": _resize(video, kwargs["size"])}
  if name in ("reverse", "flip_lr"):
    yes = draw(1)[0] < 0.5
    turn = {"reverse": backwards, "flip_lr": mirrored}[name](example)
    return example | {k: xp.where(yes, v, example[k]) for k, v in turn.items()}
  h, w = kwargs["height"], kwargs["width"]
  if video.shape[1] < h or video.shape[2] < w:
    raise DataError(too_small(op, video.shape[1], video.shape[2]))
  rows, columns = video.shape[1] - h, video.shape[2] - w
  if name == "center_crop":
    top, left = rows // 2, columns // 2
  else:
    u = draw(2)
    top, left = _integer(xp, u[0], rows + 1), _integer(xp, u[1], columns + 1)

  def window(v):
    if xp is np:
      return v[:, top : top + h, left : left + w]
    start = (0, top, left) + (0,) * (v.ndim - 3)
    return jax.lax.dynamic_slice(v, start, (v.shape[0], h, w, *v.shape[3:]))

  return example | {k: window(example[k]) for k in _of_pixels(example)}


def backwards(example: Example) -> Example:
  """What changes when the clip runs backwards, of any array library."""
  times = example["times"]
  turned = {k: example[k][::-1] for k in _of_pixels(example)}
  return turned | {"times": times[0] + times[-1] - times[::-1]}


def mirrored(example: Example) -> Example:
  """What changes when left and right change places, of any array library."""
  turned = {k: example[k][:, :, ::-1] for k in _of_pixels(example)}
  if "flow" in turned:
    turned["flow"] = turned["flow"] * np.array([-1, 1], np.float32)
  return turned


def _of_pixels(example: Example) -> list[str]:
  return [k for k in ("video", *MAPS) if k in example]


def _pick(example: Example, index: Any) -> Example:
  """Frames of these numbers, and what lies between them."""
  out = {k: example[k][index] for k in ("video", "frames", "layout")
         if k in example}  # fmt: skip
  if "flow" in example:
    out["flow"] = example["flow"][index[:-1]]
  return out


def _choose(
  xp: Any, op: Op, length: Any, draw: Callable
) -> tuple[Any, jax.Array | np.ndarray]:
  """Where the window starts, and the (frames,) indices chosen, both int32."""
  name, kwargs = op
  choices = length - span(op) + 1
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


def _fps(example: Example, rate: float) -> Example:
  times = example["times"] - example["times"][0]
  count = _fps_count(times, rate)
  grid = np.arange(count, dtype=np.float32) / np.float32(rate)
  index = np.searchsorted((times[1:] + times[:-1]) / 2, grid)
  return example | _pick(example, index) | {"times": grid}


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


def too_small(op: Op, height: int, width: int) -> str:
  """What to say of frames that are smaller than the crop."""
  return (
    f"its frames are {height}x{width} (height x width), smaller than "
    f"{show(op)}: put resize({max(op[1]['height'], op[1]['width'])}) before "
    "it, crop less, or prepare the data set larger"
  )


def _resize(video: np.ndarray, size: int) -> np.ndarray:
  from PIL import Image

  t, h, w, c = video.shape
  new_h, new_w = resized(h, w, size)
  if (h, w) == (new_h, new_w):
    return video
  # One channel at a time unless Pillow has a mode for them all.
  planes = video if c == 3 else np.moveaxis(video, -1, 1).reshape(-1, h, w)
  out = np.stack(
    [
      np.asarray(
        Image.fromarray(p).resize((new_w, new_h), Image.Resampling.BILINEAR)
      )
      for p in planes
    ]
  )
  if c == 3:
    return out
  return np.moveaxis(out.reshape(t, c, new_h, new_w), 1, -1)


def _frame_size(example: Example) -> tuple[int, int]:
  if "video" in example:
    return example["video"].shape[1:3]
  from PIL import Image

  try:
    with Image.open(io.BytesIO(example["frames"][0])) as picture:
      return picture.height, picture.width
  except (OSError, ValueError, SyntaxError) as e:
    raise DataError(f"its first frame is no picture: {e}") from e


def _decoded(example: Example) -> Example:
  """Replaces `frames` by `video`."""
  if "frames" not in example:
    return example
  from PIL import Image

  video = []
  for i, data in enumerate(example["frames"]):
    try:
      with Image.open(io.BytesIO(data)) as picture:
        video.append(np.asarray(picture.convert("RGB")))
    except (OSError, ValueError, SyntaxError) as e:
      raise DataError(f"picture {i} cannot be decoded: {e}") from e
  out = {k: v for k, v in example.items() if k != "frames"}
  if len({v.shape for v in video}) > 1:
    raise DataError("its pictures are of different sizes")
  return out | {"video": np.stack(video)}


# -------------------------------------------------------------- in memory


class Memory:
  """A whole data set, decoded, in device memory; batches made inside jit.

  The same ops as elsewhere. `resize` and `center_crop` are done once, at load,
  wherever they stand, as long as only ops of time come before them. `fps` must
  come before the choice of frames, everything random after it.

  Attributes:
    size: clips that can be used; an epoch.
    dropped: clips shorter than the ops ask for, left out.
    refused: index -> reason, of clips that could not be used, left out.
    seconds: no time in a batch is larger.
    num_classes: classes of the source.
    class_names: their names.
  """

  def __init__(
    self,
    source: Any,
    ops: str,
    *,
    batch: int,
    seed: int = 0,
    prepare: Callable | None = None,
    sharding: jax.sharding.NamedSharding | None = None,
    limit: int = 8 << 30,
    name: str = "the data set",
    log: Callable[[str], None] = logging.getLogger(__name__).info,
  ):
    """Loads every clip of the source.

    Args:
      source: what `make` of a module of `data` returns.
      ops: clip ops, with one choice of frames among them.
      batch: clips in a global batch.
      seed: seed of the run.
      prepare: of the task; without it a batch holds examples as they are.
      sharding: how the leading axis of a batch is laid out, over one or many
        processes. The data are replicated on its mesh. None: one device.
      limit: most bytes the decoded data set may take.
      name: what errors call the source.
      log: gets a line every few seconds of a long load.

    Raises:
      ConfigError: ops that cannot be done in memory.
      DataError: no clip is long enough, the frames are not all of one size or
        smaller than the crop, a label is out of range, too much data.
    """
    self._batch, self._seed, self._sharding = batch, seed, sharding
    at_load, in_jit = _split(ops)
    if sharding is not None:
      check_batch(sharding, batch)
    clips, self.dropped, self.refused = _load(
      source, selection(in_jit), at_load, limit, name, log
    )
    self.size = len(clips)
    self.num_classes = getattr(source, "num_classes", 0)
    self.class_names = tuple(getattr(source, "class_names", ()))
    self.seconds = seconds(in_jit, (c["times"] for c in clips))

    lengths = np.array([len(c["times"]) for c in clips], np.int32)
    total = int(lengths.sum(dtype=np.int64))
    if total >= 2**31:
      raise DataError(
        f"{name} has {total} frames, more than the 2^31 that an index in "
        "device memory can count: set config.data.memory=False."
      )
    data = {
      "start": np.cumsum(lengths) - lengths,
      "length": lengths,
      "times": np.concatenate([c["times"] for c in clips]),
    }
    data["start"] = data["start"].astype(np.int32)
    if "label" in clips[0]:
      data["label"] = np.array([c["label"] for c in clips], np.int32)
    shape = clips[0]["video"].shape[1:]
    for field in _of_pixels(clips[0]):
      like = clips[0][field]
      data[field] = np.zeros((total, *like.shape[1:]), like.dtype)
      for clip, start in zip(clips, data["start"]):
        # Clips are let go one by one, so that they are not held twice.
        part = clip.pop(field)
        data[field][start : start + len(part)] = part
    try:
      _check_shapes(in_jit, shape)
    except DataError as e:
      raise DataError(f"In {name}, {e}.") from None

    if sharding is None:
      self._data = jax.device_put(data)
    else:
      copies = jax.sharding.NamedSharding(
        sharding.mesh, jax.sharding.PartitionSpec()
      )
      self._data = {
        k: jax.make_array_from_process_local_data(copies, v)
        for k, v in data.items()
      }
    self._make = jax.jit(
      functools.partial(_sample, in_jit, prepare, seed), out_shardings=sharding
    )

  def batch(self, step: int) -> dict[str, Any]:
    """The batch of a step, a pure function of (seed, step); not waited for."""
    positions = step * self._batch + np.arange(self._batch, dtype=np.int64)
    index = order(self._seed, self.size, positions).astype(np.int32)
    return self._make(
      self._data, self._put(index), self._put(positions.astype(np.uint32))
    )

  def batches(self, start: int = 0) -> Iterator[dict[str, Any]]:
    """Batches of steps start, start + 1, ... without end."""
    while True:
      yield self.batch(start)
      start += 1

  def _put(self, x: np.ndarray) -> Any:
    if self._sharding is None:
      return x
    return jax.make_array_from_callback(
      x.shape, self._sharding, lambda part: x[part]
    )


def check_batch(sharding: jax.sharding.NamedSharding, batch: int) -> None:
  """Raises ConfigError if the devices cannot share the batch evenly."""
  try:
    sharding.shard_shape((batch,))
  except ValueError:
    raise config.ConfigError(
      f"config.batch is {batch}, which {sharding.mesh.size} devices cannot "
      "share evenly. Make it a multiple of the number of devices."
    ) from None


def _sample(
  ops: list[Op],
  prepare: Callable | None,
  seed: int,
  data: dict[str, jax.Array],
  index: jax.Array,
  positions: jax.Array,
) -> dict[str, Any]:
  """(B,) clips and their (B,) positions in the stream -> a batch."""
  at = next(i for i, op in enumerate(ops) if op[0] in SELECTIONS)
  check_maps(ops[at], data)

  def one(index, position):
    key = jax.random.fold_in(jax.random.key(seed), position)
    draw = lambda i: (
      lambda n: jax.random.uniform(jax.random.fold_in(key, i), (n,))
    )
    first = data["start"][index]
    start, chosen = _choose(jnp, ops[at], data["length"][index], draw(at))
    times = data["times"][first + chosen] - data["times"][first + start]
    example = _pick(data, first + chosen) | {"times": times}
    if "label" in data:
      example["label"] = data["label"][index]
    for i, op in enumerate(ops):
      if i != at:
        example = _apply(jnp, op, example, draw(i))
    return prepared(prepare, example, jax.random.fold_in(key, len(ops)))

  return jax.vmap(one)(index, positions)


def _split(text: str) -> tuple[list[Op], list[Op]]:
  """Ops done once at load, and ops done in jit."""
  ops, at_load, in_jit = plan(text), [], []
  if selection(ops) is None:
    raise config.ConfigError(no_selection(text))
  for op in ops:
    # An op of pixels may be done ahead of ops of time, fps ahead of none.
    free = _OF_TIME if op[0] in _AT_LOAD else ()
    behind = [name for name, _ in in_jit if name not in free]
    if op[0] in (*_AT_LOAD, "fps") and not behind:
      at_load.append(op)
    elif op[0] in ("resize", "fps"):
      raise config.ConfigError(
        f"with data.memory {op[0]} is done once, when the data are loaded, and "
        f"{behind[-1]} comes before it in {text!r}: put {op[0]} first, or set "
        "data.memory=False."
      )
    elif op[0] not in SELECTIONS and selection(in_jit) is None:
      raise config.ConfigError(
        f"with data.memory the choice of frames ({', '.join(SELECTIONS)}) "
        f"comes before {op[0]}, which is drawn anew for each batch; it does "
        f"not in {text!r}."
      )
    else:
      in_jit.append(op)
  return at_load, in_jit


def _check_shapes(ops: list[Op], shape: tuple[int, int, int]) -> None:
  for op in ops:
    if op[0] in ("crop", "center_crop"):
      h, w = op[1]["height"], op[1]["width"]
      if shape[0] < h or shape[1] < w:
        raise DataError(too_small(op, *shape[:2]))
      shape = (h, w, shape[2])


def _load(
  source: Any,
  chosen: Op,
  ops: list[Op],
  limit: int,
  name: str,
  log: Callable[[str], None],
) -> tuple[list[Example], int, dict[int, str]]:
  """Reads and decodes all clips; how many were short, which were bad."""
  n, num_classes = len(source), getattr(source, "num_classes", 0)
  index, dropped = usable(source, [*ops, chosen], name)
  clips, refused, lengths, used = [], {}, [], 0
  begin = said = time.monotonic()
  for done, i in enumerate(map(int, index), 1):
    try:
      clip = source.read([i])[0]
      check_usable(clip, ops)
      clip = {k: clip[k] for k in FIELDS if k in clip}
      for op in ops:
        # Of clips that are too short nothing need be decoded.
        if op[0] == "fps":
          clip = _apply(np, op, clip, None)
      lengths.append(len(clip["times"]))
      if lengths[-1] < span(chosen):
        dropped += 1
        continue
      for op in ops:
        if op[0] != "fps":
          clip = _apply(np, op, clip, None)
      clip = _decoded(clip)
    except config.ConfigError:
      raise
    except Exception as e:  # whatever a source may raise
      refused[i] = reason(e)
      log(f"{name}: clip {i} is left out: {refused[i]}")
      continue
    check_label(clip, num_classes, f"clip {i}", name)
    shape = clip["video"].shape[1:]
    if clips and shape != clips[0]["video"].shape[1:]:
      sizes = [
        "x".join(map(str, s)) for s in (clips[0]["video"].shape[1:], shape)
      ]
      raise DataError(
        f"{name} holds frames of different sizes ({sizes[0]}, and clip {i} has "
        f"{sizes[1]}), and in memory all must be alike: put resize(64) | "
        "center_crop(64), say, at the start of config.data.ops, or set "
        "config.data.memory=False."
      )
    used += sum(clip[k].nbytes for k in _of_pixels(clip))
    clips.append(clip)
    expected = used / done * len(index)
    # A few long clips in front are not the average: doubt a first estimate.
    if used > limit or expected > limit * (1.2 if done > n / 4 else 3):
      raise DataError(
        f"{name} would take about {expected / 2**30:.3g} GiB decoded, more "
        f"than the limit of {limit / 2**30:.3g} GiB: set "
        "config.data.memory=False to read it from disk, or resize smaller in "
        "config.data.ops."
      )
    now = time.monotonic()
    if now - said > 5:
      said, rate = now, done / (now - begin)
      log(
        f"Loading {name}: {done}/{len(index)} clips, {rate:.1f} clips/s, "
        f"{(len(index) - done) / rate:.0f} s left"
      )
  if not clips and refused:
    i, why = next(iter(refused.items()))
    raise DataError(
      f"{name}: none of its {n} clips can be used. Clip {i}: {why}. Mend "
      "config.data.ops or prepare the data set again."
    )
  if not clips:
    raise DataError(no_clip(name, n, chosen, lengths))
  if dropped:
    log(say_dropped(name, dropped, n, chosen))
  return clips, dropped, refused
