"""The variants of the step, compiled before the loop."""

import threading

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
  steps = compile_lib.variants(run, 1, 2, dues, config, log)
  assert set(compiled) == set(steps) == dues and len(said) == 3
  assert "--config.model.variant=XS" in said[0]
  for due in dues:
    assert steps[due](1, 2) == (1, 2, due)
