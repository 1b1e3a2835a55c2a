"""Every file of a room keeps the room's contract; layers stay apart.

A new file is tested here as soon as it exists.
"""

import ast
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import os
import pathlib
import re
import subprocess
import sys

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from vidgan_jax import config as config_lib
from vidgan_jax import errors
from vidgan_jax import models
from vidgan_jax import rooms
from vidgan_jax import tasks
from vidgan_jax.losses import penalties
from vidgan_jax.losses import reconstruction
from vidgan_jax.models import layers
from vidgan_jax.verbs import prepare

PACKAGE = pathlib.Path(config_lib.__file__).parent
YEAR = re.compile(r"\b(19|20)\d\d\b")
FILES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


def load(room, name):
  return importlib.import_module(f"vidgan_jax.{room}.{name}")


def parameters(function):
  return inspect.signature(function).parameters


def shape(*sizes, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(sizes, dtype)


def test_rooms_are_not_empty():
  assert set(rooms.names("models")) >= {
    *("continuous", "dcgan3d", "mlp", "recurrent", "trunk")
  }
  # Helpers are no entries of a room.
  assert not {"bases", "layers", "patch"} & set(rooms.names("models"))
  assert "relativistic" in rooms.names("losses")
  assert "generate" in rooms.names("tasks")
  assert {"sprites", "tfds"} <= set(rooms.names("data"))
  assert {"frd_random", "fvd", "motion", "restoration"} <= set(
    rooms.names("evals")
  )


# -------------------------------------------------------------------- models

MODELS = [
  (name, variant)
  for name in rooms.names("models")
  for variant in load("models", name).VARIANTS
]


def build(name, variant, dtype=jnp.float32, **common):
  fields = {"name": name, "variant": variant}
  return models.create(
    fields | {"generator": {}, "discriminator": {}} | common, dtype
  )


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("name, variant", MODELS)
def test_models(name, variant, classes):
  module = load("models", name)
  assert YEAR.search(module.__doc__)
  fields = module.VARIANTS[variant]
  assert set(fields) == {"generator", "discriminator"}
  for role in fields:
    known = parameters(getattr(module, role.capitalize()))
    assert {"dtype", *fields[role]} <= set(known)
  assert rooms.variants(name) in ((), tuple(module.VARIANTS))
  size, b, t = 64, 2, 4
  common = dict(resolution=size, frames=t, num_classes=classes)
  g, d = build(name, variant, jnp.bfloat16, **common)
  spec = g.noise_spec(0.5)
  assert all(isinstance(n, int) for s in spec.values() for n in s)
  z = {key: shape(b, *s) for key, s in spec.items()}
  times, video = shape(b, t), shape(b, t, size, size, 3)
  given = {}
  if from_clips(module):
    small = size // g.scale
    given["video"] = shape(b, t, small, small, 3)
    given["mask"] = shape(b, t, small, small, 1)
  if name in JUDGES:
    given |= {"video": video, "text_vectors": shape(b, 5, 3)}
  if classes:
    given["label"] = shape(b, dtype=jnp.int32)
  key = jax.random.key(0)
  for net, inputs in ((g, (given, z, times)), (d, (video, given, times))):
    state = jax.eval_shape(net.init, key, *inputs)
    assert set(state) == {"params"}  # Nothing else: models are pure.
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(state)}
    assert dtypes == {jnp.dtype("float32")}
    out = jax.eval_shape(net.apply, state, *inputs)
    if net is g:
      drawn = layers.drawn(out)
      assert (drawn.video.shape, drawn.video.dtype) == (
        video.shape,
        jnp.float32,
      )
      losses = {loss: value.shape for loss, value in drawn.losses.items()}
      made = dict.fromkeys(rooms.model_losses(name), (b,))
      assert losses.items() <= made.items()
  assert isinstance(out, layers.Scores)
  assert len(out.logits) == len(out.features) >= 1
  for logits, features in zip(out.logits, out.features):
    assert logits.dtype == jnp.float32
    assert logits.shape[0] == b and logits.ndim <= 2
    assert isinstance(features, tuple)


# They compare given clips with conditions, and draw nothing.
JUDGES = ("align",)


def from_clips(module):
  """Whether the generator improves a given clip."""
  return "base" in parameters(module.Generator)


def reads_conditions(module):
  """Whether the generator is built with models/condition.py."""
  files = {cls.__module__ for cls in module.Generator.__mro__}
  return any("condition" in vars(sys.modules[file]) for file in files)


