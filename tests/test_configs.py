"""Every shipped config loads, builds, and trains when it is made small."""

import ast
import pathlib
import re
import shlex

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax import losses
from vidgan_jax import models
from vidgan_jax import rooms
from vidgan_jax import tasks
from vidgan_jax.data import oplang
from vidgan_jax.data import sound
from vidgan_jax.data import sprites
from vidgan_jax.evals import harness
from vidgan_jax.train import loop
from vidgan_jax.train import optim
from vidgan_jax.train import state as state_lib
from vidgan_jax.train import writer as metrics_lib
from vidgan_jax.verbs import prepare

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py"))
TASKS = sorted({*rooms.names("tasks")} - {"generate", "translate"})
# Other ways to call a config than without an argument.
ARGS = [
  ("align", "of=sound,data=data/clips,res=64"),
  ("smoke", "model=mlp"),
  ("smoke", "model=dcgan3d"),
  *(("video_folder", f"res={res},classes=4") for res in (32, 64, 128, 256)),
  ("video_folder", "res=64,frames=8,dense"),
  ("video_folder", "res=32,variant=XS"),
  *(("video_to_video", f"task={name}") for name in TASKS if name != "lips"),
  ("lips", "data=sprites,gan"),
  ("video_to_video", "task=super_resolve,scale=4,gan"),
  ("video_to_video", "task=interpolate,data=sprites,variant=XS"),
  ("video_to_video", "task=denoise,data=sprites,flow,model=recurrent"),
  ("video_to_video", "task=super_resolve,model=recurrent"),
  ("translate", "reference"),
  ("translate", "kind=edges,reference,data=data/clips"),
  ("translate", "kind=points,model=recurrent"),
  ("translate", "model=continuous"),
]
ALL = [*((name, "") for name in NAMES), *ARGS]


def load(name, arg=""):
  path = f"{CONFIGS}/{name}.py" + (f":{arg}" if arg else "")
  return config_lib.validate(config_lib.load(path))


def abstract_batch(config, frames=None):
  """What the step gets, without values."""
  model = config.model
  shape = lambda *s, dtype=jnp.float32: jax.ShapeDtypeStruct(
    (config.batch, *s), dtype
  )
  size = model.resolution
  task = tasks.create(config.task)
  if task.footage is None:
    given = {"label": shape(dtype=jnp.int32)} if model.num_classes else {}
    if config.data.text:
      given["text"] = shape(20, dtype=jnp.int32)
    signals = config.task.options.get("signals", ())
    if "sound" in signals:
      given["sound"] = shape(model.frames, sound.FEATURES)
    if "video" in signals:
      given["video"] = shape(model.frames, size, size, 3)
  else:
    small = size // task.footage.scale
    known = (model.frames - 1) // task.footage.rate + 1
    video = np.full((known, small, small, 3), -1, np.float32)  # black
    mask = np.ones_like(video[..., :1])
    given = task.footage.given(video, np.arange(known), mask)
    given = {k: shape(*v.shape) for k, v in given.items()}
    if task.footage.hears:
      given["sound"] = shape(known, sound.FEATURES)
  return {
    "given": given,
    "target": shape(model.frames, size, size, 3),
    "times": shape(model.frames),
  }


# --------------------------------------------------------------- as they are


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_says_how_to_run_it(name):
  # As it stands in the file: a backslash there ends a line.
  text = ast.get_docstring(ast.parse((CONFIGS / f"{name}.py").read_text()))
  summary = text.split("\n")[0]
  assert summary.endswith(".") and len(summary) < 78
  command = re.search(r"vidgan train --config (\S+) +(\\\n +)?", text)
  assert command, "no command to train"
  path, _, arg = command[1].partition(".py")
  assert path == f"configs/{name}"
  assert "--workdir runs/" in text[command.start() :]
  config = load(name, arg.lstrip(":"))
  if config.data.name == "tfds":
    # A config names only data that its own docstring can build.
    build = re.search(r"(vidgan prepare|tfds build) [^\0]*?(?=\n\n)", text)
    assert build, "no command to make the data"
    words = shlex.split(build[0].replace("\\\n", " "))[2:]
    options = config.data.options
    if build[1] == "vidgan prepare":
      assert prepare._parser().parse_args(words).dir == options.directory
    else:
      assert words == [options.name, "--file_format=array_record"]


