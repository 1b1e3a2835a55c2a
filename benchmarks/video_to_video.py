"""Trains each task of `configs/video_to_video.py` and holds it to its gate.

  python benchmarks/video_to_video.py DATA FOLDER [TASK ...] [--shipped]

DATA is a prepared data set whose test split comes from other videos, FOLDER
gets a workdir a task (a finished one is not trained again). Interpolation and
prediction are tried on sprites, where motion can be learnt in minutes. Prints
for each task the model, the base, the best classical answer (each at its best
strength, on the same clips), the gain over it with its interval, the minutes,
the seconds of the processor (ten minutes of two cores are 1,200), whether the
gate is met, and every classical answer, the best one first. --shipped holds the
weights that come with the package to the same gates, without training.
"""

import argparse
import json
import math
import pathlib
import resource
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = "configs/video_to_video.py:task="
SPRITES = ",data=sprites"
# Task -> (argument of the config, options of the task, gates). A gate is
# {over whom: least gain in dB} or {figure/of whom: at most so much of it}.
# Motion, and colours that follow from shapes, are learnt on sprites.
TASKS = {
  "super_resolve_x4": ("super_resolve,scale=4", {}, {"lanczos": 0.3}),
  "super_resolve_x2": ("super_resolve,scale=2", {}, {"lanczos": 0.3}),
  "denoise": (
    "denoise",
    {"sigma": (25.0, 25.0)},
    {"nlmeans": 1.0, "hqdn3d": 5.0},
  ),
  "deblock": (
    "deblock",
    {"quality": (10, 10)},
    {"base": 0.7, "spp": 0.2},
  ),
  "inpaint": ("inpaint", {}, {"telea": 0.3, "navier_stokes": 0.3}),
  "enhance": (
    "enhance",
    {},
    {"auto_levels": 3.0, "auto_levels_gamma": 0.0},
  ),
  "interpolate": ("interpolate" + SPRITES, {}, {"average": 2.0}),
  "interpolate_clips": ("interpolate", {"arbitrary": True, "rate": 3}, {}),
  "predict": ("predict" + SPRITES, {}, {"hold": 2.0}),
  "super_resolve_x4_gan": (
    "super_resolve,scale=4,gan=True,total=2400steps",
    {},
    {"lanczos": 0.0, "swd/bicubic": 0.65, "temporal/base": 1.0},
  ),
  "restore": ("restore", {}, {}),
  "colorize": ("colorize" + SPRITES, {}, {"chroma_error/gray": 0.95}),
}
# Gate -> weights that come with the package.
SHIPPED = {
  "super_resolve_x2": "super_resolve_x2",
  "super_resolve_x4_gan": "super_resolve_x4",
  "denoise": "denoise",
  "deblock": "deblock",
  "inpaint": "inpaint",
  "enhance": "enhance",
  "interpolate": "interpolate",
  "interpolate_clips": "interpolate",
  "colorize": "colorize",
  "restore": "restore",
}


def run(name: str, data: str, workdir: pathlib.Path) -> dict[str, float]:
  """Trains one task; returns what time it took, nothing if it was there."""
  argument, options, _ = TASKS[name]
  if SPRITES not in argument:
    argument += f",data={data}"
  flags = [f"--config.task.options.{k}={v}" for k, v in options.items()]
  done = (workdir / "checkpoints").is_dir()
  began, used = time.perf_counter(), processor()
  subprocess.run(
    [
      *(sys.executable, "-m", "vidgan_jax", "train"),
      *("--config", CONFIG + argument, "--workdir", str(workdir), *flags),
    ],
    cwd=ROOT,
    check=True,
  )
  if done:
    return {}
  return {
    "minutes": (time.perf_counter() - began) / 60,
    "processor": processor() - used,
  }


def processor() -> float:
  """Seconds of the processor that runs have taken so far."""
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  return used.ru_utime + used.ru_stime


def gate(values: dict, what: str, bound: float) -> tuple[str, bool]:
  """What was reached beside what is asked, and whether that is met."""
  figure, _, other = what.rpartition("/")
  if figure:
    share = values[figure] / values[what]
    return f"{figure} {share:.2f} of {other}'s (<= {bound})", share <= bound
  gain = values["psnr"] - values[f"psnr/{other}"]
  return f"{other} {gain:+.2f} (>= {bound})", gain >= bound


def ranked(values: dict) -> str:
  """All classical answers, the best one first."""
  answers = {
    key.removeprefix("psnr/"): value
    for key, value in values.items()
    if key.startswith("psnr/") and key != "psnr/base"
  }
  best = sorted(answers, key=answers.get, reverse=True)
  return ", ".join(f"{name} {answers[name]:.2f}" for name in best)


def shipped(name: str, data: str, workdir: pathlib.Path) -> dict:
  """Values of the package's weights under the conditions of a gate."""
  from vidgan_jax import config as config_lib
  from vidgan_jax import zoo
  from vidgan_jax.evals import harness

  argument, options, _ = TASKS[name]
  if SPRITES not in argument:
    argument += f",data={data}"
  config = config_lib.override(
    config_lib.load(str(ROOT / CONFIG) + argument),
    [f"--config.task.options.{k}={v}" for k, v in options.items()],
  )
  evaluators = harness.make_evaluators(config.evals)
  reference = harness.reference(config, workdir, evaluators)
  values = harness.run(evaluators, zoo.load(SHIPPED[name]), reference)
  return {name: value.record() for name, value in values.items()}


def trained(name: str, data: str, workdir: pathlib.Path) -> dict:
  """Values of a run, and what time it took."""
  took = run(name, data, workdir)
  newest = max(
    (workdir / "eval").glob("*.json"), key=lambda path: int(path.stem)
  )
  records = json.loads(newest.read_text())["records"]
  return records | {k: {"value": v} for k, v in took.items()}


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("data")
  parser.add_argument("folder")
  parser.add_argument("tasks", nargs="*", metavar="TASK")
  parser.add_argument("--shipped", action="store_true")
  args = parser.parse_args()
  data = str(pathlib.Path(args.data).resolve())
  missed, lines = [], []
  for name in args.tasks or (SHIPPED if args.shipped else TASKS):
    workdir = pathlib.Path(args.folder).resolve() / name
    records = (shipped if args.shipped else trained)(name, data, workdir)
    values = {
      k.removeprefix("restoration/"): record["value"]
      for k, record in records.items()
    }
    low, high = records["restoration/gain"]["interval"]
    gates = [gate(values, *item) for item in TASKS[name][2].items()]
    missed += [name] * (not all(met for _, met in gates))
    lines.append(
      f"{name:22}{values['psnr']:7.2f}{values['psnr/base']:7.2f}"
      f"{values['best']:7.2f}  {values['gain']:+.2f} [{low:+.2f}, {high:+.2f}]"
      f"{', not told apart' * (low <= 0 <= high)}"
      f"{values.get('minutes', math.nan):6.1f}"
      f"{values.get('processor', math.nan):6.0f}"
      f"  {'; '.join([*(text for text, _ in gates), ranked(values)])}"
    )
  print(
    f"\n{'dB':22}{'model':>7}{'base':>7}{'best':>7}  gain over the best"
    f"{'min':>9}{'CPU-s':>6}"
  )
  print("\n".join(lines))
  print(f"not reached: {', '.join(missed)}" if missed else "all gates reached")
  return bool(missed)


if __name__ == "__main__":
  sys.exit(main())
