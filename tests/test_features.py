"""Features, their moments and distances, beside NumPy and SciPy in float64."""

import itertools

import jax
import numpy as np
import pytest
from scipy import linalg

from vidgan_jax.evals import features
from vidgan_jax.evals.nets import random3d


def gaussian(mean, cov, num=100):
  return features.Moments(
    num=num, mean=np.asarray(mean, float), cov=np.asarray(cov, float)
  )


def random_gaussian(seed, size=12):
  rng = np.random.default_rng(seed)
  root = rng.standard_normal((size, size))
  return gaussian(rng.standard_normal(size), root @ root.T / size)


# ------------------------------------------------------------------ distance


def test_distance_of_gaussians_with_common_axes():
  """|m_a - m_b|^2 + sum (sqrt(a_i) - sqrt(b_i))^2, in any basis."""
  rng = np.random.default_rng(0)
  basis, _ = np.linalg.qr(rng.standard_normal((6, 6)))
  a, b = rng.uniform(0, 4, (2, 6))
  a[0] = b[1] = 0  # Directions without any spread.
  m, n = rng.standard_normal((2, 6))
  turned = lambda mean, var: gaussian(mean, basis * var @ basis.T)
  want = ((m - n) ** 2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
  got = features.frechet(turned(m, a), turned(n, b))
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_distance_is_that_of_the_matrix_root():
  for seed in range(4):
    a, b = random_gaussian(seed), random_gaussian(seed + 10)
    root = linalg.sqrtm(a.cov @ b.cov)
    want = ((a.mean - b.mean) ** 2).sum()
    want += np.trace(a.cov + b.cov - 2 * root.real)
    np.testing.assert_allclose(features.frechet(a, b), want, rtol=1e-9)
    np.testing.assert_allclose(
      features.frechet(b, a), features.frechet(a, b), rtol=1e-9
    )
    assert 0 <= features.frechet(a, a) < 1e-9 * np.trace(a.cov)


# ------------------------------------------------------------------- moments


def first_values(video):
  """(B, T, H, W, 3) -> (B, 5), far from zero, as a network's may be."""
  return 100 + video.reshape(len(video), -1)[:, :5]


def clips(num, seed=0, shape=(2, 8, 8, 3)):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (num, *shape)).astype(np.uint8)


def test_moments_are_numpys():
  video = clips(50)
  x = 100 + video.reshape(50, -1)[:, :5] / np.float32(127.5) - 1
  got = features.moments(first_values, [video])
  assert got.num == 50
  np.testing.assert_allclose(got.mean, x.mean(0), rtol=1e-6)
  np.testing.assert_allclose(got.cov, np.cov(x.T), rtol=1e-3, atol=1e-5)
  assert got.cov.dtype == got.mean.dtype == np.float64


def test_a_stream_is_as_good_as_the_whole():
  video = clips(23)
  whole = features.moments(first_values, [video], 23)
  cuts = ((0, 1), (1, 1), (1, 9), (9, 23))
  for batch in (1, 4, 32):
    part = features.moments(first_values, (video[a:b] for a, b in cuts), batch)
    assert part.num == 23
    np.testing.assert_allclose(part.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(part.cov, whole.cov, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("videos", [[], [clips(1)]])
def test_moments_of_too_few(videos):
  with pytest.raises(ValueError, match="at least 2 clips"):
    features.moments(first_values, videos)


# -------------------------------------------------------------------- network


def reference(video):
  """`random3d` for one clip (T, H, W, 3) in float64, by loops."""
  x, out = video.astype(np.float64), []
  weights = random3d.params()
  for layer, weight in enumerate(weights):
    t, h, w, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (1, 1), (0, 0)))
    y = np.zeros((t, h, w, weight.shape[-1]))
    for a, b, c in itertools.product(range(t), range(h), range(w)):
      window = padded[a : a + 3, b : b + 3, c : c + 3]
      y[a, b, c] = np.tensordot(window, weight.astype(np.float64), 4)
    y = np.maximum(y, 0.2 * y)
    out += [y.mean((0, 1, 2)), np.sqrt(y.var((0, 1, 2)) + 1e-6)]
    if layer == len(weights) - 1:
      break
    steps = 2 if t >= 4 else 1
    x = np.zeros((t // steps, h // 2, w // 2, y.shape[-1]))
    for a, b, c in itertools.product(*map(range, x.shape[:3])):
      block = y[a * steps :, 2 * b : 2 * b + 2, 2 * c : 2 * c + 2]
      x[a, b, c] = block[:steps].mean((0, 1, 2))
  return np.concatenate(out)


@pytest.fixture(scope="module")
def apply():
  return jax.jit(random3d.network())


@pytest.mark.parametrize("shape", [(4, 8, 8, 3), (5, 9, 11, 3)])
def test_network_against_loops(apply, shape):
  rng = np.random.default_rng(1)
  video = rng.uniform(-1, 1, (2, *shape)).astype(np.float32)
  got = np.asarray(apply(video))
  assert got.shape == (2, random3d.SIZE) and got.dtype == np.float32
  for one, clip in zip(got, video):
    np.testing.assert_allclose(one, reference(clip), rtol=1e-4, atol=1e-5)


def test_features_never_change(apply):
  """A number once published can be compared for ever; else a new VERSION."""
  axes = np.meshgrid(*map(np.arange, (4, 8, 8, 3)), indexing="ij")
  t, y, x, c = (a.astype(np.float64) for a in axes)
  video = np.sin(0.7 * t + 0.9 * y - 0.5 * x + 2 * c).astype(np.float32)
  got = np.asarray(apply(video[None]), np.float64)[0]
  assert random3d.VERSION == "random3d-1"
  np.testing.assert_allclose(got.sum(), 38.70161, rtol=1e-4)
  np.testing.assert_allclose(got @ np.cos(np.arange(480)), -2.708141, rtol=1e-3)


def test_time_has_a_direction(apply):
  rng = np.random.default_rng(0)
  # A square that moves to the right over noise that stands still.
  video = np.repeat(rng.uniform(-0.3, 0.3, (1, 16, 16, 3)), 8, 0)
  for t in range(8):
    video[t, 4:9, t : t + 5] = 1
  shuffled = video[rng.permutation(8)]
  still = np.repeat(video[:1], 8, 0)
  turned = video[:, :, ::-1]
  views = [video, video[::-1], shuffled, still, turned]
  got = np.asarray(apply(np.stack(views).astype(np.float32)))
  noisy = video + rng.normal(0, 0.003, video.shape)
  floor = np.abs(np.asarray(apply(noisy[None].astype(np.float32)))[0] - got[0])
  for other in got[1:]:
    assert np.abs(other - got[0]).max() > 5 * floor.max()


def test_a_single_frame_is_a_clip(apply):
  got = np.asarray(apply(np.zeros((1, 1, 8, 8, 3), np.float32)))
  assert np.isfinite(got).all()
