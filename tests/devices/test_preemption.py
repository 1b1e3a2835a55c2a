"""Signals become wishes, and are never lost nor too strong."""

import signal

import pytest

from vidgan_jax.devices import preemption


def test_one_wish_however_often_it_is_sent():
  before = signal.getsignal(signal.SIGTERM)
  with preemption.Signals() as stop:
    assert not stop.asked
    for _ in range(3):
      signal.raise_signal(signal.SIGTERM)
      signal.raise_signal(signal.SIGHUP)
    assert stop.asked == "SIGTERM"
    with pytest.raises(preemption.Stopped), stop.at_once():
      raise AssertionError("it was asked before")
    with pytest.raises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)
  assert signal.getsignal(signal.SIGTERM) == before


def test_a_block_that_nothing_is_lost_in_ends_at_once():
  with preemption.Signals() as stop:
    with pytest.raises(preemption.Stopped), stop.at_once():
      signal.raise_signal(signal.SIGINT)
      raise AssertionError("it goes on")
    assert stop.asked == "Ctrl-C"


def test_nohup_is_respected():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with preemption.Signals() as stop:
      signal.raise_signal(signal.SIGHUP)
    assert not stop.asked
  finally:
    signal.signal(signal.SIGHUP, before)
