"""What a user drew, as files: pictures with their times, a folder, a film."""

from collections.abc import Sequence
import os
import re
from typing import NamedTuple

import numpy as np

from vidgan_jax.video import images
from vidgan_jax.video import read


class Picture(NamedTuple):
  """One drawing."""

  picture: np.ndarray  # (H, W, 3) uint8 RGB, or (H, W) of one channel
  seconds: float  # when it is to be seen
  name: str  # of its file


def pictures(names: Sequence[str], gap: float) -> tuple[list[Picture], bool]:
  """Reads drawings.

  Args:
    names: one picture; several, each FILE@SECONDS; or one folder, glob or
      video.
    gap: seconds from one picture of a folder to the next.

  Returns:
    They by time, and whether they are a film: of every time there is.

  Raises:
    VideoError: there is no such file, it is not a picture, or the times are not
      said.
  """
  if len(names) == 1 and not _picture_named(names[0]):
    return _film(names[0], gap), True
  out = []
  for name in names:
    path, at = _picture_named(name) or (name, None)
    if not images.is_picture(path):
      raise read.VideoError(f"{path}: there is no such picture")
    if at is None and len(names) > 1:
      raise read.VideoError(
        f"{name}: say when each of several drawings is to be seen, in seconds,"
        f" as {name}@1.5"
      )
    out.append(Picture(load(path), float(at or 0), path))
  return sorted(out, key=lambda p: p.seconds), False


def _picture_named(name: str) -> tuple[str, str | None] | None:
  """Path and time of FILE or FILE@SECONDS; None: it is not a picture."""
  if images.is_picture(name):
    return name, None
  match = re.fullmatch(r"(.+)@(\d+(?:\.\d*)?|\.\d+)", name)
  return (match[1], match[2]) if match else None


def _film(name: str, gap: float) -> list[Picture]:
  files = images.names(name)
  if files is not None:
    return [Picture(load(p), i * gap, p) for i, p in enumerate(files)]
  if not os.path.isfile(name):
    raise read.VideoError(f"{name}: there is no such picture, folder or video")
  frames = read.frames(name)
  out = [
    Picture(frame.image, float(frame.time), f"{name}, frame {i}")
    for i, frame in enumerate(frames)
  ]
  return [p._replace(seconds=p.seconds - out[0].seconds) for p in out]


def load(path: str) -> np.ndarray:
  """(H, W, 3) uint8 colours of a file, or (H, W) if it has one channel.

  Raises:
    VideoError: it cannot be read, or one sees through it.
  """
  with images.opened(path) as image:
    if image.mode in ("1", "L"):
      return np.array(image.convert("L"))
    if image.has_transparency_data:
      alpha = np.array(image.convert("RGBA"))[..., 3]
      if alpha.min() < 255:
        raise read.VideoError(
          f"{path}: one sees through {np.mean(alpha < 255):.0%} of its pixels;"
          " paint the ground as well and save it without transparency"
        )
    return np.array(image.convert("RGB"))
