"""Weights of the frozen networks: read from public files, kept as safetensors.

Nothing is downloaded. A user puts a public file somewhere and converts it once;
`vidgan weights` says which. Files are read as data: of a pickle only tensors
are rebuilt, and nothing in it is ever called. Tensors of large files stay on
the disk until they are wanted, so that a conversion takes the memory of its
result, however much else is in the file.
"""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import hashlib
import importlib
import json
import math
import os
import pathlib
import pickletools
import re
import struct
from typing import Any
from typing import NamedTuple
import zipfile

from flax import traverse_util
import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from vidgan_jax import config as config_lib
from vidgan_jax.store import files

FORMAT = "1"  # Of our files.
_NETS = pathlib.Path(__file__).parent


class Missing(ValueError):
  """The weights of a network are not there; its text is for the report."""


# ------------------------------------------------------------------- our files


def folder() -> pathlib.Path:
  """Where the converted files are: $VIDGAN_WEIGHTS or a folder in ~/.cache."""
  found = os.environ.get("VIDGAN_WEIGHTS")
  return pathlib.Path(found or "~/.cache/vidgan_jax/weights").expanduser()


def names() -> list[str]:
  """Networks that have weights: the files of nets/ with a `convert`."""
  return sorted(
    path.stem
    for path in _NETS.glob("*.py")
    if path != pathlib.Path(__file__)
    and re.search(r"^def convert\(", path.read_text(), re.MULTILINE)
  )


def net(name: str) -> Any:
  """The module of a network.

  Raises:
    ConfigError: there is none of this name.
  """
  config_lib.check_name(name, names(), "the network")
  return importlib.import_module(f"vidgan_jax.nets.{name}")


def where(name: str) -> pathlib.Path:
  """Where the file of a network is or has to be."""
  return folder() / f"{name}.safetensors"


def convert(
  name: str,
  paths: str | os.PathLike | Iterable[str | os.PathLike],
  out: str | os.PathLike | None = None,
  log: Callable[[str], None] = print,
) -> pathlib.Path:
  """Makes our file of a public one.

  Args:
    name: a network of `names()`.
    paths: the public file, or the files where a network has several.
    out: folder of the result; `folder()` if None.
    log: gets a line for each file, whether its sha256 is a known one.

  Returns:
    The path of the result, which is there whole or not at all.

  Raises:
    ValueError: a file cannot be read, or is not this network's.
    OSError: a file is not there, or the result cannot be written.
  """
  if isinstance(paths, (str, os.PathLike)):
    paths = [paths]
  paths = [pathlib.Path(path) for path in paths]
  module, tensors = net(name), {}
  # What public files hold beside the network, as an optimizer's state.
  unused = re.compile(getattr(module, "UNUSED", ""))
  for path in paths:
    found = {
      key: value
      for key, value in read(path).items()
      if not unused.fullmatch(key)
    }
    if both := sorted(tensors.keys() & found.keys()):
      raise ValueError(
        f"{path}: the tensor {both[0]!r} is in an earlier file too; give each "
        "file once."
      )
    tensors |= found
  try:
    params = module.convert(tensors)
  except ValueError as e:
    raise ValueError(f"{', '.join(map(str, paths))}: {e}") from e
  flat = traverse_util.flatten_dict(params, sep="/")
  sums = list(map(_sha256, paths))
  for path, found in zip(paths, sums):
    log(f"{path.name}: {_known_sum(module, found)}")
  facts = {
    "network": name,
    "source_file": ", ".join(path.name for path in paths),
    "source_sha256": ", ".join(sums),
    "params_sha256": _digest(flat),
    "format": FORMAT,
  }
  target = pathlib.Path(out or folder()) / f"{name}.safetensors"
  target.parent.mkdir(parents=True, exist_ok=True)
  with files.write(target) as temporary:
    _write(temporary, flat, facts)
  return target


