"""Every task keeps its contract, and gives what it says it gives."""

import functools
import importlib
import inspect
import io

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest
import waves

from vidgan_jax import config
from vidgan_jax import errors
from vidgan_jax import rooms
from vidgan_jax import tasks
from vidgan_jax.data import sound as sound_lib
from vidgan_jax.data import text as text_lib

T, H, W = 6, 48, 64
TIMES = np.arange(T, dtype=np.float32) / 8
SOUND = waves.waves(T, sound_lib.FEATURES, 1)[..., 0, 0].astype(np.float32)
# Of the tasks, other options that change what their code does.
OPTIONS = [
  *((name, {}) for name in rooms.names("tasks")),
  ("super_resolve", dict(scale=4)),
  ("super_resolve", dict(scale=2, degradation="real")),
  ("denoise", dict(blind=True, poisson=0.5)),
  ("denoise", dict(spatial=True)),
  ("deblock", dict(codec="h264", blind=False)),
  ("colorize", dict(hints=20, reference=0.5)),
  ("enhance", dict(flicker=(("white", 1),))),
  ("interpolate", dict(rate=4, arbitrary=True)),
  ("translate", dict(kind="labels", classes=("ground", "wave"))),
  ("translate", dict(kind="labels", classes=("a", "b"), reference=1.0)),
]
CLIPS = [(n, o) for n, o in OPTIONS if n != "generate"]
ids = lambda x: x if isinstance(x, str) else "-".join(map(str, x.values()))


def make(name, **options):
  return importlib.import_module(f"vidgan_jax.tasks.{name}").make(**options)


def clip(seed=0, t=T, h=H, w=W):
  """Soft, moving waves in [-0.8, 0.8] with edges in them."""
  x = waves.waves(t, h, w, seed)
  x[..., 0] = np.where(x[..., 0] > 0.5, 1.0, x[..., 0])
  return (0.5 * x[..., :1] + 0.3 * x).astype(np.float32)


def example(video):
  times = TIMES[: len(video)]
  return {"video": video, "times": times, "label": np.int32(2)} | layout(video)


def layout(video):
  """What `translate` makes maps of: where the clip is bright."""
  return {"layout": np.uint8(video[..., 0] > 0)}


def prepare(task, videos, seeds=None):
  """Clips through tf.data, as the pipeline does, in one batch of NumPy."""
  tf = pytest.importorskip("tensorflow", reason="TensorFlow not installed")

  @tf.autograph.experimental.do_not_convert
  def one(seed, clip):
    seed = tf.stack([tf.constant(7, tf.int64), seed])
    times = tf.constant(TIMES[: clip["video"].shape[0]])
    clip = clip | {"times": times}
    if task.footage.hears:
      clip["sound"] = tf.constant(SOUND[: len(TIMES)])
    return task.prepare(clip, seed)

  seeds = np.arange(len(videos)) if seeds is None else np.array(seeds)
  stacked = {"video": np.stack(videos)} | layout(np.stack(videos))
  data = tf.data.Dataset.from_tensor_slices((seeds, stacked))
  data = data.map(one, num_parallel_calls=2)
  data = data.batch(len(videos), drop_remainder=True)
  static = jax.tree.map(lambda s: tuple(s.shape), data.element_spec)
  batch = next(data.as_numpy_iterator())
  assert static == jax.tree.map(lambda x: x.shape, batch)  # All are known.
  return batch


@functools.cache
def prepared(name, options):
  """Task, and a batch of one clip with the seeds 0, 1, 0, and another clip."""
  task = make(name, **dict(options))
  videos = [clip(0), clip(0), clip(0), clip(1)]
  return task, prepare(task, videos, [0, 1, 0, 1])


def same(a, b):
  equal = jax.tree.map(lambda x, y: np.array_equal(x, y), a, b)
  return all(jax.tree.leaves(equal))


# ------------------------------------------------------------------- contract


