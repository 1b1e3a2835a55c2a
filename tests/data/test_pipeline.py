"""tf.data batches: pure in (seed, step), disjoint, and honest on bad data."""

import importlib.util
import io
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
from PIL import Image
import pytest

from vidgan_jax import config
from vidgan_jax import errors
from vidgan_jax.data import memory
from vidgan_jax.data import order
from vidgan_jax.data import pipeline
from vidgan_jax.data import signals
from vidgan_jax.tasks import generate

needs_tf = pytest.mark.skipif(
  not importlib.util.find_spec("tensorflow"),
  reason="TensorFlow is not installed",
)


class Source:
  """Clips whose three channels tell clip, frame and column."""

  class_names = ("a", "b", "c")

  def __init__(self, n=7, frames=9, bad=(), encoded=False, num_classes=3):
    self._n, self._frames, self._bad = n, frames, dict(bad)
    self.num_classes = num_classes
    self.spec = {
      "times": ((None,), np.float32),
      "label": ((), np.int32),
      "caption": ((), object),
    }
    if encoded:
      self.spec["frames"] = ((None,), np.dtype(object))
    else:
      self.spec["video"] = ((None, 8, 10, 3), np.uint8)

  def __len__(self):
    return self._n

  def read(self, indices):
    return [self.example(int(i)) for i in indices]

  def example(self, i):
    frames = self._frames
    if isinstance(self._bad.get(i), Exception):
      raise self._bad[i]
    if isinstance(self._bad.get(i), int):
      frames = self._bad[i]
    grid = np.meshgrid([i], range(frames), range(8), range(10), indexing="ij")
    video = np.stack([grid[0], grid[1], grid[3]], -1)[0].astype(np.uint8)
    out = {
      "times": (np.arange(frames) / 8).astype(np.float32),
      "label": np.int32(i % 3),
      "caption": "dropped",
    }
    if "video" in self.spec:
      return out | {"video": video}
    out["frames"] = np.array([png(f) for f in video], object)
    if self._bad.get(i) == "picture":
      out["frames"][4] = out["frames"][4][:60]
    return out


def png(picture):
  out = io.BytesIO()
  Image.fromarray(picture).save(out, "PNG")
  return out.getvalue()


def make(ops="clip(3, stride=2) | flip_lr", source=None, **kwargs):
  source = Source() if source is None else source
  kwargs = {"batch": 4, "seed": 1, "threads": 2, "log": lambda s: None} | kwargs
  return pipeline.Pipeline(source, ops, **kwargs)


def take(data, steps, start=0):
  iterator = data.batches(start)
  out = [next(iterator) for _ in range(steps)]
  iterator.close()
  return out


def equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def indices(batches):
  return [int(c) for b in batches for c in b["video"][:, 0, 0, 0, 0]]


# ----------------------------------------------------------------- batches


@needs_tf
@pytest.mark.parametrize("encoded", [False, True])
def test_batches_follow_the_order_and_tell_the_truth(encoded):
  got = take(make(source=Source(encoded=encoded)), 7)
  assert indices(got) == order.shown(1, 7, np.arange(28)).tolist()
  for batch in got:
    assert set(batch) == {"video", "times", "label"}
    assert batch["video"].dtype == np.uint8
    assert batch["times"].dtype == np.float32
    assert batch["label"].dtype == np.int32
    frames = batch["video"][:, :, 0, 0, 1].astype(int)
    assert (np.diff(frames) == 2).all()
    np.testing.assert_allclose(batch["times"], [[0, 0.25, 0.5]] * 4)
    assert (batch["label"] == batch["video"][:, 0, 0, 0, 0] % 3).all()


@needs_tf
def test_resume_and_seed():
  ops = "sparse(3, 6) | crop(6) | reverse | flip_lr | value_range(-1, 1)"
  straight = take(make(ops), 6)
  equal(take(make(ops), 3, start=3), straight[3:])
  data = make(ops)
  equal(
    take(data, 1, start=4) + take(data, 1, start=2), [straight[4], straight[2]]
  )
  assert not np.array_equal(
    take(make(ops, seed=2), 1)[0]["video"], straight[0]["video"]
  )
  # The same clip is not cut the same way in the next epoch.
  assert not np.array_equal(straight[0]["times"], straight[3]["times"])


class Part:
  """Stands for the sharding of one of several processes."""

  def __init__(self, *rows):
    self._rows = rows

  def shard_shape(self, shape):
    return shape

  def addressable_devices_indices_map(self, shape):
    return {i: (slice(*r),) for i, r in enumerate(self._rows)}


