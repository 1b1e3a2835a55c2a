"""How long until something happens: the import, and the first step.

  python benchmarks/startup.py [--config configs/quickstart.py] [--runs 3]

Prints the median time of `import vidgan_jax` (aim: below 0.3 s), and the time
from `vidgan train` until its loop begins, with an empty compile cache and with
a warm one (aim: at most 20 s on two cores for the quickstart). Samples and
evaluations of step 0, if the config asks for them, are made between that and
the end of the first step. Beside seconds on the clock it prints those of the
processor, which say more on a busy machine, and the most memory that the
process has held (both Linux only). A run prints its steps every ten seconds:
the last row is of the first line that has 20 of them or more. Exits with 1 when
an aim is missed. Takes about three minutes on two cores.
"""

import argparse
import os
import pathlib
import re
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
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
      ).stdout
    )
    for _ in range(runs)
  )


def processor_seconds(pid: int) -> float:
  """What a process has used so far, all threads; nan where unknown."""
  try:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().split(")")[-1]
  except OSError:
    return float("nan")
  user, system = map(int, fields.split()[11:13])
  return (user + system) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
  """The most memory that a process has held so far; nan where unknown."""
  try:
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
  except OSError:
    return float("nan")
  (kib,) = [x.split()[1] for x in text.splitlines() if x.startswith("VmHWM")]
  return int(kib) / 1024


def first_step(config: str, workdir: pathlib.Path, cache: str) -> dict:
  """Seconds from the start of the process to lines that the run prints.

  Returns:
    name of the line -> (seconds on the clock, seconds of the processor, peak
    memory in MiB).
  """
  marks = {
    r"Data:": "data there",
    r"mesh ": "state there",
    r"First step after": "loop begins",
    r"step 1/": "first step done",
    r"step ([2-9]\d|\d{3,})/": "20 steps or more",
  }
  began, seen, text = time.perf_counter(), {}, []
  process = subprocess.Popen(
    [
      sys.executable,
      "-m",
      "vidgan_jax",
      "train",
      "--config",
      config,
      "--workdir",
      str(workdir),
    ],
    cwd=ROOT,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    env=os.environ | {"JAX_COMPILATION_CACHE_DIR": cache},
  )
  try:
    for line in process.stdout:
      text.append(line)
      for mark, name in marks.items():
        if re.match(mark, line):
          passed = time.perf_counter() - began
          seen.setdefault(
            name,
            (passed, processor_seconds(process.pid), peak_mib(process.pid)),
          )
      if "20 steps or more" in seen:
        break
  finally:
    process.kill()
    process.wait()
  if "first step done" in seen:
    return seen
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
  middle = {
    name: [statistics.median(run[name][i] for run in warm) for i in range(3)]
    for name in cold
  }
  print(f"{'seconds since the start':<24}{'cold cache':>30}{'warm cache':>30}")
  print(f"{'':<24}" + 2 * f"{'clock':>10}{'processor':>10}{'MiB':>10}")
  for name in cold:
    numbers = (*cold[name], *middle[name])
    print(f"{name:<24}" + "".join(f"{n:>10.1f}" for n in numbers))
  began = middle["loop begins"][0]
  print(f"loop begins, warm   {began:.1f} s   aim <= 20 s")
  return int(imported >= 0.3 or began > 20)


if __name__ == "__main__":
  sys.exit(main())
