"""A folder of videos becomes a TFDS data set in ArrayRecord.

A record is a shot, or a piece of a long one; each frame is an image encoded by
itself. Worker processes (`data.convert`) turn one source video at a time into a
file of records in DIR.partial/. At the end the files are joined into shards,
the metadata written, and the result renamed to DIR. So a run that is stopped or
killed at any point goes on when it is started again with the same job, and DIR
exists only when it is whole.

Besides the data set DIR holds prepare.json, the options and the number of
frames of every clip, and prepare_report.jsonl, what became of every source.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import errno
import hashlib
import itertools
import json
import os
import pathlib
import shutil
from typing import Any

from vidgan_jax import errors
from vidgan_jax.data import convert
from vidgan_jax.store import files
from vidgan_jax.store import workdir as workdir_lib
from vidgan_jax.video import clips
from vidgan_jax.video import folder
from vidgan_jax.video import maps

NAME = "video_folder"  # of the data set, in the names of its files
SHARD_BYTES = 256 * 2**20
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a full disk


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """What to make of which folder."""

  src: pathlib.Path  # folder of videos, frame folders or strips
  out: pathlib.Path  # the data set
  options: clips.Options  # how videos become records; layout may be 'auto'
  maps: str | None = None  # folder of label maps, see `video.maps`
  exclude: tuple[str, ...] = ()  # globs of paths or names to leave out
  labels: bool = True  # first-level sub-folders are labels
  classes: tuple[str, ...] = ()  # in this order; (): those found, sorted
  metadata: str | None = None  # .csv or .jsonl: file, label, caption, split
  test: float = 0.1  # share of the sources that are held out
  test_match: str | None = None  # or those whose path matches
  workers: int = 1  # processes
  overwrite: bool = False  # what is in the way


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """What was made."""

  rows: list[convert.Row]  # one a source, as in prepare_report.jsonl
  lengths: dict[str, list[int]]  # split -> frames of each clip
  classes: tuple[str, ...]  # names of the labels
  layout: tuple[str, ...]  # names of the classes of the label maps
  sound: bool  # whether sound was asked for


def prepare(
  job: Job, say: Callable[[str], None], progress: convert.Progress
) -> Result | None:
  """Makes a data set, or goes on with it.

  Args:
    job: what to make.
    say: gets a line about what is there, and notes.
    progress: see `convert.convert`.

  Returns:
    What was made; None if it was finished already.

  Raises:
    UserError: what the user has to fix.
    OSError: the disk cannot be read or written.
  """
  layout, sources, looked_for = _scan(job)
  names = ()
  if job.maps:
    sources, names = maps.pair(sources, job.src, layout, job.maps)
  _check_match(job, [source.file for source in sources])
  options = dataclasses.replace(job.options, layout=layout)
  notes = folder.annotate(
    sources, labels=job.labels, classes=job.classes, metadata=job.metadata
  )
  stamp = repr([(s.file, s.bytes, s.modified) for s in sources])
  stamp = hashlib.sha256(stamp.encode()).hexdigest()[:16]
  run = {
    "format": 1,
    "source": str(job.src.resolve()),
    "options": dataclasses.asdict(options),
    "classes": list(notes.classes),
    "exclude": sorted(job.exclude),
    "test": job.test,
    "test_match": job.test_match,
    "metadata": job.metadata and files.digest(job.metadata)[:16],
    "maps": job.maps and [str(pathlib.Path(job.maps).resolve()), *names],
  }
  out = job.out.resolve()
  staging = out.with_name(out.name + ".partial")
  data, plan_file = staging / "data", staging / "plan.json"
  if _finished(job.out, run | {"sources": stamp}, job.overwrite):
    with contextlib.suppress(errors.UserError):  # It is another run's.
      if staging.exists():  # This one was killed when all was done.
        with _claimed(staging, run, False):
          shutil.rmtree(staging)
    return None
  with _claimed(staging, run, job.overwrite):
    say(
      f"{job.src}: {len(sources)} {layout}, "
      + (f"{len(notes.classes)} labels" if notes.classes else "no labels")
    )
    for line in notes.remarks:
      say(f"note: {line}")
    if plan_file.exists() and not _can_join(plan_file, staging, data):
      plan_file.unlink()  # The result was removed since.
    if not plan_file.exists():
      shutil.rmtree(data, ignore_errors=True)
      rows = convert.convert(
        job.src, sources, options, notes, staging, job.workers, say, progress
      )
      plan = _plan(rows, notes, job) | {"sources": stamp}
      if job.maps:
        plan["layout"] = names or _numbers(rows)
      if not any(plan["splits"].values()):
        shutil.rmtree(staging, ignore_errors=True)
        raise errors.UserError(_nothing(job.src, looked_for, rows))
      files.write_json(plan_file, plan, indent=None)
    plan = json.loads(plan_file.read_text())
    for line in plan.get("remarks", ()):
      say(f"note: {line}")
    _join(plan, staging, data)
    lengths = _describe(plan, run | {"sources": plan["sources"]}, data)
    _replace(data, job.out, staging)
  shutil.rmtree(staging, ignore_errors=True)
  return Result(
    rows=plan["rows"],
    lengths=lengths,
    classes=notes.classes,
    layout=tuple(plan.get("layout", ())),
    sound=bool(options.sound),
  )


def _scan(job: Job) -> tuple[str, list[folder.Source], str]:
  """Looks at the source folder.

  Returns:
    Its layout, its sources, and in words what was looked for.

  Raises:
    UserError: the job cannot be done.
  """
  if job.options.min_frames > job.options.max_frames:
    raise errors.UserError(
      f"--min-frames {job.options.min_frames} is more than --max-frames"
      f" {job.options.max_frames}: no record could be long enough"
    )
  layout, sources = folder.scan(job.src, job.options.layout, job.exclude)
  if job.options.sound and layout != "videos":
    raise errors.UserError(
      f"--sound: {job.src} holds {layout}, which have no sound; give the videos"
    )
  src, out = job.src.resolve(), job.out.resolve()
  if out == src or src in out.parents or out in src.parents:
    raise errors.UserError(
      f"{job.out} and {job.src} lie in each other: choose another DIR"
    )
  if folder.printable(str(out)) != str(out):
    raise errors.UserError(
      f"{folder.printable(str(out))}: the name is not UTF-8, as the files of a"
      " data set need it: choose another DIR"
    )
  looked_for = {
    "videos": "video files",
    "frames": f"folders of images ({' '.join(folder.IMAGES)})",
    "strips": f"images ({' '.join(folder.IMAGES)})",
  }[layout]
  if not sources:
    but = f", but not {', '.join(job.exclude)}" if job.exclude else ""
    raise errors.UserError(
      f"{job.src} holds no clip: looked for {looked_for} in it and its"
      f" sub-folders{but}. Check SRC, or choose another --layout"
    )
  return layout, sources, looked_for


def _check_match(job: Job, paths: list[str]) -> None:
  """Refuses a `test_match` that leaves one of the splits without a video."""
  held_out = folder.held_out(paths, 0, job.test_match)
  if job.test_match and len(held_out) in (0, len(paths)):
    side = "all" if held_out else "none"
    raise errors.UserError(
      f"--test-match {job.test_match!r} matches {side} of the {len(paths)}"
      f" paths, as {paths[0]}: there would be nothing to"
      f" {'train on' if held_out else 'test with'}"
    )


def _nothing(src, looked_for, rows) -> str:
  """Why there is no clip at all."""
  reasons = [f"  {r['file']}: {r['reason']}" for r in rows[:10]]
  return (
    f"no clip was written: looked for {looked_for} in {src}, found"
    f" {len(rows)}, and none gave a clip:\n" + "\n".join(reasons)
  )


# ------------------------------------------------------------------- folders


def _finished(out: pathlib.Path, run: dict[str, Any], overwrite: bool) -> bool:
  """Whether `out` is this very run; raises when it is in the way."""
  if not out.exists():
    return False
  if out.is_dir() and not any(out.iterdir()):
    return False
  try:
    made = json.loads((out / "prepare.json").read_text())
  except (OSError, ValueError):
    raise errors.UserError(
      f"{out} exists and was not made by this command: choose another DIR, or"
      " move it away (--overwrite replaces prepared data sets only)"
    ) from None
  if overwrite:
    if runs := workdir_lib.inside(out):
      raise errors.UserError(
        f"{out} also holds the checkpoints of a run ({runs[0]}), which"
        " --overwrite would remove: move it away, or choose another DIR"
      )
    return False
  if not _difference(made, run):
    return True
  raise errors.UserError(
    f"{out} holds a data set that was prepared otherwise"
    f" ({_difference(made, run)}): choose another DIR, or --overwrite it"
  )


def _difference(made: dict[str, Any], run: dict[str, Any]) -> str:
  """What of an earlier run is otherwise, '' if nothing is."""
  # An earlier version had fewer options.
  usual = dataclasses.asdict(clips.Options())
  flat = lambda d: {**usual, **d, **d.get("options", {})}
  made, run = flat(made), flat(run)
  keys = [k for k in run if k != "options" and made.get(k) != run[k]]
  return ", ".join(f"{k}: {made.get(k)!r}, now {run[k]!r}" for k in keys)


@contextlib.contextmanager
def _claimed(
  staging: pathlib.Path, run: dict[str, Any], overwrite: bool
) -> Iterator[None]:
  """Makes or takes over the folder of unfinished work, alone."""
  state = staging / "run.json"
  with contextlib.ExitStack() as stack:
    try:
      staging.mkdir(parents=True, exist_ok=True)
      stack.enter_context(files.alone(staging / "lock"))
    except OSError as error:
      if error.errno in FULL:
        raise
      raise errors.UserError(
        f"{staging} cannot be made ({error.strerror}): choose a DIR in a folder"
        " that can be written"
      ) from None
    if state.exists():
      try:
        made = json.loads(state.read_text())
      except ValueError:  # damaged since
        made = {}
      difference = _difference(made, run)
      if difference and not overwrite:
        raise errors.UserError(
          f"{staging} holds an unfinished run with other options"
          f" ({difference}): give those to go on, or --overwrite to begin anew"
        )
      if difference:
        state.unlink()
    if not state.exists():
      # What is here is of nobody knows which run: one was killed at this place,
      # or when it removed this folder.
      for path in staging.iterdir():
        if path.name != "lock":
          shutil.rmtree(path) if path.is_dir() else path.unlink()
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


# ------------------------------------------------------------------ joining


def _plan(
  rows: list[dict[str, Any]], notes: folder.Notes, job: Job
) -> dict[str, Any]:
  """Which source goes to which split and shard.

  The order within a split and, unless it is given, the choice of the test
  videos follow a hash of the file's path: the same for everyone, and spread
  over classes and folders. Of a single video the last clips are held out.
  """
  rows = [dict(row) for row in rows]
  good = {r["file"]: r for r in rows if r["status"] == "ok"}
  test = folder.held_out(
    good, job.test, job.test_match, notes.splits, notes.labels
  )
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
  remarks = []
  if len(good) == 1 and job.test and not (job.test_match or notes.splits):
    [row] = good.values()
    splits, remarks = _divided(row, job.test)
  for row in rows:
    if notes.classes and row["file"] in notes.labels:
      row["label"] = notes.classes[notes.labels[row["file"]]]
  return {"splits": splits, "rows": rows, "remarks": remarks}


def _numbers(rows: list[dict[str, Any]]) -> list[str]:
  """Names of classes that no file names: their numbers, as far as they go."""
  good = [row for row in rows if row["status"] == "ok"]
  ids = {int(number) for row in good for number in row["ids"]}
  last = max(ids - {maps.UNKNOWN}, default=0)
  return [str(number) for number in range(last + 1)]


def _divided(row: dict[str, Any], fraction: float) -> tuple[dict, list[str]]:
  """The splits of a single video, and what to say of them."""
  lengths = row["lengths"]
  num = len(lengths)
  shard = {"files": [row["file"]], "bytes": 0}
  if num == 1:
    return {"train": [shard | {"lengths": lengths}], "test": []}, [
      f"{row['file']} is one clip, so none is held out, and `vidgan train`"
      " needs one of each: give more videos, or shorter clips (--max-frames)"
    ]
  first = num - min(max(round(fraction * num), 1), num - 1)
  splits = {
    "train": [shard | {"lengths": lengths[:first], "skip": 0}],
    "test": [shard | {"lengths": lengths[first:], "skip": first}],
  }
  return splits, [
    f"{row['file']} is the only video: of its {num} clips the last"
    f" {num - first} are held out"
  ]


def _shard_name(split: str, index: int, count: int) -> str:
  return f"{NAME}-{split}.array_record-{index:05d}-of-{count:05d}"


def _can_join(
  plan_file: pathlib.Path, staging: pathlib.Path, data: pathlib.Path
) -> bool:
  """Whether every shard is whole, or all that it is made of is there."""
  try:
    plan = json.loads(plan_file.read_text())
  except ValueError:  # damaged since
    return False
  return all(
    (data / _shard_name(split, i, len(shards))).exists()
    or all(convert.staged(staging, file).exists() for file in shard["files"])
    for split, shards in plan["splits"].items()
    for i, shard in enumerate(shards)
  )


def _join(
  plan: dict[str, Any], staging: pathlib.Path, data: pathlib.Path
) -> None:
  """Staged records -> shards; a staged file goes when its shard is whole."""
  data.mkdir(exist_ok=True)
  files.clear(data)
  for split, shards in plan["splits"].items():
    for i, shard in enumerate(shards):
      path = data / _shard_name(split, i, len(shards))
      staged = [convert.staged(staging, file) for file in shard["files"]]
      if not path.exists():
        skip, count = shard.get("skip", 0), len(shard["lengths"])
        records = itertools.chain.from_iterable(map(convert.records, staged))
        records = itertools.islice(records, skip, skip + count)
        _write_shard(path, records, count, shard["bytes"])
      for file in staged:
        if "skip" not in shard:  # The other split needs it too.
          file.unlink(missing_ok=True)


def _write_shard(
  path: pathlib.Path, records: Iterable[bytes], num: int, size: int
) -> None:
  """Writes a shard of `num` records; OSError if it is not then whole."""
  from array_record.python import array_record_module

  try:
    with files.write(path) as temporary:
      # A compressed image gains nothing from being compressed again.
      writer = array_record_module.ArrayRecordWriter(
        str(temporary), "group_size:1,uncompressed"
      )
      for record in records:
        writer.write(record)
      writer.close()
      reader = array_record_module.ArrayRecordReader(str(temporary))
      count = reader.num_records()
      reader.close()
      if count != num or temporary.stat().st_size < size:
        why = f"holds {count} of {num} records"
        raise OSError(errno.EIO, why, str(path))
  except RuntimeError as error:  # the C++ library's only kind
    codes = [c for c in FULL if os.strerror(c) in str(error)]
    code = codes[0] if codes else errno.EIO
    raise OSError(code, os.strerror(code), str(path)) from error


def _describe(
  plan: dict[str, Any], run: dict[str, Any], data: pathlib.Path
) -> dict[str, list[int]]:
  """Writes TFDS's metadata, the report and `prepare.json`; returns lengths."""
  from vidgan_jax.data import video_folder

  splits = {k: v for k, v in plan["splits"].items() if v}
  features = video_folder.features(
    run["classes"],
    run["options"]["encoding"],
    plan.get("layout"),
    bool(run["options"]["sound"]),
  )
  video_folder.write_metadata(data, NAME, features, splits)
  report = "".join(json.dumps(row) + "\n" for row in plan["rows"])
  files.write_text(data / "prepare_report.jsonl", report)
  lengths = {
    name: [n for s in shards for n in s["lengths"]]
    for name, shards in splits.items()
  }
  made = {**run, "lengths": lengths}
  files.write_json(data / "prepare.json", made, indent=None)
  return lengths
