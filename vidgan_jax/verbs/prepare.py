"""`vidgan prepare SRC DIR`: a folder of videos becomes a TFDS data set.

  vidgan prepare my_videos data/mine --size 64

SRC holds videos, folders of frames, or images that are strips of frames side
by side; first-level sub-folders are labels. DIR becomes a data set in
ArrayRecord that `tfds.builder_from_directory(DIR)` reads: a record is a shot
(or a piece of a long one), each frame an image encoded by itself.

How it works: worker processes turn one source video at a time into a file of
records in DIR.partial/ and the parent notes it in a manifest; at the end the
files are joined into shards, the metadata written, and the result renamed to
DIR. So a run that is stopped or killed at any point goes on when the same
command is given again, a video that crashes its decoder costs only itself, and
DIR exists only when it is whole.

Besides the data set DIR holds prepare.json, the options and the number of
frames of every clip, and prepare_report.jsonl, what became of every source.
"""

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import difflib
import errno
import fcntl
import hashlib
import json
import multiprocessing
from multiprocessing import connection
import os
import pathlib
import re
import shutil
import signal
import struct
import sys
import time
from typing import Any

from vidgan_jax import errors
from vidgan_jax.store import files
from vidgan_jax.video import clips
from vidgan_jax.video import folder
from vidgan_jax.video import read

NAME = "video_folder"  # of the data set, in the names of its files
SHARD_BYTES = 256 * 2**20
STALL = 300  # seconds without a new frame after which a worker is given up
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class PrepareError(errors.UserError):
  """What the user has to mend, in one paragraph."""


class _NoClip(Exception):
  """A source gave no clip: its file of records is not kept."""


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
  default = clips.Options()
  add("src", metavar="SRC", help="folder of videos, frame folders or strips")
  add("dir", metavar="DIR", help="the data set to make; must not exist")
  add("--layout", choices=("auto", *folder.LAYOUTS), default="auto")
  add(
    "--exclude",
    action="append",
    default=[],
    metavar="GLOB",
    help="leave out files or folders by path or name; may be repeated",
  )
  add(
    "--size",
    type=_positive(int),
    default=default.size,
    metavar="N",
    help="resize the shorter side to N pixels (default: as it is)",
  )
  add("--upscale", action="store_true", help="enlarge smaller videos too")
  add("--square", action="store_true", help="centre crop to a square")
  add(
    "--fps",
    type=_positive(float),
    default=default.fps,
    metavar="F",
    help="videos: resample to F by nearest time; frames and strips: the rate"
    " they were taken at (default 25)",
  )
  add(
    "--frame-width",
    type=_positive(int),
    default=default.frame_width,
    metavar="N",
    help="strips: width of one frame (default: the strip's height)",
  )
  add(
    "--shots",
    action=argparse.BooleanOptionalAction,
    default=default.shots,
    help="cut where the picture changes abruptly (default: yes)",
  )
  add(
    "--max-frames",
    type=_positive(int),
    default=default.max_frames,
    metavar="N",
    help="longer shots become several records (default: %(default)s)",
  )
  add(
    "--min-frames",
    type=_positive(int),
    default=default.min_frames,
    metavar="N",
    help="leave out shorter records (default: %(default)s)",
  )
  add("--encoding", choices=("png", "jpeg"), default=default.encoding)
  add(
    "--quality",
    type=_positive(int),
    default=default.quality,
    metavar="Q",
    help="of JPEG, 1 to 100 (default: %(default)s)",
  )
  add(
    "--labels",
    action=argparse.BooleanOptionalAction,
    default=True,
    help="first-level sub-folders are labels (default: yes)",
  )
  add(
    "--classes",
    metavar="A,B,C",
    help="the labels in this order (default: those found, sorted)",
  )
  add(
    "--metadata",
    metavar="FILE",
    help=".csv or .jsonl with `file` and any of `label`, `caption`, `split`",
  )
  add(
    "--test",
    type=_fraction,
    default=0.1,
    metavar="FRACTION",
    help="share of the source videos held out (default: %(default)s)",
  )
  add(
    "--test-match",
    type=_regex,
    metavar="REGEX",
    help="hold out the videos whose path matches, and no others",
  )
  add(
    "--workers",
    type=_positive(int),
    default=max(1, min(os.cpu_count() or 1, 16)),
    metavar="N",
    help="processes (default: %(default)s)",
  )
  add(
    "--overwrite",
    action="store_true",
    help="replace DIR or an unfinished run of another kind",
  )
  return parser


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
  previous = signal.getsignal(signal.SIGTERM)
  with contextlib.suppress(ValueError):  # not in the main thread
    signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    return _prepare(args)
  except OSError as error:
    what = f"{error.strerror} ({error.filename or args.dir})"
    if error.errno in _FULL:
      what += (
        ": the disk is full. Nothing half-written was left; free some space"
        " and give the same command again to go on"
      )
    raise PrepareError(what) from error
  except KeyboardInterrupt:
    print(
      f"\nvidgan prepare: stopped. {pathlib.Path(args.dir)}.partial keeps what"
      " is done; give the same command again to go on.",
      file=sys.stderr,
    )
    return 130
  finally:
    with contextlib.suppress(ValueError):
      signal.signal(signal.SIGTERM, previous)


