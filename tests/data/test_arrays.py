"""The order of clips, the ops in NumPy and jax, and data in memory."""

import io
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
from PIL import Image
import pytest

from vidgan_jax import config
from vidgan_jax.data import arrays
from vidgan_jax.tasks import generate


class Source:
  """Clips whose pixels tell (clip, frame, row, column) in four channels."""

  def __init__(self, lengths=(9,) * 7, size=(10, 12), num_classes=3):
    self._lengths, self._sizes = lengths, [size] * len(lengths)
    self.num_classes = num_classes
    self.class_names = tuple("abcdef"[:num_classes])
    self.reads = []

  def __len__(self):
    return len(self._lengths)

  def read(self, indices):
    self.reads.extend(indices)
    return [self.example(int(i)) for i in indices]

  def example(self, i):
    t, (h, w) = self._lengths[i], self._sizes[i]
    grid = np.meshgrid(i, range(t), range(h), range(w), indexing="ij")
    return {
      "video": np.stack(grid, -1)[0].astype(np.uint8),
      "times": (np.arange(t) / 8).astype(np.float32),
      "label": np.int32(i % 3),
      "caption": "not for a batch",
    }


def encode(picture, kind="PNG"):
  out = io.BytesIO()
  Image.fromarray(picture).save(out, kind)
  return out.getvalue()


def take(video):
  """(clips, frames, rows, columns) that the pixels of (T, H, W, 4) tell."""
  return (
    video[0, 0, 0, 0],
    video[:, 0, 0, 1],
    video[0, :, 0, 2],
    video[0, 0, :, 3],
  )


# -------------------------------------------------------------------- order


def test_each_epoch_is_a_permutation_of_its_own():
  n = 97
  epochs = arrays.order(3, n, np.arange(5 * n)).reshape(5, n)
  np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(n), (5, 1)))
  # Two random permutations agree in one place on average.
  for a in range(5):
    for b in range(a):
      assert np.sum(epochs[a] == epochs[b]) < 10
  assert np.sum(epochs[0] == arrays.order(4, n, np.arange(n))) < 10
  assert np.sum(epochs[0] == np.arange(n)) < 10


def test_order_depends_on_the_position_alone():
  positions = np.random.default_rng(0).integers(0, 10**6, 500)
  once = arrays.order(1, 13, positions)
  np.testing.assert_array_equal(
    once, [arrays.order(1, 13, np.array(p)) for p in positions]
  )
  assert arrays.order(1, 13, positions.reshape(50, 10)).shape == (50, 10)


def test_order_is_the_same_on_every_machine():
  # Golden: a change would change what a resumed run sees.
  assert arrays.order(0, 6, np.arange(8)).tolist() == [3, 2, 5, 4, 0, 1, 1, 4]


# --------------------------------------------------------------------- plan


@pytest.mark.parametrize(
  "text, wanted",
  [
    ("clip(0)", "frames=0"),
    ("clip(2.5)", "whole number"),
    ("clip(True)", "whole number"),
    ("clip(4, stride=0)", "stride=0"),
    ("sparse(5, 4)", "sparse.*window of 4"),
    ("clip(4) | first(2)", "more than once"),
    ("value_range(1, -1)", "lo < hi"),
    ("value_range('a', 1)", "a number"),
    ("fps(0)", "above 0"),
    ("shift_time(-1)", "0 or more"),
    ("crop(4, 0)", "width=0"),
    ("flop", "'unknown op|unknown op"),
  ],
)
def test_ops_that_make_no_sense(text, wanted):
  with pytest.raises(config.ConfigError, match=wanted):
    arrays.plan(text)


def test_min_frames():
  count = lambda text: arrays.min_frames(arrays.plan(text))
  assert count("clip(4, stride=3)") == 10
  assert count("resize(8) | sparse(3, 16)") == 16
  assert count("flip_lr") == 1
  assert count("fps(4) | clip(4)") == 1  # only the clip's times can say


# ------------------------------------------------------------- ops in NumPy


def run(text, seed=0, example=None):
  return arrays.build(text)(example or Source().example(5), seed)


