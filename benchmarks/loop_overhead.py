"""What the loop costs beside the step.

  python benchmarks/loop_overhead.py [--config configs/quickstart.py]
    [--steps 8] [--blocks 12]

Runs `loop.train` and stops it every so many steps, to run as many bare steps
(the same compiled function, on one batch that lies ready) before it goes on:
blocks of the two take turns, and each begins and ends with an idle device.
Prints the median time of a step in the loop and of a bare one, the median of
the ratios of neighbouring blocks (aim: at most 1.05), and the share of the
loop's time in which it waits for data (aim: at most 2 %). Samples, evaluations
and checkpoints are off: they are not part of a step. Exits with 1 when an aim
is missed. Takes less than two minutes on two cores.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

import jax
import jax.numpy as jnp

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from vidgan_jax import config as config_lib  # noqa: E402
from vidgan_jax.data import pipeline  # noqa: E402
from vidgan_jax.train import compile as compile_lib  # noqa: E402
from vidgan_jax.train import loop  # noqa: E402


class Watch:
  """Stands between the loop and its step and data, and keeps the time."""

  def __init__(self, steps: int):
    self._steps = steps
    self._count = 0  # steps that the loop has asked data for
    self._state = None  # the loop's newest
    self._dues, self._first = [], None
    self._waited = 0.0
    self.loop, self.bare, self.wait, self.make = [], [], [], []

  def compile(self, run, state, batch, *args):
    """Stands for `compile.variants`."""
    self._compiled = _compile(run, state, batch, *args)
    self._first = batch

    def told(due):
      def step(state, batch):
        self._dues = [*self._dues, due][-self._steps :]
        out = self._compiled[due](state, batch)
        self._state = out[0]
        return out

      return step

    return {due: told(due) for due in self._compiled}

  def create(self, *args, **kwargs):
    """Stands for `pipeline.create`."""
    data = _create(*args, **kwargs)
    batches = data.batches

    def told(start=0):
      source = batches(start)
      while True:
        if self._state is not None and self._count % self._steps == 0:
          self._pause(data)
        began = time.perf_counter()
        batch = next(source)
        self._waited += time.perf_counter() - began
        self._count += self._state is not None
        yield batch

    data.batches = told
    return data

  def _pause(self, data):
    """The loop has done its block: now as many bare steps."""
    jax.block_until_ready(self._state)
    now = time.perf_counter()
    if self._count > self._steps:  # The first block warms up.
      self.loop.append((now - self._began) / self._steps)
      self.wait.append(self._waited / (now - self._began))
    state = jax.tree.map(jnp.copy, self._state)
    jax.block_until_ready(state)
    began = time.perf_counter()
    for due in self._dues:
      state, metrics = self._compiled[due](state, self._first)
    jax.block_until_ready((state, metrics))
    if self._count > self._steps:
      self.bare.append((time.perf_counter() - began) / self._steps)
    source = iter(data.batch(i) for i in [0]) if hasattr(data, "batch") else ()
    began = time.perf_counter()
    for batch in source:
      jax.block_until_ready(batch)
      self.make.append(time.perf_counter() - began)
    self._waited, self._began = 0.0, time.perf_counter()


_compile, _create = compile_lib.variants, pipeline.create


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--config", default=str(ROOT / "configs/quickstart.py"))
  parser.add_argument("--steps", type=int, default=8, help="of a block")
  parser.add_argument("--blocks", type=int, default=12)
  args = parser.parse_args()

  total = args.steps * (args.blocks + 2)
  config = config_lib.override(
    config_lib.load(args.config),
    [
      f"--config.{flag}"
      for flag in (
        f"total={total}steps",
        "cadence.sample=0steps",
        "cadence.save=0steps",
        "evals={}",
      )
    ],
  )
  watch = Watch(args.steps)
  compile_lib.variants, pipeline.create = watch.compile, watch.create
  with tempfile.TemporaryDirectory() as workdir:
    if not loop.train(config_lib.validate(config), workdir):
      return 130

  ratios = [a / b for a, b in zip(watch.loop, watch.bare)]
  ratio = statistics.median(ratios)
  wait = statistics.median(watch.wait)
  low, _, high = statistics.quantiles(ratios)
  print(
    f"\n{len(ratios)} blocks of {args.steps} steps, {jax.device_count()} x "
    f"{jax.devices()[0].device_kind}\n"
    f"step in the loop  {1e3 * statistics.median(watch.loop):8.2f} ms\n"
    f"bare step         {1e3 * statistics.median(watch.bare):8.2f} ms\n"
    f"ratio             {ratio:8.3f}      aim <= 1.05 "
    f"(quartiles {low:.3f} to {high:.3f})\n"
    f"waiting for data  {100 * wait:8.2f} %    aim <= 2 %"
  )
  if watch.make:
    print(
      f"making a batch    {1e3 * statistics.median(watch.make):8.2f} ms "
      "on the idle device, part of the loop's step"
    )
  return int(ratio > 1.05 or wait > 0.02)


if __name__ == "__main__":
  sys.exit(main())
