"""From a source to batches: pure in (seed, step), for any number of processes.

The batch of step s holds positions s*B .. s*B+B-1 of an endless stream of
clips; `order.shown` says which clip is at a position, and the random numbers
of a clip follow from (seed, position). So there is no iterator state: a run
that resumes at step s asks for `batches(s)`, and each process makes the rows
of the global batch that its devices hold.

Bad records. A clip that cannot be read, is too short or smaller than the crop,
or does not decode, is refused: the next one in the source takes its place. It
is counted in `refused` and reported once. Whether a clip is refused at a
position depends on data and position alone, so batches stay pure. After
`_TRIES` bad clips in a row the run stops with the reason.

TensorFlow is imported by `Pipeline` only: data in memory (data/memory.py) and
clips of an evaluation (data/reference.py) do without.
"""

import atexit
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import importlib
import logging
import os
from typing import Any
import weakref

import jax
import numpy as np

from vidgan_jax import config
from vidgan_jax import rooms
from vidgan_jax.data import memory
from vidgan_jax.data import oplang
from vidgan_jax.data import ops_np
from vidgan_jax.data import order
from vidgan_jax.data import signals
from vidgan_jax.data import text

_TRIES = 8
_LOG = logging.getLogger(__name__)
# Iterators that are still reading ahead. Python must not exit before they are
# closed: their threads would wait for it, and it for them.
_READING: weakref.WeakSet[Iterator] = weakref.WeakSet()


def _close() -> None:
  for iterator in list(_READING):
    iterator.close()


def make_source(
  data: Mapping[str, Any], split: str, encoder: text.Encoder | None = None
) -> Any:
  """Opens the source that `config.data` names.

  Args:
    data: `config.data`.
    split: 'train' or 'test': its `train` or `test` field says which split of
      the source that is.
    encoder: of its texts; None: it is learnt of the training split, whose
      captions are read.

  Raises:
    ConfigError: no such source, or an option that it does not have.
  """
  known = rooms.names("data")
  rooms.check_name(data["name"], known, "config.data.name")
  module = importlib.import_module(f"vidgan_jax.data.{data['name']}")
  options = dict(data["options"])
  rooms.check_kwargs(
    module.make, options, "config.data.options", given=("split",)
  )
  source = module.make(data[split], **options)
  if not data["text"]:
    return source
  if encoder is not None:
    return text.Source(source, encoder)
  training = source
  if data[split] != data["train"]:
    training = module.make(data["train"], **options)
  return text.wrap(source, training, data["text"])


def create(
  data: Mapping[str, Any],
  *,
  batch: int,
  seed: int = 0,
  prepare: Callable | None = None,
  sharding: jax.sharding.NamedSharding | None = None,
  source: Any = None,
  log: Callable[[str], None] = _LOG.info,
) -> "memory.InMemory | Pipeline":
  """Training data as `config.data` describes them.

  Args:
    data: `config.data`.
    batch: clips in a global batch.
    seed: seed of the run.
    prepare: of the task.
    sharding: how the leading axis of a batch is laid out; None: one device.
    source: the training split if it is open already.
    log: gets a line every few seconds of a long load, and one about clips
      that are left out.

  Returns:
    `Pipeline` or, with `data.memory`, `memory.InMemory`: both have
    `batches(start)`, `size`, `dropped`, `seconds`, `num_classes` and
    `class_names`.
  """
  source = make_source(data, "train") if source is None else source
  kind = memory.InMemory if data["memory"] else Pipeline
  return kind(
    source,
    data["ops"],
    batch=batch,
    seed=seed,
    prepare=prepare,
    sharding=sharding,
    name=f"{data['name']} ({data['train']})",
    log=log,
  )


# ------------------------------------------------------------------ training


