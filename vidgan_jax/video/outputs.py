"""Which file each input becomes, and how it gets its name when it is whole."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import tempfile

from vidgan_jax.video import folder
from vidgan_jax.video import images
from vidgan_jax.video import read
from vidgan_jax.video import sink
from vidgan_jax.video import source as source_lib
from vidgan_jax.video import write


def plan(given: str, out: str, kind: str | None) -> list[tuple[str, str]]:
  """(input, output) of every file: one, or as many as a folder has videos.

  Args:
    given: file, folder, pattern, address or pipe.
    out: the same of what is made.
    kind: container of the outputs of a folder; None: as that of the inputs.

  Raises:
    read.VideoError: an input or another output would be overwritten.
  """
  many = not source_lib.is_live(given) and os.path.isdir(given)
  if not many or images.names(given):
    return [(given, out)]
  if os.path.isfile(out):
    raise read.VideoError(f"{out}: is a file, the input is a folder")
  inside = os.path.realpath(given)
  if os.path.commonpath([inside, os.path.realpath(out)]) == inside:
    raise read.VideoError(
      f"{out}: is the input, or in it; name a folder elsewhere"
    )
  try:
    sources = folder.scan(given, "videos")[1]
  except folder.FolderError as error:
    raise read.VideoError(str(error)) from None
  if not sources:
    raise read.VideoError(f"{given}: there are no videos in this folder")
  made = {}  # output -> input
  for source in sources:
    name, suffix = os.path.splitext(source.path)
    if kind == "png":
      suffix = os.sep
    elif kind:
      suffix = f".{kind.lstrip('.')}"
    elif suffix.lower() not in sink.FORMATS:
      suffix = ".mkv"
    path = os.path.join(given, source.path)
    target = os.path.join(out, name + suffix)
    if (other := made.setdefault(target, path)) != path:
      raise read.VideoError(
        f"{target}: would be made of {other} and of {path}; rename one, or"
        " process them into two folders"
      )
  return [(path, target) for target, path in made.items()]


def make_folder(path: str) -> None:
  """Makes the folder of the results, or says why it cannot be one."""
  try:
    os.makedirs(path, exist_ok=True)
    tempfile.TemporaryFile(dir=path).close()
  except OSError as error:
    raise read.VideoError(
      f"{path}: this folder cannot be written to ({read.reason(error)}); name"
      " another"
    ) from None


def mark(path: str) -> str:
  """Where a folder's file says of what it was made; makes its folder."""
  parent, name = os.path.split(path.rstrip(os.sep))
  os.makedirs(parent or ".", exist_ok=True)
  return os.path.join(parent, f".{name}.done")


def taken(out: str, kind: str) -> str:
  """Why an output of this container must not be written; '' if it may."""
  if source_lib.is_live(out):
    return ""
  if kind != "image2":
    text = f"{out}: is there already; give another name, or --overwrite"
    return text * os.path.isfile(out)
  target, pattern = images.place(out)
  return images.taken(target) * (
    f"{target}: this folder is not empty; images go into one of their own, or"
    f" --overwrite replaces those that are called {pattern}"
  )


@contextlib.contextmanager
def place(out: str, kind: str) -> Iterator[str]:
  """Where to write an output of this container; on success it gets its name."""
  if source_lib.is_live(out):
    yield {"-": "pipe:1"}.get(out, out)
  elif kind == "image2":
    with images.filling(out) as temporary:
      # Only the name has a number.
      pattern = images.place(out)[1]
      yield os.path.join(temporary.replace("%", "%%"), pattern)
  else:
    with write.replacing(out) as temporary:
      if kind != "gif":
        yield temporary
        return
      film = f"{temporary}.film"
      try:
        yield film
        images.gif(film, temporary)
      finally:
        pathlib.Path(film).unlink(missing_ok=True)
