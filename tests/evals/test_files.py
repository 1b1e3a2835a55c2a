"""Clips in files: what is taken, what is refused."""

import fractions
import json
import pathlib
import shutil

import av
import footage
import numpy as np
from PIL import Image
import pytest

from vidgan_jax import cli
from vidgan_jax import evals
from vidgan_jax.evals import distribution
from vidgan_jax.evals import files
from vidgan_jax.verbs import prepare
from vidgan_jax.video import read
from vidgan_jax.video import write


def clip(seed, frames=20, height=32, width=32):
  """A bright square that moves over a coloured ground."""
  rng = np.random.default_rng(seed)
  video = np.zeros((frames, height, width, 3), np.uint8)
  video[:] = rng.integers(40, 200, 3)
  for t in range(frames):
    x = (seed + t) % (width - 8)
    video[t, 8:16, x : x + 8] = 230
  return video


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  root = tmp_path_factory.mktemp("videos")
  for i in range(9):
    write.write(root / f"{i}.mp4", clip(i), fps=10)
  return root


def test_a_folder_of_videos_is_one_clip_of_each(folder):
  clips = files.open_clips(folder, frames=8, stride=2)
  assert len(clips) == 9 and clips.card["size"] == [8, 32, 32]
  found = clips.read(range(9))
  colours = set()
  for example in found:
    assert example["video"].dtype == np.uint8
    np.testing.assert_allclose(np.diff(example["times"]), 0.2, atol=1e-6)
    # The square moves two pixels a frame, wherever the clip begins.
    edge = (example["video"][:, 12, :, 0] > 215).argmax(1)
    assert np.median(np.diff(edge)) == 2
    colours.add(tuple(example["video"][0, 30, 0] // 8))
  assert len(colours) >= 8  # All different.
  again = files.open_clips(folder, frames=8, stride=2)
  for one, two in zip(found, again.read(range(9))):
    np.testing.assert_array_equal(one["video"], two["video"])
  assert again.fingerprint == clips.fingerprint
  other = files.open_clips(folder, frames=8, stride=2, seed=1)
  assert other.fingerprint != clips.fingerprint
  starts = [
    int((c["video"][0, 12, :, 0] > 215).argmax()) for c in other.read(range(9))
  ]
  assert starts != [
    int((c["video"][0, 12, :, 0] > 215).argmax()) for c in found
  ]


def test_streams_are_the_same_clips(folder):
  clips = files.open_clips(folder, frames=4)
  want = np.stack([c["video"] for c in clips.read(range(7))])
  for batch in (1, 3, 10):
    parts = list(distribution.generated_clips(clips, 0, 7, batch))
    assert max(map(len, parts)) <= batch
    np.testing.assert_array_equal(np.concatenate(parts), want)
  assert sum(map(len, distribution.generated_clips(clips, 0, 99, 4))) == 9
  with pytest.raises(IndexError, match="has 9 clips"):
    clips.read([9])


def test_all_kinds_hold_the_same_clips(tmp_path):
  """Lossless kinds: arrays, image folders, strips, and lossless video."""
  want = np.stack([clip(i, frames=6) for i in range(3)])
  np.save(tmp_path / "a.npy", want)
  np.savez(tmp_path / "a.npz", want, name=np.array(3))
  np.savez_compressed(tmp_path / "b.npz", video=want)
  for i, video in enumerate(want):
    (tmp_path / "frames" / f"{i}").mkdir(parents=True)
    (tmp_path / "strips").mkdir(exist_ok=True)
    for t, frame in enumerate(video):
      Image.fromarray(frame).save(tmp_path / "frames" / f"{i}" / f"{t}.png")
    Image.fromarray(write.strip(video)).save(tmp_path / "strips" / f"{i}.png")
  for name in ("a.npy", "a.npz", "b.npz", "frames", "strips"):
    clips = files.open_clips(tmp_path / name, frames=6)
    got = np.stack([c["video"] for c in clips.read(range(3))])
    assert got.shape == want.shape, name
    key = lambda video: video.tobytes()
    assert sorted(got, key=key)[0].tobytes() == min(map(key, want))
    assert {key(v) for v in got} == {key(v) for v in want}, name


def film(path, video, codec="libx264", **options):
  """Written with B-frames and a key picture at least every tenth."""
  with av.open(str(path), "w") as out:
    options = {"g": "10", "bf": "2", **options}
    stream = out.add_stream(codec, rate=10, options=options)
    stream.height, stream.width = video.shape[1:3]
    stream.pix_fmt = "bgr8" if codec == "gif" else "yuv420p"
    for frame in video:
      out.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
    out.mux(stream.encode())


@pytest.mark.parametrize(
  "name, codec, options, most",
  [
    ("a.mp4", "libx264", {}, 20),
    ("b.mkv", "libx264", {"x264-params": "open-gop=1"}, 20),
    ("c.mkv", "libx264", {"x264-params": "intra-refresh=1"}, 25),
    ("d.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, 20),
    # From the start each time: these do not say which picture is which.
    ("e.mpg", "mpeg2video", {}, None),
    ("f.gif", "gif", {}, None),
  ],
)
def test_one_video_is_cut_into_clips(
  name, codec, options, most, tmp_path, monkeypatch
):
  """Windows side by side, bit for bit, and the film is not read for each."""
  video = np.concatenate([clip(i) for i in range(6)])[:118]
  film(tmp_path / name, video, codec, **options)
  whole = np.stack([frame.image for frame in read.frames(tmp_path / name)])
  assert len(whole) == 118
  decoded, plain = [], read.Reader.pictures

  def counted(self):
    for picture in plain(self):
      decoded.append(picture)
      yield picture

  monkeypatch.setattr(read.Reader, "pictures", counted)
  clips = files.open_clips(tmp_path / name, frames=5, stride=2)
  decoded.clear()
  found = clips.read(range(13))
  assert len(clips) == 13 and clips.card["fps"] == pytest.approx(10, rel=0.02)
  if most:
    assert len(decoded) / 13 < most  # From the start it would be 63.
  key = lambda window: window.tobytes()
  want = [whole[9 * i : 9 * i + 9 : 2] for i in range(13)]
  assert {key(c["video"]) for c in found} == set(map(key, want))
  for example in found:
    np.testing.assert_allclose(np.diff(example["times"]), 0.2, atol=0.011)


def test_the_first_clips_are_a_fair_sample(tmp_path):
  """Of an array that is sorted by class, and the same each time."""
  video = np.zeros((100, 2, 4, 4, 3), np.uint8)
  video[:] = np.arange(100, dtype=np.uint8)[:, None, None, None, None]
  np.save(tmp_path / "a.npy", video)
  clips = files.open_clips(tmp_path / "a.npy", frames=2)
  number = lambda examples: [int(e["video"][0, 0, 0, 0]) for e in examples]
  first = number(clips.read(range(20)))
  assert 30 < np.mean(first) < 70 and first != sorted(first)
  assert sorted(number(clips.read(range(100)))) == list(range(100))
  again = files.open_clips(tmp_path / "a.npy", frames=2)
  assert number(again.read(range(20))) == first
  assert clips.card["order"] == "permuted, seed 0"


def test_a_clip_without_one_of_its_frames_is_none(tmp_path):
  """It would move faster there, and a metric of motion would see that."""
  (tmp_path / "videos").mkdir()
  for i in range(3):
    write.write(tmp_path / "videos" / f"{i}.mp4", clip(i), fps=10)
  options = dict(frames=8, size=16)
  assert len(files.open_clips(tmp_path / "videos", **options)) == 3
  footage.damage(tmp_path / "videos" / "1.mp4", 7)
  for path in (tmp_path / "videos", tmp_path / "videos" / "1.mp4"):
    with pytest.raises(ValueError, match="1.* frames .*cannot be decoded"):
      files.open_clips(path, **options)
  with pytest.raises(ValueError, match=r"1 of 3 videos .* 1\.mp4 1 of them"):
    files.open_clips(tmp_path / "videos", **options)
  (tmp_path / "images" / "x").mkdir(parents=True)
  for t, frame in enumerate(clip(0, 9)):
    Image.fromarray(frame).save(tmp_path / "images" / "x" / f"{t}.png")
  assert len(files.open_clips(tmp_path / "images", frames=8)) == 1
  path = tmp_path / "images" / "x" / "4.png"
  path.write_bytes(path.read_bytes()[:100])
  with pytest.raises(ValueError, match="images/x: 1 of its frames"):
    files.open_clips(tmp_path / "images", frames=8)


def test_generated_clips_begin_where_their_videos_do(folder):
  real = files.open_clips(folder, frames=8)
  fake = files.open_clips(folder, frames=8, offset="start")
  want = {
    np.stack([f.image for f in read.frames(path)])[:8].tobytes()
    for path in folder.iterdir()
  }
  videos = lambda clips: {c["video"].tobytes() for c in clips.read(range(9))}
  assert videos(fake) == want != videos(real)
  assert fake.card["offset"] == "one clip a file, from its first frame"
  assert real.card["offset"] == "one clip a file, at random, seed 0"
  assert fake.fingerprint != real.fingerprint
  with pytest.raises(ValueError, match="offset='middle'"):
    files.open_clips(folder, offset="middle")


def test_frame_rates_are_told(folder, tmp_path):
  """Half as many frames a second look twice as fast."""
  for i in range(9):
    fps = fractions.Fraction(30000, 1001) if i else 24
    write.write(tmp_path / f"{i}.mp4", clip(i, 9), fps=float(fps))
  real = files.open_clips(folder, frames=8)
  fake = files.open_clips(tmp_path, frames=8)
  assert real.card["fps"] == 10 and "fps_range" not in real.card
  assert fake.card["fps"] == pytest.approx(29.97, abs=1e-3)
  assert fake.card["fps_range"] == pytest.approx([24, 29.97], abs=1e-3)
  [remark] = files.check(fake, real)
  assert "29.97 frames a second, the reference 10" in remark
  assert files.check(real, real) == []
  path = tmp_path / "a.npy"
  np.save(path, np.stack([clip(i, 8) for i in range(9)]))
  array = files.open_clips(path, frames=8)
  assert array.card["fps"] is None and files.check(array, real) == []


def test_clips_are_brought_to_a_size(tmp_path):
  write.write(tmp_path / "a.mp4", clip(0, 8, 64, 96), fps=10)
  write.write(tmp_path / "b.mp4", clip(1, 8, 48, 32), fps=10)
  clips = files.open_clips(tmp_path, frames=8, size=16)
  assert clips.card["size"] == [8, 16, 16]
  assert {c["video"].shape for c in clips.read([0, 1])} == {(8, 16, 16, 3)}
  assert "16 (area)" in clips.card["resize"]
  video = clip(0, 8, 64, 96)[None]  # An array as images.
  np.save(tmp_path / "a.npy", video)
  (tmp_path / "images" / "a").mkdir(parents=True)
  for i, image in enumerate(video[0]):
    Image.fromarray(image).save(tmp_path / "images" / "a" / f"{i}.png")
  one, other = (
    files.open_clips(tmp_path / name, frames=8, size=16).read([0])[0]["video"]
    for name in ("a.npy", "images")
  )
  np.testing.assert_array_equal(one, other)
  (tmp_path / "a.npy").unlink()
  shutil.rmtree(tmp_path / "images")
  mixed = files.open_clips(tmp_path, frames=8)
  with pytest.raises(ValueError, match="must be alike.*--size"):
    mixed.read([0, 1])


def test_image_folders_with_gaps_and_two_sizes(tmp_path, capsys):
  for name in "abcdefgh":
    (tmp_path / name).mkdir()
    for i, t in enumerate((0, 1, 2, 5)):
      image = Image.fromarray(clip(ord(name))[t])
      image = image.crop((0, 0, 32, 24)) if i == 3 else image
      image.save(tmp_path / name / f"f{t}.png")
  options = ["--generated", tmp_path, "--reference", tmp_path, "--frames", 4]
  options = [*map(str, options), "--metrics=swd"]
  assert cli.main(["evaluate", *options]) == 1
  assert "several sizes" in capsys.readouterr().err
  assert cli.main(["evaluate", *options, "--size=16"]) == 0
  assert "16 frames of the generated clips are missing" in (
    capsys.readouterr().err
  )


def test_a_prepared_data_set(folder, tmp_path):
  out = tmp_path / "data"
  assert prepare.main([str(folder), str(out), "--test=0.3", "--workers=1"]) == 0
  clips = files.open_clips(out, frames=8, size=16)
  assert clips.card["size"] == [8, 16, 16] and len(clips) == 3
  assert clips.read([0])[0]["video"].shape == (8, 16, 16, 3)
  assert clips.card["fps"] == pytest.approx(10)
  other = files.open_clips(out, frames=8, size=16, split="train")
  assert len(other) == 6 and other.fingerprint != clips.fingerprint


def test_a_hash_names_the_clips_and_not_their_place(
  folder, tmp_path, monkeypatch
):
  def hashed(path):
    card = files.open_clips(path, frames=8).card
    return evals.Value(1.0, protocol={"real": card, "seed": 1}).hash

  shutil.copytree(folder, tmp_path / "copy")
  monkeypatch.chdir(tmp_path)
  first = hashed(folder)
  assert first == hashed("copy") == hashed(tmp_path / "copy")
  write.write(tmp_path / "copy" / "3.mp4", clip(30), fps=10)
  assert hashed("copy") != first
  (tmp_path / "other").mkdir()
  array = np.stack([clip(i) for i in range(9)])
  for name, value in (("a", array), ("b", np.asfortranarray(array))):
    np.save(f"{name}.npy", value)
  first = hashed("a.npy")
  assert first == hashed("b.npy") == hashed(tmp_path / "a.npy")
  array[4, 9, 5, 5] += 1
  np.save("a.npy", array)
  assert hashed("a.npy") != first
  arguments = [str(folder), "data", "--test=0.3", "--workers=1"]
  assert prepare.main(arguments) == 0
  first = hashed("data")
  shutil.copytree("data", "moved")
  assert hashed(tmp_path / "moved") == first
  shutil.rmtree("data")
  for i in range(9):
    write.write(tmp_path / "other" / f"{i}.mp4", clip(50 + i), fps=10)
  assert prepare.main(["other", *arguments[1:]]) == 0
  assert hashed("data") != first


def test_the_split_of_a_data_set(folder, tmp_path, capsys):
  data, out = tmp_path / "data", tmp_path / "out.json"
  assert prepare.main([str(folder), str(data), "--workers=1"]) == 0
  arguments = ["--generated", folder, "--reference", data, "--frames", 8]

  def verb(*options):
    return cli.main(
      ["evaluate", *map(str, [*arguments, *options, "--metrics", "swd"])]
    )

  assert verb("--split", "train", "--out", out) == 0
  real = json.loads(out.read_text())["records"]["swd"]["protocol"]["real"]
  assert real["split"] == "train" and real["num"] >= 8
  capsys.readouterr()
  assert verb() == 1  # There is no split 'test', or one too small.
  assert "--split" in capsys.readouterr().err
  assert verb("--split", "train[:3]") == 1
  text = capsys.readouterr().err
  assert "3 clips in its split 'train[:3]'" in text and "--split" in text
  assert verb("--split", "valid") == 1
  text = capsys.readouterr().err
  assert "no split 'valid'" in text and "say --split" in text
  arguments[3] = folder
  assert verb("--split", "train") == 1
  assert "is not a data set" in capsys.readouterr().err


def test_what_is_refused(folder, tmp_path):
  def refused(path, *words, **options):
    with pytest.raises(ValueError) as caught:
      files.open_clips(path, **options)
    for word in (str(path), *words):
      assert word in str(caught.value), caught.value

  refused(tmp_path / "nothing", "does not exist")
  refused(folder, "9 of 9", "fewer than 31", "--frames 20", frames=31)
  (tmp_path / "empty").mkdir()
  refused(tmp_path / "empty", "no videos")
  path = tmp_path / "x.npy"
  video = np.stack([clip(0)])
  for array, word in (
    (video[0], "(20, 32, 32, 3)"),
    (video / np.float32(255), "0 ... 255"),
    (np.full(video.shape, np.nan, np.float32), "not finite"),
    (video.transpose(0, 1, 4, 2, 3), "Channels come last"),
    (video.astype(np.int32), "int32"),
  ):
    np.save(path, array)
    refused(path, "uint8", word)
  np.save(path, video)
  refused(path, "--frames 20", frames=21)
  with pytest.raises(ValueError, match="--frames 0"):
    files.open_clips(folder, frames=0)
  np.save(path, video[:0])
  refused(path, "there is no pixel")
  for spoil in (b"", b"\x93NUMPY", path.read_bytes()[:70], b"text"):
    path.write_bytes(spoil)
    refused(path, "write it anew")
  np.savez(tmp_path / "z.npz", video)
  data = bytearray((tmp_path / "z.npz").read_bytes())
  data[len(data) // 2] ^= 255
  for spoil in (data, data[:500], b"PK\x03\x04"):
    (tmp_path / "z.npz").write_bytes(spoil)
    refused(tmp_path / "z.npz", "write it anew")
  np.savez(tmp_path / "y.npz", a=video, b=video)
  refused(tmp_path / "y.npz", "one array")


def test_suspicious_clips_are_told_of(tmp_path):
  rng = np.random.default_rng(0)
  video = rng.integers(0, 60, (8, 4, 16, 16, 3), np.uint8)
  video[..., 0] += 150  # Reddish.

  def opened(name, array):
    np.save(tmp_path / f"{name}.npy", array)
    return files.open_clips(tmp_path / f"{name}.npy", frames=4)

  real = opened("real", video)
  assert files.check(opened("same", video[::-1]), real) == []
  [remark] = files.check(opened("swapped", video[..., ::-1]), real)
  assert "BGR" in remark
  assert files.check(opened("green", np.roll(video, 1, -1)), real) == []
  with pytest.raises(ValueError, match=r"floats in \[0, 1\]"):
    files.check(opened("dark", video // 128), real)
  with pytest.raises(ValueError, match=r"\(4, 8, 16\).*\(4, 16, 16\)"):
    files.check(opened("small", video[:, :, :8]), real)


def test_skies_of_bgr_are_told_of(tmp_path):
  """Blue at noon and red at dusk, so that the mean of a set is grey."""
  rng = np.random.default_rng(0)

  def half(name, swap=False):
    noon = np.array([70, 130, 220]) + rng.normal(0, 12, (6, 4, 16, 16, 3))
    dusk = np.array([220, 100, 60]) + rng.normal(0, 12, (6, 4, 16, 16, 3))
    video = np.concatenate([noon, dusk]).clip(0, 255).astype(np.uint8)
    video = video[..., :: -1 if swap else 1]
    np.save(tmp_path / f"{name}.npy", video)
    return files.open_clips(tmp_path / f"{name}.npy", frames=4)

  real = half("real")
  assert files.check(half("other"), real) == []
  fake = half("swapped", swap=True)
  mean = lambda clips: np.mean(
    [c["video"].mean((0, 1, 2)) for c in clips.read(range(12))], 0
  )
  assert abs(mean(fake) - mean(real)).max() < 8
  [remark] = files.check(fake, real)
  assert "BGR" in remark


@footage.needed
def test_real_sets_are_not_taken_for_bgr(tmp_path):
  """Halves of the gestures of sign language, and one of them exchanged."""
  videos = sorted(pathlib.Path(footage.REAL, "asl_gestures").glob("*.mkv"))
  for i, path in enumerate(videos):
    half = tmp_path / "ab"[i % 2]
    half.mkdir(exist_ok=True)
    (half / path.name).symlink_to(path)
  a, b = (files.open_clips(tmp_path / n, frames=8, size=32) for n in "ab")
  assert not any("BGR" in remark for remark in files.check(a, b))
  videos = np.stack([clip["video"] for clip in a.read(range(len(a)))])
  np.save(tmp_path / "c.npy", videos[..., ::-1])
  c = files.open_clips(tmp_path / "c.npy", frames=8)
  assert any("BGR" in remark for remark in files.check(c, b))


@footage.needed
def test_people_that_differ_in_colour_are_not_taken_for_bgr(tmp_path):
  """Two of nine people of Weizmann against the others, in both directions."""
  for c in "0134":
    strips = sorted(pathlib.Path(footage.REAL, "weizmann_mocogan", c).iterdir())
    for i, path in enumerate(strips):
      part = tmp_path / ("few" if i in (3, 7) else "many")
      part.mkdir(exist_ok=True)
      (part / f"{c}_{i}.jpg").symlink_to(path)
  few, many = (files.open_clips(tmp_path / n) for n in ("few", "many"))
  assert files.check(few, many) == files.check(many, few) == []


def test_images_beside_videos_are_told_of(tmp_path, capsys):
  """In the note of every value: of these clips nothing is measured."""
  (tmp_path / "mixed" / "x").mkdir(parents=True)
  for i in range(8):
    write.write(tmp_path / "mixed" / f"{i}.mp4", clip(i, 8), fps=10)
  for t in range(3):
    path = tmp_path / "mixed" / "x" / f"{t}.png"
    Image.fromarray(clip(9)[t]).save(path)
  out = tmp_path / "out.json"
  options = ["--generated", tmp_path / "mixed", "--frames", 8]
  options += ["--reference", tmp_path / "mixed", "--out", out]
  assert cli.main(["evaluate", *map(str, options), "--metrics=swd"]) == 0
  for text in (
    capsys.readouterr().err,
    json.loads(out.read_text())["records"]["swd"]["note"],
  ):
    assert "The generated folder has 3 images beside its videos" in text
    assert "The reference folder has 3 images" in text


def test_the_verb_on_folders(tmp_path, capsys):
  """As a user: one command, no config; both sets are the same whole videos."""
  folder = tmp_path / "videos"
  folder.mkdir()
  for i in range(9):
    write.write(folder / f"{i}.mp4", clip(i, 8), fps=10)
  out = tmp_path / "values.json"
  arguments = ["evaluate", "--generated", folder, "--reference", folder]
  options = ["--frames", "8", "--metrics", "frd_random,swd", "--out", out]
  assert cli.main([*map(str, arguments + options)]) == 0
  text = capsys.readouterr().out
  assert "frd_random" in text and str(out) in text
  row = json.loads(out.read_text())
  assert row["frd_random"] < 1e-6 and row["swd"] == 0
  record = row["records"]["frd_random"]
  assert record["num"] == {"generated": 9, "real": 9}
  assert record["protocol"]["real"]["files"] == str(folder)
  assert record["protocol"]["size"] == [8, 32, 32]
  assert row["settings"]["frames"] == 8
  options[-3:] = ["swd", "--num", "12", "--overwrite"]
  assert cli.main([*map(str, [*arguments, *options, "--out", out])]) == 0
  row = json.loads(out.read_text())
  assert "asked 12, there are 9" in row["records"]["swd"]["note"]
