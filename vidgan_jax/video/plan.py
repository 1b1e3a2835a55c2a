"""What is decided about a job before it begins: names, limits, clocks.

Everything here is a function of options and of what inputs say of themselves.
"""

from collections.abc import Callable
import dataclasses
import fractions
import functools
import math
import os
import sys
from typing import Any

from vidgan_jax.video import folder
from vidgan_jax.video import images
from vidgan_jax.video import read
from vidgan_jax.video import sink as sink_lib
from vidgan_jax.video import source as source_lib
from vidgan_jax.video import stream

_SUFFIXES = {
  **sink_lib.FORMATS, ".gif": "gif", ".webp": "webp", ".apng": "apng",
  ".png": "image2",
}  # fmt: skip
GIF_RATE = 50  # frames/s; players show faster ones at 10
_FASTEST = 240  # frames/s; headers that say more mean the ticks of their clock


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What is wanted besides the stages.

  Attributes:
    codec: see `sink_lib.Encoding`; so crf, preset, effort and pix_fmt.
    format: the container, where the output's name does not say; png: a folder
      of images.
    sound: copy it.
    voice: a file whose sound the result has in place of the input's.
    voice_offset: seconds after the first picture at which it begins.
    start: seconds of the input from its first frame.
    end: seconds; None: all.
    cuts: ranges (start, end) of each input in place of one, one after another.
    concat: more inputs, one after the other.
    fit: how they get the size of the first, see `pieces.FITS`.
    fps: frames a second of the output, or of images that come in; None: as they
      come, or 25.
    max_repeats: frames that may be made of one, where `fps` is higher than the
      input's or that pauses; more are refused.
    speed: 2 is twice as fast; the rate stays, and the sound keeps its pitch.
    mask: see `masks.Masks`.
    grow: pixels by which the mask is made larger to each side.
    compare: 'side' or 'split', see `edits.compared`.
    crossfade: seconds by which one of several ranges and inputs is mixed with
      the next.
    fade: seconds from and to black, and silence.
    reverse: play each range backwards.
    background: what is behind, see `matte.replaced`.
    key: the colour of a screen, see `matte.screen`.
    plate: a picture of the scene without what is in front, see `matte.Plate`.
    matte: a film of what is in front, see `matte.Matte`.
    stabilise: take out the shaking of a camera, before the stages.
    height: lines of the result, at the same aspect; 0: as many as come out.
    rotate: degrees clockwise by which the result is turned.
    flip: 'horizontal' or 'vertical'.
    pad: WIDTH:HEIGHT or WIDTH:HEIGHT:COLOUR of what the result is put into.
    text: see `titles.Titles`; so font.
    filter: filters of libavfilter for the result, see `filters`.
    deinterlace: 'yes', 'no', or 'auto': where something looks at pixels.
    audio_filter: those for the sound.
    tile: see `stream.Runner`; so chunk.
    memory: bytes for a stage's window, 0: see `window_memory`.
    resume: work in segments, and go on where an earlier run stopped.
    overwrite: replace an output that is there already.
    live: the input does not wait: drop frames rather than fall behind. So it is
      for cameras and rtsp, rtp, udp, srt and rtmp in any case.
  """

  codec: str | None = None
  crf: float | None = None
  preset: str | None = None
  effort: str = ""
  pix_fmt: str | None = None
  format: str | None = None
  sound: bool = True
  voice: str | None = None
  voice_offset: float = 0.0
  start: float = 0.0
  end: float | None = None
  cuts: tuple[tuple[float, float], ...] = ()
  concat: tuple[str, ...] = ()
  fit: str = "pad"
  fps: float | None = None
  max_repeats: int = 10_000
  speed: float = 1.0
  mask: str | None = None
  grow: int = 0
  compare: str | None = None
  crossfade: float = 0.0
  fade: tuple[float, float] = (0.0, 0.0)
  reverse: bool = False
  background: str | None = None
  key: str | None = None
  plate: str | None = None
  matte: str | None = None
  stabilise: bool = False
  height: int = 0
  rotate: float = 0.0
  flip: str | None = None
  pad: str | None = None
  text: str | None = None
  font: str | None = None
  filter: str | None = None
  deinterlace: str = "auto"
  audio_filter: str | None = None
  tile: int = 0
  chunk: int = 0
  memory: int = 0
  resume: bool = False
  overwrite: bool = False
  live: bool = False


def check(options: Options, path: str, out: str, kind: str) -> None:
  """Refuses what cannot work, before anything is opened.

  Args:
    options: what is wanted.
    path: the input.
    out: the output.
    kind: its container.

  Raises:
    read.VideoError: says what.
  """
  live = source_lib.is_live(path) or source_lib.is_live(out)
  mask = options.mask or ""
  many = os.path.exists(mask) and not images.is_picture(mask)
  chosen = options.codec or options.pix_fmt or options.preset
  for wrong, text in (
    ((options.reverse or any(options.fade)) and live,
     "--reverse, --fade: need files on both sides"),
    (options.crossfade and not (options.concat or len(options.cuts) > 1),
     "--crossfade: is between the files of --concat or the ranges of --cut"),
    (options.cuts and live, "--cut: needs files on both sides"),
    (options.voice and live,
     f"sound={options.voice}: needs files on both sides"),
    (options.resume and live, "--resume: needs files on both sides"),
    (options.concat and live, "--concat: needs files on both sides"),
    (options.live and not source_lib.is_live(path),
     f"--live: {path} waits; it is for pipes, URLs and cameras"),
    (many and (options.live or source_lib.hurries(path)),
     f"--mask {mask}: has frames, but those of a live input may be dropped;"
     " give an image or a colour"),
    (kind == "gif" and (chosen or options.crf is not None),
     f"{out}: a GIF has no --codec, --crf, --preset or --pix-fmt"),
    (kind in ("mp4", "mov", "3gp") and out == "-",
     f"--format {options.format}: a pipe cannot hold {kind}, which is written"
     " to its end and then to its beginning; matroska, nut and mpegts can"),
    (kind in ("gif", "image2") and source_lib.is_live(out),
     f"{out}: {kind} needs a file or folder, not a pipe or URL"),
  ):  # fmt: skip
    if wrong:
      raise read.VideoError(text)
  if source_lib.is_live(out):
    return
  target = images.place(out)[0] if kind == "image2" else out
  if os.path.exists(target) and not (
    os.path.isfile(target) or os.path.isdir(target)
  ):
    raise read.VideoError(
      f"{target}: is a device or a pipe, not a file; name a file, or - for a"
      " pipe"
    )
  # Folders that are missing are made when there is something to write.
  parent = os.path.dirname(os.path.abspath(target))
  if kind == "image2" and os.path.isdir(target):
    parent = target  # which may be a mount point
  while not os.path.lexists(parent):
    parent = os.path.dirname(parent)
  if not (os.path.isdir(parent) and os.access(parent, os.W_OK)):
    raise read.VideoError(
      f"{out}: {parent} is not a folder that can be written to"
    )
  if kind == "image2" and os.path.isfile(target):
    raise read.VideoError(f"{target}: is a file; images go into a folder")
  if kind != "image2" and os.path.isdir(out):
    raise read.VideoError(f"{out}: is a folder, the input is a file")


def check_overwrites(
  out: str, sources: list[source_lib.Source], options: Options
) -> None:
  """Refuses an output that is an input, also one of the options'."""
  if source_lib.is_live(out) or not os.path.exists(out):
    return
  for source in sources:
    for file in () if source.live else source.files:
      if os.path.samefile(file, out):
        raise read.VideoError(
          f"{out}: is the input; give the output another name"
        )
  for flag, file in option_files(options):
    if os.path.samefile(file, out):
      raise read.VideoError(
        f"{out}: is the {flag}, or in it; give the output another name"
      )


