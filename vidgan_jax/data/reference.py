"""Clips as evaluators read them: a split of a source, cut, in NumPy."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from vidgan_jax.data import oplang
from vidgan_jax.data import ops_np
from vidgan_jax.data import order
from vidgan_jax.data import pipeline
from vidgan_jax.data import signals


class Clips:
  """Clips of a source as evaluators read them: cut by ops, uint8.

  The same clip each time: a random op takes its numbers from (seed, index).
  No TensorFlow.

  Attributes:
    num_classes: classes of the source.
    class_names: their names.
    dropped: clips known to be shorter than the ops ask for, left out.
    task: the task of the run, or None.
    world: the options of a procedural source; None for others.
  """

  def __init__(
    self,
    source: Any,
    ops: str,
    *,
    seed: int = 0,
    task: Any = None,
    name: str = "the data set",
  ):
    """Checks the ops.

    Args:
      source: what `make` of a module of `data` returns.
      ops: clip ops; `value_range` is left out, as evaluators compare uint8.
      seed: seed of random ops.
      task: `tasks.Task` of the run, for `prepared`.
      name: what errors call the source.
    """
    self.task, self._graph = task, None
    self._plan = [op for op in oplang.plan(ops) if op[0] != "value_range"]
    self._apply = ops_np.build(self._plan)
    self._source, self._seed, self._name = source, seed, name
    self._usable, self.dropped = order.usable(source, self._plan, name)
    self.num_classes = source.num_classes
    self.class_names = tuple(source.class_names)
    self.world = getattr(source, "world", None)

  def __len__(self) -> int:
    return len(self._usable)

  def read(self, indices: Sequence[int]) -> list[signals.Example]:
    """Reads clips.

    Args:
      indices: integers in [0, len(self)).

    Returns:
      Dicts of `video` (T, H, W, C) uint8, `times` (T,) float32 seconds and, if
      the source has them, what else data/signals.py names: label, caption, ...

    Raises:
      IndexError: there is no such clip.
      DataError: a clip cannot be used.
    """
    indices = [int(i) for i in indices]
    for i in indices:
      if not 0 <= i < len(self):
        raise IndexError(
          f"Clip {i} does not exist: {self._name} has {len(self)} clips, "
          "numbered from 0."
        )
    chosen = [int(self._usable[i]) for i in indices]
    out = []
    for index, example in zip(chosen, self._source.read(chosen)):
      order.check_label(example, self.num_classes, f"clip {index}", self._name)
      try:
        ops_np.check_usable(example, self._plan)
        out.append(self._apply(example, (self._seed, index)))
      except signals.DataError as e:
        raise signals.DataError(f"{self._name}: clip {index}: {e}.") from e
    return out

  def prepared(self, indices: Sequence[int]) -> list[dict[str, Any]]:
    """Clips as the task prepares them, as the step would get them.

    Degradations take their random numbers from (seed, index): each clip is
    degraded the same way every time.

    Args:
      indices: integers in [0, len(self)).

    Returns:
      {'given': {...}, 'target', 'times', 'weight'?} of each, NumPy arrays.
    """
    clips = []
    for index, clip in zip(indices, self.read(indices)):
      clip = {k: clip[k] for k in signals.known(clip, batched=True)}
      video = clip["video"].astype(np.float32) / np.float32(127.5) - 1
      seed = np.array([self._seed, int(index)], np.int64)
      clips.append(self._prepare(clip | {"video": video}, seed))
    return clips

  def _prepare(self, example: signals.Example, seed: np.ndarray) -> Any:
    """The task on one example, NumPy in and out."""
    prepare = lambda x, seed: self.task.prepare(signals.Asked(x), seed)
    if not self.task.tf:
      return jax.tree.map(np.asarray, prepare(example, seed))
    tf = pipeline.import_tensorflow()
    if self._graph is None:
      self._graph = tf.function(prepare, autograph=False, reduce_retracing=True)
    out = self._graph(jax.tree.map(tf.constant, example), tf.constant(seed))
    return jax.tree.map(np.asarray, out)
