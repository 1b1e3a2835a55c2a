"""Paired metrics beside scikit-image, TensorFlow, ffmpeg and plain formulas."""

import json
import pathlib
import re
import subprocess
import tracemalloc

import footage
import numpy as np
import pytest
from scipy import ndimage
from skimage import color
from skimage import metrics

from vidgan_jax.measures import fidelity
from vidgan_jax.measures import flow
from vidgan_jax.measures import paired
from vidgan_jax.video import read


def pair(shape=(3, 24, 31, 3), sigma=12, seed=0):
  """A clip of soft waves, uint8, and it with noise."""
  rng = np.random.default_rng(seed)
  t, y, x, c = np.meshgrid(*map(np.arange, shape), indexing="ij")
  wave = np.sin(0.5 * x + 0.3 * t + c) + np.cos(0.4 * y - 0.2 * x)
  target = (127.5 + 60 * wave).round().astype(np.uint8)
  return footage.noise(target, sigma, rng), target


# ---------------------------------------------------------------- one by one


def test_psnr_of_rgb():
  fake, target = pair()
  want = metrics.peak_signal_noise_ratio(target, fake)
  assert paired.psnr_rgb(fake, target) == pytest.approx(want)
  floats = [v / np.float32(127.5) - 1 for v in (fake, target)]
  assert paired.psnr_rgb(*floats) == pytest.approx(want, rel=1e-5)


def test_psnr_of_luma():
  fake, target = pair()
  y = [color.rgb2ycbcr(v)[..., 0] for v in (target, fake)]  # 16 to 235
  want = metrics.peak_signal_noise_ratio(*y, data_range=255)
  assert paired.psnr_y(fake, target, "bt601") == pytest.approx(want, rel=1e-4)
  luma = fake @ [0.2126, 0.7152, 0.0722] - target @ [0.2126, 0.7152, 0.0722]
  want = 10 * np.log10(255**2 / np.mean((luma * 219 / 255) ** 2))
  assert paired.psnr_y(fake, target, "bt709") == pytest.approx(want)
  assert paired.psnr_y(target, target, "bt709") == pytest.approx(100)
  with pytest.raises(ValueError, match="bt601"):
    paired.psnr_y(fake, target, "rgb")


def test_ssim_is_scikit_images():
  fake, target = pair()
  want = np.mean(
    [
      metrics.structural_similarity(
        *(v / 255 for v in frames),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
        channel_axis=-1,
      )
      for frames in zip(fake, target)
    ]
  )
  assert paired.ssim(fake, target) == pytest.approx(want, rel=1e-9)
  with pytest.raises(ValueError, match="ssim needs at least 11 pixels"):
    paired.ssim(fake[:, :10], target[:, :10])


@pytest.mark.parametrize("size", [(176, 192), (161, 183)])
def test_ms_ssim_is_tensorflows(size):
  tf = pytest.importorskip("tensorflow")
  fake, target = pair((2, *size, 3), 40)
  want = tf.image.ssim_multiscale(
    *(tf.constant(v / 255, tf.float32) for v in (fake, target)), max_val=1.0
  )
  got = paired.ms_ssim(fake, target)
  assert got == pytest.approx(float(np.mean(want)), rel=2e-5)
  assert got < paired.ms_ssim(*pair((2, *size, 3), 10))


def test_ms_ssim_of_unlike_and_small_clips():
  fake, target = pair((1, 161, 161, 3), 0)
  assert paired.ms_ssim(target, target) == pytest.approx(1)
  assert paired.ms_ssim(255 - target, target) == 0  # Contrast is below 0.
  with pytest.raises(ValueError, match="at least 161 pixels.* 161 x 160"):
    paired.ms_ssim(fake[:, :160], target[:, :160])


@pytest.mark.parametrize(
  "change, message",
  [
    (lambda v: v[1:], "same frames and size"),
    (lambda v: v.astype(np.float32), "from .* to"),
    (lambda v: v.astype(np.int64), "int64"),
    (lambda v: np.where(v > 0, np.float32(0), np.nan), "nan"),
  ],
)
def test_what_is_no_pair(change, message):
  fake, target = pair()
  for metric in (paired.psnr_rgb, paired.ssim, paired.tof):
    with pytest.raises(ValueError, match=message):
      metric(change(fake), target)
  with pytest.raises(ValueError, match="T, H, W, 3"):
    paired.psnr_rgb(fake[..., :1], target[..., :1])


