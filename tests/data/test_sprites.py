import dataclasses
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from vidgan_jax import errors
from vidgan_jax.data import sound
from vidgan_jax.data import sprites

RICH = dict(supervision="all", rotation=True, shake=1.5, shapes=sprites.SHAPES)


def _alone(scene):
  """The scene without its objects."""
  names = (
    "radius",
    "hue",
    "colour",
    "box",
    "phase",
    "velocity",
    "angle",
    "spin",
  )
  return dataclasses.replace(
    scene, **{name: getattr(scene, name)[:0] for name in names}
  )


def test_needs_numpy_only():
  code = (
    "import sys; from vidgan_jax.data import sprites;"
    'sprites.make("train").read([0]);'
    'print([m for m in ("jax", "tensorflow", "scipy", "flax")'
    " if m in sys.modules])"
  )
  out = subprocess.run(
    [sys.executable, "-c", code], check=True, capture_output=True, text=True
  ).stdout
  assert out.strip() == "[]"


def test_deterministic_in_seed_split_and_index():
  first = sprites.make("train", **RICH).read([5, 2, 7])
  again = sprites.make("train", **RICH).read([7, 5])
  for a, b in ((first[0], again[1]), (first[2], again[0])):
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])
  other = sprites.make("train", seed=1, **RICH).read([5])[0]
  assert not np.array_equal(other["video"], first[0]["video"])
  # What is asked for besides the video does not change it.
  plain = sprites.make("train", **{**RICH, "supervision": ()}).read([5])[0]
  assert set(plain) == {"video", "times", "label", "caption"}
  np.testing.assert_array_equal(plain["video"], first[0]["video"])


def test_splits_are_disjoint():
  options = dict(
    frames=2, resolution=16, palette="random", hold=(("red", "disc"),)
  )
  clips = {
    split: {
      e["video"].tobytes()
      for e in sprites.make(split, **options).read(range(200))
    }
    for split in sprites.SPLITS
  }
  assert list(map(len, clips.values())) == [200, 200, 200]
  assert len(set.union(*clips.values())) == 600


@pytest.mark.parametrize(
  "options",
  [
    {},
    RICH,
    dict(frames=1, resolution=24, supervision="flow"),
    dict(objects=3, fps=12.5, frames=5, supervision=("audio", "truth")),
  ],
)
def test_examples_match_the_spec(options):
  source = sprites.make("test", size=9, **options)
  assert len(source) == 9
  for example in source.read(range(9)):
    assert set(example) == set(source.spec)
    for name, (shape, dtype) in source.spec.items():
      value = np.asarray(example[name])
      if name == "caption":
        assert isinstance(example[name], str)
        continue
      assert value.dtype == dtype, name
      assert value.ndim == len(shape), name
      assert all(want in (None, has) for has, want in zip(value.shape, shape))
    np.testing.assert_allclose(
      example["times"],
      np.arange(source.options.frames) / source.options.fps,
      rtol=1e-6,
    )
  assert sprites.World(**source.world) == source.options


def test_labels_cover_the_classes_and_name_what_is_drawn():
  source = sprites.make(
    "train",
    label="shape_motion",
    frames=2,
    resolution=16,
    radius=(0.15, 0.2),
    supervision="truth",
  )
  assert source.num_classes == len(source.class_names) == 8
  labels, counts = [], []
  for index, example in enumerate(source.read(range(160))):
    scene = source.scene(index)
    name = source.class_names[example["label"]]
    assert name == f"{scene.shape} {scene.motion}"
    assert scene.shape in example["caption"]
    assert ("gravity" in example["caption"]) == (scene.motion == "gravity")
    assert ("one " in example["caption"]) == (example["count"] == 1)
    labels.append(int(example["label"]))
    counts.append(int(example["count"]))
  assert set(labels) == set(range(8))
  assert set(counts) == {1, 2}


def test_classes_have_their_own_hues():
  source = sprites.make("train", shapes=sprites.SHAPES)
  ranges = {}
  for index in range(200):
    scene = source.scene(index)
    gap = 1 / len(sprites.SHAPES)
    centred = (scene.hue + gap / 2) % 1 / gap
    ranges.setdefault(scene.shape, []).extend(centred)
  spans = sorted((min(v), max(v)) for v in ranges.values())
  assert len(spans) == len(sprites.SHAPES)
  assert all(a[1] < b[0] for a, b in zip(spans, spans[1:]))