def option_files(options: Options) -> list[tuple[str, str]]:
  """(flag, file) of all files that options are read from, as --mask."""
  files = []
  if options.voice:
    files.append(("sound", options.voice))
  for name in ("mask", "background", "plate", "matte", "text", "font"):
    path = getattr(options, name) or ""  # it may also be a colour
    if os.path.isdir(path):
      inside = sorted(entry.path for entry in os.scandir(path))
      files += [(f"--{name}", file) for file in inside]
    elif os.path.exists(path):
      files.append((f"--{name}", path))
  return files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
  """The output's clock.

  Attributes:
    fps: frames a second, for the encoder's planning.
    base: seconds, of which all times are multiples.
    grid: whether frames are brought to the rate `fps`; else each keeps its
      time.
    limited: whether the container is the reason for that.
    speed: by which the input is made faster.
    total: frames that are expected; 0: unknown.
  """

  fps: fractions.Fraction
  base: fractions.Fraction
  grid: bool
  limited: bool
  speed: fractions.Fraction
  total: int


def timing(
  options: Options,
  *,
  container: str,
  fps: float,
  bases: list[fractions.Fraction],
  rate: int,
  asked: float | None,
  duration: float,
) -> Timing:
  """Plans the output's clock: arithmetic on rates, no file is looked at.

  Every time of the output is an integer multiple of `base`. Without a grid that
  is the least common measure of the inputs' bases, divided by what stages add:
  base = 1 / (lcm(denominators) rate speed), so that no time has to be rounded.
  With a grid, frames are a constant 1 / fps apart.

  Args:
    options: what is wanted.
    container: of the output.
    fps: of the input; 0: unknown.
    bases: seconds of a tick, of every input.
    rate: frames that stages make of one.
    asked: frames a second of the result that a stage asks for, at speed 1.
    duration: of the input, seconds; 0: unknown.
  """
  speed = fractions.Fraction(options.speed).limit_denominator(1000)
  given = fractions.Fraction(fps or 25).limit_denominator(1001)
  out = given * rate * speed
  base = fractions.Fraction(1, math.lcm(*(b.denominator for b in bases)) * rate)
  if len({(b.numerator, b.denominator) for b in bases}) == 1:
    base *= bases[0].numerator
  base /= speed
  grid = options.fps
  if asked and not grid:  # see `phases`
    grid = fractions.Fraction(asked) * speed
  if 0 < fps <= _FASTEST and speed != 1 and not options.fps:
    # Another speed is not another rate: film stays at 24 frames a second. But
    # slow motion shows all frames that a stage has made between the others.
    most = fractions.Fraction(asked) if asked else given * rate
    kept = min(max(grid or out, given), most)
    grid = grid if kept == (grid or out) else kept
  limited = container == "gif" and (grid or out) > GIF_RATE
  if limited:
    grid = GIF_RATE
  if grid:
    out = fractions.Fraction(grid).limit_denominator(1001)
    base = 1 / out
  if container == "gif":
    base = fractions.Fraction(1, 100)
  if container == "avi":
    base = 1 / out  # it knows no times, only a rate
  if base.denominator > 2**31 - 1:  # what containers can store
    base = fractions.Fraction(1, 10**6)
  length = duration
  ranges = options.cuts or ((options.start, options.end),)
  spans = [
    (start, length if end is None else min(length or end, end))
    for start, end in ranges
  ]
  length = sum(max(0.0, end - start) for start, end in spans) / options.speed
  return Timing(
    fps=out,
    base=base,
    grid=bool(grid),
    limited=limited,
    speed=speed,
    total=0 if options.concat else round(length * float(out)),
  )


