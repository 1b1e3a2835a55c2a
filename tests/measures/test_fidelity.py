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
