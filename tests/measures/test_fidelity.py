"""Beside scikit-image, TensorFlow, formulas of a few lines, what must hold."""

import pathlib
import tracemalloc

import footage
import numpy as np
import pytest
from skimage import color
from skimage import metrics

from vidgan_jax.measures import ffmpeg
from vidgan_jax.measures import fidelity
from vidgan_jax.measures import flow
from vidgan_jax.video import read


def _clips(seed=0, shape=(3, 14, 17, 3), noise=0.1):
  rng = np.random.default_rng(seed)
  target = rng.uniform(-0.7, 0.7, shape).astype(np.float32)
  fake = target + noise * rng.standard_normal(shape).astype(np.float32)
  fake = fake.clip(-1, 1)
  weight = (rng.random((*shape[:3], 1)) < 0.4).astype(np.float32)
  return fake, target, weight


def test_psnr():
  fake, target, weight = _clips()
  eight = lambda x: (x.astype(np.float64) + 1) * 127.5
  mse = np.mean((eight(fake) - eight(target)) ** 2)
  want = 10 * np.log10(255**2 / mse)
  np.testing.assert_allclose(fidelity.psnr(fake, target), want, rtol=1e-9)
  there = np.broadcast_to(weight > 0, fake.shape)
  mse = np.mean((eight(fake) - eight(target))[there] ** 2)
  np.testing.assert_allclose(
    fidelity.psnr(fake, target, weight), 10 * np.log10(255**2 / mse), rtol=1e-9
  )
  assert fidelity.psnr(target, target) == pytest.approx(100)
  assert np.isnan(fidelity.psnr(fake, target, 0 * weight))


# RGB of 8 bits -> Y, Cb, Cr, of the colour bars of ITU-R BT.801, 100 %.
BARS = {
  (255, 255, 255): (235, 128, 128),
  (255, 255, 0): (210, 16, 146),
  (0, 255, 255): (170, 166, 16),
  (0, 255, 0): (145, 54, 34),
  (255, 0, 255): (106, 202, 222),
  (255, 0, 0): (81, 90, 240),
  (0, 0, 255): (41, 240, 110),
  (0, 0, 0): (16, 128, 128),
}


def test_luma_and_chroma_of_the_colour_bars():
  rgb = np.array(list(BARS)) / 127.5 - 1
  got = fidelity.ycbcr(rgb)
  np.testing.assert_array_equal(np.round(got), list(BARS.values()))


def test_luma_and_chroma_are_those_of_the_papers():
  """The matrix of MATLAB's rgb2ycbcr, which they use."""
  fake, target, weight = _clips()
  y, cb, cr = (
    [65.481, 128.553, 24.966], [-37.797, -74.203, 112], [112, -93.786, -18.214]
  )  # fmt: skip
  gap = (fake.astype(np.float64) - target) / 2
  there = weight[..., 0] > 0
  psnr = lambda error: 10 * np.log10(255**2 / np.mean(error**2))
  luma, chroma = gap @ y, gap @ np.transpose([cb, cr])
  close = dict(rtol=1e-4)
  np.testing.assert_allclose(fidelity.psnr_y(fake, target), psnr(luma), **close)
  np.testing.assert_allclose(
    fidelity.psnr_y(fake, target, weight), psnr(luma[there]), **close
  )
  np.testing.assert_allclose(
    fidelity.psnr_chroma(fake, target, weight), psnr(chroma[there]), **close
  )
  np.testing.assert_allclose(
    fidelity.chroma_error(fake, target), abs(chroma).mean(), **close
  )
  np.testing.assert_allclose(
    fidelity.temporal_chroma(fake, target),
    abs(np.diff(chroma, axis=0)).mean(),
    **close,
  )
  assert fidelity.psnr_y(target, target) == pytest.approx(100)


