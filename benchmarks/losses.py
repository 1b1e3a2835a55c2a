"""Whether a change has moved training: every number of 20 steps, kept as JSON.

  VIDGAN_REAL_DATA=FOLDER python benchmarks/losses.py BEFORE.json
  VIDGAN_REAL_DATA=FOLDER python benchmarks/losses.py AFTER.json \
    --compare BEFORE.json

Runs `vidgan train` for 20 steps on three configs as they are shipped, with a
schedule of 20 steps: the quickstart; Weizmann, prepared from FOLDER's
weizmann_mocogan (without it this run is left out); and denoising of sprites
with the adversary. Keeps all that is logged after each step (losses, penalties,
norms of the gradients) with every digit, and the digest of each array in the
checkpoint of the last step: weights, averages, optimizers, keys.

`--compare` prints the largest relative difference of each series and which
arrays differ, and exits with 1 unless both files are equal to the last bit.
That can be asked of one machine with one version of JAX, where the compiled
program is the same. It uses nothing but the command, so that an older version
of the package can be measured by a newer copy of this file (`--root CLONE`).
Takes six minutes on two cores, most of them to compile.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
STEPS = 20
# Nothing but training; one row a step.
QUIET = {"evals": "{}", "cadence.log": "1steps", "cadence.sample": "0steps"}
WEIZMANN = "configs/weizmann_64.py:data={data},total=20steps"
DENOISE = "configs/video_to_video.py:data=sprites,gan=True,total=20steps"
RUNS = {
  "quickstart": ("configs/quickstart.py", {"total": "20steps"}),
  "weizmann": (WEIZMANN, {}),
  # A warm-up of 40 steps would let it learn nothing.
  "denoise": (
    DENOISE,
    {"optim.g.warmup": "4steps", "optim.d.warmup": "4steps"},
  ),
}
# A pace is not a result.
IDLE = ("step", "kimg", "steps_per_second")


def vidgan(root: pathlib.Path, *words) -> None:
  """Runs the command of the package in `root`."""
  subprocess.run(
    [sys.executable, "-m", "vidgan_jax", *map(str, words)],
    cwd=root,
    check=True,
    env=os.environ | {"PYTHONPATH": str(root)},
  )


def result(workdir: pathlib.Path) -> dict:
  """The series and the digests of a finished run."""
  rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  rows = [row for row in rows if row["step"] > 0]
  assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
  names = sorted({name for row in rows for name in row} - set(IDLE))
  meta = workdir / "checkpoints" / str(STEPS) / "meta" / "metadata"
  return {
    "series": {name: [row.get(name) for row in rows] for name in names},
    "leaves": json.loads(meta.read_text())["leaves"],
  }


def differences(old: dict, new: dict) -> int:
  """Prints how two results of a run differ; returns the number of places."""
  places = 0
  for name in sorted(old["series"].keys() | new["series"].keys()):
    pair = [r["series"].get(name, [None] * STEPS) for r in (old, new)]
    if pair[0] == pair[1]:
      continue
    places += 1
    steps = [i + 1 for i, (a, b) in enumerate(zip(*pair)) if a != b]
    try:
      largest = max(
        abs(a - b) / max(abs(a), abs(b)) for a, b in zip(*pair) if a != b
      )
    except TypeError:  # One of them has no number, or one not finite.
      largest = float("nan")
    print(f"  {name:<28}{largest:.1e}, first at step {steps[0]}")
  old, new = old["leaves"], new["leaves"]
  for name in sorted(old.keys() | new.keys()):
    if old.get(name) != new.get(name):
      places += 1
      print(f"  {name:<28}{old.get(name)} -> {new.get(name)}")
  return places


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("out", type=pathlib.Path)
  parser.add_argument("--compare", type=pathlib.Path, metavar="OLD.json")
  parser.add_argument("--root", type=pathlib.Path, default=ROOT)
  args = parser.parse_args()
  root = args.root.resolve()

  cpu = pathlib.Path("/proc/cpuinfo")
  lines = cpu.read_text().splitlines() if cpu.exists() else []
  facts = {"machine": platform.machine(), "python": platform.python_version()}
  for name in ("model name", "flags"):
    facts[name] = next((x.split(": ")[1] for x in lines if name in x), "")
  for name in ("jax", "jaxlib", "flax", "optax"):
    facts[name] = importlib.metadata.version(name)
  made = {"platform": facts, "runs": {}}
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    for name, (config, fields) in RUNS.items():
      data = folder / "data"
      if name == "weizmann":
        films = pathlib.Path(os.environ.get("VIDGAN_REAL_DATA", ""))
        kinds = sorted(films.glob("weizmann_mocogan/[0-9]"))
        if not kinds:
          print("weizmann is left out: VIDGAN_REAL_DATA names no such footage")
          continue
        for kind in kinds:  # Beside them are two that no config is trained on.
          shutil.copytree(kind, folder / "films" / kind.name)
        held_out = r"/000000(5[6-9]|6\d|70)\.jpg$"
        layout = ("--layout", "strips", "--test-match", held_out)
        vidgan(root, "prepare", folder / "films", data, *layout)
      flags = [f"--config.{k}={v}" for k, v in (QUIET | fields).items()]
      where = ("--config", config.format(data=data), "--workdir", folder / name)
      vidgan(root, "train", *where, *flags)
      made["runs"][name] = result(folder / name)
  args.out.write_text(json.dumps(made))

  if not args.compare:
    return 0
  old, places = json.loads(args.compare.read_text()), 0
  for name, value in facts.items():
    if old["platform"][name] != value:
      print(f"{name}: {old['platform'][name]} -> {value}")
  for name in sorted(old["runs"].keys() | made["runs"].keys()):
    if name not in old["runs"] or name not in made["runs"]:
      print(f"{name}: in one of the two files only")
      places += 1
      continue
    print(f"{name}:")
    count = differences(old["runs"][name], made["runs"][name])
    print(f"  {count} differences" if count else "  equal to the last bit")
    places += count
  return int(places > 0)


if __name__ == "__main__":
  sys.exit(main())
