"""The one exception that means: the user's input is wrong."""


class InputError(Exception):
    """What is wrong, where, and what to do, in one line.

    The command line prints it without a traceback and exits with status 2; anything else that is
    raised is our fault, prints its traceback and exits with status 1.
    """
