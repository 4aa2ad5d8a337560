"""A question about one page of the documentation, asked through a query engine of LlamaIndex.

    passages -> MLXEmbedding -> VectorStoreIndex -> the passage nearest to the question -> MLXLLM -> an answer

Its models are those that the rest of the tour uses, so neither is loaded again.
"""

from collections.abc import Sequence

from langchain_core.documents import Document
from llama_index.core import VectorStoreIndex
from llama_index.core.base.response.schema import StreamingResponse
from llama_index.core.schema import TextNode

from mlx_integrations.llama_index import MLXLLM, MLXEmbedding

__all__ = ["ask"]


def ask(question: str, passages: Sequence[Document], llm: MLXLLM, embedding: MLXEmbedding) -> StreamingResponse:
    """Index the passages and ask; the answer streams in from `response_gen`."""
    nodes = [TextNode(text=passage.page_content) for passage in passages]
    engine = VectorStoreIndex(nodes, embed_model=embedding).as_query_engine(llm=llm, similarity_top_k=1, streaming=True)
    response = engine.query(question)
    assert isinstance(response, StreamingResponse)
    return response