def some(seed, *sizes):
  return np.random.default_rng(seed).standard_normal(sizes).astype(np.float32)


@pytest.mark.parametrize("name", rooms.names("models"))
def test_conditions_reach_both_networks(name):
  """A text and a sound change what G draws and what D says of it."""
  module = load("models", name)
  if not reads_conditions(module):
    pytest.skip("reads no conditions")
  size, b, t = 16, 2, 4
  variant = next(iter(module.VARIANTS))
  g, d = build(name, variant, resolution=size, frames=t, num_classes=0)
  given = {"text_vectors": some(0, b, 5, 3), "sound": some(1, b, t, 6)}
  judge = name in JUDGES
  seen = from_clips(module) or judge
  fixed = {"video": some(2, b, t, size, size, 3)} if seen else {}
  times = np.tile(np.arange(t, dtype=np.float32) / 8, (b, 1))
  z = {k: some(3, b, *s) for k, s in g.noise_spec(1.0).items()}
  video = some(4, b, t, size, size, 3)

  def parameters_of(net, seed, *inputs):
    # What is zero at the start would hide what comes before it.
    shapes = jax.eval_shape(net.init, jax.random.key(0), *inputs)
    return jax.tree.map(lambda x: 0.3 * some(seed, *x.shape), shapes)

  g_params = parameters_of(g, 5, fixed | given, z, times)
  d_params = parameters_of(d, 6, video, fixed | given, times)

  @jax.jit
  def influences(given):
    answer = lambda x: layers.drawn(g.apply(g_params, fixed | x, z, times))
    draw = lambda x: (
      jnp.sum(answer(x).losses["contrast"])
      if judge
      else jnp.sum(video * jnp.tanh(answer(x).video))
    )
    score = lambda x: sum(
      jnp.sum(jnp.sin(logits))
      for logits in d.apply(d_params, video, fixed | x, times).logits
    )
    asked = (draw,) if judge else (draw, score)
    return [jax.grad(answer)(given) for answer in asked]

  for of_network in influences(given):
    for signal, influence in of_network.items():
      assert np.isfinite(influence).all(), signal
      # Of every clip; a sound of every frame.
      influence = np.abs(influence).sum(-1)
      influence = influence if signal == "sound" else influence.sum(-1)
      assert (influence > 0).all(), signal
  with pytest.raises(errors.UserError, match="'sonud'.*mean 'sound'"):
    jax.eval_shape(
      g.init, jax.random.key(0), fixed | {"sonud": given["sound"]}, z, times
    )


# -------------------------------------------------------------------- losses


@pytest.mark.parametrize("name", rooms.names("losses"))
def test_objectives(name):
  module = load("losses", name)
  assert YEAR.search(module.__doc__)
  for function in (module.d_loss, module.g_loss):
    assert list(parameters(function)) == ["real", "fake"]
    assert re.search(r"D\(", function.__doc__)  # The equation.
    for sizes in ((4,), (4, 6)):  # One head's logits.
      value = function(*np.random.default_rng(0).normal(size=(2, *sizes)))
      assert value.shape == () and jnp.isfinite(value)


@pytest.mark.parametrize("name", rooms.names("reconstruction"))
def test_reconstructions(name):
  function = getattr(reconstruction, name)
  known = list(parameters(function).values())
  assert [p.name for p in known[:3]] == ["fake", "batch", "extras"]
  assert all(p.default is not p.empty for p in known[3:])
  assert YEAR.search(function.__doc__) and "Mean " in function.__doc__


# By their first argument: on D's slope, or on its scores.
SLOPES, REGULARISERS = (
  [n for n, a in rooms.functions("losses/penalties.py").items()
   if (a.args[0].arg == "score_fn") == slope]
  for slope in (True, False)
)  # fmt: skip


@pytest.mark.parametrize("name", REGULARISERS)
def test_regularisers(name):
  function = getattr(penalties, name)
  assert list(parameters(function)) == ["real", "fake", "means"]
  assert YEAR.search(function.__doc__)
  value = function(jnp.ones(3), jnp.zeros(3), jnp.array([0.5, -0.5]))
  assert (value.shape, value.dtype) == ((), jnp.float32)


