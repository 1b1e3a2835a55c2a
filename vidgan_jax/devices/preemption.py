"""Wishes to stop: Ctrl-C, SIGTERM, SIGHUP, a machine that is taken away."""

from collections.abc import Iterator
import contextlib
import os
import signal

import jax


class Stopped(KeyboardInterrupt):
  """A signal came where nothing is lost by stopping at once."""


class Signals:
  """Turns Ctrl-C, SIGTERM and SIGHUP into a wish; a second Ctrl-C kills.

  A terminal that closes may send SIGHUP twice, and a scheduler SIGTERM as often
  as it likes: these are one wish.

  Of several processes all must stop at the same step, whichever of them got
  the signal. JAX sees to that when SIGTERM is left to it (see
  `Checkpoints.preempted`), so the others are made into one.

  Attributes:
    asked: the name of the signal that came; '' as long as none has.
  """

  def __init__(self):
    self.asked = ""
    self._old = {}
    self._pressed = self._at_once = False

  def __enter__(self):
    self._alone = jax.process_count() == 1
    numbers = [signal.SIGINT, signal.SIGHUP] + [signal.SIGTERM] * self._alone
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # `nohup`
      numbers.remove(signal.SIGHUP)
    try:
      for number in numbers:
        self._old[number] = signal.signal(number, self._handle)
    except ValueError:  # Not the main thread: its owner handles signals.
      pass
    return self

  def _handle(self, number, frame):
    if self._pressed:
      if number == signal.SIGINT:
        raise KeyboardInterrupt
      return
    self._pressed = True
    if not self._alone:
      os.kill(os.getpid(), signal.SIGTERM)
      return
    name = signal.Signals(number).name
    self.asked = {"SIGINT": "Ctrl-C"}.get(name, name)
    if self._at_once:
      raise Stopped

  @contextlib.contextmanager
  def at_once(self) -> Iterator[None]:
    """Makes a wish end the block by `Stopped`, wherever it is.

    Raises:
      Stopped: there is a wish. It may come late, or be lost in code that drops
        exceptions; `asked` stands.
    """
    if self.asked:
      raise Stopped
    self._at_once = True
    try:
      yield
    finally:
      self._at_once = False

  def __exit__(self, *_):
    for number, handler in self._old.items():
      signal.signal(number, handler)
