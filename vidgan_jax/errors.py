"""The one kind of error that a user can mend."""


class UserError(Exception):
  """Something that a user can mend: it says what, where and how to mend it.

  A verb shows its text as one paragraph. Any other exception is a fault of the
  program and keeps its traceback.
  """