@pytest.mark.parametrize("name, arg", ALL)
def test_configs_are_sound(name, arg):
  config = load(name, arg)
  # What is written into a workdir comes back the same.
  again = config_lib.from_json(config_lib.to_json(config))
  assert config_lib.to_json(again) == config_lib.to_json(config)
  harness.make_evaluators(config.evals)
  plan = oplang.plan(config.data.ops)
  chosen = oplang.selection(plan)
  assert chosen is not None
  count = oplang.bind(config.data.ops)
  frames = [o["frames"] for _, o in count if "frames" in o]
  assert frames == [config.model.frames]
  if config.data.name == "sprites":
    source = sprites.make("train", **config.data.options)
    assert source.spec["video"][0][1] == config.model.resolution
    assert config.model.num_classes in (0, source.num_classes)
  for ops in (config.data.ops, config.data.eval_ops):
    for op, options in oplang.bind(ops):
      if op in ("crop", "center_crop", "resize"):
        sizes = {v for v in options.values() if v is not None}
        assert sizes == {config.model.resolution}, op
  for field in ("log", "sample", "eval", "save"):
    steps = config_lib.steps(config.cadence[field], config.batch, 1000)
    total = config_lib.steps(config.total, config.batch, 1000)
    assert 0 <= steps <= total, field


@pytest.mark.parametrize("name, arg", ALL)
def test_states_can_be_built(name, arg):
  """At full size, without making a single array."""
  config = load(name, arg)
  generator, discriminator = models.create(
    config.model, jnp.dtype(config.precision)
  )
  tx = [optim.make(config.optim[net], 1000, config.batch, 1000) for net in "gd"]

  def create():
    return state_lib.create(
      seed=0,
      generator=generator,
      discriminator=discriminator,
      g_tx=tx[0],
      d_tx=tx[1],
      batch=abstract_batch(config),
      seconds=2.0,
    )

  state = jax.eval_shape(create)
  for net in (state.g, state.d):
    size = sum(leaf.size for leaf in jax.tree.leaves(net))
    assert 5e4 < size < 2e8
    assert {x.dtype for x in jax.tree.leaves(net)} == {jnp.dtype("float32")}
  assert jax.tree.structure(state.ema) == jax.tree.structure(state.g)


def test_arguments_are_checked():
  for name in NAMES:
    with pytest.raises(config_lib.ConfigError, match="nonsense"):
      load(name, "nonsense=1")
  with pytest.raises(config_lib.ConfigError, match="res=48"):
    load("video_folder", "res=48")
  for arg, words in (
    ("model=trunc", "nearest is 'trunk'|'trunk'"),
    ("task=inpaint,model=recurrent", "super_resolve and denoise, not for inp"),
    ("flow", "data=sprites do, and data is 'data/clips'"),
  ):
    with pytest.raises(errors.UserError, match=words):
      load("video_to_video", arg)
  with pytest.raises(errors.UserError, match="no place for a picture"):
    load("translate", "kind=edges,model=continuous")


# ---------------------------------------------------------------- made small

SIZE = 16
QUICK = ("mlp", "sky_256", "weizmann_64")
TINY = {
  "align": (
    "model.generator.widths=(4,)",
    "model.generator.joint=8",
    "model.discriminator.joint=4",
  ),
  "continuous": (
    "model.generator.widths=(4,)",
    "model.generator.blocks=1",
    "model.generator.style_dim=8",
    "model.discriminator.widths=(4,)",
    "model.discriminator.blocks=1",
    "model.discriminator.joint=4",
  ),
  "dcgan3d": ("model.generator.width=4", "model.discriminator.width=4"),
  "trunk": (
    "model.generator.width=8",
    "model.generator.blocks=1",
    "model.discriminator.width=8",
  ),
  "recurrent": (
    "model.generator.width=8",
    "model.generator.blocks=1",
    "model.generator.flow_width=4",
    "model.discriminator.width=8",
  ),
  "mlp": (
    "model.generator.widths=(8,)",
    "model.discriminator.widths=(8,)",
  ),
}


@pytest.fixture(scope="session")
def data(tmp_path_factory):
  """A prepared data set: two strips of 34 frames for each of four classes."""
  root = tmp_path_factory.mktemp("configs")
  source = sprites.make("train", resolution=SIZE, frames=34, size=8)
  for i, example in enumerate(source.read(range(8))):
    path = root / "src" / "abcd"[i % 4] / f"{i}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    strip = example["video"].transpose(1, 0, 2, 3).reshape(SIZE, -1, 3)
    Image.fromarray(strip).save(path)
  flags = ["--layout=strips", "--workers=1", "--no-shots"]
  flags.append("--test-match=[4-7].png")
  assert prepare.main([str(root / "src"), str(root / "data"), *flags]) == 0
  return root / "data"


