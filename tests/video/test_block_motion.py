"""Frames between frames by block motion: those of ffmpeg, at their times."""

import contextlib
import fractions
import subprocess

import numpy as np
import pytest

from vidgan_jax import cli
from vidgan_jax import errors
from vidgan_jax.video import block_motion
from vidgan_jax.video import job
from vidgan_jax.video import phases
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import stages
from vidgan_jax.video import stream
from vidgan_jax.video import write

Fraction = fractions.Fraction


def moving(count, height=64, width=96, step=4):
  """A smooth texture that moves by `step` pixels a frame; uint8."""
  y, x = np.mgrid[:height, : width + step * count]
  texture = np.sin(x / 5) + np.sin(y / 4 + x / 11) + np.sin(x * y / 400)
  texture = np.stack([texture, texture, -texture], -1) * 35 + 128
  return np.stack(
    [texture[:, step * i : step * i + width] for i in range(count)]
  ).astype(np.uint8)


def film(clip, times=None, cut=10**9):
  times = times or [Fraction(i, 24) for i in range(len(clip))]
  for i, (time, image) in enumerate(zip(times, clip)):
    yield stream.Frame(
      time=Fraction(time), duration=Fraction(1, 24), shot=int(i >= cut),
      image=image, base=image,
    )  # fmt: skip


def run(frames, **options):
  return list(block_motion.BlockMotion(**options).frames(frames))


def images(frames):
  return np.stack([frame.image for frame in frames])


@pytest.mark.parametrize("rate", [2, 3, 4])
def test_it_is_that_of_ffmpeg(rate):
  program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
  clip = moving(5, 60, 100)
  frames = run(film(clip), rate=rate)
  assert [f.time for f in frames] == [
    Fraction(i, 24 * rate) for i in range(4 * rate + 1)
  ]
  assert {f.duration for f in frames[:-1]} == {Fraction(1, 24 * rate)}
  # ffmpeg looks two frames ahead and needs some before it begins.
  padded = np.pad(clip, [(2, 4), (0, 0), (0, 0), (0, 0)], "edge")
  raw = ["-f", "rawvideo", "-pix_fmt", "rgb24"]
  graph = f"minterpolate=fps={25 * rate}:mi_mode=mci:mc_mode=aobmc:vsbmc=1:"
  graph += "me_mode=bidir:scd=none"
  size = ["-s", "100x60", "-r", "25"]
  command = [program, "-v", "error", *raw, *size, "-i", "-"]
  done = subprocess.run(
    [*command, "-vf", graph, *raw, "-"], input=padded.tobytes(),
    capture_output=True, check=True,
  )  # fmt: skip
  want = np.frombuffer(done.stdout, np.uint8).reshape(-1, 60, 100, 3)
  want = want[2 * rate :][: len(frames)].copy()
  want[::rate] = clip  # They were given; ffmpeg takes them to YUV and back.
  np.testing.assert_array_equal(images(frames), want)


def test_any_rate_and_depth():
  clip = moving(9)
  for kind, unit in ((np.uint8, 1), (np.uint16, 257)):
    frames = run(film(clip[::2].astype(kind) * kind(unit)), fps=48)
    assert [f.time for f in frames] == [
      Fraction(k, 48) for k in range(len(frames))
    ]
    assert len(frames) == 10 and frames[1].image.dtype == kind
    got = images(frames)[:9] / unit
    np.testing.assert_array_equal(got[::2], clip[::2])  # They were given.
    inside = got[1::2, 8:-8, 16:-16] - clip[1::2, 8:-8, 16:-16]
    mean = (clip[:-2:2] / 2 + clip[2::2] / 2 - clip[1::2])[:, 8:-8, 16:-16]
    assert np.abs(inside).mean() < 0.4 * np.abs(mean).mean()
  frames = run(film(clip), fps=60)
  assert len(frames) == 23 and {f.duration for f in frames} == {Fraction(1, 60)}


