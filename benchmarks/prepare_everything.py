"""Does `vidgan prepare` get through everything? Files, reasons, memory.

  VIDGAN_REAL_DATA=/data python benchmarks/prepare_everything.py [--out DIR]

Runs the command on every folder of VIDGAN_REAL_DATA that holds videos, frames
or strips, with --size 64, and on two made videos of one minute and of eight at
their full size. Prints for each: sources, records, files left out with the
reason, exit code, time, and the peak memory of the largest process and of all
together. Ends with an error when a run crashed, a source went unreported, or a
process took 1 GiB.
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

from vidgan_jax.video import folder
from vidgan_jax.video import write

LIMIT = 2**30


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--out", help="keep the data sets here")
  parser.add_argument("--workers", default="2")
  args = parser.parse_args()
  data = os.environ.get("VIDGAN_REAL_DATA")
  if not data:
    print("set VIDGAN_REAL_DATA to a folder of folders of videos")
    return 2
  with tempfile.TemporaryDirectory() as temporary:
    out = pathlib.Path(args.out or temporary)
    out.mkdir(parents=True, exist_ok=True)
    failures, totals = [], collections.Counter()
    print(
      f"{'folder':22} layout source   ok skip  clips  frames exit"
      "   time  largest     all"
    )
    for src in sorted(p for p in pathlib.Path(data).iterdir() if p.is_dir()):
      run(src, out / src.name, ["--size", "64"], args, failures, totals)
    # Memory must not know how long a video is: full size, lossless frames.
    for minutes in (1, 8):
      src = pathlib.Path(temporary) / f"made_{minutes}min"
      src.mkdir()
      noise(src / "long.mp4", minutes)
      run(src, out / src.name, [], args, failures, totals)
    print(f"\nin all: {dict(totals)}")
    for failure in failures:
      print("FAILED:", failure)
    return 1 if failures else 0


def run(src, out, options, args, failures, totals):
  command = [sys.executable, "-m", "vidgan_jax", "prepare", src, out]
  command += ["--workers", args.workers, "--overwrite", *options]
  start = time.monotonic()
  process = subprocess.Popen(
    [str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
  )
  peak = {"all": 0}
  watch = threading.Thread(target=_watch, args=(process.pid, peak))
  watch.start()
  stdout, stderr = process.communicate()
  watch.join()
  seconds = time.monotonic() - start
  sources = folder.scan(src, "auto")[1]
  report = out / "prepare_report.jsonl"
  rows = []
  if report.exists():
    rows = [json.loads(line) for line in report.read_text().splitlines()]
  good = [r for r in rows if r["status"] == "ok"]
  largest = peak.pop("all"), max(peak.values(), default=0)
  layout = (
    json.loads((out / "prepare.json").read_text())["options"]["layout"]
    if rows
    else "-"
  )
  print(
    f"{src.name:22} {layout:6} {len(sources):6} {len(good):4}"
    f" {len(rows) - len(good):4} {sum(r['records'] for r in good):6}"
    f" {sum(r['kept'] for r in good):7} {process.returncode:4}"
    f" {seconds:5.0f}s {largest[1] >> 20:4} MiB {largest[0] >> 20:4} MiB",
    flush=True,
  )
  for row in rows:
    if row["status"] != "ok":
      print(f"    left out: {row['file']}: {row['reason']}")
      if "crashed" in row["reason"] or "unexpected" in row["reason"]:
        failures.append(f"{src.name}/{row['file']}: {row['reason']}")
    elif row["damaged"] or row["ended"]:
      totals["ok but damaged"] += 1
  totals["sources"] += len(sources)
  totals["ok"] += len(good)
  totals["left out"] += len(rows) - len(good)
  totals["clips"] += sum(r["records"] for r in good)
  if b"Traceback" in stderr or process.returncode not in (0, 1):
    failures.append(f"{src.name}: exit {process.returncode}: {stderr[-500:]}")
  if process.returncode == 1 and not sources:
    print(f"    {stderr.decode().strip()}")
  if sources and len(rows) != len(sources) and process.returncode == 0:
    failures.append(f"{src.name}: {len(sources)} sources, {len(rows)} rows")
  if largest[1] > LIMIT:
    failures.append(f"{src.name}: a process took {largest[1] >> 20} MiB")
  del stdout


def _watch(pid, peak):
  """Polls the resident memory of a process and its children."""
  while os.path.exists(f"/proc/{pid}"):
    total = 0
    tree = [pid]
    for p in tree:
      try:
        for task in os.listdir(f"/proc/{p}/task"):
          children = f"/proc/{p}/task/{task}/children"
          tree += map(int, pathlib.Path(children).read_text().split())
        status = pathlib.Path(f"/proc/{p}/status").read_text()
      except OSError:
        continue
      fields = dict(line.split(":", 1) for line in status.splitlines())
      if "VmRSS" in fields:
        total += int(fields["VmRSS"].split()[0]) * 1024
        peak[p] = max(peak.get(p, 0), int(fields["VmHWM"].split()[0]) * 1024)
    peak["all"] = max(peak["all"], total)
    time.sleep(0.1)


def noise(path, minutes):
  """A moving texture, 320x180 at 25 frames a second: PNGs of 100 kB."""
  rng = np.random.default_rng(0)
  texture = rng.integers(0, 256, (180, 640, 3)).astype(np.uint8)
  with write.Writer(path, 25, crf=30) as out:
    for t in range(int(minutes * 60 * 25)):
      at = t % 320
      out.append(texture[:, at : at + 320])


if __name__ == "__main__":
  sys.exit(main())
