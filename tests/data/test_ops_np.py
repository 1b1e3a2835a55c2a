"""The clip ops in NumPy."""

import numbered
import numpy as np
import pytest

from vidgan_jax.data import oplang
from vidgan_jax.data import ops_np
from vidgan_jax.data import signals


def run(text, seed=0, example=None):
  return ops_np.build(text)(example or numbered.Source().example(5), seed)


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
  clip, shown, _, _ = numbered.take(got["video"])
  assert clip == 5 and shown.tolist() == frames
  np.testing.assert_allclose(
    got["times"], (np.array(frames) - frames[0]) / 8, atol=1e-6
  )
  assert sorted(got) == ["caption", "label", "times", "video"]


def test_random_choices_cover_all_and_stay_inside():
  starts, firsts, seen = set(), set(), set()
  for seed in range(200):
    frames = numbered.take(run("clip(3, stride=2)", seed)["video"])[1]
    assert np.diff(frames).tolist() == [2, 2]
    starts.add(int(frames[0]))
    got = run("sparse(3, 6)", seed)
    frames = numbered.take(got["video"])[1].astype(int)
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
    _, _, rows, columns = numbered.take(got)
    assert (np.diff(rows) == 1).all() and (np.diff(columns) == 1).all()
    corners.add((int(rows[0]), int(columns[0])))
  assert corners == {(r, c) for r in range(3) for c in range(3)}
  _, _, rows, columns = numbered.take(run("center_crop(5)")["video"])
  assert rows.tolist() == [2, 3, 4, 5, 6]
  assert columns.tolist() == [3, 4, 5, 6, 7]


def test_flip_and_reverse_take_the_whole_clip():
  flips = reverses = 0
  for seed in range(100):
    got = run("first(4, stride=2) | reverse | flip_lr", seed)
    _, frames, _, columns = numbered.take(got["video"])
    assert columns.tolist() in (list(range(12)), list(range(12))[::-1])
    assert frames.tolist() in ([0, 2, 4, 6], [6, 4, 2, 0])
    assert (np.diff(got["times"]) > 0).all()
    flips += int(columns[0] == 11)
    reverses += int(frames[0] == 6)
  assert 30 < flips < 70 and 30 < reverses < 70


def test_reverse_keeps_the_gaps():
  example = numbered.Source().example(0)
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
  assert numbered.take(got["video"])[1].tolist() == [0, 2, 4, 6, 8]
  np.testing.assert_allclose(got["times"], np.arange(5) / 4)
  got = run("fps(16) | first(5)")
  assert np.abs(np.diff(numbered.take(got["video"])[1].astype(int))).max() <= 1
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
  frames = np.array([numbered.encode(f, kind) for f in video], object)
  frames[5:] = b"no picture at all"
  example = {"frames": frames, "times": np.arange(9, dtype=np.float32)}
  got = run("first(3, stride=2) | resize(4)", 0, example)["video"]
  np.testing.assert_array_equal(got[:, 0, 0, 0], [0, 40, 80])
  with pytest.raises(signals.DataError, match="picture 5"):
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
  example = numbered.Source().example(0)
  for fail in (
    lambda: run(text, 0, example),
    lambda: ops_np.check_usable(example, oplang.plan(text)),
  ):
    with pytest.raises(signals.DataError) as e:
      fail()
    assert all(word in str(e.value) for word in words), str(e.value)


def test_check_usable_reads_headers_only():
  noise = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)
  frames = np.array(
    [numbered.encode(noise)[:80], b"", b""], object
  )  # cut after the header
  example = {"frames": frames, "times": np.zeros(3)}
  ops_np.check_usable(example, oplang.plan("crop(10)"))
  with pytest.raises(signals.DataError, match="10x12"):
    ops_np.check_usable(example, oplang.plan("crop(11)"))
  with pytest.raises(signals.DataError, match="3 frames and 2 times"):
    ops_np.check_usable(example | {"times": np.zeros(2)}, [])