def load(name: str) -> tuple[dict[str, Any], str]:
  """Reads the weights of a network.

  Args:
    name: a network of `names()`.

  Returns:
    Its parameters (nested, NumPy) and their sha256, in hex, for the settings
    of a figure: the same whatever file they were converted from.

  Raises:
    Missing: the file is not there.
    ValueError: it is damaged, or another network's.
  """
  path, source = where(name), net(name).SOURCE
  if not path.is_file():
    public = " ".join(source.split("\n\n")[0].split())
    raise Missing(
      f"not computed: put {path.name} at {path.parent} (see docs/metrics.md): "
      f"`vidgan weights convert {name} FILE` makes it of {public}"
    )
  again = f"Make it again: vidgan weights convert {name} FILE."
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      facts = file.metadata() or {}
    flat = safetensors_numpy.load_file(path)
  except Exception as e:  # The library has errors of its own.
    raise ValueError(f"{path} is damaged: {e}. {again}") from e
  if (facts.get("network"), facts.get("format")) != (name, FORMAT):
    raise ValueError(
      f"{path} holds the weights of {facts.get('network')!r} in format "
      f"{facts.get('format')!r}, not of {name!r} in format {FORMAT!r}. {again}"
    )
  if _digest(flat) != facts.get("params_sha256"):
    raise ValueError(
      f"{path} is damaged: its numbers are not those that were written. {again}"
    )
  return traverse_util.unflatten_dict(flat, sep="/"), facts["params_sha256"]


def _known_sum(module, found):
  """Whether a public file is one whose sha256 the network's `SOURCE` has.

  There are whole sums, and the first digits in the names of PyTorch's files.
  """
  known = re.findall(
    r"\b[0-9a-f]{64}\b|(?<=-)[0-9a-f]{8}(?=\.pth)", module.SOURCE
  )
  if found.startswith(tuple(known)):
    return "a known file, by its sha256"
  if not known:
    return (
      f"sha256 {found}; none is known here to compare it with: compare it with "
      "the publisher's"
    )
  return (
    f"warning: sha256 {found} is not one of the known files "
    f"({', '.join(known)}): another release, or damaged. Compare it with the "
    "publisher's before you trust a figure."
  )


