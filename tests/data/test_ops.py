"""Clip ops in TensorFlow: eager == graph, and the same as in NumPy."""

import io

import numpy as np
from PIL import Image
import pytest

from vidgan_jax.data import oplang
from vidgan_jax.data import ops_np
from vidgan_jax.data import pipeline

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
tf = pipeline.import_tensorflow()
ops = pytest.importorskip("vidgan_jax.data.ops")


def example(frames=9, height=10, width=12):
  """Clip whose three channels tell frame, row and column."""
  grid = np.meshgrid(
    np.arange(frames), np.arange(height), np.arange(width), indexing="ij"
  )
  return {
    "video": np.stack(grid, -1).astype(np.uint8),
    "times": (np.arange(frames) / 8).astype(np.float32),
    "label": np.int32(2),
  }


def noise(frames=3, height=17, width=23):
  rng = np.random.default_rng(0)
  shape = (frames, height, width, 3)
  return example(frames) | {"video": rng.integers(0, 256, shape, np.uint8)}


def encoded(clip, kind="PNG"):
  def encode(picture):
    out = io.BytesIO()
    Image.fromarray(picture).save(out, kind)
    return out.getvalue()

  clip = dict(clip)
  frames = np.array([encode(p) for p in clip.pop("video")], object)
  return clip | {"frames": frames}


def seed(position=0):
  return tf.constant([7, position], tf.int64)


_GRAPHS = {}


def run(text, clip=None, position=0):
  """In a graph in which no size is known, as tf.data would run it."""
  clip = example() if clip is None else clip
  key = text, "frames" in clip
  if key not in _GRAPHS:
    shapes = {
      "video": tf.TensorSpec([None, None, None, 3], tf.uint8),
      "frames": tf.TensorSpec([None], tf.string),
      "times": tf.TensorSpec([None], tf.float32),
      "label": tf.TensorSpec([], tf.int32),
    }
    _GRAPHS[key] = tf.function(
      ops.build(text),
      input_signature=[
        {k: shapes[k] for k in clip},
        tf.TensorSpec([2], tf.int64),
      ],
    )
  clip = {k: tf.constant(v) for k, v in clip.items()}
  return {k: v.numpy() for k, v in _GRAPHS[key](clip, seed(position)).items()}


def take(video):
  """(frames, rows, columns) that the pixels tell."""
  video = video.astype(int)
  return video[:, 0, 0, 0], video[0, :, 0, 1], video[0, 0, :, 2]


ALL = [
  "clip(3, stride=2)",
  "first(3, stride=2)",
  "middle(3)",
  "sparse(3, 6)",
  "reverse",
  "fps(5)",
  "shift_time(2)",
  "resize(7)",
  "crop(8, 10)",
  "center_crop(5)",
  "flip_lr",
  "value_range(-1, 1)",
]


def test_the_list_above_is_complete():
  with pytest.raises(Exception, match="unknown op") as e:
    oplang.plan("zzz")
  known = {name for name in str(e.value).split("'") if name.isidentifier()}
  assert {text.split("(")[0] for text in ALL} == known - {"zzz"}


@pytest.mark.parametrize("text", ALL)
def test_eager_equals_graph_and_is_stateless(text):
  clip = {k: tf.constant(v) for k, v in example().items()}
  for position in (0, 2**40 + 1):
    eager = ops.build(text)(clip, seed(position))
    graph = run(text, None, position)
    again = run(text, None, position)
    assert set(eager) == set(graph) == {"video", "times", "label"}
    for key in eager:
      np.testing.assert_allclose(eager[key], graph[key], atol=1e-6)
      np.testing.assert_array_equal(graph[key], again[key])