def test_frame_by_frame_is_the_whole_clip_at_once():
  """The same numbers, without the clip in float64."""
  fake, target = pair((64, 40, 40, 3))
  floats = [v / 127.5 - 1 for v in (fake, target)]
  psnr, ssim = fidelity.psnr(*floats), fidelity.ssim(*floats)
  luma = (floats[0] - floats[1]) @ [0.299, 0.587, 0.114] * (219 / 2)
  for clips in ((fake, target), floats):
    assert paired.psnr_rgb(*clips) == pytest.approx(psnr, rel=1e-12)
    assert paired.ssim(*clips) == pytest.approx(ssim, rel=1e-12)
    assert paired.psnr_y(*clips, "bt601") == pytest.approx(
      10 * np.log10(255**2 / np.mean(luma**2)), rel=1e-12
    )
  still = lambda a, b: np.zeros((*a.shape[:2], 2))
  for metric in (
    paired.psnr_rgb,
    paired.ssim,
    lambda f, x: paired.psnr_y(f, x, "bt601"),
    lambda f, x: paired.tof(f, x, still),
    lambda f, x: paired.warping_error(f, x, still),
  ):
    tracemalloc.start()
    metric(fake, target)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < floats[0].nbytes / 2  # Of 64 frames; one takes 1/64 of it.


# ----------------------------------------------------------------------- time


def moving(speed=2, frames=4, size=64):
  """Smooth noise that moves to the right, uint8."""
  rng = np.random.default_rng(0)
  wide = rng.integers(0, 256, (size, size + speed * frames, 3)).astype(np.uint8)
  wide = footage.blur(wide[None], 2)[0].astype(float)
  wide = ((wide - wide.mean()) * 6 + 128).clip(0, 255).astype(np.uint8)
  start = speed * frames
  return np.stack(
    [wide[:, start - speed * t :][:, :size] for t in range(frames)]
  )


def known(speed):
  """A flow that says what `moving` does, either way."""

  def function(a, b):
    forward = abs(a[:, :-speed].astype(float) - b[:, speed:]).mean()
    backward = abs(b[:, :-speed].astype(float) - a[:, speed:]).mean()
    out = np.zeros((*a.shape[:2], 2), np.float32)
    out[..., 0] = speed if forward < backward else -speed
    return out

  return function


def test_farneback_and_warp():
  pytest.importorskip("cv2")
  video = moving()
  there = flow.farneback(video[0], video[1])
  inner = (slice(12, -12), slice(12, -12))
  np.testing.assert_allclose(there[inner].mean((0, 1)), [2, 0], atol=0.1)
  back = flow.warp(video[1], np.full((64, 64, 2), [2.0, 0.0]))
  np.testing.assert_array_equal(back[:, :-2], video[0][:, :-2])
  # Between the pixels, and beyond the border.
  ramp = np.broadcast_to(np.arange(8.0)[:, None], (6, 8, 1))
  half = flow.warp(ramp, np.full((6, 8, 2), [0.25, -9.0]))
  want = np.minimum(np.arange(8) + 0.25, 7)
  np.testing.assert_allclose(half[..., 0], np.tile(want, (6, 1)))


def test_what_is_visible():
  forward = np.zeros((16, 16, 2))
  forward[..., 0] = 3
  seen = flow.visible(forward, -forward)
  assert seen[:, :13].all() and not seen[:, 13:].any()  # It leaves.
  # Flow that does not return; there |f + b|^2 = 9 > 0.01 (9 + 0) + 0.5.
  assert not flow.visible(forward, 0 * forward).any()
  forward[:, 8:] = 0  # A border of motion.
  back = -forward
  back[:, :11] = [-3, 0]
  seen = flow.visible(forward, back)
  assert not seen[:, 7].any() and seen[:, :7].all() and seen[:, 12:].all()


def test_warping_error():
  video = moving()
  assert flow.warping_error(video, flow=known(2)) == 0
  darker = video // 2 + 20
  darker[1] += 51  # One frame of four is brighter by a fifth.
  got = paired.warping_error(darker, video, known(2))
  assert got == pytest.approx(2 / 3 * 3 * 0.2**2)
  lost = lambda a, b: np.full((*a.shape[:2], 2), 99.0)
  assert np.isnan(flow.warping_error(video, flow=lost))
  with pytest.raises(ValueError, match="aligned"):
    flow.warping_error(video, video[:2], known(2))


