"""Ranges and several inputs, against the ffmpeg program."""

import fractions
import subprocess

import numpy as np
import pytest

from vidgan_jax.video import job
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import segments

F = fractions.Fraction


@pytest.fixture(scope="module")
def ffmpeg():
  """Runs the program."""
  program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
  return lambda *argv: subprocess.run(
    [program, "-v", "error", "-y", *map(str, argv)], check=True
  )


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
  again, same = made(
    films / "a.mkv", tmp_path / "d.mkv", resume=True, **options
  )
  np.testing.assert_array_equal(images, again)
  assert times == same