@pytest.mark.parametrize("name, options", CLIPS, ids=ids)
def test_prepare(name, options):
  """Shapes, ranges, and that the seed and nothing else decides."""
  task, batch = prepared(name, tuple(options.items()))
  assert set(batch) - {"weight"} == {"given", "target", "times"}
  np.testing.assert_array_equal(
    batch["target"], np.stack([clip(0)] * 3 + [clip(1)])
  )
  np.testing.assert_array_equal(batch["times"], np.stack([TIMES] * 4))
  given = batch["given"]
  h, w = H // task.footage.scale, W // task.footage.scale
  shapes = {"video": (4, T, h, w, 3)}
  if task.footage.vector_dim:
    shapes["vector"] = (4, T, task.footage.vector_dim)
  if options.get("spatial"):
    shapes["map"] = (4, T, h, w, 1)
  if options.get("kind") == "labels":
    shapes["map"] = (4, T, h, w, 2)
  if task.footage.hears:
    shapes["sound"] = (4, *SOUND.shape)
  if "mask" in given:
    shapes["mask"] = (4, T, h, w, 1)
    assert set(np.unique(given["mask"])) <= {0, 1}
    assert not (given["video"] * given["mask"]).any() or name in (
      "colorize",
      "lips",
      "translate",
    )
  assert {k: v.shape for k, v in given.items()} == shapes
  assert {x.dtype for x in jax.tree.leaves(batch)} == {np.dtype("float32")}
  assert abs(given["video"]).max() <= 1
  if "weight" in batch:
    np.testing.assert_array_equal(batch["weight"], given.get("mask", 1))
  fixed = name in ("predict", "super_resolve", "interpolate", "colorize")
  fixed |= options.get("kind") == "labels"
  if options.get("arbitrary") or options.get("hints"):
    fixed = False
  if options.get("degradation") == "real":
    fixed = False
  of = lambda i: jax.tree.map(lambda x: x[i], given)
  assert same(of(0), of(2))  # The same again.
  assert same(of(0), of(1)) == fixed  # Another seed.
  for video in task.preview(batch, batch["target"]).values():
    assert video.shape == batch["target"].shape


@pytest.mark.parametrize("name, options", CLIPS, ids=ids)
def test_given_of_real_footage(name, options):
  """NumPy's `given` is that of `prepare`, on the clip so damaged."""
  task, batch = prepared(name, tuple(options.items()))
  want = jax.tree.map(lambda x: x[1], batch["given"])
  video, mask, more = want["video"], want.get("mask"), {}
  if name == "denoise" and "vector" in want:
    more["sigma"] = want["vector"][0, 0] * 127.5
  if name == "translate":
    if mask is not None:  # Of a frame that is given there is no map.
      want["map"] = want["map"] * mask
  elif "map" in want:
    mask, more["sigma"] = want["map"] / 0.5, 0.5 * 127.5
  if name == "lips":
    more["sound"] = want["sound"]
  if name == "deblock" and "vector" in want:
    more["quality"] = want["vector"][0, 0] * 50
  if name == "interpolate":
    if options:
      return  # Real footage is at a fixed rate.
    video, mask = video[mask[:, 0, 0, 0] == 0], None
    task_times = task.footage.output_times(TIMES[::2])
    # The last one is extra.
    got = task.footage.given(video[:-1], TIMES[::2], None)
    want = jax.tree.map(lambda x: x[:-1], want)
    np.testing.assert_allclose(task_times, TIMES[:-1])
  else:
    got = task.footage.given(video, TIMES, mask, **more)
  assert set(got) == set(want)
  # What comes after (video, times, mask) are options that a user may set.
  known = list(inspect.signature(task.footage.given).parameters)
  assert known[:3] == ["video", "times", "mask"]
  assert set(known[3:]) - {"rate"} == set(more)
  assert ("rate" in known) == (task.footage.rate > 1)
  for key, value in got.items():
    assert value.dtype == np.float32, key
    np.testing.assert_allclose(value, want[key], atol=2e-6, err_msg=key)


