"""Numbers of motion on clips whose motion is known, and on real ones."""

import importlib.util
import itertools
import pathlib

import footage
import numpy as np
import pytest
from scipy import stats

from vidgan_jax.measures import intervals
from vidgan_jax.measures import motion
from vidgan_jax.measures import texture


def noisy(num=3, frames=6, side=12, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (num, frames, side, side, 3)).astype(np.uint8)


def steady(*lengths):
  """A flow for each pair of frames in turn: so long, at any angle."""
  calls = itertools.count()

  def flow(a, b):
    length = lengths[next(calls) % len(lengths)]
    angle = np.random.default_rng(0).uniform(0, 6.28, a.shape[:2])
    return length * np.stack([np.cos(angle), np.sin(angle)], -1)

  return flow


# ----------------------------------------------------------------------- lags


def test_lags():
  heard = np.random.default_rng(0).standard_normal(40)
  for late in (-3, 0, 5):
    curve = motion.lag_curve(2 * np.roll(heard, late) + 7, heard, 6)
    assert curve.shape == (13,) and curve.argmax() - 6 == late
    assert curve.max() == pytest.approx(1, abs=0.1)
    assert np.sort(curve)[-2] < 0.6
  curve = motion.lag_curve(heard, heard, 1)
  wanted = np.corrcoef(heard[1:], heard[:-1])[0, 1]
  np.testing.assert_allclose(curve, [wanted, 1, wanted])
  assert not motion.lag_curve(0 * heard, heard, 2).any()


@footage.needed
def test_mouths_move_when_speech_changes():
  """S5 of benchmarks/faces.py: at lag 0 any other voice fits nearly as well."""
  path = pathlib.Path(__file__).parents[2] / "benchmarks/faces.py"
  spec = importlib.util.spec_from_file_location("faces", path)
  faces = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(faces)
  films = sorted(pathlib.Path(footage.REAL, "grid_faces_av").glob("*.mpg"))
  assert len(films) == 11
  for near, of_others in faces.real(films).values():
    assert near >= 8 and of_others < 6


# --------------------------------------------------------------------- speeds


def test_speeds():
  (row,) = motion.speeds(noisy(1, 5), steady(0.53, 2.03, 2.05, 99))
  assert row.sum() == pytest.approx(1)
  assert {i: row[i] for i in np.flatnonzero(row)} == pytest.approx(
    {8: 0.25, 32: 0.5, 1023: 0.25}, rel=1e-9
  )


def test_speed_distance_is_wassersteins():
  rng = np.random.default_rng(0)
  a, b = rng.random((2, 7, 1024)) ** 8
  a, b = (v / v.sum(1, keepdims=True) for v in (a, b))
  speeds = np.arange(1024) / 16
  want = stats.wasserstein_distance(speeds, speeds, a.mean(0), b.mean(0))
  assert motion.speed_distance(a, b) == pytest.approx(want)
  slow = motion.speeds(noisy(), steady(1.03))
  fast = motion.speeds(noisy(), steady(3.03))
  assert motion.speed_distance(fast, slow) == pytest.approx(2)


# -------------------------------------------------------------------- spectra


def test_amounts():
  """What all squares have in common is light, not motion."""
  rng = np.random.default_rng(0)
  frames = rng.integers(0, 200, (3, 32, 48, 3), np.uint8)
  squares = frames.mean(-1).reshape(3, 16, 2, 24, 2).mean((2, 4))
  squares -= squares.mean((1, 2), keepdims=True)
  want = abs(np.diff(squares, axis=0)).mean()
  assert motion.amounts([frames]) == pytest.approx([want])
  still = np.repeat(frames[:1], 3, 0)
  light = still + np.uint8([0, 20, 5])[:, None, None, None]
  np.testing.assert_allclose(motion.amounts([still, light]), 0, atol=1e-9)


def test_spectra_are_those_of_the_differences():
  video = noisy(2, 8)
  got = motion.spectra(video)
  assert got.shape == (2, 4)  # 7 differences.
  change = np.diff(video[1].astype(float), axis=0)
  for k in range(4):
    wave = np.exp(-2j * np.pi * k * np.arange(7) / 7)
    term = np.tensordot(wave, change, 1) / 7
    assert got[1, k] == pytest.approx((abs(term) ** 2).mean())
  # Parseval: both signs of every frequency but 0.
  total = got[1, 0] + 2 * got[1, 1:].sum()
  assert total == pytest.approx((change**2).mean())
  backwards = motion.spectra(video[:, ::-1])
  np.testing.assert_allclose(backwards, got, rtol=1e-9)


def test_spectrum_distance():
  clips = motion.spectra(noisy())
  assert motion.spectrum_distance(clips, clips) == 0
  assert motion.spectrum_distance(10 * clips, clips) == pytest.approx(
    10, abs=0.01
  )
  still = motion.spectra(np.repeat(noisy()[:, :1], 6, 1))
  assert np.isfinite(motion.spectrum_distance(still, clips))
  assert motion.spectrum_distance(still, clips) > 20
  with pytest.raises(ValueError, match="3 and 4 frequencies"):
    motion.spectrum_distance(clips, motion.spectra(noisy(frames=8)))


# ---------------------------------------------------------------------- order


