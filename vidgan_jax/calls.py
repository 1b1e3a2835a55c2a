"""Calls in a config: 'clip(16, stride=2) | flip_lr'.

They are read by the standard library, and nothing of them is evaluated.
"""

import ast
from typing import Any

from vidgan_jax import errors

Call = tuple[str, tuple[Any, ...], dict[str, Any]]


def parse(text: str, what: str, example: str) -> list[Call]:
  """Parses 'clip(16, stride=2) | flip_lr' to [(name, args, kwargs), ...].

  Arguments are Python literals; nothing is evaluated. The empty text is no
  call.

  Args:
    text: calls separated by |; one without arguments is a name alone.
    what: what errors call them, as 'the ops'.
    example: one that can be read, for errors.

  Raises:
    UserError: what cannot be read, with the place.
  """
  if not text.strip():
    return []
  try:
    node = ast.parse(text.strip(), mode="eval").body
  except SyntaxError as e:
    raise errors.UserError(
      f"{what} {text!r} cannot be read at character {e.offset}: {e.msg}. They "
      f"are calls separated by |, as {example!r}."
    ) from None
  nodes = []
  while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
    nodes.append(node.right)
    node = node.left
  nodes.append(node)
  calls = []
  for node in reversed(nodes):
    name = node.func if isinstance(node, ast.Call) else node
    if not isinstance(name, ast.Name):
      raise errors.UserError(
        f"{what} {text!r} cannot be read: {ast.unparse(node)!r} is not a name "
        f"or a call, as those in {example!r}."
      )
    if not isinstance(node, ast.Call):
      calls.append((name.id, (), {}))
      continue
    try:
      args = tuple(ast.literal_eval(a) for a in node.args)
      kwargs = {k.arg: ast.literal_eval(k.value) for k in node.keywords}
    except ValueError:
      args, kwargs = (), {None: None}
    if None in kwargs:
      raise errors.UserError(
        f"{what} {text!r} cannot be read: the arguments of "
        f"{ast.unparse(node)!r} must be plain numbers or texts."
      )
    calls.append((name.id, args, kwargs))
  return calls
