"""Edits: filters against the ffmpeg program, and what is made of options."""

import fractions

import numpy as np
import pytest
from scipy import ndimage

from vidgan_jax.video import filters
from vidgan_jax.video import job
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import segments
from vidgan_jax.video import stages
from vidgan_jax.video import steady
from vidgan_jax.video import stream

STEP = fractions.Fraction(1, 25)


def pattern(frames=8, height=48, width=64):
  """A moving picture (T, H, W, 3) uint8 that no mirror leaves as it is."""
  y, x, t = np.ogrid[:height, :width, :frames]
  planes = [(3 * x + 5 * t + 0 * y), (4 * y + 0 * x + t), (x + y + 7 * t)]
  return np.moveaxis(np.stack(planes, -1), 2, 0).astype(np.uint8)


@pytest.fixture(scope="module")
def film(ffmpeg, tmp_path_factory):
  """A lossless film of 10 frames."""
  path = tmp_path_factory.mktemp("film") / "a b.mkv"
  ffmpeg(
    "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=0.4", "-vf",
    "format=yuv420p", "-c:v", "ffv1", "-color_range", "tv", path,
  )  # fmt: skip
  return path


def pictures(path):
  """(time, planes) of every frame, as stored."""
  with read.Reader(path, threads=1) as reader:
    return [(time, p.to_ndarray()) for p, time in reader.pictures()]


def through(path, text):
  """The same of the frames of a file that went through filters."""
  with read.Reader(path, threads=1) as reader:
    frames = (
      stream.Frame(time=time, duration=STEP, picture=picture)
      for picture, time in reader.pictures()
    )
    out = filters.filtered(
      frames, text, flag="--filter", base=fractions.Fraction(1, 1000)
    )
    return [(frame.time, frame.picture.to_ndarray()) for frame in out]


@pytest.mark.parametrize("text", [
  "vflip , transpose=clock", "rotate=PI/12:c=red", "scale=32:-2,negate",
  "deshake=rx=16:ry=16", "tmix=frames=3", "fps=10", "setpts=2*PTS", "reverse",
  "trim=start=0.1:end=0.3,setpts=PTS-STARTPTS",
  "split [a][b]; [a] hflip [c]; [b][c] hstack", "[in]split[x],vflip,[x]vstack",
  "drawbox=x='if(gt(1,0),10,20)':y=5:w=20:h=20:c=red@0.5",
  r"geq=lum=p(X\,Y)/2:cb=128:cr=128", "movie='{}' [m]; [in][m] vstack",
])  # fmt: skip
def test_filters_are_those_of_ffmpeg(film, ffmpeg, tmp_path, text):
  text, out = text.format(film), tmp_path / "b.mkv"
  ffmpeg(
    "-i", film, "-vf", text, "-fps_mode", "passthrough", "-c:v", "ffv1", out
  )
  got, want = through(film, text), pictures(out)
  assert [time for time, _ in got] == [time for time, _ in want]
  for (_, a), (_, b) in zip(got, want, strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("text", "why"), [
  ("hflp", "there is no filter 'hflp' here; did you mean hflip"),
  ("drawtext=text=a", "Use --text"),
  ("rotate=foo=1", "No such option: foo"),
  ("crop=9999:3", "Invalid too big or non positive size"),
  ("hflip,", "a filter's name is missing"),
  ("hflip]vflip", "no filter 'hflip]vflip'"),
  ("hstack", "hstack has 2 inputs, not 0"),
  ("areverse", "--audio-filter for sound"),
  ("split[a][b];[a]hflip", "nothing reads from [b]"),
  ("[x]hflip", "nothing reads from [in]"),
  ("nullsink", "nothing leads to [out]"),
  ("[in]hflip[a];[in]vflip[b];[a][b]hstack", "[in] is read twice"),
  ("movie=nowhere.mp4[m];[in][m]hstack", "nowhere.mp4"),
])  # fmt: skip
def test_a_text_that_is_none_is_refused(film, text, why):
  with pytest.raises(read.VideoError) as caught:
    through(film, text)
  assert why in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("deep", [False, True])