class Pipeline:
  """Batches through tf.data.

  `source.read` is called from several threads.

  Attributes:
    size: clips that can be used; an epoch.
    dropped: clips known to be shorter than the ops ask for, left out.
    refused: index -> reason, of the bad clips met so far.
    seconds: no time in a batch is larger, judged by up to 64 clips.
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
    name: str = "the data set",
    log: Callable[[str], None] = _LOG.info,
    threads: int | None = None,
  ):
    """Checks ops and source; reads little.

    Args: as of `memory.InMemory`, but
      sharding: None: batches are NumPy arrays.
      log: gets a line for each clip refused.
      threads: of tf.data; by default the number of cores, at most 16.

    Raises:
      ConfigError: ops that cannot be, TensorFlow is missing, or a batch that
        the devices cannot share.
      DataError: no clip is long enough.
    """
    self._tf = import_tensorflow()
    from vidgan_jax.data import ops as tf_ops

    self._source, self._name, self._log = source, name, log
    self._batch, self._seed, self._sharding = batch, seed, sharding
    self._ops, self._prepare = tf_ops.build(ops), prepare
    self._plan = oplang.plan(ops)
    self._threads = threads or min(os.cpu_count(), 16)
    chosen = oplang.selection(self._plan)
    if chosen is None:
      raise config.ConfigError(oplang.no_selection(ops))
    self._rows = _local_rows(sharding, batch)
    self._usable, self.dropped = order.usable(source, self._plan, name)
    self.size = len(self._usable)
    self.refused: dict[int, str] = {}
    self.num_classes = source.num_classes
    self.class_names = tuple(source.class_names)
    self.text = text.encoder(source)
    self._fields = signals.known(source.spec, batched=True)
    self._dtypes = [signals.SIGNALS[k].dtype for k in self._fields]
    self.seconds = ops_np.seconds(self._plan, self._some_times())
    if self.dropped:
      log(order.say_dropped(name, self.dropped, len(source), chosen))

  def batches(self, start: int = 0) -> Iterator[Any]:
    """Batches of steps start, start + 1, ... without end.

    Raises:
      DataError: too many bad clips, a label out of range, or clips of
        different shapes.
    """
    iterator = self._batches(start)
    atexit.unregister(_close)  # Registered once, however often this is called.
    atexit.register(_close)
    _READING.add(iterator)
    return iterator

  def _batches(self, step: int) -> Iterator[Any]:
    tf = self._tf
    iterator = self._dataset(step).as_numpy_iterator()
    while True:
      try:
        batch = next(iterator)
      except tf.errors.OpError:
        # A picture that does not decode, and the like: TensorFlow cannot say
        # which. This batch is made again, one clip at a time; then go on.
        batch = self._one_by_one(step)
        iterator = self._dataset(step + 1).as_numpy_iterator()
      yield self._put(batch)
      step += 1

  def _dataset(self, start: int) -> Any:
    """The process's rows of the global batches from step `start` on."""
    tf, n = self._tf, len(self._rows)
    rows = tf.constant(self._rows, tf.int64)

    def position(i):
      return i // n * self._batch + rows[i % n]

    def fields(position):
      try:
        return self._read(int(position))[0]
      except signals.DataError:
        # From here it would arrive as pages of TensorFlow's. Nothing can be
        # chosen from an empty clip, so `batches` sees that something is wrong
        # and `_one_by_one` raises this again.
        spec = self._source.spec
        return [
          np.zeros([0] * len(spec[k][0]), dtype)
          for k, dtype in zip(self._fields, self._dtypes)
        ]

    def read(position):
      kinds = list(map(tf.as_dtype, self._dtypes))
      values = tf.numpy_function(fields, [position], kinds)
      for field, value in zip(self._fields, values):
        value.set_shape(self._source.spec[field][0])
      return position, dict(zip(self._fields, values))

    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = self._threads
    # Ops and tasks branch with tf.where, as they must under vmap: nothing for
    # AutoGraph to rewrite, and tracing is several times faster without it.
    graph = tf.autograph.experimental.do_not_convert
    data = tf.data.Dataset.range(start * n, np.iinfo(np.int64).max)
    data = data.map(graph(position))
    data = data.map(graph(read), num_parallel_calls=self._threads)
    data = data.map(graph(self._clip), num_parallel_calls=self._threads)
    return data.batch(n, drop_remainder=True).prefetch(2).with_options(options)

  def _clip(self, position: Any, example: dict[str, Any]) -> Any:
    """Ops and task on one example, TensorFlow."""
    tf = self._tf
    seed = tf.stack([tf.cast(self._seed, tf.int64), position])
    example = self._ops(example, seed)
    fold = tf.random.experimental.stateless_fold_in(seed, len(self._plan))
    return signals.prepared(self._prepare, example, fold)

  def _read(self, position: int, offset: int = 0) -> tuple[list, int, int]:
    """Reads the first good clip from `offset` places after the position's.

    Returns:
      Its fields in the order of `self._fields`, its index, and its offset.
    """
    slot = int(order.shown(self._seed, self.size, np.array(position)))
    while True:
      index = int(self._usable[(slot + offset) % self.size])
      if offset >= min(_TRIES, self.size):
        last, reason = list(self.refused.items())[-1]
        raise signals.DataError(
          f"{self._name}: {offset} clips in a row cannot be used. Clip {last}: "
          f"{reason}. Mend config.data.ops or prepare the data set again."
        )
      try:
        example = self._source.read([index])[0]
        ops_np.check_usable(example, self._plan)
        values = [
          np.asarray(example[k], dtype)
          for k, dtype in zip(self._fields, self._dtypes)
        ]
        break
      except Exception as e:  # whatever a source may raise
        self._refuse(index, e)
        offset += 1
    order.check_label(example, self.num_classes, f"clip {index}", self._name)
    return values, index, offset

  def _one_by_one(self, step: int) -> Any:
    """The same batch as from `_dataset`, passing over clips that fail."""
    tf, clips = self._tf, []
    make = tf.function(self._clip, autograph=False, reduce_retracing=True)
    for row in self._rows:
      position, offset, clip = step * self._batch + int(row), 0, None
      while clip is None:
        fields, index, offset = self._read(position, offset)
        example = dict(zip(self._fields, map(tf.constant, fields)))
        try:
          clip = make(tf.constant(position, tf.int64), example)
        except tf.errors.OpError as e:
          # The reason is the last line that is not about the graph.
          lines = [s for s in e.message.splitlines() if s and "[[" not in s]
          self._refuse(index, signals.DataError(lines[-1]))
          offset += 1
      clips.append(jax.tree.map(lambda x: x.numpy(), clip))
    return _stack(clips, self._name)

  def _refuse(self, index: int, error: Exception) -> None:
    if index not in self.refused:
      self.refused[index] = order.reason(error)
      self._log(
        f"{self._name}: clip {index} is passed over: {self.refused[index]}"
      )

  def _some_times(self) -> Iterator[np.ndarray]:
    """Times of up to 64 clips, spread over the data set."""
    for i in np.unique(np.linspace(0, self.size - 1, 64).astype(int)):
      try:
        yield self._source.read([int(self._usable[i])])[0]["times"]
      except Exception as e:  # whatever a source may raise
        self._refuse(int(self._usable[i]), e)

  def _put(self, batch: Any) -> Any:
    if self._sharding is None:
      return batch
    return jax.tree.map(
      lambda x: jax.make_array_from_process_local_data(
        self._sharding, x, (self._batch, *x.shape[1:])
      ),
      batch,
    )


