"""Short runs of training, for the tests of what reads them."""

import pathlib

from vidgan_jax import config as config_lib
from vidgan_jax.train import loop

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"


def train(workdir, config, *flags):
  """Trains 'FILE:ARG=VALUE' of configs/ with flags 'FIELD=VALUE'."""
  config = config_lib.override(
    config_lib.load(f"{CONFIGS}/{config}"), [f"--config.{f}" for f in flags]
  )
  assert loop.train(config_lib.validate(config), workdir)
  return workdir
