"""The Hugging Face Hub, or a mirror of it, did not give a model."""

from mlx_integrations.errors.base import MLXIntegrationsError

__all__ = [
    "ChecksumMismatchError",
    "DownloadCancelledError",
    "GatedRepositoryError",
    "HubError",
    "HubUnavailableError",
    "InsufficientDiskError",
    "OfflineError",
    "RepositoryNotFoundError",
    "RevisionNotFoundError",
]


class HubError(MLXIntegrationsError):
    """The Hugging Face Hub, or a mirror of it, did not give a model; `repo_id` is the repository that was asked for."""

    def __init__(self, message: str, *, repo_id: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.repo_id = repo_id


class OfflineError(HubError):
    """The network is switched off, and what was asked for is not on this machine."""

    default_hint = "Leave out `--offline`, or unset MLXI_OFFLINE and HF_HUB_OFFLINE, and download it once."


class HubUnavailableError(HubError):
    """The Hub could not be reached, broke off, or was too busy; what arrived is kept for the next try."""

    is_retryable = True
    default_hint = "Run the same command again: it goes on where it stopped."


class RepositoryNotFoundError(HubError):
    """There is no such repository, or it is private and the token does not open it."""


class GatedRepositoryError(HubError):
    """The repository's terms must be accepted on the Hub first, or a token is missing."""


class RevisionNotFoundError(HubError):
    """The repository has no such branch, tag or commit."""

    def __init__(self, message: str, *, repo_id: str = "", revision: str = "", hint: str | None = None) -> None:
        super().__init__(message, repo_id=repo_id, hint=hint)
        self.revision = revision


class ChecksumMismatchError(HubError):
    """The bytes of a file are not those that the Hub promised; they were not kept."""

    def __init__(
        self, message: str, *, repo_id: str = "", file: str, expected: str, actual: str, hint: str | None = None
    ) -> None:
        super().__init__(message, repo_id=repo_id, hint=hint)
        self.file = file
        self.expected = expected
        self.actual = actual


class InsufficientDiskError(HubError):
    """The files would not fit on the disk; nothing was downloaded, or what arrived is kept for the next try."""

    def __init__(
        self, message: str, *, repo_id: str = "", needed_bytes: int, free_bytes: int, hint: str | None = None
    ) -> None:
        super().__init__(message, repo_id=repo_id, hint=hint)
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class DownloadCancelledError(HubError):
    """A download was stopped on request; what arrived is kept for the next one."""

    default_hint = "Start it again: it goes on where it stopped."
