"""Text to video: one shape whose colour, form and motion a sentence says.

  vidgan train --config configs/text.py --workdir runs/text
  vidgan generate runs/text --text "a red ball falling and bouncing" \
    --out red_ball.mp4

Half an hour on two cores. The world is that of the quickstart with colours that
do not follow the shape and with two laws of motion, so that the class alone
says little. Four pairs of colour and shape are never shown in training
(`hold`): the evaluator `agreement` asks for them as well.

The words of the captions are learnt with the networks; how a text network of
yours takes their place is in docs/contracts.md. D projects the text on its
features (Miyato and Koyama 2018) and is asked which of the batch's texts is the
clip's, a question that G must let it answer (`match`; Zhang et al. 2021). Three
frames a clip: two cannot tell falling from flying straight.
"""

from vidgan_jax import config as config_lib


def get_config(arg=""):
  """One shape of any colour on black, told by a sentence."""
  config_lib.parse_arg(arg)
  config = config_lib.default()
  config.total = "10000steps"
  config.batch = 32

  config.data.name = "sprites"
  config.data.options = dict(
    resolution=24,
    frames=8,
    fps=8,
    objects=1,
    size=8192,
    radius=(0.2, 0.26),
    motion="mixed",
    texture="flat",
    shading=False,
    palette="random",
    background="black",
    captions="varied",
    hold=(
      ("red", "square"),
      ("green", "disc"),
      ("blue", "triangle"),
      ("orange", "cross"),
    ),
  )
  config.data.text = "words"
  config.data.ops = "sparse(3, 8) | value_range(-1, 1)"
  config.data.eval_ops = "first(8)"
  config.data.memory = True

  config.task.options = dict(label=False, signals=("text",))
  config.model.name = "continuous"
  config.model.variant = "XS"
  config.model.resolution = 24
  config.model.frames = 3
  config.model.discriminator = dict(match=64)

  config.objective = "relativistic"
  config.reconstruction = dict(match=dict(weight=1.0))
  config.penalties = dict(r1=dict(weight=10.0, final=0.4, interval=4))
  for optim in (config.optim.g, config.optim.d):
    optim.lr = 1e-3
    optim.b1 = 0.5
    optim.schedule = "cosine"
    optim.final = 0.1
  config.ema.halflife = "5kimg"

  config.cadence.log = "100steps"
  config.cadence.sample = "1000steps"
  config.cadence.eval = "5000steps"
  config.cadence.save = "500steps"
  config.evals = dict(frd_random=dict(num=512))
  return config
