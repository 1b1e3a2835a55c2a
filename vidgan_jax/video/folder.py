"""What a folder of videos holds: sources, labels, captions, splits.

Three layouts: `videos` (files), `frames` (a folder of images is one video) and
`strips` (an image holds the frames of one video side by side). First-level
sub-folders are labels; a metadata file may say otherwise, and more.
"""

import collections
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import csv
import dataclasses
import difflib
import fnmatch
import functools
import hashlib
import itertools
import json
import logging
import os
import pathlib
import re
import stat
import statistics
import types
from typing import Any
from typing import NamedTuple
from typing import TextIO
import unicodedata

from PIL import Image

from vidgan_jax import errors

LAYOUTS = ("videos", "frames", "strips")
IMAGES = (
  ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm",
)  # fmt: skip
VIDEOS = (
  ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".wmv", ".flv", ".mpg",
  ".mpeg", ".ts", ".m2ts", ".mts", ".3gp", ".ogv", ".ogg", ".vob", ".asf",
  ".rm", ".rmvb", ".mxf", ".gif", ".ivf", ".y4m", ".h264", ".hevc", ".dv",
)  # fmt: skip
# Not worth a line in the report when it cannot be decoded.
_OTHER = (
  ".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml",
  ".html", ".pdf", ".py", ".npy", ".npz", ".srt", ".vtt", ".wav", ".mp3",
  ".flac", ".aac", ".zip", ".tar", ".gz", ".db", ".ini", ".log",
)  # fmt: skip
SPLITS = ("train", "test")
_COLUMNS = ("file", "label", "caption", "split")  # of metadata
# Folders that cameras, disks and systems make beside the files of a user.
_THUMBNAILS = re.compile(
  r"[@._]*thumb(s|nails?)?|@eadir|[@#](recycle|tmp|snapshot)|__macosx"
  r"|\$recycle\.bin|system volume information|lost\+found",
  re.IGNORECASE,
)


