"""The page on which one paints maps and sees what a run makes of them.

  GET  /              the page
  GET  /api/run       what can be painted
  POST /api/read      {"name", "file"} -> {"map"}: what a picture shows
  POST /api/maps      a drawing -> {"maps"}: of each frame
  POST /api/generate  a drawing -> {"job"}
  GET  /api/job       how far the last video is
  POST /api/cancel    {}
  GET  /videos/JOB    the last video

A drawing is {"seed", "frames", "still", "keys": [[frame, map], ...]}; a map is
the base64 of its classes, bytes (H, W). What lies between the keys is the
task's to say, so `vidgan generate` makes the same of the same drawings.
"""

import base64
from collections.abc import Callable
import contextlib
import dataclasses
import operator
import pathlib
import tempfile
import threading
import time
import traceback
from typing import Any

import numpy as np

from vidgan_jax import errors
from vidgan_jax.video import drawn
from vidgan_jax.video import write
from vidgan_jax.web import server as server_lib

_PAGE = pathlib.Path(__file__).with_name("paint.html")
_SECONDS = 2  # of a video, at first
_FRAMES = 600  # of a video at most,
_PIXELS = 1 << 24  # and pixels of all its maps
_FILE = 1 << 23  # bytes of a picture at most
_SHOWN = 384  # pixels of a video's side, at least
_ANEW = "What came is not a drawing of this run: load the page anew."


@dataclasses.dataclass(kw_only=True)
class Job:
  """One video and how far it is.

  Attributes:
    number: of the job; 0 is what compiles the generator.
    seed: of the noise.
    given: what the sampler is asked with.
    times: (T,) seconds of the frames.
    state: 'waiting', 'drawing', 'done', 'cancelled' or 'failed'.
    frames: made so far.
    seconds: that it took.
    error: for people.
    video: bytes of the mp4.
  """

  number: int
  seed: int
  given: dict[str, np.ndarray]
  times: np.ndarray
  state: str = "waiting"
  frames: int = 0
  seconds: float = 0.0
  error: str = ""
  video: bytes = b""


class _Cancelled(Exception):
  """Nobody waits for the video any more."""


