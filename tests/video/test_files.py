"""Files as they are in life: what they say beside their pixels is kept or told.

Each test makes its own small file, through PyAV or Pillow, byte by byte where
neither can.
"""

import av
import numpy as np
from PIL import Image
import pytest

from vidgan_jax.video import clips
from vidgan_jax.video import folder
from vidgan_jax.video import job
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import stages

# EXIF orientation -> what shows the stored picture (H, W, C) upright.
UPRIGHT = {
  1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1],
  4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1),
  6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
  8: lambda a: np.rot90(a),
}  # fmt: skip


def smooth(frames=3, height=48, width=64):
  """A moving picture (T, H, W, 3) uint8 without symmetries."""
  y, x, t = np.ogrid[:height, :width, :frames]
  planes = [2 * x + 0 * y + 3 * t, 3 * y + x, 200 - 2 * y + 0 * x - t]
  planes = np.broadcast_arrays(*planes)
  return np.moveaxis(np.stack(planes, -1), 2, 0).astype(np.uint8)


def process(source, out, *chain, **options):
  """Runs the job; returns what it told."""
  lines = []
  options.setdefault("codec", "ffv1" if str(out).endswith(".mkv") else None)
  job.process(
    list(chain), str(source), str(out), plan.Options(**options),
    tell=lines.append,
  )  # fmt: skip
  return lines


def seen(path):
  """(T, H, W, 3) of a file, upright."""
  return np.stack([frame.image for frame in read.frames(path)])


# ---------------------------------------------------------------- 1. turned


def photographs(root, orientation, suffix, video):
  """A folder of images that say how they are turned."""
  root.mkdir()
  exif = Image.Exif()
  exif[0x0112] = orientation
  exif[0x010F] = "A maker of cameras"
  for i, image in enumerate(video):
    options = {"lossless": True} if suffix == ".webp" else {"quality": 95}
    name = root / f"{i}{suffix}"
    Image.fromarray(image).save(name, exif=exif, **options)
  return root


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_images_are_shown_as_their_exif_says(tmp_path, suffix, orientation):
  video = smooth()
  root = photographs(tmp_path / "in", orientation, suffix, video)
  upright = np.stack([UPRIGHT[orientation](image) for image in video])
  process(root, tmp_path / "out.mkv", stages.Identity(pixels=1))
  got = seen(tmp_path / "out.mkv")
  assert got.shape == upright.shape
  assert np.abs(got.astype(int) - upright).mean() < 2
  # The same in data sets, which Pillow reads.
  options = clips.Options(layout="frames")
  source = folder.scan(tmp_path, "frames")[1][0]
  (record,) = clips.records(tmp_path, source, options, clips.Tally())
  got = clips.decode(record["frames"])
  assert got.shape == upright.shape
  assert np.abs(got.astype(int) - upright).mean() < 2


@pytest.mark.parametrize("orientation", [3, 4, 6, 7])
def test_a_film_of_photographs_is_shown_as_their_exif_says(
  tmp_path, orientation
):
  video = smooth(4)
  turns = [orientation] * 3 + [1]  # the camera was turned at the end
  path = tmp_path / "a.avi"
  with av.open(str(path), "w") as container:
    stream = container.add_stream("mjpeg", rate=25)
    stream.height, stream.width, stream.pix_fmt = 48, 64, "yuvj420p"
    for i, turn in enumerate(turns):
      root = photographs(tmp_path / f"{i}", turn, ".jpg", video[i : i + 1])
      packet = av.Packet((root / "0.jpg").read_bytes())
      packet.stream, packet.pts, packet.dts = stream, i, i
      container.mux(packet)
  lines = process(path, tmp_path / "out.mkv", stages.Identity(pixels=1))
  upright = np.stack([UPRIGHT[orientation](image) for image in video[:3]])
  got = seen(tmp_path / "out.mkv")
  assert got.shape == (4, *upright.shape[1:])
  assert np.abs(got[:3].astype(int) - upright).mean() < 3
  assert any("1 frames of another size" in line for line in lines) == (
    orientation > 4
  )


def test_photographs_of_two_shapes_are_not_one_clip(tmp_path):
  root = photographs(tmp_path / "in", 1, ".jpg", smooth(2))
  photographs(tmp_path / "up", 6, ".jpg", smooth(1))
  (tmp_path / "up" / "0.jpg").rename(root / "2.jpg")
  with pytest.raises(read.VideoError, match="2.jpg: is jpg of 48x64, but"):
    process(root, tmp_path / "out.mkv", stages.Identity(pixels=1))
