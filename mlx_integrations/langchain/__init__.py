"""LangChain models that run in this process on MLX.

Names are loaded on first use (PEP 562): importing the package does not import LangChain.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mlx_integrations.errors import MissingExtraError

if TYPE_CHECKING:
    from mlx_integrations.langchain.chat_models import ChatMLX
    from mlx_integrations.langchain.chat_router import ChatRouter, ModelFacts
    from mlx_integrations.langchain.context import context_budget
    from mlx_integrations.langchain.embeddings import MLXEmbeddings
    from mlx_integrations.langchain.registration import register_with_langchain
    from mlx_integrations.langchain.routed_embeddings import RoutedEmbeddings
    from mlx_integrations.langchain.store_guard import guarded, verify_store
    from mlx_integrations.langchain.summarization import summarization_middleware

__all__ = [
    "ChatMLX",
    "ChatRouter",
    "MLXEmbeddings",
    "ModelFacts",
    "RoutedEmbeddings",
    "context_budget",
    "guarded",
    "register_with_langchain",
    "summarization_middleware",
    "verify_store",
]

_HOMES = {
    "ChatMLX": "mlx_integrations.langchain.chat_models",
    "ChatRouter": "mlx_integrations.langchain.chat_router",
    "MLXEmbeddings": "mlx_integrations.langchain.embeddings",
    "ModelFacts": "mlx_integrations.langchain.chat_router",
    "RoutedEmbeddings": "mlx_integrations.langchain.routed_embeddings",
    "context_budget": "mlx_integrations.langchain.context",
    "guarded": "mlx_integrations.langchain.store_guard",
    "register_with_langchain": "mlx_integrations.langchain.registration",
    "summarization_middleware": "mlx_integrations.langchain.summarization",
    "verify_store": "mlx_integrations.langchain.store_guard",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    try:
        value = getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("langchain", "langchain_core", "langgraph"):
            raise
        raise MissingExtraError(f"`{name}` needs `{error.name}`.", extra="langchain") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
