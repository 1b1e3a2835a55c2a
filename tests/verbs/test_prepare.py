"""`vidgan prepare`: what goes in comes out, and nothing stops it."""

import csv
import fractions
import io
import json
import multiprocessing
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

import av
from av.filter import graph
import numpy as np
from PIL import Image
import pytest
import runs

from vidgan_jax import cli
from vidgan_jax import errors
from vidgan_jax.data import convert
from vidgan_jax.data import prepare as prepare_lib
from vidgan_jax.data import sound
from vidgan_jax.verbs import prepare
from vidgan_jax.video import clips
from vidgan_jax.video import folder
from vidgan_jax.video import read
from vidgan_jax.video import write

REAL = os.environ.get("VIDGAN_REAL_DATA")
COMMAND = [sys.executable, "-m", "vidgan_jax", "prepare"]


def scene(frames, height=24, width=32, seed=0):
  """A texture that moves by a pixel a frame: (T, H, W, 3) uint8."""
  rng = np.random.default_rng(seed)
  texture = rng.integers(0, 256, (height // 8, 16, 3)).astype(np.uint8)
  texture = texture.repeat(8, 0).repeat(8, 1)
  return np.stack([np.roll(texture, t, 1)[:, :width] for t in range(frames)])


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
  """Two labels of three videos each, 20 to 45 frames."""
  root = tmp_path_factory.mktemp("videos")
  for i in range(6):
    path = root / "ab"[i % 2] / f"v{i}.mp4"
    path.parent.mkdir(exist_ok=True)
    write.write(path, scene(20 + 5 * i, seed=i), 25)
  return root


def run(src, out, *options):
  return cli.main(["prepare", str(src), str(out), "--workers", "1", *options])


def clips_of(out, split):
  """[(file, start, video, example)] of a prepared data set."""
  import tensorflow_datasets as tfds_lib

  from vidgan_jax.data import tfds

  try:
    source = tfds.make(split, directory=str(out))
  except ValueError:
    return []
  raw = tfds_lib.builder_from_directory(str(out)).as_data_source(split)
  rows = []
  for example, record in zip(source.read(range(len(source))), raw):
    video = clips.decode(example["frames"])
    np.testing.assert_array_equal(video, record["frames"])
    file = record["file"].decode()
    rows.append((file, float(record["start"]), video, example))
  return sorted(rows, key=lambda row: row[:2])


def both(out):
  return clips_of(out, "train") + clips_of(out, "test")


def report(out):
  lines = (pathlib.Path(out) / "prepare_report.jsonl").read_text().splitlines()
  return {row["file"]: row for row in map(json.loads, lines)}


def content(out):
  """{name: bytes} of a folder, without what names its place."""
  return {p.name: p.read_bytes() for p in pathlib.Path(out).iterdir()}


def error(capsys, code, *argv):
  capsys.readouterr()
  try:
    got = cli.main(["prepare", *map(str, argv)])
  except SystemExit as stop:
    got = stop.code
  text = capsys.readouterr().err
  assert got == code
  assert "Traceback" not in text
  return text


# ---------------------------------------------------------------- contents


def test_videos_come_out_as_they_are_decoded(videos, tmp_path, capsys):
  assert run(videos, tmp_path / "d", "--test", "0.34") == 0
  assert "ready" in capsys.readouterr().out
  splits = {s: clips_of(tmp_path / "d", s) for s in ("train", "test")}
  files = {s: {row[0] for row in rows} for s, rows in splits.items()}
  assert len(files["test"]) == 2
  assert len(files["train"]) == 4
  assert not files["test"] & files["train"]
  for file, start, video, example in splits["train"] + splits["test"]:
    frames = list(read.frames(videos / file, square_pixels=True))
    np.testing.assert_array_equal(video, [f.image for f in frames])
    assert start == 0
    np.testing.assert_allclose(example["times"], [f.time for f in frames])
    assert example["label"] == "ab".index(file[0])
    assert example["caption"] == ""
  assert not (tmp_path / "d.partial").exists()
  rows = report(tmp_path / "d")
  assert all(row["status"] == "ok" for row in rows.values())
  assert {f for f, r in rows.items() if r["split"] == "test"} == files["test"]


def test_the_result_does_not_depend_on_the_workers(videos, tmp_path):
  assert run(videos, tmp_path / "a", "--max-frames", "8") == 0
  out = tmp_path / "b"
  argv = [str(videos), str(out), "--workers", "3", "--max-frames", "8"]
  assert prepare.main(argv) == 0
  assert content(tmp_path / "a") == content(out)
  from vidgan_jax.data import tfds

  source = tfds.make("train", directory=str(out), min_frames=8)
  assert source.left_out > 0
  everything = tfds.make("train", directory=str(out))
  lengths = [len(e["times"]) for e in everything.read(range(len(everything)))]
  assert list(everything.lengths) == lengths  # from prepare.json


def test_strips_are_exact_whatever_the_name_says(tmp_path):
  src, rng = tmp_path / "src", np.random.default_rng(0)
  given = {}
  for label in "yx":
    (src / label).mkdir(parents=True)
    for i in range(3):
      video = rng.integers(0, 256, (5 + i, 8, 8, 3)).astype(np.uint8)
      strip = write.strip(video)
      alpha = np.full_like(strip[..., :1], 255)
      strip = Image.fromarray(np.concatenate([strip, alpha], -1))
      strip.save(src / label / f"{i}.jpg", "PNG")
      given[f"{label}/{i}.jpg"] = video
  (src / "mirror").mkdir()
  shutil.copy(src / "x" / "0.jpg", src / "mirror")
  options = ["--exclude", "mirror", "--test-match", r"/2\.", "--no-shots"]
  assert run(src, tmp_path / "d", *options, "--fps", "10") == 0
  rows = both(tmp_path / "d")
  assert {row[0] for row in rows} == set(given)
  for file, _, video, example in rows:
    np.testing.assert_array_equal(video, given[file])
    assert example["label"] == "xy".index(file[0])
    np.testing.assert_allclose(
      example["times"], np.arange(len(video)) / 10, atol=1e-6
    )
  test = {row[0] for row in clips_of(tmp_path / "d", "test")}
  assert test == {"x/2.jpg", "y/2.jpg"}
  # Frames that are not square, and a width that does not divide.
  assert run(src, tmp_path / "e", *options, "--frame-width", "4") == 0
  assert both(tmp_path / "e")[0][2].shape == (10, 8, 4, 3)
  options = ["--no-shots", "--frame-width", "16"]
  assert run(src / "x", tmp_path / "f", *options) == 0
  assert {f for f, r in report(tmp_path / "f").items() if r["reason"]} == {
    "0.jpg",
    "2.jpg",
  }


def test_folders_of_frames_in_natural_order(tmp_path):
  rng = np.random.default_rng(0)
  given = {}
  for clip in ("one", "two"):
    (tmp_path / "src" / clip).mkdir(parents=True)
    given[clip] = rng.integers(0, 256, (12, 10, 14, 3)).astype(np.uint8)
    for i, image in enumerate(given[clip]):
      path = tmp_path / "src" / clip / f"frame{i}.png"
      Image.fromarray(image).save(path)
  (tmp_path / "src" / "one" / "notes.txt").write_text("hello")
  assert run(tmp_path / "src", tmp_path / "d", "--no-shots") == 0
  for file, _, video, example in both(tmp_path / "d"):
    np.testing.assert_array_equal(video, given[file])
    assert "label" not in example
  (tmp_path / "src" / "two" / "frame3.png").write_bytes(b"spoilt")
  assert run(tmp_path / "src", tmp_path / "e", "--no-shots") == 0
  assert report(tmp_path / "e")["two"]["damaged"] == 1
  _, _, video, example = both(tmp_path / "e")[1]
  keep = [i for i in range(12) if i != 3]
  np.testing.assert_array_equal(video, given["two"][keep])
  np.testing.assert_allclose(example["times"], np.array(keep) / 25, atol=1e-6)
  # A folder that is one clip.
  assert run(tmp_path / "src" / "one", tmp_path / "f", "--no-shots") == 0
  assert len(both(tmp_path / "f")) == 1


def test_size_crop_rate_and_encoding(videos, tmp_path):
  options = ["--size", "16", "--square", "--fps", "5", "--encoding", "jpeg"]
  assert run(videos, tmp_path / "d", *options) == 0
  for file, _, video, example in both(tmp_path / "d"):
    frames = [f.image for f in read.frames(videos / file, size=16)]
    expected = np.stack(frames)[::5]
    left = (expected.shape[2] - 16) // 2
    expected = expected[:, :, left : left + 16]
    assert video.shape == expected.shape
    assert np.abs(video.astype(float) - expected).mean() < 4
    np.testing.assert_allclose(np.diff(example["times"]), 0.2, atol=1e-6)
    assert example["frames"][0][:2] == b"\xff\xd8"


def test_a_video_is_cut_into_its_shots(tmp_path):
  (tmp_path / "src").mkdir()
  shots = [scene(15, seed=1) // 5, scene(20, seed=2), scene(9, seed=3) // 5]
  write.write(tmp_path / "src" / "a.mp4", np.concatenate(shots), 25, crf=5)
  assert run(tmp_path / "src", tmp_path / "d") == 0
  rows = both(tmp_path / "d")
  assert [len(row[2]) for row in rows] == [15, 20, 9]
  starts = [row[1] for row in rows]
  np.testing.assert_allclose(starts, [0, 15 / 25, 35 / 25], atol=1e-5)
  assert run(tmp_path / "src", tmp_path / "e", "--min-frames", "10") == 0
  assert [len(row[2]) for row in both(tmp_path / "e")] == [15, 20]
  assert report(tmp_path / "e")["a.mp4"]["short"] == 1
  assert run(tmp_path / "src", tmp_path / "f", "--no-shots") == 0
  assert [len(row[2]) for row in both(tmp_path / "f")] == [44]


def picture(path, size=(8, 6), colour=(9, 8, 7)):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour).save(path)


def test_frames_keep_their_gaps_and_their_shapes(tmp_path, capsys):
  src = tmp_path / "src"
  for i in (0, 1, 2, 5, 6, 9):
    picture(src / "gaps" / f"f2_{i:03d}.png", colour=(40 * i, 0, 0))
  for i in range(6):  # the last three lie across
    picture(src / "turns" / f"{i}.png", (8, 6) if i < 3 else (6, 8))
  for i in range(3):
    picture(src / "clear" / f"{10 * i}.png", colour=(255, 0, 0, 127 * i))
  options = ["--layout", "frames", "--no-shots", "--fps", "10"]
  assert run(src, tmp_path / "d", *options) == 0
  said = capsys.readouterr().out
  rows = {(row[0], row[1]): row[2:] for row in both(tmp_path / "d")}
  assert len(rows) == 4
  times = rows["gaps", 0.0][1]["times"]
  np.testing.assert_allclose(times, [0, 0.1, 0.2, 0.5, 0.6, 0.9], atol=1e-6)
  assert "gaps: by their names, 4 frames are missing" in said
  assert rows["turns", 0.0][0].shape == (3, 6, 8, 3)
  assert rows["turns", np.float32(0.3)][0].shape == (3, 8, 6, 3)
  assert "turns: where the size of the frames changes" in said
  video, example = rows["clear", 0.0]
  assert list(video[:, 0, 0, 0]) == [0, 127, 254] and not video[..., 1:].any()
  np.testing.assert_allclose(example["times"], [0, 0.1, 0.2], atol=1e-6)
  assert "clear: transparent pixels are black" in said


@pytest.mark.parametrize(
  "names, expected",
  [
    (["a7.png", "a8.png", "a11.png"], [0, 1, 4]),
    (["00.png", "30.png", "60.png"], [0, 1, 2]),  # each thirtieth of a film
    (["2", "4", "10"], [0, 1, 4]),
    (["1000033", "1000066", "1000167", "1000201"], [0, 1, 4, 5]),  # in ms
    (["s1_f1", "s1_f2", "s2_f1"], [0, 1, 2]),  # two numbers
    (["1", "01", "5"], [0, 1, 2]),
    (["front", "rear"], [0, 1]),
    (["only"], [0]),
  ],
)
def test_places_of_numbered_frames(names, expected):
  assert folder.places(names) == expected


def film(path, frames, seconds, pix_fmt="yuv444p", codec="ffv1"):
  """A video of these pictures at these times, sizes as they are."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), "w") as out:
    stream = out.add_stream(codec, rate=25)
    stream.pix_fmt = pix_fmt
    stream.height, stream.width = frames[0].shape[:2]
    stream.time_base = stream.codec_context.time_base = fractions.Fraction(
      1, 1000
    )
    for image, time in zip(frames, seconds):
      kind = "rgba" if image.shape[2] == 4 else "rgb24"
      frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), kind)
      frame.pts, frame.time_base = round(1000 * time), stream.time_base
      out.mux(stream.encode(frame.reformat(format=pix_fmt)))
    out.mux(stream.encode(None))


def test_a_slow_time_lapse_stays_whole(tmp_path):
  film(tmp_path / "src" / "a.mkv", scene(7), [10.0 * t for t in range(7)])
  for options in (["--no-shots"], []):
    out = tmp_path / f"d{len(options)}"
    assert run(tmp_path / "src", out, *options) == 0
    ((_, _, video, example),) = both(out)
    assert len(video) == 7
    np.testing.assert_allclose(example["times"], 10 * np.arange(7), atol=0.01)


def test_a_gap_does_not_become_millions_of_frames(tmp_path, capsys):
  src = tmp_path / "src"
  film(src / "gap.mkv", scene(6), [0, 0.04, 0.08, 1e6, 1e6 + 0.04, 1e6 + 0.08])
  film(src / "good.mkv", scene(6), [0.04 * t for t in range(6)])
  assert run(src, tmp_path / "a", "--no-shots", "--fps", "25") == 0
  (reason,) = filter(
    None, (r["reason"] for r in report(tmp_path / "a").values())
  )
  assert "frames at 25 a second: raise --max-repeats 10000" in reason
  assert len(both(tmp_path / "a")) == 1
  assert "skipped: gap.mkv: a picture is shown" in capsys.readouterr().out
  assert run(src, tmp_path / "b", "--fps", "25") == 0  # the gap is a cut
  assert sorted(len(row[2]) for row in both(tmp_path / "b")) == [3, 3, 6]
  options = ["--no-shots", "--fps", "2e-5", "--max-repeats", "10"]
  assert run(src, tmp_path / "c", *options, "--min-frames", "1") == 0
  assert {len(row[2]) for row in both(tmp_path / "c")} == {1, 21}


def combs(video):
  """Levels by which a line differs from the next one; here all are equal."""
  return np.abs(np.diff(video.astype(float), axis=1)).mean()


def test_interlaced_films_lose_their_combs(tmp_path, capsys):
  src = tmp_path / "src"
  src.mkdir()
  x = np.arange(64)
  fields = np.stack([128 + 100 * np.sin(0.3 * (x - 4 * t)) for t in range(40)])
  fields = fields.astype(np.uint8)[:, None, :, None].repeat(48, 1).repeat(3, 3)
  woven = fields[::2].copy()
  woven[:, 1::2] = fields[1::2, 1::2]  # odd lines, half a frame later
  with av.open(str(src / "a.mkv"), "w") as out:
    stream = out.add_stream("mpeg2video", rate=25)
    stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
    stream.options = {"flags": "+ilme+ildct", "qscale": "2"}
    stream.codec_context.qmin = stream.codec_context.qmax = 2
    weave = graph.Graph()  # marks them as top field first
    size = dict(format="yuv420p", height=48, width=64)
    buffer = weave.add_buffer(time_base=fractions.Fraction(1, 25), **size)
    mark, end = weave.add("setfield", "tff"), weave.add("buffersink")
    weave.link_nodes(buffer, mark, end).configure()
    for i, image in enumerate(woven):
      frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(
        format="yuv420p"
      )
      frame.pts = i
      weave.push(frame)
      out.mux(stream.encode(weave.pull()))
    out.mux(stream.encode(None))
  write.write(src / "b.mp4", fields[:20], 25)
  assert run(src, tmp_path / "d", "--no-shots") == 0
  assert "note: a.mkv: it is interlaced: its lines are made whole" in (
    capsys.readouterr().out
  )
  a, b = (row[2] for row in sorted(both(tmp_path / "d"), key=lambda r: r[0]))
  assert len(a) == 20 and combs(a) < 2 + combs(b)
  rows = report(tmp_path / "d")
  assert [rows[f]["interlaced"] for f in ("a.mkv", "b.mp4")] == [20, 0]
  assert run(src, tmp_path / "e", "--no-shots", "--no-deinterlace") == 0
  assert "it has combs" in capsys.readouterr().out
  raw = sorted(both(tmp_path / "e"), key=lambda r: r[0])
  assert combs(raw[0][2]) > 20
  np.testing.assert_array_equal(raw[1][2], b)


def test_films_with_transparent_pixels_and_two_sizes(tmp_path, capsys):
  frames = np.full((3, 8, 8, 4), 255, np.uint8)
  frames[..., 1:3] = 0  # red,
  frames[:, :, 4:, 3] = 0  # of which half is hidden
  film(tmp_path / "src" / "a.mkv", frames, [0, 0.1, 0.2], "bgra")
  sizes = [*scene(3, 16, 24), *scene(3, 24, 16)]
  raw = tmp_path / "src" / "b.avi"
  with av.open(str(raw), "w") as out:
    stream = out.add_stream("mjpeg", rate=10)
    stream.height, stream.width, stream.pix_fmt = 16, 24, "yuvj444p"
    for i, image in enumerate(sizes):
      data = io.BytesIO()
      Image.fromarray(image).save(data, "JPEG", quality=95, subsampling=0)
      packet = av.Packet(data.getvalue())
      packet.stream, packet.pts, packet.dts = stream, i, i
      packet.time_base, packet.is_keyframe = fractions.Fraction(1, 10), True
      out.mux(packet)
  assert run(tmp_path / "src", tmp_path / "d", "--no-shots") == 0
  rows = both(tmp_path / "d")
  assert [row[0] for row in rows] == ["a.mkv", "b.avi", "b.avi"]
  assert (
    rows[0][2][..., 4:, :].max() == 0 and rows[0][2][..., :4, 0].min() > 250
  )
  assert [row[2].shape for row in rows[1:]] == [(3, 16, 24, 3), (3, 24, 16, 3)]
  for row, given in zip(rows[1:], (sizes[:3], sizes[3:])):
    assert np.abs(row[2].astype(int) - given).mean() < 12
  assert "transparent pixels" in capsys.readouterr().out


# ---------------------------------------------------------------- labels


def scanned(root, **options):
  layout, sources = folder.scan(root, "auto")
  return folder.annotate(sources, **options)


def test_metadata_give_labels_captions_and_splits(videos, tmp_path, capsys):
  rows = [
    {"file": "a/v0.mp4", "label": "cat", "caption": "a cat", "split": "test"},
    {"file": "v1.mp4", "label": "dog", "caption": "", "split": "train"},
    {"file": "v2", "label": "cat", "caption": "ä", "split": ""},
    {"file": "v9", "label": "cow", "caption": "", "split": ""},
  ]
  with open(tmp_path / "m.csv", "w", newline="") as file:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
  with open(tmp_path / "m.jsonl", "w") as file:
    file.writelines(json.dumps(row) + "\n" for row in rows)
  notes = scanned(videos, metadata=str(tmp_path / "m.csv"))
  other = scanned(videos, metadata=str(tmp_path / "m.jsonl"))
  same = ("classes", "labels", "captions", "splits")
  assert all(getattr(notes, n) == getattr(other, n) for n in same)
  assert notes.classes == ("cat", "dog")
  assert notes.labels == {"a/v0.mp4": 0, "b/v1.mp4": 1, "a/v2.mp4": 0}
  assert notes.captions == {"a/v0.mp4": "a cat", "a/v2.mp4": "ä"}
  assert "v9" in " ".join(notes.remarks)
  options = ["--metadata", str(tmp_path / "m.csv")]
  assert run(videos, tmp_path / "d", *options) == 0
  said = capsys.readouterr().out
  assert "3 videos have no label" in said and "has no clip in train" not in said
  captions = {row[0]: row[3]["caption"] for row in both(tmp_path / "d")}
  assert captions == {"a/v0.mp4": "a cat", "a/v2.mp4": "ä", "b/v1.mp4": ""}
  assert [row[0] for row in clips_of(tmp_path / "d", "test")] == ["a/v0.mp4"]
  alone = [*options, "--test-match", "v1", "--overwrite"]
  assert run(videos, tmp_path / "d", *alone) == 0
  assert "note: the class dog has no clip in train" in capsys.readouterr().out
  assert "no label" in report(tmp_path / "d")["b/v3.mp4"]["reason"]


def test_labels_are_classes_or_errors(videos, tmp_path):
  assert scanned(videos).classes == ("a", "b")
  assert scanned(videos, classes=["b", "z", "a"]).labels["a/v0.mp4"] == 2
  with pytest.raises(folder.FolderError, match="'b' is not one of the classes"):
    scanned(videos, classes=["a"])
  assert scanned(videos, labels=False).labels == {}
  src = tmp_path / "src"
  shutil.copytree(videos, src)
  (src / "a").rename(src / "b ")  # as some programs name folders
  shutil.copy(videos / "a" / "v0.mp4", src / "loose.mp4")
  notes = scanned(src)
  assert notes.classes == ("b",)
  assert set(notes.labels.values()) == {0} and len(notes.labels) == 6
  assert "1 of 7 videos lie directly" in notes.remarks[0]
  for i in range(6):
    shutil.copy(videos / "a" / "v0.mp4", src / f"loose{i}.mp4")
  notes = scanned(src)
  assert notes.classes == ()
  assert "7 of 13" in notes.remarks[0]
  bad = tmp_path / "bad.jsonl"
  for text, words in [
    ("{}", "no `file`"),
    ('{"file": "nope"}', "none of its 1 rows"),
    ("{", "cannot be read"),
    ('{"file": "v0", "split": "dev"}', "'dev'"),
    ('{"file": "v0", "lable": 1}', "'lable'.*mean 'label'"),
    ('{"file": "v0", "label": [1]}', "row 1"),
    ('{"label": 1}', "no `file`"),
    (
      '{"file": "v0", "label": 0}\n{"file": "a/v0.mp4", "label": 1}',
      "rows 1 and 2 .*the label is '0' and '1'",
    ),
  ]:
    bad.write_text(text)
    with pytest.raises(folder.FolderError, match=words):
      scanned(videos, metadata=str(bad))
  bad = bad.with_suffix(".csv")
  for text, words in [
    ("file,caption\nv0,a cat, black\n", "row 1 has more values"),
    ("file,label, label\nv0,a,b\n", "two of its columns are called 'label'"),
  ]:
    bad.write_text(text)
    with pytest.raises(folder.FolderError, match=words):
      scanned(videos, metadata=str(bad))


def test_metadata_as_programs_write_them(videos, tmp_path):
  """Integers, spaces, semicolons, empty rows, a file listed twice."""
  rows = tmp_path / "m.jsonl"
  rows.write_text('{"file": "v0", "label": 0}\n{"file": "v1", "label": 1}\n')
  notes = scanned(videos, metadata=str(rows))
  assert notes.classes == ("0", "1")
  assert notes.labels == {"a/v0.mp4": 0, "b/v1.mp4": 1}
  table = tmp_path / "m.csv"
  for text in (
    "file, label , split,seconds\nv0,dog ,test,3\nv1, dog,,\n,,,\n",
    "file;label;split;seconds;\nv0;dog;test;;\n;;;\n b\\v1.mp4;dog;\n;\n",
    "file\tlabel\tsplit\tseconds\nv0\tdog\t\na/v0.mp4\t\ttest\nv1\tdog\n",
  ):
    table.write_text(text)
    notes = scanned(videos, metadata=str(table))
    assert notes.classes == ("dog",)
    assert notes.labels == {"a/v0.mp4": 0, "b/v1.mp4": 0}
    assert notes.splits == {"a/v0.mp4": "test"}
    assert "not read: seconds" in notes.remarks[0]
  # A quotation mark after a space begins a text that may hold separators.
  table.write_text('file, caption\nv0, "a ""red"" dog, running"\n')
  assert scanned(videos, metadata=str(table)).captions == {
    "a/v0.mp4": 'a "red" dog, running'
  }


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.25, 0.9])
def test_splits_are_by_source_and_the_same_for_everyone(fraction):
  files = [f"x{i}/{i % 7}.mp4" for i in range(40)]
  test = folder.held_out(files, fraction)
  assert test == folder.held_out(files[::-1], fraction)
  assert len(test) == max(round(fraction * 40), 1 if fraction else 0)
  assert folder.held_out(["a"], fraction) == (
    {"a"} if round(fraction) else set()
  )
  if fraction:
    assert len(folder.held_out(["a", "b"], fraction)) == 1
  assert folder.held_out(files, fraction, match="/3") == {
    f for f in files if "/3" in f
  }
  # A class keeps a clip, unless each has but one.
  rare = dict.fromkeys(files, 0) | {sorted(test or {"x"})[0]: 1}
  assert len(folder.held_out(files, fraction, labels=rare)) == len(test)
  assert not folder.held_out(files, fraction, labels=rare) & {
    f for f, label in rare.items() if label
  }
  alone = {file: i for i, file in enumerate(files)}
  assert len(folder.held_out(files, fraction, labels=alone)) == bool(fraction)


# ---------------------------------------------------------------- folders


def test_no_split_is_left_empty(videos, tmp_path, capsys):
  """Of a single video the last clips are held out."""
  film, out = tmp_path / "src" / "film.mp4", tmp_path / "d"
  write.write(film, scene(48), 25)
  assert run(film.parent, out, "--max-frames", "4") == 0
  assert "of its 12 clips the last 1 are held out" in capsys.readouterr().out
  assert run(film.parent, tmp_path / "whole", "--test=0", "--max-frames=4") == 0
  (whole, got) = both(tmp_path / "whole"), both(out)
  assert len(clips_of(out, "train")) == 11 and len(got) == 12
  for one, other in zip(whole, got):
    assert one[:2] == other[:2] and np.array_equal(one[2], other[2])
  assert run(film.parent, tmp_path / "one") == 0
  assert "is one clip, so none is held out" in capsys.readouterr().out
  for match, side in (("v[0-5]", "all"), ("w", "none")):
    text = error(capsys, 1, videos, tmp_path / "x", "--test-match", match)
    assert f"'{match}' matches {side} of the 6 paths, as a/v0.mp4" in text
  assert not (tmp_path / "x").exists()


def test_what_links_lead_to_is_taken_once(videos, tmp_path, caplog):
  src = tmp_path / "up" / "src"
  shutil.copytree(videos, src)
  before = folder.scan(src, "auto")
  (src / "a" / "loop").symlink_to("..")  # to the root
  (src / "b" / "above").symlink_to("../../..")  # to what holds it
  (src / "0").symlink_to(src / "b")  # to a neighbour that comes later
  (src / "a" / "again.mp4").symlink_to("v0.mp4")
  os.link(src / "a" / "v0.mp4", src / "b" / "hard.mp4")
  assert folder.scan(src, "auto") == before
  assert "read anyway: 2 names, as a/again.mp4" in caplog.text
  assert "read anyway, or hold this one: 0, a/loop, b/above" in caplog.text
  # Elsewhere or hidden, and only to be had by a link: once, too.
  (src / ".store").mkdir()
  write.write(src / ".store" / "x.mp4", scene(9))
  for name in ("c", "d"):
    (src / name).symlink_to(".store")
  files = [source.file for source in folder.scan(src, "auto")[1]]
  assert files == sorted([*(s.file for s in before[1]), "c/x.mp4"])


def test_a_frame_that_a_link_repeats_stays(tmp_path):
  for clip in ("a", "b"):
    (tmp_path / clip).mkdir()
    for i in range(2):
      Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / clip / f"{i}.png")
    (tmp_path / clip / "2.png").symlink_to("1.png")
  (tmp_path / "c").symlink_to("a")
  sources = folder.scan(tmp_path, "frames")[1]
  assert [s.file for s in sources] == ["a", "b"]
  assert all(s.images == ("0.png", "1.png", "2.png") for s in sources)


def test_thumbnails_and_pipes_are_passed_over(videos, tmp_path, caplog):
  src = tmp_path / "src"
  shutil.copytree(videos, src)
  before = folder.scan(src, "auto")
  for name in ("@eaDir", "a/Thumbnails", "b/_thumbs", "__MACOSX"):
    shutil.copytree(videos / "a", src / name)
  os.mkfifo(src / "a" / "v.mp4")
  assert folder.scan(src, "auto") == before
  for name in ("@eaDir", "a/Thumbnails", "b/_thumbs", "__MACOSX", "a/v.mp4"):
    assert name in caplog.text


def test_names_that_are_not_utf_8(videos, tmp_path):
  src = os.fsencode(tmp_path / "src")
  os.makedirs(src + b"/gr\xfcn")
  for i in range(2):
    shutil.copy(videos / "a" / "v0.mp4", src + b"/gr\xfcn/\xe9%d.mp4" % i)
  with open(src + b"/gr\xfcn/\xe9.mp4", "wb") as file:
    file.write(b"nothing")
  argv = [*COMMAND, src, tmp_path / "d", "--workers", "1"]
  got = subprocess.run(argv, capture_output=True, text=True)
  assert (got.returncode, got.stderr) == (0, "")
  assert r"skipped: gr\xfcn/\xe9.mp4: not a video" in got.stdout
  names = sorted(row[0] for row in both(tmp_path / "d"))
  assert names == [rf"gr\xfcn/\xe9{i}.mp4" for i in (0, 1)]
  with pytest.raises(errors.UserError, match="o.xfc: the name is not UTF-8"):
    prepare.main([os.fsdecode(src), os.fsdecode(src + b"/../o\xfc")])


# ---------------------------------------------------------------- bad input


def test_bad_files_are_listed_and_the_rest_goes_on(videos, tmp_path, capsys):
  src = tmp_path / "src"
  shutil.copytree(videos, src)
  (src / "a" / "empty.mp4").write_bytes(b"")
  (src / "a" / "junk.avi").write_bytes(os.urandom(3000))
  (src / "b" / "gone.mp4").symlink_to(tmp_path / "nowhere")
  whole = (src / "b" / "v1.mp4").read_bytes()
  (src / "b" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
  (src / "b" / "readme.txt").write_text("not a video, and plainly so")
  write.write(src / "a" / "one.mp4", scene(1))
  assert run(src, tmp_path / "d") == 0
  rows = report(tmp_path / "d")
  assert len(rows) == 11
  bad = {f: r["reason"] for f, r in rows.items() if r["status"] == "skipped"}
  assert set(bad) == {
    "a/empty.mp4", "a/junk.avi", "a/one.mp4", "b/cut.mp4", "b/gone.mp4",
  }  # fmt: skip
  assert bad["a/empty.mp4"] == "the file is empty"
  assert "1 frame " in bad["a/one.mp4"]
  assert "skipped: a/empty.mp4: the file is empty" in capsys.readouterr().out
  assert len(both(tmp_path / "d")) == 6


def test_errors_say_what_and_leave_nothing(videos, tmp_path, capsys):
  out = tmp_path / "d"
  empty = tmp_path / "empty"
  empty.mkdir()
  junk = tmp_path / "junk"
  junk.mkdir()
  (junk / "a.mp4").write_bytes(b"nothing")
  full = tmp_path / "full"
  full.mkdir()
  (full / "thesis.tex").write_text("precious")
  before = sorted(tmp_path.rglob("*"))
  for words, argv in [
    ("does not exist", [tmp_path / "no", out]),
    ("is a file", [videos / "a" / "v0.mp4", out]),
    ("looked for video files", [empty, out]),
    ("a.mp4: not a video", [junk, out]),
    ("not made by this command", [videos, full]),
    ("not made by this command", [videos, full, "--overwrite"]),
    ("lie in each other", [videos, videos / "d"]),
    ("lie in each other", [videos, videos]),
    ("--min-frames 9", [videos, out, "--min-frames", 9, "--max-frames", 8]),
    ("cannot be read", [videos, out, "--metadata", tmp_path / "no.csv"]),
    ("'b' is not one", [videos, out, "--classes", "a"]),
  ]:
    assert words in error(capsys, 1, *argv), words
  assert "did you mean --size" in error(capsys, 2, videos, out, "--sise=3")
  assert "layout" in error(capsys, 2, videos, out, "--layout", "films")
  for option in ("--size=0", "--test=1", "--test-match=(", "--workers=x"):
    assert option.split("=")[0] in error(capsys, 2, videos, out, option)
  assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_named(tmp_path, capsys):
  (tmp_path / "src").mkdir()
  (tmp_path / "src").chmod(0)
  text = error(capsys, 1, tmp_path / "src", tmp_path / "d")
  assert "Permission denied" in text


def test_a_finished_run_is_left_alone(videos, tmp_path, capsys):
  out = tmp_path / "d"
  assert run(videos, out, "--size", "16") == 0
  before = content(out)
  capsys.readouterr()
  assert run(videos, out, "--size", "16") == 0
  assert "finished already" in capsys.readouterr().out
  assert "size: 16, now 8" in error(capsys, 1, videos, out, "--size", 8)
  assert content(out) == before
  assert run(videos, out, "--size", "8", "--overwrite") == 0
  assert both(out)[0][2].shape[1] == 8
  assert {p.name for p in tmp_path.iterdir()} == {"d"}


# ---------------------------------------------------------------- accidents


def test_a_run_that_is_interrupted_goes_on(videos, tmp_path):
  assert run(videos, tmp_path / "straight") == 0
  out = tmp_path / "d"
  argv = [*COMMAND, str(videos), str(out), "--workers", "1"]
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
    manifest = tmp_path / "d.partial" / "manifest.jsonl"
    before = manifest.read_text().count("\n") if manifest.exists() else 0
    process = subprocess.Popen(
      argv,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      start_new_session=True,
    )
    while process.poll() is None:
      if manifest.exists() and manifest.read_text().count("\n") > before:
        break
      time.sleep(0.005)
    if number == signal.SIGINT:  # Ctrl-C reaches the workers too
      os.killpg(process.pid, number)
    else:
      process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert not out.exists()
    assert "Traceback" not in err
    if number == signal.SIGKILL:
      assert process.returncode == -number
    else:
      assert process.returncode == 130
      assert "same command again" in err
      assert not list((tmp_path / "d.partial").glob("*.tmp"))
  done = manifest.read_text().count("\n")
  assert done >= 3
  got = subprocess.run(argv, capture_output=True, text=True)
  assert got.returncode == 0
  assert f"going on: {done} of 6" in got.stdout
  assert content(out) == content(tmp_path / "straight")


def test_an_interruption_while_joining_costs_nothing(
  videos, tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(prepare_lib, "SHARD_BYTES", 10_000)
  assert run(videos, tmp_path / "straight", "--max-frames", "4") == 0
  out = tmp_path / "d"
  read_staged, calls = convert.records, []

  def interrupted(path):
    calls.append(path)
    if len(calls) in (2, 4):
      raise KeyboardInterrupt
    return read_staged(path)

  monkeypatch.setattr(convert, "records", interrupted)
  for _ in range(2):
    assert run(videos, out, "--max-frames", "4") == 130
    assert not out.exists()
  assert run(videos, out, "--max-frames", "4") == 0
  assert content(out) == content(tmp_path / "straight")
  assert sum("train" in name for name in content(out)) > 1
  # Other options do not mix with what is there.
  monkeypatch.setattr(convert, "records", lambda path: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    run(videos, tmp_path / "e")
  text = error(capsys, 1, videos, tmp_path / "e", "--size", 8)
  assert "unfinished run with other options" in text
  monkeypatch.setattr(convert, "records", read_staged)
  assert run(videos, tmp_path / "e", "--size", "8", "--overwrite") == 0


def dies_on_v2(pipe, *job):
  """A worker whose decoder crashes on one file."""

  class Pipe:
    def recv(self):
      source, extra = pipe.recv()
      if "v2" in source.file:
        os.kill(os.getpid(), signal.SIGSEGV)
      if "v3" in source.file:
        time.sleep(1000)
      return source, extra

    def send(self, message):
      pipe.send(message)

  WORK(Pipe(), *job)


WORK = convert._work


def test_a_crash_or_a_hang_costs_one_video(videos, tmp_path, monkeypatch):
  monkeypatch.setattr(convert, "_work", dies_on_v2)
  monkeypatch.setattr(convert, "STALL", 3)
  assert run(videos, tmp_path / "d") == 0
  bad = {f: r["reason"] for f, r in report(tmp_path / "d").items()
         if r["reason"]}  # fmt: skip
  assert set(bad) == {"a/v2.mp4", "b/v3.mp4"}
  assert "crashed" in bad["a/v2.mp4"]
  assert "no new frame for 3 s" in bad["b/v3.mp4"]
  assert len(both(tmp_path / "d")) == 4


def killed_at_v2(pipe, root, options, staging, threads):
  """A worker that is killed from outside, at v2 twice and at v3 always."""

  class Pipe:
    def recv(self):
      source, extra = pipe.recv()
      times = len(list(staging.parent.glob("killed*")))
      if "v3" in source.file or ("v2" in source.file and times < 2):
        if "v2" in source.file:
          (staging.parent / f"killed{times}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
      return source, extra

    def send(self, message):
      pipe.send(message)

  WORK(Pipe(), root, options, staging, threads)


def test_a_video_whose_worker_is_killed_is_tried_again(
  videos, tmp_path, monkeypatch
):
  monkeypatch.setattr(convert, "_work", killed_at_v2)
  assert run(videos, tmp_path / "d") == 0
  bad = {f: r["reason"] for f, r in report(tmp_path / "d").items()
         if r["reason"]}  # fmt: skip
  assert bad == {"b/v3.mp4": "3 workers were killed at it (out of memory?)"}
  assert len(both(tmp_path / "d")) == 5


def test_a_worker_that_comes_up_too_late_says_nothing(capfd):
  ours, theirs = multiprocessing.Pipe()
  ours.close()
  previous = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
  try:
    WORK(theirs, ".", clips.Options(), None, 1)
  finally:
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), previous):
      signal.signal(number, handler)


class Killed(BaseException):
  """In place of kill -9: nothing of the command runs after it."""


@pytest.mark.parametrize(
  "place", ["clearing", "renaming", "renamed", "removing", "damaged"]
)
def test_killed_anywhere_the_next_run_is_right(
  videos, tmp_path, monkeypatch, place
):
  """While --overwrite clears, at the last rename, before and after it."""
  small, large = ["--size", "8"], ["--size", "16", "--overwrite"]
  out, staging = tmp_path / "d", tmp_path / "d.partial"

  def dies(*args, **kwargs):
    raise Killed

  move = prepare_lib.files.move

  def moved(source, target):
    if pathlib.Path(target) == out:
      if place == "renamed":
        move(source, target)
      raise Killed
    move(source, target)

  def unfinished():
    with monkeypatch.context() as patch:
      patch.setattr(prepare_lib, "_describe", dies)
      with pytest.raises(Killed):
        run(videos, out, *small)

  with monkeypatch.context() as patch:
    if place == "damaged":
      unfinished()
      for name in ("run.json", "plan.json"):
        (staging / name).write_text('{"a"')
    elif place == "clearing":
      unfinished()
      # Of its files one is gone, and it is that which says whose they are.
      (staging / "run.json").unlink()
    elif place == "removing":
      unfinished()
      with monkeypatch.context() as patch:
        patch.setattr(prepare_lib.files, "move", lambda *_: None)
        patch.setattr(prepare_lib.shutil, "rmtree", dies)
        with pytest.raises(Killed):
          run(videos, out, *small)
      (staging / "run.json").unlink()
    else:
      patch.setattr(prepare_lib.files, "move", moved)
      with pytest.raises(Killed):
        run(videos, out, *large)
  if place == "renamed":
    shutil.rmtree(out)
  assert run(videos, out, *large) == 0
  assert not staging.exists()
  rows = both(out)
  assert len(rows) == 6 and {row[2].shape[1] for row in rows} == {16}


def test_what_a_killed_run_left_goes_when_it_is_finished(
  videos, tmp_path, monkeypatch
):
  with monkeypatch.context() as patch:
    patch.setattr(prepare_lib.shutil, "rmtree", lambda *_, **__: None)
    assert run(videos, tmp_path / "d") == 0
  assert (tmp_path / "d.partial").exists()
  assert run(videos, tmp_path / "d") == 0
  assert not (tmp_path / "d.partial").exists()


def test_a_full_disk_is_said_and_mended(videos, tmp_path):
  argv = [*COMMAND, str(videos), str(tmp_path / "d"), "--workers", "1"]

  def small_files(size):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

  for size in (10_000, 60_000):  # while decoding, while joining
    got = subprocess.run(
      argv, capture_output=True, text=True, preexec_fn=small_files(size)
    )
    assert got.returncode == 1, got
    assert "the disk is full" in got.stderr
    assert "Traceback" not in got.stderr
    assert not (tmp_path / "d").exists()
    assert not list((tmp_path / "d.partial").rglob("*.tmp"))
  assert subprocess.run(argv, capture_output=True).returncode == 0
  assert len(both(tmp_path / "d")) == 6


def test_a_run_inside_of_a_data_set_is_not_removed(videos, tmp_path, capsys):
  assert run(videos, tmp_path / "d") == 0
  step = tmp_path / "d" / "run" / "checkpoints" / "5"
  step.mkdir(parents=True)
  text = error(capsys, 1, videos, tmp_path / "d", "--overwrite")
  assert "holds the checkpoints of a run" in text
  assert step.exists()


def test_two_runs_do_not_mix(videos, tmp_path, capsys):
  with prepare_lib._claimed(tmp_path / "d.partial", {}, False):
    text = error(capsys, 1, videos, tmp_path / "d")
  assert "another process" in text


@pytest.mark.skipif(not REAL, reason="VIDGAN_REAL_DATA is not set")
def test_real_strips_hold_the_people_as_given(tmp_path):
  src = pathlib.Path(REAL) / "weizmann_mocogan"
  options = [
    "--exclude",
    "mirror_examples",
    "--test-match",
    "/000000(5[6-9]|6|7)",
  ]
  assert run(src, tmp_path / "d", *options) == 0
  train, test = (clips_of(tmp_path / "d", s) for s in ("train", "test"))
  assert (len(train), len(test)) == (28, 8)
  for file, _, video, _ in test:
    strip = np.asarray(Image.open(src / file).convert("RGB"))
    np.testing.assert_array_equal(write.strip(video), strip)


# --------------------------------------------------------------- label maps


def maps_of(videos, root, names="sky\nroad\ncar\nvoid", **changes):
  """Ids 0 to 2 in blocks that move a pixel a frame, by video: {name: ids}."""
  given = {}
  for path in sorted(videos.rglob("*.mp4")):
    count = len(list(read.frames(path)))
    block = np.random.default_rng(len(given)).integers(0, 3, (3, 16))
    block = block.repeat(8, 0).repeat(8, 1)
    ids = [np.roll(block, t, 1)[:, :32] for t in range(count)]
    file = path.relative_to(videos).with_suffix("")
    given[f"{file}.mp4"] = np.stack(ids).astype(np.uint8)
    (root / file).mkdir(parents=True)
    for t, picture in enumerate(given[f"{file}.mp4"]):
      Image.fromarray(picture).save(root / file / f"{t}.png")
  if names:
    (root / "classes.txt").write_text(names)
  return given


def test_label_maps_go_with_the_frames(videos, tmp_path, capsys):
  root = tmp_path / "maps"
  given = maps_of(videos, root)
  # Void and 255 are unknown, and the indices of a palette are numbers.
  for t, number in ((2, 3), (4, 255)):
    ids = given["a/v0.mp4"][t].copy()
    given["a/v0.mp4"][t] = 255
    picture = Image.fromarray(np.full_like(ids, number), "P")
    picture.putpalette(list(range(255)) * 3)
    picture.save(root / "a" / "v0" / f"{t}.png")
  assert run(videos, tmp_path / "d", "--maps", str(root), "--no-shots") == 0
  said = capsys.readouterr().out
  assert "maps: 4 classes, by share of the pixels: 0 sky" in said
  for file, _, _, example in both(tmp_path / "d"):
    np.testing.assert_array_equal(example["layout"], given[file])
    assert example["layout"].dtype == np.uint8
  row = report(tmp_path / "d")["a/v0.mp4"]
  assert row["ids"]["255"] == 2 * 24 * 32
  assert sum(row["ids"].values()) == 20 * 24 * 32
  from vidgan_jax.data import tfds

  source = tfds.make("train", directory=str(tmp_path / "d"))
  assert source.layout_names == ("sky", "road", "car", "void")
  assert set(source.spec) == set(source.read([0])[0])
  assert tfds.make("train", directory=str(tmp_path / "d"), layout=None).spec
  # Another name of a class, or another map, is another data set.
  (root / "classes.txt").write_text("air\nroad\ncar\nvoid\n")
  job = [videos, tmp_path / "d", "--maps", root, "--no-shots"]
  assert "prepared otherwise (maps:" in error(capsys, 1, *job)


def test_label_maps_are_resized_by_the_nearest_pixel(videos, tmp_path):
  """Halved, and from maps of twice the size: ids stay ids."""
  root = tmp_path / "maps"
  given = maps_of(videos, root, names="")
  for file, ids in given.items():
    for t, picture in enumerate(ids):
      large = Image.fromarray(picture.repeat(2, 0).repeat(2, 1))
      large.save(root / file.removesuffix(".mp4") / f"{t}.png")
  options = ["--maps", str(root), "--size", "12", "--square", "--no-shots"]
  assert run(videos, tmp_path / "d", *options) == 0
  for file, _, video, example in both(tmp_path / "d"):
    assert example["layout"].shape == video.shape[:3]
    expected = given[file][:, 1::2, 1::2][:, :, 2:14]
    np.testing.assert_array_equal(example["layout"], expected)


def test_maps_of_folders_of_frames_go_by_name(tmp_path, capsys):
  rng = np.random.default_rng(0)
  root = tmp_path / "src" / "maps"
  (root / "one").mkdir(parents=True)
  (tmp_path / "src" / "one").mkdir()
  for i in range(10):
    picture(tmp_path / "src" / "one" / f"f{i}.jpg", colour=(9 * i, 8, 7))
    ids = rng.integers(0, 5, (6, 8)).astype(np.uint8)
    if i == 9:
      ids = ids[::2, ::2]
    if i not in (3, 4):
      Image.fromarray(ids).save(root / "one" / f"f{i}.png")
  job = [tmp_path / "src", tmp_path / "d", "--maps", str(root)]
  assert run(*job) == 0
  said = capsys.readouterr().out
  assert "2 of 10 frames have none: all unknown" in said
  assert "one: its maps are smaller than its frames" in said
  layout = np.concatenate([row[3]["layout"] for row in both(tmp_path / "d")])
  assert [bool((x == 255).all()) for x in layout] == [
    i in (3, 4) for i in range(10)
  ]
  np.testing.assert_array_equal(layout[-1], ids.repeat(2, 0).repeat(2, 1))


def test_maps_that_cannot_be_are_refused(videos, tmp_path, capsys):
  root, out = tmp_path / "maps", tmp_path / "d"
  given = maps_of(videos, root)
  zero = given["a/v0.mp4"][0]
  Image.fromarray(zero + 7).save(root / "a" / "v0" / "5.png")
  (root / "a" / "v2" / "29.png").unlink()
  Image.fromarray(zero[:, :20]).save(root / "a" / "v4" / "0.png")
  Image.fromarray(zero).save(root / "b" / "v1" / "0.jpg", quality=95)
  (root / "b" / "v1" / "0.png").unlink()
  colours = np.random.default_rng(0).integers(0, 9, (24, 32, 3))
  Image.fromarray(colours.astype(np.uint8)).save(root / "b" / "v3" / "1.png")
  assert run(videos, out, "--maps", str(root), "--test", "0") == 0
  rows = report(out)
  for file, words in [
    ("a/v0.mp4", "v0/5.png holds the id 7, and the classes are 0 sky, 1 road"),
    ("a/v2.mp4", "it has 30 frames and 29 maps"),
    ("a/v4.mp4", "0.png of 20x24 pixels has another shape than its frame, 32"),
    ("b/v1.mp4", "0.jpg is a JPEG"),
    ("b/v3.mp4", "1.png has colours, not numbers"),
    ("b/v5.mp4", ""),
  ]:
    assert words in rows[file]["reason"], rows[file]["reason"]
    assert rows[file]["status"] == ("skipped" if words else "ok")
  shutil.rmtree(root / "b")
  (root / "classes.json").write_text('{"0": "sky", "2": "car"}')
  capsys.readouterr()
  text = error(capsys, 1, videos, tmp_path / "e", "--maps", root)
  assert "the classes are 0 sky, 1 (1), 2 car" in text
  assert "it has no maps" in text
  for words, folder_of_maps in [
    ("there is no such folder", tmp_path / "no"),
    ("none of the 6 sources has maps", videos),
  ]:
    text = error(capsys, 1, videos, tmp_path / "e", "--maps", folder_of_maps)
    assert words in text
  (root / "classes.json").write_text("[")
  text = error(capsys, 1, videos, tmp_path / "e", "--maps", root)
  assert "classes.json cannot be read" in text


# -------------------------------------------------------------------- sound


def beeps(path, voice="aac", rate=48_000, layout="stereo", start=0, loud=0.9):
  """50 frames of which the 10th and the 30th are white, when a tone begins."""
  channels = av.AudioLayout(layout).nb_channels
  time_of = np.arange(2 * rate) / rate
  wave = np.zeros(len(time_of))
  for k in (10, 30):
    since = time_of - k / 25
    wave += np.sin(2 * np.pi * 880 * since) * (since >= 0) * (since < 0.1)
  with av.open(str(path), "w") as out:
    pictures = out.add_stream("mpeg4", rate=25)
    pictures.width, pictures.height, pictures.pix_fmt = 32, 24, "yuv420p"
    tones = voice and out.add_stream(voice, rate=rate, layout=layout)
    for k in range(50):
      image = np.full((24, 32, 3), 255 * (k in (10, 30)), np.uint8)
      frame = av.VideoFrame.from_ndarray(image)
      frame.pts, frame.time_base = k + 25 * start, fractions.Fraction(1, 25)
      out.mux(pictures.encode(frame))
    out.mux(pictures.encode(None))
    if voice:
      codec = tones.codec_context
      make = av.AudioResampler(
        codec.format.name, layout, rate, codec.frame_size or 4096
      )
      wave = (32767 * loud * wave.repeat(channels)).astype(np.int16)
      frame = av.AudioFrame.from_ndarray(wave[None], "s16", layout)
      frame.sample_rate, frame.pts = rate, start * rate
      frame.time_base = fractions.Fraction(1, rate)
      for piece in make.resample(frame) + make.resample(None):
        out.mux(tones.encode(piece))
      out.mux(tones.encode(None))


@pytest.fixture(scope="session")
def heard(tmp_path_factory):
  """Videos with all kinds of sound, with silence and with none."""
  root = tmp_path_factory.mktemp("heard")
  surround = dict(rate=192_000, layout="5.1")
  beeps(root / "delayed.mp4")
  beeps(root / "late.mkv", "libmp3lame", 44_100, start=3)
  beeps(root / "coarse.mkv", "pcm_u8", **surround)
  beeps(root / "quiet.mkv", "pcm_s16le", loud=0)
  beeps(root / "mute.mp4", None)
  return root


def begins(example):
  """The rise of the sound at each frame."""
  parts = example["sound"].reshape(len(example["times"]), sound.PARTS, -1)
  return parts[..., -1].max(-1)


def test_sound_is_heard_when_it_is_seen(heard, tmp_path, capsys):
  options = ["--no-shots", "--max-frames", "30", "--test", "0"]
  assert run(heard, tmp_path / "d", *options, "--sound") == 0
  said = capsys.readouterr().out
  assert "sound: 4 of 5 videos have it, zeros stand for that" in said
  assert "mute.mp4: it has no sound" in said
  assert "quiet.mkv: its sound is silent" in said
  rows = both(tmp_path / "d")
  assert len(rows) == 10
  for file, start, video, example in rows:
    assert example["sound"].shape == (25, sound.FEATURES)
    rise = begins(example)
    if file.split(".")[0] in ("quiet", "mute"):
      assert np.abs(example["sound"]).max() < 1e-6
      continue
    seen = int(video.mean((1, 2, 3)).argmax())
    assert rise.argmax() == seen == (10 if start == 0 else 5), file
    assert rise[0] < 1e-6  # A cut is not a beginning.
  assert clips.SOUND_RATE == sound.RATE


def test_sound_that_is_required_or_shifted(heard, tmp_path, capsys):
  options = ["--sound", "require", "--sound-offset", "0.2", "--no-shots"]
  assert run(heard, tmp_path / "d", *options, "--exclude", "[cq]*.mkv") == 0
  rows = report(tmp_path / "d")
  assert "no sound" in rows["mute.mp4"]["reason"]
  for file, _, _, example in both(tmp_path / "d"):
    rise = begins(example)
    assert {int(i) for i in np.argsort(rise)[-2:]} == {15, 35}, file
  (tmp_path / "frames").mkdir()
  picture(tmp_path / "frames" / "0.png")
  text = error(capsys, 1, tmp_path / "frames", tmp_path / "e", "--sound")
  assert "holds frames, which have no sound" in text


@pytest.mark.slow  # What is trained takes long to compile.
def test_sound_is_trained_on(heard, tmp_path):
  """configs/sound.py, of videos in place of sprites."""
  options = ["--sound", "--no-shots", "--size", "24", "--square"]
  assert run(heard, tmp_path / "d", *options, "--max-frames", "16") == 0
  runs.train(
    tmp_path / "w",
    "sound.py",
    "data.name=tfds",
    f"data.options={{'directory': '{tmp_path / 'd'}'}}",
    "total=2steps",
    "batch=2",
    "evals={}",
    "penalties={}",
    "cadence.sample=0steps",
  )
