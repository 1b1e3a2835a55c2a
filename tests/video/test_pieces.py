"""Ranges and several inputs, against the ffmpeg program."""

import numpy as np
import pytest

from vidgan_jax.video import job
from vidgan_jax.video import pieces
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import segments


@pytest.fixture(scope="module")
def films(ffmpeg, tmp_path_factory):
  """Films of two seconds: 25/s 64x48, the same upright of 30/s 48x64."""
  folder = tmp_path_factory.mktemp("films")
  for name, size, rate, tone in (
    ("a", "64x48", 25, 440),
    ("b", "48x64", 30, 880),
  ):
    ffmpeg(
      "-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration=2",
      "-f", "lavfi", "-i", f"sine={tone}:duration=2:sample_rate=16000",
      "-vf", "format=yuv420p", "-c:v", "ffv1", "-color_range", "tv",
      "-c:a", "pcm_s16le", folder / f"{name}.mkv",
    )  # fmt: skip
  return folder


def made(given, out, tell=lambda text: None, **options):
  """Processes films; returns images (T, H, W, 3) and times."""
  options = dict(codec="ffv1") | options
  job.process([], str(given), str(out), plan.Options(**options), tell=tell)
  return seen(out)


def seen(path):
  """Images (T, H, W, 3) and exact times of a file."""
  with read.Reader(path, threads=1) as reader:
    both = [(reader.convert(p), t) for p, t in reader.pictures()]
  return np.stack([image for image, _ in both]), [t for _, t in both]


def sound(path, ffmpeg):
  """Samples (n,) in [-1, 1] at 16 kHz, of the first channel."""
  raw = path.with_suffix(".raw")
  ffmpeg(
    "-i", path, "-map", "0:a", "-ac", "1", "-ar", "16000", "-f", "f32le", raw
  )
  return np.fromfile(raw, np.float32)


def test_ranges_one_after_another(films, tmp_path, ffmpeg):
  out = tmp_path / "c.mkv"
  images, times = made(films / "a.mkv", out, cuts=((1, 1.4), (0.2, 0.6)))
  given, _ = seen(films / "a.mkv")
  np.testing.assert_array_equal(images, given[[*range(25, 35), *range(5, 15)]])
  assert times == pytest.approx([k / 25 for k in range(20)], abs=2e-3)
  assert len(sound(out, ffmpeg)) == pytest.approx(16_000 * 0.8, rel=0.1)


@pytest.mark.parametrize(("fit", "text"), [
  ("pad", "scale=36:48,pad=64:48:14:0"), ("crop", "scale=64:86,crop=64:48"),
])  # fmt: skip
def test_another_size_is_fitted_into_the_first(
  films, tmp_path, ffmpeg, fit, text
):
  lines = []
  images, times = made(
    films / "a.mkv", tmp_path / "c.mkv", lines.append, fit=fit,
    concat=(str(films / "b.mkv"),), pix_fmt="yuv444p",
  )  # fmt: skip
  ffmpeg(
    "-i", films / "b.mkv", "-vf", f"format=gbrp,{text}", "-c:v", "ffv1",
    tmp_path / "w.mkv",
  )  # fmt: skip
  want, _ = seen(tmp_path / "w.mkv")
  assert images.shape == (110, 48, 64, 3)
  assert np.abs(images[:50] - 1.0 * seen(films / "a.mkv")[0]).mean() < 1
  apart = lambda move: np.abs(np.roll(want, move, 2) - 1.0 * images[50:]).mean()
  assert 2 * apart(0) < min(apart(-1), apart(1))  # samples of colour differ
  steps = np.diff([float(time) for time in times])
  assert steps[:49] == pytest.approx(1 / 25, abs=2e-3)
  assert steps[51:] == pytest.approx(1 / 30, abs=2e-3)
  assert "48x64 is put into the 64x48" in lines[0] and "--fit" in lines[0]


