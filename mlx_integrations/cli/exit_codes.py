"""What the command's exit code says, and which error ends it with which."""

from enum import IntEnum
from typing import Final

from mlx_integrations import errors

__all__ = ["MEANINGS", "ExitCode", "exit_code"]


class ExitCode(IntEnum):
    """How a run ended, for scripts."""

    DONE = 0
    FAILED = 1
    WRONG_USAGE = 2
    NOT_FOUND = 3
    DOES_NOT_FIT = 4
    OFFLINE = 5
    CHECKSUM = 6
    INTERRUPTED = 130


MEANINGS: Final = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "it failed; one line on stderr says why, the next what to do",
    ExitCode.WRONG_USAGE: "wrong usage: an option or value that does not exist",
    ExitCode.NOT_FOUND: "there is no model, repository or revision of that name",
    ExitCode.DOES_NOT_FIT: "too large for this machine's memory or disk",
    ExitCode.OFFLINE: "the network is needed, and is off or does not answer",
    ExitCode.CHECKSUM: "a file's bytes are not what they should be",
    ExitCode.INTERRUPTED: "interrupted with Ctrl-C",
}

# The first class that an error belongs to decides.
_CODES: Final[tuple[tuple[type[BaseException], ExitCode], ...]] = (
    (errors.ModelNotFoundError, ExitCode.NOT_FOUND),
    (errors.RepositoryNotFoundError, ExitCode.NOT_FOUND),
    (errors.RevisionNotFoundError, ExitCode.NOT_FOUND),
    (errors.InsufficientMemoryError, ExitCode.DOES_NOT_FIT),
    (errors.InsufficientDiskError, ExitCode.DOES_NOT_FIT),
    (errors.RemoteModelNotFoundError, ExitCode.NOT_FOUND),
    (errors.OfflineError, ExitCode.OFFLINE),
    (errors.RemoteConnectionError, ExitCode.OFFLINE),
    (errors.RemoteTimeoutError, ExitCode.OFFLINE),
    (errors.HubUnavailableError, ExitCode.OFFLINE),
    (errors.ChecksumMismatchError, ExitCode.CHECKSUM),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
)


def exit_code(error: BaseException) -> ExitCode:
    """The code that an error ends the command with."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)
