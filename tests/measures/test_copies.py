"""Planted copies are found; clips that were not trained on are none."""

import footage
import numpy as np
import pytest
from scipy import fft
from scipy import stats

from vidgan_jax import pixels
from vidgan_jax.measures import copies
from vidgan_jax.measures import neighbours


def test_dct_is_scipys():
  x = np.random.default_rng(0).standard_normal((32, 32))
  basis = copies._dct(32)
  want = fft.dctn(x, norm="ortho")
  np.testing.assert_allclose(basis @ x @ basis.T, want, atol=1e-12)


def clips(num=6, frames=7, side=40, seed=0):
  """Smooth pictures that drift slowly."""
  rng = np.random.default_rng(seed)
  noise = rng.integers(0, 256, (num, 1, side, side + frames, 3)).astype(
    np.uint8
  )
  smooth = footage.blur(noise, 3).astype(float)
  smooth = ((smooth - 127.5) * 9 + 127.5).clip(0, 255).astype(np.uint8)
  views = [smooth[:, 0, :, t : t + side] for t in range(frames)]
  return np.stack(views, 1)


def test_hashes_step_by_step():
  video = clips(1)[0]
  (got,) = copies.hashes([video], 3)
  assert got.shape == (3, 64) and got.dtype == bool
  for bits, t in zip(got, (0, 3, 6)):
    luma = video[t] @ np.array([0.299, 0.587, 0.114], np.float32)
    small = pixels.resize(luma[None, ..., None], 32, 32)[0, ..., 0]
    low = fft.dctn(small, norm="ortho")[1:9, 1:9].ravel()
    np.testing.assert_array_equal(bits, low > np.median(low))
    assert bits.sum() == 32


def test_hashes_forgive():
  """Size, brightness, contrast and noise; not another picture."""
  video = clips()
  plain = copies.hashes(video)
  large = [np.repeat(np.repeat(v, 3, 1), 3, 2) for v in video]
  dull = (video * 0.6 + 30).astype(np.uint8)
  for same in (large, dull, footage.noise(video, 8)):
    distance, index = copies.nearest_hash(copies.hashes(same), plain)
    np.testing.assert_array_equal(index, np.arange(6))
    assert distance.max() < 6
  other = copies.hashes(clips(seed=1))
  distance, _ = copies.nearest_hash(other, plain)
  assert distance.min() > 14


def test_nearest_hash_by_counting():
  rng = np.random.default_rng(0)
  x, y = rng.random((5, 4, 64)) < 0.5, rng.random((7, 3, 64)) < 0.5
  bits = (x[:, None, :, None] != y[None, :, None]).sum(-1)  # (5, 7, 4, 3)
  table = bits.min(3).mean(2)
  distance, index = copies.nearest_hash(x, y)
  np.testing.assert_array_equal(index, table.argmin(1))
  np.testing.assert_allclose(distance, table.min(1))


def test_drifts_by_counting():
  rng = np.random.default_rng(0)
  y = rng.random((3, 4, 64)) < 0.5
  x = np.stack([y[1], np.concatenate([y[0, :2], y[2, 2:]])])
  bits = lambda a, b: (a != b).sum()
  near = lambda key, clip: min(bits(key, other) for other in clip)
  start = [np.mean([near(key, clip) for key in x[1, :2]]) for clip in y]
  end = [np.mean([near(key, clip) for key in x[1, 2:]]) for clip in y]
  assert (np.argmin(start), np.argmin(end)) == (0, 2)
  want = start[2] - start[0] + end[0] - end[2]
  np.testing.assert_allclose(copies.drifts(x, y), [0, want])


def test_copies():
  rng = np.random.default_rng(0)
  held_out = rng.gamma(4, 1, 200)
  fresh = rng.gamma(4, 1, 300)
  threshold = copies.threshold(fresh, held_out)
  assert np.mean(held_out < threshold) <= 0.05
  assert np.mean(fresh < threshold) < 0.1
  assert copies.nearer(fresh, held_out) == pytest.approx(0.5, abs=0.06)
  fake = np.concatenate([rng.gamma(4, 1, 70), rng.uniform(0, 0.05, 30)])
  threshold = copies.threshold(fake, held_out)
  assert threshold in held_out
  assert 0.3 <= np.mean(fake < threshold) < 0.42
  test = stats.mannwhitneyu(held_out, fake)
  nearer = copies.nearer(fake, held_out)
  assert nearer == pytest.approx(test.statistic / (200 * 100))
  assert copies.threshold(fake + 99, held_out) == threshold
  assert copies.nearer(fake + 99, held_out) == 0


def test_copies_of_whole_bits():
  """With ties no more than the share of held-out clips counts."""
  held_out = np.array([3] * 10 + [5] * 30)
  fake = np.array([1, 3, 3, 9])
  assert copies.threshold(fake, held_out, 0.1) == 3  # What is below it counts.
  # P(nearer) + P(equal) / 2 for each.
  nearer = copies.nearer(fake, held_out)
  assert nearer == pytest.approx((1 + 2 * (0.75 + 0.125) + 0) / 4)
  test = stats.mannwhitneyu(held_out, fake)
  assert nearer == pytest.approx(test.statistic / 160)


def test_what_is_refused():
  with pytest.raises(ValueError, match="at least 20"):
    copies.threshold(np.ones(5), np.ones(19))
  with pytest.raises(ValueError, match="in the training set"):
    copies.threshold(np.ones(5), np.zeros(40))
  for fake in ([], [1, np.nan]):
    with pytest.raises(ValueError, match="finite"):
      copies.threshold(np.array(fake), np.ones(40))


@footage.needed
def test_planted_copies_of_real_clips(tmp_path):
  """H.264, noise and another offset in time do not hide them."""
  sky = footage.sky(64, 16)
  scenes = np.delete(np.arange(48), 9)  # Which is 4 once more.
  order = np.random.default_rng(0).permutation(scenes)
  held_out, train = sky[order[:20], :8], sky[order[20:]]
  planted = np.concatenate(
    [
      footage.h264(train[:4, 4:12], 36, tmp_path),
      footage.noise(train[4:8, 6:14], 6),
    ]
  )
  known = copies.hashes(train, 8)
  near = lambda clips: copies.nearest_hash(copies.hashes(clips, 4), known)
  distance, index = near(np.concatenate([held_out[10:], planted]))
  threshold = copies.threshold(distance, near(held_out)[0])
  assert np.mean(distance < threshold) >= 8 / 18
  assert set(np.argsort(distance, kind="stable")[:8]) == set(range(10, 18))
  np.testing.assert_array_equal(index[10:], np.arange(8))
  # The same in a space of features: here the pixels themselves.
  flat = lambda clips: (
    clips[:, 0, ::8, ::8].reshape(len(clips), -1).astype(float)
  )
  distance, index = neighbours.nearest(flat(planted[:4]), flat(train[:, 4:]))
  np.testing.assert_array_equal(index, np.arange(4))
