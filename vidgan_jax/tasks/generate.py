"""Clips out of noise, of a class or of none.

given: {} or {'label': int32 ()}; target: the clip.
"""

from collections.abc import Mapping
from typing import Any

from vidgan_jax import tasks


def make(label: bool = True) -> tasks.Task:
  """Builds the task.

  Args:
    label: give the class label where the data have one. A model of no classes
      does not look at it.
  """

  # Nothing here is of one array library: tf, NumPy and jax all pass through.
  def prepare(example: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    del seed  # nothing is random
    given = {}
    if label and "label" in example:
      given["label"] = example["label"]
    return {
      "given": given,
      "target": example["video"],
      "times": example["times"],
    }

  return tasks.Task(prepare=prepare, baselines={})
