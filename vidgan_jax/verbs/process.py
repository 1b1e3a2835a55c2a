"""Real files and streams through stages: `vidgan process SPEC IN OUT`.

  vidgan process denoise in.mp4 out.mp4
  vidgan process denoise,super_resolve:scale=2 in.mkv out.mkv --crf 14
  vidgan process identity a.mp4 out.mp4 --start 3 --end 9.5 --crop 640:360
  vidgan process inpaint in.mp4 out.mp4 --mask masks/ --compare split
  vidgan process runs/x2 videos/ results/
  vidgan process denoise frames/ clean/%05d.png
  vidgan process denoise frames/ clean.gif --fps 12
  vidgan process denoise rtsp://camera/1 seen.mkv
  ffmpeg ... -f matroska - | vidgan process denoise - - | ffplay -

SPEC is a chain of stages with commas between: a task (its shipped weights), a
workdir, or one of those that need no network: identity, crop, resize, blend.
Sound, subtitles, chapters and texts are copied; every frame keeps its time.
A folder that holds images, and no videos, is one clip; so is a glob of images.
See `vidgan_jax.video.job` for how, and `--help` for what.
"""

import argparse
from collections.abc import Callable
import contextlib
import dataclasses
import difflib
import math
import os
import re
import resource
import signal
import sys
import tempfile
import time
from typing import Any

import numpy as np

from vidgan_jax import errors
from vidgan_jax.video import edits
from vidgan_jax.video import folder
from vidgan_jax.video import images
from vidgan_jax.video import job
from vidgan_jax.video import phases
from vidgan_jax.video import read
from vidgan_jax.video import sink as sink_lib
from vidgan_jax.video import source as source_lib
from vidgan_jax.video import stream

