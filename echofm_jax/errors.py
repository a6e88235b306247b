"""The exceptions that are not our fault, each with its exit status.

The command line prints them in one line without a traceback; anything else that is raised is our
fault, prints its traceback and exits with status 1.
"""


class InputError(Exception):
    """The user's input is wrong: what is wrong, where, and what to do, in one line."""

    status = 2


class TryAgain(Exception):
    """Nothing is wrong that the same command, started again, would not find right."""

    status = 75  # EX_TEMPFAIL of sysexits.h: launchers restart on it
