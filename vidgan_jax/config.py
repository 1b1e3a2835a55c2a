"""Configs: load one, override its fields, check it, write it down.

A config file is Python with `get_config(arg='')` that returns a ConfigDict;
most start from `default()`, which holds every field there is (`FIELDS`), and
change a few. What a config may not do is name a field that does not exist: a
misspelt field is an error that names the nearest right one, wherever it was
written (in the file, in `file.py:arg=value` or in `--config.field=value`).

Only the standard library and ml_collections are imported here: checking a
config must cost nothing, so names of models, tasks, ... are found by listing
the files of their rooms, never by importing them.
"""

from collections.abc import Iterable
from collections.abc import Mapping
import importlib.util
import json
import math
import pathlib
import re
import traceback
from typing import Any

import ml_collections

from vidgan_jax import errors
from vidgan_jax import fields
from vidgan_jax import rooms

# Short, for `FIELDS`.
Field, Number, Group = fields.Field, fields.Number, fields.Group
Choice, Name, Rules = fields.Choice, fields.Name, fields.Rules
Duration, Ops, OPTIONS = fields.Duration, fields.Ops, fields.OPTIONS


class ConfigError(errors.UserError):
  """A config (file, argument or override) that cannot be right."""


# ------------------------------------------------------------------- fields


def _optimizer() -> fields.Group:
  return Group(
    name=Field("adam"),
    lr=Number(2e-4, least=0),  # peak learning rate
    b1=Number(0.0),
    b2=Number(0.99),
    eps=Number(1e-8),
    schedule=Choice("constant", among=("constant", "cosine", "linear")),
    warmup=Duration("0steps"),  # linear, from 0
    final=Number(0.0),  # where the schedule ends, as a fraction of lr
    clip=Number(None, none=True),  # global norm of the gradient; None: any
    l1=Rules(()),  # ((regex on the parameter's path, strength),)
    l2=Rules(()),  # the same; the first regex that matches counts
    lr_mult=Rules(()),  # ((regex, factor),); factor 0: frozen
  )


FIELDS = Group(
  seed=Number(0, least=0),
  total=Duration("10kimg"),  # length of the run
  batch=Number(32, least=1),  # clips in one step, over all devices
  data=Group(
    name=Name("sprites", room="data"),
    options=OPTIONS,  # what its make(split, ...) takes
    train=Field("train"),  # split to train on
    test=Field("test"),  # split to evaluate on
    ops=Ops("clip(16) | value_range(-1, 1)"),  # clip ops of training
    eval_ops=Ops("first(16)"),  # the same, for evaluation
    # How captions become a signal, see data/text.py; '': they do not.
    text=Choice("", among=("", "words", "bytes", "*.json", "embed:*")),
    memory=Field(False),  # decoded data set in device memory (no TF)
  ),
  task=Group(
    name=Name("generate", room="tasks"),
    options=OPTIONS,  # what its make(...) takes
  ),
  model=Group(
    name=Name("continuous", room="models"),
    variant=Field("S"),  # a key of its VARIANTS
    resolution=Number(64, least=1),  # pixels, height and width
    frames=Number(16, least=1),  # frames of one training clip
    num_classes=Number(0, least=0),  # 0: unconditional
    generator=OPTIONS,  # fields that differ from the variant
    discriminator=OPTIONS,
  ),
  objective=Name("relativistic", room="losses"),
  # A loss of losses/reconstruction.py or of the model -> weight and options.
  reconstruction=Group(OPTIONS),
  adversary=Group(
    # Of the objective in G's loss; 0: no D, regression alone.
    weight=Number(1.0, least=0),
    # D and the objective begin here; before: regression alone.
    start=Duration("0steps"),
    ramp=Duration("0steps"),  # the weight's rise from 0 after that
    # D rests while D(real) - D(fake) is above; None: never.
    hold=Number(None, none=True),
  ),
  penalties=Group(
    Group(
      weight=Number(1.0, least=0),  # of the penalty in D's loss (gamma / 2)
      # Steps from one to the next, which then weighs as many.
      interval=Number(1, least=1),
      # Weight at the end, on a geometric way; 0: linear; None: constant.
      final=Number(None, none=True, least=0),
    ),
    "penalties",
  ),
  augment=Group(
    policy=Field(""),  # comma separated: flip, color, ...; '': none
    p=Number(0.0, least=0, most=1),  # probability of each (at the start)
    # E[sign D(real)] to adapt p to; None: p is fixed.
    target=Number(None, none=True),
    kimg=Number(500.0),  # kimg in which an adaptive p can go from 0 to 1
  ),
  optim=Group(g=_optimizer(), d=_optimizer()),
  ema=Group(
    halflife=Duration("2kimg"),  # of the averaged generator
    # Half-life <= rampup * clips shown; None: off.
    rampup=Number(0.05, none=True),
  ),
  d_steps=Number(1, least=1),  # discriminator updates per generator update
  accumulate=Number(1, least=1),  # micro-batches of one update
  # Of the computation; parameters are float32.
  precision=Choice("float32", among=("float32", "bfloat16")),
  parallel=Choice("jit", among=("jit", "pmap")),
  # -1: all devices that are left.
  mesh=Rules((("data", -1),), pair="axis, devices"),
  batch_axes=Field(("slice", "data", "fsdp")),  # axes that carry the batch
  # The first regex that matches counts.
  sharding=Rules(((".*", "replicate"),), pair="regex, tactic"),
  cadence=Group(
    log=Duration("50steps"),  # 0steps: never
    sample=Duration("1kimg"),
    eval=Duration("5kimg"),
    save=Duration("5kimg"),
    keep=Number(2, least=1),  # newest checkpoints kept
  ),
  # Options of each, and perhaps a cadence of its own.
  evals=Group(Group(Field(), cadence=Duration(...)), "evals"),
  init_from=Field(""),  # checkpoint or workdir to start from; '': none
  nan_limit=Number(20, least=1),  # skipped steps in a row before the run stops
)


