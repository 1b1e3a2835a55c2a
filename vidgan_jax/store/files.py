"""Files that exist as a whole or not at all.

`write` is the only way by which this package replaces a file: the new content
goes to a temporary name beside the target, is flushed to the disk, and then
gets the target's name. A process that is killed meanwhile leaves the target as
it was and a temporary file, which goes when the same file is written again.

`locked` and `alone` keep other processes out, by `flock`: the system ends a
lock with its process, however that ends.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import logging
import math
import os
import pathlib
import re
import secrets
import shutil
import socket
import time
from typing import Any
from typing import BinaryIO
import zlib

from vidgan_jax import errors

# .NAME.HOST-PID-RANDOM.tmp, and what is made beside it with a suffix more;
# earlier versions had a random number alone.
_TEMPORARY = re.compile(
  r"\.(.+)\.(?:([0-9a-f]{8})-(\d+)-)?[0-9a-f]{4,8}\.tmp(\.\w+)?", re.DOTALL
)
# What file systems without flock answer.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def write(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Gives a temporary name, whose content becomes `path` when all is well.

  The block writes a file of this name, or makes a folder of it. A file is
  flushed to the disk before it gets its name; the files of a folder are not.
  When the block raises, `path` is as it was and no file is left. When only the
  last step fails, since `path` cannot be replaced, the result is kept.

  Args:
    path: of the result; its folder is made. It replaces a file, or an empty
      folder.

  Yields:
    A name in the same folder, which does not exist yet.

  Raises:
    OSError: it cannot be written, or not get its name; says where it is kept.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  clear(path.parent, path.name)
  token = f"{_host()}-{os.getpid()}-{secrets.token_hex(2)}"
  temporary = path.with_name(f".{path.name}.{token}.tmp")
  try:
    yield temporary
    if not temporary.is_dir():
      with open(temporary, "rb") as file:
        os.fsync(file.fileno())
  except BaseException as error:
    _remove(temporary)
    # Of a full disk the system does not say which file.
    if isinstance(error, OSError) and error.errno:
      if error.filename is None or str(error.filename) == str(temporary):
        error.filename = str(path)
    raise
  try:
    move(temporary, path)
  except OSError as error:
    kept = path.with_name(f"{path.stem}.{token[-4:]}{path.suffix}")
    try:
      move(temporary, kept)
    except OSError:
      kept = temporary
    text = f"{error.strerror}; what was made is kept as {kept}"
    raise OSError(error.errno, text, str(path)) from None


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
  """Temporary files in a folder whose writers are dead.

  A writer on another host counts as alive for a day.

  Args:
    folder: to look in.
    name: only those of the file of this name.
  """
  folder = pathlib.Path(folder)
  names = os.listdir(folder) if folder.is_dir() else ()
  matches = filter(None, map(_TEMPORARY.fullmatch, names))
  return sorted(
    folder / m[0]
    for m in matches
    if name in (None, m[1]) and not _alive(folder / m[0], m[2], m[3])
  )


def clear(folder: str | os.PathLike[str], name: str | None = None) -> None:
  """Removes `leftovers`."""
  for path in leftovers(folder, name):
    _remove(path)


@functools.cache
def _host() -> str:
  return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _alive(path: pathlib.Path, host: str | None, pid: str | None) -> bool:
  """Whether the writer of a temporary file may still write it."""
  if pid is None:
    return False
  if host != _host() or int(pid) == os.getpid():
    # Another machine's, or a container's that had this name and number too.
    with contextlib.suppress(FileNotFoundError):
      return time.time() - path.stat().st_mtime < 24 * 3600
    return True
  try:
    os.kill(int(pid), 0)
  except (ProcessLookupError, OverflowError):
    return False
  except PermissionError:  # It is another user's, and alive.
    pass
  return True


def _remove(path: pathlib.Path) -> None:
  if path.is_dir():
    shutil.rmtree(path, ignore_errors=True)
  else:
    path.unlink(missing_ok=True)


# --------------------------------------------------------------------- locks


@contextlib.contextmanager
def locked(
  path: str | os.PathLike[str], wait: bool = True
) -> Iterator[BinaryIO]:
  """Opens a file that no other process has open by this call meanwhile.

  Args:
    path: made if it is missing. The block may replace it by `write`.
    wait: until the others have closed it.

  Yields:
    The file, to be read and appended to.

  Raises:
    BlockingIOError: another process has it, and `wait` is False.
    OSError: it cannot be opened.
  """
  while True:
    with open(path, "a+b") as file:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
      except OSError as e:
        if e.errno not in _NO_LOCKS:
          raise
        _warn_of_no_locks(pathlib.Path(path).parent)
      # Who had the lock before may have given the name to another file.
      with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
          yield file
          return


@contextlib.contextmanager
def alone(path: str | os.PathLike[str]) -> Iterator[None]:
  """Lets one process at a time into the block.

  Args:
    path: of a file in the folder where it works; it says who is in, and stays.

  Raises:
    UserError: another process is in.
    OSError: the file cannot be opened.
  """
  path = pathlib.Path(path)
  with contextlib.ExitStack() as stack:
    try:
      file = stack.enter_context(locked(path, wait=False))
    except BlockingIOError:
      holder = path.read_text() or "since a moment ago"
      raise errors.UserError(
        f"{path.parent} is in use by another process ({holder}): wait for its "
        "end, or stop it."
      ) from None
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    text = f"{os.getpid()} on {socket.gethostname()}, since {now}"
    try:
      os.truncate(path, 0)
      os.write(file.fileno(), text.encode())
    except OSError as e:
      raise OSError(e.errno, e.strerror, str(path)) from None
    yield


@functools.cache
def _warn_of_no_locks(folder: pathlib.Path) -> None:
  logging.warning(
    "The disk of %s knows no locks: see to it that two processes do not write "
    "there at once.",
    folder,
  )


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
