"""Configs: load one, override its fields, check it, write it down.

A config file is Python with `get_config(arg='')` that returns a ConfigDict;
most start from `default()` below, which holds every field there is, and change
a few. What a config may not do is name a field that does not exist: a misspelt
field is an error that names the nearest right one, wherever it was written (in
the file, in `file.py:arg=value` or in `--config.field=value`).

Only the standard library and ml_collections are imported here: checking a
config must cost nothing, so names of models, tasks, ... are found by listing
the files of their rooms, never by importing them.
"""

import ast
from collections.abc import Iterable
from collections.abc import Mapping
import difflib
import importlib.util
import json
import math
import pathlib
import re
import traceback
from typing import Any

import ml_collections

from vidgan_jax import errors
from vidgan_jax import rooms
from vidgan_jax.data import oplang

_PACKAGE = pathlib.Path(__file__).parent

# A duration: whole optimizer steps, thousands of clips shown, or passes.
_DURATION = re.compile(
  r"\s*([0-9][0-9_]*(?:\.[0-9]*)?|\.[0-9]+)\s*"
  r"(steps?|kimg|epochs?)?\s*"
)

# Dicts whose keys are not known here: whoever takes the options checks them
# (`check_kwargs`). `penalties` and `evals` hold one dict for each name.
_OPEN = frozenset(
  [
    "data.options",
    "task.options",
    "model.generator",
    "model.discriminator",
    "penalties",
    "reconstruction",
    "evals",
  ]
)
# Of these each key is a name, and its value a dict of options.
_NAMED = ("penalties", "reconstruction", "evals")
_PENALTY = {
  "weight": 1.0,  # the penalty enters the loss times this (gamma / 2)
  "interval": 1,  # steps from one to the next, which then weighs as many
  "final": None,  # weight at the end, on a geometric way; 0: linear;
  # None: constant
}

# Fields that may be None, with the type they have otherwise.
_NULLABLE = {
  "adversary.hold": float,
  "augment.target": float,
  "ema.rampup": float,
  "optim.g.clip": float,
  "optim.d.clip": float,
}

_DURATIONS = frozenset(
  [
    "total",
    "adversary.start",
    "adversary.ramp",
    "ema.halflife",
    "optim.g.warmup",
    "optim.d.warmup",
    "cadence.log",
    "cadence.sample",
    "cadence.eval",
    "cadence.save",
  ]
)

_CHOICES = {
  "precision": ("float32", "bfloat16"),
  "parallel": ("jit", "pmap"),
  "optim.g.schedule": ("constant", "cosine", "linear"),
  "optim.d.schedule": ("constant", "cosine", "linear"),
}


class ConfigError(errors.UserError):
  """A config (file, argument or override) that cannot be right."""


# ------------------------------------------------------------------- fields


