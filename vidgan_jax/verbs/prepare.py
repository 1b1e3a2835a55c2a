"""`vidgan prepare SRC DIR`: a folder of videos becomes a TFDS data set.

  vidgan prepare my_videos data/mine --size 64

SRC holds videos, folders of frames, or images that are strips of frames side
by side; first-level sub-folders are labels. DIR becomes a data set in
ArrayRecord that `tfds.builder_from_directory(DIR)` reads. How: `data.prepare`.
"""

import argparse
import collections
from collections.abc import Sequence
import dataclasses
import datetime
import difflib
import functools
import os
import pathlib
import re
import sys
import time

from vidgan_jax import errors
from vidgan_jax.data import prepare
from vidgan_jax.video import clips
from vidgan_jax.video import folder
from vidgan_jax.video import maps


class _Parser(argparse.ArgumentParser):
  """Names the nearest option when one is unknown."""

  def parse_args(self, args=None, namespace=None):
    args, unknown = self.parse_known_args(args, namespace)
    if unknown:
      options = [o for a in self._actions for o in a.option_strings]
      word = unknown[0].split("=")[0]
      near = difflib.get_close_matches(word, options, 1)
      hint = f"; did you mean {near[0]}?" if near else ""
      self.error(f"unknown argument {word}{hint}")
    return args


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(
    prog="vidgan prepare",
    description="Turns a folder of videos into a TFDS data set.",
    epilog="Give the same command again to go on after an interruption.",
    allow_abbrev=False,
  )
  add = parser.add_argument
  add("src", metavar="SRC", help="folder of videos, frame folders or strips")
  add("dir", metavar="DIR", help="the data set to make; must not exist")
  add("--layout", choices=("auto", *folder.LAYOUTS))
  add(
    "--exclude",
    action="append",
    default=[],
    metavar="GLOB",
    help="leave out files or folders by path or name; may be repeated",
  )
  _add_options(parser)
  flag = argparse.BooleanOptionalAction
  text = "first-level sub-folders are labels (default: yes)"
  add("--labels", action=flag, default=True, help=text)
  text = "the labels in this order (default: those found, sorted)"
  add("--classes", metavar="A,B,C", help=text)
  text = ".csv or .jsonl with `file` and any of `label`, `caption`, `split`"
  add("--metadata", metavar="FILE", help=text)
  text = (
    "label maps: for each video a folder of PNGs of its name, numbers of"
    " classes or a palette; classes.txt or .json there names the classes"
  )
  add("--maps", metavar="FOLDER", help=text)
  add(
    "--test",
    type=_fraction,
    default=0.1,
    metavar="FRACTION",
    help="share of the source videos held out (default: %(default)s)",
  )
  text = "hold out the videos whose path matches, and no others"
  add("--test-match", type=_regex, metavar="REGEX", help=text)
  add(
    "--workers",
    type=_positive(int),
    default=max(1, min(os.cpu_count() or 1, 16)),
    metavar="N",
    help="processes (default: %(default)s)",
  )
  text = "replace DIR or an unfinished run of another kind"
  add("--overwrite", action="store_true", help=text)
  parser.set_defaults(
    **dataclasses.asdict(clips.Options()) | {"layout": "auto"}
  )
  return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
  """How videos become records: the fields of `clips.Options`."""

  def add(name, help, kind=int, metavar="N"):
    parser.add_argument(name, type=_positive(kind), metavar=metavar, help=help)

  def choose(name, help, action="store_true"):
    parser.add_argument(name, action=action, help=help)

  add("--size", "resize the shorter side to N pixels (default: as it is)")
  choose("--upscale", "enlarge smaller videos too")
  choose("--square", "centre crop to a square")
  add(
    "--fps",
    "videos: resample to F by nearest time; frames and strips: the rate"
    " they were taken at (default 25)",
    float,
    "F",
  )
  add(
    "--frame-width",
    "strips: width of one frame (default: the strip's height)",
  )
  choose(
    "--shots",
    "cut where the picture changes abruptly or time leaps (default: yes)",
    argparse.BooleanOptionalAction,
  )
  add(
    "--max-frames",
    "longer shots become several records (default: %(default)s)",
  )
  add("--min-frames", "leave out shorter records (default: %(default)s)")
  choose(
    "--deinterlace",
    "make whole pictures of interlaced ones (default: yes)",
    argparse.BooleanOptionalAction,
  )
  add(
    "--max-repeats",
    "with --fps: skip a video of which one picture would become more frames"
    " (default: %(default)s)",
  )
  parser.add_argument(
    "--sound",
    nargs="?",
    const="keep",
    choices=("keep", "require"),
    help="keep the sound of each clip; `require` leaves out videos without",
  )
  parser.add_argument(
    "--sound-offset",
    type=float,
    metavar="S",
    help="the sound is heard S seconds later than the file says",
  )
  parser.add_argument("--encoding", choices=("png", "jpeg"))
  add("--quality", "of JPEG, 1 to 100 (default: %(default)s)", metavar="Q")


