"""The config of workdir_0_1/, as a user of version 0.1 has written it."""

from vidgan_jax import config as config_lib


def get_config(arg=""):
  """Sprites of 8 pixels; the smallest pair of networks with all penalties."""
  arg = config_lib.parse_arg(arg, total="2steps")
  config = config_lib.default()
  config.total = arg.total
  config.batch = 4

  config.data.name = "sprites"
  config.data.options = dict(
    resolution=8, frames=8, size=16, objects=1, radius=(0.2, 0.26)
  )
  config.data.ops = "sparse(2, 8) | value_range(-1, 1)"
  config.data.eval_ops = "first(4)"
  config.data.memory = True

  config.model.name = "continuous"
  config.model.variant = "XS"
  config.model.resolution = 8
  config.model.frames = 2
  config.model.num_classes = 4
  config.model.generator = dict(
    widths=(8,), content_dim=8, motion_dim=4, motion_features=8, style_dim=16
  )
  config.model.discriminator = dict(widths=(8,), joint=16)

  config.penalties = dict(
    r1=dict(weight=1.0, final=0.1), lecam=dict(weight=0.1)
  )
  config.augment.policy = "color,translation"
  config.augment.p = 0.2
  for optim in (config.optim.g, config.optim.d):
    optim.schedule = "cosine"

  config.cadence.log = "1steps"
  config.cadence.sample = "0steps"
  config.evals = {}
  return config
