"""Reading, cutting and writing video."""

import csv
import fractions
import gc
import io
import os
import pathlib

import av
import numpy as np
from PIL import Image
import pytest

from vidgan_jax.video import clips
from vidgan_jax.video import folder
from vidgan_jax.video import read
from vidgan_jax.video import write

REAL = os.environ.get("VIDGAN_REAL_DATA")


def smooth(frames=8, height=48, width=64, seed=0):
  """A smooth moving picture, (T, H, W, 3) uint8."""
  a, b, c = np.random.default_rng(seed).uniform(5, 12, 3)
  y, x = np.mgrid[:height, :width]
  return np.stack(
    [
      np.stack(
        [
          128 + 100 * np.sin((x + 3 * t) / a),
          128 + 100 * np.cos((y + t) / b),
          128 + 90 * np.sin((x + y) / c),
        ],
        -1,
      )
      for t in range(frames)
    ]
  ).astype(np.uint8)


def encode(
  path,
  video,
  *,
  codec="libx264",
  rate=25,
  pts=None,
  matrix=1,
  colour_range=1,
  tag=True,
  aspect=None,
  matrix9=None,
  fmt=None,
):
  """An independent writer, for files that ours would never make."""
  with av.open(str(path), "w", format=fmt) as container:
    stream = container.add_stream(codec, rate=rate)
    stream.height, stream.width = video.shape[1:3]
    stream.pix_fmt = "yuv420p"
    if codec == "libx264":
      stream.options = {"crf": "1", "bf": "0"}
    if tag:
      stream.codec_context.colorspace = matrix
      stream.codec_context.color_range = colour_range
    if aspect:
      stream.codec_context.sample_aspect_ratio = aspect
    if matrix9:
      stream.set_display_matrix(matrix9)
    for i, image in enumerate(video):
      frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image))
      frame = frame.reformat(
        format="yuv420p", dst_colorspace=matrix, dst_color_range=colour_range
      )
      frame.pts = i if pts is None else pts[i]
      frame.time_base = fractions.Fraction(1, rate)
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


def images(path, **options):
  return np.stack([f.image for f in read.frames(path, **options)])


def error(path, **options):
  with pytest.raises(read.VideoError) as caught:
    list(read.frames(path, **options))
  text = str(caught.value)
  assert str(path) in text and "\n" not in text
  return text


def close(a, b):
  return np.abs(a.astype(float) - b.astype(float)).mean()


# ---------------------------------------------------------------- reading


def test_round_trip_keeps_frames_times_and_colours(tmp_path):
  video = smooth(12)
  write.write(tmp_path / "a.mp4", video, 12.5)
  got = list(read.frames(tmp_path / "a.mp4"))
  assert [f.time for f in got] == pytest.approx([i / 12.5 for i in range(12)])
  back = np.stack([f.image for f in got])
  assert back.dtype == np.uint8
  assert back.shape == video.shape
  assert close(back, video) < 4
  info = read.probe(tmp_path / "a.mp4")
  assert (info.height, info.width, info.fps) == (48, 64, 12.5)
  assert (info.codec, info.frames, info.audio) == ("h264", 12, False)


@pytest.mark.parametrize("colour_range", [1, 2])
@pytest.mark.parametrize("matrix", [1, 5, 9])
def test_the_streams_own_matrix_and_range_are_honoured(
  tmp_path, matrix, colour_range
):
  colours = [(200, 30, 60), (20, 180, 90), (30, 60, 220), (128, 128, 128)]
  video = np.zeros((4, 32, 48, 3), np.uint8) + np.uint8(colours)[:, None, None]
  path = encode(
    tmp_path / "a.mkv", video, matrix=matrix, colour_range=colour_range
  )
  for size in (None, 16):  # 4:4:4 arithmetic and the scaler's
    got = images(path, size=size).reshape(4, -1, 3).mean(1)
    assert np.abs(got - colours).max() < 3


