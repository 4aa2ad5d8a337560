"""Every error of the package.

    MLXIntegrationsError                     is_retryable, hint
      ConfigurationError (ValueError)        something was set up wrongly, before any request
        MissingExtraError (ImportError)      an optional dependency is not installed
        ModelNotFoundError (LookupError)     no model goes by that name here
        EmbeddingMismatchError               a store holds vectors of another embedding model
        SidecarError                         the record beside a store cannot be read
        RegistryError                        the user's own list of models cannot be read
        UnsupportedFormatError               a model file of a kind that cannot be converted
      HubError                               the Hugging Face Hub, or a mirror of it, did not give a model
        OfflineError                         the network is switched off, and it is not on this machine
        HubUnavailableError                  no answer, or the server is busy (retryable)
        RepositoryNotFoundError              no such repository, or it is private
        GatedRepositoryError                 its terms must be accepted first, or a token is missing
        RevisionNotFoundError                no such branch, tag or commit
        ChecksumMismatchError                the bytes are not those that the Hub promised
        InsufficientDiskError                the files would not fit on the disk
        DownloadCancelledError               it was stopped; what arrived is kept
      RequestError (ValueError)              this request can never succeed as written
        InvalidRequestError                  a field has an impossible value
        UnsupportedContentError              images, audio or files for a model that reads text
        UnknownToolError                     `tool_choice` names a tool that was not offered
        UnsupportedSchemaError               a JSON Schema or regex that the grammar cannot enforce
        ContextOverflowError                 the prompt is longer than the model's window
        PrivacyError                         it must stay on this machine, and nobody here may answer it
      LocalBackendError                      the runtime in this process could not do it
        MLXUnavailableError (ImportError)    MLX cannot run on this machine as installed
        ModelLoadError                       the folder is not a model that can be run
          UnsupportedArchitectureError       mlx-lm has no code for its `model_type`
        InsufficientMemoryError              the load would exceed the memory budget
        ModelInUseError                      unload asked for while requests are running (retryable)
        QueueFullError                       too many requests are waiting (retryable)
        ConversionError                      a model could not be turned into MLX's format
        GenerationError                      the model failed in mid-generation (retryable)
        RuntimeClosedError                   the runtime was shut down
      RemoteError                            an endpoint, in a cloud or on this machine, could not do it
        RemoteAuthenticationError            the key is missing or wrong, or may not do this
          RemoteQuotaError                   the account has nothing left to spend
        RemoteRateLimitError                 too many requests in too short a time (retryable)
        RemoteConnectionError (ConnectionError)  nobody answers at its address (retryable)
        RemoteTimeoutError (TimeoutError)    it said nothing for too long (retryable)
        RemoteServerError                    it failed, or is overloaded (retryable)
        RemoteStreamError                    its answer broke off, or ended without saying why (retryable)
        RemoteModelNotFoundError (LookupError)  it has no such model, or nothing is at that path
        RemoteRequestError (ValueError)      it refuses the request as written
        RemoteContentPolicyError             its rules forbid the question or the answer
      RouterError                            every candidate that might answer has failed (retryable)
        EmbeddingSpaceError                  those that are left make other vectors, which may not be mixed (retryable)
      PartialResponseError                   it broke off after part of the answer was shown (retryable)
      MigrationError                         a vector store could not be given new vectors
        StoreError                           it is no store of that kind, or a damaged one
        StoreBusyError                       another process is migrating it (retryable)
        StoreChangedError                    it was changed while it was being migrated
        JournalError                         what an earlier run left cannot be gone on with
            JournalDamagedError              its journal cannot be read
        RowsError                            some rows have no text, or one that cannot be embedded
        VerificationError                    what was built is not what the store holds
      ClusterError                           machines that embed for a migration cannot do it
      OutputError                            the model answered, but not with what was asked for
        TruncatedOutputError                 cut by the token limit before it was complete
        InvalidOutputError                   does not satisfy the schema it was asked to satisfy

Every class has `is_retryable`, a `hint` that says what to do next, typed fields, and survives pickling.
"""

