"""The textbook system: fully connected networks, cross-entropy, Adam 2e-4.

G: z (100) - 256 - 512 - 1024 - clip, D the other way round, as in Goodfellow
et al. 2014 with the non-saturating loss and the betas 0.5 and 0.999 of Radford
et al. 2016. It makes its own data (sprites).

  vidgan train --config configs/mlp.py --workdir runs/mlp

A few minutes on two cores. Expect coloured blobs where the shapes fly:
without convolutions every place must be learnt on its own. Made for reading;
configs/quickstart.py is the one that works.
"""

from vidgan_jax import config as config_lib


def get_config(arg=""):
  """Clips of 8 frames of 24 pixels, drawn whole."""
  config_lib.parse_arg(arg)
  config = config_lib.default()
  config.total = "4000steps"
  config.batch = 64

  config.data.name = "sprites"
  config.data.options = dict(
    resolution=24,
    frames=8,
    fps=8,
    objects=1,
    size=4096,
    radius=(0.2, 0.26),
    motion="straight",
    texture="flat",
    shading=False,
    background="plain",
  )
  config.data.ops = "clip(8) | value_range(-1, 1)"
  config.data.eval_ops = "first(8)"
  config.data.memory = True

  config.model.name = "mlp"
  config.model.variant = "S"
  config.model.resolution = 24
  config.model.frames = 8
  config.model.num_classes = 4

  config.objective = "nonsaturating"
  for optim in (config.optim.g, config.optim.d):
    optim.lr = 2e-4
    optim.b1 = 0.5
    optim.b2 = 0.999
  config.ema.halflife = "5kimg"

  config.cadence.log = "100steps"
  config.cadence.sample = "1000steps"
  config.cadence.eval = "2000steps"
  config.cadence.save = "1000steps"
  config.evals = dict(
    oracle=dict(num=128), frd_random=dict(num=512), speed=dict(num=64)
  )
  return config
