"""UCF-101 at 128 pixels, 16 frames, class-conditional (101 actions).

Data: TFDS's ucf101, written as ArrayRecord for random access (needs `unrar`
and 7 GB of downloads):

  pip install "vidgan_jax[beam]" && tfds build ucf101/ucf101_1 \
    --file_format=array_record

Run (made for 8 GPUs or a TPU v5e-16; about 3 days; not yet run to its end, so
no FVD is claimed):

  vidgan train --config configs/ucf101_128.py --workdir runs/ucf101
"""

from vidgan_jax import config as config_lib


def get_config(arg=""):
  """Three sparse frames out of 32, the protocol of StyleGAN-V."""
  config_lib.parse_arg(arg)
  config = config_lib.default()
  config.total = "25000kimg"
  config.batch = 128

  config.data.name = "tfds"
  config.data.options = dict(name="ucf101/ucf101_1", min_frames=32)
  config.data.ops = (
    "sparse(3, 32) | resize(128) | crop(128) | flip_lr | value_range(-1, 1)"
  )
  config.data.eval_ops = "first(16) | resize(128) | center_crop(128)"

  config.model.variant = "L"
  config.model.resolution = 128
  config.model.frames = 3
  config.model.num_classes = 101

  for name in ("r1", "r2"):
    config.penalties[name] = dict(weight=7.5, final=0.75, interval=8)
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
