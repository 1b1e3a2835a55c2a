"""Nine ways to repair, improve and complete real footage; one trunk for all.

Data: any folder of good videos, as small as they are to be trained on.

  vidgan prepare FOLDER data/clips --size 128 --no-labels --max-frames 48

Run, ten minutes on two cores:

  vidgan train --config configs/video_to_video.py:task=denoise --workdir runs/d
  vidgan process runs/d in.mp4 out.mp4

`task` is super_resolve (with scale=2, 3 or 4), denoise, deblock, inpaint,
colorize, enhance, interpolate, predict or restore. Each starts as the classical
answer and prints at its end how far it got beyond the best one. `gan` adds the
adversary for the last two fifths of the run: sharper, at a price in decibels.
With 'sprites' as data, movement can be learnt in minutes (interpolate,
predict); on real clips these two want a GPU and hours. `flow` adds the loss
along the true motion, which sprites know. super_resolve and denoise have a
second network, `model=recurrent`, that remembers what it has made before. Of
predict's futures the best of five is measured with
--config.evals.restoration.num_samples=5.

Three tasks have another form: denoise, where noise differs from place to place
and the model is told a map of it; interpolate, where frames are missing at any
phase between two, as for `vidgan process runs/i:fps=60`; and colorize, where
the colours of some pixels are given, and of one frame in a quarter of clips:

  --config.task.options.spatial=True --config.model.generator.vector_dim=0
  --config.task.options.arbitrary=True --config.task.options.rate=3
  --config.task.options.hints=20 --config.task.options.reference=0.25

`enhance` takes all clips for dark. So that those that need nothing stay as they
are, for which it gives up decibels on the darkest:

  --config.task.options.clean=0.25 --config.task.options.gamma=(1.0,2.6)
  --config.model.generator.base=copy --config.model.generator.follow=True
"""

from vidgan_jax import config as config_lib
from vidgan_jax import rooms

RECURRENT = ("super_resolve", "denoise")
LOSSY = ("denoise", "deblock", "restore")
# What differs: fields of the generator, and of the task.
TASKS = {
  "super_resolve": dict(base="lanczos", patch=1),
  "denoise": dict(vector_dim=1),
  "deblock": dict(),
  "inpaint": dict(base="fill", compose=True, motion=8.0),
  "colorize": dict(base="paint", keep_luma=True),
  "enhance": dict(base="levels", curve=True),
  "interpolate": dict(base="temporal", compose=True, motion=8.0),
  "predict": dict(base="hold", compose=True, motion=8.0, noise_dim=16),
  "restore": dict(),
}
# What footage lacks as a rule: too dark and flat. By its defaults the task also
# makes clips that are too bright.
DARK = dict(
  exposure=(-0.5, 0.2),
  gamma=(1.4, 2.6),
  contrast=(0.7, 1.0),
  saturation=(0.7, 1.1),
  vignette=(0.0, 0.3),
)


def get_config(arg=""):
  """Five frames of 64 pixels; batches of four."""
  arg = config_lib.parse_arg(
    arg,
    task="denoise",
    data="data/clips",
    scale=2,
    gan=False,
    flow=False,
    model="trunk",
    variant="S",
    total="2000steps",
  )
  rooms.check_name(arg.task, TASKS, "the argument task")
  rooms.check_name(arg.model, ("trunk", "recurrent"), "the argument model")
  if arg.model == "recurrent" and arg.task not in RECURRENT:
    raise config_lib.ConfigError(
      f"The argument model=recurrent is for {' and '.join(RECURRENT)}, not for "
      f"{arg.task}: leave it out."
    )
  if arg.flow and arg.data != "sprites":
    raise config_lib.ConfigError(
      "The argument flow needs data that know their optical flow, as "
      f"data=sprites do, and data is {arg.data!r}: leave flow out."
    )
  config = config_lib.default()
  config.total = arg.total
  config.batch = 4

  if arg.data == "sprites":
    config.data.name = "sprites"
    config.model.resolution = 48
    config.data.options = dict(resolution=48, frames=9, fps=12)
    config.data.ops = "clip(5) | value_range(-1, 1)"
    config.data.eval_ops = "first(5)"
    if arg.task == "colorize":
      # The colour of a shape follows from what it is, that of a backdrop not.
      config.data.options.background = "black"
  else:
    config.data.name = "tfds"
    config.data.options = dict(directory=arg.data)
    config.data.ops = (
      "clip(5) | crop(64) | flip_lr | reverse | value_range(-1, 1)"
    )
    config.data.eval_ops = "middle(5) | center_crop(64)"

  config.task.name = arg.task
  config.model.name = arg.model
  config.model.variant = arg.variant
  config.model.frames = 5
  config.model.generator = dict(TASKS[arg.task])
  if arg.task == "enhance":
    config.task.options = dict(DARK)
  if arg.task == "super_resolve":
    config.task.options = dict(scale=arg.scale)
    config.model.generator.scale = arg.scale

  config.reconstruction = dict(
    # Of what noise and compression took, the mean is wanted, not the median
    # (docs/results.md, section 9).
    charbonnier=dict(weight=1.0, epsilon=0.1 if arg.task in LOSSY else 1e-3),
    temporal_difference=dict(weight=0.5),
  )
  config.objective = "hinge"
  config.adversary = dict(
    weight=0.01 if arg.gan else 0.0,
    start=_share(arg.total, 0.6),
    ramp=_share(arg.total, 0.05),
    hold=2.0,
  )
  if arg.flow:
    config.data.options.supervision = ("flow",)
    config.reconstruction.flow_warp = dict(weight=0.5)
  if arg.gan:
    config.reconstruction.feature_matching = dict(weight=0.01)
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
  config.evals = dict(restoration=dict(num=64))
  return config


def _share(duration, share):
  """A part of a duration: ('2000steps', 0.5) -> '1000steps'."""
  number = duration.rstrip("abcdefghijklmnopqrstuvwxyz")
  return f"{round(float(number) * share)}{duration[len(number) :]}"
