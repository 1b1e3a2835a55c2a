"""`vidgan generate WORKDIR --out FILE`: new clips from a trained generator.

The suffix of --out says what is written: .mp4, .gif or .webp is one video of
all clips in a grid; .png is their first frames in a grid, or with --strip one
film strip a clip; a name without a suffix is a folder that gets one mp4 a clip.
"""

import argparse
import contextlib
import itertools
import math
import pathlib

import jax
import numpy as np

from vidgan_jax import config as config_lib
from vidgan_jax import sampler
from vidgan_jax.video import write


def main(argv: list[str]) -> int:
  """The verb."""
  parser = argparse.ArgumentParser(
    prog="vidgan generate",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("workdir", help="of a training run, or one checkpoints/STEP of it")
  add("--out", required=True, help="file or folder, see above")
  add("--step", type=int, help="checkpoint; default: the newest")
  add("--weights", choices=("ema", "raw"), default="ema")
  add("--seed", type=int, default=0)
  add("--num", type=int, default=16, help="clips; default: 16")
  add("--frames", type=int, help="default: as in training")
  add("--fps", type=float, help="frames a second; default: as in training")
  add("--start", type=float, default=0.0, help="first time, seconds")
  add(
    "--speed",
    type=float,
    default=1.0,
    help="0.5 is half as fast, -1 runs backwards; default: 1",
  )
  add("--label", help="class, by name or number; default: all in turn")
  add(
    "--truncation",
    type=float,
    default=1.0,
    help="below 1: contents nearer to the mean; 0 is the mean; default: 1",
  )
  add(
    "--vary",
    choices=("both", "content", "motion"),
    default="both",
    help="what differs between the clips; default: both",
  )
  add(
    "--interpolate",
    type=int,
    nargs=2,
    metavar=("A", "B"),
    help="lead from the content of clip A to that of clip B in --num clips",
  )
  add("--grid", type=int, metavar="COLUMNS", help="columns of the grid")
  add("--strip", action="store_true", help="with .png: film strips")
  add("--scale", type=int, help="enlarge pixels; default: to 128 or more")
  args = parser.parse_args(argv)
  print(_generate(args))
  return 0


def _generate(args) -> str:
  """Does what the verb says and returns the line to print."""
  out = pathlib.Path(args.out)
  kind = out.suffix.lower()
  if kind and kind not in write.SUFFIXES:
    raise config_lib.ConfigError(
      f"--out {args.out}: the suffix {out.suffix} is none of .mp4, .gif, .webp "
      "and .png; without one a folder is filled."
    )
  _check(args)
  model = sampler.load(args.workdir, args.step, args.weights)
  model.check_draws()
  times, fps = _times(args, model)

  labels = None
  if args.label is not None:
    labels = np.full(args.num, _label(args.label, model), np.int32)
  elif model.num_classes:
    # Clips that are to be compared are of one class.
    alike = args.interpolate or args.vary != "both"
    labels = np.arange(args.num) % (1 if alike else model.num_classes)
  seconds = float(times.max())
  if args.interpolate:
    z = model.noise(args.seed, np.asarray(args.interpolate), seconds)
    z = sampler.interpolate(z, args.num)
  else:
    z = sampler.vary(
      model.noise(args.seed, np.arange(args.num), seconds), args.vary
    )
  z = model.truncate(z, labels, args.truncation)

  columns = args.grid or math.ceil(math.sqrt(args.num))
  scale = args.scale or max(1, math.ceil(128 / model.resolution))
  if kind == ".png":
    # A model of a fixed length draws no single frame.
    shown = times if args.strip else times[: len(model.times)]
    video = np.concatenate(list(_frames(model, z, labels, shown)), 1)
    rows = [write.strip(clip) for clip in video]
    picture = (
      np.concatenate(rows) if args.strip else write.grid(video, columns)[0]
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write.write(out, picture[None], scale=scale)
  elif kind:
    grids = (
      [write.grid(video, columns)] for video in _frames(model, z, labels, times)
    )
    _write([out], grids, fps, scale)
  else:
    # A few clips at a time: each open file is an encoder with its memory.
    for first in range(0, args.num, 16):
      index = np.arange(first, min(first + 16, args.num))
      clips = _frames(
        model,
        jax.tree.map(lambda x, i=index: x[i], z),
        None if labels is None else labels[index],
        times,
      )
      paths = [out / f"clip_{i:04d}.mp4" for i in index]
      _write(paths, clips, fps, scale)
  return (
    f"{args.num} clips of {len(times)} frames at {fps:g} frames/s, step "
    f"{model.step} -> {out}"
  )


def _check(args) -> None:
  """Refuses options that are out of range."""
  for name in ("num", "frames", "grid", "scale"):
    value = getattr(args, name)
    if value is not None and value < 1:
      raise config_lib.ConfigError(
        f"--{name} {value}: give a whole number of at least 1."
      )
  if args.fps is not None and not 0 < args.fps <= 1000:
    raise config_lib.ConfigError(
      f"--fps {args.fps:g}: give a number above 0, at most 1000."
    )
  if not args.speed or not math.isfinite(args.speed):
    raise config_lib.ConfigError(
      f"--speed {args.speed:g}: give a number that is not 0, as 0.5 or -1."
    )
  if not 0 <= args.truncation <= 1:
    raise config_lib.ConfigError(
      f"--truncation {args.truncation:g}: give a number from 0 to 1."
    )
  if not args.start >= 0:
    raise config_lib.ConfigError(
      f"--start {args.start:g}: give seconds of at least 0."
    )


def _write(paths, parts, fps: float, scale: int) -> None:
  """Writes videos side by side, each part (N, t, H, W, C) as it comes."""
  parts = iter(parts)
  first = next(parts)  # Before any file: the model may refuse the times.
  paths[0].parent.mkdir(parents=True, exist_ok=True)
  with contextlib.ExitStack() as stack:
    writers = [
      stack.enter_context(write.Writer(path, fps=fps, scale=scale))
      for path in paths
    ]
    for videos in itertools.chain([first], parts):
      for writer, video in zip(writers, videos):
        for frame in video:
          writer.append(frame)


def _times(args, model) -> tuple[np.ndarray, float]:
  """Times of the frames, and frames a second of the file."""
  trained = np.asarray(model.times)
  gap = float(np.median(np.diff(trained))) if len(trained) > 1 else 1.0
  fps = args.fps or 1 / gap
  frames = args.frames or (
    len(trained)
    if not args.fps
    else max(1, round(len(trained) * gap * args.fps))
  )
  times = args.start + np.arange(frames) * abs(args.speed) / fps
  if args.speed < 0:
    times = times[::-1]
  return times.astype(np.float32), fps


def _label(text: str, model: sampler.Model) -> int:
  """A class by name or number."""
  if not model.num_classes:
    raise config_lib.ConfigError(
      "--label: this generator was trained without classes "
      "(config.model.num_classes is 0)."
    )
  if text in model.class_names:
    return model.class_names.index(text)
  if text.isdecimal() and int(text) < model.num_classes:
    return int(text)
  raise config_lib.ConfigError(
    f"--label {text}: there is no such class; the {model.num_classes} classes "
    f"are 0 to {model.num_classes - 1}"
    + (f" or {', '.join(model.class_names)}." if model.class_names else ".")
  )


def _frames(model, z, labels, times):
  """Yields uint8 (N, t, H, W, C), a few frames of all clips at a time.

  The noise covers the whole length, so that the parts fit together; memory
  does not grow with the number of frames.
  """
  num = len(jax.tree.leaves(z)[0])
  # About 64 MiB of pixels at a time; one length, so that it compiles once.
  part = max(len(model.times), (16 << 20) // (num * model.resolution**2))
  part = min(part, len(times))
  for start in range(0, len(times), part):
    index = np.minimum(np.arange(start, start + part), len(times) - 1)
    video = []
    for first in range(0, num, 32):
      rows = np.minimum(np.arange(first, first + min(32, num)), num - 1)
      drawn = model.draw(
        jax.tree.map(lambda x, r=rows: x[r], z),
        None if labels is None else labels[rows],
        times[index],
      )
      video.append(np.asarray(drawn)[: num - first])
    yield np.concatenate(video)[:, : len(times) - start]