def default() -> ml_collections.ConfigDict:
  """Every field with its default: the reference of what a config may say."""

  def optimizer():
    return dict(
      name="adam",
      lr=2e-4,  # peak learning rate
      b1=0.0,
      b2=0.99,
      eps=1e-8,
      schedule="constant",  # constant | cosine | linear, over `total`
      warmup="0steps",  # linear warm-up from 0
      final=0.0,  # where the schedule ends, as a fraction of lr
      clip=None,  # global norm of the gradient, or None
      l1=(),  # ((regex on the parameter's path, strength),)
      l2=(),  # the same; the first regex that matches counts
      lr_mult=(),  # ((regex, factor),); factor 0: frozen
    )

  config = ml_collections.ConfigDict(
    dict(
      seed=0,
      total="10kimg",  # length of the run, a duration
      batch=32,  # clips in one step, over all devices
      data=dict(
        name="sprites",  # vidgan_jax/data/NAME.py
        options={},  # what its make(split, ...) takes
        train="train",  # split to train on
        test="test",  # split to evaluate on
        ops="clip(16) | value_range(-1, 1)",  # clip ops of training
        eval_ops="first(16)",  # the same, for evaluation
        memory=False,  # decoded data set in device memory (no TF)
      ),
      task=dict(
        name="generate",  # vidgan_jax/tasks/NAME.py
        options={},  # what its make(...) takes
      ),
      model=dict(
        name="continuous",  # vidgan_jax/models/NAME.py
        variant="S",  # a key of its VARIANTS
        resolution=64,  # pixels, height and width
        frames=16,  # frames of one training clip
        channels=3,
        num_classes=0,  # 0: unconditional
        generator={},  # fields that differ from the variant
        discriminator={},
      ),
      objective="relativistic",  # vidgan_jax/losses/NAME.py
      reconstruction={},  # name in losses/reconstruction.py -> weight, options
      adversary=dict(
        weight=1.0,  # of the objective in G's loss; 0: no D, regression alone
        start="0steps",  # D and the objective begin here; before: regression
        ramp="0steps",  # the weight's rise from 0 after that
        hold=None,  # D rests while D(real) - D(fake) is above; None: never
      ),
      penalties={},  # name in losses/penalties.py -> _PENALTY fields
      augment=dict(
        policy="",  # comma separated: flip, color, ...; '': none
        p=0.0,  # probability of each transform (at the start)
        target=None,  # E[sign D(real)] to adapt p to; None: p fixed
        kimg=500.0,  # kimg in which an adaptive p can go from 0 to 1
      ),
      optim=dict(g=optimizer(), d=optimizer()),
      ema=dict(
        halflife="2kimg",  # of the averaged generator, a duration
        rampup=0.05,  # half-life <= rampup * clips shown; None: off
      ),
      d_steps=1,  # discriminator updates per generator update
      accumulate=1,  # micro-batches of one update
      precision="float32",  # of the computation; parameters are float32
      parallel="jit",  # jit over the mesh | pmap
      mesh=(("data", -1),),  # ((axis, devices),); -1: all that are left
      batch_axes=("slice", "data", "fsdp"),  # axes that carry the batch
      sharding=((".*", "replicate"),),  # ((regex, tactic),), first match
      cadence=dict(
        log="50steps",  # each a duration; 0steps: never
        sample="1kimg",
        eval="5kimg",
        save="5kimg",
        keep=2,  # newest checkpoints kept
      ),
      evals={},  # vidgan_jax/evals/NAME.py -> its options and cadence
      init_from="",  # checkpoint or workdir to start from; '': none
      nan_limit=20,  # skipped steps in a row before the run stops
    )
  )
  return _lock(config)


def load(path_with_arg: str) -> ml_collections.ConfigDict:
  """Loads 'configs/x.py' or 'configs/x.py:res=64,frames=16'.

  Args:
    path_with_arg: a path of a Python file with `get_config(arg)`, and after a
      colon the argument it gets.

  Returns:
    The config, with the defaults for every field that the file left out.

  Raises:
    ConfigError: no such file, no get_config in it, or a field or an argument
      of it that does not exist.
  """
  path, arg = path_with_arg, ""
  if not path.endswith(".py") and ".py:" in path:
    path, arg = path_with_arg.split(".py:", 1)
    path += ".py"
  file = pathlib.Path(path)
  if not file.is_file():
    folder = file.parent if file.parent.is_dir() else pathlib.Path("configs")
    files = sorted(str(f) for f in folder.glob("*.py"))
    raise ConfigError(
      f"There is no config file {path!r}"
      + (" (a folder has that name)" if file.is_dir() else "")
      + ". "
      + (
        rooms.nearest(path, files)
        if files
        else f"The folder {str(folder)!r} holds no config either."
      )
    )
  spec = importlib.util.spec_from_file_location(
    f"_vidgan_config_{file.stem}", file
  )
  if spec is None or spec.loader is None:
    raise ConfigError(f"{path!r} is not a Python file: a config is one.")
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
      raise ConfigError("it defines no function get_config(arg).")
    config = module.get_config(arg)
    if not isinstance(config, Mapping | ml_collections.ConfigDict):
      raise ConfigError(
        f"get_config returned a {type(config).__name__}, not a ConfigDict."
      )
    return complete(config)
  except errors.UserError as e:
    raise ConfigError(f"In config {path_with_arg!r}: {e}") from None
  except (AttributeError, KeyError, TypeError, SyntaxError) as e:
    # ml_collections says what is wrong with a field, but not where.
    lines = [
      f.lineno
      for f in traceback.extract_tb(e.__traceback__)
      if f.filename == str(file)
    ]
    if isinstance(e, SyntaxError):
      lines = [e.lineno]
    where = f"{path}:{lines[-1]}" if lines else path
    text = str(e.args[0] if e.args else e).strip()
    field = re.search(r'Key "([^"]*)" does not exist', text)
    if field:  # ml_collections would print the whole config here
      text = _unknown(field[1], _plain(default()), repr(field[1]))
    else:
      text = f"{type(e).__name__}: " + " ".join(text.split())
    raise ConfigError(f"In config {where}: {text}") from e


