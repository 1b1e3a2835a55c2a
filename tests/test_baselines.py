"""Classical answers against Pillow, NumPy and clips that they suit."""

import itertools
import logging
import pathlib

import footage
import numpy as np
from PIL import Image
import pytest

from vidgan_jax import baselines as classical
from vidgan_jax import pixels
from vidgan_jax.video import read

B, T, H, W = 2, 5, 32, 48
TIMES = np.tile(np.arange(T, dtype=np.float32) / 25, (B, 1))


def scene(b=B, t=T, h=H, w=W, speed=1.0):
  """Soft waves that drift to the right, of little colour, in [-0.9, 0.9]."""
  rng = np.random.default_rng(0)
  clock, y, x = np.meshgrid(*map(np.arange, (t, h, w)), indexing="ij")
  clips = []
  for _ in range(b):
    waves = []
    for _ in range(4):
      a, c = rng.uniform(0.1, 0.4, 2)
      waves.append(np.sin(a * (x - speed * clock) + c * y + rng.uniform(0, 6)))
    colour = np.stack(waves[:3], -1)
    clips.append(0.6 * waves[3][..., None] + 0.3 * colour)
  return np.stack(clips).astype(np.float32)


def psnr(video, target, weight=None):
  """dB of each clip: (B,)."""
  weight = np.ones(video.shape[:-1] + (1,)) if weight is None else weight
  error = (np.asarray(video, float) - target) ** 2 * weight
  mean = error.sum((1, 2, 3, 4)) / (weight.sum((1, 2, 3, 4)) * 3)
  return 10 * np.log10(4 / np.maximum(mean, 1e-10))


def noisy(sigma=20):
  clip = scene()
  noise = np.random.default_rng(1).standard_normal(clip.shape) * sigma / 127.5
  return clip, {"video": np.clip(clip + noise, -1, 1).astype(np.float32)}


def holes():
  clip = scene()
  mask = np.zeros((B, T, H, W, 1), np.float32)
  for t in range(T):
    mask[:, t, 8:16, 10 + 6 * t : 16 + 6 * t] = 1
  mask[1, 2] = 1  # And a lost frame.
  return clip, {"video": clip * (1 - mask), "mask": mask}


def gain(baseline, given, clip, weight=None):
  """dB above the given clip; checks shape, type, range, known pixels."""
  needs = baseline.needs
  if needs:
    pytest.importorskip(needs, reason=f"{needs} is not installed")
  out = baseline(given, TIMES)
  assert out.shape == clip.shape and out.dtype == np.float32
  assert -1 <= out.min() and out.max() <= 1
  if "mask" in given:
    known = np.broadcast_to(given["mask"] == 0, out.shape)
    np.testing.assert_array_equal(out[known], given["video"][known])
  quality = psnr(out, clip, weight)
  return (quality - psnr(given["video"], clip, weight)).min()


# ---------------------------------------------------------------------- scale


@pytest.mark.parametrize("size", [(64, 96), (16, 24), (21, 100)])
def test_resize_is_pillows(size):
  video = scene()
  out = pixels.resize(video, *size)
  frame = Image.fromarray(video[1, 2, ..., 1])
  want = np.asarray(frame.resize(size[::-1], Image.Resampling.BICUBIC))
  np.testing.assert_allclose(out[1, 2, ..., 1], want, atol=1e-5)


def test_lanczos_is_pillows():
  video = scene()
  out = classical.lanczos(3)({"video": video}, TIMES)
  frame = Image.fromarray(video[0, 1, ..., 2])
  want = frame.resize((3 * W, 3 * H), Image.Resampling.LANCZOS)
  want = np.clip(np.asarray(want), -1, 1)
  np.testing.assert_allclose(out[0, 1, ..., 2], want, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 4])
