"""Wishes to stop: Ctrl-C, SIGTERM, and a machine that is taken away."""

import os
import signal

import jax


class Signals:
  """Turns the first Ctrl-C or SIGTERM into a wish; the second one kills.

  Of several processes all must stop at the same step, whichever of them got
  the signal. JAX sees to that when SIGTERM is left to it (see
  `Checkpoints.preempted`), so Ctrl-C is made into one.

  Attributes:
    asked: the name of the signal that came; '' as long as none has.
  """

  def __init__(self):
    self.asked = ""
    self._old = {}
    self._pressed = False

  def __enter__(self):
    self._alone = jax.process_count() == 1
    numbers = [signal.SIGINT] + [signal.SIGTERM] * self._alone
    try:
      for number in numbers:
        self._old[number] = signal.signal(number, self._handle)
    except ValueError:  # Not the main thread: its owner handles signals.
      pass
    return self

  def _handle(self, number, frame):
    if self._pressed:
      raise KeyboardInterrupt
    self._pressed = True
    if self._alone:
      self.asked = {signal.SIGINT: "Ctrl-C"}.get(number, "SIGTERM")
    else:
      os.kill(os.getpid(), signal.SIGTERM)

  def __exit__(self, *_):
    for number, handler in self._old.items():
      signal.signal(number, handler)
