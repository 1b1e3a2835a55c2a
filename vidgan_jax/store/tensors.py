"""Files of safetensors: named arrays, and a few facts as text.

  8 bytes       the length of the header, little-endian
  header        JSON: name -> {"dtype", "shape", "data_offsets": [start, stop]},
                and "__metadata__": text -> text
  the numbers   little-endian, rows first; offsets count from here

(https://github.com/huggingface/safetensors). The library of this name copies
all tensors before it writes, and needs a NumPy that knows bfloat16 to read it;
here bfloat16 is read as float32, which holds each of its numbers.

A file that is written here holds, among its facts, the sha256 of all that it
says: of the header without this fact, and of the numbers.
"""

from collections.abc import Mapping
import hashlib
import json
import os
import struct
from typing import Any

import numpy as np

from vidgan_jax import errors
from vidgan_jax.store import files

# Kind in the file -> NumPy's; bfloat16 is ml_dtypes', which comes with JAX.
_KINDS = {
  "F64": "float64",
  "F32": "float32",
  "F16": "float16",
  "BF16": "bfloat16",
  "I64": "int64",
  "I32": "int32",
  "I16": "int16",
  "I8": "int8",
  "U8": "uint8",
  "BOOL": "bool",
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_DIGEST = "vidgan.sha256"  # The fact with the digest.


def save(
  path: str | os.PathLike,
  arrays: Mapping[str, np.ndarray],
  facts: Mapping[str, str],
) -> None:
  """Writes a file, whole or not at all, one array after the other.

  Args:
    path: of the file; its folder is made.
    arrays: name -> array of a kind that the format has, bfloat16 too.
    facts: what else is to be known.

  Raises:
    KeyError: an array of another kind.
    OSError: the file cannot be written.
  """
  header, stop = {"__metadata__": dict(facts)}, 0
  for name in sorted(arrays):
    value, start = arrays[name], stop
    stop += value.nbytes
    header[name] = {
      "dtype": _NAMES[value.dtype.name],
      "shape": value.shape,
      "data_offsets": [start, stop],
    }
  sha256 = _sha256(header)
  for name in sorted(arrays):
    sha256.update(np.ascontiguousarray(arrays[name]).view(np.uint8).data)
  header["__metadata__"][_DIGEST] = sha256.hexdigest()
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)  # The numbers begin at a multiple of 8.
  with files.write(path) as temporary, open(temporary, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    for name in sorted(arrays):
      file.write(np.ascontiguousarray(arrays[name]).view(np.uint8).data)


def load(
  path: str | os.PathLike, *, mapped: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Reads a file.

  Args:
    path: of the file.
    mapped: arrays stay on the disk until they are looked at (but for bfloat16);
      the file must not change meanwhile.

  Returns:
    Name -> array, and the facts.

  Raises:
    OSError: the file is not there.
    UserError: it is damaged.
  """
  try:
    if mapped:
      data = np.memmap(path, np.uint8, "r")
    else:
      data = np.fromfile(path, np.uint8)
    (length,) = struct.unpack("<Q", bytes(data[:8]))
    header = json.loads(bytes(data[8 : 8 + length]))
    facts = dict(header.pop("__metadata__", {}))
    body = data[8 + length :]
    # Side by side: tensors in one place could take more memory than the file.
    ends = sorted(entry["data_offsets"] for entry in header.values())
    whole = [0, *(stop for _, stop in ends)]
    if whole != [*(start for start, _ in ends), len(body)]:
      raise ValueError("its tensors do not fill it")
    arrays = {name: _array(body, **entry) for name, entry in header.items()}
    kept = facts.pop(_DIGEST, None)
    if kept is not None:
      sha256 = _sha256(header | {"__metadata__": facts})
      sha256.update(body)
      if sha256.hexdigest() != kept:
        raise ValueError("facts and numbers are not those written")
  # What JSON can hold in place of what is expected.
  except (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    struct.error,
  ) as e:
    raise errors.UserError(
      f"{path} is damaged: it is not a whole file of safetensors ({e!r})."
    ) from e
  return arrays, facts


def _array(
  body: np.ndarray, dtype: str, shape: list[int], data_offsets: list[int]
) -> np.ndarray:
  """The tensor of an entry of the header."""
  start, stop = data_offsets
  if not 0 <= start <= stop <= len(body) or min(shape, default=0) < 0:
    raise ValueError(f"a tensor of {shape} ends beyond the file")
  return numbers(body[start:stop], _KINDS[dtype]).reshape(shape)


def _sha256(header: Mapping[str, Any]) -> Any:
  """The digest of a header without its own, to which the numbers come."""
  return hashlib.sha256(json.dumps(header, sort_keys=True).encode())


def numbers(data: bytes | np.ndarray, kind: str) -> np.ndarray:
  """Little-endian bytes -> (N,) numbers of a kind; of bfloat16 float32."""
  if kind == "bfloat16":  # The upper half of a float32.
    return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
  return np.frombuffer(data, np.dtype(kind).newbyteorder("<"))
