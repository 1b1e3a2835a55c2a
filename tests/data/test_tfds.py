"""Data sets of TFDS: read as they are, and made by our own builder."""

from concurrent import futures
import json
import os
import time

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds_lib

from vidgan_jax import errors
from vidgan_jax.data import tfds
from vidgan_jax.data import video_folder
from vidgan_jax.video import clips
from vidgan_jax.video import write


def noise(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


class Fake(tfds_lib.core.GeneratorBasedBuilder, skip_registration=True):
  """Writes given examples; the features are those of a published data set."""

  VERSION = tfds_lib.core.Version("1.0.0")
  name = "fake"

  def __init__(self, name, features, splits, **options):
    self.name, self._features, self._splits = name, features, splits
    super().__init__(**options)

  def _info(self):
    return tfds_lib.core.DatasetInfo(builder=self, features=self._features)

  def _split_generators(self, dl_manager):
    return {k: self._generate_examples(v) for k, v in self._splits.items()}

  def _generate_examples(self, examples):
    yield from enumerate(examples)


def build(directory, name, features, splits, file_format="array_record"):
  builder = Fake(
    name, features, splits, data_dir=directory, file_format=file_format
  )
  builder.download_and_prepare()
  return str(builder.data_path)


F = tfds_lib.features


def moving_mnist(directory, **options):
  """20 grey frames; a single split, called test."""
  videos = noise(6, 20, 8, 8, 1)
  features = F.FeaturesDict({"image_sequence": F.Video(shape=(20, 8, 8, 1))})
  splits = {"test": [{"image_sequence": v} for v in videos]}
  return build(directory, "moving_mnist", features, splits, **options), videos


def bair(directory):
  """A sequence of steps, each a dictionary with two cameras."""
  main, other = noise(3, 5, 8, 8, 3), noise(3, 5, 8, 8, 3, seed=1)
  features = F.Sequence(
    {
      "image_main": F.Image(shape=(8, 8, 3)),
      "image_aux1": F.Image(shape=(8, 8, 3)),
      "action": F.Tensor(shape=(4,), dtype=np.float32),
    },
    length=5,
  )
  rows = [
    {"image_main": a, "image_aux1": b, "action": np.ones((5, 4), np.float32)}
    for a, b in zip(main, other)
  ]
  path = build(directory, "bair", features, {"train": rows, "test": rows[:1]})
  return path, main, other


def ucf101(directory):
  """Clips of any length with a class."""
  lengths = [3, 9, 5, 12, 4, 7]
  videos = [noise(n, 8, 10, 3, seed=n) for n in lengths]
  features = F.FeaturesDict(
    {
      "video": F.Video(shape=(None, 8, 10, 3)),
      "label": F.ClassLabel(names=["run", "jump"]),
    }
  )
  rows = [{"video": v, "label": i % 2} for i, v in enumerate(videos)]
  splits = {"train": rows, "test": rows[:2]}
  return build(directory, "ucf101", features, splits), videos


def videos_of(source):
  examples = source.read(range(len(source)))
  return [clips.decode(e["frames"]) for e in examples], examples


def same(got, expected):
  """Equal as sets of clips: TFDS shuffles."""
  key = lambda v: v.tobytes()
  got, expected = sorted(got, key=key), sorted(expected, key=key)
  assert len(got) == len(expected)
  for a, b in zip(got, expected):
    np.testing.assert_array_equal(a, b)


def test_grey_sequences_become_colour(tmp_path):
  _, videos = moving_mnist(tmp_path)
  where = {"name": "moving_mnist", "data_dir": str(tmp_path)}
  source = tfds.make("test[:4]", **where, fps=10)
  assert len(source) == 4
  assert source.num_classes == 0
  assert source.spec["frames"] == ((20,), np.dtype(object))
  got, examples = videos_of(source)
  test = tfds.make("test[4:]", **where)
  got += videos_of(test)[0]
  same(got, [v.repeat(3, -1) for v in videos])
  np.testing.assert_allclose(examples[0]["times"], np.arange(20) / 10)
  assert examples[0]["times"].dtype == np.float32


def test_steps_with_cameras(tmp_path):
  path, main, other = bair(tmp_path)
  source = tfds.make("train", directory=path)
  same(videos_of(source)[0], main)
  source = tfds.make("train", directory=path, video="image_aux1")
  same(videos_of(source)[0], other)
  assert list(source.lengths) == [5, 5, 5]
  with pytest.raises(ValueError, match=r"videos are image_\w+, image_\w+:"):
    tfds.make("train", directory=path, video="action")


def test_labels_lengths_and_short_clips(tmp_path, caplog):
  path, videos = ucf101(tmp_path)
  source = tfds.make("train", directory=path)
  assert (source.num_classes, source.class_names) == (2, ("run", "jump"))
  got, examples = videos_of(source)
  same(got, videos)
  labels = {v.tobytes(): i % 2 for i, v in enumerate(videos)}
  for video, example in zip(got, examples):
    assert example["label"] == labels[video.tobytes()]
    assert example["label"].dtype == np.int32
    assert set(example) == set(source.spec)
  assert not os.path.exists(os.path.join(path, tfds._LENGTHS))
  assert list(source.lengths) == [len(v) for v in got]
  long = tfds.make("train", directory=path, min_frames=6)
  assert long.left_out == 3
  assert "3 of 6 clips" in caplog.text
  kept, _ = videos_of(long)
  same(kept, [v for v in videos if len(v) >= 6])
  assert list(long.lengths) == [len(v) for v in kept]
  with pytest.raises(ValueError, match="13 frames, the longest of 6 has 12"):
    tfds.make("train", directory=path, min_frames=13)
  # The count is kept beside the data, split by split.
  with open(os.path.join(path, tfds._LENGTHS)) as file:
    assert sorted(json.load(file)["lengths"]["train"]) == [3, 4, 5, 7, 9, 12]
  part = tfds.make("train[1:4]", directory=path, min_frames=2)
  np.testing.assert_array_equal(part.lengths, source.lengths[1:4])
  assert tfds.make("train", directory=path, label=None).num_classes == 0


def test_threads_may_share_a_source(tmp_path):
  path, _ = ucf101(tmp_path)
  source = tfds.make("train", directory=path)
  expected = [list(e["frames"]) for e in source.read(range(6))]
  source = tfds.make("train", directory=path)  # nothing is open yet
  order = np.random.default_rng(0).integers(0, 6, 600)
  with futures.ThreadPoolExecutor(8) as pool:
    got = list(pool.map(lambda i: source.read([i])[0]["frames"], order))
  assert all(list(g) == expected[i] for g, i in zip(got, order))


def test_tensors(tmp_path):
  videos = noise(4, 6, 8, 8, 1)
  features = F.FeaturesDict(
    {"clip": F.Tensor(shape=(6, 8, 8, 1), dtype=np.uint8)}
  )
  rows = {"train": [{"clip": v} for v in videos]}
  source = tfds.make("train", directory=build(tmp_path, "t", features, rows))
  got = source.read(range(4))
  same([e["video"] for e in got], [v.repeat(3, -1) for v in videos])
  assert source.spec["video"] == ((6, 8, 8, 3), np.dtype(np.uint8))


def test_what_is_missing_is_said_and_nothing_is_downloaded(tmp_path):
  begin = time.monotonic()
  with pytest.raises(ValueError, match="tfds build ucf101 --file_format=array"):
    tfds.make("train", name="ucf101", data_dir=str(tmp_path))
  assert time.monotonic() - begin < 5
  with pytest.raises(ValueError, match="is missing.*vidgan prepare"):
    tfds.make("train", directory=str(tmp_path / "no"))
  (tmp_path / "half.partial").mkdir()
  (tmp_path / "half").mkdir()
  with pytest.raises(ValueError, match="unfinished"):
    tfds.make("train", directory=str(tmp_path / "half"))
  with pytest.raises(ValueError, match="either `directory`"):
    tfds.make("train")
  path, _ = moving_mnist(tmp_path)
  with pytest.raises(ValueError, match="no split 'train', only test"):
    tfds.make("train", directory=path)
  source = tfds.make("test", directory=path)
  for bad in (-1, 6):
    with pytest.raises(IndexError, match="there are 6"):
      source.read([bad])


def test_sequential_formats_are_refused_with_the_way_out(tmp_path):
  path, _ = moving_mnist(tmp_path, file_format="tfrecord")
  with pytest.raises(ValueError, match="convert_format") as caught:
    tfds.make("test", directory=path)
  assert "array_record" in str(caught.value) and path in str(caught.value)


def test_a_damaged_record_is_named(tmp_path):
  path, _ = moving_mnist(tmp_path)
  (name,) = [n for n in os.listdir(path) if "array_record" in n]
  data = bytearray(open(os.path.join(path, name), "rb").read())
  source = tfds.make("test", directory=path)
  good = source.read(range(6))
  frame = good[2]["frames"][3]
  at = data.find(frame)
  if at < 0:  # the writer compresses: spoil the middle of the file
    at = len(data) // 2
  data[at : at + 8] = bytes(8)
  with open(os.path.join(path, name), "wb") as file:
    file.write(data)
  source = tfds.make("test", directory=path)
  with pytest.raises(ValueError, match="cannot be read|damaged"):
    for i in range(6):
      source.read([i])


def test_damaged_facts_are_refused_in_a_line(tmp_path):
  moving_mnist(tmp_path)
  [info] = tmp_path.rglob("dataset_info.json")
  for name in (info.name, "features.json"):
    path = info.with_name(name)
    good = path.read_bytes()
    for text in (b"", b"\xff", b"[]", b'{"zz": 1}', b'{"name": {}}', good[:99]):
      path.write_bytes(text)
      with pytest.raises(errors.UserError, match="holds no data set") as e:
        tfds.make("test", directory=str(info.parent))
      assert "\n" not in str(e.value)
    path.write_bytes(good)
  assert len(tfds.make("test", directory=str(info.parent)))


def test_serialize_is_what_tensorflow_parses():
  rng = np.random.default_rng(0)
  for _ in range(20):
    frames = [rng.bytes(int(n)) for n in rng.integers(0, 300, 4)]
    floats = rng.normal(size=int(rng.integers(0, 200))).astype(np.float32)
    number = int(rng.integers(-(2**62), 2**62))
    text = "ä" * int(rng.integers(0, 100))
    example = {"a": frames, "b": floats, "c": number, "d": text, "e": 0.5}
    data = b"".join(clips.serialize(example))
    feature = tf.train.Example.FromString(data).features.feature
    assert set(feature) == set(example)
    assert list(feature["a"].bytes_list.value) == frames
    assert list(feature["b"].float_list.value) == list(floats)
    assert list(feature["c"].int64_list.value) == [number]
    assert feature["d"].bytes_list.value[0].decode() == text
    assert list(feature["e"].float_list.value) == [0.5]


def test_the_builder_makes_the_same_records(tmp_path):
  for i, label in enumerate(["a", "a", "b", "b"]):
    (tmp_path / "src" / label).mkdir(parents=True, exist_ok=True)
    video = np.kron(noise(10 + i, 4, 4, 3, seed=i), np.ones((1, 8, 8, 1)))
    path = tmp_path / "src" / label / f"{i}.mp4"
    write.write(path, video.astype(np.uint8))
    (tmp_path / "maps" / label / str(i)).mkdir(parents=True)
    for t in range(len(video)):
      ids = Image.fromarray(np.full((32, 32), 2 * i, np.uint8))
      ids.save(tmp_path / "maps" / label / str(i) / f"{t}.png")
  (tmp_path / "src" / "a" / "bad.mp4").write_bytes(b"no video")
  config = video_folder.Config(
    name="mine",
    source=str(tmp_path / "src"),
    size=16,
    test=0.5,
    shots=False,
    max_frames=8,
    maps=str(tmp_path / "maps"),
    sound="keep",
  )
  builder = video_folder.VideoFolder(
    data_dir=tmp_path / "out", config=config, file_format="array_record"
  )
  builder.download_and_prepare()
  found = {}
  for split in ("train", "test"):
    source = tfds.make(split, directory=str(builder.data_path))
    assert source.class_names == ("a", "b")
    raw = builder.as_data_source(split)
    for example, record in zip(source.read(range(len(source))), raw):
      name = record["file"].decode(), round(float(record["start"]), 3)
      assert example["label"] == "ab".index(name[0][0])
      found[name] = clips.decode(example["frames"])
      np.testing.assert_array_equal(found[name], record["frames"])
      assert (example["layout"] == 2 * int(name[0][2])).all()
      assert example["layout"].shape == found[name].shape[:3]
      assert len(example["sound"]) == len(found[name])
  options = clips.Options(size=16, shots=False, max_frames=8)
  expected = 0
  for i, label in enumerate(["a", "a", "b", "b"]):
    name = f"{label}/{i}.mp4"
    source = clips.folder.Source(file=name, path=name, bytes=0, modified=0)
    for record in clips.records(
      tmp_path / "src", source, options, clips.Tally()
    ):
      name = source.file, round(record["start"], 3)
      np.testing.assert_array_equal(found[name], clips.decode(record["frames"]))
      expected += 1
  assert expected == len(found) == 8
  with pytest.raises(ValueError, match="source"):
    video_folder.VideoFolder(data_dir=tmp_path / "x").download_and_prepare()