@pytest.mark.parametrize("motion", sprites.MOTIONS)
def test_motion_obeys_the_law_step_by_step(motion):
  """Closed form against a fine simulation with mirror walls."""
  source = sprites.make("train", motion=motion, objects=2, frames=16)
  step = 1e-4
  for index in range(3):
    scene = source.scene(index)
    times = np.arange(0, 2, step)
    closed, speed = sprites.move(scene, times)
    place, velocity = closed[0].copy(), speed[0].copy()
    fall = scene.fall * np.array([0.0, 1.0])
    worst = 0.0
    for t in range(1, len(times)):
      place = place + velocity * step + fall * step**2 / 2
      velocity = velocity + fall * step
      low, high = scene.box[..., 0], scene.box[..., 1]
      out = (place < low) | (place > high)
      velocity = np.where(out, -velocity, velocity)
      place = np.where(place < low, 2 * low - place, place)
      place = np.where(place > high, 2 * high - place, place)
      if t % 500 == 0:
        worst = max(worst, np.abs(place - closed[t]).max())
    assert worst < 0.05


def test_bounces_are_where_the_velocity_turns():
  source = sprites.make("train", objects=2, motion="mixed", supervision="truth")
  seen = 0
  for index, example in enumerate(source.read(range(12))):
    times = np.linspace(0, source.options.duration, 20001)[:-1]
    _, velocity = sprites.move(source.scene(index), times)
    turned = []
    for i in range(2):
      for axis in range(2):
        v = velocity[:, i, axis]
        # Under gravity the apex turns slowly, a bounce at once.
        jump = np.abs(np.diff(v)) > 0.5 * np.abs(v[1:])
        jump &= np.abs(v[1:]) > 1e-2 * np.abs(v).max()
        turned += [(times[k + 1], i) for k in np.flatnonzero(jump)]
    turned = np.array(sorted(turned)).reshape(-1, 2)
    bounces = example["bounces"]
    bounces = bounces[bounces[:, 0] > times[1]]
    assert len(turned) == len(bounces)
    np.testing.assert_allclose(turned[:, 0], bounces[:, 0], atol=2e-4)
    assert sorted(turned[:, 1]) == sorted(bounces[:, 1])
    seen += len(bounces)
  assert seen > 20


def test_drawn_at_any_time():
  source = sprites.make("train", **RICH)
  example = source.read([3])[0]
  times = np.arange(16) / 8
  np.testing.assert_array_equal(source.draw(3, times), example["video"])
  # Order and neighbours do not matter, and pictures change smoothly in time.
  np.testing.assert_array_equal(
    source.draw(3, times[[9, 4]]), example["video"][[9, 4]]
  )
  near = source.draw(3, [0.5, 0.5005, 0.625]).astype(int)
  small = np.abs(near[0] - near[1]).max()
  assert small <= 8 < np.abs(near[0] - near[2]).max()
  assert source.draw(3, [-1.0, 7.3]).shape == (2, 32, 32, 3)


def test_layout_and_contrast_agree_with_the_video():
  source = sprites.make("train", **RICH)
  for index, example in enumerate(source.read(range(12))):
    scene = source.scene(index)
    back, nothing = sprites.render(
      source.options, _alone(scene), example["times"]
    )
    assert not nothing.any()
    gap = np.abs(example["video"].astype(int) - back).max(-1)
    # Half of the guaranteed contrast where a pixel is half an object's.
    assert gap[example["layout"] > 0].min() >= 0.3 / 2 * 255 - 2
    inside = _shrink(example["layout"] > 0)
    assert not inside.any() or gap[inside].min() >= 0.3 * 255 - 2
    assert example["layout"].max() == example["count"]
    far = ~_grow(example["layout"] > 0)
    assert (gap[far] == 0).mean() > 0.98


def test_no_object_leaves_the_picture():
  source = sprites.make(
    "train",
    objects=1,
    texture="flat",
    **{**RICH, "shapes": ("disc", "cross", "T")},
  )
  for index, example in enumerate(source.read(range(12))):
    radius = source.scene(index).radius[0]
    place = example["positions"][:, 0]
    assert (place >= radius - 1e-4).all()
    assert (place <= 32 - radius + 1e-4).all()
    # Cut off nowhere: the coverage adds up to the same area in every frame.
    area = (example["layout"] > 0).sum((1, 2))
    assert area.min() > 0.7 * area.max()
    ys, xs = np.nonzero(example["layout"][0])
    middle = np.array([xs.mean(), ys.mean()]) + 0.5
    assert np.hypot(*(middle - place[0])) < 0.4 * radius + 0.5


