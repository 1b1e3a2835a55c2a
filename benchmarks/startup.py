"""How long until something happens: the import, and the first step.

  python benchmarks/startup.py [--config configs/quickstart.py] [--runs 3]

Prints the median time of `import vidgan_jax` (aim: below 0.3 s), and the time
from `vidgan train` to the end of its first step with an empty compile cache
and with a warm one (aim: at most 20 s on two cores for the quickstart).
Exits with 1 when an aim is missed. Takes one to two minutes on two cores.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
IMPORT = """
import sys, time
began = time.perf_counter()
import vidgan_jax
print(time.perf_counter() - began)
heavy = {"jax", "numpy", "tensorflow", "flax"} & sys.modules.keys()
assert not heavy, f"import vidgan_jax imports {heavy}"
"""


def import_seconds(runs: int) -> float:
  """Median seconds of the import, each in a fresh process."""
  return statistics.median(
    float(
      subprocess.run(
        [sys.executable, "-c", IMPORT],
        cwd=ROOT, check=True, capture_output=True, text=True,
      ).stdout
    )
    for _ in range(runs)
  )


def first_step(config: str, workdir: pathlib.Path, cache: str) -> dict:
  """Seconds from the start of the process to lines that the run prints."""
  marks = {
    "Data:": "data there",
    "mesh ": "state there",
    "First step after": "loop begins",
    "step 1/": "first step done",
  }
  began, seen, text = time.perf_counter(), {}, []
  process = subprocess.Popen(
    [sys.executable, "-m", "vidgan_jax", "train", "--config", config,
     "--workdir", str(workdir)],
    cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    env=os.environ | {"JAX_COMPILATION_CACHE_DIR": cache},
  )
  try:
    for line in process.stdout:
      text.append(line)
      for mark, name in marks.items():
        if line.startswith(mark):
          seen.setdefault(name, time.perf_counter() - began)
      if "first step done" in seen:
        return seen
  finally:
    process.kill()
    process.wait()
  raise RuntimeError("the run ended before its first step:\n" + "".join(text))


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--config", default="configs/quickstart.py")
  parser.add_argument("--runs", type=int, default=3, help="with a warm cache")
  args = parser.parse_args()

  imported = import_seconds(5)
  print(f"import vidgan_jax   {imported:.3f} s   aim < 0.3 s")
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    cold, *warm = [
      first_step(args.config, folder / str(i), str(folder / "cache"))
      for i in range(args.runs + 1)
    ]
  middle = {k: statistics.median(run[k] for run in warm) for k in cold}
  print(f"{'seconds since the start':<24}{'cold cache':>11}{'warm cache':>11}")
  for name in cold:
    print(f"{name:<24}{cold[name]:>11.1f}{middle[name]:>11.1f}")
  began = middle["first step done"]
  print(f"first step, warm    {began:.1f} s   aim <= 20 s")
  return int(imported >= 0.3 or began > 20)


if __name__ == "__main__":
  sys.exit(main())
