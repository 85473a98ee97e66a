"""The exceptions that mean "the input is wrong", as opposed to "the program is wrong"."""


class InputError(ValueError):
  """A mistake that a user can mend: a file, a value or a combination of settings.

  The message is one line: the value seen, what was expected, and where it came from. Launchers print
  it and exit with 2; any other exception is a bug and keeps its traceback.
  """


class Diverged(InputError):  # noqa: N818  (a trial of a sweep may, the sweep goes on)
  """Training became NaN or Inf; other settings may do."""
