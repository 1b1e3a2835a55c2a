"""What `vidgan process` costs besides its stages, and what it does to files.

  python benchmarks/process.py [rate memory crash] [--short] [--size 1280x720]
  python benchmarks/process.py memory --spec SPEC
  python benchmarks/process.py messy --data FOLDER [--match GLOB] [--spec SPEC]

  * rate: `identity` against decoding and encoding by the ffmpeg binary of
    imageio-ffmpeg alone, same codec, preset and threads (aim: >= 90 %). Also
    with pixels=1, the way through RGB that a network's frames take. Seconds of
    the processor say more than those of the clock on a busy machine.
  * memory: peak of a file of 10,000 frames over that of 300 (aim: <= 1.3).
  * resume: kill -9 in the middle, then --resume: the same bytes as those of a
    run that was left alone.
  * messy: every file of FOLDER/MANIFEST.tsv through `identity` (or SPEC, such
    as identity:pixels=1), lossless, as an .mkv. Files that ffmpeg decodes: as
    many frames, the same times and length, the same packets of sound, pixels
    that differ by 1/255 at most in the mean of the worst frame. Of files that
    are cut short, so with --end. Others: one line, and no output.

With SPEC, such as denoise, memory is that of a network on small frames.

Exits with 1 when an aim is missed. --short: fewer frames.
"""

import argparse
import contextlib
import csv
import dataclasses
import fnmatch
import hashlib
import io
import itertools
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import av
import numpy as np

from vidgan_jax.verbs import process as verb
from vidgan_jax.video import read
from vidgan_jax.video import sound

