"""The one kind of error that a user can mend."""

import os


class UserError(ValueError):
  """Something that a user can mend: it says what, where and how to mend it.

  The command shows its text as one paragraph. Any other exception but an
  OSError is a fault of the program and keeps its traceback.
  """


def shown_whole(error: BaseException) -> bool:
  """Whether a traceback is to be shown, not the text of `error` alone.

  It is for faults of the program, and with VIDGAN_TRACEBACK=1 for all errors.
  """
  mendable = isinstance(error, UserError | OSError)
  return not mendable or bool(os.environ.get("VIDGAN_TRACEBACK"))
