"""`vidgan train`: trains what a config describes, or goes on with it.

  vidgan train --config configs/quickstart.py --workdir runs/quickstart

Fields of the config are set with --config.FIELD=VALUE. A run that stopped, for
whatever reason, goes on with the same command, if its data set is the same too.
"""

import argparse

from vidgan_jax import config as config_lib
from vidgan_jax import rooms


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

  return 0 if loop.train(config, args.workdir, args.data_changed) else 130
