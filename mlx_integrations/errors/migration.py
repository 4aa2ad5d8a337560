"""A vector store could not be given new vectors."""

from collections.abc import Sequence

from mlx_integrations.errors.base import MLXIntegrationsError

__all__ = [
    "ClusterError",
    "JournalDamagedError",
    "JournalError",
    "MigrationError",
    "RowsError",
    "StoreBusyError",
    "StoreChangedError",
    "StoreError",
    "VerificationError",
]


class MigrationError(MLXIntegrationsError):
    """A vector store could not be given new vectors. The store is as it was, unless the message says otherwise."""

    def __init__(self, message: str, *, store: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.store = store


class StoreError(MigrationError):
    """It is not a store of that kind, or it is damaged, or it was cut off while it was written."""


class StoreBusyError(MigrationError):
    """Another process is migrating this store."""

    is_retryable = True
    default_hint = "Wait until it has finished; `mlxi migrate status` says how far it is."


class StoreChangedError(MigrationError):
    """The store was changed while it was being migrated, and what changed was not taken in."""

    default_hint = "Run the migration again: it takes in what has changed, and nothing else is embedded a second time."


class JournalError(MigrationError):
    """What an earlier run left behind is damaged, or belongs to another model."""


class JournalDamagedError(JournalError):
    """The journal of an earlier run cannot be read."""

    default_hint = (
        "If the new vectors are in use already, decide on the old ones with `mlxi migrate rollback` or `mlxi migrate "
        "gc`. Otherwise start afresh with `--restart`. No document is lost."
    )


class RowsError(MigrationError):
    """Rows cannot be embedded: they have no text, or one that the policy for long texts refuses."""

    def __init__(
        self, message: str, *, store: str, count: int, ids: Sequence[str] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, store=store, hint=hint)
        self.count = count
        self.ids = tuple(ids)


class VerificationError(MigrationError):
    """What was built is not what the store holds; `failures` lists what differs. Nothing was published."""

    def __init__(self, message: str, *, store: str, failures: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, store=store, hint=hint)
        self.failures = tuple(failures)


class ClusterError(MLXIntegrationsError):
    """A cluster cannot be reached, has no room, or cannot embed. What it has embedded is kept."""

    default_hint = "Run it again: what is embedded is kept."
