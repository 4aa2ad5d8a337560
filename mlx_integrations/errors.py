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
        RowsError                            some rows have no text, or one that cannot be embedded
        VerificationError                    what was built is not what the store holds
      OutputError                            the model answered, but not with what was asked for
        TruncatedOutputError                 cut by the token limit before it was complete
        InvalidOutputError                   does not satisfy the schema it was asked to satisfy

Every class has `is_retryable`, a `hint` that says what to do next, typed fields, and survives pickling.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

__all__ = [
    "ChecksumMismatchError",
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


def _rebuild(cls: "type[MLXIntegrationsError]", message: str, state: dict[str, Any]) -> "MLXIntegrationsError":
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class MLXIntegrationsError(Exception):
    """Base of every error of this package.

    Args:
        message: What happened, values in backticks.
        hint: What to do about it; the class's own hint when not given.
    """

    is_retryable: ClassVar[bool] = False
    """Whether the same call may succeed later, unchanged."""
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, dict(self.__dict__))


class ConfigurationError(MLXIntegrationsError, ValueError):
    """Something was set up wrongly, before any request was made."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is not installed; the hint is the exact install line."""

    def __init__(self, message: str, *, extra: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or f'Install it with: pip install "mlx-integrations[{extra}]"')
        self.extra = extra


class ModelNotFoundError(ConfigurationError, LookupError):
    """No model goes by that name on this machine."""

    default_hint = "Give `demo`, a Hub repository id that is already in the local cache, or a folder."

    def __init__(self, message: str, *, model: str, suggestions: Sequence[str] = (), hint: str | None = None) -> None:
        if hint is None and suggestions:
            hint = "Did you mean " + " or ".join(f"`{name}`" for name in suggestions) + "?"
        super().__init__(message, hint=hint)
        self.model = model
        self.suggestions = tuple(suggestions)


