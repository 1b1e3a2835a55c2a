r"""Weizmann actions: people who wave, jump and bend; 64 pixels, 4 classes.

Data: the film strips of MoCoGAN's repository (`data/actions`, one folder a
class; Tulyakov et al. 2018). Two people, the last two of nine in each class,
are held out:

  vidgan prepare FOLDER data/weizmann --layout strips --test-match \
    '/000000(5[6-9]|6\d|70)\.jpg$'

Run (half an hour on two cores that have nothing else to do):

  vidgan train --config configs/weizmann_64.py --workdir runs/weizmann

With 28 clips a generator can do little more than learn them by heart and move
between them; docs/results.md shows what came out and after how long.
"""

from vidgan_jax import config as config_lib


def get_config(arg=""):
  """Two sparse frames out of 16, all data in memory."""
  arg = config_lib.parse_arg(arg, data="data/weizmann", total="56kimg")
  config = config_lib.default()
  config.total = arg.total
  config.batch = 16

  config.data.name = "tfds"
  config.data.options = dict(directory=arg.data)
  config.data.ops = "sparse(2, 16) | flip_lr | value_range(-1, 1)"
  config.data.eval_ops = "middle(16)"
  config.data.memory = True

  config.model.name = "continuous"
  config.model.variant = "XS"
  config.model.resolution = 64
  config.model.frames = 2
  config.model.num_classes = 4
  config.model.generator = dict(widths=(128, 96, 64, 16), motion_period=0.32)
  config.model.discriminator = dict(widths=(16, 64, 96, 128))

  config.penalties = dict(r1=dict(weight=15.0, final=0.5, interval=4))
  for optim in (config.optim.g, config.optim.d):
    optim.lr = 5e-4
    optim.b1 = 0.5
    optim.schedule = "cosine"
    optim.final = 0.2
  config.ema.halflife = "5kimg"

  config.cadence.log = "50steps"
  config.cadence.sample = "5kimg"
  config.cadence.eval = "28kimg"
  config.cadence.save = "5kimg"
  config.evals = dict(frd_random=dict(num=256), speed=dict(num=16))
  return config
