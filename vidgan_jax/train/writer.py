"""What a run writes: log.txt, metrics.jsonl, samples/ and TensorBoard files.

`metrics.jsonl` has one JSON object a line and a step, in the order of the
steps. All that changes it goes through `add`, which adds to its end or replaces
it as a whole, under a lock: a run may write while `vidgan evaluate` does, and
either may be killed. A run that goes on at step k first drops the lines of
later steps; what its next line is a mean of stands in the checkpoint. So the
lines are those of a run that was not disturbed. Numbers that are not finite,
which JSON does not know, are the texts "NaN", "Infinity" and "-Infinity".

TensorBoard files are written through CLU, which needs TensorFlow, whose import
takes seconds. A thread imports it when there is first something to write, and
does all other slow writing too. Without the two libraries everything else is
written, and one line of the log says so.

TensorBoard has no summaries of videos, but plays a GIF in an image summary.

Only process 0 writes; in others all calls return at once.
"""

from collections.abc import Callable
from collections.abc import Mapping
import concurrent.futures
import contextlib
import json
import logging
from logging import handlers
import math
import os
import pathlib
import re
import shutil
import sys
import threading
import time
from typing import Any

import jax
import numpy as np

from vidgan_jax import errors
from vidgan_jax import pixels
from vidgan_jax.data import pipeline
from vidgan_jax.store import files
from vidgan_jax.store import workdir as workdir_lib
from vidgan_jax.video import write

_LOGGER = logging.getLogger("vidgan_jax")


class MetricsError(errors.UserError):
  """The workdir cannot be written."""