@pytest.mark.parametrize(
  "text, frames",
  [
    ("first(3)", [0, 1, 2]),
    ("first(3, stride=2)", [0, 2, 4]),
    ("middle(3)", [3, 4, 5]),
    ("middle(4, stride=2)", [1, 3, 5, 7]),
    ("clip(9)", list(range(9))),
    ("sparse(9, 9)", list(range(9))),
  ],
)
def test_choice_of_frames(text, frames):
  got = run(text)
  clip, shown, _, _ = take(got["video"])
  assert clip == 5 and shown.tolist() == frames
  np.testing.assert_allclose(
    got["times"], (np.array(frames) - frames[0]) / 8, atol=1e-6
  )
  assert sorted(got) == ["label", "times", "video"]


def test_random_choices_cover_all_and_stay_inside():
  starts, firsts, seen = set(), set(), set()
  for seed in range(200):
    frames = take(run("clip(3, stride=2)", seed)["video"])[1]
    assert np.diff(frames).tolist() == [2, 2]
    starts.add(int(frames[0]))
    got = run("sparse(3, 6)", seed)
    frames = take(got["video"])[1].astype(int)
    assert (np.diff(frames) > 0).all() and frames[-1] - frames[0] < 6
    # Times count from the window, in which the first frame need not be chosen.
    start = frames - np.round(got["times"] * 8).astype(int)
    assert len(set(start)) == 1 and 0 <= start[0] <= 3
    assert frames[-1] < start[0] + 6
    firsts.add(int(frames[0] - start[0]))
    seen.update(frames.tolist())
  assert starts == set(range(5))
  assert firsts == set(range(4)) and seen == set(range(9))


def test_crop_bounds():
  corners = set()
  for seed in range(300):
    got = run("crop(8, 10)", seed)["video"]
    assert got.shape == (9, 8, 10, 4)
    _, _, rows, columns = take(got)
    assert (np.diff(rows) == 1).all() and (np.diff(columns) == 1).all()
    corners.add((int(rows[0]), int(columns[0])))
  assert corners == {(r, c) for r in range(3) for c in range(3)}
  _, _, rows, columns = take(run("center_crop(5)")["video"])
  assert rows.tolist() == [2, 3, 4, 5, 6]
  assert columns.tolist() == [3, 4, 5, 6, 7]


def test_flip_and_reverse_take_the_whole_clip():
  flips = reverses = 0
  for seed in range(100):
    got = run("first(4, stride=2) | reverse | flip_lr", seed)
    _, frames, _, columns = take(got["video"])
    assert columns.tolist() in (list(range(12)), list(range(12))[::-1])
    assert frames.tolist() in ([0, 2, 4, 6], [6, 4, 2, 0])
    assert (np.diff(got["times"]) > 0).all()
    flips += int(columns[0] == 11)
    reverses += int(frames[0] == 6)
  assert 30 < flips < 70 and 30 < reverses < 70


def test_reverse_keeps_the_gaps():
  example = Source().example(0)
  example["times"] = np.cumsum(np.arange(9)).astype(np.float32)
  got = next(
    g
    for g in (run("reverse", s, dict(example)) for s in range(9))
    if g["video"][0, 0, 0, 1] == 8
  )
  np.testing.assert_allclose(np.diff(got["times"]), np.arange(8, 0, -1))
  assert got["times"][0] == 0


def test_value_range_and_shift_time():
  example = {
    "video": np.array([0, 51, 255], np.uint8).reshape(1, 1, 3, 1),
    "times": np.zeros(1, np.float32),
  }
  got = run("value_range(-1, 1)", 0, example)["video"]
  assert got.dtype == np.float32
  np.testing.assert_allclose(got.ravel(), [-1, -0.6, 1], atol=1e-7)
  assert got.max() == 1
  shifts = [run("shift_time(2)", s, example)["times"][0] for s in range(50)]
  assert 0 <= min(shifts) < 0.3 and 1.7 < max(shifts) < 2


def test_fps():
  got = run("fps(4)")  # from 8 frames a second
  assert take(got["video"])[1].tolist() == [0, 2, 4, 6, 8]
  np.testing.assert_allclose(got["times"], np.arange(5) / 4)
  got = run("fps(16) | first(5)")
  assert np.abs(np.diff(take(got["video"])[1].astype(int))).max() <= 1
  np.testing.assert_allclose(got["times"], np.arange(5) / 16)


@pytest.mark.parametrize(
  "size, wanted", [(5, (5, 6)), (20, (20, 24)), (10, (10, 12)), (7, (7, 8))]
)
def test_resize_keeps_the_shape_of_the_picture(size, wanted):
  assert run(f"resize({size})")["video"].shape == (9, *wanted, 4)