@pytest.mark.parametrize("name, options", CLIPS, ids=ids)
def test_baselines(name, options):
  task, batch = prepared(name, tuple(options.items()))
  batch = jax.tree.map(lambda x: x[2:], batch)
  assert len(task.baselines)
  for label, baseline in task.baselines.items():
    out = baseline(batch["given"], batch["times"])
    assert out.shape == batch["target"].shape, label
    assert out.dtype == np.float32 and abs(out).max() <= 1, label
    assert out.std() > 0.05, label  # There is a picture.


@pytest.mark.parametrize("name", rooms.names("tasks"))
def test_data_in_memory(name):
  """Tasks that are not of TensorFlow run under vmap too."""
  task = make(name)
  if task.tf:
    with pytest.raises(Exception):  # noqa: B017
      jax.vmap(task.prepare)({"video": jnp.zeros((2, 3))}, jnp.zeros(2))
    return
  two = {k: jnp.stack([v, v]) for k, v in example(clip()).items()}
  keys = jax.random.split(jax.random.key(0), 2)
  mapped = jax.jit(jax.vmap(task.prepare))(two, keys)
  plain = task.prepare(jax.tree.map(lambda x: x[1], two), keys[1])
  for got, want in zip(jax.tree.leaves(mapped), jax.tree.leaves(plain)):
    np.testing.assert_allclose(got[1], want, atol=1e-4 * (name == "translate"))


def test_generate():
  one = example(clip())
  out = make("generate").prepare(one, None)
  assert out["target"] is one["video"] and out["given"] == {"label": 2}
  assert out["times"] is one["times"]
  assert make("generate", label=False).prepare(one, None)["given"] == {}
  bare = {k: v for k, v in one.items() if k != "label"}
  assert make("generate").prepare(bare, None)["given"] == {}


def test_generate_gives_the_signals_that_are_named():
  """In training those of the clip, in sampling those of the source in turn."""
  one = example(clip()) | {"sound": np.ones((T, 2), np.float32)}
  task = make("generate", signals=("sound",))
  given = task.prepare(one, None)["given"]
  assert given == {"sound": one["sound"], "label": 2}

  class Source:
    def __len__(self):
      return 3

    def prepared(self, indices):
      return [
        {"given": {"sound": np.full((T, 2), i), "label": np.int32(i)}}
        for i in indices
      ]

  facts = {"num_classes": 4, "class_names": ()}
  given = task.ask(5, 0, Source(), facts)
  np.testing.assert_array_equal(given["sound"][:, 0, 0], [0, 1, 2, 0, 1])
  np.testing.assert_array_equal(given["label"], [0, 1, 2, 0, 1])
  given = task.ask(2, 0, Source(), facts, label="3")
  np.testing.assert_array_equal(given["label"], [3, 3])
  with pytest.raises(errors.UserError, match="made of sound.*--from-data"):
    task.ask(5, 0, None, facts)


def test_generate_is_asked_with_words():
  encoder = text_lib.learn(["a red disc", "two blue discs"], "words")
  facts = {"num_classes": 0, "class_names": (), "text": encoder}
  ask = functools.partial(make("generate", signals=("text",)).ask, 2, 0, None)
  np.testing.assert_array_equal(
    ask(facts, text="a red disc")["text"], [encoder.tokens("a red disc")] * 2
  )
  np.testing.assert_array_equal(
    ask(facts, text=["blue", "red"])["text"],
    [encoder.tokens("blue"), encoder.tokens("red")],
  )
  with pytest.raises(errors.UserError, match="'rad'.*nearest is 'red'"):
    ask(facts, text="rad disc")
  with pytest.raises(errors.UserError, match="trained without texts"):
    # Of a run of vectors the task gives `text_vectors`.
    make("generate", signals=("text_vectors",)).ask(2, 0, None, facts, text="a")
  given = ask(facts, text="rad disc", text_anyway=True)
  np.testing.assert_array_equal(given["text"][0], encoder.tokens("disc"))
  with pytest.raises(errors.UserError, match="--text gives one"):
    ask(facts)
  for task, known in (
    (make("generate"), facts),
    (make("generate", signals=("text",)), facts | {"text": None}),
  ):
    with pytest.raises(errors.UserError, match="trained without texts"):
      task.ask(2, 0, None, known, text="red")


