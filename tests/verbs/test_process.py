"""`vidgan process`: what goes in comes out, but for what the stages change."""

import csv
import dataclasses
import fractions
import hashlib
import importlib.util
import io
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import av
import numpy as np
from PIL import Image
import pytest
from scipy import ndimage

from vidgan_jax import cli
from vidgan_jax import errors
from vidgan_jax.verbs import catalogue
from vidgan_jax.verbs import process
from vidgan_jax.video import edits
from vidgan_jax.video import job
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import segments
from vidgan_jax.video import sink as sink_lib
from vidgan_jax.video import source as source_lib
from vidgan_jax.video import stages
from vidgan_jax.video import stream

REAL = os.environ.get("VIDGAN_REAL_DATA")
ROOT = pathlib.Path(__file__).resolve().parents[2]
LOSSLESS = ["--crf", "0", "--preset", "ultrafast"]
# Uneven times, in milliseconds.
TIMES = np.cumsum(np.random.default_rng(0).integers(20, 60, 200)).tolist()


def smooth(frames=30, height=48, width=64):
  """A moving picture (T, H, W, 3) uint8 in mild colours."""
  y, x, t = np.ogrid[:height, :width, :frames]
  planes = [
    128 + 60 * np.sin((x + 2 * t) / 17 + 0 * y),
    128 + 50 * np.cos((y + t) / 19 + 0 * x),
    128 + 40 * np.sin((x + y - t) / 21),
  ]
  return np.moveaxis(np.stack(planes, -1), 2, 0).astype(np.uint8)


def film(
  path,
  video,
  *,
  codec="libx264",
  pix_fmt="yuv420p",
  pixels="rgb24",
  matrix=1,
  sound=False,
  aspect=None,
  turned=None,
  times=TIMES,
):
  """An independent writer: exact times, sound, texts, chapters."""
  base = fractions.Fraction(1, 1000)
  with av.open(str(path), "w") as out:
    out.metadata["title"] = "A film"
    stream = out.add_stream(codec, rate=25)
    stream.height, stream.width = video.shape[1:3]
    stream.pix_fmt = pix_fmt
    context = stream.codec_context
    context.time_base = base
    if codec == "libx264":
      stream.options = {"crf": "0", "preset": "ultrafast"}
      context.colorspace, context.color_range = matrix, 1
      context.color_primaries = context.color_trc = 1
    if aspect:
      context.sample_aspect_ratio = aspect
    if turned:
      stream.set_display_rotation(turned)
    voice = None
    if sound:
      voice = out.add_stream("aac", rate=16_000)
      voice.layout = "mono"
      out.set_chapters([
        {"id": 1, "start": 0, "end": 500, "time_base": base,
         "metadata": {"title": "one"}}])  # fmt: skip
    for i, image in enumerate(video):
      frame = av.VideoFrame.from_ndarray(
        np.ascontiguousarray(image), format=pixels
      )
      if pix_fmt.startswith("yuv"):
        frame = frame.reformat(
          format=pix_fmt, dst_colorspace=matrix, dst_color_range=1
        )
      frame.pts, frame.time_base = times[i], base
      out.mux(stream.encode(frame))
    out.mux(stream.encode(None))
    if voice:
      wave = np.sin(np.arange(16 * times[len(video) - 1]) / 9)
      for k in range(0, len(wave) - 1024, 1024):
        part = wave[None, k : k + 1024].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(part, "fltp", "mono")
        frame.sample_rate, frame.pts = 16_000, k
        frame.time_base = fractions.Fraction(1, 16_000)
        out.mux(voice.encode(frame))
      out.mux(voice.encode(None))
  return str(path)


def seen(path, pixels="rgb24"):
  """(images (T, H, W, C), exact times in seconds) of a file."""
  with read.Reader(path, threads=1) as reader:
    both = [(reader.convert(p, pixels), t) for p, t in reader.pictures()]
  return np.stack([image for image, _ in both]), [t for _, t in both]


def packets(path):
  """Digests of the sound's packets."""
  with av.open(str(path)) as container:
    return [
      hashlib.md5(bytes(p)).hexdigest()
      for p in container.demux(audio=0)
      if p.size
    ]


def planes(path):
  with av.open(str(path)) as container:
    return [f.to_ndarray() for f in container.decode(video=0)]


def main(argv):
  return cli.main(["process", *map(str, argv)])


def ok(*argv):
  assert main([*argv, "--overwrite"]) == 0


def refused(capsys, *argv):
  """Runs, expects failure; returns the one line that says why."""
  capsys.readouterr()
  assert main(argv) != 0
  lines = capsys.readouterr().err.strip().splitlines()
  assert len(lines) == 1, lines
  return lines[0]


class Brighter(stream.Stage):
  """Adds a tenth of the range."""

  name = "brighter"

  def __call__(self, video, times, mask):
    return video + 0.2 * (1 if mask is None else mask)


# ---------------------------------------------------------------- fidelity


