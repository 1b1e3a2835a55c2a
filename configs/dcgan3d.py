"""The 3-D convolutional classic: VideoGAN's and DCGAN's recipe.

One latent vector becomes a whole clip through 3-D convolutions, moving
foreground before a still background (Vondrick et al. 2016); optimizer and loss
of Radford et al. 2016. It makes its own data (sprites).

  vidgan train --config configs/dcgan3d.py --workdir runs/dcgan3d

An hour or more on two cores (16 frames of 32 pixels at every step, where
configs/quickstart.py shows two of 24), minutes on a GPU.
"""

from vidgan_jax import config as config_lib


def get_config(arg=""):
  """Clips of 16 frames of 32 pixels, drawn whole."""
  config_lib.parse_arg(arg)
  config = config_lib.default()
  config.total = "4000steps"
  config.batch = 32

  config.data.name = "sprites"
  config.data.options = dict(
    resolution=32,
    frames=16,
    fps=8,
    objects=1,
    size=4096,
    radius=(0.2, 0.26),
    motion="straight",
    texture="flat",
    shading=False,
    background="plain",
  )
  config.data.ops = "clip(16) | value_range(-1, 1)"
  config.data.eval_ops = "first(16)"
  config.data.memory = True

  config.model.name = "dcgan3d"
  config.model.variant = "S"
  config.model.resolution = 32
  config.model.frames = 16
  config.model.num_classes = 4
  config.model.generator = dict(two_stream=True)

  config.objective = "nonsaturating"
  config.penalties = dict(r1=dict(weight=5.0, interval=4))
  for optim in (config.optim.g, config.optim.d):
    optim.lr = 2e-4
    optim.b1 = 0.5
    optim.b2 = 0.999
  config.ema.halflife = "5kimg"

  config.cadence.log = "50steps"
  config.cadence.sample = "500steps"
  config.cadence.eval = "2000steps"
  config.cadence.save = "500steps"
  config.evals = dict(
    oracle=dict(num=128), frd_random=dict(num=512), speed=dict(num=64)
  )
  return config
