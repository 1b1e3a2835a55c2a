"""Label maps beside videos: which are whose, and the numbers at their pixels.

A map is a picture without loss, such as a PNG: of one channel, whose values are
the numbers of classes, or with a palette, whose indices are. A video has a
folder of them, by its name with or without the suffix, a map for every frame in
order; a folder of frames has one with pictures of the same names. `classes.txt`
or `classes.json` beside them names the classes.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import io
import json
import os
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from vidgan_jax import errors
from vidgan_jax.video import folder
from vidgan_jax.video import images
from vidgan_jax.video import read

UNKNOWN = 255  # what is there is not known
# Classes of these names are unknown as well.
_VOID = ("void", "unknown", "unlabelled", "unlabeled", "ignore", "ignored")
_FILES = ("classes.json", "classes.txt")


class Frame(NamedTuple):
  """One decoded picture and what is seen at each of its pixels."""

  image: np.ndarray  # (H, W, 3) uint8 RGB
  time: float  # seconds from the first frame
  ids: np.ndarray  # (H, W) uint8


def pair(
  sources: Sequence[folder.Source],
  src: str | os.PathLike[str],
  layout: str,
  root: str | os.PathLike[str],
) -> tuple[list[folder.Source], tuple[str, ...]]:
  """Finds the maps of each source.

  Args:
    sources: from `folder.scan`.
    src: the folder that was scanned.
    layout: of the sources.
    root: folder of the maps; where it lies in `src` it is not a source.

  Returns:
    The other sources with `maps`, whose bytes and times count those of the maps
    as well, and the names of the classes; () where no file names them.

  Raises:
    UserError: there is no such folder, or no source has maps.
  """
  if layout == "strips":
    raise errors.UserError(
      "--maps goes with videos and with folders of frames, not with strips"
    )
  if not os.path.isdir(root):
    raise errors.UserError(
      f"--maps {root}: there is no such folder; give the one that holds, for"
      " each video, a folder of label maps by its name"
    )
  names = _names(pathlib.Path(root))
  inside = os.path.relpath(os.path.realpath(root), os.path.realpath(src))
  if inside != os.curdir:
    inside = pathlib.Path(inside).as_posix() + "/"
    sources = [s for s in sources if not f"{s.path}/".startswith(inside)]
  _, found = folder.scan(root, "frames")
  found = {source.file: source for source in found}
  paired = [
    _paired(source, layout, os.fspath(root), found, names, len(sources))
    for source in sources
  ]
  if not any(source.maps.images for source in paired):
    first = "".join(f" {s.file}: {s.maps.problem}" for s in paired[:1])
    raise errors.UserError(
      f"--maps: none of the {len(sources)} sources has maps.{first}"
    )
  return paired, names


def _paired(source, layout, root, found, names, count) -> folder.Source:
  """A source with its maps, or with the reason why it has none."""
  stem = os.path.splitext(source.file)[0]
  keys = [source.file, stem] if layout == "videos" else [source.file]
  keys += ["."] * (count == 1)  # The only one: the folder itself holds them.
  own = next((found[key] for key in keys if key in found), None)
  maps = folder.Maps(root=root, names=names)
  if own is None:
    looked = os.path.join(root, keys[-1] if count > 1 else keys[0])
    maps = dataclasses.replace(
      maps, problem=f"it has no maps: {looked} is none"
    )
    return dataclasses.replace(source, maps=maps)
  files, note = own.images, ""
  if layout == "frames":
    plain = lambda name: os.path.splitext(name)[0]
    by_stem = {plain(name): name for name in own.images}
    files = tuple(by_stem.get(plain(name), "") for name in source.images)
    spare = len(set(own.images) - set(files))
    if not any(files) and len(own.images) == len(source.images):
      files = own.images
      note = "its maps have other names than its frames: they go in order"
    elif not any(files):
      problem = (
        f"its {len(source.images)} frames and the {len(own.images)} maps of"
        f" {os.path.join(root, own.path)} differ in names and in number"
      )
      maps, files = dataclasses.replace(maps, problem=problem), ()
    elif spare:
      note = f"{spare} of its maps are of no frame"
  maps = dataclasses.replace(maps, path=own.path, images=files, note=note)
  return dataclasses.replace(
    source,
    maps=maps,
    bytes=source.bytes + own.bytes,
    modified=max(source.modified, own.modified),
  )


def _names(root: pathlib.Path) -> tuple[str, ...]:
  """Names of the classes, of a file beside the maps; () without one.

  classes.txt has a name a line, classes.json a list of names or an object from
  number to name, where a number that is left out is called '(number)'.
  """
  for path in (root / name for name in _FILES):
    if not path.exists():
      continue
    try:
      text = path.read_text(encoding="utf-8-sig")
      names = json.loads(text) if path.suffix == ".json" else text.split("\n")
      if isinstance(names, dict):
        numbers = {int(number): name for number, name in names.items()}
        if min(numbers) < 0:
          raise ValueError("a number of a class is below 0")
        last = max(n for n in numbers if n != UNKNOWN)
        names = [numbers.get(i, f"({i})") for i in range(last + 1)]
      names = [str(name).strip() for name in names]
    except (OSError, ValueError, AttributeError, TypeError) as error:
      raise errors.UserError(
        f"{path} cannot be read ({error}): a name a line (.txt), or a list of"
        " names or an object from number to name (.json)"
      ) from None
    while names and not names[-1]:
      names.pop()
    if not 0 < len(names) <= UNKNOWN or not all(names):
      raise errors.UserError(
        f"{path} has {len(names)} lines or names, {names.count('')} of them"
        f" empty: a name for each number from 0, {UNKNOWN} at most"
      )
    if twice := sorted({name for name in names if names.count(name) > 1}):
      raise errors.UserError(f"{path} names two classes {twice[0]!r}")
    return tuple(names)
  return ()


def at(
  maps: folder.Maps,
  place: int,
  height: int,
  width: int,
  say: Callable[[str], None],
) -> np.ndarray | None:
  """The map of a frame, at the size of the frame.

  Args:
    maps: of its source.
    place: number of the frame.
    height: of the frame, pixels.
    width: likewise.
    say: is told that the map is smaller than the frame.

  Returns:
    (height, width) uint8, by the nearest pixel; None: the frame has no map.

  Raises:
    VideoError: it is not a map, has another shape than the frame, or an id that
      is not a class.
  """
  name = maps.images[place] if place < len(maps.images) else ""
  if not name:
    return None
  path = os.path.join(maps.root, maps.path, name)
  ids = _ids(path)
  old = ids.shape
  # A frame that was made smaller has whole pixels: half of one more or less.
  if abs(old[1] * height - old[0] * width) > max(old) + max(height, width):
    raise read.VideoError(
      f"the map {path} of {old[1]}x{old[0]} pixels has another shape than its"
      f" frame, {width}x{height}"
    )
  if old[0] < height:
    say("its maps are smaller than its frames: enlarged by the nearest pixel")
  # The centre of pixel i lies at (i + 1/2) old / new, in pixel floor of that.
  rows, columns = (
    (2 * np.arange(new) + 1) * size // (2 * new)
    for size, new in zip(old, (height, width))
  )
  ids = ids[rows[:, None], columns]
  names = maps.names or tuple(map(str, range(UNKNOWN)))
  table = np.full(max(UNKNOWN, ids.max()) + 1, -1)
  table[: len(names)] = np.arange(len(names))
  table[UNKNOWN] = UNKNOWN
  for number, class_name in enumerate(names):
    if class_name.casefold() in _VOID:
      table[number] = UNKNOWN
  out = table[ids]
  if out.min() < 0:
    raise read.VideoError(
      f"the map {path} holds the id {ids[out < 0].min()}, and the classes are "
      + (
        ", ".join(f"{i} {name}" for i, name in enumerate(names))
        if maps.names
        else f"0 to {UNKNOWN - 1}"
      )
      + f" ({UNKNOWN}: unknown)"
    )
  return out.astype(np.uint8)


def decode(data: bytes) -> np.ndarray:
  """(H, W) uint8 of a map that `clips.records` has encoded."""
  with Image.open(io.BytesIO(data)) as image:
    return np.asarray(image)


def _ids(path: str) -> np.ndarray:
  """(H, W) integers of a file."""
  with images.opened(path) as image:
    if image.format in ("JPEG", "MPO"):
      raise read.VideoError(
        f"the map {path} is a JPEG, whose numbers are not exact: make it PNG"
      )
    ids = np.asarray(image)
  if ids.ndim == 3 and (ids[..., :1] == ids[..., :3]).all():
    ids = ids[..., 0]  # grey that was saved in colours
  if ids.ndim != 2 or ids.dtype.kind not in "uib":
    raise read.VideoError(
      f"the map {path} has colours, not numbers: it must have one channel, or a"
      " palette"
    )
  return ids.astype(np.int64)
