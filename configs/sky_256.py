"""Sky time-lapses at 256 pixels, unconditional.

Data: the frames or videos of Sky Time-lapse (Xiong et al. 2018), or any folder
of sky videos of your own:

  vidgan prepare FOLDER data/sky --size 256 --square --encoding jpeg

Run (made for 8 GPUs or a TPU v5e-16; about 3 days; not yet run to its end, so
no FVD is claimed):

  vidgan train --config configs/sky_256.py:data=data/sky --workdir runs/sky
"""

from vidgan_jax import config as config_lib


def get_config(arg=""):
  """Three sparse frames out of 32."""
  arg = config_lib.parse_arg(arg, data="data/sky")
  config = config_lib.default()
  config.total = "25000kimg"
  config.batch = 64

  config.data.name = "tfds"
  config.data.options = dict(directory=arg.data, min_frames=32)
  config.data.ops = (
    "sparse(3, 32) | resize(256) | crop(256) | flip_lr | value_range(-1, 1)"
  )
  config.data.eval_ops = "first(16) | resize(256) | center_crop(256)"

  config.model.variant = "XL"
  config.model.resolution = 256
  config.model.frames = 3

  for name in ("r1", "r2"):
    config.penalties[name] = dict(weight=75.0, final=7.5, interval=8)
  config.augment.policy = "flip,color,translation,cutout"
  config.augment.target = 0.6
  for optim in (config.optim.g, config.optim.d):
    optim.schedule = "cosine"
    optim.final = 0.25
  config.ema.halflife = "500kimg"
  config.precision = "bfloat16"

  config.cadence.log = "100steps"
  config.cadence.sample = "50kimg"
  config.cadence.eval = "200kimg"
  config.cadence.save = "50kimg"
  config.evals = dict(frd_random=dict(num=2048), speed={})
  return config
