"""Tensors in pickles, of which nothing is executed.

A pickle is a program: whoever opens one as Python does runs it. Here it is
followed as a list of instructions, of which those are known that build plain
values, NumPy's arrays and PyTorch's tensors; a file that names anything else is
refused by that name.
"""

import dataclasses
import io
import math
import os
import pathlib
import pickletools
import re
import struct
from typing import NamedTuple
import zipfile

import numpy as np

from vidgan_jax import errors
from vidgan_jax.store import tensors as tensors_lib

_OLD_TORCH = 0x1950A86A20F9469CFC6C  # The first number in its files.
_STORAGES = {
  "FloatStorage": "f4",
  "DoubleStorage": "f8",
  "HalfStorage": "f2",
  "BFloat16Storage": "bfloat16",
  "LongStorage": "i8",
  "IntStorage": "i4",
  "ShortStorage": "i2",
  "CharStorage": "i1",
  "ByteStorage": "u1",
  "BoolStorage": "?",
}


class _Global(NamedTuple):
  """A name in a pickle. Nothing is imported for it."""

  module: str
  name: str


class _Module(dict):
  """The attributes of an object of a TorchScript class."""


@dataclasses.dataclass
class _Array:
  """A NumPy array of a pickle: first empty, then built."""

  value: np.ndarray | None = None

  def build(self, state):
    """Takes (version, shape, kind, whether columns come first, bytes)."""
    _, shape, kind, columns, data = state
    plain = isinstance(kind, _Kind) and re.fullmatch("[fiub][1248]", kind)
    if not (plain and isinstance(data, (bytes, bytearray))):
      raise ValueError("it holds an array that is not of plain numbers")
    values = tensors_lib.numbers(data, kind)
    self.value = values.reshape(shape, order="F" if columns else "C")
    return self


class _Kind(str):
  """The kind of an array's numbers, 'f4'."""


