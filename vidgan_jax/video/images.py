"""Clips that are folders of images, and folders of images as output.

  names("shots/")            all images of a folder
  names("shots/left*.png")   those that a glob finds
  names("shots/%04d.png")    those that have such a name

are in natural order: frame2 comes before frame10. They have one size and one
format. The contents of a folder say what it is: images directly in it, and no
video in it or below, make it one clip; videos make it a folder of videos; both
are refused, because the meaning is not clear.
"""

from collections.abc import Iterator
import contextlib
import errno
import fractions
import glob
import os
import re
import secrets
import tempfile
from typing import Any

import av
from av.filter import graph
from PIL import ExifTags
from PIL import Image

from vidgan_jax.store import files
from vidgan_jax.video import folder
from vidgan_jax.video import read

PATTERN = "%06d.png"
_HUNDREDTH = fractions.Fraction(1, 100)  # seconds: the clock of GIF
_NUMBER = re.compile(r"%(0\d+)?d")
# The format that Pillow finds in a file -> the suffix by which libav knows it.
_SUFFIX = {"PNG": ".png", "JPEG": ".jpg", "MPO": ".jpg", "BMP": ".bmp",
           "TIFF": ".tif", "WEBP": ".webp"}  # fmt: skip


def names(path: str) -> list[str] | None:
  """The images that a folder, a glob or a pattern names, in order.

  Args:
    path: a folder, a glob as 'a/*.png', or a pattern as 'a/%04d.png'.

  Returns:
    Paths; None when this is not a clip of images, but a file or a folder
    of videos.

  Raises:
    read.VideoError: nothing is found, or images and videos together.
  """
  if os.path.isdir(path):
    return _inside(path)
  pattern = _NUMBER.sub("[0-9]*", path)
  if os.path.exists(path) or not glob.has_magic(pattern) or "://" in path:
    return None
  found = [name for name in glob.glob(pattern) if os.path.isfile(name)]
  other = [name for name in found if _suffix(name) not in folder.IMAGES]
  if other or not found:
    why = f"{other[0]} is not an image" if other else "there is no such file"
    raise read.VideoError(
      f"{path}: {why}; give a file, a folder, or a glob or pattern of images"
    )
  return folder.natural(found)


def _inside(path: str) -> list[str] | None:
  """The images directly in a folder, None when it is one of videos."""
  try:
    clips = folder.scan(path, "frames")[1]
    videos = [s.file for s in folder.scan(path, "videos")[1]]
  except folder.FolderError as error:
    raise read.VideoError(str(error)) from None
  videos = [name for name in videos if _suffix(name) in folder.VIDEOS]
  here = [name for s in clips if s.file == "." for name in s.images]
  here = [name for name in here if _suffix(name) in folder.IMAGES]
  if here and videos:
    raise read.VideoError(
      f"{path}: holds images ({here[0]}) and videos ({videos[0]}); name the"
      f" images by a glob, as {os.path.join(path, '*' + _suffix(here[0]))}, or"
      " move one of both elsewhere"
    )
  if clips and not here and not videos:
    raise read.VideoError(
      f"{path}: has images in sub-folders; give one of those at a time, as"
      f" {os.path.join(path, clips[0].file)}"
    )
  return [os.path.join(path, name) for name in here] or None


def is_picture(path: str) -> bool:
  """Whether a file has the name of an image."""
  return _suffix(path) in folder.IMAGES and os.path.isfile(path)


@contextlib.contextmanager
def opened(path: str) -> Iterator[Image.Image]:
  """A picture, for the block that decodes it.

  Raises:
    read.VideoError: it cannot be decoded, or has too many pixels.
  """
  try:
    with Image.open(path) as image:
      if image.width * image.height > read.MAX_PIXELS:
        raise read.VideoError(f"{path}: {image.size} pixels are too many")
      yield image
  except read.VideoError:
    raise
  except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
    why = str(e).split(path)[0].strip(" '") or type(e).__name__
    raise read.VideoError(f"{path}: not an image ({why})") from None


