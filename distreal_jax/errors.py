"""What the project says when it is given something it can't use."""


class InputError(Exception):
    """Bad input from a person or a file: one line that says what was given, what was expected, and what to do.

    The command lines of `experiments/` print it without a traceback and exit with status 2, before any training starts. It
    is no `ValueError`: of those, the parser of the command lines makes boxes of several lines.

    Attributes:
      in_all: All processes of a job raise it, each for itself.
    """

    in_all = False