@pytest.mark.parametrize(
  ("height", "width", "matrix"),
  [(720, 960, 1), (544, 1280, 1), (576, 720, 5)],
)
def test_untagged_video_is_read_as_players_do(tmp_path, height, width, matrix):
  colour = (200, 30, 60)
  video = np.zeros((2, height, width, 3), np.uint8) + np.uint8(colour)
  path = encode(tmp_path / "a.mkv", video, matrix=matrix, tag=False)
  got = images(path, size=32).reshape(-1, 3).mean(0)
  assert np.abs(got - colour).max() < 3
  wrong = encode(tmp_path / "b.mkv", video, matrix=6 - matrix, tag=False)
  got = images(wrong, size=32).reshape(-1, 3).mean(0)
  assert np.abs(got - colour).max() > 6  # so the test can tell


@pytest.mark.parametrize(
  ("a", "b", "c", "d", "expected"),
  [
    (1, 0, 0, 1, lambda v: v),
    (0, 1, -1, 0, lambda v: np.rot90(v, -1, (1, 2))),
    (-1, 0, 0, -1, lambda v: np.rot90(v, 2, (1, 2))),
    (0, -1, 1, 0, lambda v: np.rot90(v, 1, (1, 2))),
    (-1, 0, 0, 1, lambda v: v[:, :, ::-1]),
    (1, 0, 0, -1, lambda v: v[:, ::-1]),
    (0, 1, 1, 0, lambda v: v.swapaxes(1, 2)),
    (0.7, 0.7, -0.7, 0.7, lambda v: v),  # nonsense: left as it is
  ],
)
def test_display_matrix(a, b, c, d, expected):
  matrix = np.zeros(9, np.int32)
  matrix[[0, 1, 3, 4]] = np.array([a, b, c, d]) * 65_536
  kind = av.sidedata.sidedata.Type.DISPLAYMATRIX
  video = smooth(2)
  turn = read._orientation({kind: matrix.tobytes()})
  got = np.stack([read._upright(image, *turn) for image in video])
  np.testing.assert_array_equal(got, expected(video))


def test_rotation_of_a_file_is_applied(tmp_path):
  video = smooth(3)
  path = tmp_path / "a.mp4"
  with av.open(str(path), "w") as container:
    stream = container.add_stream("libx264", rate=25)
    stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
    stream.options = {"crf": "1"}
    stream.set_display_rotation(90)
    for image in video:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
    container.mux(stream.encode(None))
  got = images(path)
  assert got.shape == (3, 64, 48, 3)
  # Degrees are counter-clockwise in this container's convention.
  turned = [close(got, np.rot90(video, k, (1, 2))) for k in (1, -1)]
  assert min(turned) < 8 < 3 * min(turned) < max(turned)
  small = images(path, size=24)
  assert small.shape == (3, 32, 24, 3)


def test_square_pixels_on_request(tmp_path):
  wide = encode(tmp_path / "a.mkv", smooth(2), aspect=fractions.Fraction(2, 1))
  tall = encode(tmp_path / "b.mkv", smooth(2), aspect=fractions.Fraction(1, 2))
  assert images(wide).shape == (2, 48, 64, 3)
  assert images(wide, square_pixels=True).shape == (2, 48, 128, 3)
  assert images(tall, square_pixels=True).shape == (2, 96, 64, 3)
  assert images(wide, square_pixels=True, size=24).shape == (2, 24, 64, 3)
  assert read.probe(wide).pixel_aspect == 2


def test_irregular_times_are_kept_and_start_at_zero(tmp_path):
  pts = [7, 8, 10, 15, 16, 40, 41, 42]
  path = encode(tmp_path / "a.mkv", smooth(8), pts=pts)
  times = [f.time for f in read.frames(path)]
  assert times == pytest.approx([(p - 7) / 25 for p in pts], abs=2e-3)


def test_times_always_increase(tmp_path):
  class Picture:
    time_base = fractions.Fraction(1, 100)

    def __init__(self, time):
      self.pts = None if time is None else round(100 * time)

  path = encode(tmp_path / "a.mkv", smooth(2))
  with read.Reader(path) as reader:
    given = [5.0, None, 5.08, 5.08, 1.0, 9.0, None]
    reader._decoded = lambda *others: iter([Picture(t) for t in given])
    reader.convert = lambda picture: None
    got = [f.time for f in reader]
  assert got[0] == 0
  assert np.all(np.diff(got) > 0)
  assert got[5] == pytest.approx(4.0)


