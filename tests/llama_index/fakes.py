"""Models that answer from a script, and tools for them."""

from typing import Any

from llama_index.core.tools import FunctionTool

from mlx_integrations.llama_index import MLXLLM, MLXEmbedding
from mlx_integrations.testing import FakeChatBackend, FakeEmbeddingBackend, Script


def fake_llm(*responses: Script, **options: Any) -> tuple[MLXLLM, FakeChatBackend]:
    """A model and the backend behind it."""
    backend = FakeChatBackend(responses or ("Hello there.",))
    return MLXLLM(model="fake", backend=backend, **options), backend


def fake_embedding(name: str = "minilm", *, seed: int = 0, dimensions: int = 64, **options: Any) -> MLXEmbedding:
    backend = FakeEmbeddingBackend(
        model_id=name, seed=seed, dimensions=dimensions, query_prompt="query: ", document_prompt="passage: "
    )
    return MLXEmbedding(model_name=name, backend=backend, **options)


def backend_of(embedding: MLXEmbedding) -> FakeEmbeddingBackend:
    assert isinstance(embedding.backend, FakeEmbeddingBackend)
    return embedding.backend


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


ADD_TOOL = FunctionTool.from_defaults(fn=add)
MULTIPLY_TOOL = FunctionTool.from_defaults(fn=multiply)