def test_truth_is_padded_and_consistent():
  source = sprites.make(
    "train", objects=(1, 3), motion="straight", shake=1, supervision="truth"
  )
  for example in source.read(range(20)):
    n = example["count"]
    assert np.isfinite(example["positions"][:, :n]).all()
    assert np.isnan(example["positions"][:, n:]).all()
    world = example["positions"][:, :n] - example["camera"][:, None]
    step = np.diff(world, axis=0)
    speed = np.hypot(*np.moveaxis(example["velocities"][:, :n], -1, 0))
    np.testing.assert_allclose(
      speed, np.broadcast_to(speed[0], speed.shape), rtol=1e-4
    )
    # No way between two frames is longer than the speed, and most are equal.
    ways = np.hypot(*np.moveaxis(step, -1, 0))
    assert (ways <= speed[1:] + 1e-3).all()
    assert np.abs(example["camera"]).max() <= 1


def test_a_black_background():
  for example in sprites.make("train", background="black").read(range(8)):
    assert "plain black background" in example["caption"]
    black = (example["video"] == 0).all(-1).mean((1, 2))
    assert (0.7 < black).all() and (black < 1).all()


@pytest.mark.parametrize("shake", [0, 2])
def test_objects_are_drawn_where_the_truth_says(shake):
  source = sprites.make(
    "train",
    shapes=("disc", "ring", "square", "H"),
    objects=1,
    shake=shake,
    texture="flat",
    shading=False,
    background="plain",
    supervision="truth",
  )
  grid = np.arange(32) + 0.5
  for example in source.read(range(12)):
    video = example["video"].astype(float)
    weight = np.abs(video - np.median(video, (0, 1, 2))).sum(-1)
    weight /= weight.sum((1, 2), keepdims=True)
    middle = np.stack(
      [(weight * grid).sum((1, 2)), (weight * grid[:, None]).sum((1, 2))], -1
    )
    assert np.abs(middle - example["positions"][:, 0]).max() < 0.12


def _warp_errors(video, layout, field):
  """Mean errors of points followed by the flow, and of points that stay."""
  size = video.shape[1]
  video = video.astype(np.float64)
  moved, still = [], []
  for t in range(len(field)):
    rows, columns = np.nonzero(_shrink(layout[t] > 0))
    label = layout[t, rows, columns]
    x = columns + field[t, rows, columns, 0]
    y = rows + field[t, rows, columns, 1]
    x0 = np.floor(x).astype(int).clip(0, size - 2)
    y0 = np.floor(y).astype(int).clip(0, size - 2)
    # Only points that are seen in the next frame too.
    seen = np.all(
      [layout[t + 1, y0 + j, x0 + i] == label for j in (0, 1) for i in (0, 1)],
      0,
    )
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    after = video[t + 1]
    value = (1 - fy) * (
      (1 - fx) * after[y0, x0] + fx * after[y0, x0 + 1]
    ) + fy * ((1 - fx) * after[y0 + 1, x0] + fx * after[y0 + 1, x0 + 1])
    before = video[t, rows, columns]
    moved.extend(np.abs(value - before).mean(-1)[seen])
    still.extend(np.abs(after[rows, columns] - before).mean(-1)[seen])
  assert len(moved) > 30
  return np.mean(moved), np.mean(still)


@pytest.mark.parametrize(
  "options",
  [
    dict(),
    dict(rotation=True, texture="stripes"),
    dict(shake=1.5, background="gradient", rotation=True),
  ],
)
def test_flow_takes_a_frame_to_the_next(options):
  source = sprites.make(
    "train",
    frames=8,
    fps=16,
    resolution=48,
    objects=2,
    shading=False,
    supervision=("flow", "layout"),
    shapes=("disc", "square"),
    **options,
  )
  errors = np.array(
    [
      _warp_errors(e["video"], e["layout"], e["flow"])
      for e in source.read(range(8))
    ]
  ).mean(0)
  assert errors[0] < 8
  assert errors[0] < 0.4 * errors[1]


def test_flow_of_a_turn():
  """Stripes that turn fast on the spot: only the turn can explain them."""
  world = sprites.World(
    resolution=64,
    radius=(0.3, 0.3),
    texture="stripes",
    shading=False,
    objects=1,
    background="plain",
  )
  scene = sprites.sample(world, np.random.default_rng(0))
  times = np.arange(5) / 16
  for spin in (5.0, -5.0):
    turning = dataclasses.replace(
      scene,
      shape="disc",
      motion="straight",
      fall=0.0,
      spin=np.array([spin]),
      velocity=np.zeros((1, 2)),
    )
    video, layout = sprites.render(world, turning, times)
    field = sprites.flow(world, turning, times, layout)
    moved, still = _warp_errors(video, layout, field)
    assert moved < 0.35 * still
    assert np.abs(field).max() > 4
    wrong = _warp_errors(video, layout, -field)[0]
    assert moved < 0.35 * wrong


