"""Any folder of videos, unconditional or by sub-folder.

Data: a folder of videos, made into a data set with

  vidgan prepare FOLDER data/mine --size 64

Run (one GPU of 16 GiB or more; hours to days, the longer the better):

  vidgan train --config configs/video_folder.py:data=data/mine,res=64 \
    --workdir runs/mine

On a laptop (two cores and more, hours; the first start compiles for minutes):

  vidgan train --config configs/video_folder.py:res=32,variant=XS \
    --workdir runs/mine

Arguments: data, res (32, 64, 128 or 256 pixels), frames (of the clips that are
sampled), classes (how many sub-folders to tell apart; 0 is unconditional),
dense (train on whole clips with temporal layers instead of 3 sparse frames),
variant (XS, S, M, L or XL; by default it follows from res).
Sky, faces, dances, one kind of thing: the narrower the data, the better.
"""

from vidgan_jax import config as config_lib

_VARIANT = {32: "S", 64: "M", 128: "L", 256: "XL"}
# R3GAN's weights for its two penalties, by resolution (Huang et al. 2024).
_GAMMA = {32: 0.05, 64: 2.0, 128: 15.0, 256: 150.0}


def get_config(arg=""):
  """Sizes follow from the resolution."""
  arg = config_lib.parse_arg(
    arg, data="data/mine", res=64, frames=16, classes=0, dense=False, variant=""
  )
  if arg.res not in _VARIANT:
    raise config_lib.ConfigError(
      f"res={arg.res}: this config knows {', '.join(map(str, _VARIANT))}."
    )
  config = config_lib.default()
  small = arg.variant == "XS"  # It is made for a CPU.
  config.total = "500kimg" if small else "10000kimg"
  config.batch = 16 if small else 64

  config.data.name = "tfds"
  config.data.options = dict(directory=arg.data, min_frames=arg.frames)
  choose = f"clip({arg.frames})" if arg.dense else f"sparse(3, {arg.frames})"
  config.data.ops = (
    f"{choose} | resize({arg.res}) | crop({arg.res}) | flip_lr"
    " | value_range(-1, 1)"
  )
  config.data.eval_ops = (
    f"first({arg.frames}) | resize({arg.res}) | center_crop({arg.res})"
  )

  config.model.variant = arg.variant or _VARIANT[arg.res]
  config.model.resolution = arg.res
  config.model.frames = arg.frames if arg.dense else 3
  config.model.num_classes = arg.classes
  if arg.dense:
    config.model.generator = dict(temporal=True)
    config.model.discriminator = dict(temporal_head=True)

  gamma = 0.5 * _GAMMA[arg.res]
  for name in ("r1", "r2"):
    config.penalties[name] = dict(weight=gamma, final=0.1 * gamma, interval=8)
  config.augment.policy = "flip,color,translation,cutout"
  config.augment.target = 0.6
  for optim in (config.optim.g, config.optim.d):
    optim.schedule = "cosine"
    optim.final = 0.25
  config.ema.halflife = "500kimg" if arg.res < 128 else "50kimg"
  config.precision = "float32" if small else "bfloat16"

  config.cadence.log = "100steps"
  config.cadence.sample = "20kimg"
  config.cadence.eval = "100kimg"
  config.cadence.save = "20kimg"
  config.evals = dict(frd_random=dict(num=1024), speed={})
  return config
