"""Kinds of fields of a config, and the walks over a tree of them.

A field says all about itself in one place: its default, of which type its
values are, and what must hold of them. A tree of fields is a `Group`; a config
is a tree of values of the same form, in dicts.
"""

import ast
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import difflib
import fnmatch
import math
import re
from typing import Any

import ml_collections

from vidgan_jax import errors
from vidgan_jax import rooms
from vidgan_jax.data import oplang

# Whole optimizer steps, thousands of clips shown, or passes.
_DURATION = re.compile(
  r"\s*([0-9][0-9_]*(?:\.[0-9]*)?|\.[0-9]+)\s*"
  r"(steps?|kimg|epochs?)?\s*"
)


@dataclasses.dataclass(frozen=True)
class Field:
  """A field of any value of its default's type; of any value by default.

  Attributes:
    default: its value in a config that does not say it; `...`: it is not there.
    none: whether None is a value too.
  """

  default: Any = None
  _: dataclasses.KW_ONLY
  none: bool = False

  @property
  def type(self) -> type:
    """Of the values but None."""
    return object if self.default is None else type(self.default)

  def fit(self, value: Any, where: str) -> Any:
    """The value as a config holds it; UserError if it is of another type."""
    if self.type is object or value is None and self.none:
      return value
    if self.type is float and type(value) is int:
      return float(value)
    if type(value) is not self.type:
      raise errors.UserError(
        f"{where} is {value!r}; it must be a {self.type.__name__}, as "
        f"{self.default!r}."
      )
    return value

  def read(self, text: str, old: Any, where: str) -> Any:
    """The value that a text stands for; see `parse`."""
    if self.none and text.lower() == "none":
      return None
    return parse(text, self.type, old, where)

  def check(self, value: Any, where: str) -> None:
    """Raises a UserError if a value of the right type cannot be right."""


@dataclasses.dataclass(frozen=True)
class Number(Field):
  """A number within bounds, whole if its default is; float if that is None."""

  _: dataclasses.KW_ONLY
  least: float = -math.inf
  most: float = math.inf

  @property
  def type(self):
    return float if self.default is None else type(self.default)

  def check(self, value, where):
    if not self.least <= value <= self.most:
      rule = f"at least {self.least}" if self.least else "not negative"
      rule = rule if self.most == math.inf else f"from 0 to {self.most}"
      raise errors.UserError(f"{where} is {value}; it must be {rule}.")


class Duration(Field):
  """A length of training, as '500steps', '20kimg', '3epochs'."""

  type = str

  def fit(self, value, where):
    return super().fit(str(value) if type(value) is int else value, where)

  def check(self, value, where):
    duration(value, f"{where}: ")


@dataclasses.dataclass(frozen=True)
class Choice(Field):
  """One of a few words, or of patterns of them, as '*.json'."""

  _: dataclasses.KW_ONLY
  among: tuple[str, ...]

  def check(self, value, where):
    if not any(fnmatch.fnmatchcase(value, known) for known in self.among):
      rooms.check_name(value, self.among, where)


@dataclasses.dataclass(frozen=True)
class Name(Field):
  """The name of an entry of a room."""

  _: dataclasses.KW_ONLY
  room: str

  def check(self, value, where):
    rooms.check_entry(self.room, value, where)


@dataclasses.dataclass(frozen=True)
class Rules(Field):
  """Pairs of a regular expression and what holds where it matches."""

  _: dataclasses.KW_ONLY
  pair: str = "regex, number"

  def check(self, value, where):
    for pair in value:
      match pair:
        case (str(pattern), _):
          try:
            re.compile(pattern)
          except re.error as e:
            raise errors.UserError(
              f"{where}: {pattern!r} is not a regular expression: {e}."
            ) from None
        case _:
          raise errors.UserError(
            f"{where} has the entry {pair!r}; each is a pair ({self.pair})."
          )


class Ops(Field):
  """Clip ops, as 'clip(16) | flip_lr'."""

  def check(self, value, where):
    try:
      oplang.bind(value)
    except errors.UserError as e:
      raise errors.UserError(f"{where}: {e}") from None


class Group(dict):
  """Fields and groups by their names.

  Attributes:
    others: what a key holds that is not among them; None: there is no such.
    room: what these keys are names of; '': they are whatever they are.
  """

  def __init__(self, others=None, room="", /, **fields):
    super().__init__(fields)
    self.others, self.room = others, room

  def child(self, name: str) -> "Field | Group | None":
    """What is known of a key; None: it cannot be there."""
    return self.get(name, self.others)

  def read(self, text: str, old: Any, where: str) -> dict[str, Any]:
    """The dict that a text stands for; see `parse`."""
    return parse(text, dict, old, where)


# Options of a function: whoever calls it checks them (`rooms.check_kwargs`).
OPTIONS = Group(Field())