class Writer:
  """Writes what a run reports; use as a context manager or call `close`."""

  def __init__(
    self, workdir: str | os.PathLike[str], *, tensorboard: bool = True
  ):
    """Opens the files.

    Args:
      workdir: folder of the run; must exist.
      tensorboard: whether to write TensorBoard files.

    Raises:
      MetricsError: the folder cannot be written.
    """
    self._workdir = pathlib.Path(workdir)
    self._main = jax.process_index() == 0
    self._batch, self._every, self._total = 0, 1, 0
    self._sums: dict[str, tuple[float, int]] = {}  # since the last line
    self._progress = _Progress()
    if not self._main:
      return
    self._thread = _Thread()
    self._log = _Log(self._workdir / "log.txt", self._progress)
    self._board = _Board(self._workdir, self.log) if tensorboard else None

  def __enter__(self) -> "Writer":
    return self

  def __exit__(self, kind, error, trace) -> None:
    if kind is None:
      self.close()
      return
    with contextlib.suppress(Exception):  # The first error says more.
      self.close()

  def log(self, text: str) -> None:
    """Writes a line, or several, to terminal and log.txt; also when closed."""
    if self._main:
      self._log.write(text)

  # ------------------------------------------------------------- numbers

  @property
  def sums(self) -> dict[str, tuple[float, int]]:
    """What `start` needs when the run goes on: JSON values."""
    return files.plain(self._sums)

  def start(
    self,
    step: int,
    total: int,
    batch: int,
    every: int = 1,
    sums: Mapping[str, Any] | None = None,
  ) -> None:
    """Begins the loop; lines of steps after `step` are dropped.

    Args:
      step: steps done before.
      total: steps of the whole run.
      batch: clips in a step.
      every: a line for each multiple of this and for the last step; 0: for the
        last alone.
      sums: `sums` as it was after `step`; None: empty.
    """
    self._batch, self._every, self._total = batch, every, total
    self._sums = {name: (float(x), n) for name, (x, n) in (sums or {}).items()}
    self._progress.start(step, total, batch)
    if self._main:
      _drop_after(workdir_lib.metrics(self._workdir), step)

  def step(self, step: int, metrics: Mapping[str, Any]) -> dict[str, float]:
    """Takes the metrics of one step; waits until the device has them.

    Call it for step n after step n+1 was dispatched: the device is never idle.

    A line holds for 'g/...' and 'd/...' the mean over the steps since the line
    before (over those that have it: a penalty may be rare), and for all others
    the last value.

    Args:
      step: steps done, this one included.
      metrics: name -> scalar arrays.

    Returns:
      The values of this step alone, as floats.
    """
    values = {k: float(v) for k, v in jax.device_get(dict(metrics)).items()}
    if not self._main:
      return values
    for name, value in values.items():
      mean = name.startswith(("g/", "d/"))
      total, num = self._sums.get(name, (0.0, 0)) if mean else (0.0, 0)
      self._sums[name] = total + value, num + 1
    self._progress.step(step, values)
    regular = self._every > 0 and step % self._every == 0
    if regular or step == self._total:
      row = {name: total / num for name, (total, num) in self._sums.items()}
      if self._progress.rate:
        row["steps_per_second"] = self._progress.rate
      self.scalars(step, row)
    if regular:  # Else a longer run goes on with the sums.
      self._sums = {}
    return values

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Writes numbers of a step; a second call for the step adds to its line.

    Args:
      step: steps done.
      values: name -> number.
    """
    if not self._main:
      return
    self._thread.check()
    values = {name: float(value) for name, value in values.items()}
    kimg = {"kimg": step * self._batch / 1000} if self._batch else {}
    add(self._workdir, step, kimg | values)
    self._to_board(lambda board: board.write_scalars(step, values))

  def pause_ended(self) -> None:
    """Leaves the time since the last step out of the rate."""
    self._progress.pause_ended()

  # ------------------------------------------------------------ pictures

  def videos(
    self, step: int, videos: Mapping[str, np.ndarray], fps: float = 10.0
  ) -> None:
    """Writes clips to samples/ and TensorBoard.

    `samples/STEP.gif` plays the clips in a grid, `samples/STEP.png` has a film
    strip a clip, of the first eight; names other than 'samples' are
    `samples/NAME_STEP`.

    Args:
      step: steps done.
      videos: name -> (N, T, H, W, C) uint8, C 1 or 3.
      fps: frames per second of the GIF.
    """
    if not self._main:
      return
    for name, video in videos.items():
      video = np.asarray(video)
      if video.ndim != 5 or video.dtype != np.uint8 or not video.size:
        raise ValueError(
          f"clips of {name!r} must be (N, T, H, W, C) uint8 and not empty, "
          f"but are {video.shape} {video.dtype}"
        )
      if video.shape[-1] != 3:
        video = np.repeat(video[..., :1], 3, -1)
      self._thread.submit(
        lambda name=name, video=video: self._pictures(step, name, video, fps)
      )

  def _pictures(
    self, step: int, name: str, video: np.ndarray, fps: float
  ) -> None:
    """Runs in the thread."""
    path = workdir_lib.sample(self._workdir, step, name)
    # Small clips are enlarged, without blur, to be seen.
    scale = max(1, 96 // max(video.shape[2:4]))
    moving = write.grid(video)
    strips = np.concatenate([write.strip(clip) for clip in video[:8]])
    with _reported(path.parent):
      write.write(f"{path}.gif", moving, fps, scale=scale)
      write.write(f"{path}.png", strips[None], scale=scale)
    gif = pathlib.Path(f"{path}.gif").read_bytes()
    size = [scale * n for n in moving.shape[1:3]]
    self._to_board(lambda board: board.write_gif(step, name, gif, size))
    self._to_board(
      lambda board: board.write_images(step, {f"{name}_strip": strips[None]})
    )

  # -------------------------------------------------------------- thread

  def _to_board(self, job: Callable[[Any], None]) -> None:
    """Runs `job(board)` in the thread."""
    if self._board is not None:
      self._thread.submit(lambda: self._board(job))

  def close(self) -> None:
    """Writes what is left; raises what could not be written."""
    self._progress.end()
    if not self._main:
      return
    try:
      self._thread.close()
    finally:
      if self._board is not None:
        self._board.close()
      self._log.close()


class _Thread:
  """One thread that does what is slow, in order."""

  def __init__(self):
    self._pool = concurrent.futures.ThreadPoolExecutor(1, "metrics")
    self._jobs: list[concurrent.futures.Future] = []

  def submit(self, job: Callable[[], None]) -> None:
    """Runs a job later; at once if the caller is the thread."""
    if threading.current_thread().name.startswith("metrics"):
      job()
      return
    self.check()
    # On a slow disk, waiting clips would fill the memory.
    while len(self._jobs) > 16:
      self._jobs[0].exception()
      self.check()
    self._jobs.append(self._pool.submit(job))

  def check(self) -> None:
    """Raises what went wrong in a job that has ended."""
    done = [job for job in self._jobs if job.done()]
    self._jobs = [job for job in self._jobs if not job.done()]
    for job in done:
      job.result()

  def close(self) -> None:
    """Waits for all jobs; raises as `check`."""
    self._pool.shutdown(wait=True)
    self.check()


# ---------------------------------------------------------------- progress


class _Progress:
  """The line that says how far, how fast and how long still.

  On a terminal one line is rewritten; elsewhere there is one every ten seconds.
  """

  def __init__(self):
    self._total = 0
    self._shown = 0.0  # when
    self._width = 0  # of the line on the terminal, 0: none
    self.rate = 0.0  # steps per second, pauses left out

  def start(self, step: int, total: int, batch: int) -> None:
    self._total, self._batch = total, batch
    self._mark = time.perf_counter(), step
    self._last = step

  def pause_ended(self) -> None:
    # The rate is measured anew from here.
    self._mark = time.perf_counter(), self._last

  def step(self, step: int, values: Mapping[str, float]) -> None:
    if not self._total or jax.process_index():
      return
    now = time.perf_counter()
    then, first = self._mark
    if now - then > 1.0 and step > first:
      self.rate = (step - first) / (now - then)
      if now - then > 20.0:  # forget how fast it was long ago
        self._mark = now, step
    self._last = step
    terminal = sys.stdout.isatty()
    wait = 0.2 if terminal else 10.0  # seconds
    if now - self._shown < wait and step < self._total:
      return
    self._shown = now
    line = self._line(step, values)
    if terminal:
      line = line[: shutil.get_terminal_size().columns - 1]
      print(f"\r{line:<{self._width}}", end="", flush=True)
      self._width = len(line)
    else:
      print(line, flush=True)

  def _line(self, step: int, values: Mapping[str, float]) -> str:
    parts = [
      f"step {step}/{self._total}",
      f"{step * self._batch / 1000:.1f} kimg",
    ]
    if self.rate:
      left = round((self._total - step) / self.rate)
      rate = self.rate
      parts += [
        f"{rate:.2f} steps/s" if rate < 10 else f"{rate:.0f} steps/s",
        f"ETA {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}",
      ]
    keys = [k for k in ("d/loss", "g/loss") if k in values]
    parts += [f"{k} {values[k]:.3f}" for k in keys]
    if values.get("skipped"):
      parts.append(f"skipped {values['skipped']:.0f}")
    return "  ".join(parts)

  def clear(self) -> None:
    """Makes room for another line."""
    if self._width:
      print("\r" + " " * self._width + "\r", end="", flush=True)
      self._width = 0

  def end(self) -> None:
    if self._width:
      print(flush=True)
      self._width = 0


# --------------------------------------------------------------------- log


class _Log:
  """log.txt and the terminal, as handlers of this package's logger.

  Warnings of other libraries go there too.
  """

  def __init__(self, path: pathlib.Path, progress: _Progress):
    self._path = path
    self._file = _File(_open(path, "a"))
    self._file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    self._undo = contextlib.ExitStack()
    self._undo.callback(self._file.stream.close)
    self._undo.callback(_LOGGER.setLevel, _LOGGER.level)
    self._undo.callback(setattr, _LOGGER, "propagate", _LOGGER.propagate)
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    self._handle(_LOGGER, _Screen(progress))
    self._handle(_LOGGER, self._file)
    root = logging.getLogger()
    if not root.handlers:
      self._handle(root, _Screen(progress), logging.WARNING)
    # The file's own handler takes all levels: another one hands it these.
    warnings = handlers.MemoryHandler(1, target=self._file)
    self._handle(root, warnings, logging.WARNING)
    self._open = True

  def _handle(self, logger, handler, level=logging.NOTSET) -> None:
    handler.setLevel(level)
    logger.addHandler(handler)
    self._undo.callback(logger.removeHandler, handler)

  def write(self, text: str) -> None:
    if self._open:
      _LOGGER.info("%s", text)
      return
    print(text, flush=True)
    with _open(self._path, "a") as file:
      file.write(f"{text}\n")

  def close(self) -> None:
    self._open = False
    self._undo.close()


class _File(logging.StreamHandler):
  """Raises what keeps it from writing, which the standard one prints."""

  def handleError(self, record: logging.LogRecord) -> None:
    """Called where an error is being handled."""
    with _reported(self.stream.name):
      if isinstance(sys.exc_info()[1], OSError):
        raise
    super().handleError(record)


class _Screen(logging.Handler):
  """Prints messages above the progress line."""

  def __init__(self, progress: _Progress):
    super().__init__()
    self._progress = progress

  def emit(self, record: logging.LogRecord) -> None:
    self._progress.clear()
    text = record.getMessage()
    if record.levelno >= logging.WARNING:
      text = f"{record.levelname.capitalize()}: {text}"
    print(text, flush=True)


# ------------------------------------------------------------- TensorBoard


class _Board:
  """TensorBoard files; all but the constructor runs in the thread."""

  def __init__(self, workdir: pathlib.Path, log: Callable[[str], None]):
    self._workdir, self._log = workdir, log
    self._board: Any = None
    self._missing = False  # the libraries

  def __call__(self, job: Callable[[Any], None]) -> None:
    """Runs `job(board)` with CLU's writer, if there is one."""
    if self._board is None and not self._missing:
      try:
        self._board = _board(str(self._workdir))
      except ImportError as e:
        self._missing = True
        self._log(
          f"TensorBoard files are not written: {e}. Install them with `pip "
          "install 'vidgan_jax[tf]'`; metrics.jsonl and samples/ have the same."
        )
    if self._board is not None:
      with _reported(self._workdir):
        job(self._board)
        self._board.flush()

  def close(self) -> None:
    if self._board is not None:
      with contextlib.suppress(Exception):
        self._board.close()


