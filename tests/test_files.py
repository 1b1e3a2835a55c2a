"""Clips in files: what is taken, what is refused."""

import json

import numpy as np
from PIL import Image
import pytest

from vidgan_jax import cli
from vidgan_jax import prepare
from vidgan_jax.evals import files
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
  assert len(clips) == 9 and clips.shape == (8, 32, 32)
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
    parts = list(clips.stream(0, 7, batch))
    assert max(map(len, parts)) <= batch
    np.testing.assert_array_equal(np.concatenate(parts), want)
  assert len(np.concatenate(list(clips.stream(0, 99, 4)))) == 9
  np.testing.assert_array_equal(clips.clips(0, 7)[0], want)
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
    got = clips.clips(0, 3)[0]
    assert got.shape == want.shape, name
    key = lambda video: video.tobytes()
    assert sorted(got, key=key)[0].tobytes() == min(map(key, want))
    assert {key(v) for v in got} == {key(v) for v in want}, name


def test_one_video_is_cut_into_clips(tmp_path):
  path = tmp_path / "film.mp4"
  video = np.concatenate([clip(0), clip(1), clip(2)])[:45]
  write.write(path, video, fps=10)
  clips = files.open_clips(path, frames=5, stride=2)
  assert len(clips) == 5
  for i, example in enumerate(clips.read(range(5))):
    want = video[9 * i : 9 * i + 9 : 2]
    assert abs(example["video"].astype(int) - want).mean() < 4


def test_clips_are_brought_to_a_size(tmp_path):
  write.write(tmp_path / "a.mp4", clip(0, 8, 64, 96), fps=10)
  write.write(tmp_path / "b.mp4", clip(1, 8, 48, 32), fps=10)
  clips = files.open_clips(tmp_path, frames=8, size=16)
  assert clips.shape == (8, 16, 16)
  assert {c["video"].shape for c in clips.read([0, 1])} == {(8, 16, 16, 3)}
  assert "16 (area)" in clips.card["resize"]
  mixed = files.open_clips(tmp_path, frames=8)
  with pytest.raises(ValueError, match="must be alike.*--size"):
    mixed.read([0, 1])


def test_a_prepared_data_set(folder, tmp_path):
  out = tmp_path / "data"
  assert prepare.main([str(folder), str(out), "--test=0.3", "--workers=1"]) == 0
  clips = files.open_clips(out, frames=8, size=16)
  assert clips.shape == (8, 16, 16) and len(clips) == 3
  assert clips.read([0])[0]["video"].shape == (8, 16, 16, 3)
  other = files.open_clips(out, frames=8, size=16, split="train")
  assert len(other) == 6 and other.fingerprint != clips.fingerprint


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
  refused(path, "--size", size=16)
  with pytest.raises(ValueError, match="--frames 0"):
    files.open_clips(folder, frames=0)
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


def test_the_verb_on_folders(folder, tmp_path, capsys):
  """As a user: one command, no config."""
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
  options[-3:] = ["swd", "--num", "12"]
  assert cli.main([*map(str, [*arguments, *options, "--out", out])]) == 0
  row = json.loads(out.read_text())
  assert "asked 12, there are 9" in row["records"]["swd"]["note"]
