"""Names of what the package offers, found by listing its files.

A room is a folder whose files are interchangeable (a model, a task, ...) or one
file whose public functions are (penalties). Nothing is entered in a table: a
new file or function is an entry. Files are read and not imported, so that
checking a config costs nothing; each is read once in a process.
"""

import ast
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import difflib
import functools
import inspect
import pathlib
import re
from typing import Any

from vidgan_jax import errors

_PACKAGE = pathlib.Path(__file__).parent

# Folders, with what makes a file of one an entry.
_FOLDERS = {
  "data": r"^def make\(",
  "tasks": r"^def make\(",
  "models": r"^VARIANTS\b",
  "losses": r"^def d_loss\(",
  "evals": r"^class Evaluator\b",
}
# Files whose public functions are the entries.
_FILES = {
  "penalties": "losses/penalties.py",
  "reconstruction": "losses/reconstruction.py",
}


@functools.cache
def names(room: str) -> tuple[str, ...]:
  """Names of the entries of a room: 'models', 'losses', 'penalties', ..."""
  if room in _FILES:
    return tuple(functions(_FILES[room]))
  marker = re.compile(_FOLDERS[room], re.MULTILINE)
  return tuple(
    sorted(
      file.stem
      for file in (_PACKAGE / room).glob("*.py")
      if file.stem != "__init__" and marker.search(file.read_text())
    )
  )


def variants(model: str) -> tuple[str, ...]:
  """Keys of VARIANTS of models/MODEL.py; () where it is not a literal."""
  return _constant(f"models/{model}.py", "VARIANTS")


def model_losses(model: str) -> tuple[str, ...]:
  """Losses that models/MODEL.py makes itself: its tuple LOSSES, if any."""
  return _constant(f"models/{model}.py", "LOSSES")


@functools.cache
def functions(file: str) -> dict[str, ast.arguments]:
  """Public functions of a file of the package: name -> arguments."""
  return {
    node.name: node.args
    for node in _parse(file)
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
  }


@functools.cache
def _constant(file: str, name: str) -> tuple[str, ...]:
  """Strings of a literal tuple, or keys of a literal dict, of a file."""
  for node in _parse(file):
    match node:
      case ast.Assign([ast.Name(id)], ast.Dict(items) | ast.Tuple(items)):
        if id == name:
          return tuple(i.value for i in items if isinstance(i, ast.Constant))
  return ()


def _parse(file: str) -> list[ast.stmt]:
  path = _PACKAGE / file
  return ast.parse(path.read_text()).body if path.is_file() else []


# --------------------------------------------------------------------- checks


def nearest(name: str, known: Iterable[str]) -> str:
  """A sentence that helps: Did you mean 'lr'? Or all the names if few."""
  known = [str(k) for k in known]
  close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
  if close:
    return f"Did you mean {close[0]!r}?"
  if not known:
    return "There is none to choose from."
  shown = ", ".join(repr(k) for k in known[:20])
  return f"Known: {shown}{', ...' if len(known) > 20 else ''}."


def check_name(name: str, known: Iterable[str], where: str) -> None:
  """Checks that `name` is a known one.

  Raises:
    UserError: names `where` and the nearest known name.
  """
  known = list(known)
  if name not in known:
    raise errors.UserError(
      f"{where} is {name!r}, which does not exist. " + nearest(name, known)
    )


def check_entry(
  room: str, name: str, where: str, more: Sequence[str] = ()
) -> None:
  """Checks that a room has an entry of this name, or that it is in `more`.

  Raises:
    UserError: names `where`, the room and the nearest entry.
  """
  known = (*names(room), *more)
  if name not in known:
    raise errors.UserError(
      f"{where}: there is no {name!r} in vidgan_jax/"
      f"{_FILES.get(room, room + '/')}. {nearest(name, known)}"
    )


def check_kwargs(
  target: Callable[..., Any],
  kwargs: Mapping[str, Any],
  where: str,
  given: Sequence[str] = (),
) -> None:
  """Checks that `target(**kwargs)` names arguments that exist.

  Args:
    target: a function or a class (dataclass or Linen module: its fields).
    kwargs: options from a config.
    where: the config field they come from, as 'config.data.options'.
    given: arguments that the caller passes itself and options must not.

  Raises:
    UserError: names the nearest argument.
  """
  parameters = inspect.signature(target).parameters
  if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
    return
  known = [
    name
    for name, p in parameters.items()
    if name not in given and p.kind is not p.VAR_POSITIONAL
  ]
  for key in kwargs:
    if key not in known:
      raise errors.UserError(
        f"{where}.{key}: {target.__module__}.{target.__qualname__} has no such "
        f"option. {nearest(key, known)}"
      )
