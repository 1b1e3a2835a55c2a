"""Compiles the variants of the step before the loop begins."""

from collections.abc import Callable
from collections.abc import Iterable
import concurrent.futures
import functools
import threading
import time
from typing import Any

import jax

from vidgan_jax import models

PATIENCE = 60  # seconds of compiling, after which a user wants a word


def variants(
  run: Callable,
  state: Any,
  batch: Any,
  dues: Iterable[tuple[str, ...]],
  config: Any,
  log: Callable[[str], None],
) -> dict[tuple[str, ...], Callable]:
  """Compiles each variant of the step once, and logs what it costs.

  Args:
    run: from `devices.parallel.compile_step`.
    state: the first.
    batch: the first.
    dues: values of `step.due`.
    config: of the run.
    log: gets a line for each variant, and after `PATIENCE` seconds a hint.

  Returns:
    due -> (state, batch) -> (state, metrics).
  """

  def compile_one(lowered):
    began = time.perf_counter()
    return lowered.compile(), time.perf_counter() - began

  dues = sorted(dues)
  # Lowered one after the other: where two threads open one global array at
  # once, jaxlib may hand out its parts twice.
  lowered = [run.lower(state, batch, due) for due in dues]
  # On a CPU a compiler takes gigabytes, and all cores by itself: they queue.
  workers = 1 if jax.default_backend() == "cpu" else len(dues)
  late = threading.Timer(PATIENCE, log, [_smaller(config.model)])
  late.start()
  try:
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
      results = list(pool.map(compile_one, lowered))
  finally:
    late.cancel()
  steps = {}
  for due, (compiled, seconds) in zip(dues, results):
    memory = compiled.memory_analysis()
    flops = (compiled.cost_analysis() or {}).get("flops", float("nan"))
    sizes = (
      f", {memory.argument_size_in_bytes / 2**20:.0f} MiB of arguments and "
      f"{memory.temp_size_in_bytes / 2**20:.0f} MiB of temporaries a device"
      if memory
      else ""
    )
    log(
      f"Step with {'+'.join(due) or 'no adversary'}: compiled in {seconds:.1f} "
      f"s, {flops / 1e9:.2f} GFLOP{sizes}"
    )
    # pmap's own executable cannot be called with global arrays.
    steps[due] = (
      compiled if config.parallel == "jit" else functools.partial(run, due=due)
    )
  return steps


def _smaller(model: Any) -> str:
  """What to say where compiling takes long: which model is smaller."""
  sizes = list(models.variants(model.name))
  smaller = sizes[: sizes.index(model.variant)]
  kept = "What is compiled is kept for the next start."
  if not smaller:
    return f"Still compiling: on few cores that takes minutes. {kept}"
  return (
    f"Still compiling: variant {model.variant!r} at {model.resolution} pixels "
    "is large for few cores, and will train slowly there. On a laptop take "
    f"--config.model.variant={smaller[0]}, fewer pixels, a smaller "
    f"--config.batch. {kept}"
  )
