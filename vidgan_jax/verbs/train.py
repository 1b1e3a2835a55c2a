"""`vidgan train`: trains what a config describes, or goes on with it.

  vidgan train --config configs/quickstart.py --workdir runs/quickstart

Fields of the config are set with --config.FIELD=VALUE. A run that stopped, for
whatever reason, goes on with the same command, if its data set is the same too.
"""

import argparse
import contextlib
import os
import sys
from typing import Any

from vidgan_jax import config as config_lib
from vidgan_jax import rooms


class _Unread:
  """A stream whose reader may die, or that may be closed: a run goes on."""

  def __init__(self, stream: Any):
    self._stream = stream

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)

  def write(self, text: str) -> int:
    """Writes; drops what cannot be written."""
    self._try(self._stream.write, text)
    return len(text)

  def flush(self) -> None:
    """As `write`."""
    self._try(self._stream.flush)

  def _try(self, call, *args) -> None:
    with contextlib.suppress(OSError, ValueError):  # Of a closed one.
      try:
        call(*args)
      except OSError:
        # For good, and also for what is written past this object.
        with open(os.devnull, "wb") as null:
          os.dup2(null.fileno(), self._stream.fileno())


def main(argv: list[str]) -> int:
  """The verb."""
  parser = argparse.ArgumentParser(
    prog="vidgan train",
    description="Trains what a config describes, or goes on with it.",
    epilog="Any field can be set: --config.batch=16 --config.optim.g.lr=1e-4",
  )
  parser.add_argument(
    "--config", required=True, metavar="FILE.py[:ARG=VALUE,...]"
  )
  parser.add_argument("--workdir", required=True, metavar="DIR")
  parser.add_argument(
    "--data-changed",
    action="store_true",
    help="go on with a run although its data set is another one now",
  )
  args, rest = parser.parse_known_args(argv)
  for flag in rest:
    if not flag.startswith("--config."):
      parser.error(
        f"unknown option {flag}. "
        + rooms.nearest(
          flag, ("--config", "--workdir", "--data-changed", "--config.FIELD")
        )
      )
  config = config_lib.override(config_lib.load(args.config), rest)
  config = config_lib.validate(config)
  from vidgan_jax.train import loop  # JAX, once there is something to train.

  with (
    contextlib.redirect_stdout(_Unread(sys.stdout)),
    contextlib.redirect_stderr(_Unread(sys.stderr)),
  ):
    return 0 if loop.train(config, args.workdir, args.data_changed) else 130