def test_size_is_the_shorter_side_by_area(tmp_path):
  video = smooth(2, 96, 128)
  path = encode(tmp_path / "a.mkv", video)
  small = images(path, size=24)
  area = images(path).reshape(2, 24, 4, 32, 4, 3).mean((2, 4))
  assert small.shape == area.shape
  assert close(small, area) < 0.7
  assert images(path, size=200).shape == video.shape
  assert images(path, size=192, upscale=True).shape == (2, 192, 256, 3)


@pytest.mark.parametrize("size", [1, 7, 64, 500])
def test_fit_keeps_the_aspect(size):
  rng = np.random.default_rng(size)
  for height, width in rng.integers(1, 3000, (200, 2)):
    for upscale in (False, True):
      h, w = read.fit(int(height), int(width), size, upscale)
      if min(height, width) < size and not upscale:
        assert (h, w) == (height, width)
      else:
        assert min(h, w) == size
        scale = size / min(height, width)
        assert abs(max(h, w) - scale * max(height, width)) <= 0.5 + 1e-9
  assert read.fit(30, 40, None) == (30, 40)


def test_a_change_of_size_is_scaled_to_the_first(tmp_path):
  path = tmp_path / "a.h264"
  parts = []
  for i, shape in enumerate([(48, 64), (96, 128)]):
    part = encode(tmp_path / f"{i}.h264", smooth(4, *shape), fmt="h264")
    parts.append(part.read_bytes())
  path.write_bytes(b"".join(parts))
  assert images(path).shape == (8, 48, 64, 3)


def test_whatever_the_name_says(tmp_path):
  path = encode(tmp_path / "a.mkv", smooth(3))
  for name in ("lies.mp4", "-dash.avi", "concat:x", "no_suffix", "ü b.txt"):
    copy = tmp_path / name
    copy.write_bytes(path.read_bytes())
    assert len(images(copy)) == 3


