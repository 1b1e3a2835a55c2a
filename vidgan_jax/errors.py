"""The one kind of error that a user can fix."""

import os


class UserError(ValueError):
  """Something that a user can fix: it says what, where and how to fix it.

  The command shows its text as one paragraph. Any other exception but an
  OSError is a fault of the program and keeps its traceback.
  """


def shown_whole(error: BaseException) -> bool:
  """Whether a traceback is to be shown, not the text of `error` alone.

  It is for faults of the program, and with VIDGAN_TRACEBACK=1 for all errors.
  """
  fixable = isinstance(error, UserError | OSError)
  return not fixable or bool(os.environ.get("VIDGAN_TRACEBACK"))


def brief(error: BaseException, most: int = 200) -> str:
  """An error of other people's code in one line, for a sentence of ours."""
  text = " ".join(str(error).split())
  return text[:most].rstrip(".") or type(error).__name__


def text(error: BaseException) -> str:
  """What a user reads of an error: of the system's, the file and what is up."""
  if isinstance(error, OSError) and error.filename and error.strerror:
    return f"{error.filename}: {error.strerror}"
  # Names in a file, which a text may quote, can have breaks of lines.
  return " ".join(str(error).splitlines()) or type(error).__name__
