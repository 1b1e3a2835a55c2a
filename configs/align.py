"""An expert: which text or sound belongs to a clip, our own CLIP or SyncNet.

  vidgan train --config configs/align.py:of=text --workdir runs/align
  vidgan evaluate runs/align

About ten minutes on two cores, of=sound alike. The data are those of
configs/text.py or configs/sound.py, so that the expert has learnt the same
words and has not seen the pairs that are held back. Two networks look at a clip
and at what is given with it, and must find out of a batch which belong together
(`contrast`; models/align.py). No adversary takes part.

Frozen, it is a loss of a generator or a judge of it, but not both: train a
second one for that, with --config.seed=1.

  vidgan train --config configs/text.py --workdir runs/text \
    --config.reconstruction.alignment.expert=runs/align \
    --config.reconstruction.alignment.weight=0.2
  vidgan evaluate runs/text --metrics "retrieval(expert='runs/align2')"

Of clips of your own (data=DIR, which `vidgan prepare` has made, with captions
or with --sound) the evaluator `sync` lists those whose sound is out of step,
and by how many frames: of all that are trained on, with
--config.data.test=train. Frames are seen at `res` pixels.

  vidgan train --config configs/align.py:of=sound,data=data/mine,res=64 \
    --config.data.test=train --workdir runs/step
"""

import pathlib

from vidgan_jax import config as config_lib
from vidgan_jax import rooms

# Frames of a clip: of text some, since changes of velocity are seen in three;
# of sound all.
OPS = {"text": ("sparse(4, 8)", 4, 64), "sound": ("clip(16)", 16, 16)}


def get_config(arg=""):
  """The data of configs/text.py or configs/sound.py, and a dual encoder."""
  arg = config_lib.parse_arg(arg, of="text", data="", res=24)
  rooms.check_name(arg.of, OPS, "the argument of")
  config = config_lib.load(f"{pathlib.Path(__file__).parent}/{arg.of}.py")
  ops, frames, batch = OPS[arg.of]
  config.total = "4000steps"
  config.batch = batch
  config.data.ops = f"{ops} | value_range(-1, 1)"
  if arg.data:
    config.data.name = "tfds"
    config.data.options = dict(directory=arg.data)
    config.data.memory = False
  config.task.options = dict(label=False, signals=("video", arg.of))

  config.model.name = "align"
  config.model.variant = "XS"
  config.model.resolution = arg.res
  config.model.frames = frames
  config.model.generator = {}
  config.model.discriminator = {}

  config.adversary.weight = 0.0
  config.reconstruction = dict(contrast=dict(weight=1.0))
  config.penalties = {}
  for optim in (config.optim.g, config.optim.d):
    optim.b1 = 0.9
    optim.warmup = "100steps"
    optim.final = 0.01

  config.cadence.sample = "0steps"  # It draws nothing.
  config.cadence.eval = "2000steps"
  config.evals = dict(retrieval=dict(num=256))
  if arg.of == "sound":
    config.evals.sync = dict(num=256)
  return config