@pytest.mark.parametrize("name", SLOPES)
def test_penalties(name):
  function = getattr(penalties, name)
  first, *rest = parameters(function).values()
  assert [first.name, *(p.name for p in rest[:3])] == [
    *("score_fn", "real", "fake", "keys")
  ]
  assert all(p.default is not p.empty for p in rest[3:])
  # Its paper, or the function that names it.
  others = "|".join(SLOPES)
  assert YEAR.search(function.__doc__) or re.search(
    f"`({others})`", function.__doc__
  )
  rng = np.random.default_rng(0)
  real, fake = rng.standard_normal((2, 3, 2, 4, 4, 3)).astype(np.float32)
  keys = jax.random.split(jax.random.key(0), 3)
  value = function(lambda x: jnp.sin(x).sum((1, 2, 3, 4)), real, fake, keys)
  assert (value.shape, value.dtype) == ((3,), jnp.float32)
  assert (value >= 0).all()


# --------------------------------------------------------------------- tasks


class Examples:
  """Two clips as a source of data prepares them."""

  def __len__(self):
    return 2

  def prepared(self, indices):
    return [{"given": {"video": np.full((4, 8, 8, 3), i)}} for i in indices]


@pytest.mark.parametrize("name", rooms.names("tasks"))
def test_tasks(name):
  make = load("tasks", name).make
  for option in parameters(make).values():
    assert option.default is not option.empty
  task = tasks.create({"name": name, "options": {}})
  assert isinstance(task, tasks.Task) and task.name == name
  assert list(parameters(task.prepare)) == ["example", "seed"]
  for answer in task.baselines.values():
    assert list(parameters(answer)) == ["given", "times"]
  names, values = zip(*parameters(task.ask).items())
  assert names[:4] == ("num", "seed", "source", "facts")
  # What a user may ask for has a default, and so have options of footage.
  assert all(wish.default is not wish.empty for wish in values[4:])
  facts = {"num_classes": 3, "class_names": ("a", "b", "c")}
  given = task.ask(2, 0, Examples(), facts)
  assert all(isinstance(x, np.ndarray) for x in given.values())
  assert {len(x) for x in given.values()} == {2}
  if task.footage is None:
    again = task.ask(2, 0, None, facts)  # It needs no clips.
    np.testing.assert_array_equal(again["label"], given["label"])
    return
  assert given["video"][1].min() == 1
  assert len(task.ask(9, 0, Examples(), facts)["video"]) == 2
  names, values = zip(*parameters(task.footage.given).items())
  assert names[:3] == ("video", "times", "mask")
  assert all(option.default is not option.empty for option in values[3:])


# ---------------------------------------------------------------------- data


@pytest.fixture(scope="module")
def options(tmp_path_factory):
  """Options of the sources that read files, and short ones of the others."""
  root = tmp_path_factory.mktemp("rooms")
  rng = np.random.default_rng(0)
  for i in range(4):
    path = root / "src" / "ab"[i % 2] / f"{i}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    strip = rng.integers(0, 256, (8, 8 * 5, 3)).astype(np.uint8)
    Image.fromarray(strip).save(path)
  flags = ["--layout=strips", "--test=0.5", "--workers=1", "--no-shots"]
  assert prepare.main([str(root / "src"), str(root / "data"), *flags]) == 0
  return {
    "sprites": dict(resolution=16, frames=5, size=6),
    "tfds": dict(directory=str(root / "data")),
  }


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", rooms.names("data"))
def test_sources(name, split, options):
  make = load("data", name).make
  assert name in options, "say above how to make a small one"
  assert next(iter(parameters(make))) == "split"
  source = make(split, **options[name])
  assert len(source) > 0
  assert source.num_classes == len(source.class_names) >= 0
  assert isinstance(source.class_names, tuple)
  indices = [len(source) - 1, 0]
  examples = source.read(indices)
  assert isinstance(examples, list) and len(examples) == 2
  for example in examples:
    # Pixels, or pictures that can each be decoded alone.
    assert ("video" in example) != ("frames" in example)
    kind = "video" if "video" in example else "frames"
    frames, times = example[kind], example["times"]
    assert len(frames) == len(times) > 0 and times[0] == 0
    assert np.all(np.diff(times) > 0)
    if kind == "frames":
      assert all(isinstance(f, bytes) for f in frames)
    if "label" in example:
      assert 0 <= example["label"] < source.num_classes
    assert set(source.spec) <= set(example)
    for key, (sizes, dtype) in source.spec.items():
      value = np.asarray(example[key])
      assert len(sizes) == value.ndim, key
      assert all(w in (None, n) for w, n in zip(sizes, value.shape)), key
      if np.dtype(dtype) != object:
        assert value.dtype == dtype, key
  again = source.read(indices[::-1])[::-1]
  for one, two in zip(examples, again):
    assert one.keys() == two.keys()
    for key in one:
      np.testing.assert_array_equal(one[key], two[key], err_msg=key)
  for index in (len(source), -1):
    with pytest.raises(IndexError, match=r"\w+ .*\w+ "):
      source.read([index])