# ------------------------------------------------------------------ the run


def _prepare(args: argparse.Namespace) -> int:
  src, out = pathlib.Path(args.src), pathlib.Path(args.dir)
  options = clips.Options(
    **{
      field.name: getattr(args, field.name)
      for field in dataclasses.fields(clips.Options)
    }
  )
  if options.min_frames > options.max_frames:
    raise PrepareError(
      f"--min-frames {options.min_frames} is more than --max-frames"
      f" {options.max_frames}: no record could be long enough"
    )
  layout, sources = folder.scan(src, args.layout, args.exclude)
  options = dataclasses.replace(options, layout=layout)
  here, there = src.resolve(), out.resolve()
  if there == here or here in there.parents or there in here.parents:
    raise PrepareError(f"{out} and {src} lie in each other: choose another DIR")
  looked_for = {
    "videos": "video files",
    "frames": f"folders of images ({' '.join(folder.IMAGES)})",
    "strips": f"images ({' '.join(folder.IMAGES)})",
  }[layout]
  if not sources:
    but = f", but not {', '.join(args.exclude)}" if args.exclude else ""
    raise PrepareError(
      f"{src} holds no clip: looked for {looked_for} in it and its sub-folders"
      f"{but}. Check SRC, or choose another --layout"
    )
  notes = folder.annotate(
    sources,
    labels=args.labels,
    classes=[c.strip() for c in (args.classes or "").split(",") if c.strip()],
    metadata=args.metadata,
  )
  stamp = repr([(s.file, s.bytes, s.modified) for s in sources])
  stamp = hashlib.sha256(stamp.encode()).hexdigest()[:16]
  run = {
    "format": 1,
    "source": str(here),
    "options": dataclasses.asdict(options),
    "classes": list(notes.classes),
    "exclude": sorted(args.exclude),
    "test": args.test,
    "test_match": args.test_match,
    "metadata": args.metadata and files.digest(args.metadata)[:16],
  }
  if _finished(out, run | {"sources": stamp}, args.overwrite):
    print(f"{out} is finished already: the same command made it")
    return 0
  staging = there.with_name(there.name + ".partial")
  with _claimed(staging, run, args.overwrite):
    print(
      f"{src}: {len(sources)} {layout}, "
      + (f"{len(notes.classes)} labels" if notes.classes else "no labels"),
      flush=True,
    )
    for line in notes.remarks:
      print(f"note: {line}")
    plan_file = staging / "plan.json"
    if not plan_file.exists():
      rows = _convert(src, sources, options, notes, staging, args.workers)
      plan = _plan(rows, notes, args) | {"sources": stamp}
      if not any(plan["splits"].values()):
        raise PrepareError(_nothing(src, looked_for, rows, staging))
      files.write_json(plan_file, plan, indent=None)
    plan = json.loads(plan_file.read_text())
    data = staging / "data"
    _join(plan, staging, data)
    lengths = _describe(plan, run | {"sources": plan["sources"]}, data)
    _replace(data, out, staging)
  shutil.rmtree(staging, ignore_errors=True)
  print(_summary(plan["rows"], lengths, notes.classes, out))
  return 0


def _finished(out: pathlib.Path, run: dict[str, Any], overwrite: bool) -> bool:
  """Whether `out` is this very run; raises when it is in the way."""
  if not out.exists():
    return False
  if out.is_dir() and not any(out.iterdir()):
    return False
  try:
    made = json.loads((out / "prepare.json").read_text())
  except (OSError, ValueError):
    raise PrepareError(
      f"{out} exists and was not made by this command: choose another DIR, or"
      " move it away (--overwrite replaces prepared data sets only)"
    ) from None
  if overwrite:
    return False
  if all(made.get(key) == value for key, value in run.items()):
    return True
  raise PrepareError(
    f"{out} holds a data set that was prepared otherwise"
    f" ({_difference(made, run)}): choose another DIR, or --overwrite it"
  )


