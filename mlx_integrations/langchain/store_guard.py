"""Vector stores that take no vectors of another model: `guarded(store)`.

A store remembers vectors, not who made them. Opened with another model it fails with an empty `AssertionError` at best;
at worst, when both models have as many dimensions, it mixes vectors that cannot be compared and answers nonsense. A
guarded store keeps its model's fingerprint beside it and compares before anything is embedded or written.

    store = guarded(Chroma("notes", embeddings, persist_directory="db"))
    store = guarded(FAISS.load_local("index", embeddings, allow_dangerous_deserialization=True), path="index")

What comes back is the same object, of a subclass of its class whose methods look first. So whatever a store can do it
still can, and no way in is left open because somebody forgot to pass it on.
"""

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, Literal, TypeVar, cast

from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from mlx_integrations.fingerprint import WITNESS_TEXTS, EmbeddingFingerprint
from mlx_integrations.langchain.errors import InvalidRequestError, langchain_errors
from mlx_integrations.langchain.store_kinds.known import SAVING, StoreKind, kind_of
from mlx_integrations.sidecar import check, check_dimensions, check_vectors, still_true

__all__ = ["fingerprint_of", "guarded", "verify_store"]

StoreT = TypeVar("StoreT", bound=VectorStore)
Role = Literal["add", "ask", "merge"]

_GUARD = "_mlxi_guard"
_IS_GUARDED = "_mlxi_is_guarded"
_ADDING = ("add_", "update_", "upsert")
_ASKING = ("similarity_search", "max_marginal_relevance_search", "search", "hybrid_search")
_logger = logging.getLogger(__name__)


def guarded(
    store: StoreT,
    embeddings: Embeddings | None = None,
    *,
    path: str | Path | None = None,
    adopt: bool = False,
) -> StoreT:
    """Let a store be filled and asked by one embedding model only.

    Nothing is loaded or compared yet. The first addition or question compares, before it embeds or writes anything, and
    raises `EmbeddingMismatchError` if another model made the store's vectors. `verify_store` does it at once.

    The first addition writes the fingerprint: for Chroma, Qdrant, LanceDB and pgvector into their own database, for
    FAISS and `InMemoryVectorStore` when they are saved (`save_local`, `dump`), for any other store at `path`. Questions
    write nothing. A store that has vectors but no fingerprint is known by them: a few of its own texts are embedded
    again and have to come out as they did. Where a store cannot show its vectors, it is adopted, and a line of log says
    so.

    Args:
        store: It is changed, and returned.
        embeddings: Who fills and asks a store that has no embeddings of its own.
        path: Where it lies on the disk: the folder of `FAISS.load_local`, the file of `InMemoryVectorStore.load`. For
            stores of other kinds, where to put a small file with the fingerprint.
        adopt: Take a store without a fingerprint as it is, whatever its vectors look like.

    Raises:
        InvalidRequestError: It has no embeddings, or nowhere to keep a fingerprint; an address is no path.
    """
    if embeddings is None and store.embeddings is None:
        raise InvalidRequestError(
            f"The `{type(store).__name__}` has no embeddings.",
            field="embeddings",
            hint="Pass them: `guarded(store, embeddings)`.",
        )
    with langchain_errors():
        kind = kind_of(store, path)
    guard = _Guard(embeddings, kind, adopt=adopt)
    setattr(store, _GUARD, guard)
    if not getattr(type(store), _IS_GUARDED, False):
        store.__class__ = _guarded_class(type(store))
    return store


def verify_store(store: VectorStore) -> EmbeddingFingerprint:
    """Compare a guarded store with its model now, and return the model's fingerprint.

    Raises:
        EmbeddingMismatchError: Another model made its vectors.
        SidecarError: Its fingerprint is damaged.
        InvalidRequestError: It is not guarded.
    """
    guard = _guard_of(store)
    if guard is None:
        raise InvalidRequestError("The store is not guarded.", field="store", hint="Pass it to `guarded` first.")
    return guard.verify(store)


