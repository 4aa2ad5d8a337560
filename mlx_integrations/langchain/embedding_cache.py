"""Vectors that are computed once: LangChain's embedding cache, with keys that no two models share.

A key is `<fingerprint digest>-<side>-<SHA-256 of the text>`; a value is the vector as little-endian float32, which is
exactly what the model made and a fifth of its size as JSON. An entry of the wrong size counts as missing.
"""

import asyncio
import hashlib
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import cast

from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_classic.storage import EncoderBackedStore
from langchain_core.stores import ByteStore

from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.langchain.embeddings import MLXEmbeddings
from mlx_integrations.langchain.errors import InvalidRequestError, langchain_errors
from mlx_integrations.types import EmbeddingSide

__all__ = ["CachedEmbeddings"]


class CachedEmbeddings(CacheBackedEmbeddings):
    """What `MLXEmbeddings.cached` makes.

    Nothing is loaded when it is constructed, and nothing but the model's configuration for texts that are known: a key
    says whose vector it is.

    Args:
        embeddings: Who embeds what is new.
        store: Where vectors are kept.
        cache_queries: Whether to keep queries too.
        batch_size: New texts to embed before their vectors are stored.
    """

    def __init__(
        self, embeddings: MLXEmbeddings, store: ByteStore, *, cache_queries: bool = True, batch_size: int = 1024
    ) -> None:
        if batch_size < 1:
            raise InvalidRequestError(f"`batch_size` cannot be {batch_size}.", field="batch_size")
        keys = _Keys(embeddings)
        super().__init__(
            embeddings,
            _vector_store(keys, store, "document"),
            batch_size=batch_size,
            query_embedding_store=_vector_store(keys, store, "query") if cache_queries else None,
        )
        self._embeddings = embeddings
        self._keys = keys

    def fingerprint(self) -> EmbeddingFingerprint:
        """Of the model whose vectors these are."""
        return self._embeddings.fingerprint()

    async def afingerprint(self) -> EmbeddingFingerprint:
        """The same for event loops."""
        return await self._embeddings.afingerprint()

    def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """Embed texts that are to be found; known ones are looked up, and equal ones are embedded once."""
        unique = _unique(texts)
        with langchain_errors():
            vectors = dict(zip(unique, super().embed_documents(unique), strict=True))
        return [list(vectors[text]) for text in texts]

    async def aembed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """Embed texts that are to be found; known ones are looked up, and equal ones are embedded once."""
        unique = _unique(texts)
        with langchain_errors():
            await self._keys.aprepare()
            vectors = dict(zip(unique, await super().aembed_documents(unique), strict=True))
        return [list(vectors[text]) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Embed a text that asks, or look it up."""
        _check(text, "text")
        with langchain_errors():
            return super().embed_query(text)

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a text that asks, or look it up."""
        _check(text, "text")
        with langchain_errors():
            await self._keys.aprepare()
            return await super().aembed_query(text)


class _Keys:
    """Knows whose vectors the keys name, from the first call on."""

    def __init__(self, embeddings: MLXEmbeddings) -> None:
        self._embeddings = embeddings
        self._identity: EmbeddingFingerprint | None = None

    async def aprepare(self) -> None:
        """Find out off the event loop; keys are made on it."""
        if self._identity is None:
            await asyncio.to_thread(self.identity)

    def identity(self) -> EmbeddingFingerprint:
        """The model's fingerprint, without its witness."""
        if self._identity is None:
            self._identity = self._embeddings.identity()
        return self._identity


def _vector_store(keys: _Keys, store: ByteStore, side: EmbeddingSide) -> EncoderBackedStore[str, list[float]]:
    def key(text: str) -> str:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{_digest(keys.identity())}-{side}-{digest}"

    def vector(value: bytes) -> list[float] | None:
        return _unpacked(value, keys.identity().dimensions)

    # The store's type has no room for what it does well: a value that is read as `None` counts as missing.
    read = cast(Callable[[bytes], list[float]], vector)
    return EncoderBackedStore[str, list[float]](store, key, _packed, read)


@lru_cache(maxsize=64)
def _digest(fingerprint: EmbeddingFingerprint) -> str:
    return fingerprint.digest()


def _packed(vector: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(vector)}f", *vector)


def _unpacked(value: bytes, dimensions: int) -> list[float] | None:
    """A vector, or `None` for bytes that are none of this model: a file cut short, an entry of another program."""
    return list(struct.unpack(f"<{dimensions}f", value)) if len(value) == 4 * dimensions else None


def _unique(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise InvalidRequestError("`texts` is one text, not a list of them.", field="texts", hint="Use `[text]`.")
    for position, text in enumerate(texts):
        _check(text, f"texts[{position}]")
    return list(dict.fromkeys(texts))


def _check(text: str, name: str) -> None:
    if not isinstance(text, str):
        raise InvalidRequestError(f"`{name}` is `{text!r}`, not a text."[:300], field=name)