def test_grey_noise_has_no_colour():
  _, target, _ = _clips()
  noise = np.random.default_rng(1).normal(0, 0.1, (*target.shape[:3], 1))
  grey = target + noise
  assert fidelity.chroma_error(grey, target) < 1e-6
  assert fidelity.temporal_chroma(grey, target) < 1e-6
  assert fidelity.psnr_y(grey, target) < 30
  # Colours that are wrong, but always alike, do not flicker.
  red = target + np.array([0.2, -0.1, 0])
  assert fidelity.chroma_error(red, target) > 5
  assert fidelity.temporal_chroma(red, target) < 1e-6


def _ssim(x, y):
  """SSIM map of two pictures (H, W) in [0, 1], window by window."""
  axis = np.arange(11) - 5
  window = np.exp(-(axis[:, None] ** 2 + axis**2) / 4.5)
  window /= window.sum()
  h, w = x.shape[0] - 10, x.shape[1] - 10
  out = np.zeros((h, w))
  for i, j in np.ndindex(h, w):
    a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
    ma, mb = (window * a).sum(), (window * b).sum()
    va = (window * (a - ma) ** 2).sum()
    vb = (window * (b - mb) ** 2).sum()
    cov = (window * (a - ma) * (b - mb)).sum()
    out[i, j] = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4)
    out[i, j] /= (ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)
  return out


def test_ssim():
  fake, target, weight = _clips(noise=0.4)
  maps = np.zeros((3, 4, 7, 3))
  for t, c in np.ndindex(3, 3):
    pair = [(v[t, :, :, c].astype(np.float64) + 1) / 2 for v in (fake, target)]
    maps[t, :, :, c] = _ssim(*pair)
  np.testing.assert_allclose(
    fidelity.ssim(fake, target), maps.mean(), rtol=1e-6
  )
  inner = np.broadcast_to(weight[:, 5:-5, 5:-5] > 0, maps.shape)
  np.testing.assert_allclose(
    fidelity.ssim(fake, target, weight), maps[inner].mean(), rtol=1e-6
  )
  assert fidelity.ssim(target, target) == pytest.approx(1)
  assert np.isnan(fidelity.ssim(fake[:, :10], target[:, :10]))


def test_temporal_error():
  fake, target, weight = _clips()
  f, x = (v.astype(np.float64) * 127.5 for v in (fake, target))
  gap = abs((f[1:] - f[:-1]) - (x[1:] - x[:-1]))
  assert fidelity.temporal_error(fake, target) == pytest.approx(gap.mean())
  there = np.broadcast_to((weight[1:] + weight[:-1]) > 0, gap.shape)
  assert fidelity.temporal_error(fake, target, weight) == pytest.approx(
    gap[there].mean()
  )
  assert fidelity.temporal_error(target + 0.2, target) == pytest.approx(
    0, abs=1e-4
  )
  assert np.isnan(fidelity.temporal_error(fake[:1], target[:1]))


# ---------------------------------------------------------- clips of bytes


def test_psnr_of_rgb():
  fake, target = footage.waves()
  want = metrics.peak_signal_noise_ratio(target, fake)
  assert fidelity.psnr(fake, target) == pytest.approx(want)
  floats = [v / np.float32(127.5) - 1 for v in (fake, target)]
  assert fidelity.psnr(*floats) == pytest.approx(want, rel=1e-5)


def test_psnr_of_luma():
  fake, target = footage.waves()
  y = [color.rgb2ycbcr(v)[..., 0] for v in (target, fake)]  # 16 to 235
  want = metrics.peak_signal_noise_ratio(*y, data_range=255)
  assert fidelity.psnr_y(fake, target) == pytest.approx(want, rel=1e-4)
  luma = fake @ [0.2126, 0.7152, 0.0722] - target @ [0.2126, 0.7152, 0.0722]
  want = 10 * np.log10(255**2 / np.mean((luma * 219 / 255) ** 2))
  assert fidelity.psnr_y(fake, target, matrix="bt709") == pytest.approx(want)
  assert fidelity.psnr_y(target, target, matrix="bt709") == pytest.approx(100)
  with pytest.raises(ValueError, match="bt601"):
    fidelity.psnr_y(fake, target, matrix="rgb")


