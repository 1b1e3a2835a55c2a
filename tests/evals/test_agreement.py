"""Agreement with a text, on models whose answers are known."""

import dataclasses

import numpy as np
import pytest

from vidgan_jax import errors
from vidgan_jax import evals
from vidgan_jax.data import sprites
from vidgan_jax.data import text as text_lib
from vidgan_jax.evals import agreement

WORLD = dict(
  resolution=24,
  frames=8,
  objects=1,
  radius=(0.2, 0.26),
  texture="flat",
  shading=False,
  palette="random",
  background="black",
  hold=(("red", "square"), ("green", "disc")),
)


@dataclasses.dataclass(kw_only=True)
class Painter:
  """Draws what a text says; `deaf`: anything; `stiff`: always in one place."""

  deaf: bool = False
  stiff: bool = False
  text: object = ()
  times: tuple = tuple(np.arange(8) / 8)

  def ask(self, num, seed, text):
    return {"text": np.array(text), "index": np.arange(num)}

  def clips(self, given, seed):
    world = sprites.World(**WORLD)
    return np.stack(
      [
        self._draw(world, str(text), 0 if self.stiff else int(index))
        for text, index in zip(given["text"], given["index"])
      ]
    )

  def _draw(self, world, text, index):
    words = text_lib.split(text, "words")
    fall = any(word in words for word in ("gravity", "falling"))
    for attempt in range(100):  # Until the path follows the law.
      rng = np.random.default_rng([index, attempt])
      scene = sprites.sample(world, rng)
      if self.deaf or (scene.motion == "gravity") == fall:
        break
    if not self.deaf:
      names = {
        "ball": "disc",
        "circle": "disc",
        "box": "square",
        "plus": "cross",
      }
      [shape] = {names.get(w, w) for w in words} & set(world.shapes)
      [hue] = [sprites.HUES.index(w) / 12 for w in words if w in sprites.HUES]
      colour = np.clip(abs(hue * 6 - np.array([3, 2, 4])) * [1, -1, -1]
                       + [-1, 2, 2], 0, 1)  # fmt: skip
      scene = dataclasses.replace(scene, shape=shape, colour=colour[None])
    return sprites.render(world, scene, self.times)[0]


def measure(**options):
  reference = evals.Reference(clips=(), world=WORLD)
  run = agreement.Evaluator(num=48).run(Painter(**options), reference)
  return dict(run)


def test_who_listens_agrees():
  values = measure()
  for name in ("number", "shape", "colour", "colour_near", "motion", "all"):
    for prefix in ("", "held_"):
      value = values[f"agreement/{prefix}{name}"]
      ceiling = values[f"agreement/{prefix}{name}_ceiling"]
      assert value.value >= 0.9 and ceiling.value >= 0.9, name
      assert value.low <= value.value <= value.high and value.better == "higher"
  assert values["agreement/edits"].value >= 0.9
  assert 0.7 < values["agreement/spread"].value < 1.3
  # The floor is chance: another's text is right as often as two texts agree.
  for name, least, most in (
    ("shape", 0.1, 0.45), ("colour", 0, 0.25), ("motion", 0.3, 0.7),
    ("all", 0, 0.1), ("number", 0.9, 1),
  ):  # fmt: skip
    assert least <= values[f"agreement/{name}_floor"].value <= most, name
  # Held pairs have colours and shapes of their own.
  assert values["agreement/held_shape_floor"].value > 0.3


def test_who_does_not_listen_is_at_the_floor():
  values = measure(deaf=True)
  for name in ("shape", "colour_near", "motion", "all"):
    value = values[f"agreement/{name}"]
    floor = values[f"agreement/{name}_floor"]
    assert floor.low < value.value < floor.high, name
    assert values[f"agreement/{name}_ceiling"].value >= 0.9
  assert values["agreement/number"].value >= 0.9
  assert values["agreement/edits"].value <= 0.1


def test_who_draws_one_clip_a_text_has_no_spread():
  values = measure(stiff=True)
  assert values["agreement/spread"].value < 0.1
  assert values["agreement/all"].value >= 0.9


def test_it_says_what_it_needs():
  run = agreement.Evaluator().run
  with pytest.raises(errors.UserError, match="config.data.text"):
    next(run(Painter(text=None), evals.Reference(clips=(), world=WORLD)))
  with pytest.raises(errors.UserError, match="sprites"):
    next(run(Painter(), evals.Reference(clips=())))