def _difference(made: dict[str, Any], run: dict[str, Any]) -> str:
  flat = lambda d: {**d, **d.get("options", {})}
  made, run = flat(made), flat(run)
  keys = [k for k in run if k != "options" and made.get(k) != run[k]]
  return ", ".join(f"{k}: {made.get(k)!r}, now {run[k]!r}" for k in keys)


@contextlib.contextmanager
def _claimed(
  staging: pathlib.Path, run: dict[str, Any], overwrite: bool
) -> Iterator[None]:
  """Makes or takes over the folder of unfinished work, alone."""
  state = staging / "run.json"
  try:
    staging.mkdir(parents=True, exist_ok=True)
    lock = open(staging / "lock", "w")
  except OSError as error:
    if error.errno in _FULL:
      raise
    raise PrepareError(
      f"{staging} cannot be made ({error.strerror}): choose a DIR in a folder"
      " that can be written"
    ) from None
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise PrepareError(
        f"another process is preparing {staging}: wait for it"
      ) from None
    if state.exists():
      made = json.loads(state.read_text())
      if made != run:
        if not overwrite:
          raise PrepareError(
            f"{staging} holds an unfinished run with other options"
            f" ({_difference(made, run)}): give those to go on, or --overwrite"
            " to begin anew"
          )
        for path in staging.iterdir():
          if path.name != "lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not state.exists():
      files.write_json(state, run, indent=None)
    yield


def _replace(
  data: pathlib.Path, out: pathlib.Path, staging: pathlib.Path
) -> None:
  """Puts the finished folder in its place; what was there goes last."""
  if out.exists():
    old = staging / "replaced"
    shutil.rmtree(old, ignore_errors=True)
    files.move(out, old)
  files.move(data, out)


# ------------------------------------------------------------------ workers


def _staged(staging: pathlib.Path, file: str) -> pathlib.Path:
  return staging / (hashlib.sha256(file.encode()).hexdigest()[:32] + ".records")


def _work(
  pipe: connection.Connection,
  root: str,
  options: clips.Options,
  staging: pathlib.Path,
  threads: int,
) -> None:
  """A worker: turns one source after another into a file of records.

  Receives (source, extra features), sends ('frames', n) now and then and at
  the end ('done', row) or ('full', message).
  """
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  signal.signal(signal.SIGTERM, signal.SIG_DFL)
  pipe.send(("ready", None))
  while True:
    try:
      source, extra = pipe.recv()
    except (EOFError, OSError):
      return
    try:
      row = _one(pipe, root, source, extra, options, staging, threads)
      pipe.send(("done", row))
    except (BrokenPipeError, ConnectionError):
      return
    except OSError as error:  # of the staged file: the reader has its own
      pipe.send(("full", (error.errno, error.strerror, error.filename)))
      return


def _one(
  pipe, root, source, extra, options, staging, threads
) -> dict[str, Any]:
  """One source video; returns its row of the manifest."""
  tally = clips.Tally()
  path = _staged(staging, source.file)
  lengths, size, reason = [], 0, ""
  said = time.monotonic()

  def beat():
    nonlocal said
    if time.monotonic() - said > 0.5:
      said = time.monotonic()
      pipe.send(("frames", tally.frames))

  records = clips.records(root, source, options, tally, beat, threads)
  with contextlib.suppress(_NoClip), files.write(path) as temporary:
    with open(temporary, "wb") as file:
      try:
        for record in records:
          pieces = clips.serialize(record | extra)
          count = sum(map(len, pieces))
          file.write(struct.pack("<Q", count))
          file.writelines(pieces)
          lengths.append(len(record["frames"]))
          size += count
      except read.VideoError as error:
        reason = str(error)
      except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        reason = f"unexpected {type(error).__name__}: {error}"
      except MemoryError:
        reason = "not enough memory"
    if tally.damaged > tally.frames > 0:
      # What a decoder makes of a broken or encrypted stream is not video.
      lengths, size, reason = (
        [],
        0,
        (
          f"more of it is damaged ({tally.damaged} packets) than can be decoded"
          f" ({tally.frames} frames)"
        ),
      )
    if not lengths:
      raise _NoClip
  tally.ended = tally.ended or (reason if lengths else "")
  if not lengths and not reason:
    reason = (
      f"{tally.frames} frame{'s' * (tally.frames != 1)} in {tally.shots}"
      f" shot{'s' * (tally.shots != 1)}, none of at least --min-frames"
      f" {options.min_frames}"
    )
  prefix = os.path.join(root, source.file) + ": "
  return {
    "file": source.file,
    "status": "ok" if lengths else "skipped",
    "reason": "" if lengths else reason.removeprefix(prefix),
    "lengths": lengths,
    "bytes": size,
    "source_bytes": source.bytes,
    "modified": source.modified,
    **dataclasses.asdict(tally),
    "ended": tally.ended.removeprefix(prefix),
  }