# ------------------------------------------------------------------ stages


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
  """Leaves everything as it is.

  Attributes:
    pixels: go through RGB all the same, as a network's frames do; otherwise
      pictures go from decoder to encoder as they are.
  """

  pixels: int = 0
  name, masks = "identity", False
  scale = rate = align = 1
  halo = (0, 0, 0)

  def __call__(self, video, times, mask):
    del times, mask
    return video


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resize:
  """Enlarges by Lanczos."""

  scale: int = 2
  name, masks = "resize", False
  rate = align = 1
  halo = (4, 0, 0)

  def __call__(self, video, times, mask):
    del times, mask
    return edits.lanczos(
      video, *(self.scale * side for side in video.shape[1:3])
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blend:
  """Cross-fades between frames: the crudest interpolation."""

  rate: int = 2
  name, masks = "blend", False
  scale = align = 1
  halo = (0, 0, 1)

  def __call__(self, video, times, mask):
    del times, mask
    phase = np.arange(self.rate, dtype=np.float32) / self.rate
    phase = phase[:, None, None, None]
    between = [(1 - phase) * a + phase * b for a, b in zip(video, video[1:])]
    return np.concatenate([*between, video[-1:]])


@dataclasses.dataclass(frozen=True)
class Mixed:
  """A stage's result, mixed with what simple enlargement gives."""

  stage: Any
  strength: float

  def __getattr__(self, name):
    return getattr(self.stage, name)

  @property
  def halo(self):
    """That of the stage, or of the enlargement."""
    pixels, before, after = self.stage.halo
    return (
      max(pixels, 4 * (self.stage.scale > 1)),
      before,
      max(after, int(self.stage.rate > 1)),
    )

  def look(self, video):
    """Shows the stage whole frames, if it wants to see them."""
    if hasattr(self.stage, "look"):
      return dataclasses.replace(self, stage=self.stage.look(video))
    return self

  def __call__(self, video, times, mask, *state):
    base = video
    if self.stage.rate > 1:
      base = Blend(rate=self.stage.rate)(base, times, mask)
    if self.stage.scale > 1:
      base = Resize(scale=self.stage.scale)(base, times, mask)
    result = self.stage(video, times, mask, *state)
    if state:  # a recurrent stage returns its next one as well
      result, after = result
    result = base + self.strength * (np.asarray(result, np.float32) - base)
    return (result, after) if state else result


BUILT_IN = {
  "identity": Identity, "resize": Resize, "blend": Blend, "crop": edits.Crop,
}  # fmt: skip


def load(spec: str, options: dict[str, Any] | None = None) -> Any:
  """One stage.

  Args:
    spec: NAME or NAME:KEY=VALUE,KEY=VALUE...
    options: more of them.

  Returns:
    A `stream.Stage`, or something with a `frames` method that turns a stream
    of frames into another.

  Raises:
    read.VideoError: there is no such stage, or it has no such option.
  """
  name, _, rest = spec.partition(":")
  if os.path.exists(spec):
    name, rest = spec, ""
  values = dict(options or {})
  for item in filter(None, rest.split(",")):
    key, equals, value = item.partition("=")
    if not equals:
      raise read.VideoError(f"{spec}: {item!r} is not KEY=VALUE")
    values[key.strip()] = _value(value.strip())
  if name not in BUILT_IN:
    return _model_stage(name, values)
  for key, value in values.items():  # Places may be 0, sizes and rates not.
    if not isinstance(value, int) or value < (key not in ("x", "y", "pixels")):
      raise read.VideoError(
        f"{spec}: {key} is {value}; give a whole number, not negative, and at"
        " least 1 for a size"
      )
  try:
    return BUILT_IN[name](**values)
  except TypeError:
    known = ", ".join(f.name for f in dataclasses.fields(BUILT_IN[name]))
    raise read.VideoError(
      f"{spec}: {name} takes {known}, as in crop:w=64,h=48"
    ) from None


def _model_stage(name: str, options: dict[str, Any]) -> Any:
  """A stage from a workdir or a task's shipped weights."""
  # JAX: not for those who only cut and crop.
  from vidgan_jax import footage
  from vidgan_jax import rooms

  known = sorted({re.sub(r"_x\d$", "", n) for n in footage.shipped()})
  if not os.path.exists(name) and name not in known:
    known = sorted({*known, *BUILT_IN})
    if name in rooms.names("tasks") and name != "generate":  # of noise alone
      raise read.VideoError(
        f"{name}: no weights are shipped for it: train it"
        f" (configs/video_to_video.py:task={name}) and give its workdir"
      )
    close = difflib.get_close_matches(name, known, 1, 0.0)
    raise read.VideoError(
      f"unknown task {name!r}: did you mean {close[0]!r}? There are"
      f" {', '.join(known)}; a workdir does as well"
    )
  try:
    return footage.load(name, options)
  except errors.UserError as error:
    raise read.VideoError(f"{name}: {error}") from error


def _value(text: str) -> Any:
  for kind in (int, float):
    try:
      return kind(text)
    except ValueError:
      pass
  return text


def chain(spec: str) -> list[Any]:
  """The stages of NAME[:K=V,...],NAME[:K=V,...]; see `load`."""
  items = []
  for part in filter(None, (p.strip() for p in spec.split(","))):
    more = "=" in part and ":" not in part and not os.path.exists(part)
    if more and items:
      items[-1] += ("," if ":" in items[-1] else ":") + part
    else:
      items.append(part)
  if not items:
    raise read.VideoError("SPEC is empty: name a task, as in denoise")
  return [step for item in items for step in phases.around(load(item))]


# ------------------------------------------------------------------ the verb


class _Progress:
  """A line on stderr: frames, rate, time to go."""

  def __init__(self):
    self._began = self._shown = time.perf_counter()
    self._first = None
    self._live = sys.stderr.isatty()

  def __call__(self, done: int, total: int) -> None:
    now = time.perf_counter()
    self._first = done - 1 if self._first is None else self._first
    if now - self._shown < (0.5 if self._live else 10):
      return
    self._shown = now
    rate = (done - self._first) / (now - self._began)
    text = f"{done}{f'/{total}' if total else ''} frames, {rate:.1f} frames/s"
    if total > done:
      text += f", {_clock_text((total - done) / rate)} to go"
    start, end = ("\r", "  ") if self._live else ("", "\n")
    print(f"{start}{text}", end=end, file=sys.stderr, flush=True)

  def tell(self, text: str) -> None:
    """A line of its own."""
    print(f"{chr(13) if self._live else ''}{text}", file=sys.stderr)


def _clock_text(value: float) -> str:
  minutes, rest = divmod(round(value), 60)
  hours, minutes = divmod(minutes, 60)
  return (
    f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
  )


_PATIENCE = 20.0  # seconds after which two windows must do for --probe


def probe(
  stages: list[Any],
  path: str,
  out: str,
  options: job.Options,
  progress: Callable[[int, int], None] = lambda done, total: None,
) -> str:
  """Predicts time and memory from the first windows; writes nothing.

  Args:
    stages: see `job.process`.
    path: what would come in.
    out: where it would go to.
    options: how.
    progress: takes (frames tried, frames in all or 0).

  Returns:
    A line.

  Raises:
    read.VideoError: it could not be done.
  """
  with tempfile.TemporaryDirectory() as scratch:
    many = not source_lib.is_live(path) and images.names(path) is not None
    kind = job.container(out, options.format, many)
    options = dataclasses.replace(options, format=kind, resume=False)
    totals, began = [], time.perf_counter()
    step = 8  # frames that come at a time
    for stage in stages:
      if hasattr(stage, "halo"):
        step = max(step, stream.Runner(stage, chunk=options.chunk).step)

    def enough(frames: int) -> bool:
      late = time.perf_counter() - began > _PATIENCE
      return frames >= (2 if late else 4) * step

    def note(done: int, total: int) -> None:
      totals.append(total)
      progress(done, total)

    summary = job.process(
      stages, path, os.path.join(scratch, "probe"), options, progress=note,
      enough=enough,
    )  # fmt: skip
  marks = summary.marks
  # The first window compiles, and fills the queues. Later ones are taken whole.
  span = max(0, len(marks) // step - 1) * step or len(marks) - 1
  rate = span / max(marks[-1] - marks[-1 - span], 1e-6)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  peak /= 2**20 if sys.platform == "darwin" else 2**10
  total = max(totals[-1], summary.frames)
  begin = marks[0] - (marks[-1] - summary.seconds)
  need = begin + total / rate if rate else summary.seconds
  return (
    f"{path}: about {_clock_text(need)} for {total} frames ({rate:.1f}"
    f" frames/s after {begin:.1f} s), {peak:.0f} MiB of memory"
  )


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="vidgan process",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("spec", metavar="SPEC", help="NAME[:KEY=VALUE,...],NAME...")
  add("input", metavar="IN",
      help="a file, a folder of videos or images, a glob or pattern of images,"
      " -, a URL or /dev/video0")  # fmt: skip
  add("out", metavar="OUT",
      help="a file (also .gif .webp .apng), a folder, images as out/%%06d.png,"
      " - or a URL")  # fmt: skip
  add("--codec", help="h264, h265, av1, vp9, ffv1, prores or any encoder")
  add("--crf", type=float, help="quality, lower is better and larger")
  add("--preset", help="speed of the encoder, in its own words")
  add("--pix-fmt", help="how pixels are stored, as yuv420p10le")
  add("--format",
      help="container, when the name of OUT does not say, or"
      " png")  # fmt: skip
  add("--no-audio", dest="sound", action="store_false", help="no sound")
  add("--start", type=_time, default=0.0, help="seconds or [H:]M:S")
  add("--end", type=_time, help="seconds or [H:]M:S of the input")
  add("--trim", type=_time, nargs=2, metavar=("START", "END"),
      help="both at once")  # fmt: skip
  add("--concat", nargs="+", default=(), metavar="FILE",
      help="appended to IN; --start, --end and --trim cut each of"
      " them")  # fmt: skip
  add("--crop", metavar="W:H[:X:Y]", help="before the stages")
  add("--fps", type=float,
      help="frames a second of the output, or of"
      " images that come in (25)")  # fmt: skip
  add("--speed", type=float, default=1.0,
      help="2 is twice as fast; sound keeps its pitch")  # fmt: skip
  add("--mask", help="an image, video, folder, or colour: what is unknown")
  add("--grow", type=int, default=0, metavar="PIXELS",
      help="make the mask larger to each side")  # fmt: skip
  add("--strength", type=float, default=1.0, help="0 (nothing) to 1 (all)")
  add("--compare", choices=("side", "split"), help="show the input as well")
  add("--tile", type=int, default=0, help="pixels a side, 0 = by memory")
  add("--chunk", type=int, default=0, help="frames at a time, 0 = by the stage")
  add(
    "--memory", type=float, default=0.0, help="GiB for a window, 0 = by itself"
  )
  add("--resume", action="store_true",
      help="work in segments (OUT.parts), and go on after a crash; of a folder,"
      " leave out files that are done")  # fmt: skip
  add("--live", action="store_true",
      help="IN does not wait: drop frames rather than fall behind (cameras,"
      " rtsp, udp and such: always); Ctrl-C ends it well")  # fmt: skip
  add("--probe", action="store_true", help="predict time and memory, no more")
  return parser


def _time(text: str) -> float:
  value = 0.0
  for part in text.split(":"):
    value = 60 * value + float(part)
  if not 0 <= value < math.inf:
    raise ValueError(text)
  return value


def _options(args: argparse.Namespace) -> job.Options:
  """Options of the arguments; refuses those out of range."""
  if args.trim:
    if args.start or args.end is not None:
      raise read.VideoError("--trim: is --start and --end; leave those out")
    args.start, args.end = args.trim
  refuse = (
    (args.end is not None and args.end <= args.start,
     "--end: is not after --start"),
    (not 0.01 <= args.speed <= 100, "--speed: give a number from 0.01 to 100"),
    (args.fps is not None and not 0 < args.fps <= 1000, "--fps: 0 to 1000"),
    (not 0 <= args.strength <= 1, "--strength: give a number from 0 to 1"),
    (args.grow < 0 or args.grow and not args.mask,
     "--grow: give pixels, 0 or more, and a --mask to grow"),
    (args.tile < 0 or args.chunk < 0 or not 0 <= args.memory < 1e6,
     "--tile, --chunk and --memory are not negative, and numbers"),
  )  # fmt: skip
  for wrong, text in refuse:
    if wrong:
      raise read.VideoError(text)
  names = {field.name for field in dataclasses.fields(job.Options)}
  values = {k: v for k, v in vars(args).items() if k in names}
  values |= {
    "memory": int(args.memory * 2**30),
    "concat": tuple(args.concat),
  }
  return job.Options(**values)


def _pairs(args: argparse.Namespace) -> list[tuple[str, str]]:
  """(input, output) of every file."""
  live = source_lib.is_live(args.input)
  if live or not os.path.isdir(args.input) or images.names(args.input):
    return [(args.input, args.out)]
  if os.path.isfile(args.out):
    raise read.VideoError(f"{args.out}: is a file, the input is a folder")
  given, out = os.path.realpath(args.input), os.path.realpath(args.out)
  if os.path.commonpath([given, out]) == given:
    raise read.VideoError(
      f"{args.out}: is the input, or in it; name a folder elsewhere"
    )
  try:
    sources = folder.scan(args.input, "videos")[1]
  except folder.FolderError as error:
    raise read.VideoError(str(error)) from None
  if not sources:
    raise read.VideoError(f"{args.input}: there are no videos in this folder")
  pairs = []
  for source in sources:
    name, suffix = os.path.splitext(source.file)
    if args.format == "png":
      suffix = os.sep
    elif args.format:
      suffix = f".{args.format.lstrip('.')}"
    elif suffix.lower() not in sink_lib.FORMATS:
      suffix = ".mkv"
    pairs.append(
      (os.path.join(args.input, source.file),
       os.path.join(args.out, name + suffix))
    )  # fmt: skip
  seen = {}
  for path, out in pairs:
    if (other := seen.setdefault(out, path)) != path:
      raise read.VideoError(
        f"{out}: would be made of {other} and of {path}; rename one, or"
        " process them into two folders"
      )
  return pairs


def _make(folder_out: str) -> None:
  """Makes the folder of the results, or says why it cannot be one."""
  try:
    os.makedirs(folder_out, exist_ok=True)
    tempfile.TemporaryFile(dir=folder_out).close()
  except OSError as error:
    raise read.VideoError(
      f"{folder_out}: this folder cannot be written to"
      f" ({read.reason(error)}); name another"
    ) from None


def main(argv: list[str]) -> int:
  """Runs the verb; returns the exit status."""
  args = _parser().parse_args(argv)
  previous = signal.getsignal(signal.SIGTERM)
  with contextlib.suppress(ValueError):  # not in the main thread
    signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    return _process(args)
  finally:
    with contextlib.suppress(ValueError):
      signal.signal(signal.SIGTERM, previous)


def _process(args: argparse.Namespace) -> int:
  """All files; returns the exit status."""
  failed = 0
  options = _options(args)
  stages = [
    Mixed(stage, args.strength)
    if args.strength != 1 and hasattr(stage, "halo")
    else stage
    for stage in chain(args.spec)
  ]
  if args.crop:
    stages.insert(0, load("crop:" + ",".join(
      f"{k}={v}" for k, v in zip("whxy", args.crop.split(":")))))  # fmt: skip
  pairs = _pairs(args)
  if pairs[0][1] != args.out and not args.probe:  # of a folder of videos
    _make(args.out)
  for path, out in pairs:
    progress = _Progress()
    try:
      if args.probe:
        print(probe(stages, path, out, options, progress))
        continue
      mark = None
      if out != args.out:  # of a folder of videos
        parent, name = os.path.split(out.rstrip(os.sep))
        os.makedirs(parent or ".", exist_ok=True)
        mark = os.path.join(parent, f".{name}.done")
      summary = job.process(
        stages, path, out, options, tell=progress.tell, progress=progress,
        mark=mark,
      )  # fmt: skip
      if summary.done:
        continue
      rate = summary.frames / max(summary.seconds, 1e-9)
      progress.tell(
        f"{out}: {summary.frames} frames in {summary.seconds:.1f} s"
        f" ({rate:.1f} frames/s)"
      )
    except Exception as error:  # The next file may go well.
      if errors.shown_whole(error):
        raise
      progress.tell(f"vidgan process: {error}")
      failed += 1
  return 1 if failed else 0
