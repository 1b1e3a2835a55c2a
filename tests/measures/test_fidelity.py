"""Against references of a few lines, and against what must hold."""

import numpy as np
import pytest

from vidgan_jax.measures import fidelity


def _clips(seed=0, shape=(3, 14, 17, 3), noise=0.1):
  rng = np.random.default_rng(seed)
  target = rng.uniform(-1, 1, shape).astype(np.float32)
  fake = target + noise * rng.standard_normal(shape).astype(np.float32)
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


# -------------------------------------------------------------------- texture


def test_the_bands():
  """A wave lies in the band of its length; a constant in none."""
  x = np.arange(64)
  for level, period in enumerate((3, 8, 16)):
    wave = np.cos(2 * np.pi * x / period)
    video = 0.4 + np.broadcast_to(wave[:, None], (1, 64, 64, 1))
    bands = fidelity._pyramid(video)
    assert [b.shape[1:3] for b in bands] == [(64, 64), (32, 32), (16, 16)]
    power = [np.square(b[:, 3:-3, 3:-3]).mean() for b in bands]
    assert np.argmax(power) == level
  bands = fidelity._pyramid(np.full((1, 64, 64, 1), 0.4))
  assert all(abs(b).max() < 1e-9 for b in bands)
  assert fidelity._pyramid(video[:, :15]) == []


def test_patches_come_from_where_it_counts():
  video = np.zeros((2, 32, 32, 3))
  video[1] = _clips(shape=(32, 32, 3))[1]
  weight = np.zeros((2, 32, 32, 1))
  weight[1, 20:] = 1
  for patches in fidelity.descriptors(video, weight, 0, 50):
    assert patches.shape == (50, 147)
    assert abs(patches).max(1).min() > 0.01  # None is of the first frame.
  none = fidelity.descriptors(video, 0 * weight, 0, 50)
  assert [len(x) for x in none] == [0, 0]
  assert np.isnan(fidelity.sliced_wasserstein(none, none))
  for one, two in zip(*(fidelity.descriptors(video, None, 3) for _ in "ab")):
    np.testing.assert_array_equal(one, two)


def test_patches_are_cut_from_the_band(monkeypatch):
  monkeypatch.setattr(fidelity, "_pyramid", lambda video: [video])
  plain = np.arange(2 * 16 * 16).reshape(2, 16, 16, 1).astype(float)
  weight = np.zeros_like(plain)
  weight[1, 9:, :8] = 1
  (only,) = fidelity.descriptors(plain, weight, 0, 9)
  for patch in only.reshape(9, 7, 7):
    t, rest = divmod(int(patch[3, 3]), 256)
    y, x = divmod(rest, 16)
    assert t == 1 and y >= 9 and x < 8
    window = plain[t, y - 3 : y + 4, x - 3 : x + 4, 0]
    np.testing.assert_array_equal(patch, window)


def test_sliced_wasserstein_of_a_shift():
  """In one dimension it is the distance of the quantiles."""
  rng = np.random.default_rng(0)
  a = rng.standard_normal((500, 1))
  b = 2 * rng.standard_normal((500, 1)) + 3
  want = abs(np.sort(a[:, 0]) - np.sort(b[:, 0])).mean() / b.std()
  assert fidelity.sliced_wasserstein([a], [b]) == pytest.approx(1000 * want)
  assert fidelity.sliced_wasserstein([b], [b[::-1]]) == pytest.approx(0)
  # A shift of all points of a plane: |cos| of its angle to the directions.
  b = rng.standard_normal((500, 2))
  value = fidelity.sliced_wasserstein([b + [1, 0]], [b], directions=5000)
  assert value == pytest.approx(1000 * 2 / np.pi / b.std(), rel=0.03)


def test_blur_and_noise_cost_texture():
  rng = np.random.default_rng(0)
  target = rng.uniform(-1, 1, (4, 64, 64, 3))
  blurred = (target + np.roll(target, 1, 2) + np.roll(target, 1, 1)) / 3
  noisy = target + 0.3 * rng.standard_normal(target.shape)
  distance = lambda v: fidelity.sliced_wasserstein(
    *(fidelity.descriptors(x, None, 0, 8192) for x in (v, target)),
    directions=32,
  )
  other = rng.uniform(-1, 1, (4, 64, 64, 3))
  assert distance(target) == 0 and distance(target + 0.2) < 1e-6
  # Another clip of the same texture is nearer than the same clip spoilt.
  assert distance(other) < 0.5 * min(distance(blurred), distance(noisy))