def import_tensorflow() -> Any:
  """Imports TensorFlow and keeps it off the accelerators."""
  try:
    import tensorflow as tf
  except ImportError as e:
    raise config.ConfigError(
      "This data set is read through TensorFlow, which cannot be imported "
      f"({e}). Install it with `pip install 'vidgan_jax[tf]'`, or, if the data "
      "set fits in device memory, set config.data.memory=True."
    ) from e
  try:
    tf.config.set_visible_devices([], "GPU")
  except RuntimeError:
    pass  # something used TensorFlow before us; it has what it has
  return tf


def _local_rows(
  sharding: jax.sharding.NamedSharding | None, batch: int
) -> np.ndarray:
  """Rows of the global batch that this process's devices hold, in order."""
  if sharding is None:
    return np.arange(batch)
  memory.check_batch(sharding, batch)
  parts = sharding.addressable_devices_indices_map((batch,)).values()
  return np.unique(np.concatenate([np.arange(batch)[p] for p in parts]))


def _stack(clips: Sequence[Any], name: str) -> Any:
  """Stacks the leaves of clips of one structure."""

  def stack(*leaves):
    shapes = sorted({np.shape(x) for x in leaves})
    if len(shapes) > 1:
      raise signals.DataError(
        f"{name}: clips of one batch have the shapes {shapes[0]} and "
        f"{shapes[1]}, and must be alike: add resize(64) | center_crop(64), "
        "say, to the ops in the config."
      )
    return np.stack(leaves)

  return jax.tree.map(stack, *clips)