# --------------------------------------------------------------------- evals


@pytest.mark.parametrize("name", rooms.names("evals"))
def test_evaluators(name):
  module = load("evals", name)
  assert module.__doc__ and module.Evaluator.__doc__
  evaluator = module.Evaluator()  # All options have defaults.
  assert list(parameters(evaluator.run)) == ["sampler", "reference"]
  assert inspect.isgeneratorfunction(evaluator.run)


# --------------------------------------------------------------------- checks


class Net(nn.Module):
  width: int = 8

  @nn.compact
  def __call__(self, x):
    return x


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  number: int = 3


def make(split, *, size=None):
  return split, size


@pytest.mark.parametrize(
  "target, good",
  [
    (Net, "width"),
    (Options, "number"),
    (make, "size"),
  ],
)
def test_check_kwargs(target, good):
  rooms.check_kwargs(target, {good: 1}, "config.x")
  with pytest.raises(errors.UserError, match=rf"config.x.{good}s.*'{good}'"):
    rooms.check_kwargs(target, {good + "s": 1}, "config.x")


def test_check_kwargs_hides_what_is_not_an_option():
  with pytest.raises(errors.UserError, match="config.x.parent"):
    rooms.check_kwargs(Net, {"parent": None}, "config.x", given=("parent",))
  with pytest.raises(errors.UserError, match="config.x.split"):
    rooms.check_kwargs(make, {"split": "test"}, "config.x", given=("split",))
  rooms.check_kwargs(lambda **kw: kw, {"anything": 1}, "config.x")


def test_losses_of_a_model_count_as_reconstructions(tmp_path, monkeypatch):
  (tmp_path / "models").mkdir()
  (tmp_path / "models" / "info.py").write_text('LOSSES = ("code", "kl")\n')
  monkeypatch.setattr(rooms, "_PACKAGE", tmp_path)
  assert rooms.model_losses("info") == ("code", "kl")
  rooms.check_entry("reconstruction", "kl", "x", rooms.model_losses("info"))


def test_a_room_is_read_once_and_nothing_is_imported():
  assert rooms.names("evals") is rooms.names("evals")
  with pytest.raises(errors.UserError, match="'r11' in .*penalties.py.*'r1'"):
    rooms.check_entry("penalties", "r11", "config.penalties")
  with pytest.raises(errors.UserError, match="x is 'b', which.*Known: 'aa'"):
    rooms.check_name("b", ["aa"], "x")


# -------------------------------------------------------------------- layers