def default() -> ml_collections.ConfigDict:
  """Every field with its default; `FIELDS` says what each means."""
  return complete({})


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
    if "get_config" not in vars(module):
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
      text = str(fields.unknown(field[1], FIELDS, repr(field[1])))
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
    old = defaults[name]
    kind = object if old is None else type(old)
    values[name] = fields.parse(text, kind, old, name) if eq else True
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
  tree = fields.plain(config)
  for flag in flags:
    path, eq, text = flag.partition("=")
    if not path.startswith("--config.") or not eq:
      raise ConfigError(
        f"{flag!r} is not an override; these are written "
        "--config.field=value, as --config.batch=16."
      )
    path = path.removeprefix("--config.")
    *parents, leaf = path.split(".")
    # Down both trees at once, that of the values and that of the fields.
    at, group = tree, FIELDS
    for name in parents:
      group = group.child(name)
      at = None if group is None else at.setdefault(name, {})
      if not isinstance(at, dict):
        raise fields.unknown(path, FIELDS, flag)
      if not isinstance(group, Group):  # an option that is a dict
        group = OPTIONS
    node = group.child(leaf)
    if node is None:
      raise fields.unknown(path, FIELDS, flag)
    if leaf in group and isinstance(node, Group) and node.others is None:
      raise ConfigError(
        f"{flag}: {path} is a group of fields, set one of them: "
        + ", ".join(f"{path}.{k}" for k in node)
        + "."
      )
    at[leaf] = node.read(text, at.get(leaf), flag)
  return complete(tree)


def complete(
  config: Mapping[str, Any] | ml_collections.ConfigDict,
) -> ml_collections.ConfigDict:
  """Returns `config` over the defaults: no field missing, none unknown.

  Raises:
    ConfigError: a field that does not exist, or of another type.
  """
  tree = fields.fill(fields.plain(config), FIELDS)
  try:
    made = ml_collections.ConfigDict(tree)
  except (ValueError, TypeError) as e:  # An option's name with a dot in it.
    raise ConfigError(f"The config cannot be right: {errors.brief(e)}.") from e
  return _unlock(made.lock(), FIELDS)


def validate(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Checks fields, names and values; returns the completed config.

  Raises:
    UserError: says which field, what is wrong, and how to fix it.
  """
  config = complete(config)
  fields.check(fields.plain(config), FIELDS)
  known = rooms.variants(config.model.name)
  if known:
    rooms.check_name(config.model.variant, known, "config.model.variant")
  for name in config.reconstruction:
    own = rooms.model_losses(config.model.name)
    rooms.check_entry("reconstruction", name, "config.reconstruction", own)
  if config.batch % config.accumulate:
    raise ConfigError(
      f"config.batch is {config.batch} and config.accumulate "
      f"{config.accumulate}: the batch is cut into that many equal parts, "
      "so it must be a multiple of it."
    )
  for name, penalty in config.penalties.items():
    if penalty.final is not None and not penalty.weight:
      raise ConfigError(
        f"config.penalties.{name} has weight={penalty.weight} and final="
        f"{penalty.final}: give the weight that it starts from, or set "
        "final=None to keep it constant."
      )
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
  number, unit = fields.duration(duration)
  if unit == "steps":
    return math.ceil(number)
  return math.ceil(_clips(number, unit, size, duration) / batch)


def kimg(duration: str | int, batch: int, size: int | None = None) -> float:
  """The same in thousands of clips, not rounded."""
  number, unit = fields.duration(duration)
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


# --------------------------------------------------------------------- json


def to_json(config: ml_collections.ConfigDict) -> str:
  """The config as text; tuples become arrays (a config holds no lists)."""
  return json.dumps(fields.plain(config), indent=2, sort_keys=True) + "\n"


def from_json(text: str | bytes) -> ml_collections.ConfigDict:
  """The inverse of `to_json`; fields younger than the text get defaults."""
  try:
    tree = json.loads(text)
  except (ValueError, TypeError, RecursionError) as e:
    raise ConfigError(
      f"The config is not JSON ({errors.brief(e)}). Was the file edited or cut "
      "short?"
    ) from None
  model = tree.get("model") if isinstance(tree, dict) else None
  # A field of earlier versions, of which no other value ever worked.
  if isinstance(model, dict) and model.pop("channels", 3) != 3:
    raise ConfigError(
      "The config says model.channels, which is no longer a field: clips have "
      "three channels, in grey ones they are equal. Train the model anew "
      "without it."
    )
  return complete(tree)


# ------------------------------------------------------------------ details


def _unlock(config: ml_collections.ConfigDict, group: Group) -> Any:
  """Lets groups take new keys that may hold others than those listed."""
  if group.others is not None:
    config.unlock()
  for key, child in group.items():
    if isinstance(child, Group):
      _unlock(config[key], child)
  return config