class Studio:
  """A generator that makes one video at a time and stays compiled."""

  def __init__(self, sampler: Any, name: str, first: np.ndarray | None = None):
    """Begins to compile, in a thread of its own.

    Args:
      sampler: `sampler.Sampler` of a run that was trained with maps.
      name: of the run, for people.
      first: (H, W, 3) uint8, the first frame, of a run that continues one.

    Raises:
      UserError: it was trained without maps, or a first frame is not its kind.
    """
    palette = sampler.task.palette
    if not palette:
      raise errors.UserError(
        f"{name} was trained without maps of classes (its task is "
        f"{sampler.task.name!r}), so there is nothing to paint: take a run of "
        "configs/translate.py."
      )
    self.name, self._sampler = name, sampler
    self._first = {} if first is None else {"first": first}
    self._classes = tuple(palette)
    self._palette = np.array(list(palette.values()), np.uint8)
    # Between frames; a run of single ones shows one a second.
    self._gap = float(np.diff([*sampler.times, sampler.times[-1] + 1])[0])
    self._size = size = sampler.resolution
    self._most = max(len(sampler.times), min(_FRAMES, _PIXELS // size**2))
    length = max(len(sampler.times), round(_SECONDS / self._gap))
    self._length = min(length, self._most)
    # Who draws; a cancelled job may still be at it when the next one begins.
    self._busy = threading.Lock()
    self._changing = threading.Lock()
    blank = [(0, np.zeros((size, size), np.uint8))]
    self._last = self._begin(0, *self._asked(0, self._length, False, blank))

  @property
  def facts(self) -> dict[str, Any]:
    """What the page must know."""
    classes = zip(self._classes, self._palette.tolist())
    return {
      "name": self.name,
      "size": self._size,
      "classes": [{"name": k, "colour": colour} for k, colour in classes],
      "fps": 1 / self._gap,
      "frames": self._length,
      "most": self._most,
    }

  @property
  def largest(self) -> int:
    """Bytes of what the page may send."""
    return 4096 + 4 * max(_FILE, self._most * self._size**2) // 3

  def read(self, fields: dict[str, Any]) -> np.ndarray:
    """Classes (H, W) that a picture shows, as `vidgan generate --map` reads it.

    Raises:
      UserError: it is not a picture, or not in the colours of the classes.
    """
    name = pathlib.PurePath(str(fields.get("name"))).name or "drawing.png"
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder, "drawing.png")
      path.write_bytes(_bytes(fields.get("file")))
      try:
        picture = drawn.load(str(path))
      except errors.UserError as error:
        text = errors.text(error).replace(str(path), name)
        raise errors.UserError(text) from None
    height, width = picture.shape[:2]
    if height != width:
      raise errors.UserError(
        f"{name} is {width} x {height} pixels: maps of this run are square, so "
        "cut it first."
      )
    first = self._sampler.times[0]
    keys = [(picture, first, name)]
    wishes = {"map": keys, "still": True, "seconds": (first,)}
    given = self._sampler.ask(1, 0, **wishes, **self._first)
    return _numbers(given)[0]

  def maps(self, fields: dict[str, Any]) -> np.ndarray:
    """Classes (T, H, W) of each frame of a drawing."""
    return _numbers(self._drawing(fields)[1])

  def begin(self, fields: dict[str, Any]) -> int:
    """Begins the video of a drawing; returns its number.

    Raises:
      UserError: nothing is painted, or another video is being made.
    """
    drawing = self._drawing(fields)
    if not _numbers(drawing[1]).any():
      raise errors.UserError(
        "The drawing is empty: paint something first, then press Generate."
      )
    with self._changing:
      last = self._last
      if last.number and last.state in ("waiting", "drawing"):
        raise errors.UserError(
          "A video is being made: wait for it, or press Cancel first."
        )
      self._last = self._begin(last.number + 1, *drawing)
      return self._last.number

  def _drawing(self, fields: dict[str, Any]) -> tuple:
    """What `_asked` returns of the fields that a page has sent."""
    try:
      seed, frames = (operator.index(fields[k]) for k in ("seed", "frames"))
      keys = [
        (operator.index(frame), _bytes(text)) for frame, text in fields["keys"]
      ]
      shape = self._size, self._size
      keys = [
        (frame, np.frombuffer(data, np.uint8).reshape(shape))
        for frame, data in keys
      ]
      if any(m.max() >= len(self._classes) for _, m in keys):
        raise ValueError
      still = bool(fields["still"])
    except (KeyError, TypeError, ValueError):
      raise errors.UserError(_ANEW) from None
    if not 0 <= seed < 2**31:
      raise errors.UserError("The seed is a whole number from 0 to 2147483647.")
    if not 1 <= frames <= self._most:
      raise errors.UserError(f"A video has 1 to {self._most} frames here.")
    if not keys:
      raise errors.UserError("The drawing has no keys: paint something first.")
    return self._asked(seed, frames, still, keys)

  def _asked(self, seed, frames, still, keys) -> tuple:
    """Seed, what the sampler is asked with, and (T,) seconds of the frames."""
    sampler = self._sampler
    at = lambda frame: sampler.times[0] + self._gap * np.asarray(frame)
    keys = [(m, float(at(i)), f"the key at frame {i + 1}") for i, m in keys]
    times = at(range(frames))
    wishes = {"map": keys, "still": still, "seconds": tuple(times)}
    given = sampler.ask(1, seed, **wishes, **self._first)
    return seed, given, times.astype(np.float32)

  def cancel(self) -> dict[str, Any]:
    """Nobody waits for the last video any more; returns its `job`."""
    with self._changing:
      if self._last.state in ("waiting", "drawing"):
        self._last.state = "cancelled"
    return self.job

  @property
  def job(self) -> dict[str, Any]:
    """How far the last video is."""
    job = self._last
    return {
      "job": job.number,
      "state": job.state,
      "frames": job.frames,
      "of": len(job.times),
      "seconds": round(job.seconds, 2),
      "error": job.error,
    }

  def video(self, number: str) -> bytes:
    """The video of a job; b'' where there is none any more."""
    return self._last.video if number == str(self._last.number) else b""

  def _begin(self, number, seed, given, times) -> Job:
    job = Job(number=number, seed=seed, given=given, times=times)
    # Whoever ends the program waits for it: XLA cannot be left in the middle.
    threading.Thread(target=self._make, args=(job,)).start()
    return job

  def _make(self, job: Job) -> None:
    """Makes a video; whatever happens, the job says so."""
    with self._busy, contextlib.suppress(_Cancelled):
      self._move(job, "drawing")
      began = time.perf_counter()
      try:
        job.video = self._draw(job)
        job.seconds = time.perf_counter() - began
        self._move(job, "done")
      except errors.UserError as error:
        job.error = errors.text(error)
        self._move(job, "failed")
      except _Cancelled:
        raise
      except Exception:
        traceback.print_exc()
        job.error = "This is a fault of the program: the terminal says more."
        self._move(job, "failed")

  def _move(self, job: Job, state: str) -> None:
    """The job's next state, unless it is cancelled."""
    with self._changing:
      if job.state == "cancelled":
        raise _Cancelled
      job.state = state

  def _draw(self, job: Job) -> bytes:
    """The mp4, of the pixels that `vidgan generate` makes."""
    given = dict(job.given)
    index = given.pop("index")
    z = self._sampler.noise(job.seed, index, float(job.times.max()))
    scale = max(1, -(-_SHOWN // self._size))
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder, "video.mp4")
      with write.Writer(path, fps=1 / self._gap, scale=scale) as out:
        for part in self._sampler.film(z, given, job.times):
          for frame in part[0]:
            self._move(job, "drawing")
            out.append(frame)
            job.frames += 1
      return path.read_bytes()


def _bytes(text: Any) -> bytes:
  try:
    return base64.b64decode(text, validate=True)
  except (TypeError, ValueError):
    raise errors.UserError(_ANEW) from None


def _numbers(given: dict[str, np.ndarray]) -> np.ndarray:
  """Classes (T, H, W) of the first clip's maps (1, T, H, W, n)."""
  map_ = given["map"][0]
  return np.where(map_.max(-1) > 0.5, map_.argmax(-1), 0).astype(np.uint8)


def _text(array: np.ndarray) -> str:
  return base64.b64encode(array.tobytes()).decode()


class Server(server_lib.Server):
  """Serves one run to this machine alone; use as a context manager."""

  def __init__(self, studio: Studio, port: int):
    """Binds the port; port 0 takes any."""
    self.studio = studio
    super().__init__(_PAGE, _Handler, server_lib.LOOPBACK, port)

  def server_close(self) -> None:
    """Hangs up and stops what is being made."""
    super().server_close()
    self.studio.cancel()


class _Handler(server_lib.Handler):
  server: Server

  @property
  def largest(self) -> int:
    return self.server.studio.largest

  def look(self, path: str) -> None:
    studio = self.server.studio
    if path == "/api/run":
      self.json(studio.facts)
    elif path == "/api/job":
      self.json(studio.job)
    elif path.startswith("/videos/") and (video := studio.video(path[8:])):
      self.send(video, "video/mp4")
    else:
      super().look(path)

  def actions(self) -> dict[str, Callable]:
    studio = self.server.studio
    return {
      "/api/read": lambda fields: {"map": _text(studio.read(fields))},
      "/api/maps": lambda fields: {"maps": _text(studio.maps(fields))},
      "/api/generate": lambda fields: {"job": studio.begin(fields)},
      "/api/cancel": lambda fields: studio.cancel(),
    }
