"""The variants of the step, compiled once each."""

import contextlib
import threading

import numpy as np

from vidgan_jax import config as config_lib
from vidgan_jax.train import compile as compile_lib


def test_variants_of_the_step_are_lowered_in_one_thread(monkeypatch):
  """Two threads that open one array at once may get its parts twice."""
  here = threading.current_thread()
  compiled, hinted = [], threading.Event()
  monkeypatch.setattr(compile_lib, "PATIENCE", 0.01)

  class Lowered:
    def __init__(self, due):
      assert threading.current_thread() is here
      self.due = due

    def compile(self):
      hinted.wait(9)  # Compiles for longer than the patience lasts.
      compiled.append(self.due)
      return self

    def memory_analysis(self):
      return None

    def cost_analysis(self):
      return {"flops": 1e9}

  run = lambda state, batch, due: (state, batch, due)
  run.lower = lambda state, batch, due: Lowered(due)
  dues, said = {("adversary",), ("adversary", "r1")}, []

  def log(line):
    said.append(line)
    hinted.set()

  config = config_lib.complete({"parallel": "pmap"})
  config.model.variant = "L"
  with contextlib.ExitStack() as stack:
    steps = compile_lib.variants(run, 1, 2, dues, config, log, stack)
  assert set(compiled) == set(steps) == dues and len(said) == 3
  assert "--config.model.variant=XS" in said[0]
  for due in dues:
    assert steps[due](1, 2) == (1, 2, due)


def test_the_loop_begins_when_its_first_variant_is_compiled():
  """The others are compiled meanwhile, from shapes: arrays are donated."""
  began = threading.Event()
  lowered, said = [], []

  class Lowered:
    def __init__(self, state, due):
      assert state.shape == (3,) and not hasattr(state, "addressable_shards")
      lowered.append(due)
      self._due = due

    def compile(self):
      assert self._due == first or began.wait(60)
      return self

    def __call__(self, state, batch):
      return state, batch, self._due

    memory_analysis = cost_analysis = lambda self: None

  first, later = ("adversary", "r1"), ("adversary",)
  run = lambda state, batch, due: None
  run.lower = lambda state, batch, due: Lowered(state, due)
  config = config_lib.complete({"parallel": "jit"})
  with contextlib.ExitStack() as stack:
    steps = compile_lib.variants(
      run, np.zeros(3), np.zeros(2), [first, later], config, said.append, stack
    )
    assert len(said) == 1 and "adversary+r1" in said[0]
    assert steps[first](1, 2) == (1, 2, first)
    began.set()
    for _ in range(2):
      assert steps[later](1, 2) == (1, 2, later)
  assert lowered == [first, later] and len(said) == 2