def test_generate_is_asked_with_vectors():
  encoder = text_lib.Frozen(
    kind="embed:gone", shape=(1, 2), mean=[1, 0], deviation=[2, 1], digests={}
  )
  vars(encoder)["_read"] = lambda texts: [
    np.float32([[len(t), 1]]) for t in texts
  ]
  encoder._read.check = lambda text: None
  facts = {"num_classes": 0, "class_names": (), "text": encoder}
  task = make("generate", signals=("text_vectors",))
  given = task.ask(2, 0, None, facts, text=["red", "green"])
  np.testing.assert_array_equal(given["text_vectors"], [[[1, 1]], [[2, 1]]])
  with pytest.raises(errors.UserError, match="--text gives one"):
    task.ask(2, 0, None, facts)


def test_task_is_frozen_and_named():
  task = make("generate")
  with pytest.raises(AttributeError):
    task.prepare = None
  with pytest.raises(TypeError):
    tasks.Task(task.prepare)


@pytest.mark.parametrize(
  "name, options, text",
  [
    ("super_resolve", dict(scale=5), "scale is 5"),
    ("super_resolve", dict(scale=1), "scale is 1"),
    ("super_resolve", dict(damage={"h264": 1}), "degradation is 'clean'"),
    ("super_resolve", dict(degradation="reel"), "'clean', 'real'"),
    ("deblock", dict(codec="mjpeg"), "'jpeg', 'h264'"),
    ("inpaint", dict(holes={"moths": 1}), "'moths'; there are 'strokes'"),
    ("inpaint", dict(holes={"boxes": 0}), "one must be above"),
    ("restore", dict(mixture={"noise": -1}), "below 0"),
    ("restore", dict(mixture={}), "one must be above"),
    ("interpolate", dict(rate=1), "rate is 1"),
    ("predict", dict(known=0), "known is 0"),
    ("enhance", dict(flicker={"gray": 1}), "'none', 'white', 'smooth'"),
    ("enhance", dict(clean=2), "from 0 to 1"),
  ],
)
def test_wrong_options(name, options, text):
  with pytest.raises(errors.UserError, match="config.task.options") as e:
    make(name, **options)
  assert text in str(e.value)


def test_clips_that_do_not_fit():
  pytest.importorskip("tensorflow", reason="TensorFlow not installed")
  with pytest.raises(config.ConfigError, match="multiples of 3"):
    make("super_resolve", scale=3).prepare(example(clip()), (0, 0))
  with pytest.raises(errors.UserError, match="damage.*nois"):
    task = make("super_resolve", degradation="real", damage={"nois": 1})
    task.prepare(example(clip()), (0, 0))
  with pytest.raises(config.ConfigError, match="known=6"):
    make("predict", known=6).prepare(example(clip()), None)


# ---------------------------------------------------------- what each one does


def test_denoise():
  mid = np.zeros((T, H, W, 3), np.float32)
  for poisson in (0.0, 1.0):
    batch = prepare(make("denoise", poisson=poisson), [mid] * 8)
    sigma = batch["given"]["vector"][:, 0, 0]
    assert len(set(sigma)) == 8
    assert 5 / 127.5 <= sigma.min() and sigma.max() <= 50 / 127.5
    residual = (batch["given"]["video"] - batch["target"]).std((1, 2, 3, 4))
    np.testing.assert_allclose(residual, sigma, rtol=0.03)
  mixed = make("denoise", sigma=(25, 25), poisson=0.5)
  mixed = prepare(mixed, [mid - 0.9] * 16)
  residual = (mixed["given"]["video"] - mixed["target"]).std((1, 2, 3, 4))
  shot = residual < 0.4 * 25 / 127.5  # There is little light.
  assert 2 < shot.sum() < 14
  fixed = prepare(make("denoise", sigma=(25, 25)), [mid])
  np.testing.assert_allclose(fixed["given"]["vector"], 25 / 127.5, rtol=1e-6)