def _board(workdir: str) -> Any:
  """CLU's writer, with moving pictures."""
  try:
    tf = pipeline.import_tensorflow()
  except errors.UserError as e:
    raise ImportError("TensorFlow cannot be imported") from e
  from clu import metric_writers
  from tensorboard.plugins.image import metadata

  class Board(metric_writers.SummaryWriter):
    """CLU's `write_videos` writes nothing; this does."""

    def write_gif(self, step, name, gif, size):
      height, width = size
      data = metadata.create_summary_metadata(display_name=None, description="")
      with self._summary_writer.as_default():
        tf.summary.write(
          name,
          tf.constant([str(width).encode(), str(height).encode(), gif]),
          step=step,
          metadata=tf.compat.v1.SummaryMetadata.FromString(
            data.SerializeToString()
          ),
        )

  return Board(workdir)


# ----------------------------------------------------------------- helpers


def read(path: str | os.PathLike[str]) -> list[dict[str, float]]:
  """Reads a `metrics.jsonl`, or the one of a workdir: one row a step."""
  path = pathlib.Path(path)
  if path.is_dir():
    path = workdir_lib.metrics(path)
  return [
    {
      name: float(value) if isinstance(value, str) else value
      for name, value in row.items()
    }
    for row in _rows(path.read_bytes()).values()
  ]


