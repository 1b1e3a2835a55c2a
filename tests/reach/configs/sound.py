"""Twenty steps of a generator that hears, on sprites that bounce."""

import pathlib

from vidgan_jax import config as config_lib


def get_config(arg=""):
  """`smoke` with sounds in place of labels."""
  path = pathlib.Path(__file__).with_name("smoke.py")
  config = config_lib.load(f"{path}:{arg}" if arg else str(path))
  world = dict(resolution=16, frames=8, objects=1)
  config.data.options = dict(**world, size=64, supervision="sound")
  config.task.name = "sound"
  config.task.options = dict(world=world, frames=4)
  config.model.num_classes = 0
  return config
