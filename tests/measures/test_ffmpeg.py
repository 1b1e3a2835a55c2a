"""VMAF and XPSNR beside ffmpeg's own reading and the formula."""

import json
import subprocess

import footage
import numpy as np
import pytest
from scipy import ndimage

from vidgan_jax.measures import ffmpeg as lib


@pytest.fixture(scope="module")
def ffmpeg():
  return pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()


def test_vmaf_and_xpsnr(ffmpeg):
  """Odd sizes, in order, and best for equal clips."""
  weak, target = footage.waves((4, 193, 195, 3), 4)
  strong, _ = footage.waves((4, 193, 195, 3), 20)
  best, good, bad = (lib.vmaf(v, target) for v in (target, weak, strong))
  assert best > 97 and best >= good > bad + 3
  good, bad = (lib.xpsnr(v, target) for v in (weak, strong))
  assert all(good[k] > bad[k] + 8 for k in "yuv")
  assert lib.xpsnr(target, target)["y"] == np.inf
  assert lib.xpsnr(weak, target, "bt601")["y"] != good["y"]


# As both clips become what video is stored as.
_YUV = (
  "scale=out_color_matrix=bt709:out_range=tv"
  ":flags=accurate_rnd+full_chroma_int,format=yuv420p"
)


def ran(ffmpeg, video, *out, cwd=None):
  """What ffmpeg prints, given frames (T, H, W, 3)."""
  size = f"{video.shape[2]}x{video.shape[1]}"
  raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-i", "-"]
  command = [ffmpeg, "-v", "error", *raw, "-vf", _YUV, *out]
  return subprocess.run(
    command, input=video.tobytes(), cwd=cwd, capture_output=True, check=True
  ).stdout


def test_vmaf_is_of_this_order(ffmpeg, tmp_path):
  """By files and ffmpeg's own reading; the clip first, then the target."""
  fake, target = footage.waves((3, 192, 194, 3), 16)
  for name, video in (("a.mkv", fake), ("b.mkv", target)):
    ran(ffmpeg, video, "-c:v", "ffv1", name, cwd=tmp_path)
  inputs = ["-i", "a.mkv", "-i", "b.mkv"]
  log = "libvmaf=log_path=v.json:log_fmt=json"
  command = [ffmpeg, "-v", "error", *inputs, "-lavfi", log, "-f", "null", "-"]
  subprocess.run(command, cwd=tmp_path, check=True)
  pooled = json.loads((tmp_path / "v.json").read_text())["pooled_metrics"]
  got = lib.vmaf(fake, target)
  assert got == pytest.approx(pooled["vmaf"]["mean"], abs=1e-4)
  assert got != lib.vmaf(target, fake)


def planes(ffmpeg, video):
  """Y, U and V of 4:2:0, (T, h, w) float64 each."""
  t, h, w, _ = video.shape
  raw = ran(ffmpeg, video, "-f", "rawvideo", "-")
  frames = np.frombuffer(raw, np.uint8).reshape(t, -1).astype(np.float64)
  y, u, v = np.split(frames, [h * w, h * w * 5 // 4], 1)
  small = (t, h // 2, w // 2)
  return y.reshape(t, h, w), u.reshape(small), v.reshape(small)


def blocks(values, size):
  """(h, w) -> the sums of its squares of `size` pixels, the last ones cut."""
  for axis in (0, 1):
    starts = np.arange(0, values.shape[axis], size)
    values = np.add.reduceat(values, starts, axis)
  return values


def xpsnr_by_formula(fake, target, order):
  """Helmrich et al. 2020 for small pictures; weights are of the target.

  Args:
    fake: planes.
    target: planes.
    order: of the difference over time, 1 below 32 frames a second, else 2.
  """
  frames, h, w = target[0].shape
  share = h * w / (3840 * 2160)
  size = 4 * int(32 * share**0.5 + 0.5)
  usual = np.sqrt(16 * 2 ** (2 * 8 - 9) / share**0.5)
  taps = [[-1, -2, -1], [-2, 12, -2], [-1, -2, -1]]
  inner = np.zeros((h, w))
  inner[1:-1, 1:-1] = 1  # There the taps lie in the picture.
  past = np.concatenate([np.zeros((2, h, w)), target[0]])
  roots = np.zeros((3, frames))
  for t in range(frames):
    busy = abs(ndimage.correlate(target[0][t], np.array(taps))) * inner
    now, one, two = past[t + 2], past[t + 1], past[t]
    change = abs(now - one if order == 1 else now - 2 * one + two)
    activity = blocks(busy, size) / blocks(inner, size)
    activity += 2 * blocks(change, size) / blocks(np.ones((h, w)), size)
    weight = 1 / np.maximum(activity, 2 ** (8 - 6))
    # None above all its neighbours; those before have been treated.
    for i, j in np.ndindex(weight.shape):
      near = [(i, j - 1), (i, j + 1), (i - 1, j)]
      near = [
        weight[p] for p in near if 0 <= p[0] and 0 <= p[1] < len(weight.T)
      ]
      weight[i, j] = min(weight[i, j], max(near))
    for c in range(3):
      error = np.square(fake[c][t] - target[c][t])
      side = size * error.shape[1] // w
      roots[c, t] = np.sqrt(round((blocks(error, side) * weight).sum() * usual))
  peaks = [255 * np.sqrt(plane[0].size) for plane in target]
  return 20 * np.log10(peaks / roots.mean(1))


@pytest.mark.parametrize("fps", [25.0, 50.0])
def test_xpsnr_is_of_the_formula(ffmpeg, fps):
  """The target's activity, not that of the noise, says what may be seen."""
  fake, target = footage.waves((4, 192, 200, 3), 16)
  got = list(lib.xpsnr(fake, target, fps=fps).values())
  both = planes(ffmpeg, fake), planes(ffmpeg, target)
  want = xpsnr_by_formula(*both, 1 if fps < 32 else 2)
  np.testing.assert_allclose(got, want, atol=1e-4)
  other = xpsnr_by_formula(*both[::-1], 1 if fps < 32 else 2)
  assert abs(got[0] - other[0]) > 0.5


@pytest.mark.parametrize("metric", [lib.vmaf, lib.xpsnr])
def test_too_small_for_ffmpeg(metric, ffmpeg):
  fake, target = footage.waves((2, 191, 300, 3))
  with pytest.raises(ValueError, match="not computed: .* 192 .*300 x 191"):
    metric(fake, target)
  fake, target = footage.waves((1, 192, 192, 3))
  with pytest.raises(ValueError, match="bt2020"):
    metric(fake, target, "bt2020")
