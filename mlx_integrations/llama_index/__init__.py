"""LlamaIndex models that run in this process on MLX.

Names are loaded on first use (PEP 562): importing the package does not import LlamaIndex.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mlx_integrations.errors import MissingExtraError

if TYPE_CHECKING:
    from mlx_integrations.llama_index.context import chat_memory_buffer, context_budget, memory
    from mlx_integrations.llama_index.embeddings import MLXEmbedding
    from mlx_integrations.llama_index.index_guard import guarded, verify_index
    from mlx_integrations.llama_index.llm import MLXLLM
    from mlx_integrations.llama_index.routed_embeddings import RoutedEmbedding
    from mlx_integrations.llama_index.router_llm import ModelFacts, RouterLLM

__all__ = [
    "MLXLLM",
    "MLXEmbedding",
    "ModelFacts",
    "RoutedEmbedding",
    "RouterLLM",
    "chat_memory_buffer",
    "context_budget",
    "guarded",
    "memory",
    "verify_index",
]

_HOMES = {
    "MLXEmbedding": "mlx_integrations.llama_index.embeddings",
    "MLXLLM": "mlx_integrations.llama_index.llm",
    "ModelFacts": "mlx_integrations.llama_index.router_llm",
    "RoutedEmbedding": "mlx_integrations.llama_index.routed_embeddings",
    "RouterLLM": "mlx_integrations.llama_index.router_llm",
    "chat_memory_buffer": "mlx_integrations.llama_index.context",
    "context_budget": "mlx_integrations.llama_index.context",
    "guarded": "mlx_integrations.llama_index.index_guard",
    "memory": "mlx_integrations.llama_index.context",
    "verify_index": "mlx_integrations.llama_index.index_guard",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    try:
        value = getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("llama_index", "llama_index_instrumentation", "workflows"):
            raise
        raise MissingExtraError(f"`{name}` needs `{error.name}`.", extra="llama-index") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
