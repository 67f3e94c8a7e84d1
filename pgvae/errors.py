"""The errors a user can meet, each with the exit code that the commands return for it.

A message is one line: what is wrong, what was given, what to do. Anything else that
escapes a command is a bug and shows its traceback.
"""

# What PyTorch, cuBLAS, cuDNN and oneDNN say of it, and PyTorch where a native op asked for memory.
_OUT_OF_MEMORY = (
    *("out of memory", "can't allocate memory", "bad_alloc", "ALLOC_FAILED"),
    *("Cannot allocate memory", "could not create a primitive"),
    *('"aten::empty', '"aten::new_empty', "aoti_torch_aten_new_empty"),  # of our kernels' results
)


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


class NotFiniteError(ResourceError):
    """Numbers of a run stopped being finite.

    what: what was not finite. cure: what to do.
    """

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(f"{what}: {cure}")
        self.what = what


class Preempted(PgvaeError):  # noqa: N818 - not a fault: the run was asked to stop and saved
    """A signal asked the run to stop; its state is saved and `--resume` goes on."""

    exit_code = 75


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out; CUDA's OutOfMemoryError is a RuntimeError.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes do not fit"))
    (True, False)
    """
    return isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)


def one_line(error: BaseException) -> str:
    """What went wrong, on one line and not too long; its kind where it says nothing.

    Without the path of an OSError, which a caller names already.

    >>> one_line(ValueError("no\\n such thing")), one_line(FileNotFoundError(2, "gone", "a.png"))
    ('no such thing', 'gone')
    """
    said = " ".join(str(getattr(error, "strerror", None) or error).split())
    return said[:300] or type(error).__name__
