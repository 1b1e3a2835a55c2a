"""A data set in device memory: batches are made inside jit, no TensorFlow."""

from collections.abc import Callable
from collections.abc import Iterator
import functools
import logging
import operator
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidgan_jax import config
from vidgan_jax.data import oplang
from vidgan_jax.data import ops_np
from vidgan_jax.data import order
from vidgan_jax.data import signals
from vidgan_jax.data import text

# What these do to a frame does not depend on the clip that it is in.
_AT_LOAD = ("resize", "center_crop")
# Ops that do not look at pixels: an op of _AT_LOAD may be done before them.
_OF_TIME = (*oplang.SELECTIONS, "reverse", "shift_time")


class InMemory:
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
    text: the encoder of its texts, or None.
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
      source, oplang.selection(in_jit), at_load, limit, name, log
    )
    self.size = len(clips)
    self.num_classes = source.num_classes
    self.class_names = tuple(source.class_names)
    self.text = text.encoder(source)
    self.seconds = ops_np.seconds(in_jit, (c["times"] for c in clips))

    lengths = np.array([len(c["times"]) for c in clips], np.int32)
    total = int(lengths.sum(dtype=np.int64))
    if total >= 2**31:
      raise signals.DataError(
        f"{name} has {total} frames, more than the 2^31 that an index in "
        "device memory can count: set config.data.memory=False."
      )
    starts = np.cumsum(lengths) - lengths
    shape = clips[0]["video"].shape[1:]
    data = {"start": starts.astype(np.int32), "length": lengths}
    data |= _joined(clips, starts, total)
    try:
      _check_shapes(in_jit, shape)
    except signals.DataError as e:
      raise signals.DataError(f"In {name}, {e}.") from None

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
    index = order.shown(self._seed, self.size, positions).astype(np.int32)
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


def _joined(
  clips: list[signals.Example], starts: np.ndarray, total: int
) -> dict[str, np.ndarray]:
  """Signals of all clips: those of time one after the other, others stacked.

  Args:
    clips: signals of each; they lose those of time.
    starts: (N,) first frame of each clip.
    total: frames of all clips.
  """
  data = {}
  for name in list(clips[0]):
    like = clips[0][name]
    if "t" not in signals.SIGNALS[name].axes:
      data[name] = np.stack([clip[name] for clip in clips])
      continue
    data[name] = np.zeros((total, *like.shape[1:]), like.dtype)
    for clip, start in zip(clips, starts):
      # Clips are let go one by one, so that they are not held twice.
      part = clip.pop(name)
      data[name][start : start + len(part)] = part
  return data


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
  ops: list[oplang.Op],
  prepare: Callable | None,
  seed: int,
  data: dict[str, jax.Array],
  index: jax.Array,
  positions: jax.Array,
) -> dict[str, Any]:
  """(B,) clips and their (B,) positions in the stream -> a batch."""
  at = next(i for i, op in enumerate(ops) if op[0] in oplang.SELECTIONS)
  ops_np.check_signals(ops[at], data)

  def one(index, position):
    key = jax.random.fold_in(jax.random.key(seed), position)
    draw = lambda i: (
      lambda n: jax.random.uniform(jax.random.fold_in(key, i), (n,))
    )
    first = data["start"][index]
    start, chosen = ops_np.choose(jnp, ops[at], data["length"][index], draw(at))
    shown = signals.at_frames(data, first + chosen, operator.getitem)
    times = shown["times"] - data["times"][first + start]
    whole = {k: data[k][index] for k in signals.known(data) if k not in shown}
    example = whole | shown | {"times": times}
    for i, op in enumerate(ops):
      if i != at:
        example = ops_np.apply(jnp, op, example, draw(i))
    return signals.prepared(prepare, example, jax.random.fold_in(key, len(ops)))

  return jax.vmap(one)(index, positions)


