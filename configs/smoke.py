"""Twenty steps of everything on a CPU, to see whether it runs at all.

  vidgan train --config configs/smoke.py --workdir runs/smoke

Expect no picture worth looking at. The argument takes any model:
configs/smoke.py:model=mlp
"""

from vidgan_jax import config as config_lib


def get_config(arg=""):
  """The smallest run that touches every part."""
  arg = config_lib.parse_arg(arg, model="continuous")
  config = config_lib.default()
  config.total = "20steps"
  config.batch = 8

  config.data.name = "sprites"
  config.data.options = dict(resolution=16, frames=8, size=64, objects=1)
  config.data.ops = "clip(4) | value_range(-1, 1)"
  config.data.eval_ops = "first(4)"
  config.data.memory = True

  config.model.name = arg.model
  config.model.variant = "XS" if arg.model == "continuous" else "S"
  config.model.resolution = 16
  config.model.frames = 4
  config.model.num_classes = 4

  config.penalties = dict(r1=dict(weight=1.0, interval=2))
  config.augment.policy = "color,translation"
  config.augment.p = 0.2

  config.cadence.log = "5steps"
  config.cadence.sample = "10steps"
  config.cadence.eval = "20steps"
  config.cadence.save = "10steps"
  config.evals = dict(frd_random=dict(num=16), speed=dict(num=8, repeats=2))
  return config
