"""The errors a user can meet, each with the exit code that the commands return for it.

A message is one line: what is wrong, what was given, what to do. Anything else that
escapes a command is a bug and shows its traceback.
"""


class PgvaeError(Exception):
    """Base of all expected errors; `exit_code` is what the process returns."""

    exit_code = 1


class InputError(PgvaeError):
    """The user's input cannot be used (an option, a file, a label, a directory)."""

    exit_code = 2


class CorruptFileError(PgvaeError):
    """A file that this project wrote is damaged, truncated or not what it claims to be."""

    exit_code = 3


class ResourceError(PgvaeError):
    """The machine ran out of something: disk, memory, or numbers that stay finite."""

    exit_code = 4


class Preempted(PgvaeError):  # noqa: N818 - not a fault: the run was asked to stop and saved
    """A signal asked the run to stop; its state is saved and `--resume` goes on."""

    exit_code = 75
