"""Every error of the package.

    MLXIntegrationsError                     is_retryable, hint
      ConfigurationError (ValueError)        something was set up wrongly, before any request
        MissingExtraError (ImportError)      an optional dependency is not installed
        ModelNotFoundError (LookupError)     no model goes by that name here
        EmbeddingMismatchError               a store holds vectors of another embedding model
        SidecarError                         the record beside a store cannot be read
      RequestError (ValueError)              this request can never succeed as written
        InvalidRequestError                  a field has an impossible value
        UnsupportedContentError              images, audio or files for a model that reads text
        UnknownToolError                     `tool_choice` names a tool that was not offered
        UnsupportedSchemaError               a JSON Schema or regex that the grammar cannot enforce
        ContextOverflowError                 the prompt is longer than the model's window
      LocalBackendError                      the runtime in this process could not do it
        MLXUnavailableError (ImportError)    MLX cannot run on this machine as installed
        ModelLoadError                       the folder is not a model that can be run
          UnsupportedArchitectureError       mlx-lm has no code for its `model_type`
        InsufficientMemoryError              the load would exceed the memory budget
        ModelInUseError                      unload asked for while requests are running (retryable)
        QueueFullError                       too many requests are waiting (retryable)
        GenerationError                      the model failed in mid-generation (retryable)
        RuntimeClosedError                   the runtime was shut down
      OutputError                            the model answered, but not with what was asked for
        TruncatedOutputError                 cut by the token limit before it was complete
        InvalidOutputError                   does not satisfy the schema it was asked to satisfy

Every class has `is_retryable`, a `hint` that says what to do next, typed fields, and survives pickling.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

__all__ = [
    "ConfigurationError",
    "ContextOverflowError",
    "EmbeddingMismatchError",
    "GenerationError",
    "InsufficientMemoryError",
    "InvalidOutputError",
    "InvalidRequestError",
    "LocalBackendError",
    "MLXIntegrationsError",
    "MLXUnavailableError",
    "MissingExtraError",
    "ModelInUseError",
    "ModelLoadError",
    "ModelNotFoundError",
    "OutputError",
    "QueueFullError",
    "RequestError",
    "RuntimeClosedError",
    "SidecarError",
    "TruncatedOutputError",
    "UnknownToolError",
    "UnsupportedArchitectureError",
    "UnsupportedContentError",
    "UnsupportedSchemaError",
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


class GenerationError(LocalBackendError):
    """The model failed in mid-generation; `partial_text` is what had arrived."""

    is_retryable = True

    def __init__(self, message: str, *, partial_text: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.partial_text = partial_text


class RuntimeClosedError(LocalBackendError):
    """The runtime was shut down."""

    default_hint = "Make a new `Runtime`, or call `get_runtime()` again."


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