def _write(path, flat, facts):
  """A file of safetensors; the library's writer copies all tensors first."""
  kinds = {
    np.dtype(kind): name
    for name, kind in _SAFETENSORS.items()
    if kind != "bf16"
  }
  header, end = {"__metadata__": facts}, 0
  for name in sorted(flat):
    value, start = flat[name], end
    end += value.nbytes
    header[name] = {
      "dtype": kinds[value.dtype],
      "shape": value.shape,
      "data_offsets": [start, end],
    }
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)
  with open(path, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    for name in sorted(flat):
      file.write(np.ascontiguousarray(flat[name]).data)


def _digest(flat):
  """sha256 of names, types, shapes and numbers."""
  total = hashlib.sha256()
  for name in sorted(flat):
    value = np.ascontiguousarray(flat[name])
    total.update(f"{name} {value.dtype} {value.shape}\n".encode())
    total.update(value.data)
  return total.hexdigest()


def _sha256(path):
  """sha256 of a file, a folder, or the files of a TensorFlow checkpoint."""
  if path.exists():
    return files.digest(path)
  total = hashlib.sha256()
  for inner in sorted(path.parent.glob(f"{path.name}.*")):  # It is a prefix.
    total.update(f"{inner.name} {files.digest(inner)}\n".encode())
  return total.hexdigest()


# ---------------------------------------------------------------- public files


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads the tensors of a public file, whatever its name says.

  Understood are safetensors; what `torch.save` and `torch.jit.save` write, now
  (a zip archive) and before PyTorch 1.6; .npz; pickled dicts of NumPy arrays,
  as users of Flax keep them; a TF-Hub module, SavedModel or TensorFlow
  checkpoint, through TensorFlow; ONNX. Of a pickle nothing is executed.

  Args:
    path: a file, a folder, or the prefix of a TensorFlow checkpoint.

  Returns:
    name -> array. Names of nested dicts and modules are joined by dots, those
    around everything ('state_dict', 'model') left out. float16 and bfloat16
    become float32.

  Raises:
    FileNotFoundError: there is nothing.
    ValueError: it is damaged, or of a kind that is not read.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    tensors = _read_tensorflow(path)
  elif not path.exists() and path.with_name(f"{path.name}.index").exists():
    tensors = _read_tensorflow(path)
  else:
    with open(path, "rb") as file:
      head = file.read(512)
    if path.suffix == ".index" and path.with_suffix("").name:
      tensors = _read_tensorflow(path.with_suffix(""))
    elif head[:4] == b"PK\x03\x04":
      tensors = _read_zip(path)
    elif head[8:9] == b"{":
      tensors = _read_safetensors(path)
    elif head[:1] == b"\x80":
      tensors = _read_pickle(path)
    elif head[257:262] == b"ustar":
      raise ValueError(
        f"{path} is a tar archive, as PyTorch before version 0.4 wrote them, "
        "which is not opened here. Where you trust it, save it anew: torch."
        "save(torch.load(OLD, map_location='cpu', weights_only=True), NEW)."
      )
    else:
      tensors = _read_onnx(path)
  if not tensors:
    raise ValueError(f"{path} holds no tensors.")
  return {
    name: value.astype(np.float32) if value.dtype == np.float16 else value
    for name, value in tensors.items()
  }


def _read_safetensors(path):
  """Read here, since NumPy has no bfloat16 and the library needs one."""
  data = np.memmap(path, np.uint8, "r")
  (length,) = struct.unpack("<Q", bytes(data[:8]))
  tensors = {}
  try:
    header = json.loads(bytes(data[8 : 8 + length]))
    header.pop("__metadata__", None)
    for name, entry in header.items():
      start, stop = entry["data_offsets"]
      kind = _SAFETENSORS[entry["dtype"]]
      part = data[8 + length + start : 8 + length + stop]
      tensors[name] = _numbers(part, kind).reshape(entry["shape"])
  except (ValueError, KeyError, TypeError) as e:
    raise ValueError(f"{path} is a damaged file of safetensors: {e!r}.") from e
  return tensors


_SAFETENSORS = {
  "F64": "f8",
  "F32": "f4",
  "F16": "f2",
  "BF16": "bf16",
  "I64": "i8",
  "I32": "i4",
  "I16": "i2",
  "I8": "i1",
  "U8": "u1",
  "BOOL": "?",
}


def _numbers(data: bytes, kind: str) -> np.ndarray:
  """Little-endian bytes -> numbers; bfloat16 as float32."""
  if kind == "bf16":  # The upper half of a float32.
    return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
  return np.frombuffer(data, np.dtype(kind).newbyteorder("<"))


def _read_zip(path):
  """.npz, or an archive of PyTorch's."""
  try:
    with zipfile.ZipFile(path) as archive:
      inner = archive.namelist()
      pickles = [name for name in inner if name.split("/")[1:] == ["data.pkl"]]
      if pickles:
        return _read_torch(archive, pickles[0].removesuffix("data.pkl"), path)
    if inner and all(name.endswith(".npy") for name in inner):
      with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
  except (zipfile.BadZipFile, EOFError, KeyError, OSError) as e:
    raise ValueError(f"{path} is a damaged archive: {e}.") from e
  except ValueError as e:
    if str(path) in str(e):
      raise
    raise ValueError(f"{path} cannot be read: {e}") from e
  raise ValueError(
    f"{path} is a zip archive, but neither PyTorch's nor one of .npy arrays."
  )


def _read_tensorflow(path):
  """Variables of a TF-Hub module, a SavedModel or a checkpoint."""
  prefix = path
  if path.is_dir():
    found = sorted([*path.glob("*.index"), *path.glob("variables/*.index")])
    if len(found) != 1:
      raise ValueError(
        f"The folder {path} is no TF-Hub module, SavedModel or checkpoint: it "
        f"has {len(found)} files *.index or variables/*.index, not one."
      )
    prefix = found[0].with_suffix("")
  try:
    import tensorflow as tf
  except ImportError as e:
    raise ValueError(
      f"{path} is TensorFlow's, which has to be there to read it: "
      "pip install tensorflow."
    ) from e
  try:
    reader = tf.train.load_checkpoint(str(prefix))
    types = reader.get_variable_to_dtype_map()
    return {
      name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"): np.asarray(
        reader.get_tensor(name), np.float32 if kind.is_floating else None
      )
      for name, kind in types.items()
      if kind.is_floating or kind.is_integer
    }
  except Exception as e:  # It raises anything.
    raise ValueError(f"{path} is a damaged checkpoint: {e}") from e


