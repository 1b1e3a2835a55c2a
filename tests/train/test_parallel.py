"""One recipe, one result: on any number of devices and processes.

Each run is `train.train` as a user has it, in processes of its own
(parallel_worker.py), with all that draws random numbers switched on.
"""

import json
import pathlib
import signal
import sys
import time

import numpy as np
import processes
import pytest

from vidgan_jax.train import writer as metrics_lib

pytestmark = pytest.mark.slow  # A dozen compilations.

ROOT = pathlib.Path(__file__).parents[2]
FSDP = "sharding=(('^g/|^d/','fsdp(min_size=64)'),('.*','replicate'))"
STEPS = 10

RECIPE = (
  f"total={STEPS}steps",
  "evals={}",
  "cadence.log=1steps",
  "cadence.sample=0steps",
  "cadence.save=0steps",
  "batch=16",
  "d_steps=2",
  "penalties.r1.interval=2",
  "augment.p=0.5",
  "augment.target=0.6",
  "augment.kimg=1.0",
  # With Adam's usual 1e-8 the first update is the sign of the gradient, which
  # rounding decides wherever that is almost zero: one device with another
  # compiler is then 1e-2 away after 10 steps.
  "optim.g.eps=1e-4",
  "optim.d.eps=1e-4",
)
SMALL = (
  "model.generator={'widths': (64, 128)}",
  "model.discriminator={'widths': (128, 64)}",
)
TINY = (
  "batch=8",
  "penalties.r1.interval=1",  # One variant of the step to compile, not two.
  "model.generator={'widths': (8, 8), 'style_dim': 16, 'content_dim': 8}",
  "model.discriminator={'widths': (8, 8), 'patch': 2}",
)
LOSSES = ("d/loss", "g/loss", "d/r1", "d/real", "d/fake", "augment_p")
NORMS = ("d/grad_norm", "g/grad_norm")


def job(workdir, *flags, model="mlp"):
  flags = (*RECIPE, *(SMALL if model == "mlp" else TINY), *flags)
  return {
    "workdir": str(workdir),
    "config": f"{ROOT}/configs/smoke.py:model={model}",
    "flags": [f"--config.{flag}" for flag in flags],
  }


def start(jobs, devices, count=1):
  """Starts the worker(s) with so many devices each."""
  return processes.start(
    [sys.executable, "tests/parallel_worker.py", json.dumps(jobs)],
    devices,
    count,
    "--xla_backend_optimization_level=0",  # To compile faster.
  )


def rows(workdir):
  return metrics_lib.read(workdir)[-STEPS:]


def report(workdir, process=0):
  return json.loads(pathlib.Path(f"{workdir}.{process}.json").read_text())


def assert_same(workdir, reference, names=LOSSES, **tolerance):
  got, want = rows(workdir), rows(reference)
  assert [r["step"] for r in got] == [r["step"] for r in want]
  for a, b in zip(got, want):
    assert ("d/r1" in a) == ("d/r1" in b)
    for name in names:
      if name in b:
        np.testing.assert_allclose(
          a[name],
          b[name],
          err_msg=f"{name}, step {a['step']}",
          **(tolerance or {"rtol": 0, "atol": 1e-4}),
        )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """All layouts of one recipe: name -> workdir."""
  root = tmp_path_factory.mktemp("parallel")
  processes.finish(
    start([job(root / "one"), job(root / "tf", "data.memory=False")], 1)
  )
  processes.finish(
    start(
      [
        job(root / "replicated"),
        job(root / "fsdp", FSDP),
      ],
      8,
    )
  )
  processes.finish(
    start(
      [
        job(root / "processes"),
        job(root / "processes_pmap", "parallel=pmap"),
        job(root / "processes_tf", "data.memory=False"),
      ],
      4,
      count=2,
    )
  )
  processes.finish(
    start(
      [
        job(root / "processes_fsdp", FSDP),
        job(root / "half", FSDP, f"total={STEPS - 4}steps"),
      ],
      4,
      count=2,
    )
  )
  return root