@pytest.mark.parametrize("spec", ["identity", "identity:pixels=1"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_nothing_is_lost(tmp_path, spec, suffix):
  video = smooth()
  source = film(
    tmp_path / "a.mkv", video, sound=True, aspect=fractions.Fraction(4, 3)
  )
  out = tmp_path / "new" / "folder" / f"b{suffix}"
  ok(spec, source, out, *LOSSLESS)
  for a, b in zip(planes(source), planes(out), strict=True):
    np.testing.assert_array_equal(a, b)
  assert seen(out)[1] == seen(source)[1]
  assert packets(out) == packets(source) and len(packets(out)) > 10
  with av.open(source) as a, av.open(str(out)) as b:
    assert b.metadata["title"] == "A film"
    title = lambda c: [x["metadata"].get("title") for x in c.chapters()]
    assert title(a) == title(b) == ["one"]
    for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
      old, new = (getattr(c.streams.video[0].codec_context, name)
                  for c in (a, b))  # fmt: skip
      assert int(old) == int(new) == 1
    assert b.streams.video[0].sample_aspect_ratio == fractions.Fraction(4, 3)
    assert abs(a.duration - b.duration) <= 60_000
  assert not list(tmp_path.rglob(".*"))


def test_only_what_a_stage_changes_is_converted(tmp_path):
  # Colours so strong that the way to RGB and back alone would change them.
  y = np.random.default_rng(0).integers(60, 180, (4, 72, 64), np.uint8)
  source = film(tmp_path / "a.mkv", y, pixels="gray", pix_fmt="yuv420p")
  with av.open(source) as container:
    rough = [f.to_ndarray() for f in container.decode(video=0)]

  class Half(Brighter):
    def __call__(self, video, times, mask):
      out = video.copy()
      out[:, 24:] += 0.2
      return out

  out = str(tmp_path / "b.mkv")
  job.process([Half()], source, out, plan.Options(crf=0, preset="ultrafast"))
  for a, b in zip(rough, planes(out), strict=True):
    np.testing.assert_array_equal(a[:22], b[:22])
    assert 18 < (b[26:40].astype(int) - a[26:40]).mean() < 26


def test_colours_stay_where_they_are(tmp_path):
  # The left one of each two pixels has the sample of colour, in H.264.
  video = np.zeros((3, 32, 64, 3), np.uint8)
  video[..., 2], video[:, :, 31:] = 200, [200, 0, 0]
  given = numbered(tmp_path / "in", video)
  out = tmp_path / "b.mkv"
  ok("identity:pixels=1", given, out, *LOSSLESS, "--pix-fmt", "yuv420p")
  with av.open(str(out)) as container:
    frame = next(container.decode(video=0))
    red = np.frombuffer(frame.planes[2], np.uint8).reshape(16, -1)[5, :32]
  matrix = np.array([0.5, -0.454153, -0.045847])  # BT.709
  value = 128 + (video[0, 5] @ matrix) * 224 / 255
  wide = np.pad(value, 1, "edge")
  filtered = wide[:-2] / 4 + wide[1:-1] / 2 + wide[2:] / 4
  np.testing.assert_allclose(red[14:18], filtered[28:36:2], atol=2)


def test_a_turned_picture(tmp_path):
  video = smooth(4)
  source = film(tmp_path / "a.mp4", video, turned=90)
  upright, _ = seen(source)
  assert upright.shape == (4, 64, 48, 3)
  copied, applied = tmp_path / "b.mp4", tmp_path / "c.mkv"
  ok("identity", source, copied, *LOSSLESS)
  with av.open(str(copied)) as container:
    frame = next(container.decode(video=0))
    assert (frame.width, frame.height, abs(frame.rotation)) == (64, 48, 90)
  np.testing.assert_array_equal(seen(copied)[0], upright)
  ok("identity", source, applied, *LOSSLESS)
  with av.open(str(applied)) as container:
    frame = next(container.decode(video=0))
    assert (frame.width, frame.height, frame.rotation) == (48, 64, 0)
  assert np.abs(seen(applied)[0].astype(int) - upright).mean() < 1


def test_ten_bits_and_transparency(tmp_path):
  deep = np.linspace(20_000, 40_000, 4 * 32 * 48 * 3).reshape(4, 32, 48, 3)
  source = film(
    tmp_path / "a.mkv", deep.astype(np.uint16), pixels="rgb48le",
    pix_fmt="yuv444p10le",
  )  # fmt: skip
  out = tmp_path / "b.mkv"
  stage = Brighter()
  options = plan.Options(crf=0, preset="ultrafast")
  job.process([stage], source, str(out), options)
  with av.open(str(out)) as container:
    assert container.streams.video[0].pix_fmt == "yuv444p10le"
  a, b = seen(source, "rgb48le")[0], seen(out, "rgb48le")[0]
  assert np.abs(b.astype(int) - a - 6553).mean() < 80  # a third of 8 bits

  clear = np.dstack([smooth(1, 32, 48)[0], np.full((32, 48), 7, np.uint8)])
  clear[:, 20:, 3] = 200
  source = film(
    tmp_path / "c.mkv", clear[None].repeat(3, 0), codec="ffv1",
    pix_fmt="bgra", pixels="rgba",
  )  # fmt: skip
  out, lost = tmp_path / "d.mkv", tmp_path / "e.mp4"
  ok("resize:scale=2", source, out, "--codec", "ffv1")
  alpha = seen(out, "rgba")[0][..., 3]
  assert alpha.shape == (3, 64, 96)
  assert np.all(alpha[:, :, :30] == 7) and np.all(alpha[:, :, 50:] == 200)
  for how in ("side", "split"):
    ok("resize:scale=2", source, out, "--codec", "ffv1", "--compare", how)
    both = seen(out, "rgba")[0][..., 3]
    whole = np.concatenate([alpha, alpha], 2) if how == "side" else alpha
    np.testing.assert_array_equal(both, whole)
  web = tmp_path / "f.webm"
  ok("identity:pixels=1", source, web, "--crf", "4")
  alpha = seen(web, "rgba")[0][..., 3].astype(int)
  assert np.all(abs(alpha[:, :, :16] - 7) < 6)
  assert np.all(abs(alpha[:, :, 24:] - 200) < 6)
  lines = []
  job.process([], source, str(lost), tell=lines.append)
  assert any("transparency is lost" in line for line in lines)


@pytest.mark.parametrize("size", [(47, 63), (48, 61), (1, 1)])
def test_odd_sizes_stay(tmp_path, size):
  source = film(tmp_path / "a.mkv", smooth(3, *size), pix_fmt="yuv444p")
  ok("identity", source, tmp_path / "b.mp4")
  assert seen(tmp_path / "b.mp4")[0].shape == (3, *size, 3)


# ---------------------------------------------------------------- editing


def test_trim_keeps_sound_and_picture_together(tmp_path):
  video = smooth(60)
  source = film(tmp_path / "a.mkv", video, sound=True)
  out = tmp_path / "b.mkv"
  ok("identity", source, out, "--trim", "0.5", "1.2", *LOSSLESS)
  images, times = seen(source)
  keep = [i for i, t in enumerate(times) if 0.5 <= t - times[0] < 1.2]
  got, new = seen(out)
  np.testing.assert_array_equal(got, images[keep])
  # Later by one number, the same for both.
  moved = {times[i] - t for i, t in zip(keep, new)}
  assert moved == {fractions.Fraction(1, 2)}
  ours, all_ = packets(out), packets(source)
  first = all_.index(ours[0])
  assert ours == all_[first : first + len(ours)]
  assert abs(len(ours) * 1024 / 16_000 - 0.7) < 0.1


def test_seeking_changes_nothing(tmp_path):
  times = (40 * np.arange(200)).tolist()
  source = film(tmp_path / "a.mkv", smooth(200, 16, 16), times=times)
  ok("identity", source, tmp_path / "b.mkv", "--start", "6.41", *LOSSLESS)
  got, _ = seen(tmp_path / "b.mkv")
  np.testing.assert_array_equal(got, seen(source)[0][161:])


def test_concat_continues_sound_and_picture(tmp_path):
  a = film(tmp_path / "a.mkv", smooth(20), sound=True)
  b = film(tmp_path / "b.mkv", smooth(35)[20:], sound=True)
  out = tmp_path / "c.mkv"
  ok("identity", a, out, "--concat", b, a, *LOSSLESS)
  parts = [seen(p) for p in (a, b, a)]
  got, times = seen(out)
  np.testing.assert_array_equal(got, np.concatenate([x for x, _ in parts]))
  assert packets(out) == packets(a) + packets(b) + packets(a)
  steps = np.diff([float(t) for t in times])
  assert steps.min() > 0 and steps.max() < 0.2


def test_concat_tells_of_sound_that_is_left_out(tmp_path, capsys):
  silent = film(tmp_path / "a.mkv", smooth(5))
  loud = film(tmp_path / "b.mkv", smooth(5), sound=True)
  out = tmp_path / "c.mkv"
  ok("identity", silent, out, "--concat", loud)
  said = capsys.readouterr().err
  assert f"sound of {loud} is left out, {silent} has none" in said
  ok("identity", silent, out, "--concat", loud, "--no-audio")
  ok("identity", loud, out, "--concat", loud)
  assert "left out" not in capsys.readouterr().err


def test_crop_fps_speed_and_scale(tmp_path):
  times = (40 * np.arange(25)).tolist()
  source = film(tmp_path / "a.mkv", smooth(25), times=times)
  images, _ = seen(source)
  out = tmp_path / "b.mkv"
  ok("identity", source, out, "--crop", "32:16:10:20", *LOSSLESS)
  got, _ = seen(out)
  assert np.abs(got.astype(int) - images[:, 20:36, 10:42]).mean() < 1
  ok("identity", source, out, "--fps", "10", *LOSSLESS)
  got, new = seen(out)
  assert len(got) == 10 and float(new[3] - new[0]) == pytest.approx(0.3)
  ok("identity", source, out, "--speed", "2", *LOSSLESS)
  got, new = seen(out)
  assert len(got) == 13 and float(np.diff(new).max()) == pytest.approx(0.04)
  ok("identity", source, out, "--speed", "2", "--fps", "50", *LOSSLESS)
  assert float(np.diff(seen(out)[1]).max()) == pytest.approx(0.02)
  ok("blend:rate=3,resize:scale=2", source, out, *LOSSLESS)
  got, new = seen(out)
  assert got.shape == (73, 96, 128, 3)
  want = edits.lanczos(images[:1], 96, 128)[0]
  assert np.abs(got[0] - want).mean() < 1
  small = ("resize:scale=200", "--crop", "8:8", "--end", "0.05")
  ok(small[0], source, tmp_path / "c.mkv", *small[1:], "--codec", "ffv1")
  assert seen(tmp_path / "c.mkv")[0].shape == (2, 1600, 1600, 3)
  between = (2 * images[0].astype(float) + images[1]) / 3
  between = edits.lanczos(between[None], 96, 128)[0]
  assert np.abs(got[1] - between).mean() < 1


def test_height_and_effort(tmp_path, monkeypatch):
  source = film(tmp_path / "a.mkv", smooth(12))
  sizes, calls = {}, []

  class Network(stages.Resize):
    """The one of super_resolve, in its place."""

    compiled = True

    def __call__(self, video, times, mask):
      calls.append(video.copy())
      return super().__call__(video, times, mask)

  asked = []
  monkeypatch.setattr(
    process, "_model",
    lambda name, options: asked.append((name, options)) or Network(**options),
  )  # fmt: skip
  for effort in ("--fast", "--best"):
    calls.clear()
    out = tmp_path / f"{effort}.mkv"
    ok("super_resolve", source, out, "--height", 90, effort)
    images, _ = seen(out)
    assert images.shape == (12, 90, 120, 3)
    want = edits.lanczos(smooth(12), 90, 120)
    assert np.abs(images - want).mean() < 3
    sizes[effort] = out.stat().st_size
    if effort == "--best":  # the clip, and its mirror image
      np.testing.assert_array_equal(calls[0], calls[1][:, :, ::-1])
    else:
      assert len(calls) == 1  # all in one window
  assert asked == 2 * [("super_resolve", {"scale": 2})]
  assert sizes["--fast"] != sizes["--best"]
  ok("super_resolve", source, tmp_path / "c.mkv", "--height", 100)
  assert asked[-1] == ("super_resolve", {"scale": 4})


def test_the_list_says_what_the_cards_say(capsys, monkeypatch, tmp_path):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
  times = []
  monkeypatch.setattr(
    catalogue, "_rate", lambda stage: times.append(stage.name) or 0.25
  )
  for _ in range(2):  # measured once
    ok_list = cli.main(["process", "--list"])
    said = capsys.readouterr()
    assert ok_list == 0
  assert len(times) == len(catalogue.cards()) == len(set(times)) + 1
  rows = [line.split() for line in said.out.splitlines()]
  table = {row[0]: row for row in rows if row and row[0] in said.out}
  for card in catalogue.cards():
    assert card.weights.with_suffix(".md").exists() and len(card.limits) > 60
    assert table[card.spec][2] == "0.25" and float(table[card.spec][1]) < 3
    assert card.purpose in " ".join(said.out.split())
    assert card.limits in " ".join(said.out.split())
  assert "scale=3" not in said.out
  with pytest.raises(SystemExit):
    cli.main(["process", "--help"])
  help_ = capsys.readouterr().out
  assert all(card.spec in help_ for card in catalogue.cards())


def test_masks_strength_and_comparison(tmp_path):
  source = film(tmp_path / "a.mkv", smooth(6))
  images, _ = seen(source)
  mask = np.zeros((48, 64), np.uint8)
  mask[10:20, 30:40] = 255
  Image.fromarray(mask).save(tmp_path / "m.png")
  (tmp_path / "masks").mkdir()
  for i in range(6):
    Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
  film(tmp_path / "m.mkv", mask[None, ..., None].repeat(6, 0).repeat(3, -1))
  out = str(tmp_path / "b.mkv")
  options = {"crf": 0, "preset": "ultrafast", "pix_fmt": "yuv444p",
             "overwrite": True}  # fmt: skip
  for name in ("m.png", "masks", "m.mkv"):
    name = str(tmp_path / name)
    job.process([Brighter()], source, out,
                plan.Options(mask=name, **options))  # fmt: skip
    change = seen(out)[0].astype(int) - images
    inside = change[:, 12:18, 32:38]
    assert 23 < inside.mean() < 28 and np.abs(change[:, 22:]).mean() < 0.6
  job.process([Brighter()], source, out,
              plan.Options(mask=name, grow=3, **options))  # fmt: skip
  change = (seen(out)[0].astype(int) - images).mean((0, 3))
  ring = ndimage.binary_dilation(mask, np.ones((7, 7)))
  assert change[ring].min() > 15 and np.abs(change[~ring]).max() < 6

  colour = "#{:02x}{:02x}{:02x}".format(*images[0, 5, 5])
  job.process([Brighter()], source, out, plan.Options(mask=colour, **options))
  near = np.abs(images.astype(int) - images[0, 5, 5]).max(-1) <= 40
  change = (seen(out)[0].astype(int) - images).mean(-1)
  assert change[near].mean() > 23 and np.abs(change[~near]).mean() < 1

  half = stages.Mixed(Brighter(), 0.5)
  job.process([half], source, out, plan.Options(**options))
  assert abs((seen(out)[0].astype(int) - images).mean() - 12.75) < 0.7
  job.process([Brighter()], source, out,
              plan.Options(compare="side", **options))  # fmt: skip
  both, _ = seen(out)
  assert both.shape == (6, 48, 128, 3)
  assert np.abs(both[:, :, :64].astype(int) - images).mean() < 1
  assert (both[:, :, 64:].astype(int) - images).mean() > 23
  job.process([Brighter()], source, out,
              plan.Options(compare="split", **options))  # fmt: skip
  split = seen(out)[0].astype(int) - images
  assert np.abs(split[:, :, :28]).mean() < 1 and split[:, :, 36:].mean() > 23


def test_a_mask_that_nothing_looks_at_is_told(tmp_path):
  source = film(tmp_path / "a.mkv", smooth(3))
  for chain, told in (
    ([stages.Identity()], True),
    ([stages.Resize(), edits.Crop(w=8, h=8)], True),
    ([stages.Mixed(stages.Blend(), 0.5)], True),
    ([stages.Resize(), Brighter()], False),
    ([stages.Mixed(Brighter(), 0.5)], False),
  ):
    lines = []
    job.process(
      chain, source, str(tmp_path / "b.mkv"),
      plan.Options(mask="#00ff00", overwrite=True), tell=lines.append,
    )  # fmt: skip
    said = ["--mask #00ff00: changes nothing" in line for line in lines]
    assert any(said) == told, chain


def test_nan_is_not_black(tmp_path):
  class Diverged(Brighter):
    def __call__(self, video, times, mask):
      video[..., -1, -1, 0] = np.nan
      return video

  out = tmp_path / "b.mkv"
  with pytest.raises(read.VideoError, match="brighter: made a NaN"):
    job.process([Diverged()], film(tmp_path / "a.mkv", smooth(6)), str(out))
  assert not out.exists()


def test_strength_holds_for_stages_that_look(tmp_path):
  class Looks(Brighter):
    def look(self, frames, first):
      assert frames[1].image.shape == (48, 64, 3) and first is frames[0]
      return Brighter()

  mixed = stages.Mixed(Looks(), 0.5)
  video = np.zeros((2, 48, 64, 3), np.float32)
  image = np.zeros((48, 64, 3), np.uint8)
  frames = [stream.Frame(time=t, duration=1, image=image) for t in range(2)]
  seen = mixed.look(frames, frames[0])(video, None, None)
  np.testing.assert_allclose(seen, 0.1)


def test_strength_of_a_larger_and_faster_result():
  video = np.random.default_rng(0).uniform(-1, 1, (3, 8, 9, 3))
  video = video.astype(np.float32)
  for stage in (stages.Resize(scale=3), stages.Blend(rate=2)):
    result = stage(video, None, None)
    mixed = stages.Mixed(stage, 0.3)(video, None, None)
    np.testing.assert_allclose(mixed, result, atol=1e-6)


# ---------------------------------------------------------------- speed


def tone(path):
  """(mono wave, time of each sample) of a file's sound."""
  wave, times = [], []
  with av.open(str(path)) as container:
    for frame in container.decode(audio=0):
      wave.append(frame.to_ndarray()[0])
      begin = float(frame.pts * frame.time_base)
      times.append(begin + np.arange(frame.samples) / frame.sample_rate)
  return np.concatenate(wave), np.concatenate(times)


def pitch(wave, rate):
  spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
  return np.fft.rfftfreq(len(wave), 1 / rate)[spectrum.argmax()]


@pytest.mark.parametrize("speed", [2.5, 0.4])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_speed_keeps_the_sound_and_its_pitch(tmp_path, speed, suffix):
  # A tone that begins in the middle, while the picture turns white.
  video = np.zeros((80, 32, 32, 3), np.uint8)
  video[40:60] = 255
  source, out = str(tmp_path / "a.mkv"), str(tmp_path / f"b{suffix}")
  texts = tmp_path / "a.srt"
  texts.write_text("1\n00:00:01,000 --> 00:00:02,000\nhello\n")
  time = np.arange(0, 3.2, 1 / 48_000)
  wave = np.sin(2 * np.pi * 1000 * time) * ((time >= 1.6) & (time < 2.4))
  base = fractions.Fraction(1, 48_000)
  with av.open(str(texts)) as given, av.open(source, "w") as container:
    stream = container.add_stream("libx264", rate=25)
    stream.height = stream.width = 32
    voice = container.add_stream("aac", rate=48_000)
    voice.layout = "mono"
    words = container.add_stream_from_template(given.streams.subtitles[0])
    container.set_chapters([
      {"id": i, "start": 1600 * i, "end": 1600 * (i + 1),
       "metadata": {"title": str(i)}, "time_base": fractions.Fraction(1, 1000)}
      for i in range(2)])  # fmt: skip
    for i, image in enumerate(video):
      frame = av.VideoFrame.from_ndarray(image)
      frame.pts, frame.time_base = i, fractions.Fraction(1, 25)
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
    for k in range(0, len(wave), 1024):
      part = wave[None, k : k + 1024].astype(np.float32)
      frame = av.AudioFrame.from_ndarray(part, "fltp", "mono")
      frame.sample_rate, frame.pts, frame.time_base = 48_000, k, base
      container.mux(voice.encode(frame))
    container.mux(voice.encode(None))
    for packet in given.demux():
      if packet.size:
        packet.stream = words
        container.mux(packet)
  fps = 25 * speed
  ok("identity", source, out, "--speed", speed, "--fps", fps, "--preset",
     "ultrafast")  # fmt: skip

  images, times = seen(out)
  white = np.flatnonzero(images.mean((1, 2, 3)) > 128)
  assert len(images) == 80 and len(white) == 20
  white = float(times[white[0]] + times[white[-1] + 1]) / 2
  assert white - float(times[0]) == pytest.approx(2 / speed, abs=0.001)
  wave, times = tone(out)
  assert times[-1] - times[0] == pytest.approx(3.2 / speed, abs=0.06)
  # The middle: both ends of a tone are smeared by the filter's window, which
  # also looks for the best fit within 21 ms of the input. To a frame.
  middle = (times * wave**2).sum() / (wave**2).sum()
  assert middle == pytest.approx(white, abs=0.04 * max(1, 1 / speed) / 1.5)
  inside = wave[np.abs(times - middle) < 0.12]
  assert pitch(inside, 48_000) == pytest.approx(1000, abs=8)
  with av.open(out) as container:
    assert container.streams.audio[0].codec_context.name == "aac"
    _, chapter = container.chapters()
    base = chapter["time_base"]
    assert chapter["start"] * base == pytest.approx(1.6 / speed, abs=0.002)
    assert chapter["end"] * base == pytest.approx(3.2 / speed, abs=0.002)
    if suffix == ".mkv":
      (text,) = [p for p in container.demux(subtitles=0) if p.size]
      length = text.duration * text.time_base
      assert text.pts * text.time_base == pytest.approx(1 / speed, abs=0.002)
      assert length == pytest.approx(1 / speed, abs=0.002)


@pytest.mark.parametrize("extra", [[], ["--resume"]])
def test_speed_of_several_files(tmp_path, extra):
  a = film(tmp_path / "a.mkv", smooth(60), sound=True)
  out = tmp_path / "c.mkv"
  ok("identity", a, out, "--speed", "2", "--concat", a, *extra, *LOSSLESS)
  images, frames = seen(out)
  wave, times = tone(out)
  with read.Reader(a) as reader:
    rate = reader.info.fps
  assert rate == pytest.approx(
    1 / np.diff(frames).astype(float).mean(), rel=0.02
  )
  assert len(images) == pytest.approx(60, abs=2)
  # The second tone begins where the second film does.
  second = float(TIMES[59] - TIMES[0]) / 2000
  quiet = [t for t, x in zip(times, np.abs(wave)) if x > 0.05]
  jump = np.diff(quiet)
  assert jump.max() < 0.1 and quiet[-1] == pytest.approx(2 * second, abs=0.15)


def test_sound_that_no_film_holds_is_encoded_anew(tmp_path, capsys):
  source = str(tmp_path / "a.wmv")
  with av.open(source, "w") as container:
    stream = container.add_stream("libx264", rate=25)
    stream.height = stream.width = 32
    voice = container.add_stream("wmav2", rate=44_100, layout="mono")
    voice.bit_rate = 64_000
    for i in range(25):
      frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
      frame.pts = i
      container.mux(stream.encode(frame))
      wave = np.sin(np.arange(i * 1764, i * 1764 + 1764) / 9)[None]
      frame = av.AudioFrame.from_ndarray(
        wave.astype(np.float32), "fltp", "mono"
      )
      frame.sample_rate = 44_100
      container.mux(voice.encode(frame))
    for each in (stream, voice):
      container.mux(each.encode(None))
  out = tmp_path / "b.mkv"
  ok("identity", source, out)
  assert "wmav2, which is encoded anew (aac)" in capsys.readouterr().err
  wave, _ = tone(out)
  assert pitch(wave[8000:40_000], 44_100) == pytest.approx(
    44_100 / 9 / 2 / np.pi, abs=3
  )
  # Where another container holds it as it is, that is said instead.
  assert main(["identity", source, str(tmp_path / "c.nut")]) == 0
  assert packets(tmp_path / "c.nut") == packets(source)


# ---------------------------------------------------------------- images


def numbered(folder, video, name="frame{}.png"):
  folder.mkdir()
  for i, image in enumerate(video):
    Image.fromarray(image).save(folder / name.format(i), quality=95)
  return str(folder)


def test_a_folder_of_images_is_a_clip(tmp_path, capsys):
  video = smooth(12)
  given = numbered(tmp_path / "in", video)  # frame10 comes after frame9
  (tmp_path / "in" / "notes.txt").write_text("no image")
  out = tmp_path / "b.mkv"
  for path in (given, f"{given}/*.png", f"{given}/frame%d.png"):
    ok("identity", path, out, "--codec", "ffv1", "--fps", "10")
    images, times = seen(out)
    np.testing.assert_array_equal(images, video)
    assert np.diff(times) == pytest.approx(0.1)
  assert "are missing" not in "".join(capsys.readouterr())
  ok("identity", f"{given}/frame1*.png", out, "--codec", "ffv1")
  assert "by the names of its images, 8 are missing" in (
    "".join(capsys.readouterr())
  )
  images, times = seen(out)
  np.testing.assert_array_equal(images, video[[1, 10, 11]])
  assert float(times[1]) == pytest.approx(0.04)
  ok("blend:rate=2", given, out, "--start", "0.2", "--concat", given)
  assert len(seen(out)[0]) == 2 * 2 * 7 - 1

  capsys.readouterr()
  film(tmp_path / "in" / "v.mkv", video)
  line = refused(capsys, "identity", given, out)
  assert "holds images (frame0.png) and videos (v.mkv)" in line
  (tmp_path / "in" / "v.mkv").unlink()
  Image.fromarray(video[0, :20]).save(tmp_path / "in" / "frame5.png")
  line = refused(capsys, "identity", given, tmp_path / "c.mkv")
  assert "frame5.png: is png of 64x20, but" in line
  (tmp_path / "in" / "frame5.png").write_bytes(b"nonsense")
  line = refused(capsys, "identity", given, tmp_path / "c.mkv")
  assert "frame5.png: cannot be read as an image" in line
  (tmp_path / "b.mkv").unlink()
  line = refused(capsys, "identity", tmp_path, tmp_path / "c.mkv")
  assert "has images in sub-folders" in line
  assert not list(tmp_path.glob("c*"))


def test_photographs_keep_their_colours(tmp_path):
  video = smooth(3, 720, 128)  # of HD size: JPEG stays BT.601, full range
  given = numbered(tmp_path / "in", video, "{}.JPG")
  ok("identity:pixels=1", given, tmp_path / "out")
  for i in range(3):
    with Image.open(tmp_path / "in" / f"{i}.JPG") as a:
      with Image.open(tmp_path / "out" / f"{i + 1:06d}.png") as b:
        error = np.abs(np.asarray(a).astype(int) - np.asarray(b)).mean()
    assert error < 1


@pytest.mark.parametrize("extra", [[], ["--resume"]])
def test_images_as_output(tmp_path, monkeypatch, extra):
  monkeypatch.setattr(segments, "SEGMENT", 4)
  source = film(tmp_path / "a.mkv", smooth(10), sound=True)
  for out, first in (
    (tmp_path / "b" / "x%03d.png", "x001.png"),
    (tmp_path / "c", "000001.png"),
  ):
    more = ["--format", "png"] if out.name == "c" else []
    ok("identity", source, out, *extra, *more)
    folder = out if more else out.parent
    files = sorted(os.listdir(folder))
    assert files[0] == first and len(files) == 10
    images = [np.asarray(Image.open(folder / name)) for name in files]
    np.testing.assert_array_equal(images, seen(source)[0])
  assert not list(tmp_path.glob(".*")) and not list(tmp_path.glob("*.parts"))


def test_deep_and_clear_images_go_both_ways(tmp_path):
  deep = np.random.default_rng(0).integers(0, 65_536, (3, 20, 30, 3), np.uint16)
  source = film(tmp_path / "a.mkv", deep, codec="ffv1", pix_fmt="gbrp16le",
                pixels="rgb48le")  # fmt: skip
  ok("identity", source, tmp_path / "deep" / "%d.png")
  ok("identity", tmp_path / "deep", tmp_path / "b.mkv", "--codec", "ffv1")
  np.testing.assert_array_equal(seen(tmp_path / "b.mkv", "rgb48le")[0], deep)
  clear = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 4), np.uint8)
  given = numbered(tmp_path / "clear", clear)
  ok("identity", given, tmp_path / "again")
  for i in range(3):
    with Image.open(tmp_path / "again" / f"{i + 1:06d}.png") as image:
      np.testing.assert_array_equal(np.asarray(image), clear[i])


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".apng"])
def test_moving_images(tmp_path, capsys, suffix):
  video = smooth(12)
  source = film(tmp_path / "a.mkv", video, sound=True, pix_fmt="yuv444p",
                times=(100 * np.arange(12)).tolist())  # fmt: skip
  out = tmp_path / f"b{suffix}"
  ok("identity", source, out, "--start", "0.2")
  assert "cannot hold audio: left out" in capsys.readouterr().err
  with Image.open(out) as image:
    assert image.n_frames == 10 and image.info["loop"] == 0
    for i in range(10):
      image.seek(i)
      image.load()
      # The film does not say how long its last one is shown.
      if i < 9 or suffix != ".gif":
        assert image.info["duration"] == 100
      error = np.abs(np.asarray(image.convert("RGB")) - 1.0 * video[i + 2])
      # 255 colours for all of it, or what WebP's halved colours lose.
      assert error.mean() < {".gif": 5, ".webp": 3, ".apng": 1}[suffix]
  assert not list(tmp_path.glob(".*"))