# --------------------------------------------------------------------- PyTorch

_STORAGES = {
  "FloatStorage": "f4",
  "DoubleStorage": "f8",
  "HalfStorage": "f2",
  "BFloat16Storage": "bf16",
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
    known = isinstance(kind, _Kind) and re.fullmatch("[fiub][1248]", kind)
    if not (known and isinstance(data, (bytes, bytearray))):
      raise ValueError("it holds an array that is not of plain numbers")
    self.value = _numbers(data, kind).reshape(shape, order="FC"[not columns])
    return self


class _Kind(str):
  """The kind of its numbers, 'f4'."""


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
  found = _Global(module, name)
  if (
    found in _CALLS
    or found in _IGNORED
    or (module == "torch" and name in _STORAGES)
    or module.startswith("__torch__")
  ):
    return found
  raise ValueError(
    f"its pickle wants to call {module}.{name}, which no file of weights "
    "needs. Nothing of it was run. Where you trust the file, keep the tensors "
    "alone: torch.save(model.state_dict(), NEW_FILE)"
  )


def _tensor(storage, offset, size, stride, *_):
  """What torch._utils._rebuild_tensor_v2 does: a view of a storage."""
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


def _open_pickle(file, storage):
  """Follows a pickle as a list of instructions, of which it does the harmless.

  Args:
    file: binary file.
    storage: (key, kind of number, how many) -> array.

  Returns:
    Dicts, lists, tuples, numbers, texts, arrays and `_Module`s.
  """
  stack, memo = [], {}

  def pop_to_mark():
    at = max(i for i, value in enumerate(stack) if value is _MARK)
    values = stack[at + 1 :]
    del stack[at:]
    return values

  for op, arg, _ in pickletools.genops(file):
    match op.name:
      case "PROTO" | "FRAME":
        pass
      case "STOP":
        return stack.pop()
      case "MARK":
        stack.append(_MARK)
      case "NONE":
        stack.append(None)
      case "NEWTRUE" | "NEWFALSE":
        stack.append(op.name == "NEWTRUE")
      case name if name in _LITERALS:
        stack.append(arg)
      case "EMPTY_DICT":
        stack.append({})
      case "EMPTY_LIST":
        stack.append([])
      case "EMPTY_TUPLE":
        stack.append(())
      case "TUPLE":
        stack.append(tuple(pop_to_mark()))
      case "LIST":
        stack.append(pop_to_mark())
      case "TUPLE1" | "TUPLE2" | "TUPLE3":
        count = int(op.name[-1])
        stack[-count:] = [tuple(stack[-count:])]
      case "APPEND":
        value = stack.pop()
        stack[-1].append(value)
      case "APPENDS":
        values = pop_to_mark()
        stack[-1].extend(values)
      case "SETITEM":
        key, value = stack[-2:]
        del stack[-2:]
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
        stack[-2:] = [_known(*stack[-2:])]
      case "BINPERSID":
        what, *storage_of = stack.pop()
        if what != "storage":
          raise ValueError(f"its pickle refers to {what!r}, not to a storage")
        kind, key, _, count, *view = storage_of
        if any(view):
          raise ValueError("its pickle refers to a part of a storage")
        stack.append(storage(key, _STORAGES[kind.name], count))
      case "REDUCE" | "NEWOBJ":
        function, args = stack[-2:]
        del stack[-2:]
        if function in _CALLS:
          stack.append(_CALLS[function](*args))
        elif function in _IGNORED or function.module.startswith("__torch__"):
          stack.append(_Module())
        else:
          raise ValueError(f"its pickle calls {function}")
      case "BUILD":
        state = stack.pop()
        if isinstance(stack[-1], _Module) and isinstance(state, dict):
          stack[-1].update(state)
        elif isinstance(stack[-1], _Array):
          stack[-1].build(state)
        elif isinstance(stack[-1], _Kind) and state[1] == ">":
          raise ValueError("its numbers are a big-endian machine's")
      case _:
        raise ValueError(f"its pickle has the instruction {op.name}")
  raise ValueError("its pickle has no end")


_MARK = object()
_LITERALS = frozenset(
  "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE "
  "SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8 "
  "BYTEARRAY8 "
  "STRING BINSTRING SHORT_BINSTRING".split()
)


def _read_torch(archive, root, path):
  """Tensors of what `torch.save` or `torch.jit.save` wrote."""
  inner, storages = set(archive.namelist()), {}
  order = f"{root}byteorder"
  if order in inner and archive.read(order) != b"little":
    raise ValueError(f"{path} was written on a big-endian machine.")

  def storage(key, kind, _):
    if (key, kind) not in storages:
      data = _stored(archive, f"{root}data/{key}")
      storages[key, kind] = _numbers(data, kind)
    return storages[key, kind]

  try:
    with archive.open(f"{root}data.pkl") as file:
      tree = _open_pickle(file, storage)
    return _flatten(_unwrap(tree), "", set())
  except zipfile.BadZipFile:
    raise
  except Exception as e:  # A damaged pickle can fail in any way.
    raise ValueError(f"{path} is refused: {e}.") from e


def _stored(archive, name):
  """Bytes of a file in an archive, left on the disk if they are plain there."""
  info = archive.getinfo(name)
  if info.compress_type != zipfile.ZIP_STORED or not info.file_size:
    return archive.read(name)
  with archive.open(info) as file:
    while file.read(1 << 22):  # It compares the checksum at the end.
      pass
  with open(archive.filename, "rb") as file:
    file.seek(info.header_offset + 26)
    start = info.header_offset + 30 + sum(struct.unpack("<2H", file.read(4)))
  return np.memmap(archive.filename, np.uint8, "r", start, info.file_size)


def _read_pickle(path):
  """A dict of NumPy arrays, or what `torch.save` wrote before 1.6."""
  with open(path, "rb") as file:
    if _OLD_TORCH.to_bytes(10, "little") in file.read(32):
      return _read_old_torch(path)
    file.seek(0)
    try:
      return _flatten(_unwrap(_open_pickle(file, None)), "", set())
    except Exception as e:  # A damaged pickle can fail in any way.
      raise ValueError(f"{path} is refused: {e}.") from e


def _read_old_torch(path):
  """Pickles in a row, then the numbers.

  They are of the magic number, the version, the writer's types, the tree and
  the keys of its storages. The tree is gone through twice, since how long a
  storage is stands in it and its numbers come last.
  """
  size, storages = path.stat().st_size, {}

  def blank(key, kind, count):
    width = 2 if kind == "bf16" else np.dtype(kind).itemsize
    if not 0 <= count * width <= size:
      raise ValueError(f"it has no {count} numbers")
    if key not in storages:
      storages[key] = kind, count * width
    return _numbers(bytes(count * width), kind)

  def known(key, kind, _):
    return storages[key, kind]

  try:
    with open(path, "rb") as file:
      _, version, writer = (_open_pickle(file, blank) for _ in range(3))
      if version != 1001 or not writer["little_endian"]:
        raise ValueError("it is another pickle, or a big-endian machine's")
      start = file.tell()
      _open_pickle(file, blank)
      for key in _open_pickle(file, blank):
        kind, length = storages.pop(key)
        file.seek(8, os.SEEK_CUR)  # The count again.
        data = file.read(length)
        if len(data) < length:
          raise ValueError("it is cut short")
        storages[key, kind] = _numbers(data, kind)
      file.seek(start)
      tree = _open_pickle(file, known)
    return _flatten(_unwrap(tree), "", set())
  except Exception as e:  # A damaged pickle can fail in any way.
    raise ValueError(f"{path} is refused: {e}.") from e


_OLD_TORCH = 0x1950A86A20F9469CFC6C


def _unwrap(tree):
  """Goes from {'state_dict': {...}, 'epoch': 3} down to the state dict."""
  for _ in range(4):
    if isinstance(tree, _Module) or not isinstance(tree, dict):
      break
    inside = {
      name: value
      for name, value in tree.items()
      if isinstance(value, dict) and _flatten(value, "", set())
    }
    known = inside.keys() & {"state_dict", "model", "module"}
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


# ------------------------------------------------------------------------ ONNX

# TensorProto.DataType.
_ONNX = {
  1: "f4",
  2: "u1",
  3: "i1",
  5: "i2",
  6: "i4",
  7: "i8",
  9: "?",
  10: "f2",
  11: "f8",
  16: "bf16",
}


def _read_onnx(path):
  """Initialisers of an ONNX model: fields 7 (graph) and 5 of the protocol."""
  data = memoryview(path.read_bytes())
  try:
    graphs = [value for field, value in _fields(data) if field == 7]
    if len(graphs) != 1 or isinstance(graphs[0], int):
      raise ValueError("no graph")
    parts = [value for field, value in _fields(graphs[0]) if field == 5]
    tensors = dict(_onnx_tensor(part) for part in parts)
  except LookupError as e:
    raise ValueError(f"{path} is an ONNX model that is not read: {e}.") from e
  except (ValueError, TypeError, AttributeError, struct.error) as e:
    raise ValueError(
      f"{path} is of no kind that is read here: safetensors, PyTorch's zip "
      "archive or TorchScript, .npz, a TF-Hub module, SavedModel or TensorFlow "
      "checkpoint, ONNX. Is it damaged, or a web page saved in its place?"
    ) from e
  return tensors


def _varint(data, at):
  value = shift = 0
  while True:
    if at >= len(data) or shift > 63:
      raise ValueError("cut short")
    byte = data[at]
    at += 1
    value |= (byte & 127) << shift
    if byte < 128:
      return value, at
    shift += 7


def _fields(data):
  """Yields (number, int or bytes) of a message in protobuf's wire format."""
  at = 0
  while at < len(data):
    key, at = _varint(data, at)
    number, wire = key >> 3, key & 7
    if wire == 0:
      value, at = _varint(data, at)
    elif wire in (1, 2, 5):
      size = {1: 8, 5: 4}.get(wire)
      if size is None:
        size, at = _varint(data, at)
      if number == 0 or at + size > len(data):
        raise ValueError("cut short")
      value, at = data[at : at + size], at + size
    else:
      raise ValueError("no protobuf")
    yield number, value


def _onnx_tensor(data):
  """A TensorProto -> its name and array."""
  dims, kind, name, raw, listed, strange = [], 1, "", None, b"", False
  for number, value in _fields(data):
    if number == 1:
      dims += [value] if isinstance(value, int) else _varints(value)
    elif number == 2:
      kind = value
    elif number == 8:
      name = bytes(value).decode()
    elif number == 9:
      raw = bytes(value)
    elif number in (4, 10):  # float_data and double_data.
      listed += bytes(value)
    elif number in (5, 7):  # int32_data and int64_data, as varints.
      if kind not in _ONNX:
        continue
      width = {5: "<i4", 7: "<i8"}[number]
      if number == 5 and kind in (10, 16):
        width = "<u2"
      elif number == 5:
        width = np.dtype(_ONNX[kind]).newbyteorder("<")
      numbers = [value] if isinstance(value, int) else _varints(value)
      listed += np.array(numbers, np.uint64).astype(width).tobytes()
    elif number in (13, 14):  # external_data and data_location.
      strange = strange or value != 0
  if kind not in _ONNX or strange:
    why = "in another file" if strange else f"of data type {kind}"
    raise LookupError(f"the numbers of {name!r} are {why}")
  numbers = _numbers(listed if raw is None else raw, _ONNX[kind])
  return name, numbers.reshape(dims)


def _varints(data):
  values, at = [], 0
  while at < len(data):
    value, at = _varint(data, at)
    values.append(value)
  return values