# ---------------------------------------------------------------------- walks


def plain(value: Any) -> Any:
  """ConfigDicts to dicts (references resolved), lists to tuples."""
  if isinstance(value, ml_collections.ConfigDict):
    value = value.to_dict()
  if isinstance(value, Mapping):
    return {k: plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return tuple(plain(v) for v in value)
  return value


def fill(
  given: Any, group: Group, where: str = "", root: Group | None = None
) -> dict[str, Any]:
  """Lays values over the defaults of a group.

  Args:
    given: some or all of the values.
    group: what fields there are.
    where: path of the group.
    root: the whole tree, in which a misspelt field is looked for.

  Raises:
    UserError: a field that does not exist, or of another type.
  """
  if not isinstance(given, Mapping):
    raise errors.UserError(
      f"config.{where} must be a "
      + (
        f"group of fields ({', '.join(group)})"
        if group.others is None
        else "dict of options ({} for none)"
      )
      + f", not {given!r}."
    )
  tree = {
    key: {} if isinstance(node, Group) else node.default
    for key, node in group.items()
    if isinstance(node, Group) or node.default is not ...
  }
  root = group if root is None else root
  for key, value in (tree | dict(given)).items():
    node, path = group.child(key), f"{where}.{key}".lstrip(".")
    if node is None:
      raise unknown(path, root, "a field of the config")
    if isinstance(node, Group):
      tree[key] = fill(value, node, path, root)
    else:
      tree[key] = node.fit(value, f"config.{path}")
  return tree


def check(tree: Mapping[str, Any], group: Group, where: str = "config") -> None:
  """Checks values, and keys that are names.

  Raises:
    UserError: says which field, what is wrong, and how to fix it.
  """
  for key, value in tree.items():
    if key not in group and group.room:
      rooms.check_entry(group.room, key, where)
    node, path = group.child(key), f"{where}.{key}"
    if isinstance(node, Group):
      check(value, node, path)
    elif value is not None:
      node.check(value, path)


def paths(group: Group, wrong: str, prefix: str = "") -> Iterator[str]:
  """Paths of all fields, those of a named group by its name in `wrong`."""
  named = {}
  if isinstance(group.others, Group) and wrong.startswith(prefix):
    named[wrong.removeprefix(prefix).split(".")[0]] = group.others
  for key, node in (group | named).items():
    yield prefix + key
    if isinstance(node, Group):
      yield from paths(node, wrong, f"{prefix}{key}.")


def unknown(path: str, root: Group, where: str) -> errors.UserError:
  """What to say of a field that does not exist: the nearest that does."""
  # A right leaf under a wrong parent, or the reverse: both are looked at.
  # A shortened word (res) is nearer than its letters alone say.
  like = lambda a, b: (
    difflib.SequenceMatcher(None, a, b).ratio() + a.startswith(b) / 2
  )
  leaf = lambda a: a.rpartition(".")[2]
  best = max(
    paths(root, path),
    key=lambda known: like(known, path) + like(leaf(known), leaf(path)),
  )
  return errors.UserError(
    f"{where}: there is no field config.{path}. Did you mean 'config.{best}'?"
  )


def duration(text: str | int, where: str = "") -> tuple[float, str]:
  """'1.5kimg' -> (1.5, 'kimg'); the unit is 'steps', 'kimg' or 'epochs'.

  Raises:
    UserError: it is not a duration; begins with `where`.
  """
  match = _DURATION.fullmatch(str(text))
  if isinstance(text, bool) or not match:
    raise errors.UserError(
      f"{where}{text!r} is not a duration; write 500steps, 20kimg, 3epochs or "
      "a number of steps."
    )
  number = float(match[1])
  if not match[2] and number != int(number):
    raise errors.UserError(
      f"{where}{text!r} is not a whole number of steps; write 500steps, "
      "1.5kimg or 3epochs."
    )
  unit = (match[2] or "steps").removesuffix("s")
  return number, unit if unit == "kimg" else f"{unit}s"


def parse(text: str, kind: type, old: Any, where: str) -> Any:
  """Text to a value of a type; object: to whatever it reads as.

  Raises:
    UserError: it cannot be read so; names `where` and the value `old`.
  """
  words = {"true": True, "false": False}
  words |= {"1": True, "0": False} if kind is bool else {"none": None}
  try:
    if kind is bool or kind is object and text.lower() in words:
      return words[text.lower()]
    if kind in (str, int, float):
      return kind(text)
    value = plain(ast.literal_eval(text))
    if kind is object or type(value) is kind:
      return value
  except (ValueError, KeyError, SyntaxError):
    if kind is object:
      return text
  raise errors.UserError(
    f"{where}: {text!r} is not a {kind.__name__}; the value there now is "
    f"{old!r}."
  )
