"""The MLX backend keeps the contract of every embedding backend, with encoders, decoders and prompts."""

import pytest

from mlx_integrations.protocols import EmbeddingBackend
from mlx_integrations.runtime.engine import Runtime
from tests.contracts.embedding_backend import EmbeddingBackendContract
from tests.runtime.embedding.conftest import SentenceFolder


class TestEncoder(EmbeddingBackendContract):
    @pytest.fixture
    def backend(self, sentence_folder: SentenceFolder, runtime: Runtime) -> EmbeddingBackend:
        return runtime.embedding(sentence_folder("bert-mean-normalize"))


class TestPromptsThatAreNotPooled(EmbeddingBackendContract):
    prompt_is_pooled = False

    @pytest.fixture
    def backend(self, sentence_folder: SentenceFolder, runtime: Runtime) -> EmbeddingBackend:
        return runtime.embedding(sentence_folder("bert-without-prompt"))


class TestDecoder(EmbeddingBackendContract):
    @pytest.fixture
    def backend(self, sentence_folder: SentenceFolder, runtime: Runtime) -> EmbeddingBackend:
        return runtime.embedding(sentence_folder("qwen3-lasttoken"))
