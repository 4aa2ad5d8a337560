"""Backends that need no model: for this project's tests and for yours. Deterministic, and without MLX."""

from mlx_integrations.testing.chat import FakeAnswer, FakeChatBackend, Script
from mlx_integrations.testing.embeddings import FakeEmbeddingBackend, FakeEmbeddingRequest

__all__ = ["FakeAnswer", "FakeChatBackend", "FakeEmbeddingBackend", "FakeEmbeddingRequest", "Script"]