_PLAIN = {"jax", "flax", "optax", "numpy"}
_TF = {"tensorflow", "tensorflow_datasets"}
# What a part may import beside the standard library and this package. The
# longest name that fits counts.
ALLOWED = {
  "__init__.py": set(),
  "__main__.py": set(),
  "cli.py": set(),
  "config.py": {"ml_collections"},
  "calls.py": set(),
  "errors.py": set(),
  "experts.py": _PLAIN,
  "fields.py": {"ml_collections"},
  "rooms.py": set(),
  "models/": _PLAIN,
  "losses/": _PLAIN,
  "train/adversarial.py": _PLAIN,
  "train/method.py": _PLAIN,
  "train/step.py": _PLAIN,
  "train/state.py": _PLAIN,
  "train/optim.py": _PLAIN,
  "devices/": _PLAIN | {"absl"},
  "tasks/": _PLAIN | {"tensorflow"},
  "evals/": _PLAIN | {"scipy"},
  "pixels.py": {"numpy"},
  "baselines.py": {"cv2", "imageio_ffmpeg", "numpy"},
  "measures/": {"numpy", "scipy"},
  "measures/flow.py": {"cv2", "numpy"},
  "nets/": _PLAIN,
  "measures/ffmpeg.py": {"imageio_ffmpeg", "numpy"},
  "reports/": {"numpy", "PIL"},
  "reports/preferences.py": set(),
  "nets/public.py": {"numpy", "tensorflow"},
  "nets/texts.py": {"jax", "numpy", "tokenizers"},
  "video/": {"av", "numpy", "PIL", "scipy"},
  "data/": _PLAIN | _TF,
  **dict.fromkeys(("data/memory.py", "data/reference.py"), {"jax", "numpy"}),
  "data/ops_np.py": {"jax", "numpy", "PIL"},
  **dict.fromkeys(
    ("data/signals.py", "data/oplang.py", "data/order.py", "data/text.py"),
    {"numpy"},
  ),
  "tasks/drawings.py": {"numpy", "scipy"},
  "tasks/degrade.py": {"av", "numpy", "PIL", "tensorflow"},
  "data/convert.py": set(),
  "data/prepare.py": {"array_record"},
  "data/sprites.py": {"numpy"},
  "data/video_folder.py": {"numpy", *_TF},
  "verbs/": {"av", "jax", "numpy", "PIL"},
  "store/checkpoint.py": _PLAIN | {"absl", "etils", "orbax"},
  "store/files.py": set(),
  "store/provenance.py": set(),
  "store/workdir.py": set(),
  "train/writer.py": _PLAIN | {"clu", "tensorboard"},
  "train/guard.py": set(),
  "train/loop.py": {"jax"},
  "train/start.py": _PLAIN,
  "train/observe.py": _PLAIN,
  "train/compile.py": {"jax"},
  "train/__init__.py": set(),
  "store/__init__.py": set(),
  "store/archives.py": {"numpy"},
  "store/digest.py": {"numpy"},
  "store/tensors.py": {"numpy"},
  "study/": {"numpy"},
  "web/": {"numpy"},
  "web/server.py": set(),
  "sampler.py": _PLAIN,
  "footage.py": _PLAIN,
  "zoo/": _PLAIN,
}
# What a part may import of this package beside itself and _BASE, which knows
# nothing of the rest. `verbs` is nobody's but the command's.
_BASE = {"calls.py", "errors.py", "pixels.py", "rooms.py"}
_METHOD = "config models losses train/adversarial train/method train/optim "
_METHOD += "train/state "
INSIDE = {
  **dict.fromkeys(("__init__.py", *_BASE), ""),
  "__main__.py": "cli",
  "cli.py": "verbs",
  "config.py": "fields data/oplang",
  "fields.py": "data/oplang",
  "baselines.py": "video",
  "measures/": "",
  "nets/": "store/archives store/files store/tensors",
  "video/": "store/files",
  "models/": "",
  "losses/": "config data/text experts.py models store/archives "
  "store/tensors train/optim",
  "tasks/": "baselines config",
  "data/": "config store/files video",
  "data/prepare.py": "data store/files store/workdir video",
  "data/text.py": "data nets/texts store/tensors",
  "devices/": "config",
  "store/": "config",
  "sampler.py": "config data/text devices models store tasks train/state",
  "experts.py": "data/text models sampler zoo",
  "footage.py": "data/sound devices sampler tasks video zoo",
  "zoo/": "config sampler store",
  "evals/": "baselines config data devices experts.py measures models nets "
  "reports sampler store tasks video",
  "reports/": "evals store",
  "study/": "measures store/files video web/server",
  "web/": "video",
  "web/server.py": "",
  "train/": "config data devices evals losses models sampler store tasks video",
  "train/adversarial.py": _METHOD,
  "train/method.py": _METHOD,
  "train/optim.py": _METHOD,
  "train/state.py": _METHOD,
  "train/step.py": _METHOD,
  "verbs/": "config data devices evals footage nets reports sampler store "
  "study train video web zoo",
}


def imports(path):
  """(module, name or None) of each import, wherever it stands in a file."""
  for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
    if isinstance(node, ast.Import):
      yield from ((alias.name, None) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path} has a relative import"
      yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", FILES)
def test_layers(path):
  outside, inside = (
    max((rule for rule in rules if path.startswith(rule)), key=len, default="")
    for rules in (ALLOWED, INSIDE)
  )
  assert outside and inside, "say what this part may import"
  known = {inside.removesuffix("/"), *_BASE, *INSIDE[inside].split()}
  for module, name in imports(path):
    root, *names = f"{module}.{name or ''}".strip(".").split(".")
    if root == "vidgan_jax":
      room = "".join(names[:1])
      parts = {room, f"{room}.py", "/".join(names[:2])}
      assert not room or parts & known, f"{path} imports {module}.{name}"
    else:
      standard = root in sys.stdlib_module_names
      assert standard or root in ALLOWED[outside], f"{path} imports {module}"


