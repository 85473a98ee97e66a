"""The one exception that means "the input is wrong", as opposed to "the program is wrong"."""


class InputError(ValueError):
  """A mistake that a user can mend: a file, a value or a combination of settings.

  The message is one line: the value seen, what was expected, and where it came from. Launchers print
  it and exit with 2; any other exception is a bug and keeps its traceback.
  """