def test_denoise_with_a_map():
  mid = np.zeros((T, H, W, 3), np.float32)
  blocks = lambda x: x.reshape(8, T, 3, H // 3, 4, W // 4, -1)
  power = lambda x: np.sqrt((blocks(x) ** 2).mean((1, 3, 5, 6)))
  for poisson in (0.0, 1.0):
    task = make("denoise", sigma=(0, 50), spatial=True, poisson=poisson)
    given = prepare(task, [mid] * 8)["given"]
    level = given["map"]
    assert 0 <= level.min() and level.max() <= 50 / 127.5
    # Of one clip, levels differ, but not from a pixel to the next.
    assert np.ptp(level, (1, 2, 3, 4)).max() > 15 / 127.5
    for axis in (1, 2, 3):
      assert abs(np.diff(level, axis=axis)).max() < 10 / 127.5
    # In each block the noise is what the map says, and rounding.
    want = np.hypot(power(level), 0.29 / 127.5)
    np.testing.assert_allclose(power(given["video"]), want, rtol=0.1)
  # Real footage: everywhere alike, unless a mask says how much.
  even = task.footage.given(mid, TIMES, None, sigma=10)["map"]
  np.testing.assert_allclose(even, 10 / 127.5, rtol=1e-6)
  assert even.shape == (T, H, W, 1)
  blind = make("denoise", blind=True, spatial=True)
  assert set(blind.footage.given(mid, TIMES)) == {"video"}


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_super_resolve(scale):
  video = clip()[:, : 48 - 48 % scale, : 60 - 60 % scale]
  low = prepare(make("super_resolve", scale=scale), [video])["given"]["video"]
  size = video.shape[2] // scale, video.shape[1] // scale
  for t, c in ((0, 0), (3, 1), (5, 2)):
    frame = Image.fromarray(video[t, ..., c])
    want = np.asarray(frame.resize(size, Image.Resampling.BICUBIC))
    # 8 bits are half a level off.
    np.testing.assert_allclose(low[0, t, ..., c], want, atol=0.51 / 127.5)


def test_deblock():
  batch = prepare(make("deblock", quality=(12, 12), blind=False), [clip()])
  np.testing.assert_allclose(batch["given"]["vector"], 0.12)
  for frame, got in zip(batch["target"][0], batch["given"]["video"][0]):
    file = io.BytesIO()
    image = Image.fromarray(np.round((frame + 1) * 127.5).astype(np.uint8))
    image.save(file, "JPEG", quality=12)
    want = np.asarray(Image.open(file)).astype(float) / 127.5 - 1
    assert abs(want - got).mean() < 0.5 / 127.5
  harm = []
  for quality in (28, 44):
    task = make("deblock", codec="h264", quality=(quality, quality))
    batch = prepare(task, [clip()])
    assert set(batch["given"]) == {"video"}
    harm.append(np.mean((batch["given"]["video"] - batch["target"]) ** 2))
  assert 0 < harm[0] < harm[1] / 2


def test_inpaint_mixes_holes():
  videos = [clip()] * 24
  whole = lambda m: np.isin(m.mean((2, 3, 4)), (0, 1)).all(1)
  mask = prepare(make("inpaint"), videos)["given"]["mask"]
  assert 0 < whole(mask).sum() < 12  # Some lost frames.
  assert 0.03 < mask.mean() < 0.25
  only = prepare(make("inpaint", holes={"frames": 1}), videos)
  assert whole(only["given"]["mask"]).all()
  with pytest.raises(config.ConfigError, match="--mask"):
    make("inpaint").footage.given(clip(), TIMES)


def test_lips_are_those_of_another_frame():
  videos = [clip()] * 8
  task = make("lips", top=0.25)
  batch = prepare(task, videos)
  video, mask = batch["given"]["video"], batch["given"]["mask"]
  assert not mask[:, :, : H // 4].any() and mask[:, :, H // 4 :].all()
  np.testing.assert_array_equal(
    video[:, :, : H // 4], batch["target"][:, :, : H // 4]
  )
  below = video[:, :, H // 4 :]
  assert (below == below[:, :1]).all()  # It stands still.
  others = [
    np.flatnonzero((clip()[:, H // 4 :] == x[0]).all((1, 2, 3)))[0]
    for x in below
  ]
  assert len(set(others)) > 2  # Any frame of the clip.
  np.testing.assert_array_equal(
    task.footage.given(video[0], TIMES)["mask"], mask[0]
  )
  np.testing.assert_array_equal(task.footage.hides(H, W), mask[0, 0, ..., 0])
  with pytest.raises(errors.UserError, match="top is 1.0"):
    make("lips", top=1.0)


def test_colorize():
  task = make("colorize", hints=30, reference=0.5)
  batch = prepare(task, [clip(i) for i in range(12)])
  video, mask = batch["given"]["video"], batch["given"]["mask"]
  luma = lambda x: x @ np.array([0.2126, 0.7152, 0.0722], np.float32)
  # The brightness is the target's everywhere.
  np.testing.assert_allclose(luma(video), luma(batch["target"]), atol=1e-6)
  known = mask[..., 0] == 0
  np.testing.assert_allclose(video[known], batch["target"][known], atol=1e-6)
  assert np.ptp(video[~known], axis=-1).max() < 1e-6  # Grey.
  whole = known.all((2, 3))
  assert set(whole.sum(1)) == {0, 1}  # Some have a reference frame.
  hints = known.sum((1, 2, 3)) - whole.sum(1) * H * W
  assert 0 <= hints.min() and 5 < hints.max() <= 30
  assert prepare(make("colorize"), [clip()])["given"]["mask"].all()


def test_enhance():
  still = dict(exposure=(0, 0), gamma=(1, 1), contrast=(1, 1))
  still |= dict(saturation=(1, 1), vignette=(0, 0), flicker={"none": 1})
  run = lambda **o: prepare(make("enhance", **still | o), [clip()])
  change = lambda **o: run(**o)["given"]["video"][0]
  light = (clip() + 1) / 2
  eight = 0.51 / 127.5
  want = lambda x: np.clip(2 * x - 1, -1, 1)
  near = lambda a, b: np.testing.assert_allclose(a, b, atol=eight)
  near(change(), clip())
  near(change(exposure=(-1, -1)), want(light / 2))
  near(change(exposure=(-1, -1), clean=1), clip())
  near(change(gamma=(2, 2)), want(light**2))
  near(change(contrast=(0.5, 0.5)), clip() / 2)
  gray = change(saturation=(0, 0))
  near(gray, tasks.gray(clip()))
  dark = change(vignette=(1, 1))
  assert (dark[:, 0, 0] < -0.95).all()
  near(dark[:, H // 2, W // 2], clip()[:, H // 2, W // 2])


@pytest.mark.parametrize(
  "name, wide",
  [
    ("exposure", (-1, 0)),
    ("gamma", (1, 2)),
    ("contrast", (0.5, 1)),
    ("saturation", (0, 1)),
    ("vignette", (0, 1)),
  ],
)
def test_enhance_flickers(name, wide):
  """Of a still picture all frames are alike, or no two; each of the five."""
  tf = pytest.importorskip("tensorflow", reason="TensorFlow not installed")
  picture = np.repeat(clip()[:1], 24, 0)
  ranges = dict(exposure=(0, 0), gamma=(1, 1), contrast=(1, 1))
  ranges |= dict(saturation=(1, 1), vignette=(0, 0)) | {name: wide}

  def spoilt(flicker, **options):
    task = make("enhance", flicker={flicker: 1}, **ranges | options)
    one = {"video": tf.constant(picture), "times": None}
    seed = tf.constant([3, 5], tf.int64)
    return task.prepare(one, seed)["given"]["video"].numpy()

  harm = lambda *args, **o: abs(spoilt(*args, **o) - picture).mean((1, 2, 3))
  still = harm("none")
  assert np.ptp(still) == 0 and still[0] > 0.01
  assert np.ptp(harm("white", amount=0.0)) == 0
  assert np.ptp(harm("white", **{name: (wide[0], wide[0])})) == 0
  white, smooth = harm("white"), harm("smooth")
  assert min(len(np.unique(white)), len(np.unique(smooth))) > 10
  # A wave has small steps for its height, noise has not.
  rough = lambda x: np.abs(np.diff(x)).mean() / x.std()
  assert rough(smooth) < 0.8 < rough(white)
  # However much, it keeps to the range.
  ends = [harm("none", **{name: (end, end)})[0] for end in wide]
  wild = harm("white", amount=9.0)
  assert min(ends) <= wild.min() and wild.max() <= max(ends)


def test_interpolate():
  batch = prepare(make("interpolate", rate=4), [clip()])
  lost = batch["given"]["mask"][0, :, 0, 0, 0]
  assert lost.tolist() == [0, 1, 1, 1, 0, 0]  # The last one is known.
  batch = prepare(make("interpolate", rate=3, arbitrary=True), [clip()] * 30)
  lost = batch["given"]["mask"][:, :, 0, 0, 0]
  assert len(np.unique(lost, axis=0)) > 6
  assert not lost[:, [0, -1]].any()
  assert not (lost[:, :-2] * lost[:, 1:-1] * lost[:, 2:]).any()  # 2 at most.
  task = make("interpolate", rate=4)
  times = np.array([0, 1, 3], np.float32)
  np.testing.assert_allclose(
    task.footage.output_times(times), [0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3]
  )
  given = task.footage.given(clip()[:3], times, None)
  assert len(given["video"]) == len(given["mask"]) == 9
  np.testing.assert_array_equal(given["video"][::4], clip()[:3])
  assert given["mask"].mean((1, 2, 3)).tolist() == [0, 1, 1, 1, 0, 1, 1, 1, 0]


def test_predict():
  given = make("predict", known=2).prepare(example(clip()), None)["given"]
  assert given["mask"].mean((1, 2, 3)).tolist() == [0, 0, 1, 1, 1, 1]
  np.testing.assert_array_equal(given["video"][:2], clip()[:2])


def test_restore_mixes():
  videos = [clip()] * 16
  error = lambda **o: (
    prepare(make("restore", **o), videos)["given"]["video"] - videos[0]
  )
  mixed = error()
  # Noise of one frame and the next do not agree, nor with its neighbours.
  rough = lambda e: np.diff(e, axis=3).std((1, 2, 3, 4)) / e.std((1, 2, 3, 4))
  noise = rough(error(mixture={"noise": 1}))
  jpeg = rough(error(mixture={"jpeg": 1, "noise": 0}))
  assert noise.min() > 1.3 > jpeg.max()
  assert (rough(mixed) > 1.3).any() and (rough(mixed) < 1.3).any()


def test_statistics():
  """The histogram of the frame, whatever its size and its order."""
  video = clip(h=64, w=128)
  found = tasks.statistics(video)
  assert found.shape == (T, tasks.STATISTICS)
  cells = video.reshape(T, 16, 4, 16, 8, 3).mean((2, 4)).astype(float)
  want = np.sort(cells.reshape(T, 256, 3), 1).reshape(T, 16, 16, 3).mean(2)
  np.testing.assert_allclose(
    found.reshape(T, 3, 16), want.transpose(0, 2, 1), atol=1e-5
  )
  np.testing.assert_allclose(tasks.statistics(video[:, ::-1]), found, atol=1e-6)
  # Sizes that do not divide by 16.
  odd = tasks.statistics(np.ones((1, 37, 21, 3), np.float32))
  np.testing.assert_allclose(odd, 1, atol=1e-5)
  tf = pytest.importorskip("tensorflow", reason="TensorFlow not installed")
  np.testing.assert_allclose(tasks.statistics(video, tf), found, atol=1e-6)


def test_subdivide():
  times = np.array([1, 2, 4], np.float32)
  np.testing.assert_array_equal(tasks.subdivide(times, 1), times)
  np.testing.assert_array_equal(tasks.subdivide(times, 2), [1, 1.5, 2, 3, 4])
  assert tasks.subdivide(times, 2).dtype == np.float32
