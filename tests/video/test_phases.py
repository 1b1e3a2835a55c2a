"""Frames at any phase: of what moves evenly, exactly where it then is."""

import dataclasses
import fractions

import numpy as np
import pytest

from vidgan_jax.verbs import process
from vidgan_jax.video import phases
from vidgan_jax.video import read
from vidgan_jax.video import stages
from vidgan_jax.video import stream
from vidgan_jax.video import write

Fraction = fractions.Fraction


@dataclasses.dataclass
class Line(stream.Stage):
  """Draws unknown frames on a line in time between the known ones."""

  fps: float
  name = "line"
  halo = (0, phases.MOST, phases.MOST)

  def __call__(self, video, times, mask):
    known = mask[:, 0, 0, 0] == 0
    assert ((mask == 0).all((1, 2, 3)) == known).all()
    flat = video.reshape(len(video), -1)
    columns = [np.interp(times, times[known], c[known]) for c in flat.T]
    return np.stack(columns, -1).reshape(video.shape).astype(np.float32)


def film(times, cut=10**9, step=20.0, mask=None):
  """Frames whose grey is `step` times the time; 100 more from the cut on."""
  times = [Fraction(t) for t in times]
  for i, (time, end) in enumerate(zip(times, [*times[1:], None])):
    grey = float(time) * step + 100 * (i >= cut)
    yield stream.Frame(
      time=time,
      duration=end - time if end else time - times[-2],
      shot=int(i >= cut),
      image=np.full((4, 6, 3), grey * 100, np.uint16),
      mask=mask,
    )


def run(frames, fps, chunk=0):
  ask, stage, pick = phases.around(Line(fps))
  runner = stream.Runner(stage, chunk=chunk)
  return list(pick.frames(runner(ask.frames(frames))))


def grey(frames):
  return np.array([f.image.mean() / 100 for f in frames])


@pytest.mark.parametrize("fps", [60, 24, 10, 23.976, 25])
def test_every_frame_is_at_its_phase(fps):
  times = [Fraction(i, 24) for i in range(31)]
  frames = run(film(times), fps)
  rate = Fraction(fps).limit_denominator(1001)
  assert [f.time for f in frames] == [k / rate for k in range(len(frames))]
  assert {f.duration for f in frames} == {1 / rate}
  # To the end of the last frame, which is held.
  assert len(frames) == -(-31 * rate // 24)
  clock = np.array([float(f.time) for f in frames])
  want = np.minimum(clock, float(times[-1])) * 20
  # A millisecond is nothing, and half a level of 16 bits.
  np.testing.assert_allclose(grey(frames), want, atol=0.026)
  # However the stream is cut.
  np.testing.assert_array_equal(
    grey(run(film(times), fps, chunk=2)), grey(frames)
  )


def test_variable_rates_and_a_late_start():
  times = [Fraction(t, 100) for t in (50, 54, 57, 63, 66, 70)]
  frames = run(film(times), 50)
  clock = np.array([float(f.time) for f in frames])
  np.testing.assert_allclose(clock, 0.5 + np.arange(len(frames)) / 50)
  want = np.minimum(clock, 0.70) * 20
  np.testing.assert_allclose(grey(frames), want, atol=0.02)


def test_nothing_is_blended_across_a_cut():
  times = [Fraction(i, 24) for i in range(12)]
  got = grey(run(film(times, cut=6), 60))
  clock = np.arange(len(got)) / 60
  before = np.minimum(clock, 5 / 24) * 20
  after = np.clip(clock, 6 / 24, 11 / 24) * 20 + 100
  want = np.where(clock <= 5.5 / 24, before, after)
  np.testing.assert_allclose(got, want, atol=0.02)


def test_a_long_gap_shows_the_nearest():
  times = [0, Fraction(1, 10), 1, Fraction(11, 10)]
  got = grey(run(film(times), 20))
  assert set(np.round(got, 2)) == {0, 1, 2, 20, 21, 22}
  assert (np.round(got, 2) == 2).sum() == 10  # From 0.1 to 0.55 s.


def test_a_frame_that_is_near_enough_is_kept():
  # Times in milliseconds, as Matroska has them.
  times = [Fraction(round(1000 * i / 24), 1000) for i in range(9)]
  ask = phases.around(Line(60))[0]
  asked = list(ask.frames(film(times)))
  known = [m[0] is not None for m, f in zip(ask.marks, asked)
           if not f.mask.any()]  # fmt: skip
  # Every other frame is on the grid, to a millisecond; the last is held.
  assert known[:9] == [True, False] * 4 + [True]


def test_masks_are_for_the_stages_that_follow():
  mask = np.eye(4, 6, dtype=bool)
  times = [Fraction(i, 24) for i in range(4)]
  for frame in run(film(times, mask=mask), 60):
    np.testing.assert_array_equal(frame.mask, mask)
  assert run(film(times), 60)[1].mask is None


def test_stages_without_fps_stand_for_themselves():
  (identity,) = stages.chain("identity", None)
  assert phases.around(identity) == [identity]


@pytest.mark.parametrize("speed", [1, 0.5])
def test_a_file(tmp_path, monkeypatch, speed):
  path, out = tmp_path / "in.mp4", tmp_path / "out.mkv"
  with write.Writer(path, fps=24) as writer:
    for i in range(12):
      writer.append(np.full((32, 48, 3), 20 + 16 * i, np.uint8))
  plain = [f.image.mean() for f in read.frames(path)]
  monkeypatch.setitem(stages.BUILT_IN, "line", Line)
  arguments = ["line:fps=60", str(path), str(out), "--codec", "ffv1"]
  assert process.main([*arguments, "--speed", str(speed), "--resume"]) == 0
  frames = list(read.frames(out))
  times = [f.time * speed for f in frames]
  np.testing.assert_allclose(times, np.arange(30) / 60, atol=0.001)
  want = np.interp(np.arange(30) * 24 / 60, np.arange(12), plain)
  np.testing.assert_allclose([f.image.mean() for f in frames], want, atol=1.5)