ROOT = pathlib.Path(__file__).resolve().parents[1]
MAIN = """
import resource, sys
from vidgan_jax.verbs import process
code = process.main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""
CODEC = ("--crf", "18", "--preset", "veryfast")
LOSSLESS = ("--crf", "0", "--preset", "ultrafast")


def ffmpeg() -> str:
  import imageio_ffmpeg  # an extra; the messy files need none

  return imageio_ffmpeg.get_ffmpeg_exe()


def film(path: pathlib.Path, size: str, frames: int) -> str:
  """A test film of moving fractals with sound, by ffmpeg."""
  subprocess.run(
    [ffmpeg(), "-v", "error", "-y", "-f", "lavfi", "-i",
     f"testsrc2=size={size}:rate=25", "-f", "lavfi", "-i", "sine",
     "-frames:v", str(frames), "-shortest", "-t", str(frames / 25),
     "-pix_fmt", "yuv420p", "-preset", "ultrafast", "-crf", "20", str(path)],
    check=True,
  )  # fmt: skip
  return str(path)


def timed(command: list[str]) -> tuple[float, float, str]:
  """(seconds, seconds of the processor, standard output) of a command."""
  used = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
  before, began = used(), time.perf_counter()
  done = subprocess.run(
    command, check=True, capture_output=True, text=True,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
  )  # fmt: skip
  return time.perf_counter() - began, used() - before, done.stdout


def process(*argv: str) -> list[str]:
  return [sys.executable, "-c", MAIN, *argv]


def rate(folder: pathlib.Path, size: str, frames: int, runs: int) -> bool:
  """Prints the rates; whether identity is fast enough."""
  source, out = film(folder / "a.mp4", size, frames), str(folder / "b.mp4")
  nothing = film(folder / "n.mp4", "64x64", 5)
  commands = {
    "ffmpeg": [ffmpeg(), "-v", "error", "-y", "-i", source, "-c:a", "copy",
               "-c:v", "libx264", "-crf", "18", "-preset", "veryfast", out],
    "identity": process("identity", source, out, *CODEC),
    "identity:pixels=1": process("identity:pixels=1", source, out, *CODEC),
  }  # fmt: skip
  start = timed(process("identity", nothing, out, *CODEC))
  took = {name: [] for name in commands}
  for _ in range(runs):  # in turn: the machine's mood changes
    for name, command in commands.items():
      took[name].append(timed(command)[:2])
  best = {
    name: tuple(map(statistics.median, zip(*runs)))
    for name, runs in took.items()
  }
  print(f"{frames} frames of {size}, median of {runs} runs")
  for name, (wall, used) in best.items():
    share = best["ffmpeg"][0] / wall, best["ffmpeg"][1] / used
    print(
      f"  {name:<18} {frames / wall:7.1f} frames/s ({share[0]:4.0%}),"
      f" {frames / used:7.1f} a processor second ({share[1]:4.0%})"
    )
  wall, used = best["identity"]
  share = best["ffmpeg"][0] / (wall - start[0])
  print(f"  identity without its start of {start[0]:.2f} s: {share:.0%}")
  return share >= 0.9


def memory(folder: pathlib.Path, size: str, frames: int, spec: str) -> bool:
  """Prints peaks; whether that of the long film is small enough."""
  peaks = []
  for count in (300, frames):
    source = film(folder / "m.mp4", size, count)
    *_, out = timed(process(spec, source, str(folder / "b.mp4"), *CODEC))
    peaks.append(int(out.split("peak")[1]) / 1024)
  print(
    f"peak memory of {spec} at {size}: {peaks[0]:.0f} MiB for 300 frames,"
    f" {peaks[1]:.0f} MiB for {frames}: {peaks[1] / peaks[0]:.2f}x"
  )
  return peaks[1] <= 1.3 * peaks[0]


def crash(folder: pathlib.Path, size: str, frames: int) -> bool:
  """Kills a run in the middle; whether going on gives the same file."""
  source = film(folder / "r.mp4", size, frames)
  whole, broken = str(folder / "whole.mp4"), str(folder / "broken.mp4")
  command = lambda out: process(
    "identity:pixels=1", source, out, "--resume", *CODEC
  )
  timed(command(whole))
  run = subprocess.Popen(
    command(broken), stderr=subprocess.DEVNULL,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
  )  # fmt: skip
  while run.poll() is None and not os.path.exists(f"{broken}.parts/000000"):
    time.sleep(0.01)
  ended = run.poll() is not None
  run.kill()
  run.wait()
  left = os.path.exists(broken)
  timed(command(broken))
  same = pathlib.Path(whole).read_bytes() == pathlib.Path(broken).read_bytes()
  print(
    f"kill -9 after the first segment of {frames} frames"
    f"{' (too late)' if ended else ''}: output before: {left}; after --resume"
    f" {'the same bytes' if same else 'ANOTHER FILE'}"
  )
  return same and not left and not ended


# ------------------------------------------------------------ messy files


@dataclasses.dataclass(kw_only=True)
class Likeness:
  """Two files side by side.

  Attributes:
    frames: of each.
    seconds: of each, from the first frame to the end of the last.
    late: seconds by which a frame comes at another time, the worst.
    error: mean difference of a frame, the worst, of 255: of the samples when
      both are stored alike, else in RGB. (A decoder that does not say where the
      samples of colour lie makes the same ones look a little different.)
    sound: packets of each.
    same: whether those are equal, byte for byte.
  """

  frames: tuple[int, int]
  seconds: tuple[float, float]
  late: float
  error: float
  sound: tuple[int, int]
  same: bool

  def good(self) -> bool:
    return (
      self.frames[0] == self.frames[1]
      and abs(self.seconds[0] - self.seconds[1]) <= 0.002
      and self.late <= 0.001
      and self.error <= 1
      and self.same
    )


def likeness(a: str, b: str) -> Likeness:
  """Compares two files frame by frame."""
  frames, ends, starts, late, error = [0, 0], [0.0, 0.0], None, 0.0, 0.0
  with read.Reader(a) as one, read.Reader(b) as two:
    readers = (one, two)
    for pair in itertools.zip_longest(one.pictures(), two.pictures()):
      for i, item in enumerate(pair):
        if item is not None:
          picture, time = item
          step = (picture.duration or 0) * picture.time_base
          frames[i] += 1
          ends[i] = float(time) + (float(step) or float(readers[i].step))
      if None not in pair:
        times = [float(time) for _, time in pair]
        starts = starts or times
        gap = [time - start for time, start in zip(times, starts)]
        late = max(late, abs(gap[0] - gap[1]))
        error = max(error, _difference(readers, [item[0] for item in pair]))
  sounds = [_sound(path) for path in (a, b)]
  return Likeness(
    frames=tuple(frames),
    seconds=tuple(end - start for end, start in zip(ends, starts)),
    late=late,
    error=error,
    sound=tuple(map(len, sounds)),
    same=sounds[0] == sounds[1],
  )


def _difference(readers, pictures) -> float:
  """Mean difference of two pictures, of 255."""
  images = [r.convert(p).astype(np.int32) for r, p in zip(readers, pictures)]
  error = float(np.abs(images[0] - images[1]).mean())
  stored = {(p.format.name, p.height, p.width) for p in pictures}
  turned = {r.turn(p) for r, p in zip(readers, pictures)}
  if error > 1 and len(stored) == len(turned) == 1:
    most = 2 ** max(c.bits for c in pictures[0].format.components) - 1
    images = [p.to_ndarray().astype(np.int32) for p in pictures]
    error = float(np.abs(images[0] - images[1]).mean()) * 255 / most
  return error


def _sound(path: str) -> list[str]:
  """Digests of the packets of sound, stream by stream."""
  found = []
  with av.open(path, **read.LENIENT) as container:
    with contextlib.suppress(av.error.FFmpegError, OSError):
      streams = container.streams.audio
      for packet in container.demux(*streams) if streams else ():
        if packet.size:
          digest = hashlib.md5(bytes(packet)).hexdigest()
          found.append((packet.stream.index, digest))
  rank = {index: i for i, index in enumerate(sorted({i for i, _ in found}))}
  return sorted((rank[i], k, d) for k, (i, d) in enumerate(found))


_KNOWN = {  # file -> what of its likeness is not asked for
  # The last frame has one field; the other is whatever was in memory.
  "fate/mpeg2video/mpeg2_field_encoding.mp4": {"error": 0},
  # No container that is written here holds Cook: it is encoded anew, and told.
  "fate/rv30/rv30.mp4": {"same": True},
  # Cut short: the sound goes on for longer, but not past --end.
  "fate/vp8/RRSF49-short.mp4": {"same": True},
}


def _holder(path: str) -> str:
  """A container for all the sound of a file: mkv, or what else can hold it."""
  with contextlib.suppress(av.error.FFmpegError, OSError):
    with av.open(path, **read.LENIENT) as container:
      for suffix, name in (("mkv", "matroska"), ("nut", "nut"), ("avi", "avi")):
        if all(sound.holds(name, s) for s in container.streams.audio):
          return suffix
  return "mkv"


def messy(folder: pathlib.Path, data: str, match: str, spec: str) -> bool:
  """Prints a line for each file; whether all went as it should."""
  with open(pathlib.Path(data) / "MANIFEST.tsv") as file:
    rows = [
      row
      for row in csv.DictReader(file, delimiter="\t")
      if fnmatch.fnmatch(row["path"], match)
    ]
  print(f"{'file':<48} {'frames':>11} {'seconds':>15} {'late':>6} {'of 255':>6}"
        f" {'sound':>9}")  # fmt: skip
  good = 0
  for row in rows:
    path = str(pathlib.Path(data) / row["path"])
    out = str(folder / f"b.{_holder(path)}")
    name = row["path"].removeprefix("messy/")
    extra = ()
    if "sizes" in row["flags"]:
      # What is scaled has as many samples of colour as of brightness.
      extra = ("--pix-fmt", "yuv444p")
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
      code = verb.main([spec, path, out, *LOSSLESS, *extra])
    if "is cut short" in said.getvalue():  # What there is is asked for.
      extra += tuple(said.getvalue().split()[-2:])
      with contextlib.redirect_stderr(said):
        code = verb.main([spec, path, out, *LOSSLESS, *extra])
    lines = said.getvalue().strip().splitlines()
    if row["frames_decoded"] in ("", "0", "-"):
      fine = code != 0 and len(lines) == 1 and not os.listdir(folder)
      print(f"{name:<48} {'refused' if fine else 'WRONG'}: {' | '.join(lines)}")
    elif code:
      fine = False
      print(f"{name:<48} FAILED: {' | '.join(lines)}")
    else:
      like = likeness(path, out)
      known = _KNOWN.get(name, {})
      fine = dataclasses.replace(like, **known).good()
      count = "{}/{}".format(*like.frames)
      if like.frames[0] != int(row["frames_decoded"]):
        count += "*"
      if known:
        name += " (known)"
      print(
        f"{name:<48} {count:>11} {'{:.3f}/{:.3f}'.format(*like.seconds):>15}"
        f" {like.late:6.3f} {like.error:6.3f} {'{}/{}'.format(*like.sound):>9}"
        f"{'' if fine else '  WRONG: ' + ' | '.join(lines)}"
      )
    good += fine
    for left in folder.iterdir():
      left.unlink()
  print(f"{good} of {len(rows)} as they should be; * not the manifest's count")
  return good == len(rows)


def main() -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("what", nargs="*", default=["rate", "memory", "crash"])
  parser.add_argument("--short", action="store_true")
  parser.add_argument("--size", default="1280x720")
  parser.add_argument("--runs", type=int, default=3)
  parser.add_argument("--data", default=os.environ.get("VIDGAN_REAL_DATA"))
  parser.add_argument("--match", default="*")
  parser.add_argument("--spec")
  args = parser.parse_args()
  some, many = (120, 3000) if args.short else (600, 10_000)
  claims = {
    "rate": lambda folder: rate(folder, args.size, some, args.runs),
    "memory": lambda folder: memory(
      folder,
      "96x64" if args.spec else "256x144",
      many,
      args.spec or "identity:pixels=1",
    ),
    "crash": lambda folder: crash(folder, "256x144", 1500),
    "messy": lambda folder: messy(
      folder, args.data, args.match, args.spec or "identity"
    ),
  }
  good = []
  for what in args.what:
    with tempfile.TemporaryDirectory() as name:
      good.append(claims[what](pathlib.Path(name)))
  return 0 if all(good) else 1


if __name__ == "__main__":
  sys.exit(main())
