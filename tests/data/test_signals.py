"""Signals go through the ops on every road: memory, NumPy, tf.data."""

import numpy as np
import pytest
import test_pipeline

from vidgan_jax import config
from vidgan_jax import errors
from vidgan_jax.data import memory
from vidgan_jax.data import oplang
from vidgan_jax.data import ops_np
from vidgan_jax.data import pipeline
from vidgan_jax.data import reference
from vidgan_jax.data import signals
from vidgan_jax.data import sprites
from vidgan_jax.losses import reconstruction
from vidgan_jax.tasks import generate

MAPS_OPS = "clip(4) | crop(24) | flip_lr | value_range(-1, 1)"


def moving(**options):
  """Sprites that say how they move and where they are."""
  options = {"supervision": ("flow", "layout"), "shake": 3.0} | options
  return sprites.make("train", resolution=32, frames=6, size=16, **options)


def evaluated(source, ops, **kwargs):
  del kwargs
  clips = reference.Clips(source, ops).read(range(16))
  batch = {k: np.stack([c[k] for c in clips]) for k in clips[0]}
  return batch | {"video": batch["video"] / np.float32(127.5) - 1}


def first_batch(kind):
  return lambda *args, **kwargs: next(kind(*args, **kwargs).batches(0))


ROADS = {
  "memory": first_batch(memory.InMemory),
  "numpy": evaluated,
  "tf": first_batch(pipeline.Pipeline),
}
_TRAINING = ["memory", pytest.param("tf", marks=test_pipeline.needs_tf)]
of_training = pytest.mark.parametrize("road", _TRAINING)
needs_road = pytest.mark.parametrize("road", [*_TRAINING, "numpy"])


@needs_road
def test_flow_and_layout_move_with_the_pixels(road):
  """Warped along its flow each clip fits itself, turned around it does not."""
  data = dict(batch=16, seed=1)
  batch = ROADS[road](moving(background="checker"), MAPS_OPS, **data)
  assert batch["flow"].shape == (16, 3, 24, 24, 2)
  error = lambda way: np.asarray(
    reconstruction.flow_warp(
      batch["video"],
      {"target": batch["video"], "flow": batch["flow"] * np.float32(way)},
      reconstruction.Extras(),
      sharpness=0.0,
    )
  )
  assert error(1).mean() < 0.1
  # Each clip by itself: about half of them are mirrored.
  assert (error(1) < 0.6 * error(0)).all()
  assert (error(1) < 0.6 * error((-1, 1))).any()
  assert (error(1) < 0.6 * error(-1)).all()
  # On black, what is brighter than its soft border is an object.
  batch = ROADS[road](moving(background="black"), MAPS_OPS, **data)
  bright = np.asarray(batch["video"]).max(-1) > 0
  assert batch["layout"].shape == bright.shape and bright.mean() > 0.02
  assert ((batch["layout"] > 0) == bright).mean() > 0.98


@of_training
def test_maps_go_past_the_task_into_the_batch(road):
  prepare = generate.make().prepare
  batch = ROADS[road](moving(), MAPS_OPS, batch=4, prepare=prepare)
  assert set(batch) == {"given", "target", "times", "flow", "layout"}
  batch = ROADS[road](moving(supervision=()), MAPS_OPS, batch=4)
  assert set(batch) == {"video", "times", "label"}


@needs_road
@pytest.mark.parametrize(
  "ops, field",
  [
    ("clip(3, stride=2)", "flow"),
    ("sparse(3, 6)", "flow"),
    ("clip(3) | reverse", "flow"),
    ("fps(4) | clip(2)", "flow"),
    ("resize(16) | clip(3)", "flow"),
    ("clip(3) | reverse", "sound"),
  ],
)
def test_ops_that_would_make_a_map_untrue(road, ops, field):
  source = moving(supervision=field)
  with pytest.raises(config.ConfigError, match=f"'{field}'.*supervision"):
    ROADS[road](source, ops, batch=4)
  assert ROADS[road](moving(supervision=()), ops, batch=4)


def test_flow_of_another_length():
  example = moving().read([0])[0]
  short = example | {"flow": example["flow"][1:]}
  with pytest.raises(
    signals.DataError, match="6 frames and 4 entries of 'flow', not 5"
  ):
    ops_np.check_usable(short, oplang.plan("clip(3)"))


# --------------------------------------------------------------- all of them


