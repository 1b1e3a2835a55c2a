"""What is there already is replaced by --overwrite, or who says yes."""

from collections.abc import Iterable
import os
import sys

from vidgan_jax import errors


def check(paths: Iterable[str | os.PathLike[str]], overwrite: bool) -> None:
  """Asks on a terminal whether files may be replaced.

  Args:
    paths: of all results.
    overwrite: they may, without a question.

  Raises:
    UserError: one is there, and may not be replaced.
  """
  there = [str(path) for path in paths if os.path.exists(path)]
  if there and not (overwrite or replace(there)):
    raise errors.UserError(
      f"{there[0]}: is there already; give another name, or --overwrite"
    )


def replace(there: list[str]) -> bool:
  """Whether someone is at the terminal, and says that these be replaced."""
  if not there or not (sys.stdin.isatty() and sys.stderr.isatty()):
    return False
  more = f" and {len(there) - 1} more" * (len(there) > 1)
  question = f"{there[0]}{more}: is there already. Replace it? [y/N] "
  print(question, end="", file=sys.stderr, flush=True)
  return sys.stdin.readline().strip().lower() in ("y", "yes")