class EmbeddingMismatchError(ConfigurationError):
    """A store holds vectors that cannot be compared with those of the model it was opened with.

    `stored` and `current` are the two fingerprints, as plain values; `fields` names what differs.
    """

    def __init__(
        self,
        message: str,
        *,
        store: str,
        stored: Mapping[str, Any],
        current: Mapping[str, Any],
        fields: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.store = store
        self.stored = dict(stored)
        self.current = dict(current)
        self.fields = tuple(fields)


class SidecarError(ConfigurationError):
    """The record that says which model made a store's vectors cannot be read; `path` is where it is."""

    def __init__(self, message: str, *, path: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class RegistryError(ConfigurationError):
    """The user's own list of models cannot be read, or an entry of it is not valid; `path` is where it is."""

    def __init__(self, message: str, *, path: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class UnsupportedFormatError(ConfigurationError):
    """A model file of a kind that cannot be run or converted here; the hint names what to take instead."""

    def __init__(self, message: str, *, path: str, format_name: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.format_name = format_name


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


class RequestError(MLXIntegrationsError, ValueError):
    """This request can never succeed as written; nothing was generated."""


class InvalidRequestError(RequestError):
    """A field of the request has an impossible value."""

    def __init__(self, message: str, *, field: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field


class UnsupportedContentError(RequestError):
    """Images, audio or files were sent to a model that reads text only."""

    default_hint = "Send text, or choose a model whose capabilities include this kind of input."

    def __init__(self, message: str, *, kind: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind


class UnknownToolError(RequestError):
    """`tool_choice` names a tool that was not offered."""

    def __init__(self, message: str, *, tool_name: str, offered: Sequence[str] = (), hint: str | None = None) -> None:
        if hint is None:
            hint = (
                "The tools offered are " + ", ".join(f"`{name}`" for name in offered) + "."
                if offered
                else "Pass the tools together with `tool_choice`."
            )
        super().__init__(message, hint=hint)
        self.tool_name = tool_name
        self.offered = tuple(offered)


class UnsupportedSchemaError(RequestError):
    """A JSON Schema or regular expression that the grammar cannot enforce."""

    default_hint = "Remove the keyword, or check it yourself after generation."

    def __init__(self, message: str, *, keywords: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.keywords = tuple(keywords)


class ContextOverflowError(RequestError):
    """The prompt is longer than the model's context window."""

    default_hint = "Shorten the messages (summarise or trim the history), or use a model with a larger window."

    def __init__(self, message: str, *, prompt_tokens: int, limit_tokens: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.prompt_tokens = prompt_tokens
        self.limit_tokens = limit_tokens


class PrivacyError(RequestError):
    """The request must stay on this machine, and nobody here may answer it; nothing was sent anywhere.

    `because` says what makes it private: kinds of what was found and where, never a word of it. `candidates` are those
    that were left out for it.
    """

    default_hint = (
        "Add a candidate on this machine that can do it, or, if it may leave this machine, say so in the request."
    )

    def __init__(
        self, message: str, *, because: Sequence[str] = (), candidates: Sequence[str] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.because = tuple(because)
        self.candidates = tuple(candidates)


class LocalBackendError(MLXIntegrationsError):
    """The runtime in this process could not do it."""


class MLXUnavailableError(LocalBackendError, ImportError):
    """MLX cannot run on this machine as it is installed."""

    default_hint = (
        'Install MLX: on Apple Silicon `pip install mlx-integrations`; on Linux `pip install "mlx-integrations[cpu]"` '
        'or, with an NVIDIA GPU, `pip install "mlx-integrations[cuda13]"`.'
    )


class ModelLoadError(LocalBackendError):
    """The folder is not a model that can be run."""

    def __init__(self, message: str, *, model_path: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.model_path = model_path


class UnsupportedArchitectureError(ModelLoadError):
    """mlx-lm has no code for the model's `model_type`."""

    default_hint = "Choose a model of a supported architecture, or update mlx-lm."

    def __init__(self, message: str, *, model_path: str, model_type: str, hint: str | None = None) -> None:
        super().__init__(message, model_path=model_path, hint=hint)
        self.model_type = model_type


class InsufficientMemoryError(LocalBackendError):
    """Loading the model would exceed the memory budget."""

    def __init__(
        self, message: str, *, needed_bytes: int, available_bytes: int, budget_bytes: int, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes
        self.budget_bytes = budget_bytes


class ModelInUseError(LocalBackendError):
    """A model was to be unloaded while requests are running on it."""

    is_retryable = True
    default_hint = "Wait for the requests to finish, or cancel them first."


class QueueFullError(LocalBackendError):
    """Too many requests are waiting already."""

    is_retryable = True
    default_hint = "Try again in a moment, or raise `runtime.max_queued_requests`."


class ConversionError(LocalBackendError):
    """A model could not be turned into MLX's format; nothing was left behind. `path` is what was to be converted."""

    def __init__(self, message: str, *, path: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class GenerationError(LocalBackendError):
    """The model failed in mid-generation; `partial_text` is what had arrived."""

    is_retryable = True

    def __init__(self, message: str, *, partial_text: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.partial_text = partial_text


class RuntimeClosedError(LocalBackendError):
    """The runtime was shut down."""

    default_hint = "Make a new `Runtime`, or call `get_runtime()` again."


class RemoteError(MLXIntegrationsError):
    """An endpoint, in a cloud or on this machine, could not do it. Neither message nor fields ever hold a key.

    `endpoint` is its name or address, `status` what it answered with; `None` if there was no HTTP answer.
    """

    def __init__(self, message: str, *, endpoint: str, status: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.endpoint = endpoint
        self.status = status


class RemoteAuthenticationError(RemoteError):
    """The endpoint wants a key, does not know the one it got, or that one may not do this."""

    default_hint = "Check the key, and that it may use this model."


class RemoteQuotaError(RemoteAuthenticationError):
    """The account behind the key has nothing left to spend."""

    default_hint = "Add credit to the account, or raise its limit."


class RemoteRateLimitError(RemoteError):
    """Too many requests or tokens in a short time; `retry_after_seconds` is how long it asks to wait, if it says."""

    is_retryable = True
    default_hint = "Wait a moment, or send fewer requests at the same time."

    def __init__(
        self,
        message: str,
        *,
        endpoint: str,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, endpoint=endpoint, status=status, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class RemoteConnectionError(RemoteError, ConnectionError):
    """Nobody answers at the endpoint's address: refused, unknown, reset before an answer began."""

    is_retryable = True
    default_hint = "Check the address, that the server runs, and the network."


class RemoteTimeoutError(RemoteError, TimeoutError):
    """The endpoint said nothing for too long."""

    is_retryable = True
    default_hint = "Try again, or raise the timeout."


class RemoteServerError(RemoteError):
    """The endpoint failed or is overloaded; `retry_after_seconds` is how long it asks to wait, if it says."""

    is_retryable = True
    default_hint = "Try again in a moment."

    def __init__(
        self,
        message: str,
        *,
        endpoint: str,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, endpoint=endpoint, status=status, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class RemoteStreamError(RemoteError):
    """An answer broke off, was not understood, or ended without saying why; `partial_text` is what had arrived."""

    is_retryable = True
    default_hint = "Try again."

    def __init__(
        self, message: str, *, endpoint: str, status: int | None = None, partial_text: str = "", hint: str | None = None
    ) -> None:
        super().__init__(message, endpoint=endpoint, status=status, hint=hint)
        self.partial_text = partial_text


class RemoteModelNotFoundError(RemoteError, LookupError):
    """The endpoint has no such model, or nothing that chats or embeds is at its address."""

    default_hint = "Check the model's name and the address: it usually ends with `/v1`."


class RemoteRequestError(RemoteError, ValueError):
    """The endpoint refuses the request as it is written."""

    default_hint = "Leave out the option that it does not know, or choose another model."


class RemoteContentPolicyError(RemoteError):
    """The endpoint's rules forbid the question, or the answer that its model began."""

    default_hint = "Ask in another way, or ask a model of your own."


class RouterError(MLXIntegrationsError):
    """Every candidate that might answer has failed; its cause is the error of the first one.

    `attempts` are pairs of a candidate's name and what went wrong with it, in the order in which they were asked.
    """

    is_retryable = True
    default_hint = "`attempts` says what went wrong with each candidate; the first one's error is the cause."

    def __init__(self, message: str, *, attempts: Sequence[tuple[str, str]] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.attempts = tuple(attempts)


class EmbeddingSpaceError(RouterError):
    """Nobody is left whose vectors can be compared with those there are; nothing was embedded by anybody else.

    `wanted` says whose vectors they are, `offered` who else there is: for each a name, a model and its dimensions, as
    far as they are known. `fields` names what keeps the first one offered out.
    """

    is_retryable = True
    default_hint = (
        "Let the first model work again, or add a fallback that runs the same model. A model of another kind may only "
        "fill a store that is new: `for_new_store=True`."
    )

    def __init__(
        self,
        message: str,
        *,
        wanted: Mapping[str, Any],
        offered: Sequence[Mapping[str, Any]] = (),
        fields: Sequence[str] = (),
        attempts: Sequence[tuple[str, str]] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, attempts=attempts, hint=hint)
        self.wanted = dict(wanted)
        self.offered = tuple(dict(item) for item in offered)
        self.fields = tuple(fields)


class PartialResponseError(MLXIntegrationsError):
    """A candidate failed after part of its answer was shown, so that nobody else could be asked unnoticed.

    `partial_text` is what was shown, `candidate` who wrote it; the cause is the candidate's error.
    """

    is_retryable = True
    default_hint = 'Ask again, or use `guarantee="complete"`, which shows an answer when all of it is there.'

    def __init__(self, message: str, *, partial_text: str = "", candidate: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.partial_text = partial_text
        self.candidate = candidate


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


class OutputError(MLXIntegrationsError):
    """The model answered, but not with what was asked for."""

    def __init__(self, message: str, *, partial_text: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.partial_text = partial_text


class TruncatedOutputError(OutputError):
    """The answer was cut by the token limit before it was complete."""

    default_hint = "Raise `max_tokens`, or ask for less."


class InvalidOutputError(OutputError):
    """The answer does not satisfy the schema it was asked to satisfy."""
