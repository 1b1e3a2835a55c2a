"""An output in closed segments, from which a crashed run goes on.

The folder OUT.parts (OUT/.parts where OUT is a folder already) holds the
packets of each segment in a file, and manifest.json, which says what is whole:
settings (a digest of all that the output depends on), the frames and the digest
of each segment, and at the end where each input ended. Its second line is the
digest of its first.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import fractions
import functools
import hashlib
import heapq
import io
import itertools
import json
import os
import pathlib
import re
import shutil
import struct
from typing import Any

import av
import numpy as np

from vidgan_jax.store import files
from vidgan_jax.video import images
from vidgan_jax.video import outputs
from vidgan_jax.video import plan
from vidgan_jax.video import read
from vidgan_jax.video import stream

SEGMENT = 240  # frames between two points where a crashed run can go on
_PACKET = struct.Struct("<qqq?q")  # pts, dts, duration, key frame?, bytes


class Segments:
  """The segments of one job; see `job.Job`, whose frames and sink they use."""

  def __init__(self, job: Any, mark: str | None):
    """Nothing is written yet.

    Args:
      job: planned, not begun.
      mark: a file that says of what the output was made, or None.
    """
    self._job, self._mark = job, mark

  def write(self) -> None:
    """Writes closed segments, then joins them; goes on where it stopped."""
    job = self._job
    out = job.out
    if job.encoding.container == "image2":
      out, _ = images.place(out)
    parts = pathlib.Path(f"{out}.parts")
    if os.path.isdir(out):  # it may be a mount point, alone where one may write
      parts = pathlib.Path(out, ".parts")
    parts.mkdir(parents=True, exist_ok=True)
    state = self._state(parts)
    if job.source.alpha and job.encoding.encoder().startswith("libvpx"):
      raise read.VideoError(
        "--resume: segments do not hold the transparency of VP8 and VP9; use"
        " --codec ffv1 in .mkv, or leave --resume out"
      )
    if state["ended"] is None:
      self._encode(parts, state)
    self._repair(parts, state)
    self._join(parts, state)
    if self._mark is not None:
      with _writing(pathlib.Path(self._mark)) as file:
        file.write(self._made())
    shutil.rmtree(parts)

  def are_done(self) -> bool:
    """Whether the output is there, and was made of the same."""
    if self._mark is None:
      return False
    try:
      return pathlib.Path(self._mark).read_bytes() == self._made()
    except OSError:
      return False

  def _made(self) -> bytes:
    """Of what the output was made, and which file it then was."""
    stat = os.stat(self._job.out)
    made = f"{self._settings} {stat.st_size} {stat.st_mtime_ns}"
    return made.encode()

  @functools.cached_property
  def _settings(self) -> str:
    """Digest of all that the output depends on, as it is at the beginning."""
    job = self._job
    options = dataclasses.asdict(job.options) | {"resume": True, "memory": 0}
    del options["overwrite"]
    files = [os.path.abspath(f) for s in job.sources for f in s.files]
    files += [file for _, file in plan.option_files(job.options)]
    stats = [os.stat(file) for file in files]
    stages = re.sub(" at 0x[0-9a-f]+", "", repr(job.stages))
    settings = repr([
      stages, sorted(options.items()), files,
      [(s.st_size, s.st_mtime_ns) for s in stats],
    ])  # fmt: skip
    return hashlib.sha256(settings.encode()).hexdigest()

  def _state(self, parts: pathlib.Path) -> dict[str, Any]:
    """What exists already."""
    job = self._job
    new = {"settings": self._settings, "frames": [], "digests": [],
           "ended": None}  # fmt: skip
    try:
      line, digest = (parts / "manifest.json").read_bytes().split(b"\n")
      if hashlib.sha256(line).hexdigest().encode() != digest:
        raise ValueError
      state = json.loads(line)
    except FileNotFoundError:
      state = new
    except ValueError:
      job.tell(f"{parts / 'manifest.json'}: is damaged, starts anew")
      state = new
    except OSError as error:
      raise read.VideoError(f"{parts}: cannot be read ({error})") from None
    if state["settings"] != self._settings:
      raise read.VideoError(
        f"{parts}: was made from another input or with other options; give the"
        " same ones, or delete this folder to start anew"
      )
    if state["frames"]:
      job.tell(f"{job.out}: goes on at frame {sum(state['frames'])}")
    return state

  def _encode(self, parts: pathlib.Path, state: dict[str, Any]) -> None:
    """Makes the segments that are missing."""
    job = self._job
    skip = sum(state["frames"])
    for runner, tile in zip(job.runners, state.get("tiles", ())):
      runner.tile = tile
    with contextlib.closing(job.frames(skip)) as frames:
      frames = itertools.islice(frames, skip, None)
      for segment in itertools.count(len(state["frames"])):
        piece = itertools.islice(frames, SEGMENT)
        frame = next(piece, None)
        if frame is None:
          break
        job.summary.frames = sum(state["frames"])
        piece = itertools.chain([frame], piece)
        self._segment(parts / f"{segment:06d}", piece, job)
        done = job.summary.frames - sum(state["frames"])
        digest = files.digest(parts / f"{segment:06d}")
        state |= {
          "frames": [*state["frames"], done],
          "digests": [*state["digests"], digest],
          "tiles": [runner.tile for runner in job.runners],
          "shape": None if frame.image is None else frame.image.shape,
          "size": frame.picture and [frame.picture.width, frame.picture.height],
          "deep": frame.image is not None and frame.image.dtype == np.uint16,
          "alpha": frame.alpha is not None,
        }
        self._note(parts, state)
    state["ended"] = [str(end) for end in job.pieces.ends]
    self._note(parts, state)

  def _segment(
    self, path: pathlib.Path, frames: Iterable[stream.Frame], job: Any
  ) -> None:
    """Writes the packets of one segment."""
    frames = iter(frames)
    first = next(frames)
    sink = job.open(io.BytesIO(), first)
    with _writing(path) as file:
      for frame in itertools.chain([first], frames):
        _save(file, sink.encode(frame))
        job.wrote()
      _save(file, sink.encode(None))
    sink.abandon()

  def _repair(self, parts: pathlib.Path, state: dict[str, Any]) -> None:
    """Makes those segments anew whose bits are no longer those written."""
    for segment, count in enumerate(state["frames"]):
      path = parts / f"{segment:06d}"
      if path.exists() and files.digest(path) == state["digests"][segment]:
        continue
      self._job.tell(f"{path}: is damaged, its {count} frames are made anew")
      job = self._job.again()  # The inputs of this one are read to their ends.
      for runner, tile in zip(job.runners, state["tiles"]):
        runner.tile = tile
      skip = sum(state["frames"][:segment])
      with contextlib.closing(job.frames(skip)) as frames:
        self._segment(path, itertools.islice(frames, skip, skip + count), job)
      state["digests"][segment] = files.digest(path)
      self._note(parts, state)

  def _note(self, parts: pathlib.Path, state: dict[str, Any]) -> None:
    line = json.dumps(state).encode()
    with _writing(parts / "manifest.json") as file:
      file.write(line + b"\n" + hashlib.sha256(line).hexdigest().encode())

  def _join(self, parts: pathlib.Path, state: dict[str, Any]) -> None:
    """Puts segments and the copied streams together."""
    job = self._job
    job.summary.frames = sum(state["frames"])
    job.pieces.begin([fractions.Fraction(end) for end in state["ended"]])
    frame = stream.Frame(time=0, duration=0)
    if state["shape"] is not None:
      kind = np.uint16 if state["deep"] else np.uint8
      frame.image = np.zeros(state["shape"], kind)
      frame.alpha = frame.image[..., 0] if state["alpha"] else None
    elif state["size"]:
      frame.picture = av.VideoFrame(*state["size"])

    def pictures():
      for segment in range(len(state["frames"])):
        for packet in _load(parts / f"{segment:06d}", job.timing.base):
          yield packet.dts * job.timing.base, None, packet

    with outputs.place(job.out, job.encoding.container) as path:
      sink = job.open(path, frame, job.pieces.copies)
      try:
        both = heapq.merge(
          pictures(), job.pieces.packets(), key=lambda item: item[0]
        )
        for _, index, packet in both:
          sink.append(packet, index)
        sink.close()
      except BaseException:
        sink.abandon()
        raise


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Iterator[Any]:
  """A file that is there, and on the disk, when the block has ended."""
  try:
    with files.write(path) as temporary, open(temporary, "wb") as file:
      yield file
  except OSError as error:
    raise read.VideoError(
      f"{path}: cannot be written ({read.reason(error)})"
    ) from None


def _save(file: Any, packets: Iterable[Any]) -> None:
  for p in packets:
    data = bytes(p)
    file.write(
      _PACKET.pack(p.pts, p.dts, p.duration or 0, p.is_keyframe, len(data))
    )
    file.write(data)


def _load(path: pathlib.Path, base: fractions.Fraction) -> Iterator[Any]:
  with open(path, "rb") as file:
    while head := file.read(_PACKET.size):
      pts, dts, duration, key, size = _PACKET.unpack(head)
      packet = av.Packet(file.read(size))
      packet.pts, packet.dts, packet.duration = pts, dts, duration
      packet.time_base, packet.is_keyframe = base, key
      yield packet