def fingerprint_of(embeddings: Embeddings) -> EmbeddingFingerprint:
    """The fingerprint of any embedding model: its own, or one made of its vectors for a few fixed texts."""
    own = getattr(embeddings, "fingerprint", None)
    if callable(own):
        return cast(EmbeddingFingerprint, own())
    inner = getattr(embeddings, "underlying_embeddings", None)
    if isinstance(inner, Embeddings):
        return fingerprint_of(inner)
    names = (getattr(embeddings, name, None) for name in ("model", "model_name", "model_id"))
    model = next((name for name in names if isinstance(name, str)), type(embeddings).__name__)
    return EmbeddingFingerprint.of_vectors(model, embeddings.embed_documents(list(WITNESS_TEXTS)))


class _Guard:
    """Knows the model of one store; compares once and stays out of the way from then on.

    It takes no lock: comparing twice at the same time does no harm, and comes to the same.
    """

    def __init__(self, embeddings: Embeddings | None, kind: StoreKind, *, adopt: bool) -> None:
        self.kind = kind
        self._embeddings = embeddings
        self._adopt = adopt
        self._verified: tuple[Embeddings, EmbeddingFingerprint] | None = None
        self._has_to_write = False

    def verify(self, store: VectorStore) -> EmbeddingFingerprint:
        """Compare, if that was not done yet with these embeddings. Writes nothing."""
        embeddings = store.embeddings or self._embeddings
        assert embeddings is not None
        if self._verified is not None and self._verified[0] is embeddings:
            return self._verified[1]
        with langchain_errors():
            stored = self._record_of(store)
            current = fingerprint_of(embeddings)
            if stored is not None and self.kind.count(store) != 0:
                check(stored, current, self.kind.name(store), migration=self.kind.migration(store))
            else:
                self._check_vectors(store, embeddings, current)
        self._has_to_write = stored is None or bool(stored.differences(current))
        self._verified = (embeddings, current)
        return current

    def before_adding(self, store: VectorStore) -> None:
        """Compare, and see to it that the store has a record before it has vectors."""
        current = self.verify(store)
        if self.kind.saving is None and (self._has_to_write or not self.kind.has_record(store)):
            with langchain_errors():
                self.kind.write(store, current)
            self._has_to_write = False

    def after_adding(self, store: VectorStore) -> None:
        """See to it that a store that was made anew has its record, too."""
        if self._verified is not None and self.kind.loses_record and not self.kind.has_record(store):
            with langchain_errors():
                self.kind.write(store, self._verified[1])

    def is_ready(self, store: VectorStore, role: Role) -> bool:
        """Whether nothing is left to do that would keep an event loop waiting."""
        is_verified = self._verified is not None and self._verified[0] is (store.embeddings or self._embeddings)
        if not is_verified or role == "merge":
            return False
        return role == "ask" or self.kind.saving is not None or (not self._has_to_write and self.kind.has_record(store))

    def before(self, store: VectorStore, role: Role, arguments: Sequence[Any]) -> None:
        """What has to be done before a method of the store runs."""
        if role == "ask":
            self.verify(store)
            return
        self.before_adding(store)
        for other in arguments if role == "merge" else ():
            if isinstance(other, VectorStore):
                self._check_other(store, other)

    def check_vector(self, store: VectorStore, vector: Sequence[float]) -> None:
        """Refuse a vector to ask with that no text has in this store; FAISS would say `AssertionError`, and no more."""
        current = self.verify(store)
        if len(vector) != current.dimensions:
            name, given = self.kind.name(store), len(vector)
            raise InvalidRequestError(
                f"The vector has {given} coordinates, and those of {name} have {current.dimensions}.",
                field="embedding",
                hint=f"Make it with `embed_query` of `{current.model}`.",
            )

    def _check_other(self, store: VectorStore, other: VectorStore) -> None:
        """Compare a store whose vectors are to be taken over."""
        theirs = _guard_of(other) or _Guard(
            store.embeddings or self._embeddings, kind_of(other, None), adopt=self._adopt
        )
        with langchain_errors():
            check(theirs.verify(other), self.verify(store), theirs.kind.name(other))

    def save(self, store: VectorStore, method: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Save the store and its record.

        An old record goes first: if the saving is interrupted, the store has none, and is known by its vectors.
        """
        current = self.verify(store)
        bound = inspect.signature(method).bind(store, *args, **kwargs)
        kind = type(self.kind)(self.kind.saved_at(bound.arguments))
        with langchain_errors():
            sidecar = kind.sidecar()
            assert sidecar is not None
            sidecar.unlink(missing_ok=True)
            result = method(store, *args, **kwargs)
            kind.write(store, current)
        return result

    def _record_of(self, store: VectorStore) -> EmbeddingFingerprint | None:
        """The store's record, if it can be true of its vectors."""
        stored = self.kind.read(store)
        return None if stored is None else still_true(stored, self.kind.dimensions(store), self.kind.name(store))

    def _check_vectors(self, store: VectorStore, embeddings: Embeddings, current: EmbeddingFingerprint) -> None:
        """Compare the vectors themselves, where nothing says who made them."""
        name, made = self.kind.name(store), self.kind.dimensions(store)
        if made is not None:
            check_dimensions(made, current, name, migration=self.kind.migration(store))
        if self._adopt or self.kind.count(store) == 0:
            return
        samples = [(text, vector) for text, vector in self.kind.sample(store) if text.strip() and any(vector)]
        if not samples:
            _logger.warning("No fingerprint and no vectors to compare: %s is taken for `%s`.", name, current.model)
            return
        again = embeddings.embed_documents([text for text, _ in samples])
        before = [vector for _, vector in samples]
        check_vectors(before, again, current, name, migration=self.kind.migration(store))
        _logger.info("No fingerprint, but the vectors of `%s`: it is taken for the model of %s.", current.model, name)


def _guard_of(store: VectorStore) -> _Guard | None:
    return cast("_Guard | None", vars(store).get(_GUARD))


def _reduce(store: VectorStore, protocol: Any) -> tuple[Any, ...]:
    """How a guarded store is copied and pickled: no module has its class, but its base is in one."""
    return _revive, (type(store).__base__,), vars(store)


def _revive(base: type) -> object:
    return object.__new__(_guarded_class(base))


@functools.cache
def _guarded_class(base: type) -> type:
    """A subclass of a store's class whose methods that add or ask look first.

    Only what the class itself defines is replaced: LangChain asks whether a class overrides a method of `VectorStore`,
    and the inherited ones call those that are replaced.
    """
    methods: dict[str, Any] = {
        "__doc__": base.__doc__,
        "__module__": base.__module__,
        "__reduce_ex__": _reduce,
        _IS_GUARDED: True,
    }
    for name in dir(base):
        method = inspect.getattr_static(base, name)
        if not isinstance(method, FunctionType) or method is inspect.getattr_static(VectorStore, name, None):
            continue
        if name in SAVING:
            methods[name] = _saving(method)
        elif (role := _role(name)) is not None:
            methods[name] = _looking_first(method, role)
    return type(f"Guarded{base.__name__}", (base,), methods)


def _role(name: str) -> Role | None:
    if name.startswith("merge_from"):
        return "merge"
    for candidate in (name, name.removeprefix("a")):
        if candidate.startswith(_ADDING):
            return "add"
        if candidate.startswith(_ASKING):
            return "ask"
    return None


def _looking_first(method: FunctionType, role: Role) -> Callable[..., Any]:
    takes_vector = method.__name__.endswith("by_vector")

    def check_vector(self: VectorStore, guard: _Guard, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        vector = kwargs.get("embedding", args[0] if args else None)
        if takes_vector and isinstance(vector, Sequence):
            guard.check_vector(self, vector)

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def alooking(self: VectorStore, *args: Any, **kwargs: Any) -> Any:
            guard = _guard_of(self)
            if guard is not None:
                if not guard.is_ready(self, role):
                    await asyncio.to_thread(guard.before, self, role, (*args, *kwargs.values()))
                check_vector(self, guard, args, kwargs)
            return await method(self, *args, **kwargs)

        return alooking

    @functools.wraps(method)
    def looking(self: VectorStore, *args: Any, **kwargs: Any) -> Any:
        guard = _guard_of(self)
        if guard is not None:
            guard.before(self, role, (*args, *kwargs.values()))
            check_vector(self, guard, args, kwargs)
        result = method(self, *args, **kwargs)
        if guard is not None and role == "add":
            guard.after_adding(self)
        return result

    return looking


def _saving(method: FunctionType) -> Callable[..., Any]:
    @functools.wraps(method)
    def saving(self: VectorStore, *args: Any, **kwargs: Any) -> Any:
        guard = _guard_of(self)
        if guard is None or guard.kind.saving != method.__name__:
            return method(self, *args, **kwargs)
        return guard.save(self, method, args, kwargs)

    return saving