def test_variable_times_cuts_and_pauses():
  clip = moving(6)
  times = [Fraction(t, 100) for t in (50, 54, 57, 63, 66, 70)]
  frames = run(film(clip, times), rate=2)
  assert [f.time for f in frames][::2] == times
  assert frames[5].time == Fraction(60, 100)
  frames = run(film(clip, times), fps=50)
  assert [f.time for f in frames] == [
    Fraction(1, 2) + Fraction(k, 50) for k in range(len(frames))
  ]
  np.testing.assert_array_equal(frames[2].image, clip[1])
  # Across a cut and in a pause: the nearest.
  for options, clock, cut in (
    (dict(rate=4), times, 3), (dict(fps=48), [0, 1, 2, 3, 4, 5], 10),
  ):  # fmt: skip
    for frame in run(film(clip, clock, cut), **options):
      if cut == 3 and not times[2] <= frame.time < times[3]:
        continue
      near = min(range(6), key=lambda i: abs(clock[i] - frame.time))
      np.testing.assert_array_equal(frame.image, clip[near])
  assert len(run(film(clip[:1]), rate=2)) == 1
  assert run(film(clip[:0]), rate=2) == []
  assert run(film(clip[:3, :20, :17]), rate=2)[1].image.shape == (20, 17, 3)


def test_times_of_milliseconds_are_on_the_grid():
  clip = moving(5)
  times = [Fraction(round(1000 * i / 24), 1000) for i in range(5)]
  frames = run(film(clip, times), fps=24)
  np.testing.assert_array_equal(images(frames), clip)


def test_a_file(tmp_path, capsys):
  path = tmp_path / "in.mp4"
  with write.Writer(path, fps=24) as writer:
    for image in moving(8):
      writer.append(image)
  results = []
  for i, (spec, *more) in enumerate((
    ("interpolate:method=classical,rate=2",),
    ("interpolate:rate=2", "--method", "classical", "--resume"),
    ("crop:w=96,h=64,interpolate:rate=2,method=classical,identity:pixels=1",),
    ("interpolate:rate=2", "--method=classical", "--strength", "0"),
    ("blend:rate=2",),
  )):  # fmt: skip
    out = str(tmp_path / f"{i}.mkv")
    flags = ["--codec", "ffv1", *more]
    assert cli.main(["process", spec, str(path), out, *flags]) == 0, spec
    frames = list(read.frames(out))
    times = [f.time for f in frames]
    np.testing.assert_allclose(times, np.arange(15) / 48, atol=0.001)
    results.append(images(frames).astype(int))
  np.testing.assert_array_equal(results[0], results[1])
  assert np.abs(results[0] - results[2]).max() <= 2  # RGB and back
  assert np.abs(results[0] - results[4]).max() > 5
  mixed = np.abs(results[3] - results[4])
  assert mixed.mean() < 0.2 and mixed.max() <= 4  # half the chroma
  assert cli.main(["process", "interpolate:method=clasical", "a", "b"]) == 1
  assert "Did you mean 'classical'?" in capsys.readouterr().err
  arguments = ["denoise", "a", "b", "--method", "classical"]
  assert cli.main(["process", *arguments]) == 1
  assert "interpolate, which is not in SPEC" in capsys.readouterr().err


def test_a_crashed_run_goes_on(tmp_path):
  """What is missing of the beginning is there for the search of motion."""
  path, out = str(tmp_path / "in.mp4"), str(tmp_path / "out.mkv")
  with write.Writer(path, fps=24) as writer:
    for image in moving(40):
      writer.append(image)
  steps = [stages.Resize(scale=1), block_motion.BlockMotion(rate=2)]
  quiet = lambda *_: None
  with contextlib.ExitStack() as stack:
    one = job.Job(
      steps, path, out, plan.Options(), quiet, quiet, stack, None
    )  # fmt: skip
    whole, rest = list(one.frames()), list(one.again().frames(skip=60))
  assert len(whole) == len(rest) == 79
  np.testing.assert_array_equal(images(rest[60:]), images(whole[60:]))


def test_options_are_checked():
  load = lambda name, options: pytest.fail("no network is needed")
  (step,) = stages.chain("interpolate:fps=60,method=classical", load)
  assert step.fps == 60 and phases.around(step) == [step]
  for options, why in (
    ("rate=1", "one becomes, 2 to 9"), ("rate=2,fps=60", "no fps beside"),
    ("fps=0", "above 0"), ("rat=2", "Did you mean 'rate'"),
  ):  # fmt: skip
    with pytest.raises(errors.UserError, match=why):
      stages.chain(f"interpolate:method=classical,{options}", load)
  asked = []
  keep = lambda name, options: asked.append(options) or stages.Identity()
  stages.chain("interpolate:method=model,rate=2", keep)
  assert asked == [{"rate": 2}]