def add(
  workdir: str | os.PathLike[str], step: int, values: Mapping[str, float]
) -> None:
  """Adds numbers of a step to `metrics.jsonl`; others may do so meanwhile.

  Args:
    workdir: of the run.
    step: steps done.
    values: name -> number; of two of one name the later one counts.

  Raises:
    MetricsError: it cannot be written.
  """
  path = workdir_lib.metrics(workdir)
  row = {"step": step}
  row |= {name: files.plain(float(value)) for name, value in values.items()}
  with _reported(path), files.locked(path) as file:
    # The last line, if it is whole, says whether this step comes after all.
    file.seek(max(0, file.seek(0, os.SEEK_END) - 2**16))
    *_, last, rest = [b"", b""] + file.read().split(b"\n")
    if not rest and max(_rows(last), default=-1) < step:
      file.write(_text({step: row}).encode())
      return
    file.seek(0)
    rows = _rows(file.read())
    _replace(path, rows | {step: rows.get(step, {}) | row})


def _drop_after(path: pathlib.Path, step: int) -> None:
  """Drops the lines of later steps, and one that a crash cut short."""
  with _reported(path), files.locked(path) as file:
    file.seek(0)
    rows = _rows(file.read())
    _replace(path, {k: row for k, row in rows.items() if k <= step})