class Clip:
  """Images as a video that can be opened, more than once."""

  def __init__(self, files: list[str], fps: float | None = None):
    """Looks at the head of each file.

    Args:
      files: from `names`.
      fps: frames a second; None: 25.

    Raises:
      read.VideoError: one cannot be read, or is not like the first.
    """
    self._rate = fractions.Fraction(fps or 25).limit_denominator(1001)
    first = None
    for file in files:
      try:
        with Image.open(file) as image:
          size = image.size[::-1] if _lies(image) else image.size
          about = _SUFFIX.get(image.format), size
          moving = getattr(image, "n_frames", 1) > 1 and image.format != "MPO"
      except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise read.VideoError(
          f"{file}: cannot be read as an image ({read.reason(error)}); delete"
          " it, or name the others by a glob"
        ) from None
      first = first or about
      if about[0] is None or moving:
        what = "moves" if moving else "is of a kind that is not taken here"
        raise read.VideoError(f"{file}: {what}; images are PNG, JPEG, BMP, TIFF"
                              " or WebP of one picture each")  # fmt: skip
      if about != first:
        raise read.VideoError(
          "{}: is {} of {}x{}, but {} is {} of {}x{}; the images of a clip have"
          " one format and one size".format(
            file, about[0][1:], *about[1], files[0], first[0][1:], *first[1]
          )
        )
    # libav wants numbered names, and believes their suffixes.
    self._links = tempfile.TemporaryDirectory(prefix="vidgan-")
    for i, file in enumerate(files):
      link = os.path.join(self._links.name, f"{i:09d}{first[0]}")
      os.symlink(os.path.abspath(file), link)
    self._pattern = os.path.join(self._links.name, f"%09d{first[0]}")

  def open(self) -> Any:
    """An `av` container with the images as packets."""
    return av.open(
      f"file:{self._pattern}",
      format="image2",
      options={"framerate": str(self._rate), "protocol_whitelist": "file"},
    )

  def close(self) -> None:
    """Forgets them."""
    self._links.cleanup()


# ------------------------------------------------------------------ output


def place(out: str) -> tuple[str, str]:
  """(folder, pattern of names in it) of an output of images.

  Raises:
    read.VideoError: the name of a single image.
  """
  parent, name = os.path.split(out)
  if _NUMBER.search(name):
    if _suffix(name) != ".png":
      raise read.VideoError(f"{out}: images are written as .png only")
    return parent or ".", name
  if _suffix(name) in folder.IMAGES:
    stem = os.path.splitext(out)[0]
    raise read.VideoError(
      f"{out}: is one image, the result has many; say where their numbers go,"
      f" as in {os.path.join(stem, PATTERN)}"
    )
  return os.path.normpath(out), PATTERN


@contextlib.contextmanager
def filling(out: str) -> Iterator[str]:
  """A temporary folder, whose images come to their place when all is well.

  A folder that is there already stays itself, since it may be a mount point.
  Images in it of the pattern are replaced, files of other names stay.

  Args:
    out: see `place`.

  Raises:
    read.VideoError: they cannot get their names; it says where they are kept.
  """
  target, pattern = place(out)
  inside = os.path.isdir(target)
  before = set(_numbered(target, pattern)) if inside else set()
  parent, name = os.path.split(os.path.abspath(target))
  whole = os.path.join(parent, f"{name}.new")
  if inside:
    whole = os.path.join(target, "new")
  if os.path.exists(whole):  # kept, of another time
    whole += f"-{secrets.token_hex(4)}"
  with files.write(whole) as temporary:
    temporary.mkdir()
    yield str(temporary)
  try:
    if not os.path.lexists(target):
      files.move(whole, target)
      return
    # Whoever else puts images here meanwhile loses none of theirs.
    if others := sorted(set(_numbered(target, pattern)) - before):
      raise FileExistsError(errno.EEXIST, f"{others[0]} has come meanwhile")
    for name in before:
      os.unlink(os.path.join(target, name))
    for name in sorted(os.listdir(whole)):
      files.move(os.path.join(whole, name), os.path.join(target, name))
    os.rmdir(whole)
  except OSError as error:
    left = len(os.listdir(whole))
    raise read.VideoError(
      f"{target}: {read.reason(error)}; the {left} images made are kept in"
      f" {whole}"
    ) from None