def test_order():
  (clip,) = noisy(1, 5)
  orders = [clip[list(p)] for p in itertools.permutations(range(5))]
  assert motion.order(orders).mean() == pytest.approx(0, abs=1e-12)
  ramp = np.arange(16)[:, None, None, None] + np.zeros((16, 4, 4, 3), int)
  flicker = ramp % 2 * 100
  drift, alternate, still = motion.order(
    np.stack([ramp, flicker, 0 * ramp]).astype(np.uint8)
  )
  # Differences 1, variance (16^2 - 1) / 12.
  assert drift == pytest.approx(1 - 15 / (2 * 16 * 255 / 12))
  assert alternate < -0.8 and np.isnan(still)


# ---------------------------------------------------------------------- arrow


def test_arrows():
  clips = noisy(3, 6)
  there, back = motion.arrows(clips), motion.arrows(clips[:, ::-1])
  assert np.abs(there).min(1).max() > 1e-4  # Chance is not the same both ways.
  np.testing.assert_allclose(back, -there, atol=1e-12)
  dark = clips // 2  # Contrast does not matter.
  np.testing.assert_allclose(motion.arrows(dark), motion.arrows(2 * dark))
  still = np.repeat(clips[:1, :1], 6, 1)
  there_and_back = np.concatenate([clips, clips[:, ::-1]], 1)
  for clip in (still, there_and_back):
    np.testing.assert_allclose(motion.arrows(clip), 0, atol=1e-12)
  # One pixel that lights up and goes out slowly, by hand: x is 0, 3, 2, 1, 0.
  x = np.array([0, 3, 2, 1, 0]) - 6 / 5
  change = np.diff(x)
  want = (x[1:] * x[:-1] * change).mean() / (x.std() * (change**2).mean())
  spark = np.full((1, 5, 1, 1, 3), 50, np.uint8) + np.uint8(
    [0, 3, 2, 1, 0]
  ).reshape(1, 5, 1, 1, 1)
  found = motion.arrows(spark)
  assert found.shape == (1, 3) and found[0, 0] == pytest.approx(want)


def test_arrow_distance():
  rng = np.random.default_rng(0)
  a, b = rng.standard_normal((2, 400, 12))
  alike = motion.arrow_distance(a, b)
  assert alike == pytest.approx(np.sqrt(2 / 400), rel=0.3)
  assert motion.arrow_distance(3 * a, 3 * b) == pytest.approx(alike)
  assert motion.arrow_distance(a + 1, b) == pytest.approx(1, abs=0.1)
  assert motion.arrow_distance(0 * a, 0 * b) == 0


# --------------------------------------------------------------------- checks


def test_what_is_refused():
  clips = noisy()
  for metric in (motion.spectra, motion.order, motion.speeds):
    with pytest.raises(ValueError, match="Clip 1 is .*the first was"):
      metric([clips[0], clips[1][:4]])
    with pytest.raises(ValueError, match="Clip 0 .*float32"):
      metric(clips.astype(np.float32))
    with pytest.raises(ValueError, match="one frame"):
      metric(clips[:, :1])
    with pytest.raises(ValueError, match="No clips"):
      metric([])


# ---------------------------------------------------------------- real footage


@footage.needed
def test_order_on_real_clips():
  """What only time can tell: and a measure of single frames does not."""
  pytest.importorskip("cv2")
  clips, _ = footage.weizmann()
  real, other = clips[::2], clips[1::2]
  changed = {
    "shuffled": footage.shuffled(other),
    "frozen": footage.frozen(other),
    # Every frame twice: half the speed, by jerks.
    "doubled": other[:, np.arange(8) // 2],
  }
  speeds = motion.speeds(real)
  spectra = motion.spectra(real)
  alike = motion.speed_distance(motion.speeds(other), speeds)
  near = motion.spectrum_distance(motion.spectra(other), spectra)
  alike_texture = texture.distance(other, real, patches=2048).value
  for name, fake in changed.items():
    found = motion.speed_distance(motion.speeds(fake), speeds)
    assert found > 1.3 * alike, name
    found = motion.spectrum_distance(motion.spectra(fake), spectra)
    assert found > 1.3 * near, name
    if name == "shuffled":
      moved = texture.distance(fake, real, patches=2048).value
      assert moved == pytest.approx(alike_texture, rel=0.05)
  # Neighbours are alike, and no more so when shuffled.
  order = motion.order(other)
  mixed = motion.order(changed["shuffled"])
  error = mixed.std() / np.sqrt(len(mixed))
  assert abs(mixed.mean()) < 3 * error and order.mean() > 5 * error
  backwards = motion.order(other[:, ::-1])
  np.testing.assert_allclose(backwards, order, rtol=1e-9)
  # Flicker of brightness is nothing that flow explains.
  flicker = [
    (other[:6] * (1 - s * (np.arange(8) % 2)[:, None, None, None]))
    .round()
    .astype(np.uint8)
    for s in (0, 0.05, 0.2)
  ]
  errors = [np.nanmean(motion.warping_errors(f)) for f in flicker]
  assert footage.rises(errors), errors
  # An interval, from the rows.
  interval = intervals.jackknife(
    lambda a, b: motion.speed_distance(np.concatenate(a), np.concatenate(b)),
    intervals.split(motion.speeds(other), 6),
    intervals.split(speeds, 6),
  )
  assert interval.value == pytest.approx(alike)
  assert interval.low < alike < interval.high