def _replace(path: pathlib.Path, rows: Mapping[int, Any]) -> None:
  files.write_text(path, _text(dict(sorted(rows.items()))))


def _rows(content: bytes) -> dict[int, dict[str, Any]]:
  """Lines as they stand in the file -> step -> row, the first step first.

  Earlier versions wrote a step in several lines; one may be cut short.
  """
  rows: dict[int, dict[str, Any]] = {}
  for line in content.split(b"\n"):
    # What another program wrote is dropped, as is what JSON does not know.
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
      row = json.loads(line)
      if isinstance(row["step"], int) and _text({0: row}):
        rows.setdefault(row["step"], {}).update(row)
  return dict(sorted(rows.items()))


def _text(rows: Mapping[int, Any]) -> str:
  return "".join(
    json.dumps(row, allow_nan=False) + "\n" for row in rows.values()
  )


def overview(params: Any, name: str) -> str:
  """A table of a network's parameters, a row for each of its parts.

  Args:
    params: nested dict of arrays or ShapeDtypeStructs.
    name: of the network.
  """
  leaves = jax.tree_util.tree_leaves_with_path(params)
  total = sum(leaf.size for _, leaf in leaves)
  rows: dict[str, list[Any]] = {}
  for path, leaf in leaves:
    part = jax.tree_util.keystr(path[:1], simple=True)
    row = rows.setdefault(part, [0, 0, ()])
    row[0] += 1
    row[1] += leaf.size
    row[2] = max(row[2], leaf.shape, key=math.prod)
  width = max([len(name), *map(len, rows)], default=0) + 2
  lines = [f"{name:<{width}}{'arrays':>7}{'parameters':>13}  largest"]
  natural = lambda part: [
    int(x) if x.isdigit() else x for x in re.split(r"(\d+)", part)
  ]
  for part in sorted(rows, key=natural):
    arrays, size, shape = rows[part]
    shape = " x ".join(map(str, shape)) or "scalar"
    lines.append(f"{part:<{width}}{arrays:>7}{size:>13,}  {shape}")
  lines.append(f"{'total':<{width}}{len(leaves):>7}{total:>13,}")
  return "\n".join(lines)


def stack(clips: list[Any]) -> np.ndarray:
  """Makes one array of examples, for `Writer.videos`.

  Args:
    clips: examples, dicts with `video` (T, H, W, C), uint8 or float32 in
      [-1, 1]; or such arrays.

  Returns:
    uint8 (N, T, H, W, C), cut to the shortest and smallest.
  """
  videos = [
    np.asarray(c["video"] if isinstance(c, Mapping) else c) for c in clips
  ]
  t, h, w = np.min([v.shape[:3] for v in videos], axis=0)
  videos = np.stack([v[:t, :h, :w] for v in videos])
  if videos.dtype == np.uint8:
    return videos
  return pixels.to_bytes(videos)


def _open(path: pathlib.Path, mode: str) -> Any:
  with _reported(path):
    return path.open(mode)


@contextlib.contextmanager
def _reported(path: Any):
  """Turns an error of the disk into a sentence."""
  try:
    yield
  except OSError as e:
    raise MetricsError(
      f"{path} cannot be written: {e.strerror or e}. Make room or change "
      "its rights, and start the same command again: the run goes on from its "
      "last checkpoint."
    ) from e