def test_enlarging(scale):
  # The smallest waves are a few pixels long once shrunk.
  clip = scene(h=64, w=96)
  given = {"video": pixels.resize(clip, 64 // scale, 96 // scale)}
  quality = {}
  for name, baseline in {
    "bicubic": classical.bicubic(scale),
    "lanczos": classical.lanczos(scale),
    "back_projection": classical.back_projection(scale, (2, 5, 10)),
  }.items():
    out = baseline(given, TIMES)
    assert out.shape == clip.shape and abs(out).max() <= 1
    quality[name] = psnr(out, clip).mean()
  assert quality["bicubic"] < quality["lanczos"] < quality["back_projection"]
  # What back-projection is for: shrunk again it is what was given.
  out = classical.back_projection(scale, (10,))(given, TIMES)
  again = pixels.resize(out, 64 // scale, 96 // scale)
  assert psnr(again, given["video"]).min() > 55


def test_unsharp_sharpens_edges():
  clip = 0.8 * np.sign(scene(h=64, w=96))
  given = {"video": pixels.resize(clip, 32, 48)}
  plain = classical.lanczos(2)(given, TIMES)
  sharp = classical.unsharp(2, (0.1, 0.3, 0.5))(given, TIMES)
  assert (psnr(sharp, clip) > psnr(plain, clip)).all()
  none = classical.unsharp(2, (0.0,))(given, TIMES)
  np.testing.assert_array_equal(none, plain)


# ---------------------------------------------------------- filters of ffmpeg


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("name", ["hqdn3d", "nlmeans", "atadenoise"])
def test_denoising(name, relative):
  clip, given = noisy()
  if name == "atadenoise":
    # It looks at one place over time, so at what stands still.
    given["video"] += scene(speed=0) - clip
    clip = scene(speed=0)
    baseline = classical.atadenoise(tune=(0.3,))
  else:
    strength = {"hqdn3d": 1.6, "nlmeans": 0.7}[name] * (1 if relative else 20)
    make = getattr(classical, name)
    baseline = make(tune=(strength,), relative=relative)
  assert gain(baseline, given, clip) > 2


def test_clips_do_not_touch():
  """A batch gives what its clips give one by one."""
  _, given = noisy()
  for baseline in (
    classical.hqdn3d(tune=(20,)),
    classical.nlmeans(tune=(12,)),
    classical.spp(tune=(10,)),
  ):
    pytest.importorskip(baseline.needs)
    both = baseline(given, TIMES)
    one = baseline({"video": given["video"][1:]}, TIMES[1:])
    np.testing.assert_array_equal(both[1:], one)


def test_noise_level():
  # Clips are cut at black and white, which takes from the strongest noise.
  for sigma, slack in ((5, 0.2), (20, 0.1), (40, 0.15)):
    _, given = noisy(sigma)
    level = classical.noise_level(given)
    np.testing.assert_allclose(level, sigma, rtol=slack)
  told = {"vector": np.full((B, T, 1), 10 / 127.5, np.float32)}
  np.testing.assert_allclose(classical.noise_level(told), 10, rtol=1e-5)
  told = np.linspace(0, 20 / 127.5, W, dtype=np.float32)[:, None]
  told = {"map": np.broadcast_to(told, (B, T, H, W, 1))}
  np.testing.assert_allclose(classical.noise_level(told), 10, rtol=1e-5)


@pytest.mark.parametrize("name, strength", [("deblock", "strong"), ("spp", 20)])
def test_deblocking(name, strength):
  # A ramp, of which each block of 8 x 8 has only its mean.
  clip = np.linspace(-0.3, 0.3, W, dtype=np.float32)[:, None]
  clip = np.broadcast_to(clip, (B, T, H, W, 3))
  blocks = clip.reshape(B, T, H // 8, 8, W // 8, 8, 3).mean((3, 5))
  given = {"video": blocks.repeat(8, 2).repeat(8, 3)}
  assert gain(getattr(classical, name)(tune=(strength,)), given, clip) > 0.5


def test_nlmeans_enlarges():
  clip, given = noisy(10)
  baseline = classical.nlmeans(2, tune=(7,))
  pytest.importorskip(baseline.needs)
  out = baseline(given, TIMES)
  assert out.shape == (B, T, 2 * H, 2 * W, 3)
  plain = classical.lanczos(2)(given, TIMES)
  want = classical.lanczos(2)({"video": clip}, TIMES)
  assert (psnr(out, want) > psnr(plain, want) + 2).all()


@pytest.mark.parametrize("rate", [2, 4])
def test_minterpolate(rate):
  clip = scene(2, 9, 64, 96, speed=2)
  times = np.tile(np.arange(9, dtype=np.float32) / 25, (2, 1))
  mask = np.ones((2, 9, 64, 96, 1), np.float32)
  mask[:, ::rate] = 0
  given = {"video": clip * (1 - mask), "mask": mask}
  out = classical.minterpolate()(given, times)
  np.testing.assert_array_equal(out[:, ::rate], clip[:, ::rate])
  better = psnr(out, clip, mask)
  plain = psnr(classical.average()(given, times), clip, mask)
  assert np.all(better > plain)
  # Every frame is the one of its own time.
  for t in range(9):
    error = [np.mean((out[0, t] - clip[0, s]) ** 2) for s in range(9)]
    assert np.argmin(error) == t
  # At any distances, others in each clip.
  mask[:] = 1
  mask[0, [0, 3, 4, 8]] = mask[1, [2, 5]] = 0
  given = {"video": clip * (1 - mask), "mask": mask}
  out = classical.minterpolate()(given, times)
  mean = classical.average()(given, times)
  np.testing.assert_array_equal(out[mask[..., 0] == 0], clip[mask[..., 0] == 0])
  np.testing.assert_array_equal(out[1, :2], mean[1, :2])
  np.testing.assert_array_equal(out[1, 6:], mean[1, 6:])
  for i, between in ((0, np.s_[1:8]), (1, np.s_[3:5])):
    made, want = (
      psnr(x[i : i + 1, between], clip[i : i + 1, between]) for x in (out, mean)
    )
    assert made > want


def test_errors_of_ffmpeg_are_told():
  pytest.importorskip("imageio_ffmpeg")
  with pytest.raises(RuntimeError, match="nosuchfilter"):
    classical._filter("nosuchfilter={}", (1,))({"video": scene()}, TIMES)


# ---------------------------------------------------------------------- holes


@pytest.mark.parametrize("name", ["telea", "navier_stokes"])
def test_inpainting(name):
  clip, given = holes()
  assert gain(getattr(classical, name)(tune=(2,)), given, clip, None) > 3


def test_temporal_mean():
  clip = np.broadcast_to(scene(t=1), (B, T, H, W, 3))  # A still.
  _, given = holes()
  given["video"] = clip * (1 - given["mask"])
  out = classical.temporal_mean()(given, TIMES)
  np.testing.assert_allclose(out, clip, atol=1e-6)
  given["mask"] = given["mask"] * 0
  given["mask"][:, :, :4, :4] = 1  # Never seen: the mean of the others.
  out = classical.temporal_mean()(given, TIMES)
  known = given["mask"][0, ..., 0] == 0
  want = given["video"][0][known].mean(0)
  np.testing.assert_allclose(out[0, 3, 1, 2], want, atol=1e-5)


# ----------------------------------------------------------------------- time


def test_average_is_interp():
  clip, given = holes()
  times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.1, (B, T)), 1)
  out = classical.average()(given, times)
  for b, y, x in ((0, 10, 12), (0, 9, 30), (1, 12, 34), (1, 0, 0)):
    known = given["mask"][b, :, y, x, 0] == 0
    for c in range(3):
      values = clip[b, known, y, x, c]
      want = np.interp(times[b], times[b, known], values)
      np.testing.assert_allclose(out[b, :, y, x, c], want, atol=1e-6)
  assert np.any(given["mask"][0, :, 10, 12])  # It was about something.


def test_hold_and_extrapolation():
  times = np.array([[0, 1, 3, 4, 6]], np.float32)
  line = (0.1 * times - 0.4)[..., None, None, None]
  video = np.broadcast_to(line, (1, 5, 4, 4, 3)).astype(np.float32)
  mask = np.zeros((1, 5, 4, 4, 1), np.float32)
  mask[:, 3:] = 1
  mask[:, 1, 0] = 1  # Of these the last two known are frames 0 and 2.
  given = {"video": video * (1 - mask), "mask": mask}
  out = classical.extrapolation()(given, times)
  # Frame 1 of these has one known before it: it is held.
  np.testing.assert_allclose(out[:, 1, 0], -0.4, atol=1e-6)
  np.testing.assert_allclose(out[:, 2:], video[:, 2:], atol=1e-5)
  out = classical.hold()(given, times)
  np.testing.assert_allclose(out[:, 3:], video[:, [2, 2]], atol=1e-6)
  mask[:] = 1  # Nothing is known.
  for name in ("hold", "extrapolation", "average"):
    out = getattr(classical, name)()({"video": video * 0, "mask": mask}, times)
    np.testing.assert_array_equal(out, 0)


# ---------------------------------------------------------------------- light


def test_levels():
  clip = scene()
  clip = clip / abs(clip).max((1, 2, 3, 4), keepdims=True)
  dull = {"video": 0.3 * clip - 0.5}
  assert gain(classical.auto_levels((0.0,)), dull, clip) > 5
  cast = {"video": 0.3 * clip + np.array([-0.5, 0.1, 0.4], np.float32)}
  assert gain(classical.stretch((0.0,)), cast, clip) > 5
  light = (clip + 1) / 2
  dark = {"video": 2 * (0.6 * light**2) - 1}
  outs = [
    one(dark, TIMES)
    for one in classical.auto_levels_gamma((1.0, 0.5)).strengths
  ]
  assert (psnr(outs[1], clip) > 20).all()
  assert (psnr(outs[1], clip) > psnr(outs[0], clip) + 3).all()
  # Light that flickers is put right frame by frame alone.
  waver = np.linspace(0.3, 1, T)[:, None, None, None]
  flicker = {"video": (light * waver * 2 - 1).astype(np.float32)}
  by_clip = classical.auto_levels_gamma((1.0,))(flicker, TIMES)
  by_frame = classical.auto_levels_gamma((1.0,), "frame")(flicker, TIMES)
  steady = lambda x: x.mean((2, 3, 4)).std(1)
  assert (steady(by_frame) < steady(by_clip) / 2).all()


# ------------------------------------------------------------------- contract


def test_copy():
  _, given = noisy(10)
  np.testing.assert_array_equal(classical.copy()(given, TIMES), given["video"])


def test_strengths():
  _, given = noisy(20)
  baseline = classical.Baseline(
    answer=lambda given, times, s: s * given["video"], tune=(0.1, 3.0, 0.3)
  )
  each = [one(given, TIMES) for one in baseline.strengths]
  for strength, out in zip(baseline.tune, each):
    want = np.clip(strength * given["video"], -1, 1)
    np.testing.assert_allclose(out, want, atol=1e-6)
  # Unless asked: the one in the middle of the list.
  np.testing.assert_array_equal(baseline(given, TIMES), each[1])


def test_missing_programs_are_left_out_and_told(caplog, monkeypatch):
  there = classical.importlib.util.find_spec
  missing = lambda name: None if name == "cv2" else there(name)
  monkeypatch.setattr(classical.importlib.util, "find_spec", missing)
  monkeypatch.setattr(classical.Available, "_warned", set())
  with caplog.at_level(logging.WARNING):
    found = classical.Available(
      {"telea": classical.telea((2,)), "average": classical.average()}
    )
    assert not caplog.text  # Not before someone looks.
    assert list(found) == ["average"] and len(found) == 1
    assert "telea" not in found and "average" in found
  assert caplog.text.count("telea") == 1
  assert "pip install opencv-python-headless" in caplog.text


# ---------------------------------------------------------------- real footage


@footage.needed
def test_real_footage():
  """On film the order is the known one, and the right strength matters."""
  pytest.importorskip("imageio_ffmpeg")
  clips = []
  for name in ("scenes/bear.mp4", "static_camera/vtest.avi"):
    path = pathlib.Path(footage.REAL, name)
    images = [f.image for f in itertools.islice(read.frames(path, size=96), T)]
    clips.append(np.stack(images)[:, :64, 32:96])
  clip = np.stack(clips).astype(np.float32) / 127.5 - 1
  noise = np.random.default_rng(0).standard_normal(clip.shape) * 25 / 127.5
  given = {"video": np.clip(clip + noise, -1, 1).astype(np.float32)}
  best = lambda b: max(psnr(s(given, TIMES), clip).mean() for s in b.strengths)
  weak = best(classical.nlmeans(tune=(6,)))
  film = best(classical.hqdn3d(tune=(1.0, 1.6, 2.4), relative=True))
  good = best(classical.nlmeans(tune=(0.6, 0.7, 0.8), relative=True))
  assert good > film + 1 and good > weak + 4
  given = {"video": pixels.resize(clip, 32, 32)}
  ranks = [
    best(b)
    for b in (
      classical.bicubic(2),
      classical.lanczos(2),
      classical.back_projection(2, (2, 5, 10)),
    )
  ]
  assert ranks[0] < ranks[1] < ranks[2]
