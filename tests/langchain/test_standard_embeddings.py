"""LangChain's own tests for embedding models: over the one made of hashes, and over real models that are here."""

from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.stores import InMemoryByteStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from mlx_integrations import assembly
from mlx_integrations.langchain import MLXEmbeddings
from mlx_integrations.testing import FakeEmbeddingBackend


class TestMLXEmbeddingsUnit(EmbeddingsUnitTests):
    @pytest.fixture(autouse=True)
    def _settings_not_read_yet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(assembly, "_settings", None)

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return MLXEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "fake", "backend": FakeEmbeddingBackend()}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"MLXI_EMBEDDING__DEFAULT": "bge-small"}, {}, {"model": "bge-small"}


class TestMLXEmbeddingsIntegration(EmbeddingsIntegrationTests):
    """Inherit it for a real model, and override what the model is made with."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return MLXEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "fake", "backend": FakeEmbeddingBackend()}


class TestCachedEmbeddingsIntegration(TestMLXEmbeddingsIntegration):
    @pytest.fixture
    def model(self) -> Embeddings:
        return MLXEmbeddings(**self.embedding_model_params).cached(InMemoryByteStore())


class TestMiniLMIntegration(TestMLXEmbeddingsIntegration):
    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "minilm-l6-v2"}
