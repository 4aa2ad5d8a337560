"""The runtime in this process could not do it."""

from mlx_integrations.errors.base import MLXIntegrationsError

__all__ = [
    "ConversionError",
    "GenerationError",
    "InsufficientMemoryError",
    "LocalBackendError",
    "MLXUnavailableError",
    "ModelInUseError",
    "ModelLoadError",
    "QueueFullError",
    "RuntimeClosedError",
    "UnsupportedArchitectureError",
]


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
