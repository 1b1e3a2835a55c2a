"""Runs the quickstart from nothing and holds it to what it promises.

  python benchmarks/quickstart.py [FOLDER]

It copies the tracked files into FOLDER (default: a temporary one), runs
`bash launch/quickstart.sh` there with a stop-watch, and prints the figures of
the last evaluation beside those of step 0 and the aims. Needs nothing but
Python, git and the network of pip.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
AIMS = {  # name -> (text, test)
  "oracle/count_accuracy": (">= 0.60", lambda new, old: new >= 0.60),
  "oracle/class_accuracy": (">= 0.70", lambda new, old: new >= 0.70),
  "oracle/speed_ratio": ("0.75 to 1.25", lambda new, old: 0.75 <= new <= 1.25),
  "frd_random": ("10 x lower", lambda new, old: old >= 10 * new),
}


def main():
  folder = pathlib.Path(
    sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp("-quickstart")
  )
  clone = folder / "vidgan_jax"
  subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
  # As on a fresh machine: no environment, no compilation cache.
  env = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
  env["JAX_COMPILATION_CACHE_DIR"] = str(folder / "cache")
  began = time.perf_counter()
  subprocess.run(
    ["bash", "launch/quickstart.sh"], cwd=clone, env=env, check=True
  )
  minutes = (time.perf_counter() - began) / 60

  results = sorted(
    (clone / "runs/quickstart/eval").glob("*.json"), key=lambda p: int(p.stem)
  )
  old, new = (json.loads(p.read_text()) for p in (results[0], results[-1]))
  print(f"\n{'':34}{'step 0':>12}{'step ' + str(new['step']):>12}  aim")
  print(f"{'minutes, all in':34}{'':12}{minutes:12.1f}  <= 10")
  missed = [] if minutes <= 10 else ["minutes"]
  for name, value in new.items():
    if isinstance(value, float) and isinstance(old.get(name), float | str):
      text, reached = AIMS.get(name, ("", None))
      first = old[name]
      first = f"{first:.3f}" if isinstance(first, float) else first
      print(f"{name:34}{first:>12}{value:12.3f}  {text}")
      if reached and not reached(value, float(old[name])):
        missed.append(name)
  print(f"not reached: {', '.join(missed)}" if missed else "all aims reached")
  return bool(missed)


if __name__ == "__main__":
  sys.exit(main())
