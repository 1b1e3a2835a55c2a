"""Real files and streams through stages: `vidgan process SPEC IN OUT`.

  vidgan process denoise in.mp4 out.mp4
  vidgan process denoise,super_resolve:scale=2 in.mkv out.mkv --crf 14
  vidgan process identity a.mp4 out.mp4 --start 3 --end 9.5 --crop 640:360
  vidgan process inpaint in.mp4 out.mp4 --mask masks/ --compare split
  vidgan process runs/lips:sound=speech.wav face.mp4 out.mp4
  vidgan process runs/x2 videos/ results/
  vidgan process denoise frames/ clean/%05d.png
  vidgan process denoise frames/ clean.gif --fps 12
  vidgan process denoise rtsp://camera/1 seen.mkv
  ffmpeg ... -f matroska - | vidgan process denoise - - | ffplay -

SPEC is a chain of stages with commas between: a task (its shipped weights), a
workdir, or one of those that need no network: identity, crop, resize, blend,
interpolate:method=classical.
Sound, subtitles, chapters and texts are copied; every frame keeps its time.
A folder that holds images, and no videos, is one clip; so is a glob of images.
See `vidgan_jax.video.job` for how, and `--help` for what.
"""

import argparse
from collections.abc import Callable
import dataclasses
import math
import re
import sys
import threading
import time
import traceback
from typing import Any

from vidgan_jax import errors
from vidgan_jax.verbs import catalogue
from vidgan_jax.verbs import existing
from vidgan_jax.video import forecast
from vidgan_jax.video import job
from vidgan_jax.video import outputs
from vidgan_jax.video import pieces
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import source as source_lib
from vidgan_jax.video import stages
from vidgan_jax.video import stream

# Frames of a window with --fast: of those a stage computes for their neighbours
# a smaller share is lost.
_LONG = 32


