"""Weights of the frozen networks: where they are, conversion and loading.

Nothing is downloaded. A user puts a public file somewhere and converts it once;
`vidgan weights` says which. The results are files of safetensors.
"""

from collections.abc import Callable
from collections.abc import Iterable
import hashlib
import importlib
import os
import pathlib
import re
from typing import Any

from flax import traverse_util
import numpy as np

from vidgan_jax import errors
from vidgan_jax import rooms
from vidgan_jax.nets import public
from vidgan_jax.store import files
from vidgan_jax.store import tensors as tensors_lib

FORMAT = "1"  # Of our files.
_NETS = pathlib.Path(__file__).parent


class Missing(errors.UserError):
  """The weights of a network are not there; its text is for the report."""


def folder() -> pathlib.Path:
  """Where the converted files are: $VIDGAN_WEIGHTS or a folder in ~/.cache."""
  chosen = os.environ.get("VIDGAN_WEIGHTS")
  return pathlib.Path(chosen or "~/.cache/vidgan_jax/weights").expanduser()


def names() -> list[str]:
  """Networks that have weights: the files of nets/ with a `SOURCE`."""
  return sorted(
    path.stem
    for path in _NETS.glob("*.py")
    if re.search("^SOURCE = ", path.read_text(), re.MULTILINE)
  )


def net(name: str) -> Any:
  """The module of a network.

  Raises:
    ConfigError: there is none of this name.
  """
  rooms.check_name(name, names(), "the network")
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
    more = {
      key: value
      for key, value in public.read(path).items()
      if not unused.fullmatch(key)
    }
    if both := sorted(tensors.keys() & more.keys()):
      raise errors.UserError(
        f"{path}: the tensor {both[0]!r} is in an earlier file too; give each "
        "file once."
      )
    tensors |= more
  try:
    params = module.convert(tensors)
  except ValueError as e:
    raise errors.UserError(f"{', '.join(map(str, paths))}: {e}") from e
  flat = traverse_util.flatten_dict(params, sep="/")
  sums = list(map(_sha256, paths))
  for path, sha256 in zip(paths, sums):
    log(f"{path.name}: {_known_sum(module, sha256)}")
  facts = {
    "network": name,
    "source_file": ", ".join(path.name for path in paths),
    "source_sha256": ", ".join(sums),
    "params_sha256": _digest(flat),
    "format": FORMAT,
  }
  target = pathlib.Path(out or folder()) / f"{name}.safetensors"
  tensors_lib.save(target, flat, facts)
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
    wanted = " ".join(source.split("\n\n")[0].split())
    raise Missing(
      f"not computed: put {path.name} at {path.parent} (see docs/metrics.md): "
      f"`vidgan weights convert {name} FILE` makes it of {wanted}"
    )
  again = f"Make it again: vidgan weights convert {name} FILE."
  try:
    flat, facts = tensors_lib.load(path)
  except ValueError as e:
    raise errors.UserError(f"{e} {again}") from e
  if (facts.get("network"), facts.get("format")) != (name, FORMAT):
    raise errors.UserError(
      f"{path} holds the weights of {facts.get('network')!r} in format "
      f"{facts.get('format')!r}, not of {name!r} in format {FORMAT!r}. {again}"
    )
  if _digest(flat) != facts.get("params_sha256"):
    raise errors.UserError(
      f"{path} is damaged: its numbers are not those that were written. {again}"
    )
  return traverse_util.unflatten_dict(flat, sep="/"), facts["params_sha256"]


def _known_sum(module, sha256):
  """Whether a public file is one whose sha256 the network's `SOURCE` has.

  There are whole sums, and the first digits in the names of PyTorch's files.
  """
  known = re.findall(
    r"\b[0-9a-f]{64}\b|(?<=-)[0-9a-f]{8}(?=\.pth)", module.SOURCE
  )
  if sha256.startswith(tuple(known)):
    return "a known file, by its sha256"
  if not known:
    return (
      f"sha256 {sha256}; none is known here to compare it with: compare it "
      "with the publisher's"
    )
  return (
    f"warning: sha256 {sha256} is not one of the known files "
    f"({', '.join(known)}): another release, or damaged. Compare it with the "
    "publisher's before you trust a figure."
  )


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