def test_background_flow_is_the_shake():
  source = sprites.make("train", shake=2, supervision="all")
  example = source.read([1])[0]
  back = example["layout"][:-1] == 0
  step = np.diff(example["camera"], axis=0)
  for t in range(15):
    np.testing.assert_allclose(
      example["flow"][t][back[t]],
      np.broadcast_to(step[t], (back[t].sum(), 2)),
      atol=1e-5,
    )
  assert np.abs(step).max() > 0.3


def test_bounces_are_audible():
  source = sprites.make("train", frames=32, objects=(1, 2), supervision="all")
  heard = 0
  for index, example in enumerate(source.read(range(12))):
    wave, when = example["audio"], example["bounces"][:, 0]
    assert np.abs(wave).max() <= 1
    rate = sound.RATE
    t = np.arange(len(wave)) / rate
    quiet = np.ones(len(wave), bool)
    for bounce in when:
      quiet &= (t < bounce) | (t > bounce + 0.3)
    assert not wave[quiet].any()
    for k, (bounce, i) in enumerate(example["bounces"]):
      before = when[k - 1] if k else -1.0
      after = when[k + 1] if k + 1 < len(when) else 9.0
      if bounce - before < 0.3 or after - bounce < 0.1 or bounce > 3.9:
        continue
      start = math.ceil(bounce * rate)
      onset = np.square(wave[start : start + 800]).mean()
      assert onset > 0.01
      assert np.square(wave[max(0, start - 804) : start - 4]).mean() < 1e-3
      power = np.abs(np.fft.rfft(wave[start : start + 1600], rate))
      scene = source.scene(index)
      pitch = sprites.pitch(source.options, scene, int(i))
      assert abs(power.argmax() - pitch) < 12
      heard += 1
  assert heard > 10


@pytest.mark.parametrize(
  "options, part",
  [
    (dict(colour="red"), "data.options.colour is not an option of sprites"),
    (dict(resolutoin=32), "the nearest is 'resolution'"),
    (dict(shapes=("disk",)), "the nearest is 'disc'"),
    (dict(shapes=()), "data.options.shapes"),
    (dict(shapes=("disc", "disc")), "each once"),
    (dict(motion="gravty"), "data.options.motion"),
    (dict(objects=(2, 1)), "data.options.objects"),
    (dict(objects=0), "data.options.objects"),
    (dict(objects="two"), "data.options.objects"),
    (dict(resolution=32.5), "an integer"),
    (dict(resolution=4), "at least 8"),
    (dict(frames=0), "data.options.frames"),
    (dict(fps=0), "data.options.fps"),
    (dict(fps=float("nan")), "finite"),
    (dict(radius=(0.1, 0.5)), "data.options.radius"),
    (dict(radius=(0.02, 0.1)), "1.5 pixels"),
    (dict(radius=0.2), "range"),
    (dict(speed=(-1, 1)), "data.options.speed"),
    (dict(gravity=0), "data.options.gravity"),
    (dict(shake=20), "data.options.shake"),
    (dict(seed=-1), "data.options.seed"),
    (dict(rotation="yes"), "data.options.rotation"),
    (dict(size=0), "data.options.size"),
    (dict(label="shape_motion", motion="gravity"), "motion='mixed'"),
    (dict(supervision=("layout", "sonud")), "data.options.supervision"),
  ],
)
def test_bad_options_are_named(options, part):
  with pytest.raises(ValueError, match=part):
    sprites.make("train", **options)


def test_bad_split_and_index_are_named():
  with pytest.raises(ValueError, match="'valid' of sprites"):
    sprites.make("valid")
  source = sprites.make("test", size=3)
  for index in (3, -1):
    with pytest.raises(IndexError, match="3 clips"):
      source.read([index])


def _grow(mask):
  out = mask.copy()
  for axis in (-1, -2):
    out = out | np.roll(out, 1, axis) | np.roll(out, -1, axis)
  return out


def _shrink(mask):
  return ~_grow(_grow(~mask))


