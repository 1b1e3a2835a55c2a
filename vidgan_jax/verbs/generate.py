"""`vidgan generate WORKDIR --out FILE`: new clips from a trained generator.

The suffix of --out says what is written: .mp4, .gif or .webp is one video of
all clips in a grid; .png is their first frames in a grid, or with --strip one
film strip a clip; a name without a suffix is a folder that gets one mp4 a clip.
"""

import argparse
import contextlib
import dataclasses
import itertools
import math
import os
import pathlib
import re

import numpy as np

from vidgan_jax import errors
from vidgan_jax import sampler as sampler_lib
from vidgan_jax import zoo
from vidgan_jax.data import sound
from vidgan_jax.evals import harness
from vidgan_jax.store import workdir as workdir_lib
from vidgan_jax.verbs import catalogue
from vidgan_jax.verbs import existing
from vidgan_jax.video import drawn
from vidgan_jax.video import sound as sound_lib
from vidgan_jax.video import write


def main(argv: list[str]) -> int:
  """The verb."""
  parser = argparse.ArgumentParser(
    prog="vidgan generate",
    description=__doc__,
    epilog="weights that are shipped:\n" + catalogue.rows(drawn=True),
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("workdir", help="of a training run, or one checkpoints/STEP of it; or "
      "the name of shipped weights, see below")  # fmt: skip
  add("--out", required=True, help="file or folder, see above")
  add("--overwrite", action="store_true", help="replace what is there already")
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
  add("--text", action="append", default=[], metavar="TEXT",
      help="what the clips should show; @FILE: one text a line. Several are "
      "rows of the grid, --num clips of each with the same noise")  # fmt: skip
  add(
    "--text-anyway",
    action="store_true",
    help="leave out words that no caption of the training data has",
  )
  add(
    "--text-weights",
    metavar="PATH",
    help="the folder, or file, by which the run encodes texts, if it is not "
    "where it was in training or in $VIDGAN_WEIGHTS",
  )
  add("--sound", metavar="FILE",
      help="what sounds: what the clips follow, of a run that was trained with "
      "sounds, or what --react follows; an .mp4 gets it")  # fmt: skip
  add("--react", metavar="speed=NAME:K",
      help="any run: the time runs 1 + K times as fast where NAME is heard: "
      + ", ".join(sound.ENVELOPES))  # fmt: skip
  add("--map", nargs="+", default=[], metavar="FILE",
      help="of a run that was trained with maps: a drawing in its colours, "
      "which moves; several, as a.png@0 b.png@1.5; or a folder or video of one "
      "for each time")  # fmt: skip
  add("--still", action="store_true", help="what --map shows does not move")
  add("--first", metavar="FILE", help="picture that the clips begin with, of "
      "a run that continues one")  # fmt: skip
  add("--ask", action="append", default=[], metavar="NAME=VALUE",
      help="what else the run's task may be asked for")  # fmt: skip
  add(
    "--from-data",
    action="store_true",
    help="texts, sounds, layouts: those of the held-out clips of the run",
  )
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
    raise errors.UserError(
      f"--out {args.out}: the suffix {out.suffix} is none of .mp4, .gif, .webp "
      "and .png; without one a folder is filled."
    )
  _check(args)
  old = [] if kind else sorted(out.glob("clip_[0-9]*[0-9].mp4"))
  existing.check([out] if kind else old, args.overwrite)
  sampler = _sampler(args)
  wave = None
  if args.sound is not None:
    wave = sound_lib.decode(args.sound, sound.RATE)
  maps, film = [], False
  if args.map:
    maps, film = drawn.pictures(args.map, _gap(sampler))
  seconds = None if wave is None else len(wave) / sound.RATE
  if len(maps) > 1:
    seconds = maps[-1].seconds + _gap(sampler)
  times, fps = _times(args, sampler, seconds)
  texts = _texts(args.text)
  num = args.num * max(1, len(texts))
  wishes = _wishes(args)
  if texts:
    wishes["text"] = [text for text in texts for _ in range(args.num)]
    wishes["text_anyway"] = args.text_anyway
  # Rows and maps are as far apart as in training, from the first time on.
  gap, begin = _gap(sampler), sampler.times[0]
  count = max(len(sampler.times), round((times.max() - begin) / gap) + 1)
  if wave is not None and not args.react:
    wishes["sound"] = sound.rows(wave, begin + gap * np.arange(count), gap)
  if film and times.max() >= maps[-1].seconds + gap:
    raise errors.UserError(
      f"--map {args.map[0]} shows {maps[-1].seconds + gap:.3g} s, and frames "
      f"up to {times.max():.3g} s are asked for: give fewer --frames, or more "
      "maps."
    )
  if maps:
    wishes |= {"map": maps, "still": args.still or film}
    wishes["seconds"] = tuple(begin + gap * np.arange(count))
  if args.first:
    wishes["first"] = drawn.load(args.first)
  given = sampler.ask(num, args.seed, **wishes)
  index = given.pop("index") % args.num
  if args.react:
    times = _react(args, times, fps, wave)
  if args.interpolate or args.vary != "both":
    # Clips that are to be compared, those of a text, are made of the same.
    given = sampler_lib.rows(given, np.arange(num) - index)
  z = _noise(args, sampler, index, float(times.max()))
  z = sampler_lib.truncate(sampler, z, given, args.truncation)

  silent = kind not in ("", ".mp4")
  square = math.ceil(math.sqrt(num))
  columns = args.grid or (args.num if len(texts) > 1 else square)
  scale = args.scale or max(1, math.ceil(128 / sampler.resolution))
  if kind == ".png":
    # A model of a fixed length draws no single frame.
    shown = times if args.strip else times[: len(sampler.times)]
    video = np.concatenate(list(sampler.film(z, given, shown)), 1)
    strips = [write.strip(clip) for clip in video]
    picture = (
      np.concatenate(strips) if args.strip else write.grid(video, columns)[0]
    )
    write.write(out, picture[None], scale=scale)
  elif kind:
    parts = sampler.film(z, given, times)
    parts = ([write.grid(part, columns)] for part in parts)
    _write([out], parts, fps, scale, None if silent else args.sound)
  else:
    # A few clips at a time: each open file is an encoder with its memory.
    for first in range(0, num, 16):
      some = np.arange(first, min(first + 16, num))
      z_of, given_of = (sampler_lib.rows(x, some) for x in (z, given))
      paths = [out / f"clip_{i:04d}.mp4" for i in some]
      film = sampler.film(z_of, given_of, times)
      _write(paths, film, fps, scale, args.sound)
    for path in old:  # more clips than came now would mix two models
      if int(path.stem[5:]) >= args.num:
        path.unlink()
  return (
    f"{num} clips of {len(times)} frames at {fps:g} frames/s, step "
    f"{sampler.step} -> {out}"
    + f" (a {kind} holds no sound)"
    * bool(silent and args.sound)
  )


def _noise(args, sampler, index, seconds: float) -> dict[str, np.ndarray]:
  """The noise of the clips with these numbers, for so many seconds."""
  if not args.interpolate:
    z = sampler.noise(args.seed, index, seconds)
    return sampler_lib.vary(z, args.vary)
  z = sampler.noise(args.seed, np.asarray(args.interpolate), seconds)
  return sampler_lib.rows(sampler_lib.interpolate(z, args.num), index)


def _sampler(args) -> sampler_lib.Sampler:
  """The generator, with what its texts and conditions are read by."""
  sampler = zoo.find(args.workdir, args.step, args.weights)
  if args.text_weights is not None:
    if sampler.text is None:
      raise errors.UserError(
        f"--text-weights {args.text_weights}: this generator was trained "
        "without texts. Leave it out."
      )
    text = sampler.text.moved(args.text_weights)
    sampler = dataclasses.replace(sampler, text=text)
  if not args.from_data:
    return sampler
  if not os.path.isdir(args.workdir):
    raise errors.UserError(
      f"--from-data: {args.workdir} are shipped weights, which come without "
      "data. Say what the clips should show, or give a workdir."
    )
  config = workdir_lib.read_config(args.workdir)
  reference = harness.reference(config, args.workdir, {}, encoder=sampler.text)
  return dataclasses.replace(sampler, examples=reference.clips)


def _wishes(args) -> dict[str, str]:
  """What the task is asked for: name -> value."""
  wishes = {} if args.label is None else {"label": args.label}
  for text in args.ask:
    name, equals, value = text.partition("=")
    if not equals:
      raise errors.UserError(f"--ask {text}: give NAME=VALUE, as label=0.")
    wishes[name] = value
  return wishes


def _texts(wanted: list[str]) -> list[str]:
  """The texts of --text, those of files a line each."""
  texts = []
  for text in wanted:
    if not text.startswith("@"):
      texts.append(text)
      continue
    lines = pathlib.Path(text[1:]).read_text().splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
      raise errors.UserError(f"--text {text}: the file holds no text.")
    texts += lines
  return texts


def _check(args) -> None:
  """Refuses options that are out of range."""
  for name in ("num", "frames", "grid", "scale"):
    value = getattr(args, name)
    if value is not None and value < 1:
      raise errors.UserError(
        f"--{name} {value}: give a whole number of at least 1."
      )
  if args.fps is not None and not 0 < args.fps <= 1000:
    raise errors.UserError(
      f"--fps {args.fps:g}: give a number above 0, at most 1000."
    )
  if not args.speed or not math.isfinite(args.speed):
    raise errors.UserError(
      f"--speed {args.speed:g}: give a number that is not 0, as 0.5 or -1."
    )
  if args.sound and not args.react and args.speed != 1:
    raise errors.UserError(
      f"--speed {args.speed:g} with --sound: the clips would run away from "
      "their sound. Change the speed of the file, or leave --speed out."
    )
  if args.still and not args.map:
    raise errors.UserError(
      "--still: there is nothing to keep; give --map FILE."
    )
  if not 0 <= args.truncation <= 1:
    raise errors.UserError(
      f"--truncation {args.truncation:g}: give a number from 0 to 1."
    )
  if not args.start >= 0:
    raise errors.UserError(
      f"--start {args.start:g}: give seconds of at least 0."
    )


def _react(args, times, fps: float, wave) -> np.ndarray:
  """The times of the frames where time runs faster as something is heard.

  t_i = t_0 + integral of speed (1 + K e(s)) ds to i / fps, e the envelope.
  """
  match = re.fullmatch(r"speed=(\w+):(\d+(?:\.\d*)?|\.\d+)", args.react)
  if not match or wave is None:
    raise errors.UserError(
      f"--react {args.react}: "
      + (
        "there is nothing to react to: give --sound FILE."
        if match
        else "give speed=NAME:K, as speed=onset:2."
      )
    )
  at = np.arange(len(times)) / fps
  heard = sound.envelope(wave, at, 1 / fps, match[1])
  rate = args.speed * (1 + float(match[2]) * heard) / fps
  steps = np.concatenate([[0], (rate[1:] + rate[:-1]) / 2])
  way = np.cumsum(steps)
  return (args.start + way - min(way[-1], 0)).astype(np.float32)


def _write(paths, parts, fps: float, scale: int, heard: str | None) -> None:
  """Writes videos side by side, each part (N, t, H, W, C) as it comes."""
  parts = iter(parts)
  first = next(parts)  # Before any file: the model may refuse the times.
  with contextlib.ExitStack() as stack:
    writers = [
      stack.enter_context(write.Writer(path, fps=fps, scale=scale, sound=heard))
      for path in paths
    ]
    for videos in itertools.chain([first], parts):
      for writer, video in zip(writers, videos):
        for frame in video:
          writer.append(frame)


def _gap(sampler) -> float:
  """Seconds from frame to frame of a training clip."""
  trained = np.asarray(sampler.times)
  return float(np.median(np.diff(trained))) if len(trained) > 1 else 1.0


def _times(args, sampler, seconds) -> tuple[np.ndarray, float]:
  """Times of the frames, and frames a second of the file.

  Args:
    args: of the verb.
    sampler: of the run.
    seconds: of a clip; None: as in training.
  """
  gap = _gap(sampler)
  fps = args.fps or 1 / gap
  if seconds is None:
    seconds = len(sampler.times) * gap
  frames = args.frames or max(1, round(seconds * fps))
  times = args.start + np.arange(frames) * abs(args.speed) / fps
  if args.speed < 0:
    times = times[::-1]
  return times.astype(np.float32), fps
