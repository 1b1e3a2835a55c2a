"""Maps to video: what you paint becomes moving shapes that you chose.

  vidgan train --config configs/translate.py --workdir runs/map
  vidgan generate runs/map --map drawing.png --out drawing.mp4

Twenty minutes on two cores. A map says of each pixel what is there; the noise
decides how it looks. The world is that of sprites, 48 pixels, before black; the
palette is black for the ground, red for a disc, green for a square, cyan for a
triangle and violet for a cross.

`reference` is another question, twelve minutes: the first frame of each clip is
given as well, before all grounds, and the others are to continue it. It has one
right answer, so there the losses compare with it.
"""

from vidgan_jax import config as config_lib


def get_config(arg=""):
  """Frames of 48 pixels: eight clips of three, or four of five."""
  arg = config_lib.parse_arg(arg, reference=False)
  config = config_lib.default()
  config.total = "3000steps" if arg.reference else "5000steps"
  config.batch = 4 if arg.reference else 8
  config.model.frames = 5 if arg.reference else 3

  config.data.name = "sprites"
  config.data.options = dict(
    resolution=48,
    frames=9 if arg.reference else 12,
    fps=12,
    size=3072,
    background="mixed" if arg.reference else "black",
    supervision=("layout",),
  )
  config.data.ops = f"clip({config.model.frames}) | value_range(-1, 1)"
  config.data.eval_ops = "first(5)" if arg.reference else "first(12)"
  config.data.memory = True

  config.task.name = "translate"
  config.task.options = dict(
    kind="labels",
    classes=("ground", "disc", "square", "triangle", "cross"),
    palette=(
      (0, 0, 0),
      (214, 27, 27),
      (121, 214, 27),
      (27, 214, 214),
      (121, 27, 214),
    ),
    objects=True,
    reference=1.0 if arg.reference else 0.0,
  )
  config.model.name = "trunk"
  config.model.variant = "S"
  config.model.resolution = 48
  if arg.reference:
    config.model.generator = dict(base="hold", compose=True, motion=16.0)
    config.reconstruction = dict(
      charbonnier=dict(weight=1.0), temporal_difference=dict(weight=0.5)
    )
    config.adversary.weight = 0.0
  else:
    config.model.generator = dict(noise_dim=16)
    config.model.discriminator = dict(conditional=True)
    config.reconstruction = dict(
      # Little beside the adversary; it leads until D has learnt something.
      charbonnier=dict(weight=1.0),
      # Looks of real clips are about as far apart as `bound`.
      mode_seeking=dict(weight=0.5, bound=0.03),
    )

  # Real and made clips share their maps, so each patch has its pair.
  config.objective = "relativistic"
  for optim in (config.optim.g, config.optim.d):
    optim.lr = 1.5e-3
    optim.b1 = 0.9 if arg.reference else 0.5
    optim.schedule = "cosine"
    optim.warmup = "40steps"
    optim.clip = 0.5 if arg.reference else None
  config.ema.halflife = "1kimg"

  config.cadence.log = "50steps"
  config.cadence.sample = "500steps"
  config.cadence.eval = config.total
  config.cadence.save = "500steps"
  config.evals = dict(restoration=dict(num=64))
  return config