def test_a_moving_webp_goes_in_and_out(tmp_path):
  source = film(tmp_path / "a.mkv", smooth(8), times=[40 * i for i in range(8)])
  ok("identity", source, tmp_path / "b.webp")
  ok("identity", tmp_path / "b.webp", tmp_path / "c.mp4", *LOSSLESS)
  images, times = seen(tmp_path / "c.mp4")
  assert np.abs(images.astype(int) - smooth(8)).mean() < 3
  assert times == [fractions.Fraction(i, 25) for i in range(8)]


def test_names_that_begin_with_a_dash(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  film("a.mkv", smooth(3))
  assert main(["identity", "a.mkv", "-x.mp4", "--crf", "20"]) == 0
  assert main(["identity", "-x.mp4", "b.mkv"]) == 0
  assert sorted(os.listdir()) == ["-x.mp4", "a.mkv", "b.mkv"]


def test_a_gif_is_not_too_fast_and_may_be_clear(tmp_path, capsys):
  clear = np.dstack([smooth(1)[0], np.full((48, 64), 255, np.uint8)])
  clear[:20, :, 3] = 0
  given = numbered(tmp_path / "in", clear[None].repeat(6, 0))
  out = tmp_path / "b.gif"
  ok("identity", given, out, "--fps", "100")
  assert "at most 50 frames/s" in capsys.readouterr().err
  with Image.open(out) as image:
    assert image.n_frames == 3 and image.info["duration"] == 20
    alpha = np.asarray(image.convert("RGBA"))[..., 3]
  assert np.all(alpha[:20] == 0) and np.all(alpha[20:] == 255)


# ---------------------------------------------------------------- live


class Broadcast:
  """Frames of a rising grey as MPEG-TS over TCP, as fast as a camera."""

  def __init__(self, frames, fps=25):
    self._frames, self._fps = frames, fps
    self._place = socket.create_server(("127.0.0.1", 0))
    self.url = f"tcp://127.0.0.1:{self._place.getsockname()[1]}"
    self._thread = threading.Thread(target=self._send, daemon=True)
    self._thread.start()

  def _send(self):
    line, _ = self._place.accept()
    began, sent, box = time.time(), 0, io.BytesIO()
    with line, av.open(box, "w", format="mpegts") as out:
      stream = out.add_stream("libx264", rate=25)
      stream.height, stream.width = 48, 64
      stream.options = {"tune": "zerolatency", "preset": "ultrafast", "g": "5"}
      for i in range(self._frames):
        grey = np.full((48, 64, 3), 2 * i, np.uint8)
        frame = av.VideoFrame.from_ndarray(grey)
        frame.pts = i
        out.mux(stream.encode(frame))
        time.sleep(max(0, began + i / self._fps - time.time()))
        try:
          line.sendall(box.getvalue()[sent:])
        except OSError:
          return
        sent = len(box.getvalue())

  def close(self):
    self._place.close()
    self._thread.join()


class Slow(Brighter):
  """Four times as slow as a camera."""

  def __call__(self, video, times, mask):
    time.sleep(0.16 * len(video))
    return video


def test_a_slow_stage_drops_frames_of_a_live_input(tmp_path):
  source, lines = Broadcast(70), []
  out, began = str(tmp_path / "a.mkv"), time.time()
  options = plan.Options(live=True, chunk=2, crf=1)
  done = job.process([Slow()], source.url, out, options, tell=lines.append)
  took = time.time() - began
  source.close()
  assert done.frames + done.dropped == 70 and done.dropped > 20
  assert any(f"{done.dropped} frames dropped" in line for line in lines)
  # It ends soon after the input, which takes 3 s; without drops it takes 11.
  assert took < 8
  images, times = seen(out)
  grey = images.mean((1, 2, 3))
  assert len(grey) == done.frames and abs(grey[-1] - 138) < 3
  # Those that are left keep their times.
  clock = np.array([float(t - times[0]) for t in times])
  np.testing.assert_allclose(clock, (grey - grey[0]) / 50, atol=0.05)


def test_ctrl_c_ends_a_recording_well(tmp_path):
  source, out = Broadcast(2000), tmp_path / "a.mp4"
  run = subprocess.Popen(
    [sys.executable, "-c",
     "import sys; from vidgan_jax.verbs import process;"
     "sys.exit(process.main(sys.argv[1:]))",
     "identity", source.url, str(out)],
    stderr=subprocess.PIPE, text=True,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
  )  # fmt: skip
  until = time.time() + 30
  while not list(tmp_path.glob(".*.tmp")) and time.time() < until:
    time.sleep(0.05)
  time.sleep(1)
  run.send_signal(signal.SIGINT)
  _, said = run.communicate(timeout=30)
  source.close()
  assert run.returncode == 0, said
  count = int(re.search(r"(\d+) frames in", said)[1])
  images, _ = seen(out)
  grey = images.mean((1, 2, 3))
  assert len(images) == count > 10
  # Not one is lost: what was on its way is in there.
  np.testing.assert_allclose(np.diff(grey[:100]), 2, atol=1.5)
  assert os.listdir(tmp_path) == ["a.mp4"]


# ---------------------------------------------------------------- resume


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_killed_run_goes_on_to_the_same_file(tmp_path, suffix):
  # Of a size for which x264 is not always the same by itself.
  source = film(tmp_path / "a.mkv", smooth(200, 96, 160), sound=True)
  program = f"""
import sys, time
from vidgan_jax.verbs import process
from vidgan_jax.video import job
from vidgan_jax.video import plan
from vidgan_jax.video import segments
from vidgan_jax.video import stages
segments.SEGMENT = 30
class Slow(stages.Blend):
  def __call__(self, *given):
    time.sleep({{}})
    return super().__call__(*given)
stages.BUILT_IN["slow"] = Slow
sys.exit(process.main(["slow:rate=2", {source!r}, sys.argv[1], "--resume",
                       "--preset", "veryfast", "--chunk", "4"]))
"""
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}
  start = lambda out, nap: subprocess.Popen(
    [sys.executable, "-c", program.format(nap), str(out)],
    env=environment, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  whole, broken = tmp_path / f"whole{suffix}", tmp_path / f"broken{suffix}"
  assert start(whole, 0).wait(60) == 0
  run = start(broken, 0.1)
  parts = pathlib.Path(f"{broken}.parts")
  until = time.time() + 60
  while not (parts / "000002").exists() and time.time() < until:
    time.sleep(0.02)
  run.send_signal(signal.SIGKILL)
  run.wait()
  run.stderr.close()
  assert not broken.exists() and (parts / "manifest.json").exists()
  # With another setting it does not go on.
  assert main(["identity", source, str(broken), "--resume"]) == 1
  second = start(broken, 0)
  _, said = second.communicate(timeout=60)
  assert second.returncode == 0 and "goes on at frame" in said
  assert broken.read_bytes() == whole.read_bytes()
  assert not parts.exists()
  assert len(seen(whole)[1]) == 399 and packets(whole) == packets(source)


def stops(after):
  """A `Brighter` that fails after so many frames, as if it were killed."""
  calls = []

  class Stops(Brighter):
    def __call__(self, video, times, mask):
      calls.append(len(video))
      if sum(calls) > after:
        raise read.VideoError("enough")
      return super().__call__(video, times, mask)

  return Stops()


def test_another_mask_does_not_go_on(tmp_path, monkeypatch):
  monkeypatch.setattr(segments, "SEGMENT", 4)
  source = film(tmp_path / "a.mkv", smooth(12))
  mask, out = tmp_path / "masks", tmp_path / "b.mkv"
  mask.mkdir()
  draw = lambda value: [
    Image.new("L", (64, 48), value).save(mask / f"{i:02}.png")
    for i in range(12)
  ]
  options = plan.Options(mask=str(mask), resume=True, chunk=4)
  draw(255)
  with pytest.raises(read.VideoError, match="enough"):
    job.process([stops(8)], source, str(out), options)
  assert pathlib.Path(f"{out}.parts").is_dir()
  draw(0)
  with pytest.raises(read.VideoError, match="from another input"):
    job.process([stops(8)], source, str(out), options)


def test_a_grown_mask_of_a_colour_goes_on(tmp_path, monkeypatch):
  monkeypatch.setattr(segments, "SEGMENT", 4)
  monkeypatch.setattr(Brighter, "__repr__", lambda self: "Brighter")
  source = film(tmp_path / "a.mkv", smooth(40))
  options = plan.Options(
    mask="#8080a0", grow=2, resume=True, chunk=4, crf=0, preset="ultrafast"
  )
  whole, out = str(tmp_path / "b.mkv"), str(tmp_path / "c.mkv")
  job.process([Brighter()], source, whole, options)
  with pytest.raises(read.VideoError, match="enough"):
    job.process([stops(16)], source, out, options)
  lines = []
  job.process([Brighter()], source, out, options, tell=lines.append)
  assert any("goes on at frame" in line for line in lines)
  for a, b in zip(planes(whole), planes(out), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["000001", "manifest.json"])
def test_a_flipped_bit_in_the_parts_is_found(tmp_path, monkeypatch, name):
  monkeypatch.setattr(segments, "SEGMENT", 4)
  monkeypatch.setattr(Brighter, "__repr__", lambda self: "Brighter")
  source = film(tmp_path / "a.mkv", smooth(24), sound=True)
  options = plan.Options(resume=True, chunk=4, crf=0, preset="ultrafast")
  whole, out = str(tmp_path / "b.mkv"), str(tmp_path / "c.mkv")
  job.process([Brighter()], source, whole, options)
  with pytest.raises(read.VideoError, match="enough"):
    job.process([stops(16)], source, out, options)
  part = pathlib.Path(f"{out}.parts", name)
  flipped = bytearray(part.read_bytes())
  flipped[len(flipped) // 2] ^= 1
  part.write_bytes(flipped)
  lines = []
  job.process([Brighter()], source, out, options, tell=lines.append)
  assert [line for line in lines if "is damaged" in line] == [
    f"{part}: is damaged, "
    + ("starts anew" if "json" in name else "its 4 frames are made anew")
  ]
  assert pathlib.Path(out).read_bytes() == pathlib.Path(whole).read_bytes()


def test_segments_change_no_frame(tmp_path, monkeypatch):
  monkeypatch.setattr(segments, "SEGMENT", 7)
  source = film(tmp_path / "a.mkv", smooth(30), sound=True)
  a, b = tmp_path / "b.mp4", tmp_path / "c.mp4"
  extra = [*LOSSLESS, "--trim", "0.1", "0.9", "--concat", source]
  ok("identity:pixels=1", source, a, *extra)
  ok("identity:pixels=1", source, b, *extra, "--resume")
  for x, y in zip(planes(a), planes(b), strict=True):
    np.testing.assert_array_equal(x, y)
  assert seen(a)[1] == seen(b)[1] and packets(a) == packets(b)


# ---------------------------------------------------------------- places


def test_pipes(tmp_path):
  source = film(tmp_path / "a.mkv", smooth(20), sound=True)
  with open(source, "rb") as given:
    done = subprocess.run(
      [sys.executable, "-c",
       "import sys; from vidgan_jax.verbs import process;"
       "sys.exit(process.main(sys.argv[1:]))",
       "identity", "-", "-", *LOSSLESS],
      stdin=given, capture_output=True, timeout=60,
      env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
  assert done.returncode == 0, done.stderr
  (tmp_path / "b.mkv").write_bytes(done.stdout)
  np.testing.assert_array_equal(seen(tmp_path / "b.mkv")[0], seen(source)[0])
  assert packets(tmp_path / "b.mkv") == packets(source)


def test_folders(tmp_path, capsys):
  given, out = tmp_path / "given", tmp_path / "out"
  (given / "deep").mkdir(parents=True)
  film(given / "a.mkv", smooth(3))
  film(given / "deep" / "b.mp4", smooth(4))
  (given / "c.mp4").write_bytes(b"nonsense" * 100)
  assert main(["identity", str(given), str(out)]) == 1
  assert "c.mp4: not a video" in capsys.readouterr().err
  assert len(seen(out / "a.mkv")[0]) == 3
  assert len(seen(out / "deep" / "b.mp4")[0]) == 4
  assert sum(p.is_file() for p in out.rglob("*")) == 2
  film(given / "a.mp4", smooth(3))
  line = refused(capsys, "identity", given, tmp_path / "two", "--format", "mkv")
  assert "a.mkv" in line and "a.mp4" in line and "two folders" in line
  assert not (tmp_path / "two").exists()


def test_whatever_one_file_does_the_others_are_made(
  tmp_path, capsys, monkeypatch
):
  given, out = tmp_path / "given", tmp_path / "out"
  given.mkdir()
  for name in "abc":
    film(given / f"{name}.mkv", smooth(3))
  opened = source_lib.Source.__init__

  def broken(self, path, fps=None):
    if path.endswith("b.mkv"):
      raise IndexError("list index out of range")
    opened(self, path, fps)

  monkeypatch.setattr(source_lib.Source, "__init__", broken)
  assert main(["identity", given, out]) == 1
  said = capsys.readouterr().err
  assert "Traceback" in said  # a fault of the program: of use to who mends it
  assert said.splitlines()[-2:] == [
    "1 of 3 files failed:", f"  {given / 'b.mkv'}: list index out of range",
  ]  # fmt: skip
  assert sorted(os.listdir(out)) == ["a.mkv", "c.mkv"]
  with pytest.raises(IndexError):  # one file keeps its traceback
    main(["identity", given / "b.mkv", tmp_path / "b.mkv"])


def test_folders_that_cannot_be_the_output(tmp_path, capsys):
  given = tmp_path / "given"
  given.mkdir()
  for name in ("a.mkv", "b.mkv"):
    film(given / name, smooth(3))
  (tmp_path / "link").symlink_to(given)
  for out in (given, given / "out", tmp_path / "link" / "deep" / "out"):
    line = refused(capsys, "identity", given, out)
    assert f"{out}: is the input, or in it" in line
  assert sorted(os.listdir(given)) == ["a.mkv", "b.mkv"]
  (tmp_path / "file").touch()
  line = refused(capsys, "identity", given, tmp_path / "file" / "out")
  assert "file/out: this folder cannot be written to (Not a directory)" in line
  ok("identity", given, tmp_path / "given2")  # a like name is no obstacle


@pytest.mark.parametrize("extra", [[], ["--format", "png"]])
def test_a_folder_goes_on_with_what_is_not_done(tmp_path, capsys, extra):
  given, out = tmp_path / "given", tmp_path / "out"
  (given / "deep").mkdir(parents=True)
  film(given / "a.mkv", smooth(3))
  film(given / "deep" / "b.mkv", smooth(4))
  (given / "c.mkv").write_bytes(b"nonsense" * 100)
  argv = ["identity", str(given), str(out), "--resume", *extra]
  made = [out / "a", out / "deep" / "b"] if extra else [
    out / "a.mkv", out / "deep" / "b.mkv"]  # fmt: skip
  assert main(argv) == 1
  before = [path.stat() for path in made]
  capsys.readouterr()
  film(given / "c.mkv", smooth(5))
  assert main(argv) == 0
  said = capsys.readouterr().err
  assert len(said.splitlines()) == 3 and said.count("is done, of the same") == 2
  assert "5 frames in" in said
  assert [path.stat() for path in made] == before
  # Another input, and what someone else put there, are no longer the same.
  film(given / "a.mkv", smooth(6))
  if extra:
    assert main(argv) == 1
    said = capsys.readouterr().err
    assert "out/a: this folder is not empty" in said
    shutil.rmtree(made[0])
    (made[1] / "000001.png").unlink()
    assert main(argv) == 1
    assert "out/deep/b: this folder is not empty" in capsys.readouterr().err
    assert len(os.listdir(made[0])) == 6
    return
  made[1].write_bytes(b"mine")
  assert main(argv) == 1
  assert f"{made[1]}: is there already; give" in capsys.readouterr().err
  assert made[1].read_bytes() == b"mine"
  argv.append("--overwrite")
  assert main(argv) == 0
  assert "a.mkv: 6 frames" in (said := capsys.readouterr().err)
  assert "b.mkv: 4 frames" in said and "c.mkv: is done" in said
  assert main([*argv, "--crf", "30"]) == 0
  assert "is done" not in capsys.readouterr().err


def test_probe_writes_nothing(tmp_path, capsys):
  source = film(tmp_path / "a.mkv", smooth(100))
  ok("identity", source, tmp_path / "b.mkv", "--probe")
  assert re.search("for (99|100|101) frames", capsys.readouterr().out)
  assert os.listdir(tmp_path) == ["a.mkv"]


def test_probe_of_a_chain(tmp_path, capsys):
  source = film(tmp_path / "a.mkv", smooth(60), times=list(range(0, 2400, 40)))
  spec, out = "blend:rate=3,resize:scale=2,crop:w=64,h=48", tmp_path / "b.mkv"
  ok(spec, source, out, "--chunk", "4", "--probe")
  line = capsys.readouterr().out
  about = re.fullmatch(
    r".*a\.mkv: about (\d+):(\d\d) for (\d+) frames \((.*) frames/s after (.*)"
    r" s\), (\d+) MiB of memory\n",
    line,
  )
  minutes, seconds, frames, rate, begin, memory = map(float, about.groups())
  assert 178 <= frames <= 180 and memory > 50
  assert 60 * minutes + seconds == pytest.approx(begin + frames / rate, abs=1)
  assert os.listdir(tmp_path) == ["a.mkv"]


def test_the_progress_line(monkeypatch, capsys):
  # 90 s of compiling; then windows of 8 frames, each in 8 s.
  done, now = 0, [0.0]
  monkeypatch.setattr(time, "perf_counter", lambda: now[0])
  progress = process._Progress(8)
  for window in range(12):
    now[0] = 90 + 8 * window
    for _ in range(8):
      done += 1
      progress(done, 96)
  lines = capsys.readouterr().err.splitlines()
  assert lines[0] == "1/96 frames"
  told = [re.search(r"(\d+)/96 frames, (.*) frames/s, (.*) to go", line)
          for line in lines[1:]]  # fmt: skip
  assert len(told) > 4
  for line in told:
    minutes, seconds = line[3].split(":")
    left, true = 60 * int(minutes) + int(seconds), 96 - int(line[1])
    assert true / 1.5 - 1 <= left <= 2 * true
  progress(97, 0)
  now[0] += 5000
  progress(10_000, 20_000)
  assert re.search("10000/20000 frames, 2.0 frames/s, 1:24:49 to go",
                   capsys.readouterr().err)  # fmt: skip


@pytest.mark.parametrize("extra", [[], ["--resume"]])
def test_names_with_spaces_and_other_letters(tmp_path, capsys, extra):
  given, out = tmp_path / "Ürlaub am Meer", tmp_path / "結果 %d' [1]"
  given.mkdir()
  source = film(given / "-été 50% #1.mkv", smooth(5), sound=True)
  Image.new("L", (64, 48), 255).save(tmp_path / "маска 1.png")
  mask = ("--mask", tmp_path / "маска 1.png")
  ok("identity", given, out, *LOSSLESS, *mask, *extra)
  result = out / "-été 50% #1.mkv"
  assert f"{result}: 5 frames" in capsys.readouterr().err
  np.testing.assert_array_equal(seen(result)[0], seen(source)[0])
  ok("identity", source, out / "кадры ö" / "%03d.png", *extra)
  ok("identity", out / "кадры ö", out / "a b.gif", *extra)
  assert len(os.listdir(out / "кадры ö")) == 5 and (out / "a b.gif").is_file()


# ---------------------------------------------------------------- bad input


def test_what_cannot_work_is_refused_in_one_line(tmp_path, capsys, monkeypatch):
  monkeypatch.setitem(stages.BUILT_IN, "brighter", Brighter)
  source = film(tmp_path / "a.mkv", smooth(3), sound=True)
  before = pathlib.Path(source).read_bytes()
  mask = tmp_path / "m.png"
  Image.fromarray(np.zeros((10, 10), np.uint8)).save(mask)
  (tmp_path / "few").mkdir()
  half = np.uint8([0, 255]).repeat(32)[None].repeat(48, 0)
  Image.fromarray(half).save(tmp_path / "few" / "0.png")
  (tmp_path / "zero.mp4").touch()
  os.mkfifo(tmp_path / "pipe.mp4")
  (tmp_path / "no.safetensors").write_bytes(b"nonsense" * 9)
  (tmp_path / "text.mp4").write_text("hello " * 100)
  whole = film(tmp_path / "t.mp4", smooth(9))
  (tmp_path / "cut.mp4").write_bytes(pathlib.Path(whole).read_bytes()[:800])
  with av.open(str(tmp_path / "sound.mka"), "w") as container:
    voice = container.add_stream("aac", rate=16_000)
    voice.layout = "mono"
    part = np.zeros((1, 1024), np.float32)
    frame = av.AudioFrame.from_ndarray(part, "fltp", "mono")
    frame.sample_rate = 16_000
    container.mux(voice.encode(frame))
    container.mux(voice.encode(None))
  out = tmp_path / "b.mp4"
  for argv, why in (
    (["identiti", source, out], "unknown task 'identiti': did you mean 'iden"),
    (["predict", source, out], "no weights are shipped for it: train it (conf"),
    (["generate", source, out], "unknown task 'generate': did you mean"),
    (["identity:x=1", source, out], "identity takes"),
    (["crop:w=640,h=4", source, out], "does not fit"),
    (["crop:w=10.5,h=8", source, out], "w is 10.5; give a whole number"),
    (["identity", source, out, "--crop", "a:b"], "w is a; give a whole"),
    (["identity", source, out, "--crop", "8:8:-5:-9"], "x is -5; give a"),
    (["resize:scale=0", source, out], "scale is 0; give a whole number"),
    (["resize:scale=150", source, out], "resize: frames of 9600x7200 are bey"),
    (["resize:scale=99,resize:scale=2", source, out], "of 12672x9504 are bey"),
    (["blend:rate=1.5", source, out], "rate is 1.5; give a whole number"),
    (["identity", source, out, "--speed", "nan"], "--speed: give a number"),
    (["identity", source, out, "--memory", "nan"], "and numbers"),
    (["super_resolve", source, out], "super_resolve:scale=2"),
    (["super_resolve:scale=9", source, out], "super_resolve:scale=4"),
    (["inpaint", source, out], "--mask hide.png"),
    ([tmp_path / "no.safetensors", source, out], "is damaged, or not a file"),
    (["identity", tmp_path / "none.mp4", out], "No such file"),
    (["identity", tmp_path / "zero.mp4", out], "the file is empty"),
    (["identity", tmp_path / "pipe.mp4", out], "is a pipe or a device"),
    (["identity", tmp_path / "text.mp4", out], "not a video"),
    (["identity", tmp_path / "cut.mp4", out], "not a video"),
    (["identity", tmp_path / "sound.mka", out], "no video stream"),
    (["identity", source, source], "is the input"),
    (["identity", source, tmp_path / "text.mp4" / "b.mp4"], "is not a folder"),
    (["identity", source, tmp_path], "is a folder, the input is a file"),
    (["identity", source, tmp_path / "b"], "suffix"),
    (["identity", source, tmp_path / "b.png"], "b/%06d.png"),
    (["identity", source, tmp_path / "%d.jpg"], "written as .png only"),
    (["identity", source, tmp_path / "%d.png"], "is not empty"),
    (["identity", source, tmp_path / "b.gif", "--crf", "3"], "a GIF has no"),
    (["identity", source, tmp_path / "b.mp4", "--live"], "--live"),
    (["identity", tmp_path / "*.jpg", out], "there is no such file"),
    (["identity", source, tmp_path / "b.xyz"], "suffix '.xyz'"),
    (["identity", source, tmp_path / "b.webm", "--codec", "h264"], "webm"),
    (["identity", source, out, "--codec", "h267"], "did you mean h26"),
    (
      [
        "identity",
        source,
        tmp_path / "b.mov",
        "--codec",
        "prores",
        "--crf",
        "3",
      ],
      "--crf: the encoder prores_ks has none",
    ),
    (
      ["identity", source, out, "--preset", "nope"],
      "libx264 cannot be opened with --preset nope (",
    ),
    (["identity", source, out, "--crf", "-5"], "with --crf -5 ("),
    (
      ["identity", source, out, "--codec", "vp9", "--crf", "70"],
      "libvpx-vp9 cannot be opened with --crf 70 (",
    ),
    (
      [
        "identity",
        source,
        out,
        "--codec",
        "av1",
        "--preset",
        "veryfast",
        "--crf",
        "20",
      ],
      "libsvtav1 cannot be opened with --crf 20 --preset veryfast (",
    ),
    (["identity", source, "-", "--format", "mp4"], "a pipe cannot hold mp4"),
    (["identity", source, out, "--pix-fmt", "rgb24"], "--pix-fmt rgb24"),
    (["brighter", source, out, "--mask", mask], "10x10, the video 64x48"),
    (["identity", source, out, "--grow", "3"], "a --mask to grow"),
    (["brighter", source, out, "--mask", tmp_path / "few"], "has 1 frames"),
    (["brighter", source, out, "--mask", "no-colour"], "neither a file"),
    (["identity", source, out, "--start", "9"], "no frame lies within"),
    (["identity", source, out, "--end", "2", "--start", "3"], "--end"),
    (["identity", source, out, "--trim", "0", "1", "--start", "0.1"], "--trim"),
    (["identity", source, out, "--trim", "0", "1", "--end", "1"], "--trim"),
    (["identity", source, out, "--strength", "2"], "--strength"),
    (["identity", "-", out, "--resume"], "--resume"),
    (["identity", "udp://127.0.0.1:9", out, "--mask", source], "--mask"),
    (["identity", "tcp://127.0.0.1:9", out], "no video comes"),
  ):
    line = refused(capsys, *argv)
    assert why in line, (argv, line)
    assert not out.exists() and not list(tmp_path.glob(".*"))
  assert pathlib.Path(source).read_bytes() == before
  assert not (tmp_path / "b.webm").exists()


def test_the_mask_is_not_overwritten(tmp_path, capsys):
  source = film(tmp_path / "a.mkv", smooth(3))
  folder = numbered(tmp_path / "masks", smooth(3)[..., 0], "{}.png")
  mask, inside = tmp_path / "m.mkv", tmp_path / "masks" / "m.mkv"
  film(mask, smooth(3))
  inside.write_bytes(mask.read_bytes())
  for out, given in ((mask, mask), (inside, folder)):
    before = out.read_bytes()
    line = refused(capsys, "identity", source, out, "--mask", given)
    assert "m.mkv: is the --mask, or in it" in line
    assert out.read_bytes() == before


@pytest.mark.parametrize("name", ["b.mkv", "b.gif", "b/%d.png"])
@pytest.mark.parametrize("extra", [[], ["--resume"]])
def test_what_is_there_is_replaced_by_overwrite_alone(
  tmp_path, capsys, monkeypatch, name, extra
):
  source, out = film(tmp_path / "a.mkv", smooth(3)), tmp_path / name
  there = tmp_path / ("b/12.png" if "/" in name else name)
  there.parent.mkdir(exist_ok=True)
  there.write_bytes(b"mine")
  (there.parent / "notes.txt").write_bytes(b"mine")
  argv = ["identity", source, out, *extra]
  line = refused(capsys, *argv)
  assert "--overwrite" in line and there.read_bytes() == b"mine"
  assert not list(tmp_path.glob("**/*.parts"))
  for answer, status in (("n\n", 1), ("\n", 1), ("y\n", 0)):
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    for file in (sys.stdin, sys.stderr):
      monkeypatch.setattr(file, "isatty", lambda: True, raising=False)
    assert main(argv) == status
    assert "is there already. Replace it? [y/N] " in capsys.readouterr().err
    if status:
      assert there.read_bytes() == b"mine"
  if "/" in name:
    names = ["1.png", "2.png", "3.png", "notes.txt"]
    assert sorted(os.listdir(tmp_path / "b")) == names
  else:
    assert len(seen(out)[0]) == 3
  ok(*argv)


def test_images_are_kept_when_their_name_is_taken_meanwhile(tmp_path, capsys):
  source = film(tmp_path / "a.mkv", smooth(3))
  new, old = tmp_path / "new", tmp_path / "old"
  old.mkdir()
  (old / ".DS_Store").touch()  # systems put them anywhere

  class Rival(Brighter):
    """While it works another run writes into the folder."""

    def __call__(self, video, times, mask):
      folder.mkdir(exist_ok=True)
      (folder / theirs).write_bytes(b"theirs")
      return super().__call__(video, times, mask)

  folder, theirs = tmp_path / "harmless", "Thumbs.db"
  job.process([Rival()], source, f"{folder}/%06d.png")
  assert len(os.listdir(folder)) == 4
  theirs = "000002.png"
  for folder in (new, old):
    with pytest.raises(read.VideoError) as problem:
      job.process([Rival()], source, f"{folder}/%06d.png")
    kept = pathlib.Path(errors.text(problem.value).rpartition(" ")[2])
    assert len(list(kept.glob("*.png"))) == 3
    assert (folder / "000002.png").read_bytes() == b"theirs"
    (folder / "000002.png").unlink()
  (old / "Thumbs.db").touch()
  shutil.rmtree(kept)
  ok("identity", source, old / "%06d.png")
  assert len(list(old.glob("*.png"))) == 3 and (old / "Thumbs.db").exists()


def test_a_film_is_kept_when_its_name_is_taken_meanwhile(tmp_path, capsys):
  source, out = film(tmp_path / "a.mkv", smooth(3)), tmp_path / "b.mkv"

  class Rival(Brighter):
    def __call__(self, video, times, mask):
      out.mkdir(exist_ok=True)
      return super().__call__(video, times, mask)

  with pytest.raises(OSError) as problem:
    job.process([Rival()], source, str(out))
  kept = pathlib.Path(errors.text(problem.value).rpartition(" ")[2])
  assert kept.suffix == ".mkv" and len(seen(kept)[0]) == 3


def test_a_special_file_is_not_replaced(tmp_path, capsys):
  source = film(tmp_path / "a.mkv", smooth(3))
  os.mkfifo(tmp_path / "b.mp4")
  (tmp_path / "c.mp4").symlink_to(tmp_path / "b.mp4")
  for name in ("b.mp4", "c.mp4"):
    for extra in ([], ["--resume"]):
      line = refused(capsys, "identity", source, tmp_path / name, *extra)
      assert f"{name}: is a device or a pipe" in line
  out = tmp_path / "b.mp4"
  line = refused(capsys, "identity", source, out, "--format", "png")
  assert "b.mp4: is a device or a pipe" in line
  assert out.is_fifo()


def boxes(path, fragments):
  """A film of 48 frames whose index comes first, or is in fragments."""
  flags = "frag_keyframe+empty_moov" if fragments else "faststart"
  with av.open(str(path), "w", options={"movflags": flags}) as out:
    stream = out.add_stream("libx264", rate=24)
    stream.options = {"g": "6"}
    stream.height, stream.width = 96, 128
    noise = np.random.default_rng(0)
    for _ in range(48):
      image = noise.integers(0, 256, (96, 128, 3), np.uint8)
      out.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
    out.mux(stream.encode(None))
  return path.read_bytes()


@pytest.mark.parametrize("extra", [[], ["--resume"]])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_file_that_is_cut_short(tmp_path, capsys, name, extra):
  path, out = tmp_path / name, tmp_path / "b.mkv"
  whole = boxes(path, False)
  ok("identity", path, out, *LOSSLESS, *extra)
  images, _ = seen(out)
  assert len(images) == 48
  out.unlink()
  path.write_bytes(whole[: len(whole) // 2])
  line = refused(capsys, "identity", path, out, *LOSSLESS, *extra)
  assert f"{name}: is cut short" in line and " of 2.00 s are there" in line
  assert not out.exists() and not list(tmp_path.glob(".*"))
  shutil.rmtree(f"{out}.parts", ignore_errors=True)
  # Who asks for no more gets it.
  end = line.split()[-2:]
  assert end[0] == "--end" and 0.5 < float(end[1]) < 1.5
  ok("identity", path, out, *LOSSLESS, *extra, *end)
  got, _ = seen(out)
  assert 15 < len(got) < 33
  np.testing.assert_array_equal(got, images[: len(got)])
  line = refused(capsys, "identity", path, out, "--start", "1.9", "--overwrite")
  assert "is cut short" in line


def test_files_that_only_seem_to_be_cut_short(tmp_path):
  # Matroska does not say how long the last picture is shown.
  path, out = tmp_path / "a.mkv", tmp_path / "b.mkv"
  still = [
    stream.Frame(
      time=fractions.Fraction(i),
      duration=fractions.Fraction(1 + 8 * i),
      image=smooth(1)[0],
    )
    for i in range(2)
  ]
  source = source_lib.Source(film(path, smooth(2)))
  source.look()
  sink = sink_lib.Sink(
    str(out), sink_lib.Encoding(container="matroska"), source, still[0],
    name="b", time_base=fractions.Fraction(1, 1000), rate=fractions.Fraction(1),
  )  # fmt: skip
  for frame in still:
    sink.write(frame)
  sink.close()
  assert read.probe(out).duration == 10
  ok("identity", out, path)
  # What says nothing of its length is taken as it is; so is what ends in zeros.
  whole = boxes(tmp_path / "a.mkv", False)
  (tmp_path / "a.mkv").write_bytes(whole + bytes(100))
  boxes(tmp_path / "a.mp4", True)
  for name in ("a.ts", "a.flv", "a.nut"):
    whole = boxes(tmp_path / name, False)
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
  for name in ("a.mkv", "a.mp4", "a.ts", "a.flv", "a.nut"):
    ok("identity", tmp_path / name, out)


def test_stopped_before_the_first_frame(tmp_path):
  source = source_lib.Source(film(tmp_path / "a.mkv", smooth(3)))
  source.stopped = True
  with pytest.raises(read.VideoError, match="was stopped before the first"):
    list(source.frames(source.clock()))


def test_a_full_disk_leaves_nothing(tmp_path):
  video = np.random.default_rng(0).integers(0, 256, (20, 96, 96, 3), np.uint8)
  source = film(tmp_path / "a.mkv", video, pix_fmt="yuv444p")
  program = """
import resource, signal, sys
from vidgan_jax.verbs import process
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
sys.exit(process.main(sys.argv[1:]))
"""
  for suffix, extra in ((".mkv", []), (".mp4", []), (".mp4", ["--resume"])):
    out = tmp_path / f"b{suffix}"
    done = subprocess.run(
      [sys.executable, "-c", program, "identity", source, str(out), *LOSSLESS,
       *extra],
      capture_output=True, text=True, timeout=60,
      env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot be written" in done.stderr and "Trace" not in done.stderr
    assert not out.exists() and not list(tmp_path.glob(".*"))


@pytest.fixture
def mounted(tmp_path):
  """A folder that is a mount point, as of `docker run -v`."""
  disk = tmp_path / "disk"
  disk.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=9m", "none", str(disk)]
  if not shutil.which("mount") or subprocess.run(mount).returncode:
    pytest.skip("may not mount a file system")
  yield disk
  subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("extra", [[], ["--resume"]])
def test_images_into_a_mount_point(tmp_path, mounted, extra):
  source = film(tmp_path / "a.mkv", smooth(3))
  (mounted / "lost+found").mkdir()
  assert main(["identity", source, mounted / "%d.png", *extra]) == 0
  names = ["1.png", "2.png", "3.png", "lost+found"]
  assert sorted(os.listdir(mounted)) == names
  assert sorted(os.listdir(tmp_path)) == ["a.mkv", "disk"]


def test_a_disk_that_is_really_full(tmp_path, capsys):
  disk = tmp_path / "disk"
  disk.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
  try:
    if subprocess.run(mount, capture_output=True).returncode:
      pytest.skip("may not mount a file system")
  except FileNotFoundError:
    pytest.skip("there is no mount here")
  try:
    video = np.random.default_rng(0).integers(0, 256, (9, 96, 96, 3), np.uint8)
    source = film(tmp_path / "a.mkv", video, pix_fmt="yuv444p", sound=True)
    for name, extra in (
      ("b.mkv", []), ("b.mp4", ["--resume"]), ("b.gif", []), ("b/%d.png", []),
      ("b.mkv", ["--speed", "2"]),
    ):  # fmt: skip
      lossless = [] if name.startswith(("b.g", "b/")) else LOSSLESS
      argv = ["identity", source, disk / name, *lossless, *extra]
      assert main(argv) == 1
      said = capsys.readouterr().err.strip().splitlines()[-1]
      assert "No space left on device" in said, said
      left = [n for n in os.listdir(disk) if not n.endswith(".parts")]
      assert left == []
      shutil.rmtree(disk / "b.mp4.parts", ignore_errors=True)
  finally:
    subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch, capsys):
  source = film(tmp_path / "a.mkv", smooth(3))
  (tmp_path / "locked").mkdir()
  # Root may write anywhere, so the answer is made up.
  allowed = os.access
  monkeypatch.setattr(
    os, "access", lambda p, m: "locked" not in str(p) and allowed(p, m)
  )
  for name in ("b.mkv", "b/%d.png"):
    line = refused(capsys, "identity", source, tmp_path / "locked" / name)
    assert "locked is not a folder that can be written to" in line


def test_a_change_of_size_is_scaled_to_the_first_and_told(tmp_path, capsys):
  # VP8 may change its size at a key frame.
  parts = []
  for name, size in (("a.ivf", (48, 64)), ("b.ivf", (96, 128))):
    video = smooth(5, *size)
    parts.append(film(tmp_path / name, video, codec="libvpx"))
  joined = str(tmp_path / "c.ivf")
  head = pathlib.Path(parts[0]).read_bytes()
  tail = bytearray(pathlib.Path(parts[1]).read_bytes()[32:])
  pathlib.Path(joined).write_bytes(head + bytes(tail))
  ok("identity", joined, tmp_path / "d.mkv", *LOSSLESS)
  said = capsys.readouterr().err
  assert (
    "5 frames of another size were scaled to the 64x48 of the first" in said
  )
  images, _ = seen(tmp_path / "d.mkv")
  wanted, _ = seen(joined)
  assert images.shape == wanted.shape == (10, 48, 64, 3)
  assert np.abs(images.astype(int) - wanted).mean() < 1


@pytest.mark.parametrize("name", ["b.mp4", "b.gif", "b/%d.png"])
def test_sigterm_leaves_nothing(tmp_path, name):
  source = film(tmp_path / "a.mkv", smooth(100))
  program = """
import sys, time
from vidgan_jax import cli
from vidgan_jax import errors
from vidgan_jax.video import stages
class Slow(stages.Blend):
  def __call__(self, *given):
    time.sleep(0.3)
    return super().__call__(*given)
stages.BUILT_IN["slow"] = Slow
sys.exit(cli.main(sys.argv[1:]))
"""
  run = subprocess.Popen(
    [sys.executable, "-c", program, "process", "slow", source,
     str(tmp_path / name), "--chunk", "2"],
    stderr=subprocess.PIPE, text=True,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
  )  # fmt: skip
  until = time.time() + 30
  while not list(tmp_path.glob(".*")) and time.time() < until:
    time.sleep(0.02)
  run.send_signal(signal.SIGTERM)
  _, said = run.communicate(timeout=30)
  assert run.returncode == 130 and "stopped" in said and "Trace" not in said
  assert os.listdir(tmp_path) == ["a.mkv"]


def test_a_stage_that_fails_leaves_nothing(tmp_path):
  class Broken(Brighter):
    def __call__(self, video, times, mask):
      raise ZeroDivisionError

  source = film(tmp_path / "a.mkv", smooth(30), sound=True)
  with pytest.raises(ZeroDivisionError):
    job.process([Broken()], source, str(tmp_path / "b.mkv"))
  assert os.listdir(tmp_path) == ["a.mkv"]


def test_specs():
  spec = "blend:rate=3,resize:scale=2,crop:w=8,h=4,x=1"
  steps = stages.chain(spec, None)
  assert [s.name for s in steps] == ["blend", "resize", "crop"]
  assert steps[0].rate == 3 and steps[2] == edits.Crop(w=8, h=4, x=1)
  with pytest.raises(read.VideoError, match="SPEC is empty"):
    stages.chain(" ", None)


# ---------------------------------------------------------------- real files


def benchmark():
  """benchmarks/process.py, whose comparison of files is used here as well."""
  path = ROOT / "benchmarks" / "process.py"
  spec = importlib.util.spec_from_file_location("benchmark_of_process", path)
  module = importlib.util.module_from_spec(spec)
  # Dataclasses look their module up.
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module


@pytest.mark.skipif(not REAL, reason="VIDGAN_REAL_DATA is not set")
@pytest.mark.parametrize("spec", ["identity", "identity:pixels=1"])
def test_real_files(tmp_path, capsys, spec):
  # Small ones; `python benchmarks/process.py messy` takes all.
  compare, small = benchmark().likeness, 0
  with open(pathlib.Path(REAL) / "MANIFEST.tsv") as file:
    rows = list(csv.DictReader(file, delimiter="\t"))
  cut = 0
  for row in rows:
    path = str(pathlib.Path(REAL) / row["path"])
    count = row["frames_decoded"]
    if not row["path"].startswith("messy"):
      continue
    if not count.isdigit() or not int(count):
      line = refused(capsys, spec, path, tmp_path / "b.mkv")
      assert row["path"] in line and not os.listdir(tmp_path)
      continue
    width, height = map(int, row["coded_size"].split("x"))
    if width * height * int(count) > 3e6:
      continue
    out = str(tmp_path / "b.mkv")
    if main([spec, path, out, *LOSSLESS]):
      said = capsys.readouterr().err
      assert row["path"] in said and "is cut short" in said
      ok(spec, path, out, *LOSSLESS, *said.split()[-2:])
      cut += 1
    like = compare(path, out)
    if "sizes" in row["flags"] and like.error < 2:
      # Scaled frames have more samples of colour than fit into 4:2:0.
      like = dataclasses.replace(like, error=0)
    assert like.good(), (row["path"], like)
    os.remove(out)
    small += 1
  assert small > 25 and cut < 4


@pytest.mark.skipif(not REAL, reason="VIDGAN_REAL_DATA is not set")
def test_the_comparison_notices(tmp_path):
  compare = benchmark().likeness
  source = os.path.join(REAL, "messy/imageio/realshort.mp4")
  out = str(tmp_path / "b.mkv")
  for extra in (["--no-audio"], ["--end", "1"], ["--speed", "1.1"],
                ["--crf", "51"]):  # fmt: skip
    ok("identity", source, out, "--preset", "ultrafast", *extra)
    assert not compare(source, out).good(), extra
