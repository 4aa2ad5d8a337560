"""What holds for every embedding backend holds for one behind an endpoint too, as far as the protocol lets it."""

from collections.abc import Iterator

import pytest

from mlx_integrations.cloud.embedding import OpenAIEmbeddingBackend
from mlx_integrations.protocols import EmbeddingBackend
from tests.contracts.embedding_backend import EmbeddingBackendContract
from tests.openai_server import OpenAIServer


class TestOpenAIEmbeddingBackend(EmbeddingBackendContract):
    @pytest.fixture
    def backend(self) -> Iterator[EmbeddingBackend]:
        with OpenAIServer(dimensions=8, count_text=lambda text: -(-len(text.encode()) // 4)) as server:
            backend = OpenAIEmbeddingBackend(base_url=server.base_url, model="test-model", max_tokens=64)
            yield backend
            backend.close()

    def test_it_is_an_embedding_backend_that_says_what_it_does(self, backend: EmbeddingBackend) -> None:
        """As in the contract, but for the pooling: an endpoint does not tell, and what is not known stays empty."""
        assert isinstance(backend, EmbeddingBackend)
        assert backend.model_id.endswith("/test-model")
        known = backend.capabilities
        assert (known.dimensions, known.max_tokens, known.pooling, known.similarity) == (8, 64, "", "cosine")
