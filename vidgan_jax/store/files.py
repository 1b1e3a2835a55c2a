"""Files that exist as a whole or not at all.

`write` is the only way by which this package replaces a file: the new content
goes to a temporary name beside the target, is flushed to the disk, and then
gets the target's name. A process that is killed meanwhile leaves the target as
it was and a temporary file, which `leftovers` recognises.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import hashlib
import json
import math
import os
import pathlib
import re
import secrets
import shutil
from typing import Any

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp", re.DOTALL)


@contextlib.contextmanager
def write(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Gives a temporary name, whose content becomes `path` when all is well.

  The block writes a file of this name, or makes a folder of it. A file is
  flushed to the disk before it gets its name; the files of a folder are not.
  When the block raises, `path` is as it was and no file is left.

  Args:
    path: of the result; its folder is made. It replaces a file, or an empty
      folder.

  Yields:
    A name in the same folder, which does not exist yet.

  Raises:
    OSError: it cannot be written.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
  try:
    yield temporary
    if not temporary.is_dir():
      with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    move(temporary, path)
  finally:
    _remove(temporary)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
  """Writes a file, see `write`."""
  with write(path) as temporary:
    temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
  """Writes a file in UTF-8, see `write`."""
  write_bytes(path, text.encode())


def write_json(
  path: str | os.PathLike[str], value: Any, indent: int | None = 2
) -> None:
  """Writes a value as strict JSON, see `write` and `plain`."""
  text = json.dumps(plain(value), indent=indent, allow_nan=False)
  write_text(path, text + "\n")


def move(
  source: str | os.PathLike[str], target: str | os.PathLike[str]
) -> None:
  """Gives a whole file or folder another name on the same disk, at once."""
  os.replace(source, target)


def leftovers(
  folder: str | os.PathLike[str], name: str | None = None
) -> list[pathlib.Path]:
  """Temporary files in a folder.

  If no other process writes there, killed ones have left them.

  Args:
    folder: to look in.
    name: only those of the file of this name.
  """
  folder = pathlib.Path(folder)
  paths = sorted(folder.iterdir()) if folder.is_dir() else ()
  matches = ((path, _TEMPORARY.fullmatch(path.name)) for path in paths)
  return [path for path, m in matches if m and name in (None, m[1])]


def clear(folder: str | os.PathLike[str], name: str | None = None) -> None:
  """Removes `leftovers`."""
  for path in leftovers(folder, name):
    _remove(path)


def _remove(path: pathlib.Path) -> None:
  if path.is_dir():
    shutil.rmtree(path, ignore_errors=True)
  else:
    path.unlink(missing_ok=True)


def plain(value: Any) -> Any:
  """The value as it comes back from JSON that `write_json` has written.

  Tuples are lists, keys are texts, and numbers that are not finite, which JSON
  does not know, are the texts "NaN", "Infinity" and "-Infinity"; `float` reads
  them.
  """
  if isinstance(value, Mapping):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(item) for item in value]
  if not isinstance(value, float) or math.isfinite(value):
    return value
  return "NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity"


def digest(path: str | os.PathLike[str]) -> str:
  """sha256 of a file, or of the files of a folder with their names, in hex."""
  path = pathlib.Path(path)
  if not path.is_dir():
    with open(path, "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  total = hashlib.sha256()
  for inner in sorted(p for p in path.rglob("*") if p.is_file()):
    total.update(f"{inner.relative_to(path)} {digest(inner)}\n".encode())
  return total.hexdigest()