def test_sound_tells_when_and_which_bounces():
  options = dict(supervision=("sound", "truth"), radius=(0.1, 0.3), fps=16)
  source = sprites.make("train", objects=1, resolution=32, **options)
  high = []
  for index in range(20):
    example = source.read([index])[0]
    rows = example["sound"].reshape(-1, sound.PARTS, sound.BANDS + 1)
    rise = rows[..., -1].max(-1)
    frames = np.round(example["bounces"][:, 0] * 16).astype(int)
    # A window hears what begins up to 12 ms later.
    quiet = np.setdiff1d(np.arange(16), [*frames - 1, *frames, *frames + 1])
    for frame in frames[frames < 15]:
      # A bounce at the end of a frame's time is heard in the next.
      assert rise[frame : frame + 2].max() > 3 * rise[quiet].max(initial=0)
    if rise.max() > 0.02:
      size = source.scene(index).radius[0]
      high.append((size, rows[..., :-1].sum((0, 1)).argmax()))
  sizes, bands = zip(*sorted(high))
  assert (
    len(high) > 9
    and bands[0] > bands[-1] + 2
    and np.corrcoef(sizes, bands)[0, 1] < -0.9
  )


def test_captions_need_no_clip():
  for captions in ("plain", "varied"):
    source = sprites.make("test", resolution=24, captions=captions, size=8)
    told = [example["caption"] for example in source.read(range(8))]
    assert source.captions(range(8)) == told
  plain = sprites.make("test", resolution=24, size=8).captions(range(8))
  assert plain != told


def test_varied_captions_say_the_truth():
  options = dict(
    resolution=24, objects=1, palette="random", background="black", size=600
  )
  source = sprites.make("train", captions="varied", **options)
  said = dict.fromkeys(
    ("small", "large", "slowly", "quickly", "left", "right"), 0
  )
  forms = set()
  for i, told in enumerate(source.captions(range(600))):
    scene, words = source.scene(i), set(re.findall(r"\w+", told))
    assert sprites.hue_name(scene.hue[0]) in words
    names = {
      "disc": {"disc", "ball", "circle"}, "square": {"square", "box"},
      "cross": {"cross", "plus"}, "triangle": {"triangle"},
    }  # fmt: skip
    [shape] = [k for k, v in names.items() if v & words]
    falls = words & {"gravity", "falling"}
    assert shape == scene.shape and bool(falls) == (scene.motion == "gravity")
    low, high = (r * 24 for r in source.options.radius)
    third = (high - low) / 3
    speed = np.hypot(*scene.velocity[0]) / 24
    toward = sprites.move(scene, [0.0])[1][0, 0, 0]
    for word, true in (
      ("small", scene.radius[0] < low + third + 1e-9),
      ("large", scene.radius[0] > high - third - 1e-9),
      ("slowly", speed < 0.3 + 0.4 / 3 + 1e-9),
      ("quickly", speed > 0.7 - 0.4 / 3 - 1e-9),
      ("left", toward < 0),
      ("right", toward > 0),
    ):
      assert true or word not in words, told
      said[word] += word in words
    forms.add((told.startswith("on "), "," in told, " background" in told))
  assert min(said.values()) > 10 and len(forms) >= 3


def test_what_is_held_back_is_shown_by_its_split_alone():
  hold = (("red", "square"), ("green", "disc"), ("blue", "disc"))
  options = dict(resolution=24, palette="random", hold=hold, size=300)
  shown = {}
  for split in ("train", "test", "held"):
    source = sprites.make(split, objects=(1, 2), **options)
    shown[split] = {
      (sprites.hue_name(hue), scene.shape)
      for scene in map(source.scene, range(300))
      for hue in scene.hue
    }
  assert shown["held"] == set(hold)
  for split in ("train", "test"):
    assert not shown[split] & set(hold) and len(shown[split]) > 40
  # Without it nothing moves.
  free = sprites.make("train", resolution=24, palette="random", size=4)
  kept = sprites.make("train", **options)
  same = [i for i in range(4) if kept.scene(i).hue.tolist()
          == free.scene(i).hue.tolist()]  # fmt: skip
  for i in same:
    np.testing.assert_array_equal(kept.draw(i, [0.5]), free.draw(i, [0.5]))
  assert same
  for wrong, match in (
    (dict(hold=(("red", "square"),)), "palette='random'"),
    (dict(hold=(("rod", "square"),), palette="random"), "hold.*colour out of"),
    (dict(hold=[(c, "disc") for c in sprites.HUES], palette="random"), "keeps"),
  ):
    with pytest.raises(errors.UserError, match=match):
      sprites.make("train", resolution=24, **wrong)
  with pytest.raises(errors.UserError, match="'held'.*names none"):
    sprites.make("held", resolution=24)