def parse_arg(arg: str, **defaults: Any) -> ml_collections.ConfigDict:
  """Parses a config's argument: 'res=64,cond' with typed defaults.

  Args:
    arg: comma separated `name=value`; a name alone means True.
    **defaults: every name there is, with a value of its type.

  Returns:
    ConfigDict with the fields of `defaults`.

  Raises:
    ConfigError: an unknown name or a value of another type.
  """
  values = dict(defaults)
  for item in filter(None, (s.strip() for s in arg.split(","))):
    name, eq, text = (s.strip() for s in item.partition("="))
    if name not in defaults:
      raise ConfigError(
        f"Unknown argument {name!r} in {arg!r}. "
        + rooms.nearest(name, defaults)
      )
    if not eq and not isinstance(defaults[name], bool):
      raise ConfigError(
        f"The argument {name!r} in {arg!r} needs a value, as "
        f"in {name}={defaults[name]}."
      )
    values[name] = _parse(text, defaults[name], name) if eq else True
  return ml_collections.ConfigDict(values)


def override(
  config: ml_collections.ConfigDict, flags: Iterable[str]
) -> ml_collections.ConfigDict:
  """Applies ['--config.optim.g.lr=1e-3', ...]; returns a new config.

  A value takes the type of the field it replaces; None is written None. Fields
  that are dicts of options (`data.options`, `evals`, ...) accept new keys, and
  a whole one can be replaced by a dict literal: '--config.evals={}'.

  Raises:
    ConfigError: unknown field (names the nearest) or a value of another type.
  """
  tree = _plain(config)
  for flag in flags:
    path, eq, text = flag.partition("=")
    if not path.startswith("--config.") or not eq:
      raise ConfigError(
        f"{flag!r} is not an override; these are written "
        "--config.field=value, as --config.batch=16."
      )
    path = path.removeprefix("--config.")
    *parents, leaf = path.split(".")
    node, where = tree, ""
    for name in parents:
      if name not in node and where in _NAMED:
        rooms.check_entry(where, name, flag)
        node[name] = dict(_PENALTY) if where == "penalties" else {}
      if not isinstance(node.get(name), dict):
        raise ConfigError(_unknown(path, tree, flag))
      node, where = node[name], f"{where}.{name}".lstrip(".")
    if leaf in node:
      old = node[leaf]
    elif _is_open(where):
      if where in _NAMED:
        rooms.check_entry(where, leaf, flag)
        old = {}
      else:
        old = None
    else:
      raise ConfigError(_unknown(path, tree, flag))
    if isinstance(old, dict):
      if not _is_open(path) and where != "penalties":
        raise ConfigError(
          f"{flag}: {path} is a group of fields, set one of them: "
          + ", ".join(f"{path}.{k}" for k in old)
          + "."
        )
      node[leaf] = _parse(text, {}, flag)
    elif path in _NULLABLE or old is None or _penalty_final(path):
      kind = _NULLABLE.get(path, float if _penalty_final(path) else None)
      value = _parse(text, None, flag)
      node[leaf] = (
        _parse(text, kind(), flag) if kind and value is not None else value
      )
    else:
      node[leaf] = _parse(text, old, flag)
  return complete(tree)


def complete(
  config: Mapping[str, Any] | ml_collections.ConfigDict,
) -> ml_collections.ConfigDict:
  """Returns `config` over `default()`: no field missing, none unknown.

  Raises:
    ConfigError: a field that does not exist, or of another type.
  """
  return _lock(
    ml_collections.ConfigDict(_merge(_plain(config), _plain(default()), ""))
  )


