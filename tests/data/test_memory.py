"""Data in device memory: the same clips, inside jit."""

import os
import pathlib
import subprocess
import sys

import jax
import numbered
import numpy as np
import pytest

from vidgan_jax import config
from vidgan_jax.data import memory
from vidgan_jax.data import ops_np
from vidgan_jax.data import order
from vidgan_jax.data import signals
from vidgan_jax.tasks import generate


def make(ops="clip(3, stride=2)", source=None, **kwargs):
  kwargs = {"batch": 4, "seed": 1} | kwargs
  return memory.InMemory(
    numbered.Source() if source is None else source, ops, **kwargs
  )


@pytest.mark.parametrize(
  "ops",
  [
    "first(3, stride=2)",
    "middle(2) | center_crop(5, 7)",
    "resize(8) | first(4)",
    "first(4) | resize(8) | center_crop(6) | value_range(-1, 1)",
    "fps(4) | middle(3) | value_range(0, 1)",
  ],
)
def test_memory_agrees_with_numpy_where_nothing_is_random(ops):
  data, source = make(ops), numbered.Source()
  for step in (0, 3):
    batch = data.batch(step)
    index = order.shown(1, 7, np.arange(4 * step, 4 * step + 4))
    for row, i in enumerate(index):
      wanted = ops_np.build(ops)(source.example(i), 0)
      assert set(batch) == {"video", "times", "label"}
      for key, value in batch.items():
        np.testing.assert_allclose(value[row], wanted[key], atol=1e-6)
        assert value.dtype == wanted[key].dtype


def test_memory_random_ops_tell_the_truth():
  data = make("clip(3, stride=2) | crop(8, 10) | reverse | flip_lr")
  starts, corners, flips, reverses = set(), set(), 0, 0
  for step in range(50):
    batch = jax.device_get(data.batch(step))
    index = order.shown(1, 7, np.arange(4 * step, 4 * step + 4))
    for i, video, times in zip(index, batch["video"], batch["times"]):
      clip, frames, rows, columns = numbered.take(video.astype(int))
      assert clip == i
      np.testing.assert_allclose(times, [0, 0.25, 0.5], atol=1e-6)
      flips += columns[0] > columns[1]
      reverses += frames[0] > frames[1]
      frames, columns = np.sort(frames), np.sort(columns)
      assert np.diff(frames).tolist() == [2, 2]
      assert len(rows) == 8 and (np.diff(columns) == 1).all()
      starts.add(frames[0])
      corners.add((rows[0], columns[0]))
  assert starts == set(range(5))
  assert corners == {(r, c) for r in range(3) for c in range(3)}
  assert 60 < flips < 140 and 60 < reverses < 140


def test_memory_sparse():
  data = make("sparse(3, 6)", batch=8)
  for step in range(10):
    batch = jax.device_get(data.batch(step))
    frames = batch["video"][:, :, 0, 0, 1].astype(int)
    assert (np.diff(frames) > 0).all()
    start = frames - np.round(batch["times"] * 8).astype(int)
    assert (start == start[:, :1]).all() and (start >= 0).all()
    assert (frames < start + 6).all()
  assert data.seconds == pytest.approx(5 / 8)


def test_memory_resumes():
  straight = make("clip(3) | flip_lr").batches()
  straight = [jax.device_get(next(straight)) for _ in range(6)]
  again = make("clip(3) | flip_lr").batches(4)
  for wanted in straight[4:]:
    jax.tree.map(np.testing.assert_array_equal, next(again), wanted)
  other = jax.device_get(make("clip(3) | flip_lr", seed=2).batch(0))
  assert not np.array_equal(other["video"], straight[0]["video"])


def test_memory_does_not_depend_on_the_batch_size():
  # Positions decide: two batches of 4 are one of 8.
  small, large = (
    make("clip(3) | crop(4)"),
    make("clip(3) | crop(4)", batch=8),
  )
  two = [jax.device_get(small.batch(s))["video"] for s in (2, 3)]
  np.testing.assert_array_equal(np.concatenate(two), large.batch(1)["video"])


def test_memory_prepares_and_counts():
  data = make(
    "clip(5) | value_range(-1, 1)",
    numbered.Source(lengths=(9, 4, 5, 3, 7)),
    prepare=generate.make().prepare,
  )
  assert (data.size, data.dropped, data.num_classes) == (3, 2, 3)
  assert data.class_names == ("a", "b", "c")
  batch = data.batch(0)
  assert set(batch) == {"given", "target", "times"}
  assert batch["target"].shape == (4, 5, 10, 12, 4)
  assert batch["given"]["label"].dtype == np.int32
  clips = {
    int(c)
    for s in range(3)
    for c in np.round((data.batch(s)["target"][:, 0, 0, 0, 0] + 1) * 127.5)
  }
  assert clips == {0, 2, 4}


