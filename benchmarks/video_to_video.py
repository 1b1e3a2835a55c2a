"""Trains each task of `configs/video_to_video.py` and holds it to its gate.

  python benchmarks/video_to_video.py DATA FOLDER [TASK ...]

DATA is a prepared data set whose test split comes from other videos, FOLDER
gets a workdir a task (a finished one is not trained again). Interpolation and
prediction are tried on sprites, where motion can be learnt in minutes. Prints
for each task the model, the base, the best classical answer (each at its best
strength, on the same clips), the gain over it with its interval, the minutes,
and whether the gate is met. About ten minutes a task on two cores.
"""

import json
import pathlib
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
    "deblock,total=2200steps",
    {"quality": (10, 10)},
    {"base": 0.7, "spp": 0.2},
  ),
  "inpaint": ("inpaint", {}, {"telea": 0.3, "navier_stokes": 0.3}),
  "enhance": (
    "enhance",
    {  # Too dark and flat; by default a clip may also be too bright.
      "exposure": (-0.5, 0.2),
      "gamma": (1.4, 2.6),
      "contrast": (0.7, 1.0),
      "saturation": (0.7, 1.1),
      "vignette": (0.0, 0.3),
    },
    {"auto_levels": 3.0, "auto_levels_gamma": 0.0},
  ),
  "interpolate": ("interpolate" + SPRITES, {}, {"average": 2.0}),
  "predict": ("predict" + SPRITES, {}, {"hold": 2.0}),
  "super_resolve_x4_gan": (
    "super_resolve,scale=4,gan=True,total=4000steps",
    {},
    {"lanczos": 0.0, "swd/bicubic": 0.65, "temporal/base": 1.0},
  ),
  "restore": ("restore", {}, {}),
  "colorize": ("colorize" + SPRITES, {}, {"chroma_error/gray": 0.95}),
}


def run(name: str, data: str, workdir: pathlib.Path) -> float:
  """Trains one task; returns the minutes it took, NaN if it was there."""
  argument, options, _ = TASKS[name]
  if SPRITES not in argument:
    argument += f",data={data}"
  flags = [f"--config.task.options.{k}={v}" for k, v in options.items()]
  done = (workdir / "checkpoints").is_dir()
  began = time.perf_counter()
  subprocess.run(
    [
      *(sys.executable, "-m", "vidgan_jax", "train"),
      *("--config", CONFIG + argument, "--workdir", str(workdir), *flags),
    ],
    cwd=ROOT,
    check=True,
  )
  return float("nan") if done else (time.perf_counter() - began) / 60


def gate(values: dict, what: str, bound: float) -> tuple[str, bool]:
  """What was reached beside what is asked, and whether that is met."""
  figure, _, other = what.rpartition("/")
  if figure:
    share = values[figure] / values[what]
    return f"{figure} {share:.2f} of {other}'s (<= {bound})", share <= bound
  gain = values["psnr"] - values[f"psnr/{other}"]
  return f"{other} {gain:+.2f} (>= {bound})", gain >= bound


def main():
  data, folder, *names = sys.argv[1:]
  missed, lines = [], []
  for name in names or TASKS:
    workdir = pathlib.Path(folder).resolve() / name
    minutes = run(name, str(pathlib.Path(data).resolve()), workdir)
    newest = max(
      (workdir / "eval").glob("*.json"), key=lambda path: int(path.stem)
    )
    values = {
      k.removeprefix("restoration/"): v
      for k, v in json.loads(newest.read_text()).items()
    }
    gates = [gate(values, *item) for item in TASKS[name][2].items()]
    missed += [name] * (not all(met for _, met in gates))
    lines.append(
      f"{name:18}{values['psnr']:7.2f}{values['psnr/base']:7.2f}"
      f"{values['best']:7.2f}  {values['gain']:+.2f} "
      f"[{values['gain_low']:+.2f}, {values['gain_high']:+.2f}]"
      f"{minutes:6.1f}  {'; '.join(text for text, _ in gates)}"
    )
  print(f"\n{'dB':18}{'model':>7}{'base':>7}{'best':>7}  gain over the best")
  print("\n".join(lines))
  print(f"not reached: {', '.join(missed)}" if missed else "all gates reached")
  return bool(missed)


if __name__ == "__main__":
  sys.exit(main())
