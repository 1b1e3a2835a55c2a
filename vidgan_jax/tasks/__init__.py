"""What is given to the generator and what is its target, one file each.

A task is a file with `make(**options) -> Task`, found by its name.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """One job for a generator.

  Attributes:
    prepare: (example, seed) -> {'given': {...}, 'target', 'times', 'weight'?}
      of one clip. An example is {'video': (T, H, W, C) float32 in [-1, 1],
      'times': (T,) float32 seconds, 'label'?: int32 ()}. It runs in the graph
      of tf.data on tensors (seed: (2,) int64, for stateless random ops) and,
      for data in memory, under `jax.vmap` on jax arrays (seed: a typed key).
      `given` is all that the generator sees; what it holds is the task's
      choice. Tasks from a clip put the degraded one at 'video' and the
      classical estimate, of the target's size, at 'base'.
    baselines: name -> (given -> video), classical answers on NumPy batches,
      that evaluation measures beside the model.
    preview: (batch, fake) -> name -> (B, T, H, W, C), the videos worth looking
      at side by side, in order.
  """

  prepare: Callable[[Mapping[str, Any], Any], dict[str, Any]]
  baselines: Mapping[str, Callable[[Mapping[str, Any]], Any]]
  preview: Callable[[Mapping[str, Any], Any], dict[str, Any]]