from mlx_integrations.errors.base import (
    MLXIntegrationsError,
)
from mlx_integrations.errors.configuration import (
    ConfigurationError,
    EmbeddingMismatchError,
    MissingExtraError,
    ModelNotFoundError,
    RegistryError,
    SidecarError,
    UnsupportedFormatError,
)
from mlx_integrations.errors.hub import (
    ChecksumMismatchError,
    DownloadCancelledError,
    GatedRepositoryError,
    HubError,
    HubUnavailableError,
    InsufficientDiskError,
    OfflineError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from mlx_integrations.errors.local import (
    ConversionError,
    GenerationError,
    InsufficientMemoryError,
    LocalBackendError,
    MLXUnavailableError,
    ModelInUseError,
    ModelLoadError,
    QueueFullError,
    RuntimeClosedError,
    UnsupportedArchitectureError,
)
from mlx_integrations.errors.migration import (
    ClusterError,
    JournalDamagedError,
    JournalError,
    MigrationError,
    RowsError,
    StoreBusyError,
    StoreChangedError,
    StoreError,
    VerificationError,
)
from mlx_integrations.errors.output import (
    InvalidOutputError,
    OutputError,
    TruncatedOutputError,
)
from mlx_integrations.errors.remote import (
    RemoteAuthenticationError,
    RemoteConnectionError,
    RemoteContentPolicyError,
    RemoteError,
    RemoteModelNotFoundError,
    RemoteQuotaError,
    RemoteRateLimitError,
    RemoteRequestError,
    RemoteServerError,
    RemoteStreamError,
    RemoteTimeoutError,
)
from mlx_integrations.errors.requests import (
    ContextOverflowError,
    InvalidRequestError,
    PrivacyError,
    RequestError,
    UnknownToolError,
    UnsupportedContentError,
    UnsupportedSchemaError,
)
from mlx_integrations.errors.routing import (
    EmbeddingSpaceError,
    PartialResponseError,
    RouterError,
)

__all__ = [
    "ChecksumMismatchError",
    "ClusterError",
    "ConfigurationError",
    "ContextOverflowError",
    "ConversionError",
    "DownloadCancelledError",
    "EmbeddingMismatchError",
    "EmbeddingSpaceError",
    "GatedRepositoryError",
    "GenerationError",
    "HubError",
    "HubUnavailableError",
    "InsufficientDiskError",
    "InsufficientMemoryError",
    "InvalidOutputError",
    "InvalidRequestError",
    "JournalDamagedError",
    "JournalError",
    "LocalBackendError",
    "MLXIntegrationsError",
    "MLXUnavailableError",
    "MigrationError",
    "MissingExtraError",
    "ModelInUseError",
    "ModelLoadError",
    "ModelNotFoundError",
    "OfflineError",
    "OutputError",
    "PartialResponseError",
    "PrivacyError",
    "QueueFullError",
    "RegistryError",
    "RemoteAuthenticationError",
    "RemoteConnectionError",
    "RemoteContentPolicyError",
    "RemoteError",
    "RemoteModelNotFoundError",
    "RemoteQuotaError",
    "RemoteRateLimitError",
    "RemoteRequestError",
    "RemoteServerError",
    "RemoteStreamError",
    "RemoteTimeoutError",
    "RepositoryNotFoundError",
    "RequestError",
    "RevisionNotFoundError",
    "RouterError",
    "RowsError",
    "RuntimeClosedError",
    "SidecarError",
    "StoreBusyError",
    "StoreChangedError",
    "StoreError",
    "TruncatedOutputError",
    "UnknownToolError",
    "UnsupportedArchitectureError",
    "UnsupportedContentError",
    "UnsupportedFormatError",
    "UnsupportedSchemaError",
    "VerificationError",
]
