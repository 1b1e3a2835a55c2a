"""Shipped weights on damage as it is in life: which stage for which footage.

  python benchmarks/real_damage.py FOLDER [--width 160] [--frames 8] [--between]

FOLDER holds the real videos of `CLIPS`, none of which the weights were trained
on. Each is shrunk by area, damaged in every way of `DAMAGE`, and repaired by
every chain of stages. A row gives the mean PSNR over the clips, and the gain
over what came in, with the worst and the best clip. The last rows are not
clips: a hard-edged patch moves over texture, and where it is not, the result
must be that of the texture alone; the difference is a ghost.

--between: of nine frames from two places of each film every second one is kept,
or every fourth, and the others are made by `interpolate` and by every classical
answer. A row gives the mean PSNR, the median time of the processor a frame, on
how many clips it is better than the model, and the gain over the mean of the
known frames.
"""

import argparse
import fractions
import io
import pathlib
import time

import av
import numpy as np
from scipy import ndimage

from vidgan_jax import footage
from vidgan_jax.video import block_motion
from vidgan_jax.video import read
from vidgan_jax.video import stages
from vidgan_jax.video import stream

CLIPS = (
  "scenes/bear.mp4", "torchvision_assets/basketball.mp4",
  "torchvision_assets/WUzgd7C1pWA.mp4", "torchvision_assets/R6llTwEh07w.mp4",
  "inpainting/dogs_jump_orig.mp4", "grid_faces_av/bbaf2n.mpg",
)  # fmt: skip
REPAIRS = ("denoise", "deblock", "restore", "denoise,deblock")
_QUANTISER = {"qmin": "12", "qmax": "12"}
ENLARGE = ("resize:scale=2", "super_resolve:scale=2",
           "restore,super_resolve:scale=2",
           "deblock,super_resolve:scale=2")  # fmt: skip


def coded(video, codec, pix_fmt="yuv420p", **options):
  """The clip as this codec gives it back; (T, H, W, 3) of levels of 255."""
  file = io.BytesIO()
  with av.open(file, "w", format="nut") as out:
    s = out.add_stream(codec, rate=25, options=options)
    s.height, s.width = video.shape[1:3]
    s.pix_fmt = pix_fmt
    for image in levels(video):
      out.mux(s.encode(av.VideoFrame.from_ndarray(image)))
    out.mux(s.encode(None))
  file.seek(0)
  with read.Reader("clip", container=av.open(file)) as reader:
    return np.stack([f.image for f in reader]).astype(float)


def grain(video, rng):
  """Film grain: correlated over 0.8 to 1.6 pixels, strongest in mid-tones."""
  r = rng.uniform(0.8, 1.6)
  g = ndimage.gaussian_filter(rng.normal(0, 1, video.shape[:3]), (0, r, r))
  shade = 0.4 + 2.4 * video / 255 * (1 - video / 255)
  return video + 14 * (g / g.std())[..., None] * shade


def low_light(video, rng):
  """Shot and read noise, blotches of colour, then H.264."""
  noise = rng.normal(0, 1, video.shape) * np.sqrt(video * 0.5 + 9)
  blotches = rng.normal(0, 1, video.shape)
  blotches = ndimage.gaussian_filter(blotches, (0, 3, 3, 0))
  blotches -= blotches.mean(-1, keepdims=True)
  noisy = video + noise + 5 * blotches / blotches.std()
  return coded(noisy, "libx264", crf="24")


DAMAGE = {
  "grain": grain,
  "noise of a sensor, then H.264": low_light,
  "H.264, crf 32": lambda v, _: coded(v, "libx264", crf="32"),
  "MPEG-4, quantiser 12": lambda v, _: coded(v, "mpeg4", **_QUANTISER),
  "Motion JPEG, quantiser 12": lambda v, _: coded(
    v, "mjpeg", "yuvj420p", **_QUANTISER
  ),
}


def levels(video):
  return np.clip(np.round(video), 0, 255).astype(np.uint8)


def clip(path, frames, width, skip=40):
  """Frames from the middle of a film, shrunk by area: (T, H, W, 3)."""
  images = []
  with read.Reader(path) as reader:
    for frame in reader:
      images.append(frame.image)
      if len(images) == skip + frames:
        break
  video = np.stack(images[-frames:]).astype(float)
  k = video.shape[2] // width
  height = video.shape[1] // k // 16 * 16
  video = video[:, : k * height, : k * width]
  return video.reshape(frames, height, k, width, k, 3).mean((2, 4))


