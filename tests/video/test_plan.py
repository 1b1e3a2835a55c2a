"""The plan of a job: arithmetic on rates and names, without a file."""

import fractions
import math

import pytest

from vidgan_jax.video import plan
from vidgan_jax.video import read

F = fractions.Fraction


def timing(container="mp4", bases=(F(1, 12800),), **given):
  known = dict(fps=25.0, rate=1, asked=None, duration=4.0)
  options = plan.Options(**{
    k: given.pop(k) for k in list(given) if k not in known
  })  # fmt: skip
  return plan.timing(
    options, container=container, bases=list(bases), **known | given
  )


def test_times_stay_as_they_are():
  made = timing()
  assert (made.fps, made.base, made.grid, made.total) == (
    *(25, F(1, 12800), False, 100),
  )


@pytest.mark.parametrize("rate", [1, 2, 3])
@pytest.mark.parametrize("speed", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize(
  "bases", [(F(1, 25),), (F(1001, 30000),), (F(1, 30000), F(1, 12800))]
)
def test_every_time_is_a_multiple_of_the_base(bases, speed, rate):
  """Of each input, frames between frames included, at any speed."""
  made = timing(bases=bases, speed=speed, rate=rate, fps=0.0)
  for base in bases:
    for ticks in (1, 7, 1001):
      for part in range(rate):
        time = (ticks + F(part, rate)) * base / F(speed)
        assert (time / made.base).denominator == 1


def test_a_rate_that_is_asked_for_is_a_grid():
  made = timing(asked=60)
  assert made.grid and made.fps == 60 and made.base == F(1, 60)
  options = dict(container="avi", fps=29.97)
  made = timing(**options)
  assert not made.grid and made.base == 1 / made.fps
  assert math.isclose(made.fps, 29.97, rel_tol=1e-5)


@pytest.mark.parametrize(
  "given,fps",
  [
    (dict(speed=2.0), 25),
    (dict(speed=0.5), 25),
    (dict(speed=2.0, fps=50.0), 50),
    (dict(speed=2.0, rate=2), 50),
    (dict(speed=0.5, rate=2), 25),  # all that there is, none twice
    (dict(speed=0.5, rate=4), 50),
    (dict(speed=2.0, asked=60), 60),
    (dict(speed=0.5, asked=60), 30),
  ],
)
def test_speed_keeps_the_rate(given, fps):
  asked = given.pop("fps", None)
  made = timing(**given) if asked is None else plan.timing(
    plan.Options(fps=asked, **given), container="mp4", fps=25.0, rate=1,
    bases=[F(1, 12800)], asked=None, duration=4.0,
  )  # fmt: skip
  assert made.fps == fps


def test_gif_has_hundredths_and_at_most_fifty_frames():
  for fps, limited in ((25.0, False), (50.0, False), (60.0, True)):
    made = timing("gif", fps=fps)
    assert made.base == F(1, 100) and made.limited == limited
    assert made.fps == min(fps, 50)


def test_a_base_that_no_container_can_store_is_microseconds():
  made = timing(bases=(F(1, 90001), F(1, 99991)))
  assert made.base == F(1, 10**6)


def test_total_counts_what_is_taken():
  assert timing(start=1.0, end=3.0).total == 50
  assert timing(start=1.0, end=3.0, speed=2.0).total == 25
  assert timing(end=100.0).total == 100
  assert timing(duration=0.0).total == 0
  assert timing(concat=("b.mp4",)).total == 0  # how long is not known


def test_a_stage_that_makes_frames_too_large_is_named():
  class Large:
    name = "large"

    def size(self, height, width):
      return 100 * height, 100 * width

  with pytest.raises(read.VideoError, match="large: frames of 100000x100000"):
    plan.check_size([Large()], 1000, 1000)