def test_motion_that_differs():
  fake, target = moving(3), moving(2)
  pick = lambda a, b: known(
    2 if any(np.array_equal(a, f) for f in target) else 3
  )(a, b)
  assert paired.tof(fake, target, pick) == pytest.approx(1)
  assert paired.tof(target, target, pick) == 0
  assert np.isnan(paired.tof(fake[:1], target[:1], pick))


# --------------------------------------------------------------------- ffmpeg


@pytest.fixture(scope="module")
def ffmpeg():
  return pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()


def test_vmaf_and_xpsnr(ffmpeg):
  """Odd sizes, in order, and best for equal clips."""
  weak, target = pair((4, 193, 195, 3), 4)
  strong, _ = pair((4, 193, 195, 3), 20)
  best, good, bad = (paired.vmaf(v, target) for v in (target, weak, strong))
  assert best > 97 and best >= good > bad + 3
  good, bad = (paired.xpsnr(v, target) for v in (weak, strong))
  assert all(good[k] > bad[k] + 8 for k in "yuv")
  assert paired.xpsnr(target, target)["y"] == np.inf
  assert paired.xpsnr(weak, target, "bt601")["y"] != good["y"]


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
  fake, target = pair((3, 192, 194, 3), 16)
  for name, video in (("a.mkv", fake), ("b.mkv", target)):
    ran(ffmpeg, video, "-c:v", "ffv1", name, cwd=tmp_path)
  inputs = ["-i", "a.mkv", "-i", "b.mkv"]
  log = "libvmaf=log_path=v.json:log_fmt=json"
  command = [ffmpeg, "-v", "error", *inputs, "-lavfi", log, "-f", "null", "-"]
  subprocess.run(command, cwd=tmp_path, check=True)
  pooled = json.loads((tmp_path / "v.json").read_text())["pooled_metrics"]
  got = paired.vmaf(fake, target)
  assert got == pytest.approx(pooled["vmaf"]["mean"], abs=1e-4)
  assert got != paired.vmaf(target, fake)


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
  fake, target = pair((4, 192, 200, 3), 16)
  got = list(paired.xpsnr(fake, target, fps=fps).values())
  both = planes(ffmpeg, fake), planes(ffmpeg, target)
  want = xpsnr_by_formula(*both, 1 if fps < 32 else 2)
  np.testing.assert_allclose(got, want, atol=1e-4)
  other = xpsnr_by_formula(*both[::-1], 1 if fps < 32 else 2)
  assert abs(got[0] - other[0]) > 0.5


@pytest.mark.parametrize("metric", [paired.vmaf, paired.xpsnr])
def test_too_small_for_ffmpeg(metric, ffmpeg):
  fake, target = pair((2, 191, 300, 3))
  with pytest.raises(ValueError, match="not computed: .* 192 .*300 x 191"):
    metric(fake, target)
  fake, target = pair((1, 192, 192, 3))
  with pytest.raises(ValueError, match="bt2020"):
    metric(fake, target, "bt2020")


# ----------------------------------------------------------------------- rate


def pchip(x, y, at):
  """Fritsch and Butland's monotone cubic, as in Moler 2004, section 3.4."""
  h, d = np.diff(x), np.diff(y) / np.diff(x)
  slope = np.zeros(len(x))
  for i in range(1, len(x) - 1):
    if d[i - 1] * d[i] > 0:
      a, b = 2 * h[i] + h[i - 1], h[i] + 2 * h[i - 1]
      slope[i] = (a + b) / (a / d[i - 1] + b / d[i])
  for end, (i, j) in ((0, (0, 1)), (-1, (-1, -2))):
    s = ((2 * h[i] + h[j]) * d[i] - h[i] * d[j]) / (h[i] + h[j])
    if s * d[i] <= 0:
      s = 0
    elif d[i] * d[j] <= 0 and abs(s) > 3 * abs(d[i]):
      s = 3 * d[i]
    slope[end] = s
  k = np.clip(np.searchsorted(x, at, "right") - 1, 0, len(h) - 1)
  u = (at - x[k]) / h[k]
  cubic = y[k] * (1 + 2 * u) * (1 - u) ** 2 + y[k + 1] * u * u * (3 - 2 * u)
  return cubic + h[k] * u * (1 - u) * (slope[k] * (1 - u) - slope[k + 1] * u)


