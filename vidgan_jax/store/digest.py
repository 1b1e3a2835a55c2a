"""A name for a value: the digest that cached numbers are kept under."""

from collections.abc import Mapping
import hashlib
from typing import Any

import numpy as np


def of(value: Any) -> str:
  """A name for what a cached number depends on: 64 hexadecimal digits.

  Args:
    value: mappings, lists, tuples, arrays, text, numbers, booleans, None, bytes
      in each other. The order of a mapping does not count, all else does, the
      type as well.

  Raises:
    TypeError: anything else, whose text might not be the same again.
  """
  sha = hashlib.sha256()
  _feed(sha.update, value)
  return sha.hexdigest()


def _feed(update, value):
  if isinstance(value, Mapping):
    update(b"mapping %d:" % len(value))
    for key in sorted(value):
      _feed(update, key)
      _feed(update, value[key])
  elif isinstance(value, (list, tuple)):
    update(b"list %d:" % len(value))
    for item in value:
      _feed(update, item)
  elif (
    isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject
  ):
    update(f"array {value.dtype.str} {value.shape}:".encode())
    update(np.ascontiguousarray(value).tobytes())
  elif isinstance(value, bytes):
    update(b"bytes %d:" % len(value) + value)
  elif value is None or isinstance(value, (bool, int, float, str)):
    text = repr(value).encode()
    update(f"{type(value).__name__} {len(text)}:".encode() + text)
  else:
    raise TypeError(f"digest: cannot name a {type(value).__name__}: {value!r}")
