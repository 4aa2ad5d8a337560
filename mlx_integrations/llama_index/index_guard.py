"""Vector indexes that take no vectors of another model: `guarded(index)`.

A persisted index remembers vectors, not who made them. Loaded with another embedding model it fails deep inside NumPy
at best; at worst, when both models have as many dimensions, it answers nonsense. A guarded index keeps its model's
fingerprint beside it and compares before anything is embedded.

    index = guarded(VectorStoreIndex.from_documents(documents, embed_model=embedding))
    index.storage_context.persist("storage")

    storage = StorageContext.from_defaults(persist_dir="storage")
    index = guarded(load_index_from_storage(storage, embed_model=embedding), path="storage")

What comes back is the same object, of a subclass of its class whose ways to the vectors look first.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import BaseNode

from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.fingerprint import WITNESS_TEXTS, EmbeddingFingerprint
from mlx_integrations.llama_index.index_kinds import kind_of
from mlx_integrations.sidecar import (
    check,
    check_dimensions,
    check_vectors,
    place_of,
    sidecar_of,
    still_true,
    write_sidecar,
)

__all__ = ["fingerprint_of", "guarded", "verify_index"]

IndexT = TypeVar("IndexT", bound=VectorStoreIndex)

_GUARD = "_mlxi_guard"
_logger = logging.getLogger(__name__)


def guarded(index: IndexT, *, path: str | Path | None = None, adopt: bool = False) -> IndexT:
    """Let an index be filled and asked by one embedding model only.

    Nothing is loaded or compared yet. The first retriever, query engine or insertion compares, before it embeds
    anything, and raises `EmbeddingMismatchError` if another model made the vectors. `verify_index` does it at once.

    `index.storage_context.persist(folder)` writes the fingerprint into the folder. For a vector store that keeps
    itself, the first insertion writes it: for Chroma, Qdrant and LanceDB into its own metadata, where a store of
    LangChain finds it too, for any other at `path`. Questions write nothing. An index without a fingerprint is known by
    its vectors, if they are in a `SimpleVectorStore`, in FAISS, Chroma, Qdrant or LanceDB: a few of its own texts are
    embedded again and have to come out as they did. Any other is adopted, and a line of log says so.

    Args:
        index: It is changed, and returned.
        path: The folder that it was loaded from; for a vector store that keeps itself, where to put a small file.
        adopt: Take an index without a fingerprint as it is, if its vectors have the right size.

    Raises:
        InvalidRequestError: It is not a `VectorStoreIndex`, or the path is the address of a server.
    """
    if not isinstance(index, VectorStoreIndex):
        raise InvalidRequestError(f"A `{type(index).__name__}` has no vectors to guard.", field="index")
    guard = _Guard(index, place_of(path), adopt=adopt)
    setattr(index, _GUARD, guard)
    if not isinstance(index, _Guarding):
        index.__class__ = cast(type[IndexT], _guarded_class(type(index)))
    storage = index.storage_context
    setattr(storage, _GUARD, guard)
    if not isinstance(storage, _GuardedStorage):
        storage.__class__ = _GuardedStorage
    return index


def verify_index(index: VectorStoreIndex) -> EmbeddingFingerprint:
    """Compare a guarded index with its model now, and return the model's fingerprint.

    Raises:
        EmbeddingMismatchError: Another model made its vectors.
        SidecarError: Its fingerprint is damaged.
        InvalidRequestError: It is not guarded.
    """
    if not isinstance(index, _Guarding):
        raise InvalidRequestError("The index is not guarded.", field="index", hint="Pass it to `guarded` first.")
    return _guard_of(index).verify()


def fingerprint_of(embed_model: BaseEmbedding) -> EmbeddingFingerprint:
    """The fingerprint of any embedding model: its own, or one made of its vectors for a few fixed texts."""
    own = getattr(embed_model, "fingerprint", None)
    if callable(own):
        return cast(EmbeddingFingerprint, own())
    vectors = embed_model.get_text_embedding_batch(list(WITNESS_TEXTS))
    return EmbeddingFingerprint.of_vectors(embed_model.model_name, vectors)


class _Guard:
    """Knows the model of one index; compares once for each embedding model and stays out of the way from then on."""

    def __init__(self, index: VectorStoreIndex, path: Path | None, *, adopt: bool) -> None:
        self.kind = kind_of(index, path)
        self._index = index
        self._adopt = adopt
        self._verified: tuple[BaseEmbedding, EmbeddingFingerprint] | None = None
        self._has_to_write = False

    def verify(self, embed_model: BaseEmbedding | None = None) -> EmbeddingFingerprint:
        """Compare with the index's own embedding model, or with another that is to ask it. Writes nothing."""
        model = embed_model or self._index._embed_model
        if self._verified is not None and self._verified[0] is model:
            return self._verified[1]
        stored = self._record()
        current = fingerprint_of(model)
        if stored is not None and self.kind.count() != 0:
            check(stored, current, self.kind.name, migration=self.kind.migration)
        else:
            self._check_vectors(model, current)
        if model is self._index._embed_model:
            self._has_to_write = stored is None or bool(stored.differences(current))
            self._verified = (model, current)
        return current

    def before_adding(self) -> None:
        """Compare, and see to it that a store that keeps itself has a record before it has vectors."""
        current = self.verify()
        if not self.kind.is_kept_in_memory and (self._has_to_write or not self.kind.has_record()):
            self.kind.write(current)
            self._has_to_write = False

    def save(self, folder: Path, persist: Callable[[], None]) -> None:
        """Persist a storage context, and write the record into its folder.

        An old record goes first: if the persisting is interrupted, there is none, and the vectors themselves tell.
        """
        current = self.verify()
        sidecar = sidecar_of(folder, is_file=False)
        sidecar.unlink(missing_ok=True)
        persist()
        write_sidecar(sidecar, current)
        if not self.kind.is_kept_in_memory:
            self.kind.write(current)

    def _record(self) -> EmbeddingFingerprint | None:
        """The record, if it can be true of the vectors; where there is none, what was found out before."""
        stored = self.kind.read()
        if stored is not None:
            return still_true(stored, self.kind.dimensions(), self.kind.name)
        return None if self._verified is None else self._verified[1]

    def _check_vectors(self, model: BaseEmbedding, current: EmbeddingFingerprint) -> None:
        """Compare the vectors themselves, where nothing says who made them."""
        name, count, made = self.kind.name, self.kind.count(), self.kind.dimensions()
        if made is not None:
            check_dimensions(made, current, name, migration=self.kind.migration)
        if self._adopt or count == 0:
            return
        samples = [(text, vector) for text, vector in self.kind.samples() if text.strip() and any(vector)]
        if not samples:
            if count is not None or self._index.index_struct.nodes_dict:
                _logger.warning("No fingerprint and no vectors to compare: %s is taken for `%s`.", name, current.model)
            return
        again = model.get_text_embedding_batch([text for text, _ in samples])
        check_vectors([vector for _, vector in samples], again, current, name, migration=self.kind.migration)


