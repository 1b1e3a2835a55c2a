"""Compiles the variants of the step: the first one, then the others."""

from collections.abc import Callable
from collections.abc import Iterable
import concurrent.futures
import contextlib
import ctypes
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
  stack: contextlib.ExitStack,
) -> dict[tuple[str, ...], Callable]:
  """Compiles each variant of the step once, and logs what it costs.

  Under `jit`, in a process that is alone, only the first is waited for here.
  The others are compiled while steps run, and waited for where one is due.

  Args:
    run: from `devices.parallel.compile_step`.
    state: the first.
    batch: the first.
    dues: values of `step.due`, in the order in which they are wanted.
    config: of the run.
    log: gets a line for each variant, and after `PATIENCE` seconds a hint.
    stack: when it closes, nothing more is compiled.

  Returns:
    due -> (state, batch) -> (state, metrics).
  """
  dues, jit = list(dues), config.parallel == "jit"
  alone = jit and jax.process_count() == 1
  if alone:  # Shapes: the arrays are gone after a step.
    lower = functools.partial(
      run.lower, *jax.eval_shape(lambda *x: x, state, batch)
    )
  else:
    # Lowered one after the other: where two threads open one global array at
    # once, jaxlib may hand out its parts twice.
    lower = {due: run.lower(state, batch, due) for due in dues}.pop

  def compile_one(due):
    _give_back()  # What making the state has left.
    began = time.perf_counter()
    compiled = lower(due).compile()
    _give_back()
    return compiled, time.perf_counter() - began

  # On a CPU a compiler takes gigabytes, and all cores by itself: they queue.
  workers = 1 if jax.default_backend() == "cpu" else len(dues)
  pool = concurrent.futures.ThreadPoolExecutor(workers)
  stack.callback(pool.shutdown, cancel_futures=True)
  futures = {due: pool.submit(compile_one, due) for due in dues}

  @functools.cache
  def step(due):
    compiled, seconds = futures.pop(due).result()
    _report(due, compiled, seconds, log)
    # pmap's own executable cannot be called with global arrays.
    return compiled if jit else functools.partial(run, due=due)

  late = threading.Timer(PATIENCE, log, [_smaller(config.model)])
  late.start()
  try:
    for due in dues[:1] if alone else dues:
      step(due)
  finally:
    late.cancel()
  return {
    due: lambda state, batch, due=due: step(due)(state, batch) for due in dues
  }


def _give_back() -> None:
  """Gives memory that was freed back: glibc keeps what compilers have had."""
  with contextlib.suppress(AttributeError, OSError):  # Of another libc.
    ctypes.CDLL(None).malloc_trim(0)


def _report(due, compiled, seconds, log) -> None:
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
