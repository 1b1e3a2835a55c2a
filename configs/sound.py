"""Sound to video: a shape that bounces when it is heard to bounce.

  vidgan train --config configs/sound.py --workdir runs/sound
  vidgan generate runs/sound --sound drums.wav --out drums.mp4

About an hour on two cores. In the world of the sprites each bounce is a tone,
and a small object sounds high. Clips of a second are trained on, every frame of
them: what is heard between two frames decides where things are in the next.

A generator that hears (models/condition.py, `Around`) sees 7 frames of sound to
either side. D looks at the whole clip (`temporal_head`) and is asked which
sound of the batch is the clip's, and when it begins (`sync`; after Chung and
Zisserman 2016); so it must not see the sound beside the frames.
"""

from vidgan_jax import config as config_lib


def get_config(arg=""):
  """One shape on black, whose bounces are given as sound."""
  config_lib.parse_arg(arg)
  config = config_lib.default()
  config.total = "8000steps"
  config.batch = 16

  config.data.name = "sprites"
  config.data.options = dict(
    resolution=24,
    frames=16,
    fps=8,
    objects=1,
    size=8192,
    radius=(0.13, 0.26),
    motion="straight",
    texture="flat",
    shading=False,
    background="black",
    supervision=("sound",),
  )
  config.data.ops = "clip(8) | value_range(-1, 1)"
  config.data.eval_ops = "first(16)"
  config.data.memory = True

  config.task.options = dict(label=False, signals=("sound",))
  config.model.name = "continuous"
  config.model.variant = "XS"
  config.model.resolution = 24
  config.model.frames = 8
  config.model.generator = dict(motion_period=0.5)
  config.model.discriminator = dict(temporal_head=True, sync=64)

  config.objective = "relativistic"
  config.reconstruction = dict(sync=dict(weight=1.0))
  config.penalties = dict(r1=dict(weight=10.0, final=0.4, interval=4))
  for optim in (config.optim.g, config.optim.d):
    optim.lr = 1e-3
    optim.b1 = 0.5
    optim.schedule = "cosine"
    optim.final = 0.1
  config.ema.halflife = "5kimg"

  config.cadence.log = "100steps"
  config.cadence.sample = "1000steps"
  config.cadence.eval = "4000steps"
  config.cadence.save = "500steps"
  config.evals = dict(sync=dict(num=128), frd_random=dict(num=512))
  return config
