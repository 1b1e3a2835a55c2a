"""Clips out of noise, of a class or of none.

given: {} or {'label': int32 ()}; target: the clip.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidgan_jax import errors
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

  return tasks.Task(prepare=prepare, ask=ask)


def ask(
  num: int,
  seed: int,
  source: Any,
  facts: Mapping[str, Any],
  label: str | int | None = None,
) -> dict[str, np.ndarray]:
  """What the generator is given: the label, if the model has classes.

  Args:
    num: clips.
    seed: not used.
    source: not used.
    facts: see `tasks.Task`.
    label: class of all clips, by name or number; None: all in turn.

  Raises:
    UserError: there is no such class.
  """
  del seed, source
  num_classes, names = facts["num_classes"], facts["class_names"]
  if label is not None:
    label = _number(str(label), num_classes, names)
    return {"label": np.full(num, label, np.int32)}
  if not num_classes:
    return {}
  return {"label": np.arange(num, dtype=np.int32) % num_classes}


def _number(text: str, num_classes: int, names: tuple[str, ...]) -> int:
  """A class by name or number."""
  if not num_classes:
    raise errors.UserError(
      "--label: this generator was trained without classes "
      "(config.model.num_classes is 0)."
    )
  if text in names:
    return names.index(text)
  if text.isdecimal() and int(text) < num_classes:
    return int(text)
  raise errors.UserError(
    f"--label {text}: there is no such class; the {num_classes} classes are 0 "
    f"to {num_classes - 1}" + (f" or {', '.join(names)}." if names else ".")
  )