class _Progress:
  """A line on stderr: frames, and when it can be told rate and time to go."""

  def __init__(self, step: int):
    """`step` frames come at a time, see `forecast.step`."""
    self._step, self._shown = step, time.perf_counter()
    self._first = None  # number and time of the first frame
    self._live = sys.stderr.isatty()

  def __call__(self, done: int, total: int) -> None:
    now = time.perf_counter()
    # What comes before the first frame, as compiling, does not come again.
    self._first = self._first or (done, now)
    if now - self._shown < (0.5 if self._live else 10):
      return
    self._shown = now
    text = f"{done}{f'/{total}' if total else ''} frames"
    frames, began = self._first
    # Frames come a window at a time. Two windows after the first one the rate
    # is at most 3 / 2 of the true one.
    if done - frames >= 2 * self._step and now > began:
      rate = (done - frames) / (now - began)
      text += f", {rate:.{1 + (rate < 1)}f} frames/s"
      if total > done:
        text += f", {forecast.clock_text((total - done) / rate)} to go"
    start, end = ("\r", "  ") if self._live else ("", "\n")
    print(f"{start}{text}", end=end, file=sys.stderr, flush=True)

  def tell(self, text: str) -> None:
    """A line of its own."""
    print(f"{chr(13) if self._live else ''}{text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="vidgan process",
    description=__doc__,
    epilog="tasks whose weights are shipped (`--list` says more):\n"
    + catalogue.rows(),
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("--list", action="store_true",
      help="the tasks whose weights are shipped: what for, options, size, speed"
      " on this machine, limits")  # fmt: skip
  add("spec", metavar="SPEC", help="NAME[:KEY=VALUE,...],NAME...")
  add("input", metavar="IN",
      help="a file, a folder of videos or images, a glob or pattern of images,"
      " -, a URL or /dev/video0")  # fmt: skip
  add("out", metavar="OUT",
      help="a file (also .gif .webp .apng), a folder, images as out/%%06d.png,"
      " - or a URL")  # fmt: skip
  speed = parser.add_mutually_exclusive_group()
  speed.add_argument(
    "--fast", dest="effort", action="store_const", const="fast", default="",
    help="a quick encoder, and longer windows: the same frames in less time",
  )  # fmt: skip
  speed.add_argument(
    "--best", dest="effort", action="store_const", const="best",
    help="a thorough encoder at a lower crf; networks see each clip twice, once"
    " mirrored, for some 0.05 dB",
  )  # fmt: skip
  _add_file(parser.add_argument_group("the output's file").add_argument)
  _add_film(parser.add_argument_group("time and masks").add_argument)
  _add_edits(parser.add_argument_group("editing").add_argument)
  add = parser.add_argument_group("the work").add_argument
  add("--tile", type=int, default=0, help="pixels a side, 0 = by memory")
  add("--chunk", type=int, default=0, help="frames at a time, 0 = by the stage")
  add(
    "--memory", type=float, default=0.0, help="GiB for a window, 0 = by itself"
  )
  add("--resume", action="store_true",
      help="work in segments (OUT.parts), and go on after a crash; of a folder,"
      " leave out files that are done")  # fmt: skip
  add("--overwrite", action="store_true",
      help="replace OUT if it is there already")  # fmt: skip
  add("--live", action="store_true",
      help="IN does not wait: drop frames rather than fall behind (cameras,"
      " rtsp, udp and such: always); Ctrl-C ends it well")  # fmt: skip
  add("--probe", action="store_true", help="predict time and memory, no more")
  return parser


def _add_file(add: Callable[..., Any]) -> None:
  """Adds the options of the output's file."""
  add("--codec", help="h264, h265, av1, vp9, ffv1, prores or any encoder")
  add("--crf", type=float, help="quality, lower is better and larger")
  add("--preset", help="speed of the encoder, in its own words")
  add("--pix-fmt", help="how pixels are stored, as yuv420p10le")
  add("--format",
      help="container, when the name of OUT does not say, or"
      " png")  # fmt: skip
  add("--no-audio", dest="sound", action="store_false", help="no sound")


def _add_film(add: Callable[..., Any]) -> None:
  """Adds the options of time and of masks."""
  add("--start", type=_time, default=0.0, help="seconds or [H:]M:S")
  add("--end", type=_time, help="seconds or [H:]M:S of the input")
  add("--trim", type=_time, nargs=2, metavar=("START", "END"),
      help="both at once")  # fmt: skip
  add("--fps", type=float,
      help="frames a second of the output, or of"
      " images that come in (25)")  # fmt: skip
  add("--max-repeats", type=int, default=10_000, metavar="N",
      help="with --fps: frames that may be made of one")  # fmt: skip
  add("--deinterlace", choices=("auto", "yes", "no"), default="auto",
      help="make interlaced pictures whole; auto: where something looks at"
      " pixels")  # fmt: skip
  add("--speed", type=float, default=1.0,
      help="2 is twice as fast, at the same frames a second unless --fps says"
      " others; sound keeps its pitch")  # fmt: skip
  add("--mask", help="an image, video, folder, or colour: what is unknown")
  add("--grow", type=int, default=0, metavar="PIXELS",
      help="make the mask larger to each side")  # fmt: skip
  add("--method", metavar="|".join(stages.METHODS),
      help="of interpolate: its network, or block motion, which is better for"
      " large frames and motion, and faster, see --list")  # fmt: skip
  add("--strength", type=float, default=1.0, help="0 (nothing) to 1 (all)")
  add("--compare", choices=("side", "split"), help="show the input as well")


def _add_edits(add: Callable[..., Any]) -> None:
  """Adds the options of what needs no network."""
  add("--concat", nargs="+", default=(), metavar="FILE",
      help="appended to IN; --start, --end and --trim cut each of"
      " them")  # fmt: skip
  add("--cut", type=_time, nargs=2, action="append", default=[],
      metavar=("START", "END"),
      help="a range of each input; again for more, one after"
      " another")  # fmt: skip
  add("--fit", choices=pieces.FITS, default="pad",
      help="how --concat puts another size into that of IN: with bars, or"
      " filling it")  # fmt: skip
  add("--crossfade", type=float, default=0.0, metavar="SECONDS",
      help="mix the end of one range or input with the beginning of the"
      " next")  # fmt: skip
  add("--fade", type=float, nargs="+", default=[0.0, 0.0],
      metavar="SECONDS", help="from black, and to black; or one number for"
      " both")  # fmt: skip
  add("--reverse", action="store_true", help="play it backwards, with sound")
  add("--crop", metavar="W:H[:X:Y]", help="before the stages")
  add("--background", metavar="FILE|COLOUR",
      help="put what is in front before a picture, film or colour; without it,"
      " --key, --plate and --matte make the rest transparent")  # fmt: skip
  add("--key", metavar="COLOUR",
      help="what is in front is what has not the colour of a screen, as green"
      " or #2a9d4f")  # fmt: skip
  add("--plate", metavar="FILE",
      help="what differs from this picture or film of the empty"
      " scene")  # fmt: skip
  add("--matte", metavar="FILE",
      help="what is white in this picture, film or folder")  # fmt: skip
  add("--stabilise", action="store_true",
      help="take out the shaking of a camera, before the stages")  # fmt: skip
  add("--rotate", type=float, default=0.0, metavar="DEGREES",
      help="clockwise; so and with what follows the result of the stages is"
      " changed, in this order")  # fmt: skip
  add("--height", type=int, default=0, metavar="LINES",
      help="of the result, as 1080; super_resolve without a scale takes the one"
      " that it needs")  # fmt: skip
  add("--flip", choices=("horizontal", "vertical"), help="mirror it")
  add("--pad", metavar="W:H[:COLOUR]", help="put it into a frame of this size")
  add("--filter", metavar="FILTERS",
      help="filters of libavfilter, in its language, as"
      " hue=s=0,vignette")  # fmt: skip
  add("--text", metavar="TEXT|FILE.srt",
      help="written at the bottom, after all of these; or"
      " subtitles")  # fmt: skip
  add("--font", metavar="FILE", help="of the text, .ttf or .otf")
  add("--audio-filter", metavar="FILTERS",
      help="those for sound, as highpass=100,volume=2")  # fmt: skip


def _time(text: str) -> float:
  value = 0.0
  for part in text.split(":"):
    value = 60 * value + float(part)
  if not 0 <= value < math.inf:
    raise ValueError(text)
  return value


def _options(args: argparse.Namespace) -> plan.Options:
  """Options of the arguments; refuses those out of range."""
  if args.trim:
    if args.start or args.end is not None:
      raise read.VideoError("--trim: is --start and --end; leave those out")
    args.start, args.end = args.trim
  refuse = (
    (args.cut and (args.start or args.end is not None),
     "--cut: is --trim for more ranges; leave --start, --end and --trim out"),
    (args.font and not args.text, "--font: is for a --text"),
    (len(args.fade) > 2 or not all(0 <= x < 1e6 for x in args.fade),
     "--fade: give one or two numbers of seconds"),
    (not 0 <= args.crossfade <= 10, "--crossfade: give 0 to 10 seconds"),
    (any(start >= end for start, end in args.cut),
     "--cut: give a START before the END"),
    (args.end is not None and args.end <= args.start,
     "--end: is not after --start"),
    (not 0.01 <= args.speed <= 100, "--speed: give a number from 0.01 to 100"),
    (args.fps is not None and not 0 < args.fps <= 1000, "--fps: 0 to 1000"),
    (not 0 <= args.strength <= 1, "--strength: give a number from 0 to 1"),
    (args.height and not 16 <= args.height <= read.MAX_SIDE,
     f"--height: give lines, 16 to {read.MAX_SIDE}"),
    (args.grow < 0 or args.grow and not args.mask,
     "--grow: give pixels, 0 or more, and a --mask to grow"),
    (args.tile < 0 or args.chunk < 0 or not 0 <= args.memory < 1e6,
     "--tile, --chunk and --memory are not negative, and numbers"),
  )  # fmt: skip
  for wrong, text in refuse:
    if wrong:
      raise read.VideoError(text)
  names = {field.name for field in dataclasses.fields(plan.Options)}
  values = {k: v for k, v in vars(args).items() if k in names}
  values |= {
    "memory": int(args.memory * 2**30),
    "concat": tuple(args.concat),
    "fade": tuple(args.fade * 2)[:2],
    "cuts": tuple(map(tuple, args.cut)),
  }
  return plan.Options(**values)


def main(argv: list[str]) -> int:
  """Runs the verb; returns the exit status."""
  if "--list" in argv:
    argv = ["--list", "SPEC", "IN", "OUT"]  # It does without those.
  args = _parser().parse_args(argv)
  if args.list:
    catalogue.show()
    return 0
  options = _options(args)
  planned = outputs.plan(args.input, args.out, args.format)
  chain = stages.chain(_spec(args, [path for path, _ in planned]), _model)
  if args.effort == "best":
    chain = stages.mirrored(chain)
  if args.effort == "fast" and not args.chunk:
    chunk = max(_LONG, forecast.step(chain, 0))
    options = dataclasses.replace(options, chunk=chunk)
  chain = stages.mixed(chain, args.strength)
  if args.crop:
    places = zip("whxy", args.crop.split(":"))
    crop = "crop:" + ",".join(f"{k}={v}" for k, v in places)
    chain = stages.chain(crop, _model) + chain
  many = planned[0][1] != args.out  # of a folder of videos
  if not (args.overwrite or args.probe or many and args.resume):
    kind = lambda path, out: plan.container(out, args.format, path)
    there = [o for p, o in planned if outputs.taken(o, kind(p, o))]
    options = dataclasses.replace(options, overwrite=existing.replace(there))
  if many and not args.probe:
    outputs.make_folder(args.out)
  failed = {}  # input -> why
  for path, out in planned:
    progress = _Progress(forecast.step(chain, options.chunk))
    try:
      if args.probe:
        progress.tell(f"{path}: trying the first windows")
        print(forecast.forecast(chain, path, out, options, progress))
        continue
      summary = job.process(
        chain, path, out, options, tell=progress.tell, progress=progress,
        mark=outputs.mark(out) if many else None,
      )  # fmt: skip
    except Exception as error:
      if errors.shown_whole(error):
        if not many:
          raise
        progress.tell(traceback.format_exc())  # The next file may go well.
      failed[path] = errors.text(error)
      progress.tell(f"vidgan process: {failed[path]}")
      continue
    if summary.done:
      continue
    rate = summary.frames / max(summary.seconds, 1e-9)
    progress.tell(
      f"{out}: {summary.frames} frames in {summary.seconds:.1f} s"
      f" ({rate:.1f} frames/s)"
    )
  if many and failed:
    files = "".join(f"\n  {path}: {why}" for path, why in failed.items())
    progress.tell(f"{len(failed)} of {len(planned)} files failed:{files}")
  return 1 if failed else 0


def _spec(args: argparse.Namespace, paths: list[str]) -> str:
  """SPEC with --method; of super_resolve --height chooses a missing scale."""
  if args.method:
    named = r"(^|,)\s*interpolate(:|(?=,|$))"
    if not re.search(named, args.spec):
      raise read.VideoError(
        f"--method {args.method}: is for interpolate, which is not in SPEC"
      )
    with_method = rf"\1interpolate:method={args.method},"
    args.spec = re.sub(named, with_method, args.spec)
  bare = r"(^|,)(super_resolve)(?=,|$)"
  if not args.height or not re.search(bare, args.spec):
    return args.spec
  for path in paths:
    if source_lib.is_live(path):
      continue  # To look at it takes from it.
    try:
      source = source_lib.Source(path)
    except Exception:  # It is said when its turn comes.
      continue
    source.close()
    crop = re.match(r"\d+:(\d+)", args.crop or "")
    height = int(crop[1]) if crop else source.reader.info.height
    scale = 2 if 2 * height >= args.height else 4
    return re.sub(bare, rf"\1\2:scale={scale}", args.spec)
  return args.spec


def _model(name: str, options: dict[str, Any]) -> stream.Step:
  """A step that is a model; those who only cut and crop need no JAX."""
  say = lambda: print(f"loading {name}", file=sys.stderr, flush=True)
  wait = threading.Timer(1.0, say)  # Who mistypes a name reads of that alone.
  wait.start()
  try:
    from vidgan_jax import footage

    return footage.load(name, options)
  finally:
    wait.cancel()
