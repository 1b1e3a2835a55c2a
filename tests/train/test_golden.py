"""Training does what it did: losses of five steps, recorded with version 0.1.

Two of the configs that are shipped, made as small as they get. golden.json has
what each step logged. On the kind of machine that recorded it the numbers must
be the same to 1e-6, elsewhere to 1e-4 and 1e-9: other instructions (SSE 4.2,
AVX2, AVX-512) and XLA's optimisations moved them by up to 3e-6 of themselves,
and denoise's d/ahead, a difference of logits of 5e-6 and less, by 6e-11.

benchmarks/losses.py does the same at full size. Where a change is meant to move
training,

  python tests/train/test_golden.py

records anew; say in the commit what moved and why.
"""

import json
import pathlib
import sys
import tempfile

import jax
import numpy as np
import pytest

from vidgan_jax import cli

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = pathlib.Path(__file__).with_name("golden.json")
SHARED = (
  "total=5steps",
  "batch=4",
  "data.options.resolution=8",
  "data.options.radius=(0.2, 0.26)",
  "model.resolution=8",
  "cadence.log=1steps",
  "cadence.sample=0steps",
  "evals={}",
)
# One variant of the step each: to compile is what takes time.
RUNS = {
  "quickstart": (
    "quickstart.py",
    "data.options.size=64",
    "model.generator.widths=(8,)",
    "model.generator.style_dim=16",
    "model.discriminator.widths=(8,)",
    "model.discriminator.joint=16",
    "penalties.r1.interval=1",
  ),
  "denoise": (
    "video_to_video.py:task=denoise,data=sprites,gan=True",
    "model.generator.width=8",
    "model.generator.blocks=1",
    "model.discriminator.width=8",
    "adversary.start=0steps",
    "optim.g.warmup=2steps",
    "optim.d.warmup=2steps",
  ),
}
# The last two count clips: where a logit is near zero, rounding decides.
IGNORED = ("step", "kimg", "steps_per_second", "d/accuracy", "d/sign")


def kind():
  """What must be equal for the same program to give the same bits."""
  cpu = pathlib.Path("/proc/cpuinfo")
  lines = cpu.read_text().splitlines() if cpu.exists() else []
  facts = dict(line.split(":", 1) for line in lines if ":" in line)
  facts = {name.strip(): value.strip() for name, value in facts.items()}
  names = ("model name", "cpu family", "model", "flags")
  return {name: facts.get(name) for name in names} | {
    "jax": jax.__version__,
    "optimised": not jax.config.read("jax_disable_most_optimizations"),
  }


def series(name, workdir):
  """name -> the five numbers that a run logged; None where it logged none."""
  config, *fields = RUNS[name]
  flags = [f"--config.{field}" for field in (*SHARED, *fields)]
  where = ["--config", f"{ROOT}/configs/{config}", "--workdir", str(workdir)]
  assert cli.main(["train", *where, *flags]) == 0
  rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  rows = [row for row in rows if row["step"] > 0]
  names = sorted({name for row in rows for name in row} - set(IGNORED))
  return {name: [row.get(name) for row in rows] for name in names}


@pytest.mark.parametrize("name", RUNS)
def test_training_does_what_it_did(name, tmp_path):
  if name == "denoise":
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
  golden = json.loads(GOLDEN.read_text())
  made = series(name, tmp_path / "run")
  same = golden["kind"] == kind()
  relative, absolute = (1e-6, 0) if same else (1e-4, 1e-9)
  for key, numbers in golden[name].items():
    np.testing.assert_allclose(
      np.float64(made[key]),
      np.float64(numbers),
      relative,
      absolute,
      err_msg=key,
    )


def record():
  """Writes golden.json, as the tests compile."""
  jax.config.update("jax_disable_most_optimizations", True)
  golden = {"kind": kind()}
  for name in RUNS:
    with tempfile.TemporaryDirectory() as folder:
      golden[name] = series(name, pathlib.Path(folder) / "run")
  GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
  sys.exit(record())