def _positive(kind):
  def parse(text):
    value = kind(text)
    if not 0 < value < 1e9:
      raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value

  parse.__name__ = kind.__name__
  return parse


def _fraction(text):
  value = float(text)
  if not 0 <= value < 1:
    raise argparse.ArgumentTypeError(f"{text} is not in [0, 1)")
  return value


def _regex(text):
  try:
    re.compile(text)
  except re.error as error:
    raise argparse.ArgumentTypeError(f"{text}: {error}") from None
  return text


def main(argv: Sequence[str] | None = None) -> int:
  """The verb; returns the exit code: 0 only when a clip was written."""
  args = _parser().parse_args(argv)
  try:
    result = prepare.prepare(
      _job(args), functools.partial(print, flush=True), _Progress()
    )
  except OSError as error:
    text = f"{error.strerror} ({error.filename or args.dir})"
    if error.errno in prepare.FULL:
      text += (
        ": the disk is full. Nothing half-written was left; free some space"
        " and give the same command again to go on"
      )
    raise errors.UserError(text) from error
  except KeyboardInterrupt:
    print(
      f"\nvidgan prepare: stopped. {pathlib.Path(args.dir)}.partial keeps what"
      " is done; give the same command again to go on.",
      file=sys.stderr,
    )
    return 130
  if result is None:
    print(f"{args.dir} is finished already: the same command made it")
  else:
    print(_summary(result, args.dir))
  return 0


def _job(args: argparse.Namespace) -> prepare.Job:
  options = clips.Options(
    **{
      field.name: vars(args)[field.name]
      for field in dataclasses.fields(clips.Options)
    }
  )
  classes = (name.strip() for name in (args.classes or "").split(","))
  return prepare.Job(
    src=pathlib.Path(args.src),
    out=pathlib.Path(args.dir),
    options=options,
    maps=args.maps,
    exclude=tuple(args.exclude),
    labels=args.labels,
    classes=tuple(filter(None, classes)),
    metadata=args.metadata,
    test=args.test,
    test_match=args.test_match,
    workers=args.workers,
    overwrite=args.overwrite,
  )


class _Progress:
  """One line: files, rate and time to go, weighted by bytes of source."""

  def __init__(self):
    self._start = self._shown = time.monotonic()
    self._terminal = sys.stdout.isatty()
    self._first = None  # Bytes to do and frames done, before this run.

  def __call__(self, sources, rows, running, last):
    """See `data.convert.Progress`."""
    now = time.monotonic()
    wait = 0.5 if self._terminal else 10
    if self._first and not last and now - self._shown < wait:
      return
    # A source without bytes is work as well.
    left = sum(s.bytes + 1 for s in sources if s.file not in rows)
    frames = sum(row["frames"] for row in rows.values()) + running
    if self._first is None:
      self._first = left, frames
      return
    self._shown = now
    spent = max(now - self._start, 1e-6)
    made = self._first[0] - left
    rest = f"{_clock(spent * left / made)} left" if made else "..."
    skipped = sum(row["status"] == "skipped" for row in rows.values())
    line = (
      f"{len(rows)}/{len(sources)} done, {skipped} skipped,"
      f" {(frames - self._first[1]) / spent:.0f} frames/s, "
      + (f"{_clock(spent)} in all" if last else rest)
    )
    end = "\n" if last or not self._terminal else ""
    print(("\r\x1b[K" if self._terminal else "") + line, end=end, flush=True)