def through(spec, video):
  """What a chain of stages makes of a clip of levels of 255."""
  chain = spec
  if isinstance(spec, str):
    chain = stages.chain(spec, footage.load)
  frames = [
    stream.Frame(
      time=fractions.Fraction(i, 25), duration=fractions.Fraction(1, 25),
      image=image,
    )
    for i, image in enumerate(levels(video))
  ]  # fmt: skip
  for stage in chain:
    if isinstance(stage, stream.Stage):
      frames = stream.Runner(stage)(frames)
    else:
      frames = stage.frames(frames)
  return np.stack([f.image for f in frames]).astype(float)


def psnr(a, b):
  return 10 * np.log10(255**2 / np.mean((levels(a) - b) ** 2))


def row(name, gains):
  print(
    f"| {name} | {np.mean(gains):+.2f} dB ({min(gains):+.2f} to"
    f" {max(gains):+.2f}) |",
    flush=True,
  )


def ghosts(width, frames):
  """Mean difference, in levels, where a moving patch is not."""
  rng = np.random.default_rng(0)
  ground = ndimage.gaussian_filter(rng.normal(0, 1, (96, width, 3)), (2, 2, 0))
  still = np.stack([120 + 50 * ground / np.abs(ground).max()] * frames)
  for step in (6, 12):
    moving, there = still.copy(), np.zeros(still.shape[:3], bool)
    for t in range(frames):
      x = 8 + step * t
      moving[t, 24:72, x : x + 32] = (40, 200, 230)
      there[t, 20:76, max(0, x - 4) : x + 36] = True
    near = ndimage.binary_dilation(there, iterations=24) & ~there
    for spec in REPAIRS[:3]:
      error = np.abs(through(spec, moving) - through(spec, still)).mean(-1)
      print(
        f"| {spec}, {step} pixels a frame | {error[near].mean():.2f} levels,"
        f" at most {error[near].max():.0f} |",
        flush=True,
      )


def between(folder, width):
  """Frames between frames: gains over the mean, and time a frame made."""
  clips = [
    clip(folder / name, 9, width, skip) for name in CLIPS for skip in (4, 40)
  ]
  for rate in (2, 4):
    answers = {
      "model": stages.chain(f"interpolate:rate={rate}", footage.load),
      "frame before": None,
    } | {
      f"minterpolate, {way}": [
        block_motion.BlockMotion(rate=rate, estimate=way)
      ]
      for way in ("bidir", "bilat")
    }
    lost = np.arange(9) % rate > 0
    mean = [
      psnr(through(f"blend:rate={rate}", v[::rate])[lost], v[lost])
      for v in clips
    ]
    print(f"\n{len(clips)} clips of {width} columns, {rate} frames for one: the"
          f" mean {np.mean(mean):.2f} dB")  # fmt: skip
    model = None  # what it reached
    for name, chain in answers.items():
      reached, seconds = [], []
      for v in clips:
        began = time.process_time()
        made = v[np.arange(9) // rate * rate]
        if chain:
          made = through(chain, v[::rate])
        seconds.append((time.process_time() - began) / lost.sum())
        reached.append(psnr(made[lost], v[lost]))
      model = reached if model is None else model
      # The first clip of a size compiles: so not the mean.
      cost = f"{1000 * np.median(seconds):.0f} ms a frame"
      better = f"better than the model on {np.sum(np.greater(reached, model))}"
      row(f"{name}, {np.mean(reached):.2f} dB, {cost}, {better}",
          np.subtract(reached, mean))  # fmt: skip


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("--width", type=int, default=160)
  parser.add_argument("--frames", type=int, default=8)
  parser.add_argument("--between", action="store_true")
  args = parser.parse_args()
  if args.between:
    between(args.folder, args.width)
    return
  clips = [clip(args.folder / n, args.frames, args.width) for n in CLIPS]
  for kind, damage in DAMAGE.items():
    rng = np.random.default_rng(0)
    pairs = [(video, damage(video, rng)) for video in clips]
    came = [psnr(*pair) for pair in pairs]
    print(f"\n{kind}: {np.mean(came):.2f} dB come in")
    for spec in REPAIRS:
      after = [psnr(through(spec, bad), video) for video, bad in pairs]
      row(spec, np.subtract(after, came))
  pairs = []
  for video in clips:
    t, h, w, c = video.shape
    small = video.reshape(t, h // 2, 2, w // 2, 2, c).mean((2, 4))
    pairs.append((video, coded(small, "libx264", crf="27")))
  base = [psnr(through(ENLARGE[0], bad), video) for video, bad in pairs]
  print(f"\nweb video, half the size, H.264, crf 27: {np.mean(base):.2f} dB by"
        " Lanczos")  # fmt: skip
  for spec in ENLARGE[1:]:
    after = [psnr(through(spec, bad), video) for video, bad in pairs]
    row(spec, np.subtract(after, base))
  print("\nghosts of a moving patch")
  ghosts(args.width, args.frames)


if __name__ == "__main__":
  main()