@pytest.mark.parametrize(
  "text",
  [
    "first(3, stride=2)",
    "middle(4, stride=2)",
    "fps(5)",
    "fps(20) | middle(6)",
    "center_crop(5)",
    "center_crop(5, 8)",
    "value_range(-1, 1)",
    "value_range(0, 1)",
    "clip(9)",
    "sparse(9, 9)",
    "shift_time(0)",
    "first(4) | center_crop(7) | value_range(-1, 1)",
  ],
)
def test_agrees_with_numpy_where_nothing_is_random(text):
  wanted = ops_np.build(text)(example(), 0)
  got = run(text)
  assert set(got) == set(wanted)
  for key, value in wanted.items():
    np.testing.assert_allclose(got[key], value, atol=1e-6)
    assert got[key].dtype == value.dtype


@pytest.mark.parametrize("size", [8, 13, 17, 40])
def test_resize_agrees_with_pillow(size):
  wanted = ops_np.build(f"resize({size})")(noise(), 0)["video"]
  got = run(f"resize({size})", noise())["video"]
  assert got.shape == wanted.shape and got.dtype == np.uint8
  # Pillow rounds between its two passes.
  assert np.abs(got.astype(int) - wanted).max() <= 2
  assert np.abs(got.astype(int) - wanted).mean() < 0.3


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_decodes_as_pillow_does(kind):
  wanted = ops_np.build("first(2, stride=2)")(encoded(noise(), kind), 0)
  got = run("first(2, stride=2)", encoded(noise(), kind))
  assert set(got) == {"video", "times", "label"}
  np.testing.assert_array_equal(got["video"], wanted["video"])
  if kind == "PNG":
    np.testing.assert_array_equal(got["video"], noise()["video"][::2])


def test_only_chosen_frames_are_decoded():
  clip = encoded(noise())
  clip["frames"][1] = b"no picture at all"
  assert run("first(2, stride=2) | resize(8)", clip)["video"].shape[0] == 2
  assert run("fps(4) | first(2)", clip)["video"].shape[0] == 2
  with pytest.raises(tf.errors.InvalidArgumentError):
    run("resize(8) | first(2, stride=2)", clip)


def test_random_ops_cover_all_and_stay_inside():
  starts, corners, flips, reverses, shifts = set(), set(), 0, 0, []
  text = "clip(3, stride=2) | reverse | crop(8, 10) | flip_lr | shift_time(2)"
  for position in range(200):
    got = run(text, None, position)
    frames, rows, columns = take(got["video"])
    flips += columns[0] > columns[1]
    reverses += frames[0] > frames[1]
    frames, columns = np.sort(frames), np.sort(columns)
    assert np.diff(frames).tolist() == [2, 2]
    assert len(rows) == 8 and (np.diff(rows) == 1).all()
    assert len(columns) == 10 and (np.diff(columns) == 1).all()
    np.testing.assert_allclose(np.diff(got["times"]), 0.25, atol=1e-6)
    starts.add(int(frames[0]))
    corners.add((int(rows[0]), int(columns[0])))
    shifts.append(got["times"][0])
  assert starts == set(range(5))
  assert corners == {(r, c) for r in range(3) for c in range(3)}
  assert 70 < flips < 130 and 70 < reverses < 130
  assert min(shifts) >= 0 and max(shifts) < 2 and np.std(shifts) > 0.4


def test_sparse():
  firsts, starts = set(), set()
  for position in range(150):
    got = run("sparse(3, 6)", None, position)
    frames = take(got["video"])[0]
    assert (np.diff(frames) > 0).all()
    start = frames - np.round(got["times"] * 8).astype(int)
    assert (start == start[0]).all() and 0 <= start[0] <= 3
    assert frames[-1] < start[0] + 6
    firsts.add(int(frames[0] - start[0]))
    starts.add(int(start[0]))
  # The first of 3 in a window of 6 is at most its fourth frame.
  assert firsts == set(range(4)) and starts == set(range(4))


def test_each_op_has_its_own_numbers():
  # With one stream for all, two coins would always agree.
  pairs = {
    (take(got["video"])[0][0] > 0, take(got["video"])[2][0] > 0)
    for got in (run("reverse | flip_lr", None, p) for p in range(40))
  }
  assert len(pairs) == 4
