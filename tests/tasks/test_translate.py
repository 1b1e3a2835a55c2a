"""Drawings become what is given: palettes, movement, what cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgan_jax import errors
from vidgan_jax.data import sprites
from vidgan_jax.tasks import drawings
from vidgan_jax.tasks import lines
from vidgan_jax.tasks import translate

CLASSES = ("ground", "disc", "square", "triangle", "cross")
FACTS = dict(
  num_classes=0, class_names=(), times=tuple(np.arange(6) / 12), resolution=32
)


def make(**options):
  options = dict(kind="labels", classes=CLASSES, objects=True) | options
  return translate.make(**options)


def example(i=0, **options):
  options = dict(frames=4, resolution=32, objects=2) | options
  clip = sprites.make("train", supervision="all", **options).read([i])[0]
  return clip | {"video": clip["video"] / np.float32(127.5) - 1}


def drawing(side=64):
  """A square with a disc in it, on the ground, and a cross in a corner."""
  map_ = np.zeros((side, side), np.uint8)
  map_[side // 4 : side * 5 // 8, side // 4 : side * 5 // 8] = 2
  map_[side * 3 // 8 : side // 2, side * 3 // 8 : side // 2] = 1
  map_[-(side // 8) :, : side // 8] = 4
  return map_


def ask(task, map_, num=1, seed=0, **wishes):
  return task.ask(num, seed, None, FACTS, map=map_, **wishes)


def shown(given):
  """Numbers of classes of what is given."""
  return given["map"].argmax(-1)


def test_sprites_become_maps_of_their_class():
  clip = example()
  out = make().prepare(clip, None)
  numbers = shown(out["given"])
  there = clip["layout"] > 0
  np.testing.assert_array_equal(numbers, there * (1 + clip["label"]))
  assert "weight" not in out
  # Painted in the palette's colours, which are read back.
  back = make().footage.given(out["given"]["video"])
  np.testing.assert_array_equal(shown(back), numbers)


def test_void_counts_for_nothing():
  clip = example()
  clip["layout"] = np.where(clip["layout"] > 1, 255, clip["layout"])
  out = make(objects=False).prepare(clip, None)
  void = clip["layout"] == 255
  assert void.any()
  np.testing.assert_array_equal(out["weight"][..., 0], ~void)
  assert not out["given"]["map"][void].any()


def test_points_lie_at_the_centres():
  clip = example(5, objects=1)
  task = make(kind="points")
  map_ = task.prepare(clip, None)["given"]["map"]
  share = map_[..., 1:].sum(-1)
  total = share.sum((1, 2))
  middle = np.arange(32) + 0.5
  x = (share * middle).sum((1, 2)) / total
  y = (share * middle[:, None]).sum((1, 2)) / total
  np.testing.assert_allclose(
    np.stack([x, y], -1), clip["positions"][:, 0], atol=0.5
  )
  np.testing.assert_allclose(map_.sum(-1), 1, atol=1e-6)
  # The same of a map that a user draws.
  maps = make().prepare(clip, None)["given"]["map"].argmax(-1)
  drawn = ask(task, maps.astype(np.uint8))["map"][0]
  np.testing.assert_allclose(drawn, map_, atol=0.02)


def test_lines_are_random_and_the_same_in_all_frames():
  video = example(2, background="plain")["video"]
  numbers = np.random.default_rng(0).random((2, lines.NUMBERS), np.float32)
  first, other = (lines.draw(video, n, np) for n in numbers)
  assert first.min() < -0.5 and np.median(first) == 1
  assert abs(first - other).max() > 0.5
  still = lines.draw(np.repeat(video[:1], 2, 0), numbers[0], np)
  np.testing.assert_array_equal(still[0], still[1])
  jitted = jax.jit(lambda v, n: lines.draw(v, n, jnp))(video, numbers[0])
  np.testing.assert_allclose(jitted, first, atol=2e-4)


# ------------------------------------------------------------------ drawings


def test_one_drawing_moves_and_bounces():
  map_ = drawing()
  times = np.arange(60) / 12
  film = drawings.drift(map_, times, seed=1)
  np.testing.assert_array_equal(film[0], map_)
  for k in (1, 2, 4):  # Nothing leaves the picture, and all of it moves.
    count = (film == k).sum((1, 2))
    assert count.min() > 0.5 * (map_ == k).sum()
    places = [np.argwhere(m == k).mean(0) for m in film]
    assert np.ptp(places, 0).max() > 8
  # The disc stays in the middle of the square that it lies in.
  inside = [np.argwhere(m == 1).mean(0) for m in film]
  around = [np.argwhere((m == 2) | (m == 1)).mean(0) for m in film]
  np.testing.assert_allclose(inside, around, atol=2.5)
  again = drawings.drift(map_, times, seed=1)
  np.testing.assert_array_equal(film, again)
  assert (drawings.drift(map_, times, seed=2) != film).any()


def test_one_sketch_moves_with_what_it_encloses():
  task = translate.make()
  picture = np.full((64, 64), 255, np.uint8)
  picture[10:30, 10:30], picture[12:28, 12:28] = 0, 255
  picture[18:22, 18:22] = 90
  video = task.ask(1, 3, None, FACTS, map=picture)["video"][0]
  assert video.shape == (6, 32, 32, 3) and video.dtype == np.float32
  ink = (1 - video[..., 0]) / 2
  total = ink.sum((1, 2))
  np.testing.assert_allclose(total, total[0], rtol=0.01)
  x = (ink * np.arange(32)).sum((1, 2)) / total
  y = (ink * np.arange(32)[:, None]).sum((1, 2)) / total
  assert np.hypot(np.ptp(x), np.ptp(y)) > 2
  with pytest.raises(errors.UserError, match="dark lines on white"):
    task.ask(1, 3, None, FACTS, map=255 - picture)


def test_between_drawings_things_go_straight():
  first, last = np.zeros((2, 40, 40), np.uint8)
  first[4:12, 4:12], last[24:32, 24:32] = 1, 1
  first[30:36, 2:8] = 2  # Only in the first.
  keys = [(0.0, first), (1.0, last)]
  film = drawings.film(keys, np.array([0, 0.25, 0.5, 1, 2]), 0)
  corners = [np.argwhere(m == 1).min(0).tolist() for m in film]
  assert corners == [[4, 4], [9, 9], [14, 14], [24, 24], [24, 24]]
  assert [(m == 2).any() for m in film] == [True, True, False, False, False]
  still = drawings.film(keys, np.array([0, 0.4, 0.6]), 0, still=True)
  np.testing.assert_array_equal(still, [first, first, last])


def test_a_drawing_of_any_size_becomes_the_run_s():
  task = make()
  given = ask(task, drawing(96), still=True)
  assert given["video"].shape == (1, 6, 32, 32, 3)
  np.testing.assert_array_equal(shown(given)[0, 3], drawing(32))
  wide = np.concatenate([drawing(64)] * 2, 1)
  assert ask(task, wide)["map"].shape == (1, 6, 32, 64, 5)
  with pytest.raises(errors.UserError, match="128 x 64 .* squares"):
    ask(make(picture=False), wide)
  # Clips move in ways of their own, and films are taken as they are.
  two = shown(ask(task, drawing(), num=2))
  assert (two[0] != two[1]).any()
  film = np.stack([drawing(32)] * 9)
  np.testing.assert_array_equal(shown(ask(task, film))[0], film)
  assert list(ask(make(picture=False), film)) == ["map"]


def test_colours_are_those_of_the_palette():
  task = make()
  colours = np.array(list(task.palette.values()), np.uint8)
  painted = colours[drawing(32)].astype(int)
  noisy = painted + np.random.default_rng(0).integers(-20, 21, painted.shape)
  noisy = noisy.clip(0, 255).astype(np.uint8)
  np.testing.assert_array_equal(
    shown(ask(task, noisy, still=True))[0, 0], drawing(32)
  )
  noisy[:2] = 90
  with pytest.raises(
    errors.UserError, match=r"b.png: 6% .* ground \(0, 0, 0\)"
  ):
    ask(task, [(painted.astype(np.uint8), 0, "a.png"), (noisy, 1, "b.png")])
  film = np.stack([painted, noisy]) / np.float32(127.5) - 1
  with pytest.raises(errors.UserError, match="the frame at 0.50 s"):
    task.footage.given(film.astype(np.float32), np.array([0, 0.5]))


@pytest.mark.parametrize(
  "map_, wishes, words",
  [
    (drawing() + 5, {}, "the class 5, 6, 7, 9.* 4 cross, and 255"),
    ("a.png", {}, "give --map FILE"),
    ([(drawing(), 1, "a"), (drawing(), 1, "b")], {}, "a and b are both of 1 s"),
    ([(drawing(), 0, "a"), (drawing(32), 1, "b")], {}, "32 x 32: draw all"),
    (drawing(), {"first": drawing()}, "trained without"),
    (None, {}, "--map gives one"),
  ],
)
def test_drawings_that_cannot_be(map_, wishes, words):
  with pytest.raises(errors.UserError, match=words):
    ask(make(), map_, **wishes)


def test_a_first_frame():
  task = make(reference=1.0)
  clip = example()
  out = task.prepare(clip, np.array([0, 1]))
  given = out["given"]
  np.testing.assert_allclose(given["video"][0], clip["video"][0], atol=1e-6)
  np.testing.assert_array_equal(out["weight"], given["mask"])
  assert given["mask"].mean((1, 2, 3)).tolist() == [0, 1, 1, 1]
  first = np.uint8(127.5 * clip["video"][0] + 128)
  asked = ask(task, drawing(), first=first)
  np.testing.assert_allclose(
    asked["video"][0, 0], clip["video"][0], atol=1 / 100
  )
  assert asked["mask"][0].mean((1, 2, 3)).tolist() == [0, 1, 1, 1, 1, 1]
  with pytest.raises(errors.UserError, match="--first"):
    ask(task, drawing())
  some = [
    make(reference=0.5).prepare(clip, np.array([0, i]))["given"]["mask"].min()
    for i in range(16)
  ]
  assert set(some) == {0, 1}


def test_colours_are_carried_on():
  task = make(reference=1.0)
  clip = example(background="plain", texture="flat", shading=False, objects=1)
  out = task.prepare(clip, np.array([0, 1]))
  batch = jax.tree.map(lambda x: np.asarray(x)[None], out)
  answer = task.baselines["carry"](batch["given"], batch["times"])
  drawn = task.baselines["drawing"](batch["given"], batch["times"])
  miss = lambda x: abs(x - batch["target"])[0].mean((1, 2, 3))
  np.testing.assert_allclose(miss(answer)[0], 0, atol=1e-6)
  # Right but for soft borders.
  assert (miss(answer)[1:] < 0.2 * miss(drawn)[1:]).all()


@pytest.mark.parametrize(
  "options, words",
  [
    (dict(kind="label"), "'edges', 'labels', 'points'"),
    (dict(kind="edges"), "lines have no classes"),
    (dict(classes=("ground",)), "has 1 names"),
    (dict(palette=((0, 0, 0),) * 5), "a colour .* of its own"),
    (dict(reference=0.5, picture=False), "picture is False"),
  ],
)
def test_options_that_cannot_be(options, words):
  with pytest.raises(errors.UserError, match=words):
    make(**options)