def test_memory_decodes_at_load():
  class Encoded(numbered.Source):
    def example(self, i):
      example = super().example(i)
      video = example.pop("video")[..., :3]
      return example | {
        "frames": np.array([numbered.encode(f) for f in video], object)
      }

  plain = make("clip(4) | flip_lr").batch(2)
  encoded = make("clip(4) | flip_lr", Encoded()).batch(2)
  np.testing.assert_array_equal(encoded["video"], plain["video"][..., :3])
  assert encoded["video"].dtype == np.uint8


def test_memory_passes_over_bad_clips():
  class Bad(numbered.Source):
    def example(self, i):
      if i == 2:
        raise OSError("the disk is wet")
      return super().example(i)

  lines = []
  data = make(source=Bad(), log=lines.append, name="clips")
  assert data.size == 6 and list(data.refused) == [2]
  assert "the disk is wet" in lines[0] and "clip 2" in lines[0]

  class Worse(numbered.Source):
    def example(self, i):
      raise OSError("the disk is wet")

  with pytest.raises(signals.DataError, match="none.*OSError: the disk is wet"):
    make(source=Worse())


@pytest.mark.parametrize(
  "ops, wanted",
  [
    ("value_range(-1, 1)", "chooses no frames.*clip"),
    ("flip_lr | clip(3)", "comes before flip_lr"),
    ("clip(3) | flip_lr | resize(4)", "flip_lr comes before it.*put resize"),
    ("clip(3) | fps(4)", "clip comes before it.*put fps"),
  ],
)
def test_ops_that_memory_cannot_do(ops, wanted):
  with pytest.raises(config.ConfigError, match=wanted):
    make(ops)


def test_memory_errors():
  mixed = numbered.Source()
  mixed._sizes[3] = (20, 24)
  with pytest.raises(
    signals.DataError, match="10x12x4.*clip 3.*20x24x4.*resize"
  ):
    make(source=mixed)
  assert make("clip(3) | resize(5)", mixed).size == 7
  with pytest.raises(signals.DataError, match="longest has 9.*needs 12"):
    make("clip(12)")
  with pytest.raises(signals.DataError, match="is empty"):
    make(source=numbered.Source(lengths=()))
  with pytest.raises(signals.DataError, match="10x12.*height=11"):
    make("clip(3) | crop(11)")
  with pytest.raises(signals.DataError, match="data.memory=False"):
    make(limit=1000)
  with pytest.raises(signals.DataError, match="clip 2 .* is 2, out of range"):
    make(source=numbered.Source(num_classes=2))


def test_known_lengths_save_the_reading():
  source = numbered.Source(lengths=(9, 4, 5))
  source.lengths = np.array([9, 4, 5])
  data = make("clip(5)", source)
  assert (data.size, data.dropped, source.reads) == (2, 1, [0, 2])
  with pytest.raises(signals.DataError, match="longest has 9"):
    make("clip(10)", source)


def test_long_loads_are_reported(monkeypatch):
  clock = iter(range(0, 1000, 3))
  monkeypatch.setattr(memory.time, "monotonic", lambda: next(clock))
  lines = []
  make(log=lines.append, name="clips")
  assert lines and lines[0].startswith("Loading clips: 2/7 clips")
  assert all("clips/s" in x and "s left" in x for x in lines)


SHARDED = """
import jax, numpy as np
import test_memory
from vidgan_jax import config
from vidgan_jax.data import memory
from vidgan_jax.data import oplang
from vidgan_jax.data import ops_np
from vidgan_jax.data import order
from vidgan_jax.data import signals
assert len(jax.devices()) == 4
auto = (jax.sharding.AxisType.Auto,) * 2
for sizes, axes in (((4, 1), ('a', 'b')), ((2, 2), 'a'), ((2, 2), ('a', 'b'))):
  mesh = jax.make_mesh(sizes, ('a', 'b'), axis_types=auto)
  sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(axes))
  kw = dict(ops='clip(3) | crop(4) | flip_lr', batch=8)
  plain = test_memory.make(**kw).batch(3)
  cut = test_memory.make(**kw, sharding=sharding).batch(3)
  jax.tree.map(np.testing.assert_array_equal, cut, plain)
  assert all(x.sharding.is_equivalent_to(sharding, x.ndim)
             for x in jax.tree.leaves(cut))
try:
  test_memory.make(batch=6, sharding=sharding)
except config.ConfigError as e:
  assert 'config.batch is 6' in str(e) and '4 devices' in str(e)
  print('done')
"""


def test_memory_over_a_mesh():
  flags = "--xla_force_host_platform_device_count=4"

  root = pathlib.Path(__file__).parents[1]
  out = subprocess.run(
    [sys.executable, "-c", SHARDED],
    capture_output=True,
    text=True,
    env=os.environ
    | {
      "XLA_FLAGS": flags,
      "JAX_PLATFORMS": "cpu",
      "PYTHONPATH": f"{root}/data:{root}:{root.parent}",
    },
  )
  assert out.stdout.strip() == "done", out.stderr