@needs_tf
def test_processes_share_one_batch(monkeypatch):
  monkeypatch.setattr(
    jax, "make_array_from_process_local_data", lambda s, x, shape: (x, shape)
  )
  whole = take(make(batch=8), 3)
  for parts in (
    [Part((0, 8))],
    [Part((0, 4)), Part((4, 8))],
    [Part((2, 4), (0, 2)), Part((4, 6), (6, 8))],
    # Both hold the same rows: the mesh has an axis over which no batch is cut.
    [Part((0, 8)), Part((0, 4), (0, 4), (4, 8), (4, 8))],
  ):
    got = [take(make(batch=8, sharding=part), 3) for part in parts]
    for step in range(3):
      local = [g[step]["video"][0] for g in got]
      assert {g[step]["video"][1] for g in got} == {whole[step]["video"].shape}
      if len(local[0]) < 8:
        local = [np.concatenate(local)]
      for video in local:
        np.testing.assert_array_equal(video, whole[step]["video"])


@needs_tf
def test_prepare_and_facts():
  data = make(
    "clip(3) | value_range(-1, 1) | shift_time(0.5)",
    prepare=generate.make().prepare,
  )
  assert (data.size, data.dropped, data.num_classes) == (7, 0, 3)
  assert data.class_names == ("a", "b", "c")
  assert data.seconds == pytest.approx(0.75)
  batch = take(data, 1)[0]
  assert set(batch) == {"given", "target", "times"}
  assert batch["target"].shape == (4, 3, 8, 10, 3)
  assert batch["target"].dtype == np.float32
  assert batch["given"]["label"].shape == (4,)
  data = make(prepare=generate.make(label=False).prepare)
  assert take(data, 1)[0]["given"] == {}


@needs_tf
def test_the_two_ways_agree_where_nothing_is_random():
  ops = "middle(3, stride=2) | center_crop(6) | value_range(-1, 1)"
  prepare = generate.make().prepare
  one = take(make(ops, prepare=prepare), 4)
  two = memory.InMemory(Source(), ops, batch=4, seed=1, prepare=prepare)
  for step, batch in enumerate(one):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
      batch,
      jax.device_get(two.batch(step)),
    )
  assert two.seconds == make(ops).seconds


@needs_tf
def test_sharded_batch():
  mesh = jax.make_mesh(
    (1,),
    ("data",),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=jax.devices()[:1],
  )
  spec = jax.sharding.PartitionSpec("data")
  sharding = jax.sharding.NamedSharding(mesh, spec)
  got = take(make(sharding=sharding), 2)
  assert isinstance(got[0]["video"], jax.Array)
  assert got[0]["video"].sharding == sharding
  equal(got, take(make(), 2))


# --------------------------------------------------------------- bad records


@needs_tf
@pytest.mark.parametrize(
  "bad, words",
  [
    (OSError("the disk is wet"), "OSError: the disk is wet"),
    (4, "4 frames.*needs 5"),
  ],
)
def test_a_bad_record_is_replaced_by_the_next(bad, words):
  lines = []
  data = make(source=Source(bad={2: bad}), log=lines.append, name="clips")
  got = take(data, 7)
  wanted = [3 if i == 2 else i for i in order.shown(1, 7, np.arange(28))]
  assert indices(got) == wanted
  assert list(data.refused) == [2]
  assert len(lines) == 1 and lines[0].startswith("clips: clip 2")
  assert re.search(words, data.refused[2])
  # Pure, whatever was met before.
  equal(take(data, 3, start=4), got[4:])
  equal(take(make(source=Source(bad={2: bad})), 3, start=4), got[4:])


@needs_tf
def test_a_picture_that_does_not_decode_is_replaced():
  # Frame 4 of clip 2: only some of the choices hold it.
  source = Source(bad={2: "picture"}, encoded=True)
  data = make(source=source)
  got, good = take(data, 14), take(make(source=Source(encoded=True)), 14)
  assert list(data.refused) == [2]
  assert re.match("Invalid PNG data", data.refused[2])
  kept = replaced = 0
  for batch, wanted in zip(got, good):
    for row in range(4):
      frames = wanted["video"][row, :, 0, 0, 1]
      if wanted["video"][row, 0, 0, 0, 0] == 2 and 4 in frames:
        assert batch["video"][row, 0, 0, 0, 0] == 3
        replaced += 1
      else:
        equal(batch["video"][row], wanted["video"][row])
        kept += wanted["video"][row, 0, 0, 0, 0] == 2
  assert kept and replaced
  equal(take(make(source=source), 4, start=10), got[10:])