RATES = np.array([100.0, 210.0, 390.0, 850.0])
PSNRS = np.array([30.0, 33.5, 35.5, 38.4])


def test_bd_rate_of_a_share():
  """The same curve at a fifth less of every rate."""
  assert paired.bd_rate(RATES, PSNRS, RATES, PSNRS) == pytest.approx(0)
  got = paired.bd_rate(0.8 * RATES[::-1], PSNRS[::-1], RATES, PSNRS)
  assert got == pytest.approx(-20)
  assert paired.bd_rate(RATES, PSNRS, 0.8 * RATES, PSNRS) == pytest.approx(25)


def test_the_example_of_the_docs(capsys):
  docs = pathlib.Path(__file__).parents[2] / "docs" / "metrics.md"
  (example,) = re.findall(r"```python\n(.*?)```", docs.read_text(), re.DOTALL)
  exec(compile(example, "docs/metrics.md", "exec"), {})
  assert capsys.readouterr().out.strip() == example.split("# ")[1].strip()


def test_bd_rate_by_quadrature():
  rates = np.array([80.0, 150.0, 420.0, 600.0, 1200.0])
  psnrs = np.array([29.0, 32.4, 36.0, 36.1, 39.9])
  at = np.linspace(30, 38.4, 40_001)
  at = (at[1:] + at[:-1]) / 2
  mine = pchip(psnrs, np.log10(rates), at)
  gap = (mine - pchip(PSNRS, np.log10(RATES), at)).mean()
  got = paired.bd_rate(rates, psnrs, RATES, PSNRS)
  assert got == pytest.approx(100 * (10**gap - 1), rel=1e-6)


@pytest.mark.parametrize(
  "rates, psnrs, message",
  [
    (RATES[:3], PSNRS[:3], "at least 4"),
    (RATES, PSNRS + 20, "do not overlap"),
    (RATES, PSNRS[::-1], "no curve"),
    (-RATES, PSNRS, "no curve"),
    (RATES, PSNRS * [1, 1, 1, np.inf], "no curve"),
  ],
)
def test_what_has_no_bd_rate(rates, psnrs, message):
  with pytest.raises(ValueError, match=message):
    paired.bd_rate(rates, psnrs, RATES, PSNRS)


# ---------------------------------------------------------------- real footage


@footage.needed
def test_order_on_real_clips(tmp_path):
  """Every figure gets worse with every rung, of noise, blur and H.264."""
  path = pathlib.Path(footage.REAL, "grid_faces_av/bbaf2n.mpg")
  frames = [f.image for _, f in zip(range(6), read.frames(path))]
  clip = np.stack(frames)[:, 40:240, 80:280]
  ladders = {
    "noise": [footage.noise(clip, s) for s in (3, 9, 27)],
    "blur": [footage.blur(clip, s) for s in (0.7, 1.4, 2.8)],
    "h264": [
      footage.h264(clip[None], crf, tmp_path)[0] for crf in (20, 32, 44)
    ],
  }
  figures = {
    "psnr_rgb": paired.psnr_rgb,
    "psnr_y_bt601": lambda f, x: paired.psnr_y(f, x, "bt601"),
    "ssim": paired.ssim,
    "ms_ssim": paired.ms_ssim,
    "vmaf": paired.vmaf,
    "xpsnr": lambda f, x: paired.xpsnr(f, x)["y"],
    "tof": lambda f, x: -paired.tof(f, x),
  }
  for ladder, rungs in ladders.items():
    for name, figure in figures.items():
      values = [figure(rung, clip) for rung in rungs]
      assert footage.rises(values[::-1]), (ladder, name, values)
  # Flicker, and not blur, is what the warping error is about.
  values = [paired.warping_error(v, clip) for v in (clip, *ladders["noise"])]
  assert footage.rises(values)
  values = [paired.warping_error(v, clip) for v in (clip, *ladders["blur"])]
  assert footage.rises(values[::-1])
