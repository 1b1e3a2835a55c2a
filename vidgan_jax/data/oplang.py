"""The small language of clip ops: 'clip(16, stride=2) | resize(64) | flip_lr'.

An op is a public function `name(example, seed, ...)` of data/ops.py; a config
writes it without the first two arguments. Nothing of an op is imported or
evaluated here: the standard library reads it.
"""

import ast
import math
from typing import Any

from vidgan_jax import calls
from vidgan_jax import errors
from vidgan_jax import rooms

Op = tuple[str, dict[str, Any]]

_EXAMPLE = "clip(16, stride=2) | flip_lr"
SELECTIONS = ("clip", "first", "middle", "sparse")


def bind(text: str) -> list[tuple[str, dict[str, Any]]]:
  """Parses clip ops and checks them against data/ops.py.

  An op is a public function `name(example, seed, ...)` of that file; its
  defaults are literals.

  Returns:
    [(name, all its arguments by name), ...].

  Raises:
    UserError: an unknown op or argument, or one that is missing.
  """
  known = {
    name: spec
    for name, spec in rooms.functions("data/ops.py").items()
    if [a.arg for a in spec.args[:2]] == ["example", "seed"]
  }
  ops = []
  for name, args, kwargs in calls.parse(text, "the ops", _EXAMPLE):
    if name not in known:
      raise errors.UserError(
        f"unknown op {name!r} in {text!r}. " + rooms.nearest(name, known)
      )
    spec = known[name]
    names = [a.arg for a in spec.args[2:]]
    defaults = {
      n: ast.literal_eval(d)
      for n, d in zip(reversed(names), reversed(spec.defaults))
    }
    usage = ", ".join(
      f"{n}={defaults[n]}" if n in defaults else n for n in names
    )
    usage = f"{name}({usage})" if names else name
    for key in kwargs:
      if key not in names:
        raise errors.UserError(
          f"the op {usage} in {text!r} has no argument {key!r}. "
          + rooms.nearest(key, names)
        )
    bound = dict(zip(names, args))
    if (
      len(args) > len(names)
      or set(bound) & set(kwargs)
      or set(names) - set(defaults) - set(bound) - set(kwargs)
    ):
      raise errors.UserError(
        f"wrong arguments of {name!r} in {text!r}: it is {usage}."
      )
    ops.append((name, defaults | bound | kwargs))
  return ops


def plan(text: str) -> list[Op]:
  """Parses and checks clip ops: [(name, arguments by name), ...].

  Raises:
    UserError: unknown op or argument, a value that makes no sense, or more
      than one choice of frames.
  """
  ops = []
  for name, kwargs in bind(text):
    if "width" in kwargs and kwargs["width"] is None:
      kwargs["width"] = kwargs["height"]
    for key, value in kwargs.items():
      real = key in ("lo", "hi", "rate", "seconds")
      good = isinstance(value, int | float if real else int)
      low = {"lo": -math.inf, "hi": -math.inf, "seconds": 0, "rate": 1e-6}
      if not good or isinstance(value, bool) or value < low.get(key, 1):
        raise errors.UserError(
          f"{key}={value!r} of the op {name!r} in {text!r} must be "
          + ("a number" if real else "a whole number of at least 1")
          + {"rate": " above 0", "seconds": ", 0 or more"}.get(key, "")
          + "."
        )
    if name == "sparse" and kwargs["frames"] > kwargs["span"]:
      raise errors.UserError(
        f"the op {show((name, kwargs))} in {text!r} cannot find "
        f"{kwargs['frames']} different frames in a window of "
        f"{kwargs['span']}: raise span or lower frames."
      )
    if name == "value_range" and kwargs["lo"] >= kwargs["hi"]:
      raise errors.UserError(
        f"the op {show((name, kwargs))} in {text!r} needs lo < hi."
      )
    ops.append((name, kwargs))
  if sum(name in SELECTIONS for name, _ in ops) > 1:
    raise errors.UserError(
      f"{text!r} chooses frames more than once: keep one of "
      f"{', '.join(SELECTIONS)}."
    )
  return ops


def show(op: Op) -> str:
  """The op as a config would write it."""
  return f"{op[0]}({', '.join(f'{k}={v}' for k, v in op[1].items())})"


def span(op: Op) -> int:
  """Frames from the first to the last that a choice of frames may take."""
  name, kwargs = op
  if name == "sparse":
    return kwargs["span"]
  return (kwargs["frames"] - 1) * kwargs["stride"] + 1


def selection(ops: list[Op]) -> Op | None:
  """The op that chooses frames, if there is one."""
  return next((op for op in ops if op[0] in SELECTIONS), None)


def min_frames(ops: list[Op]) -> int:
  """Frames that a clip of the source must have; 1 where it cannot be said.

  After `fps` the number of frames is another, which only the clip knows.
  """
  chosen = selection(ops)
  if chosen is None or "fps" in [name for name, _ in ops]:
    return 1
  return span(chosen)


def too_short(op: Op, frames: int) -> str:
  """What to say of a clip that has fewer frames than the op takes."""
  return (
    f"it has {frames} frames and {show(op)} needs {span(op)}: ask for fewer "
    "frames or a smaller stride or span, or prepare longer clips"
  )


def too_small(op: Op, height: int, width: int) -> str:
  """What to say of frames that are smaller than the crop."""
  return (
    f"its frames are {height}x{width} (height x width), smaller than "
    f"{show(op)}: put resize({max(op[1]['height'], op[1]['width'])}) before "
    "it, crop less, or prepare the data set larger"
  )


def no_selection(text: str) -> str:
  """What to say of ops for training that choose no frames."""
  return (
    f"{text!r} chooses no frames, and a batch needs clips of one length: "
    "begin with clip(16), say, or sparse(3, 16)."
  )