@pytest.fixture(scope="module", autouse=True)
def quick_compilation(tmp_path_factory):
  """A cache of its own, and little optimisation."""
  with pytest.MonkeyPatch.context() as patch:
    cache = tmp_path_factory.mktemp("cache")
    patch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def shrink(config, data):
  """The same recipe in the smallest size."""
  flags = [
    *TINY[config.model.name],
    f"model.resolution={SIZE}",
    "batch=4",
    "total=2steps",
    "evals={}",
    *(f"cadence.{x}=0steps" for x in ("sample", "eval", "save")),
    "cadence.log=1steps",
    *(f"penalties.{p}.interval=1" for p in config.penalties),
  ]
  if config.task.name == "lips":
    config = load("lips", "data=sprites")  # Strips have no sound.
  for field in ("ops", "eval_ops"):
    ops = re.sub(
      r"\b(resize|crop|center_crop)\(\d+\)", rf"\1({SIZE})", config.data[field]
    )
    flags.append(f"data.{field}={ops}")
  if config.data.name == "tfds":
    options = {"directory": str(data)}
    if "min_frames" in config.data.options:
      options["min_frames"] = config.data.options.min_frames
    flags.append(f"data.options={options}")
  else:
    flags += [f"data.options.resolution={SIZE}", "data.options.size=16"]
  if config.model.num_classes:
    flags.append("model.num_classes=4")
  if config.model.discriminator.get("temporal_head"):
    # One width more: it looks at half the size.
    flags.append("model.generator.widths=(4, 4)")
    flags.append("model.discriminator.widths=(4, 4)")
  return config_lib.override(config, [f"--config.{f}" for f in flags])


@pytest.mark.parametrize(
  "name, arg",
  [
    *(
      # Of the long ones, one in memory and one through tf.data are enough for
      # a quick look.
      pytest.param(name, "", marks=() if name in QUICK else pytest.mark.slow)
      for name in NAMES
    ),
    pytest.param(
      "video_folder",
      "res=32,frames=4,classes=4,dense",
      marks=pytest.mark.slow,
    ),
    ("video_to_video", "task=denoise,data=sprites,flow"),
    ("video_to_video", "task=denoise,data=sprites,model=recurrent"),
    pytest.param(
      "video_to_video",
      "task=super_resolve,data=sprites,flow,model=recurrent",
      marks=pytest.mark.slow,
    ),
  ],
)
def test_two_steps(name, arg, data, tmp_path):
  config = config_lib.validate(shrink(load(name, arg), data))
  workdir = tmp_path / "run"
  assert loop.train(config, workdir)
  rows = metrics_lib.read(workdir)
  assert [row["step"] for row in rows] == [1, 2]
  for row in rows:
    assert row["skipped"] == 0
    keys = ["g/loss", "g/grad_norm"]
    if "d/loss" in row or not config.reconstruction:
      keys += ["d/loss", "d/grad_norm"]
    for key in keys:
      assert np.isfinite(row[key]) and row[key] != 0, key
    for penalty in config.penalties:
      assert row[f"d/{penalty}"] > 0
    for loss in config.reconstruction:
      # At first no noise is seen, and two clips of one map are equal.
      assert row[f"g/{loss}"] > 0 or loss == "mode_seeking", loss


def test_flow_that_the_data_do_not_give(data, tmp_path):
  """It is said before the first step, with the fields to set."""
  config = shrink(
    load("video_to_video", "task=denoise,data=sprites,flow"), data
  )
  config.data.options.supervision = ()
  with pytest.raises(errors.UserError, match="flow_warp.*'flow'.*superv"):
    loop.train(config_lib.validate(config), tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_an_adversary_without_weight_never_begins():
  config = load("video_to_video", "task=denoise,data=sprites")
  steps = lambda duration: int(duration.removesuffix("steps"))
  idle = losses.create(config, 10, steps)["adversary"]
  assert idle.start > 10**9
  config.adversary.weight = 0.5
  config.adversary.start = config.adversary.ramp = "4steps"
  adversary = losses.create(config, 10, steps)["adversary"]
  assert adversary.start == 4
  assert [float(adversary.weight(i)) for i in (4, 7, 9)] == [0.125, 0.5, 0.5]
  config.reconstruction = {}
  for weight, words in ((0.5, "start is '4steps'"), (0.0, "weight is 0")):
    config.adversary.weight = weight
    with pytest.raises(errors.UserError, match=words):
      losses.create(config, 10, steps)
