"""This package's errors, each of them a LangChain error as well.

Code written for LangChain catches `langchain_core.exceptions.ContextOverflowError` (the summarisation middleware does)
or asks a `ModelError` whether `is_retryable` (the retry middleware does); code written for this package catches
`mlx_integrations.errors`. What leaves a model of this room satisfies both.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from langchain_core import exceptions

from mlx_integrations import errors

__all__ = [
    "ContextOverflowError",
    "EmbeddingMismatchError",
    "EmbeddingSpaceError",
    "GenerationError",
    "InsufficientMemoryError",
    "InvalidOutputError",
    "InvalidRequestError",
    "MLXUnavailableError",
    "ModelInUseError",
    "ModelLoadError",
    "ModelNotFoundError",
    "PartialResponseError",
    "PrivacyError",
    "QueueFullError",
    "RegistryError",
    "RemoteAuthenticationError",
    "RemoteConnectionError",
    "RemoteContentPolicyError",
    "RemoteModelNotFoundError",
    "RemoteQuotaError",
    "RemoteRateLimitError",
    "RemoteRequestError",
    "RemoteServerError",
    "RemoteStreamError",
    "RemoteTimeoutError",
    "RouterError",
    "RuntimeClosedError",
    "SidecarError",
    "TruncatedOutputError",
    "UnknownToolError",
    "UnsupportedArchitectureError",
    "UnsupportedContentError",
    "UnsupportedSchemaError",
    "as_langchain_error",
    "langchain_errors",
]


class ModelNotFoundError(errors.ModelNotFoundError, exceptions.ModelNotFoundError):
    """No model goes by that name on this machine."""


class EmbeddingMismatchError(errors.EmbeddingMismatchError, exceptions.LangChainException):
    """A store holds vectors that cannot be compared with those of the model it was opened with."""


class SidecarError(errors.SidecarError, exceptions.LangChainException):
    """The record that says which model made a store's vectors cannot be read."""


class RegistryError(errors.RegistryError, exceptions.LangChainException):
    """The user's own list of models, which says what a name means, cannot be read."""


class InvalidRequestError(errors.InvalidRequestError, exceptions.ModelInvalidRequestError):
    """A field of the request has an impossible value."""


class UnsupportedContentError(errors.UnsupportedContentError, exceptions.ModelInvalidRequestError):
    """Images, audio or files were sent to a model that reads text only."""


class UnknownToolError(errors.UnknownToolError, exceptions.ModelInvalidRequestError):
    """`tool_choice` names a tool that was not offered."""


class UnsupportedSchemaError(errors.UnsupportedSchemaError, exceptions.ModelInvalidRequestError):
    """A JSON Schema or regular expression that the grammar cannot enforce."""


class ContextOverflowError(errors.ContextOverflowError, exceptions.ContextOverflowError):
    """The prompt is longer than the model's context window."""


class MLXUnavailableError(errors.MLXUnavailableError, exceptions.ModelError):
    """MLX cannot run on this machine as it is installed."""


class ModelLoadError(errors.ModelLoadError, exceptions.ModelError):
    """The folder is not a model that can be run."""


class UnsupportedArchitectureError(errors.UnsupportedArchitectureError, exceptions.ModelError):
    """mlx-lm has no code for the model's `model_type`."""


class InsufficientMemoryError(errors.InsufficientMemoryError, exceptions.ModelError):
    """Loading the model would exceed the memory budget."""


class ModelInUseError(errors.ModelInUseError, exceptions.ModelError):
    """A model was to be unloaded while requests are running on it."""


class QueueFullError(errors.QueueFullError, exceptions.ModelRateLimitError):
    """Too many requests are waiting already."""


class GenerationError(errors.GenerationError, exceptions.ModelAPIError):
    """The model failed in mid-generation; `partial_text` is what had arrived."""


class RuntimeClosedError(errors.RuntimeClosedError, exceptions.ModelError):
    """The runtime was shut down."""


class PrivacyError(errors.PrivacyError, exceptions.ModelInvalidRequestError):
    """The request must stay on this machine, and nobody here may answer it."""


class RemoteAuthenticationError(errors.RemoteAuthenticationError, exceptions.ModelAuthenticationError):
    """The endpoint's key is missing or wrong, or may not do this."""


class RemoteQuotaError(errors.RemoteQuotaError, exceptions.ModelAuthenticationError):
    """The account has nothing left to spend."""


