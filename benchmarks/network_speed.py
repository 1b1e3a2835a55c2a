"""Frames a second of networks in `vidgan process`, beside ffmpeg's nlmeans.

  python benchmarks/network_speed.py FILE SPEC ... [--size 640x360]
      [--frames 40] [--runs 3]

FILE, any video, is brought to the size; each SPEC (a shipped task such as
super_resolve:scale=2, or a workdir) processes it. The ffmpeg binary of
imageio-ffmpeg does the same frames with nlmeans at its defaults, and with
nlmeans and enlargement by Lanczos. All decode and encode (H.264, veryfast), in
turn. A file of four frames tells what start and compilation take; rates are of
the frames beyond those.
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import imageio_ffmpeg

FFMPEG = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"]
ENCODE = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "18"]
SHORT = 4


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("file")
  parser.add_argument("specs", nargs="+", metavar="SPEC")
  parser.add_argument("--size", default="640x360")
  parser.add_argument("--frames", type=int, default=40)
  parser.add_argument("--runs", type=int, default=3)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    files = [
      clip(args.file, folder / f"{n}.mp4", args.size, n)
      for n in (SHORT, args.frames)
    ]
    out = str(folder / "out.mp4")
    jobs = {
      "ffmpeg nlmeans": lambda f: [*FFMPEG, "-i", f, "-vf", "nlmeans",
                                   *ENCODE, out],
      "ffmpeg nlmeans, x2": lambda f: [
        *FFMPEG, "-i", f, "-vf", "nlmeans,scale=2*iw:2*ih:flags=lanczos",
        *ENCODE, out],
    }  # fmt: skip
    for spec in args.specs:
      jobs[spec] = lambda f, spec=spec: [
        *(sys.executable, "-m", "vidgan_jax", "process", spec, f, out),
        *("--crf", "18", "--preset", "veryfast"),
      ]
    rates, starts = {name: [] for name in jobs}, {name: [] for name in jobs}
    for _ in range(args.runs):  # in turn: the machine's mood changes
      for name, job in jobs.items():
        short, long = (timed(job(file)) for file in files)
        rates[name].append((args.frames - SHORT) / (long - short))
        starts[name].append(short)
  print(f"{args.size}, {args.frames} frames, median of {args.runs}")
  for name in jobs:
    print(
      f"  {name:<40} {statistics.median(rates[name]):7.2f} frames/s"
      f"   {statistics.median(starts[name]):6.1f} s for {SHORT} frames"
    )


def clip(source: str, path: pathlib.Path, size: str, frames: int) -> str:
  """The first frames of a file at a size, over and over if it is shorter."""
  command = [
    *FFMPEG, "-stream_loop", "-1", "-i", source, "-an", "-frames:v",
    str(frames), "-vf", f"scale={size.replace('x', ':')}", *ENCODE, str(path),
  ]  # fmt: skip
  subprocess.run(command, check=True)
  return str(path)


def timed(command: list[str]) -> float:
  """Seconds that a command takes."""
  began = time.perf_counter()
  subprocess.run(command, check=True, capture_output=True)
  return time.perf_counter() - began


if __name__ == "__main__":
  main()
