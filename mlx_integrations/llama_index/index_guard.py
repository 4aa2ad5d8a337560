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
import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.vector_stores import SimpleVectorStore

from mlx_integrations.errors import EmbeddingMismatchError, InvalidRequestError
from mlx_integrations.fingerprint import WITNESS_TEXTS, EmbeddingFingerprint
from mlx_integrations.sidecar import check, read_sidecar, sidecar_of, write_sidecar

__all__ = ["fingerprint_of", "guarded", "verify_index"]

IndexT = TypeVar("IndexT", bound=VectorStoreIndex)

_GUARD = "_mlxi_guard"
_SAMPLES = 3
_OTHER_MODEL = 0.5  # cosine: two models are near 0; one model on other hardware, or in fewer bits, is near 1
_SAVED_WITH_THE_CONTEXT = ("SimpleVectorStore", "FaissVectorStore", "FaissMapVectorStore")
_logger = logging.getLogger(__name__)


def guarded(index: IndexT, *, path: str | Path | None = None, adopt: bool = False) -> IndexT:
    """Let an index be filled and asked by one embedding model only.

    Nothing is loaded or compared yet. The first retriever, query engine or insertion compares, before it embeds
    anything, and raises `EmbeddingMismatchError` if another model made the vectors. `verify_index` does it at once.

    `index.storage_context.persist(folder)` writes the fingerprint into the folder. For a vector store that keeps
    itself, such as Chroma or a server, the first insertion writes it at `path`. An index without a fingerprint is known
    by its vectors, if they are in a `SimpleVectorStore`: a few of its own texts are embedded again and have to come out
    as they did. Any other is adopted, and a line of log says so.

    Args:
        index: It is changed, and returned.
        path: The folder that it was loaded from; for a vector store that keeps itself, where to put a small file.
        adopt: Take an index without a fingerprint as it is, whatever its vectors look like.

    Raises:
        InvalidRequestError: It is not a `VectorStoreIndex`.
    """
    if not isinstance(index, VectorStoreIndex):
        raise InvalidRequestError(f"A `{type(index).__name__}` has no vectors to guard.", field="index")
    guard = _Guard(index, None if path is None else Path(path), adopt=adopt)
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
    return EmbeddingFingerprint(
        model=embed_model.model_name,
        dimensions=len(vectors[0]),
        normalize=all(abs(math.hypot(*vector) - 1) < 1e-3 for vector in vectors),
        witness=EmbeddingFingerprint.witness_of(vectors),
    )


class _Guard:
    """Knows the model of one index; compares once for each embedding model and stays out of the way from then on."""

    def __init__(self, index: VectorStoreIndex, path: Path | None, *, adopt: bool) -> None:
        self._index = index
        self._path = path
        self._adopt = adopt
        self._verified: tuple[BaseEmbedding, EmbeddingFingerprint] | None = None

    @property
    def name(self) -> str:
        """What messages call the index."""
        kind = type(self._index).__name__.removeprefix("Guarded")
        return f"the {kind}" if self._path is None else f"the {kind} at `{self._path}`"

    def is_verified(self) -> bool:
        """Whether nothing is left to compare."""
        return self._verified is not None and self._verified[0] is self._index._embed_model

    def verify(self, embed_model: BaseEmbedding | None = None) -> EmbeddingFingerprint:
        """Compare with the index's own embedding model, or with another that is to ask it. Writes nothing."""
        model = embed_model or self._index._embed_model
        if self._verified is not None and self._verified[0] is model:
            return self._verified[1]
        current = fingerprint_of(model)
        stored = None if self._path is None else read_sidecar(sidecar_of(self._path))
        if stored is None and self._verified is not None:
            stored = self._verified[1]
        if stored is not None:
            check(stored, current, self.name)
        elif not self._adopt:
            self._check_vectors(model, current)
        if model is self._index._embed_model:
            self._verified = (model, current)
        return current

    def before_adding(self) -> None:
        """Compare, and see to it that a store that keeps itself has a record before it has vectors."""
        current = self.verify()
        if self._path is None or type(self._index._vector_store).__name__ in _SAVED_WITH_THE_CONTEXT:
            return
        sidecar = sidecar_of(self._path)
        if not sidecar.exists():
            write_sidecar(sidecar, current)

    def _check_vectors(self, model: BaseEmbedding, current: EmbeddingFingerprint) -> None:
        """Compare the vectors themselves, where nothing says who made them."""
        samples = self._samples()
        if not samples:
            if self._index.index_struct.nodes_dict:
                _logger.warning(
                    "No fingerprint, and no vectors to compare: %s is taken for `%s`.", self.name, current.model
                )
            return
        made = len(samples[0][1])
        if made != current.dimensions:
            raise _refused(self.name, current, made, "dimensions", f"have {made} dimensions")
        again = model.get_text_embedding_batch([text for text, _ in samples])
        likeness = max(_cosine(old, new) for (_, old), new in zip(samples, again, strict=True))
        if likeness < _OTHER_MODEL:
            reason = f"are not those that its texts have now (cosine {likeness:.2f} at best)"
            raise _refused(self.name, current, made, "witness", reason)

    def _samples(self) -> list[tuple[str, Sequence[float]]]:
        """A few of its texts, as they were embedded, with their vectors."""
        store = self._index._vector_store
        if not isinstance(store, SimpleVectorStore):
            return []
        found: list[tuple[str, Sequence[float]]] = []
        for node_id in islice(store.data.embedding_dict, _SAMPLES):
            node = self._index.docstore.get_node(node_id, raise_error=False)
            vector = store.data.embedding_dict[node_id]
            if node is not None and any(vector):
                found.append((node.get_content(metadata_mode=MetadataMode.EMBED), vector))
        return found


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
        """Persist, and write the record.

        An old record goes first: if the persisting is interrupted, there is none, and the vectors themselves tell.
        """
        if kwargs.get("fs") is not None:
            _logger.warning("No fingerprint is written into `%s`: it is on a file system of its own.", persist_dir)
            super().persist(persist_dir, *args, **kwargs)
            return
        current = _guard_of(self).verify()
        sidecar = sidecar_of(Path(persist_dir), is_file=False)
        sidecar.unlink(missing_ok=True)
        super().persist(persist_dir, *args, **kwargs)
        write_sidecar(sidecar, current)


def _guard_of(guarded_object: VectorStoreIndex | StorageContext) -> _Guard:
    return cast(_Guard, vars(guarded_object)[_GUARD])


@functools.cache
def _guarded_class(base: type[VectorStoreIndex]) -> type[VectorStoreIndex]:
    members = {"__doc__": base.__doc__, "__module__": base.__module__}
    return cast(type[VectorStoreIndex], type(f"Guarded{base.__name__}", (_Guarding, base), members))


def _refused(
    store: str, current: EmbeddingFingerprint, dimensions: int, field: str, reason: str
) -> EmbeddingMismatchError:
    adopt = " If they were made of other texts on purpose, pass `adopt=True`." if field == "witness" else ""
    return EmbeddingMismatchError(
        f"The vectors of {store} {reason}, and it was opened with `{current.model}` ({current.dimensions} dimensions). "
        "It does not say which model made them. Nothing was written.",
        store=store,
        stored={"dimensions": dimensions},
        current=current.to_dict(),
        fields=(field,),
        hint=f"Open it with the model that it was made with; or fill a new one from its documents with "
        f"`{current.model}`.{adopt}",
    )


def _cosine(first: Sequence[float], second: Sequence[float]) -> float:
    size = math.hypot(*first) * math.hypot(*second)
    return sum(a * b for a, b in zip(first, second, strict=True)) / size if size else 0.0
