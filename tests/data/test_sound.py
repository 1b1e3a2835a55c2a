"""Rows of sound: against SciPy's spectrum, at any times, and their onsets."""

import numpy as np
import pytest
from scipy import optimize
from scipy import signal

from vidgan_jax.data import sound
from vidgan_jax.data import sprites


def tone(hertz, seconds=1.0, start=0.0, size=1.0):
  t = np.arange(round(seconds * sound.RATE)) / sound.RATE
  return (size * np.sin(2 * np.pi * hertz * t) * (t >= start)).astype(
    np.float32
  )


def test_levels_are_those_of_scipys_spectrum():
  wave = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
  hann = signal.get_window("hann", 400)
  transform = signal.ShortTimeFFT(
    hann, 160, sound.RATE, scale_to=None, phase_shift=None
  )
  power = np.abs(transform.stft(np.float64(wave), p0=0, p1=101)) ** 2
  power /= (hann.sum() / 2) ** 2
  want = 1 + 10 * np.log10(power.T @ sound._filters() + 1e-5) / 50
  np.testing.assert_allclose(sound.levels(wave), want, atol=1e-5)


def test_levels_have_the_units_that_they_say():
  silent = sound.levels(np.zeros(8000, np.float32))
  np.testing.assert_allclose(silent, 0, atol=1e-5)
  filters = sound._filters()
  assert filters.shape == (201, sound.BANDS) and (filters.max(0) > 0.99).all()
  for size, level in ((1.0, 1.0), (0.1, 0.6), (10**-2.5, 0.06)):
    middle = sound.levels(tone(1000, size=size))[50]
    # A sine falls on two bands; 20 dB are 20 / 50.
    assert abs(middle.max() - level) < 0.12, size
  low, high = (sound.levels(tone(f))[50].argmax() for f in (200, 4000))
  assert low < 8 < 25 < high


def test_rows_are_means_of_levels_over_quarters():
  wave = np.random.default_rng(1).normal(0, 0.2, 32000).astype(np.float32)
  times = np.arange(16) / 8
  rows = sound.rows(wave, times, 1 / 8).reshape(16, sound.PARTS, -1)
  level = np.float64(sound.levels(wave))
  fine = np.repeat(level, 160, 0)  # of each sample, its window's
  for t in (3, 9):
    for part in range(4):
      begin = round((times[t] - 1 / 16 + part / 32) * 16000) + 80
      want = fine[begin : begin + 500].mean(0)
      np.testing.assert_allclose(rows[t, part, :-1], want, atol=1e-4)
      before = fine[begin - 500 : begin].mean(0)
      rise = np.maximum(want - before, 0).mean()
      np.testing.assert_allclose(rows[t, part, -1], rise, atol=1e-4)


def test_rows_do_not_depend_on_the_rest():
  wave = np.random.default_rng(2).normal(0, 0.2, 32000).astype(np.float32)
  whole = sound.rows(wave, np.arange(16) / 8, 1 / 8)
  # Other times, in any order; a sound that ends later; silence after the end.
  some = sound.rows(wave, [1.0, 0.25], 1 / 8)
  np.testing.assert_allclose(some, whole[[8, 2]], atol=1e-5)
  part = sound.rows(wave[:20000], np.arange(16) / 8, 1 / 8)
  np.testing.assert_allclose(part[:9], whole[:9], atol=1e-5)
  assert not part[12:].any() and whole.shape == (16, sound.FEATURES)
  # A gap of less than a window, as of film at 60 frames a second.
  assert np.isfinite(sound.rows(wave, np.arange(90) / 60, 1 / 60)).all()


def test_onsets():
  wave = sum(tone(f, 2.0, s, 0.3) for f, s in ((300, 0.4), (2000, 1.1)))
  np.testing.assert_allclose(sound.onsets(wave), [0.4, 1.1], atol=0.015)
  assert not len(sound.onsets(np.zeros(16000, np.float32)))
  hiss = np.random.default_rng(0).normal(0, 0.05, 32000).astype(np.float32)
  assert len(sound.onsets(hiss)[1:]) <= 2  # It begins once.


def test_onsets_are_the_bounces_of_sprites():
  """Of 128 clips, within 30 ms; bounces nearer than 60 ms are one."""
  source = sprites.make(
    "test", resolution=24, frames=16, objects=(1, 2), radius=(0.13, 0.26)
  )
  hits = total = 0
  for scene in map(source.scene, range(128)):
    true = sprites.bounces(scene, 2.0)[:, 0]
    true = true[np.diff(true, prepend=-1) > 0.06]
    true = true[true < 1.95]
    heard = sound.onsets(sprites.audio(source.options, scene))
    heard = heard[heard < 1.97]
    gap = np.abs(heard[:, None] - true)
    rows, columns = optimize.linear_sum_assignment(np.minimum(gap, 1))
    hits += 2 * (gap[rows, columns] <= 0.03).sum()
    total += len(true) + len(heard)
  assert hits / total >= 0.98  # F1


@pytest.mark.parametrize("length", [0, 1, 159, 401])
def test_short_sounds(length):
  wave = np.ones(length, np.float32)
  rows = sound.rows(wave, [0.0, 1.0], 0.1)
  assert rows.shape == (2, sound.FEATURES) and np.isfinite(rows).all()
  assert len(sound.onsets(wave)) <= 1