def test_pieces_are_resumed(films, tmp_path, monkeypatch):
  monkeypatch.setattr(segments, "SEGMENT", 7)
  options = dict(cuts=((1, 1.4), (0.2, 0.6)), concat=(str(films / "b.mkv"),))
  images, times = made(films / "a.mkv", tmp_path / "c.mkv", **options)
  monkeypatch.setattr(job.Job, "_take", None)  # nothing is kept in memory
  again, same = made(
    films / "a.mkv", tmp_path / "d.mkv", resume=True, **options
  )
  np.testing.assert_array_equal(images, again)
  assert times == same


def loudness(wave, rate=20):
  """Root mean square of 1/20 s each."""
  size = 16_000 // rate
  return np.sqrt(
    (wave[: len(wave) // size * size].reshape(-1, size) ** 2).mean(1)
  )


def chirp(ffmpeg, path):
  """A film of 2 s whose picture and sound tell the time."""
  ffmpeg(
    "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=2", "-f",
    "lavfi", "-i", "aevalsrc=sin(2*PI*(300+400*t)*t)*t/2:d=2:s=16000", "-vf",
    "format=yuv420p", "-c:v", "ffv1", "-color_range", "tv", "-c:a",
    "pcm_s16le", path,
  )  # fmt: skip
  return path


@pytest.mark.parametrize("held", [2**29, 12 * 5 * 64 * 48])
def test_reversed_as_by_ffmpeg(ffmpeg, tmp_path, monkeypatch, held):
  monkeypatch.setattr(pieces, "_HELD", held)  # all frames, or 12 at a time
  given, want = chirp(ffmpeg, tmp_path / "a.mkv"), tmp_path / "w.mkv"
  images, times = made(given, tmp_path / "b.mkv", reverse=True)
  ffmpeg("-i", given, "-vf", "reverse", "-af", "areverse", "-c:v", "ffv1",
         "-c:a", "pcm_s16le", want)  # fmt: skip
  np.testing.assert_array_equal(images, seen(want)[0])
  assert times == pytest.approx([k / 25 for k in range(50)], abs=2e-3)
  ours, theirs = sound(tmp_path / "b.mkv", ffmpeg), sound(want, ffmpeg)
  assert abs(len(ours) - len(theirs)) < 100
  size = min(len(ours), len(theirs))
  assert np.abs(ours[:size] - theirs[:size]).max() < 0.01
  cut, _ = made(given, tmp_path / "c.mkv", reverse=True, cuts=((0.4, 0.8),))
  np.testing.assert_array_equal(cut, images[30:40])


def test_faded_as_by_ffmpeg(ffmpeg, tmp_path):
  given, want = chirp(ffmpeg, tmp_path / "a.mkv"), tmp_path / "w.mkv"
  images, _ = made(given, tmp_path / "b.mkv", fade=(0.4, 0.6))
  ffmpeg(
    "-i", given, "-vf", "fade=in:st=0:d=0.4,fade=out:st=1.4:d=0.6", "-af",
    "afade=in:d=0.4,afade=out:st=1.4:d=0.6", "-c:v", "ffv1", "-c:a",
    "pcm_s16le", want,
  )  # fmt: skip
  np.testing.assert_array_equal(images, seen(want)[0])
  ours, theirs = sound(tmp_path / "b.mkv", ffmpeg), sound(want, ffmpeg)
  assert np.abs(ours[:32_000] - theirs[:32_000]).max() < 0.01


def test_crossfaded_as_by_ffmpeg(ffmpeg, tmp_path):
  given, want = chirp(ffmpeg, tmp_path / "a.mkv"), tmp_path / "w.mkv"
  images, times = made(
    given, tmp_path / "b.mkv", concat=(str(given),), crossfade=0.4
  )
  ffmpeg(
    "-i", given, "-i", given, "-filter_complex",
    "[0][1]xfade=duration=0.4:offset=1.6[v];[0:a][1:a]acrossfade=d=0.4:c1=tri"
    ":c2=tri[a]", "-map", "[v]", "-map", "[a]", "-c:v", "ffv1", "-c:a",
    "pcm_s16le", want,
  )  # fmt: skip
  theirs = seen(want)[0]
  assert images.shape == theirs.shape == (90, 48, 64, 3)
  wrong = np.abs(images - 1.0 * theirs).mean((1, 2, 3))
  assert wrong[:40].max() < 1 and wrong[50:].max() < 1  # another YUV
  assert wrong[40:50].max() < 4
  assert np.diff([float(t) for t in times]) == pytest.approx(0.04, abs=2e-3)
  ours, theirs = sound(tmp_path / "b.mkv", ffmpeg), sound(want, ffmpeg)
  size = min(len(ours), len(theirs))
  assert size > 16_000 * 3.55
  assert np.abs(ours[:size] - theirs[:size]).max() < 0.02


def test_another_sound_or_none_goes_along(films, ffmpeg, tmp_path):
  mute, lines = tmp_path / "m.mkv", []
  ffmpeg("-i", films / "a.mkv", "-an", "-c:v", "copy", mute)
  ffmpeg("-i", films / "a.mkv", "-c:v", "copy", "-c:a", "aac", "-ar", "44100",
         "-ac", "2", tmp_path / "n.mkv")  # fmt: skip
  made(films / "a.mkv", tmp_path / "b.mkv", lines.append,
       concat=(str(mute), str(tmp_path / "n.mkv")))  # fmt: skip
  assert any("all of it is encoded anew" in line for line in lines)
  loud = loudness(sound(tmp_path / "b.mkv", ffmpeg))
  assert loud[:39].min() > 0.05 and loud[41:79].max() < 1e-3
  assert loud[82:118].min() > 0.05 and len(loud) == pytest.approx(120, abs=1)


def test_filters_of_sound_and_of_speed_together(films, ffmpeg, tmp_path):
  out = tmp_path / "b.mkv"
  made(
    films / "a.mkv", out, audio_filter="volume=0.5", speed=2.0, fade=(0.2, 0)
  )
  loud = loudness(sound(out, ffmpeg))
  usual = loudness(sound(films / "a.mkv", ffmpeg))
  assert len(loud) == pytest.approx(20, abs=1)
  assert loud[8:16] == pytest.approx(usual[20] / 2, rel=0.1)
  assert loud[0] < 0.5 * loud[8]
  with pytest.raises(read.VideoError, match="did you mean volume"):
    made(films / "a.mkv", tmp_path / "c.mkv", audio_filter="volum=0.5")


def test_woven_pieces_are_resumed(films, ffmpeg, tmp_path, monkeypatch):
  monkeypatch.setattr(segments, "SEGMENT", 7)
  options = dict(
    concat=(str(films / "b.mkv"),), reverse=True, crossfade=0.3, fade=(0.2, 0.2)
  )
  images, times = made(films / "a.mkv", tmp_path / "c.mkv", **options)
  monkeypatch.setattr(job.Job, "_take", None)  # nothing is kept in memory
  again, same = made(
    films / "a.mkv", tmp_path / "d.mkv", resume=True, **options
  )
  np.testing.assert_array_equal(images, again)
  assert times == same
  waves = [sound(tmp_path / f"{name}.mkv", ffmpeg) for name in "cd"]
  np.testing.assert_array_equal(*waves)


@pytest.mark.parametrize(("options", "why"), [
  (dict(crossfade=1.5, cuts=((0, 1), (1, 2))), "is too short for it"),
  (dict(crossfade=1.0), "--crossfade: is between the files"),
  (dict(fade=(1.5, 1.5)), "--fade: the result is 2.00 s long"),
  (dict(reverse=True, cuts=((8, 9),)), "no frame lies within its range"),
])  # fmt: skip
def test_pieces_that_cannot_be_are_refused(films, tmp_path, options, why):
  with pytest.raises(read.VideoError) as caught:
    made(films / "a.mkv", tmp_path / "b.mkv", **options)
  assert why in str(caught.value) and not list(tmp_path.iterdir())