def test_resize_is_antialiased():
  # Stripes of one pixel: any filter that skips pixels would keep them.
  video = np.zeros((1, 32, 32, 3), np.uint8)
  video[:, :, ::2] = 255
  example = {"video": video, "times": np.zeros(1, np.float32)}
  got = run("resize(8)", 0, example)["video"].astype(int)
  assert np.abs(got[:, :, 1:-1] - 127.5).max() < 12


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_encoded_frames_are_decoded_after_the_choice(kind):
  video = np.repeat(np.arange(9, dtype=np.uint8) * 20, 8 * 8 * 3)
  video = video.reshape(9, 8, 8, 3)
  frames = np.array([encode(f, kind) for f in video], object)
  frames[5:] = b"no picture at all"
  example = {"frames": frames, "times": np.arange(9, dtype=np.float32)}
  got = run("first(3, stride=2) | resize(4)", 0, example)["video"]
  np.testing.assert_array_equal(got[:, 0, 0, 0], [0, 40, 80])
  with pytest.raises(arrays.DataError, match="picture 5"):
    run("resize(4)", 0, example)


@pytest.mark.parametrize(
  "text, words",
  [
    ("clip(5, stride=3)", ["9 frames", "needs 13", "stride"]),
    ("sparse(2, 10)", ["9 frames", "needs 10", "span"]),
    ("crop(11)", ["10x12", "height=11", "resize(11)"]),
    ("resize(6) | center_crop(6, 8)", ["6x7", "width=8"]),
    ("fps(2) | clip(4)", ["3 frames", "needs 4"]),
  ],
)
def test_errors_name_both_sizes(text, words):
  example = Source().example(0)
  for fail in (
    lambda: run(text, 0, example),
    lambda: arrays.check_usable(example, arrays.plan(text)),
  ):
    with pytest.raises(arrays.DataError) as e:
      fail()
    assert all(word in str(e.value) for word in words), str(e.value)


def test_check_usable_reads_headers_only():
  noise = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)
  frames = np.array(
    [encode(noise)[:80], b"", b""], object
  )  # cut after the header
  example = {"frames": frames, "times": np.zeros(3)}
  arrays.check_usable(example, arrays.plan("crop(10)"))
  with pytest.raises(arrays.DataError, match="10x12"):
    arrays.check_usable(example, arrays.plan("crop(11)"))
  with pytest.raises(arrays.DataError, match="3 frames and 2 times"):
    arrays.check_usable(example | {"times": np.zeros(2)}, [])


# ------------------------------------------------------------------- memory


def memory(ops="clip(3, stride=2)", source=None, **kwargs):
  kwargs = {"batch": 4, "seed": 1} | kwargs
  return arrays.Memory(Source() if source is None else source, ops, **kwargs)


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
  data, source = memory(ops), Source()
  for step in (0, 3):
    batch = data.batch(step)
    index = arrays.order(1, 7, np.arange(4 * step, 4 * step + 4))
    for row, i in enumerate(index):
      wanted = arrays.build(ops)(source.example(i), 0)
      assert set(batch) == {"video", "times", "label"}
      for key, value in wanted.items():
        np.testing.assert_allclose(batch[key][row], value, atol=1e-6)
        assert batch[key].dtype == value.dtype


def test_memory_random_ops_tell_the_truth():
  data = memory("clip(3, stride=2) | crop(8, 10) | reverse | flip_lr")
  starts, corners, flips, reverses = set(), set(), 0, 0
  for step in range(50):
    batch = jax.device_get(data.batch(step))
    index = arrays.order(1, 7, np.arange(4 * step, 4 * step + 4))
    for i, video, times in zip(index, batch["video"], batch["times"]):
      clip, frames, rows, columns = take(video.astype(int))
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
  data = memory("sparse(3, 6)", batch=8)
  for step in range(10):
    batch = jax.device_get(data.batch(step))
    frames = batch["video"][:, :, 0, 0, 1].astype(int)
    assert (np.diff(frames) > 0).all()
    start = frames - np.round(batch["times"] * 8).astype(int)
    assert (start == start[:, :1]).all() and (start >= 0).all()
    assert (frames < start + 6).all()
  assert data.seconds == pytest.approx(5 / 8)


def test_memory_resumes():
  straight = memory("clip(3) | flip_lr").batches()
  straight = [jax.device_get(next(straight)) for _ in range(6)]
  again = memory("clip(3) | flip_lr").batches(4)
  for wanted in straight[4:]:
    jax.tree.map(np.testing.assert_array_equal, next(again), wanted)
  other = jax.device_get(memory("clip(3) | flip_lr", seed=2).batch(0))
  assert not np.array_equal(other["video"], straight[0]["video"])