def taken(target: str) -> bool:
  """Whether a folder holds what a user has put there."""
  return os.path.isdir(target) and not all(
    folder.of_the_system(name) for name in os.listdir(target)
  )


def _numbered(target: str, pattern: str) -> list[str]:
  """Names in a folder that images of this pattern may have."""
  parts = _NUMBER.split(pattern)
  name = r"\d+".join(map(re.escape, (parts[0], parts[-1])))
  return [n for n in os.listdir(target) if re.fullmatch(name, n)]


def plays(path: str) -> int | None:
  """How often moving images are shown; 0: for ever, None: it is a film."""
  try:
    with Image.open(path) as image:
      if image.format not in ("GIF", "PNG", "WEBP") or image.n_frames == 1:
        return None
      again = image.info.get("loop")
      if image.format == "GIF":  # says how often it is shown once more
        return 1 if again is None else again and again + 1
      return again or 0
  except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
    return None


def gif(film: str, out: str) -> None:
  """A film as a GIF with one palette for all of it.

  Args:
    film: lossless, of pixel format bgra; is read twice, so memory stays flat.
      Its text 'plays' says how often it is shown, 0: for ever.
    out: to write to.

  Raises:
    read.VideoError: it cannot be written.
  """
  try:
    palette = _palette(film)
    with av.open(film) as given:
      count = int(given.metadata.get("PLAYS", 0))
    loop = str(count - 1 or -1 if count else 0)  # -1: not once more
    with (
      av.open(film) as given,
      av.open(out, "w", format="gif", options={"loop": loop}) as result,
    ):
      old = given.streams.video[0]
      new = result.add_stream("gif", rate=100)
      new.height, new.width, new.pix_fmt = old.height, old.width, "pal8"
      new.codec_context.time_base = _HUNDREDTH
      paint = graph.Graph()
      place, colours = _buffer(paint, old), _buffer(paint, palette)
      node = paint.add("paletteuse", "diff_mode=rectangle")
      place.link_to(node, 0, 0)
      colours.link_to(node, 0, 1)
      node.link_to(paint.add("buffersink"))
      paint.configure()
      colours.push(palette)
      colours.push(None)
      for picture in given.decode(old):
        time = picture.pts * old.time_base / _HUNDREDTH
        length = round(picture.duration * old.time_base / _HUNDREDTH)
        place.push(picture)
        picture = paint.pull()
        picture.pts, picture.time_base = round(time), _HUNDREDTH
        for packet in new.encode(picture):
          packet.duration = length  # is asked for of the last one
          result.mux(packet)
      result.mux(new.encode(None))
  except (av.error.FFmpegError, OSError) as error:
    raise read.VideoError(
      f"{out}: cannot be written ({read.reason(error)})"
    ) from None


def _palette(film: str) -> Any:
  """The 255 colours and one transparent that suit a film best, as a picture."""
  with av.open(film) as given:
    choose = graph.Graph()
    choose.link_nodes(
      _buffer(choose, given.streams.video[0]),
      choose.add("palettegen"),
      choose.add("buffersink"),
    ).configure()
    for picture in given.decode(video=0):
      choose.push(picture)
    choose.push(None)
    return choose.pull()


def _buffer(nodes: graph.Graph, like: Any) -> Any:
  return nodes.add_buffer(
    height=like.height, width=like.width, format="bgra", time_base=_HUNDREDTH
  )


def _lies(image: Image.Image) -> bool:
  """Whether the EXIF orientation exchanges an image's sides."""
  return image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)


def _suffix(name: str) -> str:
  return os.path.splitext(name)[1].lower()