def _clock(seconds: float) -> datetime.timedelta:
  return datetime.timedelta(seconds=int(seconds))


def _summary(result: prepare.Result, out: str) -> str:
  """The table that is printed at the end."""
  rows, out = result.rows, pathlib.Path(out)
  groups = {
    split: lambda r, s=split: r.get("split") == s for split in result.lengths
  }
  for name in result.classes:
    groups[f"  {name}"] = lambda r, n=name: r.get("label") == n
  groups["all"] = lambda r: True
  width = max(map(len, groups))
  lines = [f"{'':{width}}  videos  skipped    clips     frames    minutes"]
  for name, belongs in groups.items():
    chosen = [r for r in rows if belongs(r)]
    good = [r for r in chosen if r["status"] == "ok"]
    lines.append(
      f"{name:{width}}  {len(good):6}  {len(chosen) - len(good):7}"
      f"  {sum(r['records'] for r in good):7}"
      f"  {sum(r['kept'] for r in good):9}"
      f"  {sum(r['seconds'] for r in good) / 60:9.1f}"
    )
  trained = {r.get("label") for r in rows if r.get("split") == "train"}
  lines += [
    f"note: the class {name} has no clip in train, so that no model learns it;"
    " hold out others (--test-match), or leave it out (--exclude)"
    for name in result.classes
    if name not in trained
  ]
  good = [r for r in rows if r["status"] == "ok"]
  if result.sound:
    heard = sum(r["sound"] for r in good)
    lines.append(
      f"sound: {heard} of {len(good)} videos have it"
      + ", zeros stand for that of the others" * (heard < len(good))
    )
  if result.layout:
    lines += _classes(rows, result.layout)
  bad = [r for r in rows if r["status"] == "skipped"]
  lines += _first([f"skipped: {r['file']}: {r['reason']}" for r in bad])
  notes = collections.defaultdict(list)  # a sentence -> the videos it is of
  for row in rows:
    for note in row.get("notes", ()):
      notes[note].append(row["file"])
  lines += _first(
    [
      f"note: {videos[0]}: {note}"
      + (f"; {len(videos) - 1} more videos" if videos[1:] else "")
      for note, videos in notes.items()
    ]
  )
  lines.append(f"{out}: ready; every file is in {out}/prepare_report.jsonl")
  return "\n".join(lines)


def _classes(rows: list[dict], names: Sequence[str]) -> list[str]:
  """What the label maps show, by class."""
  pixels = {split: collections.Counter() for split in folder.SPLITS}
  good = [row for row in rows if row["status"] == "ok"]
  for row in good:
    # Of a single video that is divided both splits have all.
    for split in [row["split"]] if "split" in row else folder.SPLITS:
      pixels[split].update({int(k): n for k, n in row["ids"].items()})
  total = collections.Counter()
  for row in good:
    total.update({int(k): n for k, n in row["ids"].items()})
  unmapped = sum(row["unmapped"] for row in good)
  frames = sum(row["frames"] for row in good)
  named = dict(enumerate(names)) | {maps.UNKNOWN: "unknown"}
  shares = ", ".join(
    f"{number} {named[number]} {n / total.total():.2%}"
    for number, n in sorted(total.items())
  )
  lines = [f"maps: {len(names)} classes, by share of the pixels: {shares}"]
  if unmapped:
    lines.append(f"maps: {unmapped} of {frames} frames have none: all unknown")
  return lines + [
    f"note: the class {named[number]} is in maps of test alone, so that no"
    " model learns it"
    for number in sorted(pixels["test"].keys() - pixels["train"].keys())
    if number != maps.UNKNOWN
  ]


def _first(lines: list[str], most: int = 8) -> list[str]:
  more = len(lines) - most
  return lines[:most] + ([f"... {more} more"] if more > 0 else [])