class _Guarding(VectorStoreIndex):
    """What a guarded index does before it does what its class does."""

    @property
    def vector_store(self) -> Any:
        """The vectors, for whoever is about to ask them: every retriever takes them from here."""
        _guard_of(self).verify()
        return super().vector_store

    def as_retriever(self, **kwargs: Any) -> BaseRetriever:
        """A retriever; one with an embedding model of its own has that compared, too."""
        if kwargs.get("embed_model") is not None:
            _guard_of(self).verify(kwargs["embed_model"])
        return super().as_retriever(**kwargs)

    def _get_node_with_embedding(self, nodes: Sequence[BaseNode], show_progress: bool = False) -> list[BaseNode]:
        _guard_of(self).before_adding()
        return super()._get_node_with_embedding(nodes, show_progress)

    async def _aget_node_with_embedding(self, nodes: Sequence[BaseNode], show_progress: bool = False) -> list[BaseNode]:
        await asyncio.to_thread(_guard_of(self).before_adding)
        return await super()._aget_node_with_embedding(nodes, show_progress)


class _GuardedStorage(StorageContext):
    """A storage context that writes its index's record beside what it persists."""

    def persist(self, persist_dir: Any = "./storage", *args: Any, **kwargs: Any) -> None:
        """Persist, and write the record."""
        if kwargs.get("fs") is not None:
            _logger.warning("No fingerprint is written into `%s`: it is on a file system of its own.", persist_dir)
            super().persist(persist_dir, *args, **kwargs)
            return
        persist = functools.partial(super().persist, persist_dir, *args, **kwargs)
        _guard_of(self).save(Path(persist_dir), persist)


def _guard_of(guarded_object: VectorStoreIndex | StorageContext) -> _Guard:
    return cast(_Guard, vars(guarded_object)[_GUARD])


@functools.cache
def _guarded_class(base: type[VectorStoreIndex]) -> type[VectorStoreIndex]:
    members = {"__doc__": base.__doc__, "__module__": base.__module__}
    return cast(type[VectorStoreIndex], type(f"Guarded{base.__name__}", (_Guarding, base), members))