# What a pickle may call, and what it gets for its arguments. No other name may
# stand in it, but those of storages and of an archive's own classes.
_CALLS = {
  _Global("collections", "OrderedDict"): lambda items=(): dict(items),
  _Global("torch", "Size"): lambda sizes: sizes,
  _Global("torch._utils", "_rebuild_tensor"): lambda *args: _tensor(*args),
  _Global("torch._utils", "_rebuild_tensor_v2"): lambda *args: _tensor(*args),
  _Global("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
  _Global("torch.jit._pickle", "restore_type_tag"): lambda value, _: value,
  _Global("numpy", "dtype"): lambda kind, *_: _Kind(kind),
  _Global("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
  _Global("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
  _Global("numpy._core.numeric", "_frombuffer"): lambda *args: _buffer(*args),
  _Global("numpy.core.numeric", "_frombuffer"): lambda *args: _buffer(*args),
} | {
  _Global("torch.jit._pickle", f"build_{kind}list"): lambda values: values
  for kind in ("int", "double", "bool", "tensor")
}
# What trainers keep beside the weights, and nobody reads here.
_IGNORED = {
  _Global("argparse", "Namespace"),
  _Global("numpy", "ndarray"),
  _Global("numpy.core.multiarray", "scalar"),
  _Global("numpy._core.multiarray", "scalar"),
  _Global("_codecs", "encode"),
}


def _known(module, name):
  """The name as a `_Global`, if it is one that weights need."""
  asked = _Global(module, name)
  if (
    asked in _CALLS
    or asked in _IGNORED
    or (module == "torch" and name in _STORAGES)
    or module.startswith("__torch__")
  ):
    return asked
  raise ValueError(
    f"its pickle wants to call {module}.{name}, which no file of weights "
    "needs. Nothing of it was run. Where you trust the file, keep the tensors "
    "alone: torch.save(model.state_dict(), NEW_FILE)"
  )


def _tensor(storage, offset, size, stride, *_):
  """What torch._utils._rebuild_tensor_v2 does: a view of a storage."""
  # The last number that the view reaches; none beyond the storage is read, and
  # a small storage does not become a large tensor by strides of 0.
  last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
  if (
    min((offset, *size, *stride)) < 0
    or math.prod(size) > len(storage)
    or (math.prod(size) and last >= len(storage))
  ):
    raise ValueError(
      f"a tensor of shape {size} and strides {stride} does not lie in its "
      f"storage of {len(storage)} numbers"
    )
  strides = [step * storage.itemsize for step in stride]
  return np.lib.stride_tricks.as_strided(
    storage[offset:], size, strides, writeable=False
  )


def _buffer(data, kind, shape, order):
  """What NumPy's _frombuffer does, which pickles of protocol 5 call."""
  return _Array().build((1, shape, kind, order == "F", data))


# Instructions that push their argument, and those that push a new value.
_LITERALS = frozenset(
  "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE "
  "SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8 "
  "BYTEARRAY8 "
  "STRING BINSTRING SHORT_BINSTRING".split()
)
_MARK = object()
_VALUES = {
  "MARK": lambda: _MARK,
  "NONE": lambda: None,
  "NEWTRUE": lambda: True,
  "NEWFALSE": lambda: False,
  "EMPTY_DICT": dict,
  "EMPTY_LIST": list,
  "EMPTY_TUPLE": tuple,
}


def _follow(file, storage):
  """Follows a pickle's instructions, of which it does the harmless ones.

  They work on a stack of values: a tuple is made of what was pushed since the
  last mark, `REDUCE` takes a name and its arguments, and so on.

  Args:
    file: binary file, read up to the end of the pickle.
    storage: (key, kind of number, how many) -> array.

  Returns:
    Dicts, lists, tuples, numbers, texts, arrays and `_Module`s.
  """
  stack, memo = [], {}

  def pop(count):
    values = stack[-count:]
    del stack[-count:]
    return values

  def pop_to_mark():
    at = max(i for i, value in enumerate(stack) if value is _MARK)
    values = stack[at + 1 :]
    del stack[at:]
    return values

  # The standard library splits the bytes into instructions and runs none.
  for op, arg, _ in pickletools.genops(file):
    match op.name:
      case "PROTO" | "FRAME":
        pass
      case "STOP":
        return stack.pop()
      case name if name in _LITERALS:
        stack.append(arg)
      case name if name in _VALUES:
        stack.append(_VALUES[name]())
      case "TUPLE":
        stack.append(tuple(pop_to_mark()))
      case "LIST":
        stack.append(pop_to_mark())
      case "TUPLE1" | "TUPLE2" | "TUPLE3":
        stack.append(tuple(pop(int(op.name[-1]))))
      case "APPEND":
        value = stack.pop()
        stack[-1].append(value)
      case "APPENDS":
        values = pop_to_mark()
        stack[-1].extend(values)
      case "SETITEM":
        key, value = pop(2)
        stack[-1][key] = value
      case "SETITEMS":
        values = pop_to_mark()
        stack[-1].update(zip(values[::2], values[1::2]))
      case "PUT" | "BINPUT" | "LONG_BINPUT":
        memo[arg] = stack[-1]
      case "MEMOIZE":
        memo[len(memo)] = stack[-1]
      case "GET" | "BINGET" | "LONG_BINGET":
        stack.append(memo[arg])
      case "GLOBAL":
        stack.append(_known(*arg.split(" ", 1)))
      case "STACK_GLOBAL":
        stack.append(_known(*pop(2)))
      case "BINPERSID":
        stack.append(_stored_by(storage, *stack.pop()))
      case "REDUCE" | "NEWOBJ":
        stack.append(_call(*pop(2)))
      case "BUILD":
        state = stack.pop()
        _build(stack[-1], state)
      case _:
        raise ValueError(f"its pickle has the instruction {op.name}")
  raise ValueError("its pickle has no end")


def _stored_by(storage, what, *arguments):
  """The array of a storage, which a pickle refers to and does not hold."""
  if what != "storage":
    raise ValueError(f"its pickle refers to {what!r}, not to a storage")
  kind, key, _, count, *view = arguments
  if any(view):
    raise ValueError("its pickle refers to a part of a storage")
  return storage(key, _STORAGES[kind.name], count)


def _call(function, arguments):
  """What a call is answered with; an unknown object is one without methods."""
  if function in _CALLS:
    return _CALLS[function](*arguments)
  if function in _IGNORED or function.module.startswith("__torch__"):
    return _Module()
  raise ValueError(f"its pickle calls {function}")


def _build(value, state):
  """Gives an object its state."""
  if isinstance(value, _Module) and isinstance(state, dict):
    value.update(state)
  elif isinstance(value, _Array):
    value.build(state)
  elif isinstance(value, _Kind) and state[1] == ">":
    raise ValueError("its numbers are a big-endian machine's")


def read_archive(
  archive: zipfile.ZipFile, name: str, path: pathlib.Path
) -> dict[str, np.ndarray]:
  """Tensors of what `torch.save` or `torch.jit.save` wrote.

  Args:
    archive: PyTorch's.
    name: of the pickle in it, FOLDER/data.pkl.
    path: of the archive.

  Raises:
    UserError: it is damaged, or its pickle names what weights do not need.
  """
  # ROOT/data.pkl holds the names and shapes, ROOT/data/KEY the numbers.
  root = name.removesuffix("data.pkl")
  inner, storages = set(archive.namelist()), {}
  order = f"{root}byteorder"
  if order in inner and archive.read(order) != b"little":
    raise errors.UserError(f"{path} was written on a big-endian machine.")

  def storage(key, kind, _):
    if (key, kind) not in storages:
      data = _stored(archive, f"{root}data/{key}")
      storages[key, kind] = tensors_lib.numbers(data, kind)
    return storages[key, kind]

  try:
    # In memory no instruction can ask for more bytes than there are.
    return _tensors(_follow(io.BytesIO(archive.read(name)), storage))
  except zipfile.BadZipFile:
    raise
  except Exception as e:  # A damaged pickle can fail in any way.
    raise _refused(path, e) from e


def _stored(archive, name):
  """Bytes of a file in an archive, left on the disk if they are plain there."""
  info = archive.getinfo(name)
  if info.compress_type != zipfile.ZIP_STORED or not info.file_size:
    return archive.read(name)
  with archive.open(info) as file:
    while file.read(1 << 22):  # It compares the checksum at the end.
      pass
  # A file's own header has 30 bytes, of which the last four say how long its
  # name and its extra field are; then comes the content.
  with open(archive.filename, "rb") as file:
    file.seek(info.header_offset + 26)
    start = info.header_offset + 30 + sum(struct.unpack("<2H", file.read(4)))
  return np.memmap(archive.filename, np.uint8, "r", start, info.file_size)


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Tensors of a dict of NumPy arrays, or of what old PyTorch (< 1.6) wrote.

  Raises:
    UserError: it is damaged, or names what weights do not need.
  """
  with open(path, "rb") as file:
    if _OLD_TORCH.to_bytes(10, "little") in file.read(32):
      return _read_old_torch(path)
    file.seek(0)
    try:
      return _tensors(_follow(io.BytesIO(file.read()), None))
    except Exception as e:  # A damaged pickle can fail in any way.
      raise _refused(path, e) from e


def _read_old_torch(path):
  """Pickles in a row, then the numbers.

  The pickles are the magic number, the version, the writer's types, the tree
  and the keys of its storages. The tree is followed twice: it says how long
  each storage is, whose numbers come last.
  """
  size, storages, blanks = path.stat().st_size, {}, {}

  def blank(key, kind, count):
    if key not in blanks:
      half = kind == "bfloat16"  # Of which float32 is made.
      width = 2 if half else np.dtype(kind).itemsize
      storages[key] = kind, count * width
      if count < 0 or sum(length for _, length in storages.values()) > size:
        raise ValueError(f"it has no {count} numbers")
      blanks[key] = np.zeros(count, "f4" if half else kind)
    return blanks[key]

  def filled(key, kind, _):
    return storages[key, kind]

  try:
    with open(path, "rb") as file:
      _, version, writer = (_follow(file, blank) for _ in range(3))
      if version != 1001 or not writer["little_endian"]:
        raise ValueError("it is another pickle, or a big-endian machine's")
      start = file.tell()
      _follow(file, blank)
      for key in _follow(file, blank):
        kind, length = storages.pop(key)
        file.seek(8, os.SEEK_CUR)  # The count again.
        data = file.read(length)
        if len(data) < length:
          raise ValueError("it is cut short")
        storages[key, kind] = tensors_lib.numbers(data, kind)
      file.seek(start)
      return _tensors(_follow(file, filled))
  except Exception as e:  # A damaged pickle can fail in any way.
    raise _refused(path, e) from e


def _refused(path: pathlib.Path, error: Exception) -> errors.UserError:
  return errors.UserError(f"{path} is refused: {errors.brief(error, 400)}.")


def _tensors(tree):
  """The tensors of a tree, by their names in its state dict."""
  return _flatten(_unwrap(tree), "", set())


def _unwrap(tree):
  """Goes from {'state_dict': {...}, 'epoch': 3} down to the state dict."""
  for _ in range(4):  # Trainers nest no deeper.
    if isinstance(tree, _Module) or not isinstance(tree, dict):
      break
    inside = {
      name: value
      for name, value in tree.items()
      if isinstance(value, dict) and _flatten(value, "", set())
    }
    known = inside.keys() & {"state_dict", "model", "module"}
    # Tensors lie here already.
    if any(isinstance(value, (np.ndarray, _Array)) for value in tree.values()):
      break
    if len(known) == 1:
      (name,) = known
    elif len(inside) == 1:
      (name,) = inside
    else:
      break
    tree = inside[name]
  return tree


def _flatten(tree, prefix, seen):
  """Nested dicts and lists -> 'a.b.c' -> array. Nothing is gone into twice."""
  if isinstance(tree, (list, tuple)):
    tree = dict(enumerate(tree))
  tensors = {}
  for name, value in tree.items():
    value = value.value if isinstance(value, _Array) else value
    if isinstance(value, np.ndarray):
      tensors[f"{prefix}{name}"] = value
    elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
      seen.add(id(value))
      tensors |= _flatten(value, f"{prefix}{name}.", seen)
  return tensors
