"""Clips beside their label maps, on models whose answers are known."""

import dataclasses
import functools

import footage
import numpy as np
import pytest

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax import pixels
from vidgan_jax.data import reference as reference_lib
from vidgan_jax.data import sprites
from vidgan_jax.evals import layout
from vidgan_jax.nets import segmenter
from vidgan_jax.tasks import generate

COMPUTES = True
WORLD = dict(
  resolution=24,
  frames=4,
  objects=1,
  radius=(0.2, 0.26),
  texture="flat",
  shading=False,
  background="black",
  supervision=("layout",),
)
JUDGE = layout.Evaluator(num=12, steps=60)


@functools.cache
def world():
  """24 held-out clips and 64 that are trained on."""
  task = generate.make(signals=("layout",))
  sets = {
    split: reference_lib.Clips(
      sprites.make(split, size=size, **WORLD), "first(4)", task=task
    )
    for split, size in (("test", 12), ("train", 64))
  }
  return evals.Reference(
    clips=sets["test"],
    train=evals.Reference(clips=sets["train"], world=WORLD),
    world=sets["test"].world,
  )


@dataclasses.dataclass(kw_only=True)
class Painter:
  """Draws the clip of each map, with a damage; `free`: it takes noise."""

  damage: object = staticmethod(lambda clips: clips)
  free: bool = False
  card: dict = dataclasses.field(default_factory=dict)

  @property
  def generator(self):
    return self

  def noise_spec(self, seconds):
    return {"z": (4,)} if self.free else {}

  def apply(self, given, times, seed=0):
    known = {x["layout"].tobytes(): x["video"] for x in world().read(range(12))}
    clips = np.stack([known[maps.tobytes()] for maps in given["layout"]])
    if self.free:  # another colour for each noise
      clips = clips[..., np.random.default_rng(seed).permutation(3)]
    return pixels.to_floats(self.damage(clips))


@functools.cache
def judged(damage=None, free=False):
  painter = Painter(free=free) if damage is None else Painter(damage=damage)
  values = dict(JUDGE.run(painter, world()))
  return {name.split("/")[-1]: value for name, value in values.items()}


def shifted(clips):
  return np.roll(clips, 6, 3)


def blurred(clips):
  return footage.blur(clips, 3)


def reddening(clips):
  """The colour changes from frame to frame."""
  gain = np.linspace(1, 0.3, clips.shape[1])[:, None, None, None]
  return (clips * gain).astype(np.uint8)


def test_right_clips_are_at_the_ceiling():
  values = judged()
  for name in ("miou", "accuracy", "class", "number"):
    assert values[name].value == values[f"{name}_ceiling"].value, name
  assert values["miou"].low <= values["miou"].value <= values["miou"].high
  assert values["miou"].value > values["miou_floor"].value + 0.1
  assert values["number"].value == 1
  assert values["centres"].value == 0
  assert values["drift"].value == values["drift_real"].value < 5
  assert "diversity" not in values


def test_damage_is_seen_in_order():
  ranks = [judged(), judged(blurred), judged(shifted)]
  miou = [float(values["miou"]) for values in ranks]
  assert miou[0] > max(miou[1:]) + 0.05, miou
  assert float(ranks[2]["centres"]) == pytest.approx(6, abs=1.5)
  assert float(judged(reddening)["drift"]) > 5 + float(ranks[0]["drift"])


def test_noise_that_changes_colours_is_diversity():
  assert judged(free=True)["diversity"].value > 0.3


def test_what_is_unknown_does_not_count():
  maps = np.full((1, 2, 3, 3), segmenter.UNKNOWN, np.uint8)
  maps[0, 0, 0] = 1
  seen = np.zeros_like(maps)
  seen[0, 0, 0, :2] = 1
  [table] = layout._tables(seen, maps, 2)
  np.testing.assert_array_equal(table, [[0, 0], [1, 2]])
  assert layout._miou(table) == layout._accuracy(table) == pytest.approx(2 / 3)


def test_without_maps():
  clips = footage.Clips(np.zeros((4, 4, 24, 24, 3), np.uint8))
  with pytest.raises(errors.UserError, match="with --maps"):
    list(JUDGE.run(Painter(), evals.Reference(clips=clips)))
