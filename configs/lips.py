r"""Talking faces: the lower half of a face moves as a voice is heard.

Data: videos of speakers with their sound, the face in the middle and of one
size; a folder of the held-out speakers named test.

  vidgan prepare FACES data/faces --size 64 --square --sound --no-labels \
    --test-match '^test/'

Run, half an hour on two cores:

  vidgan train --config configs/lips.py --workdir runs/lips
  vidgan process runs/lips:sound=speech.wav face.mp4 out.mp4

Of twelve frames the generator sees the upper half, the mouth of one of them,
which does not move, and a row of sound a frame. It starts as that still mouth:
the row `still` of the table at the end is the floor. Eight clips can teach it
that a mouth opens when it is loud, no more, and benchmarks/faces.py measures
whether the right sound helps with a held-out speaker at all. Real lip sync
needs hours of video and a GPU. Film faces with their consent, and say of the
result that it is made.

`data=sprites` tries the path without faces. `gan` adds the adversary for the
last two fifths of the run, for teeth and lips that are not blurred; it is asked
as well which sound is the clip's, and when it begins (after Chung and Zisserman
2016).
"""

from vidgan_jax import config as config_lib


def get_config(arg=""):
  """Twelve frames of 64 pixels; batches of two."""
  arg = config_lib.parse_arg(
    arg, data="data/faces", gan=False, variant="S", total="3000steps"
  )
  config = config_lib.default()
  config.total = arg.total
  config.batch = 2

  if arg.data == "sprites":
    config.data.name = "sprites"
    config.data.options = dict(
      resolution=64, frames=16, fps=12, supervision=("sound",)
    )
    config.data.ops = "clip(12) | value_range(-1, 1)"
    config.data.eval_ops = "first(12)"
  else:
    config.data.name = "tfds"
    config.data.options = dict(directory=arg.data)
    config.data.ops = (
      "clip(12) | center_crop(64) | flip_lr | value_range(-1, 1)"
    )
    config.data.eval_ops = "middle(12) | center_crop(64)"

  config.task.name = "lips"
  config.model.name = "trunk"
  config.model.variant = arg.variant
  config.model.resolution = 64
  config.model.frames = 12
  config.model.generator = dict(base="copy", compose=True)

  config.reconstruction = dict(
    charbonnier=dict(weight=1.0), temporal_difference=dict(weight=0.5)
  )
  config.objective = "hinge"
  if arg.gan:
    config.model.discriminator = dict(heads=("triplet", "temporal"), sync=32)
    config.reconstruction.sync = dict(weight=0.1)
  steps = int(arg.total.removesuffix("steps"))
  config.adversary = dict(
    weight=0.02 if arg.gan else 0.0,
    start=f"{round(0.6 * steps)}steps",
    ramp=f"{round(0.05 * steps)}steps",
    hold=2.0,
  )
  for optim in (config.optim.g, config.optim.d):
    optim.lr = 1.5e-3
    optim.b1 = 0.9
    optim.schedule = "cosine"
    optim.warmup = "40steps"
    optim.clip = 0.5
  config.ema.halflife = "1kimg"

  config.cadence.log = "50steps"
  config.cadence.sample = "500steps"
  config.cadence.eval = arg.total
  config.cadence.save = "500steps"
  config.evals = dict(restoration=dict(num=32))
  return config
