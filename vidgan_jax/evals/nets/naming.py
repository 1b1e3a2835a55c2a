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


def convolutions(
  tensors: Mapping[str, np.ndarray],
  layers: Mapping[str, tuple[str, tuple[int, ...]]],
  what: str,
  unused: str = "",
) -> dict[str, dict[str, np.ndarray]]:
  """PyTorch's convolutions in two dimensions -> Flax's, after `check`.

  Args:
    tensors: name -> array.
    layers: our name -> its name in the file and the shape (out, in, h, w) of
      its '.weight'; its '.bias' is (out,).
    what: as for `check`.
    unused: as for `check`.

  Returns:
    Our name -> {'kernel': (h, w, in, out), 'bias': (out,)}, float32.
  """
  shapes = {}
  for name, shape in layers.values():
    shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
  check(tensors, shapes, what, unused)
  return {
    ours: {
      "kernel": np.ascontiguousarray(
        tensors[f"{name}.weight"].transpose(2, 3, 1, 0), np.float32
      ),
      "bias": np.asarray(tensors[f"{name}.bias"], np.float32),
    }
    for ours, (name, _) in layers.items()
  }
