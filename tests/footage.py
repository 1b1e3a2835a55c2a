"""Clips, real and damaged ones, for the tests of what measures them."""

import functools
import os
import pathlib

import av
import numpy as np
from PIL import Image
import pytest
from scipy import ndimage

from vidgan_jax.video import read
from vidgan_jax.video import write

REAL = os.environ.get("VIDGAN_REAL_DATA")
needed = pytest.mark.skipif(
  not REAL, reason="VIDGAN_REAL_DATA names no real video"
)


@functools.cache
def sky(size=32, frames=8):
  """The 48 time lapses of the sky: (48, frames, size, size, 3) uint8.

  Neighbours in the list are of different scenes but for 4 and 9.
  """
  path = pathlib.Path(REAL, "sky_timelapse_mdgan/real_video.mp4")
  film = np.stack([frame.image for frame in read.frames(path)])
  places = [(2 + 130 * r, 2 + 130 * c) for r in range(6) for c in range(8)]
  clips = np.stack([film[:frames, y : y + 128, x : x + 128] for y, x in places])
  step = 128 // size
  shape = (*clips.shape[:2], size, step, size, step, 3)
  return clips.reshape(shape).mean((3, 5)).round().astype(np.uint8)


@functools.cache
def weizmann(frames=8):
  """36 clips of 9 persons: (36, frames, 64, 64, 3) uint8, and their persons."""
  clips, persons = [], []
  for kind in "0134":
    folder = pathlib.Path(REAL, "weizmann_mocogan", kind)
    for person, path in enumerate(sorted(folder.iterdir())):
      strip = np.asarray(Image.open(path).convert("RGB"))
      video = strip.reshape(64, -1, 64, 3).transpose(1, 0, 2, 3)
      clips.append(video[: 4 * frames : 4])
      persons.append(person)
  return np.stack(clips), np.array(persons)


class Clips:
  """Clips in memory, as a source has them.

  Attributes:
    read_at: the numbers that were asked for.
  """

  def __init__(self, video):
    self.video, self.read_at = video, []

  def __len__(self):
    return len(self.video)

  def read(self, indices):
    self.read_at.extend(indices)
    return [{"video": self.video[i]} for i in indices]


def noise(clips, sigma, seed=0):
  """Gaussian, of `sigma` levels."""
  rng = np.random.default_rng(seed)
  noisy = clips + sigma * rng.standard_normal(clips.shape)
  return noisy.clip(0, 255).round().astype(np.uint8)


def blur(clips, sigma):
  """Gaussian, of `sigma` pixels."""
  axes = (*[0] * (clips.ndim - 3), sigma, sigma, 0)
  blurred = ndimage.gaussian_filter(clips.astype(np.float32), axes)
  return blurred.round().astype(np.uint8)


def h264(clips, crf, folder):
  """Each clip compressed by itself."""
  path, out = folder / "clip.mp4", []
  for clip in clips:
    write.write(path, clip, crf=crf)
    out.append(np.stack([frame.image for frame in read.frames(path)]))
  return np.stack(out)


def damage(path, number):
  """Makes a packet of a video unreadable, and no other."""
  with av.open(str(path)) as file:
    packets = [packet for packet in file.demux(video=0) if packet.size]
    start, size = packets[number].pos, packets[number].size
  data = bytearray(path.read_bytes())
  data[start : start + size] = b"\xff" * size
  path.write_bytes(data)


def shuffled(clips, seed=0):
  """The frames of each clip in another order."""
  rng = np.random.default_rng(seed)
  return np.stack([clip[rng.permutation(len(clip))] for clip in clips])


def frozen(clips):
  """The first frame all along."""
  return np.repeat(clips[:, :1], clips.shape[1], 1)


def rises(values):
  """Whether each is above the one before."""
  return bool((np.diff(values) > 0).all())


def waves(shape=(3, 24, 31, 3), sigma=12, seed=0):
  """A clip of soft waves, uint8, and it with noise."""
  rng = np.random.default_rng(seed)
  t, y, x, c = np.meshgrid(*map(np.arange, shape), indexing="ij")
  wave = np.sin(0.5 * x + 0.3 * t + c) + np.cos(0.4 * y - 0.2 * x)
  target = (127.5 + 60 * wave).round().astype(np.uint8)
  return noise(target, sigma, rng), target