def test_images_go_through_filters(deep):
  video = pattern()
  if deep:
    video = video.astype(np.uint16) * 257
  frames = [
    stream.Frame(time=k * STEP, duration=STEP, image=image, picture="old")
    for k, image in enumerate(video)
  ]
  frames[0].alpha = None
  out = list(filters.filtered(frames, "hflip", flag="", base=STEP))
  for frame, image in zip(out, video, strict=True):
    assert frame.picture is None and frame.duration == STEP
    np.testing.assert_array_equal(frame.image, image[:, ::-1])
  for frame, image in zip(frames, video):
    frame.alpha = image[..., 0]
  (*_, last) = filters.filtered(frames, "hflip", flag="", base=STEP)
  np.testing.assert_array_equal(last.alpha, video[-1, :, ::-1, 0])


# ---------------------------------------------------------------- whole files


def made(given, out, *chain, tell=lambda text: None, **options):
  """Processes a file without loss; returns its frames as stored."""
  options = dict(crf=0, preset="ultrafast") | options
  job.process(list(chain), str(given), str(out), plan.Options(**options),
              tell=tell)  # fmt: skip
  return [planes for _, planes in pictures(out)]


@pytest.mark.parametrize(("options", "text"), [
  (dict(rotate=90, flip="horizontal"), "transpose=clock,hflip"),
  (dict(rotate=-180.0), "hflip,vflip"),
  (dict(pad="80:60:blue", filter="negate"),
   "pad=80:60:8:6:blue,negate"),
  (dict(rotate=30), "rotate=PI/6:ow=80:oh=74"),
])  # fmt: skip
def test_flags_stand_for_filters(film, ffmpeg, tmp_path, options, text):
  out, want = tmp_path / "b.mkv", tmp_path / "c.mkv"
  ffmpeg("-i", film, "-vf", text, "-c:v", "ffv1", want)
  want = [planes for _, planes in pictures(want)]
  np.testing.assert_array_equal(made(film, out, **options), want)


def test_filters_come_after_stages_and_are_resumed(film, tmp_path, monkeypatch):
  monkeypatch.setattr(segments, "SEGMENT", 4)
  (tmp_path / "a").mkdir()
  extra = dict(filter="fps=50,hflip", rotate=90, pix_fmt="yuv444p")
  whole = made(film, tmp_path / "a" / "b.mkv", stages.Resize(), **extra)
  assert np.shape(whole) == (20, 3, 128, 96)
  again = made(film, tmp_path / "c.mkv", stages.Resize(), resume=True, **extra)
  np.testing.assert_array_equal(whole, again)
  plain = made(film, tmp_path / "d.mkv", filter="crop=32:48", resume=True)
  assert np.shape(plain) == (10, 72, 32)