def check_size(stages: list[Any], height: int, width: int) -> tuple[int, int]:
  """Height and width of the result; refuses a stage that makes it too large.

  Raises:
    read.VideoError: names the stage.
  """
  for stage in stages:
    height, width = stage.size(height, width)
    if height * width > read.MAX_PIXELS:
      raise read.VideoError(
        f"{stage.name}: frames of {width}x{height} are beyond the limit of"
        f" {read.MAX_PIXELS} pixels; choose a smaller scale, or --crop"
      )
  return height, width


def container(out: str, wanted: str | None, path: str) -> str:
  """The muxer of an output, by option or by its name.

  Args:
    out: the name.
    wanted: the option.
    path: the input; if that is images, a name without suffix, or of a folder,
      is one of images.

  Raises:
    read.VideoError: neither says.
  """
  if wanted:
    return _SUFFIXES.get(f".{wanted.lower()}", wanted)
  if out == "-":
    return "matroska"
  if "://" in out:
    return {"rtmp": "flv"}.get(out.split(":")[0], "mpegts")
  suffix = os.path.splitext(out)[1].lower()
  if not suffix or os.path.isdir(out):
    if not source_lib.is_live(path) and images.names(path) is not None:
      return "image2"
  if os.path.isdir(out) or out.endswith(os.sep):
    raise read.VideoError(
      f"{out}: is a folder, the input is a file; name a file in it, or images,"
      f" as {os.path.join(out, images.PATTERN)}"
    )
  if suffix in folder.IMAGES and suffix not in _SUFFIXES:
    images.place(out)
  if suffix not in _SUFFIXES:
    raise read.VideoError(
      f"{out}: the suffix {suffix!r} is none of"
      f" {', '.join(_SUFFIXES)}; name the output so, or give --format"
    )
  return _SUFFIXES[suffix]


def tell_gaps(path: str, files: list[str], tell: Callable[[str], None]) -> None:
  """Says that images are missing between those of a clip."""
  if count := folder.missing(files):
    tell(
      f"{path}: by the names of its images, {count} are missing; the others"
      " follow each other without a gap"
    )


def make_whole(
  options: Options,
  sources: list[source_lib.Source],
  pixels: bool,
  tell: Callable[[str], None],
) -> None:
  """Decides if interlaced pictures of inputs are made whole, which is told.

  Args:
    options: what is wanted.
    sources: the inputs.
    pixels: whether something looks at pixels.
    tell: takes lines for the user.
  """
  whole = options.deinterlace == "yes" or (
    options.deinterlace == "auto" and pixels
  )
  how = "its combs stay, as parts of the picture"
  if whole:
    how = "its pictures are made whole (--deinterlace no: as they are)"
  tell_once = functools.cache(tell)
  for source in sources:
    source.whole = whole
    if whole or pixels:
      text = f"{source.path}: is interlaced; {how}"
      source.interlaced = functools.partial(tell_once, text)


def window_memory(stage: stream.Stage) -> int:
  """Bytes that a stage's windows may be planned in: a quarter of what is free.

  On a CPU half a GiB is enough for 24 frames, as windows of most networks have:
  beyond its caches, larger ones are slower (docs/results.md, section 8). But a
  recurrent stage remembers whole frames.
  """
  try:
    if "jax" in sys.modules:
      stats = sys.modules["jax"].local_devices()[0].memory_stats()
      if stats and "bytes_limit" in stats:
        return (stats["bytes_limit"] - stats["bytes_in_use"]) // 4
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  except (AttributeError, OSError, ValueError, RuntimeError):
    free = 2**32
  if stage.recurrent:
    return free // 4
  window = stream.Runner(stage).window
  return min(free // 4, 2**29 * max(24, window) // 24)
