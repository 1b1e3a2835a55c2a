"""What `vidgan process` costs besides its stages: rate, memory, crashes.

  python benchmarks/process.py [--short] [--size 1280x720] [--runs 3]

  * rate: `identity` against decoding and encoding by the ffmpeg binary of
    imageio-ffmpeg alone, same codec, preset and threads (aim: >= 90 %). Also
    with pixels=1, the way through RGB that a network's frames take. Seconds of
    the processor say more than those of the clock on a busy machine.
  * memory: peak of a file of 10,000 frames over that of 300 (aim: <= 1.3).
  * resume: kill -9 in the middle, then --resume: the same bytes as those of a
    run that was left alone.

Exits with 1 when an aim is missed. --short: fewer frames.
"""

import argparse
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import imageio_ffmpeg

ROOT = pathlib.Path(__file__).resolve().parents[1]
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
MAIN = """
import resource, sys
from vidgan_jax import process
code = process.main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""
CODEC = ("--crf", "18", "--preset", "veryfast")


def film(path: pathlib.Path, size: str, frames: int) -> str:
  """A test film of moving fractals with sound, by ffmpeg."""
  subprocess.run(
    [FFMPEG, "-v", "error", "-y", "-f", "lavfi", "-i",
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
    "ffmpeg": [FFMPEG, "-v", "error", "-y", "-i", source, "-c:a", "copy",
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


def memory(folder: pathlib.Path, size: str, frames: int) -> bool:
  """Prints peaks; whether that of the long film is small enough."""
  peaks = []
  for count in (300, frames):
    source = film(folder / "m.mp4", size, count)
    *_, out = timed(
      process("identity:pixels=1", source, str(folder / "b.mp4"), *CODEC)
    )
    peaks.append(int(out.split("peak")[1]) / 1024)
  print(
    f"peak memory at {size}: {peaks[0]:.0f} MiB for 300 frames,"
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


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--short", action="store_true")
  parser.add_argument("--size", default="1280x720")
  parser.add_argument("--runs", type=int, default=3)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    good = [
      rate(folder, args.size, 120 if args.short else 600, args.runs),
      memory(folder, "256x144", 3000 if args.short else 10_000),
      crash(folder, "256x144", 1500),
    ]
  return 0 if all(good) else 1


if __name__ == "__main__":
  sys.exit(main())
