"""Maps to video: what you paint becomes moving shapes that you chose.

  vidgan train --config configs/translate.py --workdir runs/map
  vidgan generate runs/map --map drawing.png --out drawing.mp4

Twenty minutes on two cores. A map says of each pixel what is there; the noise
decides how it looks. The world is that of sprites, 48 pixels, before black; the
palette is black for the ground, red for a disc, green for a square, cyan for a
triangle and violet for a cross.

`reference` is another question, twelve minutes: the first frame of each clip is
given as well, before all grounds, and the others are to continue it. It has one
right answer, so there the losses compare with it. `kind=edges` draws lines of
the clips themselves, `kind=points` a dot at the centre of each thing, and
`model=continuous` makes clips of noise and of the map, at 32 pixels.

`data=FOLDER` takes real clips, for lines as they are. Label maps go into the
data set with them, and the classes have to be named:

  vidgan prepare VIDEOS data/street --maps MAPS --size 128 --max-frames 48
  vidgan train --config configs/translate.py:reference,data=data/street \
    --workdir runs/street --config.task.options.classes="('sky','road','car')"

There 'S' is small: quality at 128 pixels wants a GPU, `variant=L` and hours.
"""

from vidgan_jax import config as config_lib
from vidgan_jax import rooms

# Of `sprites`, whose hues follow the class; the ground is the first.
COLOURS = {
  "ground": (0, 0, 0),
  "disc": (214, 27, 27),
  "square": (121, 214, 27),
  "triangle": (27, 214, 214),
  "cross": (121, 27, 214),
}


def get_config(arg=""):
  """Small clips: eight of three frames, or four of five."""
  arg = config_lib.parse_arg(
    arg,
    kind="labels",
    reference=False,
    model="trunk",
    variant="",
    data="sprites",
  )
  rooms.check_name(arg.kind, ("labels", "edges", "points"), "the argument kind")
  rooms.check_name(arg.model, MODELS, "the argument model")
  noisy = arg.model == "continuous"  # It draws of noise.
  if noisy and (arg.reference or arg.kind == "edges"):
    raise config_lib.ConfigError(
      "The argument model=continuous is for labels and points without a "
      "reference: it has no place for a picture."
    )
  config = config_lib.default()
  config.total = "3000steps" if arg.reference else "5000steps"
  config.batch = 4 if arg.reference else 8
  config.model.name = arg.model
  config.model.variant = arg.variant or ("XS" if noisy else "S")
  config.model.frames = 5 if arg.reference else 3
  frames = config.model.frames

  if arg.data == "sprites":
    config.model.resolution = 32 if noisy else 48
    config.data.name = "sprites"
    config.data.options = dict(
      resolution=config.model.resolution,
      frames=9 if arg.reference else 12,
      fps=12,
      size=3072,
      background="mixed" if arg.reference else "black",
    )
    config.data.ops = f"clip({frames}) | value_range(-1, 1)"
    config.data.eval_ops = "first(5)" if arg.reference else "first(12)"
    config.data.memory = True
  else:
    config.model.resolution = 64
    config.data.name = "tfds"
    config.data.options = dict(directory=arg.data)
    config.data.ops = (
      f"clip({frames}) | crop(64) | flip_lr | value_range(-1, 1)"
    )
    config.data.eval_ops = "middle(5) | center_crop(64)"

  config.task.name = "translate"
  config.task.options = dict(
    kind=arg.kind, reference=1.0 if arg.reference else 0.0
  )
  if arg.kind != "edges" and arg.data == "sprites":
    config.data.options.supervision = ("layout",)
    config.task.options.update(
      classes=tuple(COLOURS), palette=tuple(COLOURS.values()), objects=True
    )
  MODELS[arg.model](config, arg.reference)
  if arg.kind == "labels":
    config.evals.layout = dict()

  config.ema.halflife = "1kimg"
  config.cadence.log = "50steps"
  config.cadence.sample = "500steps"
  config.cadence.eval = config.total
  config.cadence.save = "500steps"
  return config


def _trunk(config, reference):
  """The drawing, improved: compared with the clip, or judged by D alone."""
  if reference:
    config.model.generator = dict(compose=True)
    if config.model.name == "trunk":
      config.model.generator.update(base="hold", motion=16.0)
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
    optim.b1 = 0.9 if reference else 0.5
    optim.schedule = "cosine"
    optim.warmup = "40steps"
    optim.clip = 0.5 if reference else None
  config.evals = dict(restoration=dict(num=64))


def _continuous(config, reference):
  """Noise, which the map modulates at every level; as the quickstart learns."""
  del reference
  config.total = "8000steps"
  config.batch = 16
  config.task.options.picture = False
  config.objective = "relativistic"
  config.penalties = dict(r1=dict(weight=10.0, final=0.4, interval=4))
  for optim in (config.optim.g, config.optim.d):
    optim.lr = 1e-3
    optim.b1 = 0.5
    optim.schedule = "cosine"
    optim.final = 0.1
  config.evals = dict(frd_random=dict(num=512))


MODELS = {"trunk": _trunk, "recurrent": _trunk, "continuous": _continuous}