def _split(text: str) -> tuple[list[oplang.Op], list[oplang.Op]]:
  """Ops done once at load, and ops done in jit."""
  ops, at_load, in_jit = oplang.plan(text), [], []
  if oplang.selection(ops) is None:
    raise config.ConfigError(oplang.no_selection(text))
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
    elif op[0] not in oplang.SELECTIONS and oplang.selection(in_jit) is None:
      raise config.ConfigError(
        "with data.memory the choice of frames ("
        f"{', '.join(oplang.SELECTIONS)}) comes before {op[0]}, which is drawn "
        f"anew for each batch; it does not in {text!r}."
      )
    else:
      in_jit.append(op)
  return at_load, in_jit


def _check_shapes(ops: list[oplang.Op], shape: tuple[int, int, int]) -> None:
  for op in ops:
    if op[0] in ("crop", "center_crop"):
      h, w = op[1]["height"], op[1]["width"]
      if shape[0] < h or shape[1] < w:
        raise signals.DataError(oplang.too_small(op, *shape[:2]))
      shape = (h, w, shape[2])


def _check_alike(
  first: signals.Example, clip: signals.Example, i: int, name: str
) -> None:
  """Raises DataError if clip i differs from the first by more than frames."""
  for k, value in clip.items():
    sizes = [
      x.shape[1:] if "t" in signals.SIGNALS[k].axes else x.shape
      for x in (first[k], value)
    ]
    if sizes[0] == sizes[1]:
      continue
    sizes = ["x".join(map(str, s)) for s in sizes]
    raise signals.DataError(
      f"{name} holds {'frames' if k == 'video' else repr(k)} of different "
      f"sizes ({sizes[0]}, and clip {i} has {sizes[1]}), and in memory all "
      "must be alike: "
      + (
        "put resize(64) | center_crop(64), say, at the start of "
        "config.data.ops, or set config.data.memory=False."
        if "h" in signals.SIGNALS[k].axes
        else "a source gives it at one size, filled up with zeros."
      )
    )


def _load(
  source: Any,
  chosen: oplang.Op,
  ops: list[oplang.Op],
  limit: int,
  name: str,
  log: Callable[[str], None],
) -> tuple[list[signals.Example], int, dict[int, str]]:
  """Reads and decodes all clips; how many were short, which were bad."""
  n = len(source)
  index, dropped = order.usable(source, [*ops, chosen], name)
  clips, refused, lengths, used = [], {}, [], 0
  begin = said = time.monotonic()
  for done, i in enumerate(map(int, index), 1):
    try:
      clip = source.read([i])[0]
      ops_np.check_usable(clip, ops)
      clip = {
        k: np.asarray(clip[k], signals.SIGNALS[k].dtype)
        for k in signals.known(clip, batched=True)
      }
      for op in ops:
        # Of clips that are too short nothing need be decoded.
        if op[0] == "fps":
          clip = ops_np.apply(np, op, clip, None)
      lengths.append(len(clip["times"]))
      if lengths[-1] < oplang.span(chosen):
        dropped += 1
        continue
      for op in ops:
        if op[0] != "fps":
          clip = ops_np.apply(np, op, clip, None)
      clip = ops_np.decoded(clip)
    except config.ConfigError:
      raise
    except Exception as e:  # whatever a source may raise
      refused[i] = order.reason(e)
      log(f"{name}: clip {i} is left out: {refused[i]}")
      continue
    order.check_label(clip, source.num_classes, f"clip {i}", name)
    _check_alike(clips[0] if clips else clip, clip, i, name)
    used += sum(x.nbytes for x in clip.values())
    clips.append(clip)
    expected = used / done * len(index)
    # A few long clips in front are not the average: doubt a first estimate.
    if used > limit or expected > limit * (1.2 if done > n / 4 else 3):
      raise signals.DataError(
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
    raise signals.DataError(
      f"{name}: none of its {n} clips can be used. Clip {i}: {why}. Mend "
      "config.data.ops or prepare the data set again."
    )
  if not clips:
    raise signals.DataError(order.no_clip(name, n, chosen, lengths))
  if dropped:
    log(order.say_dropped(name, dropped, n, chosen))
  return clips, dropped, refused