@pytest.mark.parametrize("path", FILES)
def test_modules_are_imported_and_not_names(path):
  for module, name in imports(path):
    if name and module not in ("typing", "collections.abc"):
      assert importlib.util.find_spec(f"{module}.{name}"), (
        f"{path}: from {module} import {name}"
      )


@pytest.mark.parametrize("path", FILES)
def test_files_say_what_they_are(path):
  text = (PACKAGE / path).read_text()
  doc = ast.get_docstring(ast.parse(text))
  assert doc and doc.split("\n")[0].endswith((".", ":"))
  assert max(map(len, text.splitlines())) <= 80
  assert not re.search(r"/tmp/|/work/|TODO|breakpoint\(", text)


def test_importing_changes_nothing_outside():
  """Filters, hooks, levels, handlers of signals and of the end: not at import.

  Libraries do so as they like; what counts is who calls.
  """
  code = f"""
import atexit, importlib, logging, os, signal, sys, warnings
import jax

root = {str(PACKAGE)!r}

def watch(owner, name):
  original = getattr(owner, name)
  def spy(*args, **kwargs):
    file = sys._getframe(1).f_code.co_filename
    if file.startswith(root):
      print(file, "calls", name)
    return original(*args, **kwargs)
  setattr(owner, name, spy)

watch(atexit, "register")
watch(signal, "signal")
watch(warnings, "filterwarnings")
watch(warnings, "simplefilter")
watch(logging, "basicConfig")
watch(jax.config, "update")
for name in ("__setitem__", "setdefault", "update", "pop"):
  watch(type(os.environ), name)
for name in ("addFilter", "addHandler", "setLevel"):
  watch(logging.Logger, name)
for name in {[p[:-3].replace("/", ".") for p in FILES]!r}:
  if not name.endswith("__main__"):
    importlib.import_module(("vidgan_jax." + name).removesuffix(".__init__"))
for name in ("excepthook", "unraisablehook", "displayhook"):
  if getattr(sys, name).__module__.startswith("vidgan_jax"):
    print(name)
import av.logging
print(av.logging.get_level())
"""
  run = subprocess.run(
    [sys.executable, "-c", code],
    env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    capture_output=True,
    text=True,
  )
  assert (run.returncode, run.stdout) == (0, "None\n"), run.stderr


# --------------------------------------------------------------------- habits

# How often the package does what hides a contract or a cost. These may fall
# and not rise.
BY_NAME = 11
LATE_IMPORTS = 29
LONGEST = {"function": 90, "class": 250}  # lines
LONGER = set()


@functools.cache
def every():
  """(file, node) of every node of the package's code."""
  return [
    (path, node)
    for path in FILES
    for node in ast.walk(ast.parse((PACKAGE / path).read_text()))
  ]


def nodes(kind):
  return [(path, node) for path, node in every() if isinstance(node, kind)]


def test_attributes_are_seldom_asked_for_by_name():
  """`getattr(x, "name", ...)` stands for a contract that nobody wrote down."""
  calls = [
    f"{path}:{node.lineno} {ast.unparse(node)}"
    for path, node in nodes(ast.Call)
    if ast.unparse(node.func) in ("getattr", "hasattr")
    and isinstance(node.args[1], ast.Constant)
  ]
  assert len(calls) <= BY_NAME, "\n".join(calls)


def test_imports_within_functions_are_few():
  """Only where a heavy library must not be loaded at once."""
  late = {
    f"{path}:{inner.lineno} {ast.unparse(inner)}"
    for path, function in nodes(ast.FunctionDef)
    for inner in ast.walk(function)
    if isinstance(inner, ast.Import | ast.ImportFrom)
  }
  assert len(late) <= LATE_IMPORTS, "\n".join(sorted(late))


def test_functions_and_classes_can_be_read_at_once():
  long = {
    f"{path} {node.name}"
    for path, node in nodes(ast.FunctionDef | ast.ClassDef)
    if node.end_lineno - node.lineno
    >= LONGEST["class" if isinstance(node, ast.ClassDef) else "function"]
  }
  assert long <= LONGER