def test_the_recipe_draws_and_moves(runs):
  """Else the comparisons below would say nothing."""
  got = rows(runs / "one")
  assert [r["step"] for r in got] == list(range(1, STEPS + 1))
  for name in ("d/loss", "g/loss"):
    values = [r[name] for r in got]
    assert np.all(np.isfinite(values)) and np.ptp(values) > 1e-2
  assert [r["step"] for r in got if "d/r1" in r] == list(range(1, STEPS, 2))
  assert got[0]["d/r1"] > 1e-3 and got[-1]["augment_p"] != 0.5
  # Another order of the clips and other noise are far from the tolerance.
  with pytest.raises(AssertionError):
    assert_same(runs / "tf", runs / "one")


ALL = (
  "replicated",
  "fsdp",
  "processes",
  "processes_fsdp",
  "processes_pmap",
)


@pytest.mark.parametrize("name", ALL)
def test_same_losses(runs, name):
  count = [8, 4] if name.startswith("processes") else [8, 8]
  assert report(runs / name)["devices"] == count
  assert report(runs / "one")["devices"] == [1, 1]
  assert_same(runs / name, runs / "one")
  assert_same(runs / name, runs / "one", NORMS, rtol=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_fsdp_cuts_and_the_rest_does_not(runs, name):
  cut = report(runs / name)["cut"]
  parts = {path: whole / local for path, (whole, local) in cut.items()}
  if "fsdp" not in name:
    assert set(parts.values()) == {1.0}
    return
  for path, (whole, _) in cut.items():
    if path.endswith("kernel") and whole >= 64:
      assert parts[path] == 8, path
  total = sum(local for _, local in cut.values())
  assert total < 0.13 * sum(whole for whole, _ in cut.values())
  heads = {path.split("/")[0] for path, n in parts.items() if n == 8}
  assert heads == {"g", "d", "ema", "g_opt", "d_opt"}


@pytest.mark.parametrize(
  "name, reference",
  [("replicated", "one"), ("processes", "one"), ("processes_tf", "tf")],
)
def test_same_batches(runs, name, reference):
  want = report(runs / reference)["batches"]
  assert len(want) == 4 and len({d for b in want for d in b.values()}) > 64
  count = 2 if name.startswith("processes") else 1
  parts = [report(runs / name, i)["batches"] for i in range(count)]
  if count == 2:  # Each makes its half and no more.
    for mine, other in zip(*parts):
      assert len(mine) == len(other) == 16 and not mine.keys() & other.keys()
  for batch, *mine in zip(want, *parts):
    assert {k: v for part in mine for k, v in part.items()} == batch


def test_one_process_goes_on_with_what_two_began(runs):
  processes.finish(start([job(runs / "half")], 1))
  assert_same(runs / "half", runs / "one")
  assert "Resumed at step 6" in (runs / "half" / "log.txt").read_text()


def test_a_signal_to_one_process_stops_both_at_one_step(tmp_path):
  workdir = tmp_path / "run"
  flags = ("total=4000steps", "batch=2", "d_steps=1")
  started = start([job(workdir, *flags)], 1, 2)
  path = workdir / "metrics.jsonl"
  try:
    for _ in range(9000):
      if path.exists() and len(path.read_text().splitlines()) > 5:
        break
      assert started[0].poll() is None, started[0].communicate()[0][-3000:]
      time.sleep(0.1)
    started[1].send_signal(signal.SIGINT)
  finally:
    processes.finish(started, timeout=300)
  reports = [report(workdir, i) for i in range(2)]
  assert not any(r["finished"] for r in reports)
  done = max(int(p.name) for p in (workdir / "checkpoints").iterdir())
  text = (workdir / "log.txt").read_text()
  assert f"at step {done}: the same command" in text and 5 < done < 4000


def test_the_flagship(tmp_path):
  tiny = lambda name, *flags: job(tmp_path / name, *flags, model="continuous")
  processes.finish(start([tiny("one")], 1))
  processes.finish(start([tiny("jit"), tiny("pmap", "parallel=pmap")], 8))
  assert np.ptp([r["d/loss"] for r in rows(tmp_path / "one")]) > 1e-3
  for name in ("jit", "pmap"):
    assert_same(tmp_path / name, tmp_path / "one")
    assert_same(tmp_path / name, tmp_path / "one", NORMS, rtol=1e-3)
