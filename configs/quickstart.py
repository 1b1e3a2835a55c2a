"""A video GAN that trains before your eyes: sprites, 24 pixels, two CPU cores.

  vidgan train --config configs/quickstart.py --workdir runs/quickstart

Six to eight minutes on two cores. It makes its own data: clips of
one shape that flies through a box and bounces. Expect red discs, green squares,
cyan triangles and violet crosses that move; docs/results.md has the figures.

What lets a small GAN learn this early (benchmarks/quickstart.py measures it):
a learning rate of 1e-3 with beta1 = 0.5; a first picture close to grey
instead of noise; a strong R1 penalty that fades as the shapes get sharp; two
sparse frames a clip, so that each update sees many clips.
"""

from vidgan_jax import config as config_lib


def get_config(arg=""):
  """One shape of four classes on black."""
  config_lib.parse_arg(arg)
  config = config_lib.default()
  config.total = "2800steps"
  config.batch = 32

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
    background="black",
  )
  config.data.ops = "sparse(2, 8) | value_range(-1, 1)"
  config.data.eval_ops = "first(8)"
  config.data.memory = True

  config.model.name = "continuous"
  config.model.variant = "XS"
  config.model.resolution = 24
  config.model.frames = 2
  config.model.num_classes = 4

  config.objective = "relativistic"
  config.penalties = dict(r1=dict(weight=10.0, final=0.4, interval=4))
  for optim in (config.optim.g, config.optim.d):
    optim.lr = 1e-3
    optim.b1 = 0.5
    optim.schedule = "cosine"
    optim.final = 0.1
  config.ema.halflife = "5kimg"

  config.cadence.log = "50steps"
  config.cadence.sample = "400steps"
  config.cadence.eval = "1400steps"
  config.cadence.save = "700steps"
  config.evals = dict(
    oracle=dict(num=128), frd_random=dict(num=512), speed=dict(num=64)
  )
  return config
