"""Is this file the network's? Names and shapes of tensors, checked at once."""

from collections.abc import Mapping
import re

import numpy as np


def check(
  tensors: Mapping[str, np.ndarray],
  shapes: Mapping[str, tuple[int, ...]],
  what: str,
  unused: str = "",
) -> None:
  """Refuses tensors that are not exactly those of a network.

  Args:
    tensors: name -> array, as they stand in a file.
    shapes: name -> shape of every tensor that is needed.
    what: the file that is wanted, in words.
    unused: regular expression of whole names that may be there too.

  Raises:
    ValueError: a tensor is missing, unexpected, of another shape or not finite.
  """
  for name, shape in shapes.items():
    if name not in tensors:
      wrong = f"has no tensor {name!r}"
    elif tensors[name].shape != tuple(shape):
      wrong = f"has {name!r} of shape {tensors[name].shape}, not {tuple(shape)}"
    elif not np.isfinite(tensors[name]).all():
      wrong = f"has numbers in {name!r} that are not finite"
    else:
      continue
    raise ValueError(_refusal(what, wrong))
  for name in tensors:
    if name not in shapes and not re.fullmatch(unused, name):
      raise ValueError(_refusal(what, f"has an unexpected tensor {name!r}"))


def _refusal(what: str, wrong: str) -> str:
  return (
    f"These weights should be {what}, but the file {wrong}. Is it the file of "
    "another network, or damaged? Take the one that docs/metrics.md names."
  )