def test_memory_does_not_depend_on_the_batch_size():
  # Positions decide: two batches of 4 are one of 8.
  small, large = (
    memory("clip(3) | crop(4)"),
    memory("clip(3) | crop(4)", batch=8),
  )
  two = [jax.device_get(small.batch(s))["video"] for s in (2, 3)]
  np.testing.assert_array_equal(np.concatenate(two), large.batch(1)["video"])


def test_memory_prepares_and_counts():
  data = memory(
    "clip(5) | value_range(-1, 1)",
    Source(lengths=(9, 4, 5, 3, 7)),
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
  class Encoded(Source):
    def example(self, i):
      example = super().example(i)
      video = example.pop("video")[..., :3]
      return example | {"frames": np.array([encode(f) for f in video], object)}

  plain = memory("clip(4) | flip_lr").batch(2)
  encoded = memory("clip(4) | flip_lr", Encoded()).batch(2)
  np.testing.assert_array_equal(encoded["video"], plain["video"][..., :3])
  assert encoded["video"].dtype == np.uint8


def test_memory_passes_over_bad_clips():
  class Bad(Source):
    def example(self, i):
      if i == 2:
        raise OSError("the disk is wet")
      return super().example(i)

  lines = []
  data = memory(source=Bad(), log=lines.append, name="clips")
  assert data.size == 6 and list(data.refused) == [2]
  assert "the disk is wet" in lines[0] and "clip 2" in lines[0]

  class Worse(Source):
    def example(self, i):
      raise OSError("the disk is wet")

  with pytest.raises(arrays.DataError, match="none.*OSError: the disk is wet"):
    memory(source=Worse())


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
    memory(ops)


def test_memory_errors():
  mixed = Source()
  mixed._sizes[3] = (20, 24)
  with pytest.raises(
    arrays.DataError, match="10x12x4.*clip 3.*20x24x4.*resize"
  ):
    memory(source=mixed)
  assert memory("clip(3) | resize(5)", mixed).size == 7
  with pytest.raises(arrays.DataError, match="longest has 9.*needs 12"):
    memory("clip(12)")
  with pytest.raises(arrays.DataError, match="is empty"):
    memory(source=Source(lengths=()))
  with pytest.raises(arrays.DataError, match="10x12.*height=11"):
    memory("clip(3) | crop(11)")
  with pytest.raises(arrays.DataError, match="data.memory=False"):
    memory(limit=1000)
  with pytest.raises(arrays.DataError, match="clip 2 .* is 2, out of range"):
    memory(source=Source(num_classes=2))


def test_known_lengths_save_the_reading():
  source = Source(lengths=(9, 4, 5))
  source.lengths = np.array([9, 4, 5])
  data = memory("clip(5)", source)
  assert (data.size, data.dropped, source.reads) == (2, 1, [0, 2])
  with pytest.raises(arrays.DataError, match="longest has 9"):
    memory("clip(10)", source)


def test_long_loads_are_reported(monkeypatch):
  clock = iter(range(0, 1000, 3))
  monkeypatch.setattr(arrays.time, "monotonic", lambda: next(clock))
  lines = []
  memory(log=lines.append, name="clips")
  assert lines and lines[0].startswith("Loading clips: 2/7 clips")
  assert all("clips/s" in x and "s left" in x for x in lines)


SHARDED = """
import jax, numpy as np
import test_arrays
from vidgan_jax import config
from vidgan_jax.data import arrays
assert len(jax.devices()) == 4
auto = (jax.sharding.AxisType.Auto,) * 2
for sizes, axes in (((4, 1), ('a', 'b')), ((2, 2), 'a'), ((2, 2), ('a', 'b'))):
  mesh = jax.make_mesh(sizes, ('a', 'b'), axis_types=auto)
  sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(axes))
  kw = dict(ops='clip(3) | crop(4) | flip_lr', batch=8)
  plain = test_arrays.memory(**kw).batch(3)
  cut = test_arrays.memory(**kw, sharding=sharding).batch(3)
  jax.tree.map(np.testing.assert_array_equal, cut, plain)
  assert all(x.sharding.is_equivalent_to(sharding, x.ndim)
             for x in jax.tree.leaves(cut))
try:
  test_arrays.memory(batch=6, sharding=sharding)
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