def test_ssim_is_scikit_images():
  fake, target = footage.waves()
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
  assert fidelity.ssim(fake, target) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("size", [(176, 192), (161, 183)])
def test_ms_ssim_is_tensorflows(size):
  tf = pytest.importorskip("tensorflow")
  fake, target = footage.waves((2, *size, 3), 40)
  want = tf.image.ssim_multiscale(
    *(tf.constant(v / 255, tf.float32) for v in (fake, target)), max_val=1.0
  )
  got = fidelity.ms_ssim(fake, target)
  assert got == pytest.approx(float(np.mean(want)), rel=2e-5)
  assert got < fidelity.ms_ssim(*footage.waves((2, *size, 3), 10))


def test_ms_ssim_of_unlike_and_small_clips():
  fake, target = footage.waves((1, 161, 161, 3), 0)
  assert fidelity.ms_ssim(target, target) == pytest.approx(1)
  assert fidelity.ms_ssim(255 - target, target) == 0  # Contrast is below 0.
  assert np.isnan(fidelity.ms_ssim(fake[:, :160], target[:, :160]))


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
  fake, target = footage.waves()
  for metric in (fidelity.psnr, fidelity.ssim, fidelity.chroma_error):
    with pytest.raises(ValueError, match=message):
      metric(change(fake), target)
  with pytest.raises(ValueError, match="T, H, W, 3"):
    fidelity.psnr(fake[..., :1], target[..., :1])


def test_frame_by_frame_is_the_whole_clip_at_once():
  """The same numbers, without the clip in float64."""
  fake, target = footage.waves((64, 40, 40, 3))
  floats = [v / 127.5 - 1 for v in (fake, target)]
  psnr, ssim = fidelity.psnr(*floats), fidelity.ssim(*floats)
  luma = (floats[0] - floats[1]) @ [0.299, 0.587, 0.114] * (219 / 2)
  for clips in ((fake, target), floats):
    assert fidelity.psnr(*clips) == pytest.approx(psnr, rel=1e-12)
    assert fidelity.ssim(*clips) == pytest.approx(ssim, rel=1e-12)
    assert fidelity.psnr_y(*clips) == pytest.approx(
      10 * np.log10(255**2 / np.mean(luma**2)), rel=1e-12
    )
  still = lambda a, b: np.zeros((*a.shape[:2], 2))
  for metric in (
    fidelity.psnr,
    fidelity.ssim,
    fidelity.psnr_y,
    lambda f, x: flow.tof(f, x, still),
    lambda f, x: flow.warping_error(f, x, still),
  ):
    tracemalloc.start()
    metric(fake, target)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < floats[0].nbytes / 2  # Of 64 frames; one takes 1/64 of it.


# ------------------------------------------------------------ real footage


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
    "psnr_rgb": fidelity.psnr,
    "psnr_y_bt601": fidelity.psnr_y,
    "ssim": fidelity.ssim,
    "ms_ssim": fidelity.ms_ssim,
    "vmaf": ffmpeg.vmaf,
    "xpsnr": lambda f, x: ffmpeg.xpsnr(f, x)["y"],
    "tof": lambda f, x: -flow.tof(f, x),
  }
  for ladder, rungs in ladders.items():
    for name, figure in figures.items():
      values = [figure(rung, clip) for rung in rungs]
      assert footage.rises(values[::-1]), (ladder, name, values)
  # Flicker, and not blur, is what the warping error is about.
  values = [flow.warping_error(v, clip) for v in (clip, *ladders["noise"])]
  assert footage.rises(values)
  values = [flow.warping_error(v, clip) for v in (clip, *ladders["blur"])]
  assert footage.rises(values[::-1])
