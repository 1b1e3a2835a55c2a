"""Source videos become files of records, by worker processes.

Each worker turns one source at a time into a file of records; the parent notes
what became of it in a manifest. A run that is killed goes on from there, and a
video that crashes or stalls its decoder costs only itself.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
from multiprocessing import connection
import os
import pathlib
import signal
import struct
import time
from typing import Any

from vidgan_jax import errors
from vidgan_jax.store import files
from vidgan_jax.video import clips
from vidgan_jax.video import folder
from vidgan_jax.video import read

STALL = 300  # seconds without a new frame after which a worker is given up
RETRIES = 2  # of a source whose worker was killed from outside

Row = dict[str, Any]  # what became of a source: a line of the manifest
# Is called now and then with all sources, the rows so far, the frames that
# running workers have decoded, and whether it is the last call.
Progress = Callable[[list[folder.Source], dict[str, Row], int, bool], None]


def convert(
  root: pathlib.Path,
  sources: list[folder.Source],
  options: clips.Options,
  notes: folder.Notes,
  staging: pathlib.Path,
  count: int,
  say: Callable[[str], None],
  progress: Progress,
) -> list[Row]:
  """Turns sources into files of records, see `staged`.

  Args:
    root: folder of the sources.
    sources: all of them; those that are done are left out.
    options: how videos become records.
    notes: labels and captions; with labels, sources without one are skipped.
    staging: folder of the files and of the manifest.
    count: most processes at a time.
    say: gets a line if some sources are done already.
    progress: see there.

  Returns:
    A row a source, in their order.

  Raises:
    OSError: a file cannot be written.
    UserError: workers do not start.
  """
  manifest = staging / "manifest.jsonl"
  rows = _read_manifest(manifest, staging, sources)
  if rows:
    say(f"going on: {len(rows)} of {len(sources)} are done")
  for source in sources:
    labelled = not notes.classes or source.file in notes.labels
    if not labelled and source.file not in rows:
      rows[source.file] = _skipped(source, "no label")
  todo = [s for s in sources if s.file not in rows]
  todo.reverse()  # Popped from the end.
  progress(sources, rows, 0, False)
  cores = os.cpu_count() or 1
  threads = max(1, min(cores // max(1, min(count, len(todo))), 8))
  workers: list[_Worker] = []
  kills = collections.Counter()  # by source; None: before there was one
  try:
    with open(manifest, "a") as log:
      while todo or any(w.source for w in workers):
        busy = sum(w.source is not None for w in workers)
        while len(workers) < min(count, len(todo) + busy):
          workers.append(_Worker(str(root), options, staging, threads))
        for worker in workers:
          if worker.ready and worker.source is None and todo:
            source = todo.pop()
            worker.give(source, extra(source, notes))
        for worker in _heard(workers):
          source, row = worker.source, worker.hear(staging)
          if worker.lost:
            workers.remove(worker)
            kills[source] += worker.killed
            if worker.killed and kills[source] <= RETRIES:
              todo[:0] = [source] if source else []
              continue
            row = worker.lost_row()
          if row is not None:
            rows[row["file"]] = row
          if row is not None and not worker.lost:
            # A lost worker may fare better when the run is begun again.
            log.write(json.dumps(row) + "\n")
            log.flush()
        progress(sources, rows, sum(w.frames for w in workers), False)
    progress(sources, rows, 0, True)
  finally:
    for worker in workers:
      worker.stop()
    files.clear(staging)
  return [rows[s.file] for s in sources]


def staged(staging: pathlib.Path, file: str) -> pathlib.Path:
  """Where the records of a source are."""
  name = hashlib.sha256(file.encode()).hexdigest()[:32]
  return staging / f"{name}.records"


def records(path: pathlib.Path) -> Iterator[bytes]:
  """Reads such a file."""
  with open(path, "rb") as file:
    while head := file.read(8):
      yield file.read(struct.unpack("<Q", head)[0])


def extra(source: folder.Source, notes: folder.Notes) -> dict[str, Any]:
  """What every record of a source holds beside its frames."""
  features = {"caption": notes.captions.get(source.file, "")}
  if notes.classes:
    features["label"] = notes.labels[source.file]
  return features


# ------------------------------------------------------------------- manifest


def _row(
  source: folder.Source,
  tally: clips.Tally,
  reason: str,
  lengths: list[int],
  size: int,
) -> Row:
  return {
    "file": source.file,
    "status": "ok" if lengths else "skipped",
    "reason": "" if lengths else reason,
    "lengths": lengths,
    "bytes": size,
    "source_bytes": source.bytes,
    "modified": source.modified,
    **dataclasses.asdict(tally),
  }


def _skipped(source: folder.Source, reason: str) -> Row:
  return _row(source, clips.Tally(), reason, [], 0)


def _read_manifest(
  path: pathlib.Path, staging: pathlib.Path, sources: list[folder.Source]
) -> dict[str, Row]:
  """Rows of sources that are done and have not changed since."""
  if not path.exists():
    return {}
  known = {s.file: (s.bytes, s.modified) for s in sources}
  rows = {}
  for line in path.read_text().splitlines():
    try:
      row = json.loads(line)
      key = row["source_bytes"], row["modified"]
    except (ValueError, KeyError):  # The line that a killed run was writing.
      continue
    if known.get(row["file"]) == key and (
      row["status"] == "skipped" or staged(staging, row["file"]).exists()
    ):
      rows[row["file"]] = row
  text = "".join(json.dumps(row) + "\n" for row in rows.values())
  files.write_text(path, text)
  return rows


# -------------------------------------------------------------------- workers


class _Worker:
  """A worker process: its source, and when it was last heard of.

  Attributes:
    ready: whether it takes sources.
    source: what it works at, or None.
    frames: decoded of this source.
    lost: whether it has ended by itself, or was given up.
    killed: whether it was lost by a signal from outside.
  """

  def __init__(self, *job):
    context = multiprocessing.get_context("spawn")
    self.pipe, theirs = context.Pipe()
    self.process = context.Process(
      target=_work, args=(theirs, *job), daemon=True
    )
    # A Ctrl-C reaches the whole group of processes: it is the parent's.
    handler = signal.getsignal(signal.SIGINT)
    with contextlib.suppress(ValueError):  # Not in the main thread.
      signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
      self.process.start()
    finally:
      with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, handler)
    theirs.close()
    self.ready = self.lost = self.killed = self._silent = False
    self.source: folder.Source | None = None
    self.frames = 0
    self._heard = time.monotonic()

  @property
  def stalled(self) -> bool:
    """Whether it is at work and has not been heard of for too long."""
    silent = time.monotonic() - self._heard > STALL
    return self.source is not None and silent

  def give(self, source: folder.Source, extra: dict[str, Any]) -> None:
    self.source, self.frames, self._heard = source, 0, time.monotonic()
    with contextlib.suppress(OSError):  # Dead: `hear` sees it.
      self.pipe.send((source, extra))

  def hear(self, staging: pathlib.Path) -> Row | None:
    """Takes a message, or the silence; returns the row of a source it ends.

    Raises:
      OSError: of the worker's: its file cannot be written.
    """
    kind, value = "stalled", None
    if self.pipe.poll():
      try:
        kind, value = self.pipe.recv()
      except (EOFError, OSError):
        kind = "dead"
    self._heard = time.monotonic()
    if kind == "ready":
      self.ready = True
    elif kind == "frames":
      self.frames = value
    elif kind == "done":
      self.source, self.frames = None, 0
      return value
    elif kind == "full":
      raise OSError(*value)
    else:
      self.stop()
      self.lost, self._silent = True, kind == "stalled"
      signals = -signal.SIGKILL, -signal.SIGTERM
      self.killed = not self._silent and self.process.exitcode in signals
      if self.source:
        files.clear(staging, staged(staging, self.source.file).name)
    return None

  def lost_row(self) -> Row:
    """The row of the source that a lost worker was at.

    Raises:
      UserError: it ended before it had a source.
    """
    code = self.process.exitcode
    if self.source is None:
      raise errors.UserError(
        f"a worker process ended by itself (exit code {code}): see the"
        " message above, and start the command from a script or a shell"
      )
    if self._silent:
      reason = f"no new frame for {STALL} s"
    elif self.killed:
      reason = f"{RETRIES + 1} workers were killed at it (out of memory?)"
    else:
      reason = f"the decoder crashed (exit code {code})"
    return _skipped(self.source, reason)

  def stop(self) -> None:
    self.pipe.close()
    self.process.join(0.2)
    if self.process.is_alive():
      self.process.kill()
      self.process.join()


def _heard(workers: list[_Worker]) -> list[_Worker]:
  """Waits a while; those with a message, and those that are stalled."""
  ready = connection.wait([w.pipe for w in workers], timeout=0.5)
  return [w for w in workers if w.pipe in ready or w.stalled]


# ------------------------------------------------------------ in the processes


class _NoClip(Exception):
  """A source gave no clip: its file of records is not kept."""


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
  # The parent may be done, or gone, whenever a worker turns to it.
  with contextlib.suppress(EOFError, ConnectionError):
    pipe.send(("ready", None))
    while True:
      source, extra = pipe.recv()
      try:
        row = _convert(pipe, root, source, extra, options, staging, threads)
      except ConnectionError:
        raise
      except OSError as error:  # Of the staged file: the reader has its own.
        pipe.send(("full", (error.errno, error.strerror, error.filename)))
        return
      pipe.send(("done", row))


def _convert(pipe, root, source, extra, options, staging, threads) -> Row:
  """Turns one source into a file of records; returns its row."""
  tally = clips.Tally()
  lengths, size, reason = [], 0, ""
  said = time.monotonic()

  def beat():
    nonlocal said
    if time.monotonic() - said > 0.5:
      said = time.monotonic()
      pipe.send(("frames", tally.frames))

  pieces = clips.records(root, source, options, tally, beat, threads)
  path = staged(staging, source.file)
  with contextlib.suppress(_NoClip), files.write(path) as temporary:
    with open(temporary, "wb") as file:
      try:
        for record in pieces:
          texts = clips.serialize(record | extra)
          count = sum(map(len, texts))
          file.write(struct.pack("<Q", count))
          file.writelines(texts)
          lengths.append(len(record["frames"]))
          size += count
      except read.VideoError as error:
        reason = str(error)
        if isinstance(error, clips.Refused):
          lengths, size = [], 0
      except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        reason = f"unexpected {type(error).__name__}: {error}"
      except MemoryError:
        reason = "not enough memory"
    if tally.damaged > tally.frames > 0:
      # What a decoder makes of a broken or encrypted stream is not video.
      lengths, size = [], 0
      reason = (
        f"more of it is damaged ({tally.damaged} packets) than can be decoded"
        f" ({tally.frames} frames)"
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
  prefix = os.path.join(root, source.path) + ": "
  tally.ended = folder.printable(tally.ended.removeprefix(prefix))
  reason = folder.printable(reason.removeprefix(prefix))
  return _row(source, tally, reason, lengths, size)