class FolderError(errors.UserError):
  """The folder or its metadata cannot be used as they are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Maps:
  """The label maps of one source, see `video.maps`."""

  root: str
  names: tuple[str, ...]  # of the classes; (): nothing names them
  path: str = ""  # of their folder below the root, as the disk has it
  images: tuple[str, ...] = ()  # the k-th is of frame k; '': it has none
  note: str = ""  # for the user
  problem: str = ""  # why there are none


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """One source video, before it is opened."""

  file: str  # printable path below the root, with '/'; a folder for frames
  path: str  # the same as the disk has it
  bytes: int
  modified: int  # seconds since 1970
  images: tuple[str, ...] = ()  # names of the frames, in order
  maps: Maps | None = None  # None: not asked for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Notes:
  """What is known of the sources besides their pictures, by file."""

  classes: tuple[str, ...] = ()  # names; a label is an index into them
  labels: dict[str, int] = dataclasses.field(default_factory=dict)
  captions: dict[str, str] = dataclasses.field(default_factory=dict)
  splits: dict[str, str] = dataclasses.field(default_factory=dict)
  remarks: tuple[str, ...] = ()  # for the user


# ---------------------------------------------------------------- sources


def scan(
  root: str | os.PathLike[str], layout: str, exclude: Iterable[str] = ()
) -> tuple[str, list[Source]]:
  """Finds the source videos below a folder.

  Args:
    root: the folder; hidden files and folders, those of thumbnails, and what is
      not a regular file are passed over. Links are followed, and what several
      lead to is taken once.
    layout: 'videos' (every file that is not plainly something else), 'frames',
      'strips', or 'auto': videos when a file has a video's suffix; else strips
      when the images are at least 4 times as wide as high by a whole number;
      else frames when there are images; else videos.
    exclude: globs on the relative path or on the name of a file or folder.

  Returns:
    (layout, sources sorted by path).

  Raises:
    FolderError: the folder cannot be read.
  """
  root = pathlib.Path(root)
  if not root.is_dir():
    what = "is a file, not a folder" if root.exists() else "does not exist"
    raise FolderError(f"{root} {what}: give the folder that holds the videos")
  folders = _walk(root, tuple(exclude))
  files = [
    (here + file.name, (file,)) for here, rows in folders for file in rows
  ]
  if layout == "auto":
    suffixes = {_suffix(path) for path, *_ in files}
    if suffixes & set(VIDEOS):
      layout = "videos"
      count = sum(_suffix(path) in IMAGES for path, *_ in files)
      if count:
        _warn(
          "%s: %d images beside the videos are passed over; the layout frames"
          " or strips would take them",
          root,
          count,
        )
    elif suffixes & set(IMAGES):
      images = [root / path for path, *_ in files if _suffix(path) in IMAGES]
      layout = "strips" if _are_strips(images) else "frames"
    else:
      layout = "videos"
  if layout == "videos":
    other = {*_OTHER, *IMAGES} - {".webp"}
    files = [f for f in files if _suffix(f[0]) not in other]
  elif layout == "strips":
    files = [f for f in files if _suffix(f[0]) in IMAGES]
  elif layout == "frames":
    files = []
    for here, rows in folders:
      frames = {f.name: f for f in rows if _suffix(f.name) in (*IMAGES, ".gif")}
      if frames:
        rows = tuple(frames[name] for name in natural(frames))
        files.append((here[:-1] or ".", rows))
  else:
    raise FolderError(f"layout '{layout}' is not one of auto, {LAYOUTS}")
  return layout, [
    Source(
      file=printable(path),
      path=path,
      bytes=sum(file.bytes for file in rows),
      modified=max(file.modified for file in rows),
      images=tuple(f.name for f in rows) if layout == "frames" else (),
    )
    for path, rows in _once(root, files)
  ]


class _File(NamedTuple):
  """A file of a folder."""

  name: str
  bytes: int
  modified: int  # seconds since 1970
  key: Any  # the same for all names of one file
  linked: bool  # a link leads to it


@functools.cache
def _warn(text: str, *values: Any) -> None:
  """Says something of a folder once, however often it is scanned."""
  logging.warning(text, *values)


def _once(
  root: pathlib.Path, files: list[tuple[str, tuple[_File, ...]]]
) -> list[tuple[str, tuple[_File, ...]]]:
  """Each source once, sorted by path, however many links lead to it."""
  first = {}
  # A name that needs no link comes before those that do.
  for path, rows in sorted(
    files, key=lambda f: (any(x.linked for x in f[1]), f[0])
  ):
    first.setdefault(tuple(file.key for file in rows), (path, rows))
  kept = sorted(first.values())
  again = sorted({path for path, _ in files} - {path for path, _ in kept})
  if again:
    _warn(
      "%s: passed over, because they are links to clips that are read anyway:"
      " %d names, as %s",
      root,
      len(again),
      printable(again[0]),
    )
  return kept


def _walk(
  root: pathlib.Path, exclude: tuple[str, ...]
) -> list[tuple[str, list[_File]]]:
  """[(folder as 'a/b/' or '', its files)]; every folder on the disk once."""
  problems, out, other, again = [], [], [], []
  # A link to a folder that holds the root leads out of it and back.
  visited = set(map(str, pathlib.Path(os.path.realpath(root)).parents))
  starts = [str(root)]  # First the folder itself, then what links lead to.
  for start in starts:
    for folder, below, names in os.walk(start, onerror=problems.append):
      place = os.path.realpath(folder)
      if place in visited:
        again.append(os.path.relpath(folder, root))
        below.clear()
        continue
      visited.add(place)
      here = pathlib.Path(folder).relative_to(root).as_posix() + "/"
      here = "" if here == "./" else here
      keep = [n for n in sorted(below) if not _left_out(here, n, exclude)]
      other += [here + n for n in keep if _THUMBNAILS.fullmatch(n)]
      below[:] = [n for n in keep if not _THUMBNAILS.fullmatch(n)]
      paths = (os.path.join(folder, name) for name in below)
      starts += filter(os.path.islink, paths)
      names = [n for n in sorted(names) if not _left_out(here, n, exclude)]
      files = [_look(folder, name, start != starts[0]) for name in names]
      other += [here + n for n, f in zip(names, files) if f is None]
      out.append((here, [file for file in files if file]))
  for problem in problems:
    text = f"{problem.filename} cannot be read ({problem.strerror})"
    if not any(rows for _, rows in out):
      raise FolderError(f"{text}: check its permissions")
    _warn("%s and is passed over", text)
  for names, why in [
    (other, "they are thumbnails or of the system, or not regular files"),
    (again, "they are links to folders that are read anyway, or hold this one"),
  ]:
    if names:
      few = ", ".join(map(printable, names[:8])) + ", ..." * (len(names) > 8)
      _warn("%s: passed over, because %s: %s", root, why, few)
  return out


def _look(folder: str, name: str, linked: bool) -> _File | None:
  """A file; None: reading it would block, or it is not a regular file."""
  path = os.path.join(folder, name)
  try:
    status = os.stat(path)
  except OSError:  # a dangling link: the decoder will say so
    return _File(name, 0, 0, path, True)
  if not stat.S_ISREG(status.st_mode):
    return None
  size, modified = status.st_size, int(status.st_mtime)
  # Some network disks have no numbers of files.
  key = status.st_ino and (status.st_dev, status.st_ino, size, modified)
  return _File(
    name, size, modified, key or path, linked or os.path.islink(path)
  )


def _left_out(here: str, name: str, exclude: tuple[str, ...]) -> bool:
  return name.startswith(".") or any(
    fnmatch.fnmatchcase(path, glob.rstrip("/"))
    for glob in exclude
    for path in (name, here + name)
  )


def of_the_system(name: str) -> bool:
  """Whether a system has put a file or folder of this name beside others."""
  own = name.lower() in ("thumbs.db", "desktop.ini")
  return name.startswith(".") or own or bool(_THUMBNAILS.fullmatch(name))


def printable(name: str) -> str:
  r"""A name of a file as text: bytes that are not UTF-8 are written '\xff'."""
  return os.fsencode(name).decode("utf-8", "backslashreplace")


def _suffix(name: str) -> str:
  return os.path.splitext(name)[1].lower()


def natural(names: Iterable[str]) -> list[str]:
  """Sorts names so that frame2 comes before frame10."""

  def key(name):
    parts = re.split(r"([0-9]+)", name)
    return [(int(p), "") if i % 2 else (-1, p) for i, p in enumerate(parts)]

  return sorted(names, key=key)


def places(names: Sequence[str]) -> list[int]:
  """Numbers of the frames with these names: from 0, with gaps where they have.

  Args:
    names: in natural order.

  Returns:
    Increasing integers. Names that differ in more than one number, or in other
    than numbers, have no gaps. The step from one to the next is the smallest
    one if all others are its multiples, as of each tenth frame of a film; else
    the median, as of times of a camera.
  """
  parts = [re.split(r"([0-9]+)", os.path.splitext(name)[0]) for name in names]
  columns = [column for column in zip(*parts) if len(set(column)) > 1]
  alike = len(set(map(len, parts))) == 1
  if not alike or len(columns) != 1 or not columns[0][0].isdecimal():
    return list(range(len(names)))
  numbers = list(map(int, columns[0]))
  steps = [b - a for a, b in itertools.pairwise(numbers)]
  step = min(steps)
  if step < 1:  # 1 and 01
    return list(range(len(names)))
  if any(other % step for other in steps):
    step = statistics.median(steps)
  count = (max(1, round(other / step)) for other in steps)
  return list(itertools.accumulate(count, initial=0))


def missing(names: Sequence[str]) -> int:
  """How many frames are missing between those with these names."""
  numbers = places(names)
  return numbers[-1] + 1 - len(numbers)


def _are_strips(paths: Sequence[pathlib.Path]) -> bool:
  """Whether the images look like frames side by side; a sample decides."""
  seen = 0
  for path in paths[:: max(1, len(paths) // 8)]:
    try:
      with Image.open(path) as image:
        width, height = image.size
    except (OSError, ValueError, Image.DecompressionBombError):
      continue
    if width % height or width < 4 * height:
      return False
    seen += 1
  return seen > 0


# ---------------------------------------------------------------- labels


def annotate(
  sources: Sequence[Source],
  *,
  labels: bool = True,
  classes: Sequence[str] = (),
  metadata: str | None = None,
) -> Notes:
  """Labels, captions and splits of the sources.

  Args:
    sources: from `scan`.
    labels: whether there are any.
    classes: their names in order; empty: those found, sorted.
    metadata: a .csv or .jsonl file whose rows have `file` (path, name or name
      without suffix) and any of `label`, `caption`, `split`. When it has
      labels, those of the sub-folders do not count.

  Returns:
    The notes. Metadata label the files that they name; sub-folders label what
    lies in them, unless that is less than half of the sources.

  Raises:
    FolderError: metadata that cannot be read, a label that is not a class.
  """
  remarks = []
  rows = _metadata(metadata, sources, remarks) if metadata else {}
  given = lambda key: {f: row[key] for f, row in rows.items() if key in row}
  named, splits = given("label") if labels else {}, given("split")
  for file, split in splits.items():
    if split not in SPLITS:
      raise FolderError(
        f"{metadata}: the split {split!r} of {file} is neither 'train' nor"
        " 'test'"
      )
  if labels and not named:
    named = _labels_of_folders(sources, remarks)
  found = sorted(set(named.values()))
  remarks += [
    f"the labels '{a}' and '{b}' differ in their case alone"
    for a, b in itertools.combinations(found, 2)
    if a.casefold() == b.casefold()
  ]
  classes = list(map(_plain, classes)) if named else []
  classes = classes or found
  for name in found:
    if name not in classes:
      near = difflib.get_close_matches(name, classes, 1)
      hint = f"; did you mean '{near[0]}'?" if near else ""
      raise FolderError(
        f"the label '{name}' is not one of the classes {', '.join(classes)}"
        f"{hint} Add it to them, or exclude its files"
      )
  missing = len(sources) - len(named)
  if named and missing:
    remarks.append(f"{missing} videos have no label and are left out")
  return Notes(
    classes=tuple(classes),
    labels={file: classes.index(name) for file, name in named.items()},
    captions=given("caption"),
    splits=splits,
    remarks=tuple(remarks),
  )


def _labels_of_folders(
  sources: Sequence[Source], remarks: list[str]
) -> dict[str, str]:
  """{file: first-level sub-folder}; {} where most videos are in none."""
  named = {
    s.file: _plain(s.file.split("/")[0]) for s in sources if "/" in s.file
  }
  loose = [s.file for s in sources if s.file not in named]
  if not named or not loose:
    return named
  lie = f"{len(loose)} of {len(sources)} videos lie directly in the folder"
  if len(loose) > len(named):
    remarks.append(f"{lie}, so its sub-folders are not taken as labels")
    return {}
  remarks.append(
    f"{lie} and not in one of the sub-folders that are taken as labels, the"
    f" first is {loose[0]}; --no-labels takes them too"
  )
  return named


def _plain(text: Any) -> str:
  """A text as it is compared: without spaces around it, accents composed."""
  return unicodedata.normalize("NFC", str(text)).strip()


def _metadata(
  path: str, sources: Sequence[Source], remarks: list[str]
) -> dict[str, dict[str, str]]:
  """{source file: what the metadata give of it, no value empty}.

  Raises:
    FolderError: the file cannot be read or contradicts itself.
  """
  rows = _rows(path)
  if not rows:
    raise FolderError(f"{path} has no rows: there is no `file` in it")
  _check_columns(path, {key for _, row in rows for key in row}, remarks)
  by_name = {}
  name = lambda file: file.rsplit("/", 1)[-1]
  for key in (lambda f: os.path.splitext(name(f))[0], name, lambda f: f):
    by_name |= _unique(key, sources)
  merged, unknown = {}, []
  for number, row in rows:
    row = {key: row[key] for key in _COLUMNS if row.get(key)}
    if "file" not in row:
      raise FolderError(
        f"{path}: row {number} has no `file` (columns: {', '.join(_COLUMNS)})"
      )
    listed = row.pop("file")
    short = listed.removeprefix("./")
    file = by_name.get(short, by_name.get(short.replace("\\", "/")))
    if file is None:
      unknown.append(listed)
      continue
    before, earlier = merged.setdefault(file, (number, {}))
    for key, value in row.items():
      if earlier.setdefault(key, value) != value:
        raise FolderError(
          f"{path}: rows {before} and {number} are both of {file} and"
          f" contradict each other: the {key} is {earlier[key]!r} and {value!r}"
        )
  if not merged:
    raise FolderError(
      f"{path}: none of its {len(rows)} rows names a file of the folder"
      + (f" (the first is {unknown[0]})" if unknown else "")
    )
  if unknown:
    remarks.append(
      f"{len(unknown)} rows of {path} name no file of the folder, or several;"
      f" the first is {unknown[0]}"
    )
  return {file: row for file, (_, row) in merged.items()}


def _rows(path: str) -> list[tuple[int, dict[str, str]]]:
  """[(number of the row from 1, {column: text})] of rows that hold anything."""
  read = {".csv": _csv, ".jsonl": _jsonl}.get(_suffix(path))
  if read is None:
    raise FolderError(f"the metadata {path} are neither .csv nor .jsonl")
  try:
    with open(path, newline="", encoding="utf-8-sig") as file:
      rows = list(enumerate(read(file), 1))
  except (OSError, ValueError, csv.Error) as error:
    why = error.strerror if isinstance(error, OSError) else error
    raise FolderError(f"the metadata {path} cannot be read: {why}") from None
  out = []
  for number, row in rows:
    if not isinstance(row, dict):
      raise FolderError(f"{path}: row {number} is not an object with `file`")
    further = any(row.pop(None, ()))  # values behind the last column
    if further or any(isinstance(x, dict | list) for x in row.values()):
      raise FolderError(
        f"{path}: row {number} has more values than columns, or one that is not"
        " a text or a number; a text that holds the separator stands in quotes"
      )
    # A number is a value, 0 like all others.
    row = {_plain(k): _plain("" if x is None else x) for k, x in row.items()}
    if any(row.values()):
      out.append((number, row))
  return out


def _csv(file: TextIO) -> Iterable[dict[str | None, Any]]:
  """Rows of a table whose columns are apart by the commonest separator."""
  head = file.readline()
  file.seek(0)
  delimiter = max(",;\t", key=head.count)
  rows = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True)
  names = [_plain(name) for name in rows.fieldnames or ()]
  for name in _COLUMNS:
    if names.count(name) > 1:
      raise ValueError(f"two of its columns are called '{name}'")
  return rows


def _jsonl(file: TextIO) -> Iterable[Any]:
  return (json.loads(line) for line in file if line.strip())


def _check_columns(
  path: str, columns: Collection[str], remarks: list[str]
) -> None:
  """Refuses a column that is meant for another; says which are not read."""
  unknown = sorted(set(columns) - {*_COLUMNS, ""})
  for name in unknown:
    near = difflib.get_close_matches(name.casefold(), _COLUMNS, 1)
    if near and near[0] not in columns:
      raise FolderError(
        f"{path}: the column '{name}' is not known; did you mean '{near[0]}'?"
        " Rename it"
      )
  if unknown:
    remarks.append(
      f"columns of {path} that are not read: {', '.join(unknown)} (known:"
      f" {', '.join(_COLUMNS)})"
    )


def _unique(
  key: Callable[[str], str], sources: Sequence[Source]
) -> dict[str, str | None]:
  """{key of a source's file: the file, None where several share it}."""
  out = {}
  for source in sources:
    name = _plain(key(source.file))
    out[name] = None if name in out else source.file
  return out


# ---------------------------------------------------------------- splits


def order(files: Iterable[str]) -> list[str]:
  """Files in an order that looks random and is the same for everyone."""
  return sorted(files, key=lambda f: (hashlib.sha256(f.encode()).digest(), f))


def held_out(
  files: Iterable[str],
  fraction: float,
  match: str | None = None,
  splits: Mapping[str, str] = types.MappingProxyType({}),
  labels: Mapping[str, int] = types.MappingProxyType({}),
) -> set[str]:
  """Which source videos are for testing.

  Args:
    files: all of them.
    fraction: the share held out, rounded, but at least one file in each split
      when there are two or more; the first in `order` that are not the last of
      their label, unless all are. 0: none.
    match: a regular expression: the files it is found in, and no others.
    splits: or else, when not empty, those that are 'test' in it.
    labels: of files that have one.

  Returns:
    A subset of the files.
  """
  files = order(files)
  if match:
    return {file for file in files if re.search(match, file)}
  if splits:
    return {file for file in files if splits.get(file) == "test"}
  count = round(fraction * len(files))
  if fraction and len(files) > 1:
    count = min(max(count, 1), len(files) - 1)
  left, test = collections.Counter(map(labels.get, files)), []
  for file in files:
    # Of a class without a clip in training nothing can be learned.
    if len(test) < count and left[labels.get(file)] > 1:
      left[labels.get(file)] -= 1
      test.append(file)
  return set(test or files[: min(count, 1)])
