"""Sync of sound and picture, on models whose answers are known."""

import dataclasses

import numpy as np
import pytest

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax.data import sprites
from vidgan_jax.evals import sync

WORLD = dict(
  resolution=24,
  frames=16,
  objects=1,
  radius=(0.13, 0.26),
  texture="flat",
  shading=False,
  background="black",
)


@dataclasses.dataclass(kw_only=True)
class Player:
  """Draws the clip of each sound; `shift`: that of another clip."""

  shift: int = 0
  times: tuple = tuple(np.arange(16) / 8)

  def ask(self, num, seed, sound):
    assert sound.shape[:2] == (num, 16)
    return {"sound": sound, "index": np.arange(num)}

  def clips(self, given, seed):
    source = sprites.make("test", size=96, **WORLD)
    index = (given["index"] + self.shift) % 96
    return np.stack([e["video"] for e in source.read(index)])


def measure(**options):
  reference = evals.Reference(clips=(), world=WORLD)
  return dict(sync.Evaluator(num=96).run(Player(**options), reference))


def test_who_listens_is_in_step():
  values = measure()
  own, real = values["sync/av_iou"], values["sync/av_iou_real"]
  assert own.value == real.value >= 0.7
  assert own.low < own.value < own.high
  assert values["sync/av_iou_shuffled"].value < 0.35
  assert values["sync/gain"].low > 0.3
  pitch = values["sync/pitch_size"]
  assert 0.95 < pitch.low <= pitch.value <= pitch.high <= 1


def test_who_does_not_listen_is_at_the_floor():
  values = measure(shift=7)
  gain = values["sync/gain"]
  assert gain.low < 0 < gain.high
  assert abs(values["sync/pitch_size"].value) < 0.3
  assert values["sync/av_iou_real"].value >= 0.7


@pytest.mark.parametrize(
  "heard, seen, want",
  [
    ([1.0], [1.1], 1.0),
    ([1.0], [1.2], 0.0),
    # One partner each: a long event does not answer for three sounds.
    ([1.0, 1.05, 1.1], [1.05], 1 / 3),
    ([0.0, 0.1], [0.1, 0.2], 1.0),
    ([], [1.0], 0.0),
  ],
)
def test_partners(heard, seen, want):
  assert sync.iou(heard, seen, 0.125) == pytest.approx(want)
  assert sync.iou(seen, heard, 0.125) == pytest.approx(want)


def test_nothing_seen_nor_heard_is_no_figure():
  assert np.isnan(sync.iou([], [], 0.1))
  with pytest.raises(errors.UserError, match="sprites"):
    next(sync.Evaluator().run(Player(), evals.Reference(clips=())))
