"""Texture: bands, patches and their distance, beside what must hold."""

import functools

import footage
import numpy as np
import pytest

from vidgan_jax.measures import texture


def test_the_bands():
  """A wave lies in the band of its length; a constant in none."""
  x = np.arange(64)
  for level, period in enumerate((3, 8, 16)):
    wave = np.cos(2 * np.pi * x / period)
    video = 0.4 + np.broadcast_to(wave[:, None], (1, 64, 64, 1))
    bands = texture._pyramid(video)
    assert [b.shape[1:3] for b in bands] == [(64, 64), (32, 32), (16, 16)]
    power = [np.square(b[:, 3:-3, 3:-3]).mean() for b in bands]
    assert np.argmax(power) == level
  bands = texture._pyramid(np.full((1, 64, 64, 1), 0.4))
  assert all(abs(b).max() < 1e-9 for b in bands)
  assert texture._pyramid(video[:, :15]) == []


def test_patches_come_from_where_it_counts():
  video = np.zeros((2, 32, 32, 3))
  video[1] = np.random.default_rng(0).uniform(-1, 1, (32, 32, 3))
  weight = np.zeros((2, 32, 32, 1))
  weight[1, 20:] = 1
  for patches in texture.descriptors(video, weight, 0, 50):
    assert patches.shape == (50, 147)
    assert abs(patches).max(1).min() > 0.01  # None is of the first frame.
  none = texture.descriptors(video, 0 * weight, 0, 50)
  assert [len(x) for x in none] == [0, 0]
  assert np.isnan(texture.sliced_wasserstein(none, none))
  for one, two in zip(*(texture.descriptors(video, None, 3) for _ in "ab")):
    np.testing.assert_array_equal(one, two)


def test_patches_are_cut_from_the_band(monkeypatch):
  monkeypatch.setattr(texture, "_pyramid", lambda video: [video])
  plain = np.arange(2 * 16 * 16).reshape(2, 16, 16, 1).astype(float)
  weight = np.zeros_like(plain)
  weight[1, 9:, :8] = 1
  (only,) = texture.descriptors(plain, weight, 0, 9)
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
  assert texture.sliced_wasserstein([a], [b]) == pytest.approx(1000 * want)
  assert texture.sliced_wasserstein([b], [b[::-1]]) == pytest.approx(0)
  # A shift of all points of a plane: |cos| of its angle to the directions.
  b = rng.standard_normal((500, 2))
  value = texture.sliced_wasserstein([b + [1, 0]], [b], directions=5000)
  assert value == pytest.approx(1000 * 2 / np.pi / b.std(), rel=0.03)


def test_blur_and_noise_cost_texture():
  rng = np.random.default_rng(0)
  target = rng.uniform(-1, 1, (4, 64, 64, 3))
  blurred = (target + np.roll(target, 1, 2) + np.roll(target, 1, 1)) / 3
  noisy = target + 0.3 * rng.standard_normal(target.shape)
  distance = lambda v: texture.sliced_wasserstein(
    *(texture.descriptors(x, None, 0, 8192) for x in (v, target)),
    directions=32,
  )
  other = rng.uniform(-1, 1, (4, 64, 64, 3))
  assert distance(target) == 0 and distance(target + 0.2) < 1e-6
  # Another clip of the same texture is nearer than the same clip spoilt.
  assert distance(other) < 0.5 * min(distance(blurred), distance(noisy))


# ------------------------------------------------------------------------ sets


@pytest.mark.parametrize("spread", [1.0, 1.3])
def test_texture_has_an_interval(spread, monkeypatch):
  """That of repetitions; where the sets are alike it is too wide."""
  quick = functools.partial(texture.sliced_wasserstein, directions=32)
  monkeypatch.setattr(texture, "sliced_wasserstein", quick)
  rng = np.random.default_rng(0)

  def clips(num, spread=1.0):
    level = rng.normal(1, 0.3, (num, 1, 1, 1, 1))
    noise = rng.standard_normal((num, 1, 20, 20, 3))
    return (127 + spread * 20 * level * noise).clip(0, 255).astype(np.uint8)

  found = [
    texture.distance(clips(24, spread), clips(24), patches=240)
    for _ in range(40)
  ]
  values = np.array([e.value for e in found])
  width = np.mean([e.high - e.low for e in found])
  # 2.36: Student's with 7 degrees of freedom.
  assert 0.65 < width / (2 * 2.36 * values.std()) < 2
  mean = values.mean()
  assert np.mean([e.low <= mean <= e.high for e in found]) >= 0.8
  few = texture.distance(clips(5), clips(9), patches=100)
  assert np.isnan(few.low)


def swd(*args, **options):
  return texture.distance(*args, **options).value


def test_texture_of_sets():
  rng = np.random.default_rng(0)
  clips = rng.integers(0, 256, (12, 4, 32, 32, 3)).astype(np.uint8)
  options = dict(patches=2000)
  assert swd(clips, clips, **options) == 0
  # As many patches, whatever the number of clips; floats are the same clips.
  other = swd(clips[:5], clips[5:], **options)
  floats = clips / np.float32(127.5) - 1
  assert swd(list(floats[:5]), list(clips[5:]), **options) == (
    pytest.approx(other, rel=1e-4)
  )
  soft = [swd(footage.blur(clips, s), clips, **options) for s in (0.4, 0.6, 1)]
  assert other < soft[0] and footage.rises(soft)
  with pytest.raises(ValueError, match="16 x 16"):
    swd(clips[:, :, :15], clips[:, :, :15])
  floats[3, 0, 5, 5, 0] = np.nan
  with pytest.raises(ValueError, match="clip 3"):
    swd(floats, clips)