def test_pixels_that_are_not_square_are_made_so(ffmpeg, film, tmp_path):
  wide, lines = tmp_path / "a.mkv", []
  ffmpeg("-i", film, "-vf", "setsar=3/2", "-c:v", "ffv1", wide)
  out = made(wide, tmp_path / "b.mkv", rotate=90, tell=lines.append)
  assert np.shape(out) == (10, 96 * 3 // 2, 48) and "made square" in lines[0]
  with read.Reader(tmp_path / "b.mkv") as reader:
    assert reader.info.pixel_aspect == 1


@pytest.mark.parametrize(("options", "why"), [
  (dict(filter="vignete"), "did you mean vignette"),
  (dict(pad="64"), "--pad 64: give WIDTH:HEIGHT"),
  (dict(pad="8:8"), "--pad pad=8:8"),
  (dict(filter="scale=9000:9000"), "9000x9000 are beyond the limit of"),
  (dict(filter="crop=100:100"), "--filter crop=100:100: Invalid too big"),
])  # fmt: skip
def test_edits_are_refused_before_the_first_frame(
  film, tmp_path, options, why, monkeypatch
):
  monkeypatch.setattr(stages.Resize, "__call__", None)
  with pytest.raises(read.VideoError) as caught:
    made(film, tmp_path / "b.mkv", stages.Resize(scale=1), **options)
  assert why in str(caught.value) and not list(tmp_path.iterdir())


def test_a_text_is_written_at_the_bottom(film, tmp_path):
  plain = made(film, tmp_path / "a.mkv")
  same = dict(codec="ffv1", crf=None, preset=None)
  (tmp_path / "s.srt").write_text(
    "1\n00:00:00,120 --> 00:00:00,240\n<i>Hi</i>\nthere\n\n2\n00:00:09,000 -->"
    " 00:00:10,000\nnever\n"
  )
  for text, shown in (("Hi", range(10)), (str(tmp_path / "s.srt"), (3, 4, 5))):
    out = made(film, tmp_path / "b.mkv", text=text, overwrite=True, **same)
    for k, (image, was) in enumerate(zip(out, plain, strict=True)):
      changed = np.abs(image[:48] - 1.0 * was[:48])
      assert (changed[30:].max() > 50) == (k in shown)
      assert changed[:8].max() == 0 and changed[:, :6].max() == 0


@pytest.mark.parametrize(("options", "why"), [
  (dict(text="a\U000f5b57"), "the fonts here lack \U000f5b57; give a font"),
  (dict(text="a.srt"), "a.srt: cannot be read (No such file"),
  (dict(text="a", font="b.ttf"), "--font b.ttf: not a font"),
])  # fmt: skip
def test_texts_that_cannot_be_drawn_are_refused(film, tmp_path, options, why):
  with pytest.raises(read.VideoError) as caught:
    made(film, tmp_path / "b.mkv", **options)
  assert why in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("deep", [False, True])
def test_the_shaking_of_a_camera_is_taken_out(deep):
  rng = np.random.default_rng(0)
  wide = rng.uniform(0, 255, (200, 280, 3))
  wide = ndimage.gaussian_filter(wide, (3, 3, 0))
  wide = (wide - wide.min()) / np.ptp(wide)
  kind = np.uint16 if deep else np.uint8
  wide = (wide * np.iinfo(kind).max).astype(kind)
  places = np.cumsum(rng.integers(-2, 3, (40, 2)), 0) + (25, 30)
  places[:, 1] += np.arange(40) // 2  # the camera moves on evenly as well
  views = [wide[y : y + 120, x : x + 160] for y, x in np.clip(places, 0, 80)]
  frames = [
    stream.Frame(time=k * STEP, duration=STEP, image=image, alpha=image[..., 0])
    for k, image in enumerate(views)
  ]
  out = list(steady.steadied(frames))
  assert [frame.time for frame in out] == [k * STEP for k in range(40)]
  middle = [frame.image[20:-20, 20:-20] * 1.0 for frame in out]
  still = [view[20:-20, 20:-20] * 1.0 for view in views]
  apart = lambda film: np.mean(
    [np.abs(a - b).mean() for a, b in zip(film, film[1:])]
  )
  assert apart(middle) < 0.5 * apart(still)
  for frame in out[10:30]:
    assert np.abs(frame.alpha * 1.0 - frame.image[..., 0]).max() <= 1


class Counts(stream.Stage):
  """Fails after some frames, as if it were killed; counts those it saw."""

  name = "counts"
  seen, most = 0, 99

  def __call__(self, video, times, mask):
    Counts.seen += len(video)
    if Counts.seen > Counts.most:
      raise read.VideoError("enough")
    return video

  def __repr__(self):
    return "Counts"


def test_edits_leave_results_that_exist_as_they_are(
  film, tmp_path, monkeypatch
):
  monkeypatch.setattr(segments, "SEGMENT", 2)
  options = dict(
    rotate=90, flip="vertical", text="a", fade=(0.1, 0.1), resume=True,
    chunk=1, stabilise=True, pix_fmt="yuv444p",
  )  # fmt: skip
  whole = made(film, tmp_path / "a.mkv", Counts(), **options)
  monkeypatch.setattr(Counts, "seen", 0)
  monkeypatch.setattr(Counts, "most", 7)
  with pytest.raises(read.VideoError, match="enough"):
    made(film, tmp_path / "b.mkv", Counts(), **options)
  monkeypatch.setattr(Counts, "seen", 0)
  again = made(film, tmp_path / "b.mkv", Counts(), **options)
  assert Counts.seen < 8
  np.testing.assert_array_equal(whole, again)


@pytest.mark.parametrize("resume", [False, True])
def test_filters_that_leave_no_frame_are_told(film, tmp_path, resume):
  with pytest.raises(read.VideoError, match="leaves not one frame"):
    made(film, tmp_path / "b.mkv", filter="select='gt(n,99)'", resume=resume)
  assert not (tmp_path / "b.mkv").exists()