class Everything:
  """Clips of 9 frames, 10 x 12, whose every signal tells where it is from."""

  num_classes = 9
  class_names = tuple("abcdefghi")

  def __init__(self, *more):
    t, h, w = np.meshgrid(range(9), range(10), range(12), indexing="ij")
    self._clip = {
      "video": np.stack([t, h, w], -1).astype(np.uint8),
      "times": (np.arange(9) / 8).astype(np.float32),
      "caption": "a grid",
      "text": np.int32([3, 1, 0]),
      "text_vectors": np.ones((3, 2), np.float32),
      "layout": (12 * h + w).astype(np.uint8),
      "depth": (12 * h + w).astype(np.float32),
    }
    if "flow" in more:
      flow = np.stack([t, h], -1)[:-1].astype(np.float32)
      self._clip |= {"flow": flow}
    if "sound" in more:
      sound = np.arange(18, dtype=np.float32).reshape(9, 2)
      self._clip |= {"sound": sound}
    self.spec = {
      k: (np.shape(v), np.asarray(v).dtype) for k, v in self._clip.items()
    }
    self.spec["caption"] = (), np.dtype(object)
    self.spec["label"] = (), np.dtype(np.int32)

  def __len__(self):
    return 16

  def read(self, indices):
    return [self._clip | {"label": np.int32(i % 9)} for i in indices]


def walk(road, source, ops):
  """Batches of 16 clips, as they are after the ops."""
  batch = ROADS[road](source, ops, batch=16)
  if road == "numpy":
    batch = batch | {"video": (batch["video"] + 1) * np.float32(127.5)}
  return {k: np.asarray(v) for k, v in batch.items()}


@needs_road
def test_every_signal_goes_with_the_video(road, monkeypatch):
  # A new signal is a row of the table.
  depth = signals.Signal(axes="thw", dtype=np.float32, resize="linear")
  monkeypatch.setitem(signals.SIGNALS, "depth", depth)
  got = walk(
    road, Everything("flow", "sound"), "clip(4) | crop(6, 7) | flip_lr"
  )
  named = set(Everything("flow", "sound").spec)
  assert set(got) == (named if road == "numpy" else named - {"caption"})
  frame, row, column = np.moveaxis(np.round(got["video"]).astype(int), -1, 0)
  for name in ("layout", "depth"):
    assert got[name].dtype == signals.SIGNALS[name].dtype
    np.testing.assert_array_equal(got[name], 12 * row + column)
  np.testing.assert_array_equal(got["sound"][..., 0], 2 * frame[..., 0, 0])
  turned = np.sign(column[:, 0, 0, 1] - column[:, 0, 0, 0])
  assert set(turned) == {-1, 1}
  np.testing.assert_array_equal(
    got["flow"][..., 0], (turned[:, None, None, None] * frame[:, :-1])
  )
  np.testing.assert_array_equal(got["flow"][..., 1], row[:, :-1])
  assert got["text"].tolist() == [[3, 1, 0]] * 16
  assert got["text_vectors"].shape == (16, 3, 2)


@needs_road
def test_resize_by_the_row_of_the_table(road, monkeypatch):
  depth = signals.Signal(axes="thw", dtype=np.float32, resize="linear")
  monkeypatch.setitem(signals.SIGNALS, "depth", depth)
  got = walk(road, Everything(), "resize(5) | first(2, stride=3)")
  rows, columns = np.arange(5) * 2 + 1, np.arange(6) * 2 + 1
  wanted = np.broadcast_to(12 * rows[:, None] + columns, (16, 2, 5, 6))
  np.testing.assert_array_equal(got["layout"], wanted)
  # Each is the mean of the pixels around: half a pixel up and to the left.
  inside = np.s_[:, :, 1:-1, 1:-1]
  np.testing.assert_allclose(got["depth"][inside], wanted[inside] - 6.5, 1e-5)
  got = walk(road, Everything("sound"), "sparse(3, 6)")
  np.testing.assert_array_equal(
    got["sound"][..., 0], 2 * np.round(got["video"][..., 0, 0, 0])
  )


@of_training
def test_a_signal_that_is_not_there(road):
  def prepare(example, seed):
    del seed
    given = {"sound": example["sound"]}
    return {"given": given, "target": example["video"]}

  with pytest.raises(
    errors.UserError, match="'sound'.*'video'.*alone.*supervision"
  ):
    ROADS[road](Everything(), "clip(4)", batch=4, prepare=prepare)
  got = ROADS[road](Everything("sound"), "clip(4)", batch=4, prepare=prepare)
  assert got["given"]["sound"].shape == (4, 4, 2)
  # What the task gives of the pixels is not there twice.
  assert set(got) == {"given", "target", "layout"}
  with pytest.raises(errors.UserError, match="mean 'sound'"):
    signals.Asked(times=0)["sond"]


def test_the_table_keeps_its_rules():
  for name, signal in signals.SIGNALS.items():
    assert set(signal.axes) <= set("thwcnl"), name
    assert "t" not in signal.axes or signal.axes.startswith("t"), name
    assert ("h" in signal.axes) == ("hw" in signal.axes), name
    assert signal.resize in (None, "linear", "nearest"), name
    assert not signal.between or "t" in signal.axes, name