class RemoteRateLimitError(errors.RemoteRateLimitError, exceptions.ModelRateLimitError):
    """Too many requests in too short a time."""


class RemoteConnectionError(errors.RemoteConnectionError, exceptions.ModelConnectionError):
    """Nobody answers at the endpoint's address."""


class RemoteTimeoutError(errors.RemoteTimeoutError, exceptions.ModelTimeoutError):
    """The endpoint said nothing for too long."""


class RemoteServerError(errors.RemoteServerError, exceptions.ModelAPIError):
    """The endpoint failed, or is overloaded."""


class RemoteStreamError(errors.RemoteStreamError, exceptions.ModelAPIError):
    """An endpoint's answer broke off."""


class RemoteModelNotFoundError(errors.RemoteModelNotFoundError, exceptions.ModelNotFoundError):
    """The endpoint has no such model."""


class RemoteRequestError(errors.RemoteRequestError, exceptions.ModelInvalidRequestError):
    """The endpoint refuses the request as written."""


class RemoteContentPolicyError(errors.RemoteContentPolicyError, exceptions.ModelInvalidRequestError):
    """The endpoint's rules forbid the question or the answer."""


class RouterError(errors.RouterError, exceptions.ModelAPIError):
    """Every candidate that might answer has failed."""


class EmbeddingSpaceError(errors.EmbeddingSpaceError, exceptions.ModelAPIError):
    """Nobody is left whose vectors can be compared with those there are."""


class PartialResponseError(errors.PartialResponseError, exceptions.ModelAPIError):
    """A candidate failed after part of its answer was shown; `partial_text` is that part."""


class _OutputParserError(exceptions.OutputParserException):
    """What a LangChain parser's error has to offer, without its constructor, which a copy does not run."""

    partial_text: str
    observation = None
    send_to_llm = False

    @property
    def llm_output(self) -> str:
        """What had been generated: LangChain's name for `partial_text`."""
        return self.partial_text

    @llm_output.setter
    def llm_output(self, value: str | None) -> None:
        """LangChain's constructor assigns it; `partial_text` is the one source."""


class TruncatedOutputError(errors.TruncatedOutputError, _OutputParserError):
    """The answer was cut by the token limit before it was complete."""


class InvalidOutputError(errors.InvalidOutputError, _OutputParserError):
    """The answer does not satisfy the schema it was asked to satisfy."""


_TWINS: dict[type[errors.MLXIntegrationsError], type[errors.MLXIntegrationsError]] = {
    twin.__bases__[0]: twin
    for twin in (
        ModelNotFoundError,
        EmbeddingMismatchError,
        SidecarError,
        RegistryError,
        InvalidRequestError,
        UnsupportedContentError,
        UnknownToolError,
        UnsupportedSchemaError,
        ContextOverflowError,
        MLXUnavailableError,
        ModelLoadError,
        UnsupportedArchitectureError,
        InsufficientMemoryError,
        ModelInUseError,
        QueueFullError,
        GenerationError,
        RuntimeClosedError,
        PrivacyError,
        RemoteAuthenticationError,
        RemoteQuotaError,
        RemoteRateLimitError,
        RemoteConnectionError,
        RemoteTimeoutError,
        RemoteServerError,
        RemoteStreamError,
        RemoteModelNotFoundError,
        RemoteRequestError,
        RemoteContentPolicyError,
        RouterError,
        EmbeddingSpaceError,
        PartialResponseError,
        TruncatedOutputError,
        InvalidOutputError,
    )
}


def as_langchain_error(error: errors.MLXIntegrationsError) -> errors.MLXIntegrationsError:
    """The same error as a LangChain error too: same text, same fields. Unchanged if there is no such twin."""
    twin = _TWINS.get(type(error))
    if twin is None:
        return error
    # Through the pickling protocol, because constructors differ and every field is in the state.
    rebuild, (_, message, state) = error.__reduce__()
    copy: Any = rebuild(twin, message, state)
    assert isinstance(copy, errors.MLXIntegrationsError)
    return copy


@contextmanager
def langchain_errors() -> Generator[None, None, None]:
    """Turn this package's errors into their LangChain twins as they leave the room."""
    try:
        yield
    except errors.MLXIntegrationsError as error:
        translated = as_langchain_error(error)
        if translated is error:
            raise
        raise translated from error