def validate(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Checks fields, names and values; returns the completed config.

  Raises:
    ConfigError: says which field, what is wrong, and how to mend it.
  """
  config = complete(config)
  paces = [
    f"evals.{k}.cadence" for k, v in config.evals.items() if "cadence" in v
  ]
  for path in (*_DURATIONS, *paces):
    try:
      _duration(_get(config, path))
    except errors.UserError as e:
      raise ConfigError(f"config.{path}: {e}") from None
  for path, choices in _CHOICES.items():
    rooms.check_name(_get(config, path), choices, f"config.{path}")

  for room, path in (
    ("data", "data.name"),
    ("tasks", "task.name"),
    ("models", "model.name"),
    ("losses", "objective"),
  ):
    rooms.check_entry(room, _get(config, path), f"config.{path}")
  for room in _NAMED:
    for name in config[room]:
      rooms.check_entry(room, name, f"config.{room}")
  known = rooms.variants(config.model.name)
  if known:
    rooms.check_name(config.model.variant, known, "config.model.variant")

  for path in ("data.ops", "data.eval_ops"):
    try:
      oplang.bind(_get(config, path))
    except errors.UserError as e:
      raise ConfigError(f"config.{path}: {e}") from None

  for path in (
    "batch",
    "d_steps",
    "accumulate",
    "nan_limit",
    "model.resolution",
    "model.frames",
    "model.channels",
    "cadence.keep",
    *(f"penalties.{k}.interval" for k in config.penalties),
  ):
    if _get(config, path) < 1:
      raise ConfigError(
        f"config.{path} is {_get(config, path)}; it must be at least 1."
      )
  for path in (
    "seed",
    "adversary.weight",
    "model.num_classes",
    "optim.g.lr",
    "optim.d.lr",
    *(f"penalties.{k}.weight" for k in config.penalties),
  ):
    if _get(config, path) < 0:
      raise ConfigError(
        f"config.{path} is {_get(config, path)}; it must not be negative."
      )
  if config.penalties.get("lecam", {}).get("interval", 1) != 1:
    raise ConfigError(
      "config.penalties.lecam.interval must be 1: LeCam costs nothing, so it "
      "is computed at every step."
    )
  if config.batch % config.accumulate:
    raise ConfigError(
      f"config.batch is {config.batch} and config.accumulate "
      f"{config.accumulate}: the batch is cut into that many equal parts, "
      "so it must be a multiple of it."
    )
  if not 0 <= config.augment.p <= 1:
    raise ConfigError(
      f"config.augment.p is {config.augment.p}; it is a "
      "probability, from 0 to 1."
    )
  for path in (
    "sharding",
    "mesh",
    *(
      f"optim.{net}.{rule}" for net in "gd" for rule in ("l1", "l2", "lr_mult")
    ),
  ):
    kind = {"sharding": "regex, tactic", "mesh": "axis, devices"}.get(
      path, "regex, number"
    )
    for pair in _get(config, path):
      if not (
        isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)
      ):
        raise ConfigError(
          f"config.{path} has the entry {pair!r}; each is a pair ({kind})."
        )
      try:
        re.compile(pair[0])
      except re.error as e:
        raise ConfigError(
          f"config.{path}: {pair[0]!r} is no regular expression: {e}."
        ) from None
  return config


# ---------------------------------------------------------------- durations


def steps(duration: str | int, batch: int, size: int | None = None) -> int:
  """Turns '500steps', '20kimg', '3epochs' or a number of steps into steps.

  Args:
    duration: the length; a bare number counts steps.
    batch: clips in a step.
    size: clips in the data set; needed for epochs only.

  Returns:
    Steps, rounded up: a run of 1kimg shows at least 1000 clips.
  """
  number, unit = _duration(duration)
  if unit == "steps":
    return math.ceil(number)
  return math.ceil(_clips(number, unit, size, duration) / batch)


def kimg(duration: str | int, batch: int, size: int | None = None) -> float:
  """The same in thousands of clips, not rounded."""
  number, unit = _duration(duration)
  if unit == "steps":
    return number * batch / 1000
  return _clips(number, unit, size, duration) / 1000


def _clips(
  number: float, unit: str, size: int | None, duration: str | int
) -> float:
  if unit == "kimg":
    return number * 1000
  if not size:
    raise ConfigError(
      f"{duration!r}: epochs need the size of the data set, "
      "which is not known here; say kimg or steps."
    )
  return number * size


def _duration(duration: str | int) -> tuple[float, str]:
  match = _DURATION.fullmatch(str(duration))
  if isinstance(duration, bool) or not match:
    raise ConfigError(
      f"{duration!r} is no duration; write 500steps, 20kimg, "
      "3epochs or a number of steps."
    )
  unit = (match[2] or "steps").rstrip("s")
  number = float(match[1])
  if not match[2] and number != int(number):
    raise ConfigError(
      f"{duration!r} is no whole number of steps; write 500steps, 1.5kimg or "
      "3epochs."
    )
  return number, {"step": "steps", "epoch": "epochs"}.get(unit, unit)


# Where they were before rooms.py, for a while.
names, variants, nearest = rooms.names, rooms.variants, rooms.nearest
check_name, check_kwargs = rooms.check_name, rooms.check_kwargs


# --------------------------------------------------------------------- json


def to_json(config: ml_collections.ConfigDict) -> str:
  """The config as text; tuples become arrays (a config holds no lists)."""
  return json.dumps(_plain(config), indent=2, sort_keys=True) + "\n"


def from_json(text: str) -> ml_collections.ConfigDict:
  """The inverse of `to_json`; fields younger than the text get defaults."""
  try:
    return complete(json.loads(text))
  except json.JSONDecodeError as e:
    raise ConfigError(
      f"The config is no JSON (line {e.lineno}): {e.msg}. Was "
      "the file edited or cut short?"
    ) from None


# ------------------------------------------------------------------ details


def _is_open(path: str) -> bool:
  """Whether a dict accepts keys that the defaults do not have."""
  return path in _OPEN or path.startswith(
    (
      "data.options.",
      "task.options.",
      "model.generator.",
      "model.discriminator.",
      "reconstruction.",
      "evals.",
    )
  )


def _penalty_final(path: str) -> bool:
  return re.fullmatch(r"penalties\.[^.]+\.final", path) is not None


def _lock(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  config.lock()
  for path in _OPEN:
    _get(config, path).unlock()
  return config


def _get(config: Any, path: str) -> Any:
  for name in path.split("."):
    config = config[name]
  return config


def _plain(value: Any) -> Any:
  """ConfigDicts to dicts (references resolved), lists to tuples."""
  if isinstance(value, ml_collections.ConfigDict):
    value = value.to_dict()
  if isinstance(value, Mapping):
    return {k: _plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return tuple(_plain(v) for v in value)
  return value


def _paths(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
  out = []
  for key, value in tree.items():
    out.append(prefix + key)
    if isinstance(value, Mapping):
      out.extend(_paths(value, f"{prefix}{key}."))
  return out


def _unknown(path: str, tree: Mapping[str, Any], where: str) -> str:
  # A right leaf under a wrong parent, or the reverse: both are looked at.
  # A shortened word (res) is nearer than its letters alone say.
  like = lambda a, b: (
    difflib.SequenceMatcher(None, a, b).ratio() + a.startswith(b) / 2
  )
  leaf = lambda a: a.rpartition(".")[2]
  best = max(
    _paths(tree),
    key=lambda known: like(known, path) + like(leaf(known), leaf(path)),
  )
  return (
    f"{where}: there is no field config.{path}. Did you mean 'config.{best}'?"
  )


def _merge(given: Any, base: Mapping[str, Any], where: str) -> dict[str, Any]:
  """Lays `given` over `base`, which says what fields there are."""
  if not isinstance(given, Mapping):
    raise ConfigError(
      f"config.{where} must be a group of fields ("
      + (", ".join(base) or "name: value")
      + f"), not {given!r}."
    )
  if where == "penalties":
    return {k: _merge(v, _PENALTY, f"penalties.{k}") for k, v in given.items()}
  if _is_open(where):
    for key, value in given.items():
      if where in _NAMED and not isinstance(value, Mapping):
        raise ConfigError(
          f"config.{where}.{key} must be a dict of options ({{}} "
          f"for none), not {value!r}."
        )
    return dict(given)
  out = dict(base)
  for key, value in given.items():
    path = f"{where}.{key}".lstrip(".")
    if key not in base:
      tree = _plain(default())
      if where.startswith("penalties."):
        tree["penalties"] = {where.split(".")[1]: _PENALTY}
      raise ConfigError(_unknown(path, tree, "a field of the config"))
    if isinstance(base[key], Mapping):
      out[key] = _merge(value, base[key], path)
    else:
      out[key] = _typed(value, base[key], path)
  return out


def _typed(value: Any, old: Any, path: str) -> Any:
  """Checks that `value` fits a field that holds `old` by default."""
  if path in _NULLABLE or _penalty_final(path):
    if value is None:
      return None
    kind = _NULLABLE.get(path, float)
  else:
    kind = type(old)
  if kind is float and type(value) is int:
    return float(value)
  if path in _DURATIONS and type(value) is int:
    return str(value)
  if type(value) is not kind:
    raise ConfigError(
      f"config.{path} is {value!r}; it must be a {kind.__name__}, as {old!r}."
    )
  return value


def _parse(text: str, old: Any, where: str) -> Any:
  """Text to a value of the type of `old` (None: whatever it reads as)."""
  kind = type(old)
  try:
    if kind is str:
      return text
    if kind is bool:
      return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    if kind is int:
      return int(text)
    if kind is float:
      return float(text)
    if old is None and text.lower() in ("none", "true", "false"):
      return {"none": None, "true": True, "false": False}[text.lower()]
    try:
      value = _plain(ast.literal_eval(text))
    except (ValueError, SyntaxError):
      if old is not None:
        raise
      return text
    if old is not None and type(value) is not kind:
      raise ValueError
    return value
  except (ValueError, KeyError, SyntaxError):
    raise ConfigError(
      f"{where}: {text!r} is no {kind.__name__}; the value "
      f"there now is {old!r}."
    ) from None