@needs_tf
@pytest.mark.parametrize(
  "source, ops, words",
  [
    (
      Source(bad={i: OSError("the disk is wet") for i in range(7)}),
      "clip(3)",
      "clips in a row.*the disk is wet",
    ),
    (Source(frames=4), "clip(5)", "4 frames and clip.*needs 5"),
    (Source(), "clip(3) | crop(9)", "8x10.*height=9.*resize"),
    (Source(), "fps(1) | clip(3)", "2 frames and clip.*needs 3"),
    (Source(num_classes=2), "clip(3)", "label of clip .* is 2, out of range"),
  ],
)
def test_errors_are_sentences(source, ops, words):
  data = make(ops, source, name="clips")
  with pytest.raises(signals.DataError, match=words) as e:
    take(data, 3)
  assert "clips" in str(e.value) and "\n" not in str(e.value)
  assert len(str(e.value)) < 500


@needs_tf
def test_sizes_that_differ():
  class Mixed(Source):
    def __init__(self):
      super().__init__()
      self.spec["video"] = ((None, None, None, 3), np.uint8)

    def example(self, i):
      example = super().example(i)
      return example | {"video": example["video"][:, : 8 - i % 2]}

  with pytest.raises(signals.DataError, match=r"7, 10.*8, 10.*resize"):
    take(make("clip(3)", Mixed()), 2)
  assert take(make("clip(3) | resize(6) | center_crop(6)", Mixed()), 2)


@needs_tf
def test_known_lengths_are_used():
  source = Source(bad={1: 4, 5: 2})
  source.lengths = np.array([9, 4, 9, 9, 9, 2, 9])
  lines = []
  data = make(source=source, log=lines.append)
  assert (data.size, data.dropped) == (5, 2) and "2 of 7" in lines[0]
  assert sorted(indices(take(data, 5))) == sorted([0, 2, 3, 4, 6] * 4)
  assert not data.refused


@needs_tf
def test_ops_need_a_choice_of_frames():
  with pytest.raises(config.ConfigError, match="chooses no frames"):
    make("flip_lr")


# ------------------------------------------------------------ opening things


def test_make_source_and_create():
  data = config.default().data
  data.options = dict(size=5, resolution=16, frames=4)
  data.ops, data.memory = "clip(3) | value_range(-1, 1)", True
  assert len(pipeline.make_source(data, "test")) == 5
  made = pipeline.create(data, batch=2)
  assert isinstance(made, memory.InMemory)
  assert next(made.batches())["video"].shape == (2, 3, 16, 16, 3)
  data.options.nonsense = 3
  with pytest.raises(ValueError, match="nonsense"):
    pipeline.make_source(data, "train")
  data.name = "sprits"
  with pytest.raises(errors.UserError, match="config.data.name.*'sprites'"):
    pipeline.make_source(data, "train")


def script(code, **env):
  root = pathlib.Path(__file__).parents[1]
  return subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    timeout=120,
    env=os.environ
    | {
      "JAX_PLATFORMS": "cpu",
      "PYTHONPATH": f"{root}/data:{root}:{root.parent}",
      "TF_CPP_MIN_LOG_LEVEL": "3",  # as the command sets them
      "TF_ENABLE_ONEDNN_OPTS": "0",
    }
    | env,
  )


def test_without_tensorflow():
  """Training from memory and evaluation need none; the rest says so."""
  out = script(
    'import sys; sys.modules["tensorflow"] = None\n'
    "import test_pipeline as t\n"
    "from vidgan_jax import config\n"
    "from vidgan_jax.data import memory, pipeline, reference\n"
    'm = memory.InMemory(t.Source(), "clip(3)", batch=2).batch(0)\n'
    'reference.Clips(t.Source(), "first(3)").read([0])\n'
    "from vidgan_jax.tasks import interpolate\n"
    'p = reference.Clips(t.Source(), "first(3)", task=interpolate.make())\n'
    'print(p.prepared([0])[0]["given"]["mask"][:, 0, 0, 0])\n'
    "try: t.make()\n"
    "except config.ConfigError as e: print(e)\n"
  )
  assert out.stdout.startswith("[0. 1. 0.]"), out.stderr
  assert "vidgan_jax[tf]" in out.stdout, out.stderr
  assert "config.data.memory=True" in out.stdout


@needs_tf
def test_leaves_quietly_while_reading_ahead():
  # Its threads and the end of Python would wait for each other.
  out = script(
    "import test_pipeline as t\n"
    "bad = t.Source(bad={2: 'picture'}, encoded=True)\n"
    "it = t.make('clip(9)', source=bad).batches(0)\n"
    "for _ in range(3): batch = next(it)\n"
    'print(batch["video"].shape)\n'
  )
  assert out.stdout.strip() == "(4, 9, 8, 10, 3)" and out.returncode == 0
  assert out.stderr == ""