class _Worker:
  """A worker process, what it is at, and when it was last heard of."""

  def __init__(self, *job):
    context = multiprocessing.get_context("spawn")
    self.pipe, theirs = context.Pipe()
    self.process = context.Process(
      target=_work, args=(theirs, *job), daemon=True
    )
    # A Ctrl-C reaches the whole group of processes: it is the parent's.
    handler = signal.getsignal(signal.SIGINT)
    with contextlib.suppress(ValueError):  # not in the main thread
      signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
      self.process.start()
    finally:
      with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, handler)
    theirs.close()
    self.ready = False
    self.source = None
    self.frames = 0
    self.heard = time.monotonic()

  def give(self, source, extra):
    self.source, self.frames, self.heard = source, 0, time.monotonic()
    self.pipe.send((source, extra))

  def stop(self):
    self.pipe.close()
    self.process.join(0.2)
    if self.process.is_alive():
      self.process.kill()
      self.process.join()


def _convert(
  root: pathlib.Path,
  sources: list[folder.Source],
  options: clips.Options,
  notes: folder.Notes,
  staging: pathlib.Path,
  count: int,
) -> list[dict[str, Any]]:
  """Runs the workers over what is not yet done; returns all rows."""
  manifest = staging / "manifest.jsonl"
  rows = _read_manifest(manifest, staging, sources)
  todo = [s for s in sources if s.file not in rows]
  if rows:
    print(f"going on: {len(rows)} of {len(sources)} are done")
  for source in todo:
    if notes.classes and source.file not in notes.labels:
      rows[source.file] = _skipped(source, "no label in the metadata")
  todo = [s for s in todo if s.file not in rows]
  todo.reverse()  # popped from the end
  cores = os.cpu_count() or 1
  threads = max(1, min(cores // max(1, min(count, len(todo))), 8))
  progress = _Progress(sources, rows)
  workers = []
  try:
    with open(manifest, "a") as log:

      def note(row):
        rows[row["file"]] = row
        log.write(json.dumps(row) + "\n")
        log.flush()
        progress.done(row)

      while todo or any(w.source for w in workers):
        busy = sum(w.source is not None for w in workers)
        while len(workers) < min(count, len(todo) + busy):
          workers.append(_Worker(str(root), options, staging, threads))
        for worker in workers:
          if worker.ready and worker.source is None and todo:
            source = todo.pop()
            extra = {"caption": notes.captions.get(source.file, "")}
            if notes.classes:
              extra["label"] = notes.labels[source.file]
            with contextlib.suppress(OSError):  # dead: seen below
              worker.give(source, extra)
        ready = connection.wait([w.pipe for w in workers], timeout=0.5)
        for worker in list(workers):
          if worker.pipe in ready:
            try:
              kind, value = worker.pipe.recv()
            except (EOFError, OSError):
              kind, value = "dead", None
          elif time.monotonic() - worker.heard > STALL and worker.source:
            kind, value = "stalled", None
          else:
            continue
          worker.heard = time.monotonic()
          if kind == "ready":
            worker.ready = True
          elif kind == "frames":
            worker.frames = value
          elif kind == "done":
            worker.source, worker.frames = None, 0
            note(value)
          elif kind == "full":
            raise OSError(*value)
          else:
            workers.remove(worker)
            worker.stop()
            code = worker.process.exitcode
            if not worker.source:
              raise PrepareError(
                f"a worker process ended by itself (exit code {code}): see the"
                " message above, and start the command from a script or a shell"
              )
            files.clear(staging, _staged(staging, worker.source.file).name)
            if kind == "stalled":
              reason = f"no new frame for {STALL} s"
            elif code == -signal.SIGKILL:
              reason = "the worker was killed (out of memory?)"
            else:
              reason = f"the decoder crashed (exit code {code})"
            note(_skipped(worker.source, reason))
        progress.show(sum(w.frames for w in workers))
    progress.show(0, last=True)
  finally:
    for worker in workers:
      worker.stop()
    files.clear(staging)
  return [rows[s.file] for s in sources]


def _skipped(source: folder.Source, reason: str) -> dict[str, Any]:
  return {
    "file": source.file,
    "status": "skipped",
    "reason": reason,
    "lengths": [],
    "bytes": 0,
    "source_bytes": source.bytes,
    "modified": source.modified,
    **dataclasses.asdict(clips.Tally()),
  }


def _read_manifest(
  path: pathlib.Path, staging: pathlib.Path, sources: list[folder.Source]
) -> dict[str, dict[str, Any]]:
  """Rows of sources that are done and have not changed since."""
  if not path.exists():
    return {}
  known = {s.file: (s.bytes, s.modified) for s in sources}
  rows = {}
  for line in path.read_text().splitlines():
    try:
      row = json.loads(line)
      key = row["source_bytes"], row["modified"]
    except (ValueError, KeyError):  # the line a killed run was writing
      continue
    if known.get(row["file"]) == key and (
      row["status"] == "skipped" or _staged(staging, row["file"]).exists()
    ):
      rows[row["file"]] = row
  text = "".join(json.dumps(row) + "\n" for row in rows.values())
  files.write_text(path, text)
  return rows


class _Progress:
  """One line: files, rate and time to go, weighted by bytes of source."""

  def __init__(self, sources, rows):
    self.all = len(sources)
    self.files = len(rows)
    self.skipped = sum(r["status"] == "skipped" for r in rows.values())
    left = [s for s in sources if s.file not in rows]
    self.left = sum(s.bytes for s in left) + len(left)
    self.todo = self.left
    self.frames = 0
    self.start = self.shown = time.monotonic()
    self.terminal = sys.stdout.isatty()

  def done(self, row):
    self.files += 1
    self.frames += row["frames"]
    self.skipped += row["status"] == "skipped"
    self.left -= row["source_bytes"] + 1

  def show(self, running, last=False):
    now = time.monotonic()
    if not last and now - self.shown < (0.5 if self.terminal else 10):
      return
    self.shown = now
    spent = max(now - self.start, 1e-6)
    made = self.todo - self.left
    left = f"{_clock(spent * self.left / made)} left" if made else "..."
    line = (
      f"{self.files}/{self.all} done, {self.skipped} skipped,"
      f" {(self.frames + running) / spent:.0f} frames/s, "
      + (f"{_clock(spent)} in all" if last else left)
    )
    end = "\n" if last or not self.terminal else ""
    print(("\r\x1b[K" if self.terminal else "") + line, end=end, flush=True)


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{seconds:02}"


# ------------------------------------------------------------------ joining


def _plan(
  rows: list[dict[str, Any]], notes: folder.Notes, args: argparse.Namespace
) -> dict[str, Any]:
  """Which source goes to which split and shard.

  The order within a split and, unless it is given, the choice of the test
  videos follow a hash of the file's path: the same for everyone, and spread
  over classes and folders.
  """
  rows = [dict(row) for row in rows]
  good = {r["file"]: r for r in rows if r["status"] == "ok"}
  test = folder.held_out(good, args.test, args.test_match, notes.splits)
  splits = {"train": [], "test": []}
  for file in folder.order(good):
    row = good[file]
    row["split"] = "test" if file in test else "train"
    shards = splits[row["split"]]
    if not shards or shards[-1]["bytes"] > SHARD_BYTES:
      shards.append({"files": [], "lengths": [], "bytes": 0})
    shards[-1]["files"].append(row["file"])
    shards[-1]["lengths"] += row["lengths"]
    shards[-1]["bytes"] += row["bytes"]
  for row in rows:
    if notes.classes and row["file"] in notes.labels:
      row["label"] = notes.classes[notes.labels[row["file"]]]
  return {"splits": splits, "rows": rows}


def _shard_name(split: str, index: int, count: int) -> str:
  return f"{NAME}-{split}.array_record-{index:05d}-of-{count:05d}"


def _join(
  plan: dict[str, Any], staging: pathlib.Path, data: pathlib.Path
) -> None:
  """Staged records -> shards; a staged file goes when its shard is whole."""
  from array_record.python import array_record_module

  data.mkdir(exist_ok=True)
  files.clear(data)
  for split, shards in plan["splits"].items():
    for i, shard in enumerate(shards):
      path = data / _shard_name(split, i, len(shards))
      staged = [_staged(staging, file) for file in shard["files"]]
      if not path.exists():
        try:
          with files.write(path) as temporary:
            # A compressed image gains nothing from being compressed again.
            writer = array_record_module.ArrayRecordWriter(
              str(temporary), "group_size:1,uncompressed"
            )
            for file in staged:
              for record in _read_staged(file):
                writer.write(record)
            writer.close()
            _check_shard(temporary, len(shard["lengths"]), shard["bytes"])
        except RuntimeError as error:  # the C++ library's only kind
          codes = [c for c in _FULL if os.strerror(c) in str(error)]
          code = codes[0] if codes else errno.EIO
          raise OSError(code, os.strerror(code), str(path)) from error
      for file in staged:
        file.unlink(missing_ok=True)


def _read_staged(path: pathlib.Path) -> Iterator[bytes]:
  with open(path, "rb") as file:
    while head := file.read(8):
      yield file.read(struct.unpack("<Q", head)[0])


def _check_shard(path: pathlib.Path, records: int, size: int) -> None:
  """Whether the shard is whole, before what it was made of is deleted."""
  from array_record.python import array_record_module

  reader = array_record_module.ArrayRecordReader(str(path))
  count = reader.num_records()
  reader.close()
  if count != records or path.stat().st_size < size:
    raise OSError(errno.EIO, f"holds {count} of {records} records", str(path))


def _describe(
  plan: dict[str, Any], run: dict[str, Any], data: pathlib.Path
) -> dict[str, list[int]]:
  """Writes TFDS's metadata, the report and `prepare.json`; returns lengths."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  import tensorflow_datasets as tfds

  from vidgan_jax.data import video_folder

  splits = {k: v for k, v in plan["splits"].items() if v}
  template = tfds.core.ShardedFileTemplate(
    data_dir=data, dataset_name=NAME, filetype_suffix="array_record"
  )
  tfds.folder_dataset.write_metadata(
    data_dir=str(data),
    features=video_folder.features(
      tuple(run["classes"]), run["options"]["encoding"]
    ),
    split_infos=[
      tfds.core.SplitInfo(
        name=name,
        shard_lengths=[len(s["lengths"]) for s in shards],
        num_bytes=sum(s["bytes"] for s in shards),
        filename_template=template.replace(split=name),
      )
      for name, shards in splits.items()
    ],
    description="Clips made by `vidgan prepare`; see prepare.json.",
    check_data=False,
  )
  report = "".join(json.dumps(row) + "\n" for row in plan["rows"])
  files.write_text(data / "prepare_report.jsonl", report)
  lengths = {
    name: [n for s in shards for n in s["lengths"]]
    for name, shards in splits.items()
  }
  made = {**run, "lengths": lengths}
  files.write_json(data / "prepare.json", made, indent=None)
  return lengths


def _summary(rows, lengths, classes, out) -> str:
  """The table printed at the end."""
  groups = {split: lambda r, s=split: r.get("split") == s for split in lengths}
  for name in classes:
    groups[f"  {name}"] = lambda r, n=name: r.get("label") == n
  groups["all"] = lambda r: True
  width = max(map(len, groups))
  lines = [f"{'':{width}}  videos  skipped    clips     frames    minutes"]
  for name, belongs in groups.items():
    mine = [r for r in rows if belongs(r)]
    good = [r for r in mine if r["status"] == "ok"]
    lines.append(
      f"{name:{width}}  {len(good):6}  {len(mine) - len(good):7}"
      f"  {sum(r['records'] for r in good):7}"
      f"  {sum(r['kept'] for r in good):9}"
      f"  {sum(r['seconds'] for r in good) / 60:9.1f}"
    )
  bad = [r for r in rows if r["status"] == "skipped"]
  lines += [f"skipped: {r['file']}: {r['reason']}" for r in bad[:8]]
  if len(bad) > 8:
    lines.append(f"... {len(bad) - 8} more")
  lines.append(f"{out}: ready; every file is in {out}/prepare_report.jsonl")
  return "\n".join(lines)


def _nothing(src, looked_for, rows, staging) -> str:
  """No clip at all: say why and leave nothing."""
  shutil.rmtree(staging, ignore_errors=True)
  reasons = [f"  {r['file']}: {r['reason']}" for r in rows[:10]]
  return (
    f"no clip was written: looked for {looked_for} in {src}, found"
    f" {len(rows)}, and none gave a clip:\n" + "\n".join(reasons)
  )