def test_what_is_no_video_is_refused_in_one_sentence(tmp_path):
  (tmp_path / "empty.mp4").write_bytes(b"")
  (tmp_path / "noise.mp4").write_bytes(os.urandom(5000))
  (tmp_path / "text.txt").write_text("hello\n" * 100)
  Image.fromarray(smooth(1)[0]).save(tmp_path / "still.png")
  Image.fromarray(smooth(1)[0]).save(tmp_path / "still.jpg")
  (tmp_path / "list.m3u8").write_text(
    "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n"
  )
  encode(tmp_path / "real.mkv", smooth(3))
  (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile real.mkv")
  with av.open(str(tmp_path / "sound.wav"), "w") as container:
    stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16")
    frame.sample_rate = 8000
    container.mux(stream.encode(frame))
  names = sorted(p.name for p in tmp_path.iterdir() if p.name != "real.mkv")
  for name in names:
    error(tmp_path / name)
  error(tmp_path / "missing.mp4")
  error(tmp_path)
  assert "empty" in error(tmp_path / "empty.mp4")
  assert "audio" in error(tmp_path / "sound.wav")
  assert "still" in error(tmp_path / "still.png")
  assert len(names) == 8


def test_absurd_sizes_are_refused(tmp_path, monkeypatch):
  path = encode(tmp_path / "a.mkv", smooth(2))
  monkeypatch.setattr(read, "MAX_SIDE", 63)
  assert "64x48" in error(path)
  monkeypatch.setattr(read, "MAX_SIDE", 64)
  assert len(images(path)) == 2
  monkeypatch.setattr(read, "MAX_PIXELS", 64 * 48 - 1)
  assert "64x48" in error(path)


def test_damage_costs_frames_not_the_file(tmp_path):
  path = encode(tmp_path / "a.mkv", smooth(60))
  data = bytearray(path.read_bytes())
  rng = np.random.default_rng(0)
  for at in rng.integers(len(data) // 3, len(data), 40):
    data[at] ^= 0xFF
  (tmp_path / "b.mkv").write_bytes(data)
  reader = read.Reader(tmp_path / "b.mkv")
  got = list(reader)
  assert 10 < len(got) <= 60
  assert len(got) < 60 or reader.damaged or reader.ended
  (tmp_path / "c.mkv").write_bytes(path.read_bytes()[: len(data) // 2])
  assert 10 < len(list(read.frames(tmp_path / "c.mkv"))) < 50


def test_frames_are_not_kept_alive(tmp_path):
  path = encode(tmp_path / "a.mkv", smooth(60))
  gc.collect()
  gc.disable()
  try:
    for i, _ in enumerate(read.frames(path, threads=1)):
      if i == 55:
        objects = gc.get_objects()
        alive = sum(isinstance(o, av.VideoFrame) for o in objects)
  finally:
    gc.enable()
  assert alive < 8


@pytest.mark.skipif(not REAL, reason="VIDGAN_REAL_DATA is not set")
def test_real_files_give_the_frames_that_ffmpeg_counts():
  checked = 0
  with open(pathlib.Path(REAL) / "MANIFEST.tsv") as file:
    for row in csv.DictReader(file, delimiter="\t"):
      name, claimed = row["path"], row["frames_decoded"]
      clean = row["ffmpeg_5.1.9_decode"] == "rc=0 err=0"
      wanted = name.startswith(("torchvision", "messy/decord", "messy/fate/h"))
      if not (wanted and clean and claimed.isdigit() and int(claimed)):
        continue
      got = sum(1 for _ in read.frames(pathlib.Path(REAL) / name, size=16))
      assert got == int(claimed), name
      checked += 1
  assert checked > 15


# ---------------------------------------------------------------- shots


def stream(*shots, fps=25):
  pictures = [image for shot in shots for image in shot]
  return [read.Frame(image, i / fps) for i, image in enumerate(pictures)]


def cuts(frames, **options):
  numbers = [shot for _, shot in clips.cut(frames, **options)]
  assert len(numbers) == len(frames)
  return [i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1]]


def test_cuts_are_where_the_shots_meet():
  night = smooth(12, seed=1) // 6
  day = smooth(15, seed=2)
  frames = stream(day, night, day[::-1])
  assert cuts(frames) == [15, 27]
  assert cuts(frames, detect=False) == []
  order = [f.time for f, _ in clips.cut(frames)]
  assert order == [f.time for f in frames]


def test_motion_flash_and_stillness_are_no_cuts():
  video = smooth(30)
  assert cuts(stream(video)) == []
  assert cuts(stream(video[:1].repeat(30, 0))) == []
  fast = np.stack([np.roll(video[0], 5 * i, 1) for i in range(30)])
  assert cuts(stream(fast)) == []
  flash = video.copy()
  flash[11] = 255
  assert cuts(stream(flash)) == []


def test_a_gap_in_time_is_a_cut():
  frames = stream(smooth(20))
  late = [read.Frame(f.image, f.time + (60 if i > 7 else 0))
          for i, f in enumerate(frames)]  # fmt: skip
  assert cuts(late) == [8]
  assert cuts(late, detect=False) == []
  slow = [read.Frame(f.image, 10 * i) for i, f in enumerate(frames)]
  assert cuts(slow) == []  # not where it is the usual one


@pytest.mark.parametrize("fps", [3.0, 10.0, 24.0, 25.0, 60.0])
def test_resampling_takes_the_nearest_frame(fps):
  rng = np.random.default_rng(int(fps))
  times = np.cumsum(rng.uniform(0.01, 0.09, 80))
  shots = np.sort(rng.integers(0, 3, 80))
  given = [(read.Frame(np.int64(i), t), s)
           for i, (t, s) in enumerate(zip(times, shots))]  # fmt: skip
  got = list(clips.resample(given, fps, 1000))
  for shot in range(3):
    mine = times[shots == shot]
    first = int(np.flatnonzero(shots == shot)[0])
    part = [f for f, s in got if s == shot]
    # The last frame stands for half a step more, like every other.
    end = mine[-1] - mine[0] + (mine[-1] - mine[-2]) / 2
    count = int(np.ceil(end * fps - 1e-9))
    grid = mine[0] + np.arange(count) / fps
    nearest = np.abs(mine[None] - grid[:, None]).argmin(1) + first
    assert [int(f.image) for f in part] == list(nearest)
    np.testing.assert_allclose([f.time for f in part], grid)


@pytest.mark.parametrize("frames", [1, 2, 7, 8, 9, 15, 16, 17, 40])
def test_long_shots_become_even_records(tmp_path, frames):
  video = smooth(frames, 16, 16)
  strip = Image.fromarray(write.strip(video))
  strip.save(tmp_path / "a.png")
  tally = clips.Tally()
  options = clips.Options(layout="strips", max_frames=8, min_frames=2)
  source = folder.scan(tmp_path, "strips")[1][0]
  records = list(clips.records(tmp_path, source, options, tally))
  lengths = [len(r["frames"]) for r in records]
  assert sum(lengths) == (frames if frames > 1 else 0) == tally.kept
  assert all(2 <= n <= 8 for n in lengths)
  assert frames <= 8 or min(lengths) >= 4
  assert tally.frames == frames
  if records:
    back = np.concatenate([clips.decode(r["frames"]) for r in records])
    np.testing.assert_array_equal(back, video)
    starts = [r["start"] for r in records]
    np.testing.assert_allclose(starts, np.cumsum([0, *lengths[:-1]]) / 25)
    assert all(r["times"][0] == 0 for r in records)


def test_a_record_ends_at_its_bytes(tmp_path, monkeypatch):
  Image.fromarray(write.strip(smooth(40, 16, 16))).save(tmp_path / "a.png")
  monkeypatch.setattr(clips, "RECORD_BYTES", 3000)
  options = clips.Options(layout="strips")
  source = folder.scan(tmp_path, "strips")[1][0]
  records = list(clips.records(tmp_path, source, options, clips.Tally()))
  sizes = [sum(map(len, r["frames"])) for r in records]
  assert len(records) > 1
  assert max(sizes) < 3000 + 1000


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_every_format_holds_every_frame(tmp_path, suffix):
  video = smooth(9, 40, 56)
  video[4] = video[3]  # a frame that repeats is still a frame
  path = tmp_path / f"a{suffix}"
  write.write(path, video, 10)
  if suffix == ".mp4":
    back = images(path)
  else:
    with Image.open(path) as picture:
      assert picture.info["loop"] == 0
      back = []
      for i in range(picture.n_frames):
        picture.seek(i)
        image = np.asarray(picture.convert("RGB"))
        repeats, rest = divmod(picture.info["duration"], 100)
        assert repeats and not rest  # WebP joins equal frames
        back += [image] * repeats
    back = np.stack(back)
  assert back.shape == video.shape
  assert close(back, video) < 8
  assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_moving_webp_is_read_back(tmp_path):
  path = tmp_path / "a.webp"
  pictures = [
    Image.fromarray(
      np.full((24, 32, 4), (200, 40 * i, 30, 55 * i + 20), np.uint8)
    )
    for i in range(5)
  ]
  times = [40, 80, 500, 40, 90]
  pictures[0].save(path, save_all=True, append_images=pictures[1:],
                   duration=times, lossless=True, exact=True)  # fmt: skip
  with read.Reader(path) as reader:
    both = [(reader.convert(p, "rgba"), t) for p, t in reader.pictures()]
    assert reader.info.duration == pytest.approx(0.75)
  for (image, time), picture, start in zip(
    both, pictures, np.cumsum([0, *times]), strict=False
  ):
    np.testing.assert_array_equal(image, picture)
    assert time * 1000 == start
  assert len(both) == 5
  write.write(tmp_path / "b.webp", np.zeros((4, 24, 32, 3), np.uint8) + 9, 10)
  assert len(list(read.frames(tmp_path / "b.webp"))) in (
    1,
    4,
  )  # equal ones join
  whole = path.read_bytes()
  huge = whole[:24] + b"\xff" * 6 + whole[30:]
  for broken, why in ((whole[: len(whole) // 2], ""), (huge, "limit")):
    path.write_bytes(broken)
    with pytest.raises(read.VideoError, match=f"a.webp: not a video.*{why}"):
      list(read.frames(path))


def test_gif_is_exact_where_the_palette_suffices(tmp_path):
  rng = np.random.default_rng(0)
  for colours in (2, 5, 200):
    palette = rng.integers(0, 256, (4, colours, 3)).astype(np.uint8)
    index = rng.integers(0, colours, (4, 20, 31))
    video = np.stack([p[i] for p, i in zip(palette, index)])
    write.write(tmp_path / "a.gif", video, 30)
    np.testing.assert_array_equal(images(tmp_path / "a.gif"), video)
    times = [f.time for f in read.frames(tmp_path / "a.gif")]
    assert times == pytest.approx([0, 0.03, 0.07, 0.10], abs=1e-3)


def test_mp4_pads_odd_sizes_by_repetition_and_is_tagged(tmp_path):
  video = smooth(3, 31, 45)
  write.write(tmp_path / "a.mp4", video)
  back = images(tmp_path / "a.mp4")
  assert back.shape == (3, 32, 46, 3)
  assert close(back[:, :31, :45], video) < 6
  assert close(back[:, 31], back[:, 30]) < 8
  with av.open(str(tmp_path / "a.mp4")) as container:
    frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (1, 1)
    assert (frame.color_primaries, frame.color_trc) == (1, 1)


def test_scale_repeats_pixels(tmp_path):
  video = smooth(2, 8, 9)
  write.write(tmp_path / "a.gif", video, scale=4)
  write.write(tmp_path / "b.gif", video.repeat(4, 1).repeat(4, 2))
  np.testing.assert_array_equal(
    images(tmp_path / "a.gif"), images(tmp_path / "b.gif")
  )


def test_strip_and_grid_put_frames_where_they_say(tmp_path):
  rng = np.random.default_rng(0)
  videos = rng.integers(0, 256, (5, 4, 3, 2, 3)).astype(np.uint8)
  strip = write.strip(videos[0])
  assert strip.shape == (3, 8, 3)
  for t in range(4):
    np.testing.assert_array_equal(strip[:, 2 * t : 2 * t + 2], videos[0, t])
  for columns in (None, 1, 2, 5):
    grid = write.grid(videos, columns)
    wide = columns or 3
    assert grid.shape == (4, 3 * -(-5 // wide), 2 * wide, 3)
    for i in range(5):
      y, x = 3 * (i // wide), 2 * (i % wide)
      np.testing.assert_array_equal(grid[:, y : y + 3, x : x + 2], videos[i])
    assert grid.sum() == videos.sum()  # and nothing else
  write.write(tmp_path / "a.png", videos[0])
  with Image.open(tmp_path / "a.png") as picture:
    np.testing.assert_array_equal(np.asarray(picture), strip)


def test_nothing_is_left_when_writing_fails(tmp_path):
  path = tmp_path / "a.mp4"
  path.write_text("before")
  with pytest.raises(ZeroDivisionError):
    with write.Writer(path) as out:
      out.append(smooth(1)[0])
      _ = 1 / 0
  with pytest.raises(read.VideoError, match="no frame"):
    with write.Writer(path):
      pass
  with pytest.raises(ValueError, match="frame 1"):
    with write.Writer(path) as out:
      out.append(smooth(1)[0])
      out.append(smooth(1)[0][1:])
  for suffix in write.SUFFIXES:
    with pytest.raises(read.VideoError, match="no frame"):
      write.write(tmp_path / f"b{suffix}", smooth(1)[:0])
  assert path.read_text() == "before"
  assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_writing_says_what_is_wrong(tmp_path):
  with pytest.raises(read.VideoError, match=r"'.xyz'.*\.mp4, \.gif, \.webp"):
    write.write(tmp_path / "a.xyz", smooth(1))
  with pytest.raises(ValueError, match="float64"):
    write.write(tmp_path / "a.mp4", smooth(1) / 255)
  for options in ({"fps": 0}, {"crf": 52}, {"scale": 0}, {"scale": 1.5}):
    with pytest.raises(ValueError, match=next(iter(options))):
      write.write(tmp_path / "a.mp4", smooth(1), **options)


def test_a_full_disk_is_one_sentence():
  if not os.path.exists("/dev/full"):
    pytest.skip("needs /dev/full")
  sink = write._Gif("/dev/full", ".gif", (48, 64, 3), 25, 0, None)
  with pytest.raises(OSError, match="No space"):
    for image in smooth(400):
      sink.append(image)
  text = str(write._failed("a.gif", OSError(28, "No space left on device")))
  assert text == "a.gif: cannot be written (No space left on device)"


def test_serialized_pngs_are_lossless_and_jpegs_close():
  image = smooth(1)[0]
  png = clips.encode(image, clips.Options())
  jpeg = clips.encode(image, clips.Options(encoding="jpeg", quality=95))
  np.testing.assert_array_equal(clips.decode([png])[0], image)
  assert close(clips.decode([jpeg])[0], image) < 2
  grey = io.BytesIO()
  Image.fromarray(image[..., 0]).save(grey, "PNG")
  assert clips.decode([grey.getvalue()]).shape == (1, *image.shape)
