"""What a Qdrant server is asked, over REST, and what its refusals mean.

Every request here can be made twice with the same result, so one that gets no answer is made again.
"""

import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from mlx_integrations.errors import MissingExtraError, StoreBusyError, StoreError
from mlx_integrations.migration.stores.qdrant.layout import UNNAMED
from mlx_integrations.migration.stores.qdrant.point import Point, vectors_of

__all__ = ["QdrantServer"]

TIMEOUT_SECONDS = 60
"""How long a server may take for one answer."""

_PAUSES_SECONDS: Final = (0.2, 1.0, 4.0)  # before a request without an answer is made again
_LONGEST_PAUSE_SECONDS: Final = 60  # which a server may ask for: its limits are for a minute
_LIMITED_TIMES: Final = 30  # that it may ask for one
_CONFLICT, _NOT_FOUND = 409, 404
_INDEXING_SECONDS: Final = 3600.0  # how long a server may take to index what it was given
_READ_POINTS: Final = 500
_FIRST_POINTS: Final = 50  # of a page, before it is known how large they are
_READ_BYTES: Final = 8 * 1024 * 1024
_WRITTEN_POINTS: Final = 256
_WRITTEN_BYTES: Final = 8 * 1024 * 1024  # servers take 32 MiB: https://qdrant.tech/documentation/guides/configuration/
_FORBIDDEN: Final = (401, 403)
_SERVER_FAILURE: Final = 500
_IS_PLAIN: Final = re.compile(r"[\w-]+").fullmatch  # https://qdrant.tech/documentation/concepts/filtering/#nested-key

T = TypeVar("T")


class QdrantServer:
    """A server, or one that speaks its protocol.

    Args:
        url: Its address, without a key.
        api_key: Its key.
        sleep: Waits for some seconds.

    Raises:
        MissingExtraError: The client is not installed.
    """

    def __init__(self, url: str, api_key: str | None, *, sleep: Callable[[float], None] = time.sleep) -> None:
        try:
            import qdrant_client
        except ImportError as error:
            raise MissingExtraError("A server of Qdrant needs `qdrant-client`.", extra="qdrant") from error
        self.url = url
        self._sleep = sleep
        self._models: Any = qdrant_client.models
        try:
            self._client: Any = qdrant_client.QdrantClient(
                url=url, api_key=api_key, timeout=TIMEOUT_SECONDS, check_compatibility=False
            )
        except ValueError as error:
            message = f"`{url}` is no address of a server: {error}."
            raise StoreError(message, store=url, hint="Write it as `http://HOST:6333`.") from error
        self._received_bytes = 0  # with the last answer
        self._client.http.client.add_middleware(self._released)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    # Collections

    def collections(self) -> list[str]:
        """The names of all collections."""
        return [each.name for each in self._ask(lambda client: client.get_collections()).collections]

    def aliases(self) -> dict[str, str]:
        """All aliases, with the collections that they stand for."""
        found = self._ask(lambda client: client.get_aliases()).aliases
        return {each.alias_name: each.collection_name for each in found}

    def change_aliases(self, made: Mapping[str, str], deleted: Iterable[str] = ()) -> None:
        """Let aliases stand for collections, whatever they stood for, and delete others: all in one request."""
        models = self._models
        actions = [
            models.CreateAliasOperation(create_alias=models.CreateAlias(alias_name=alias, collection_name=collection))
            for alias, collection in made.items()
        ]
        actions += [models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)) for alias in deleted]
        if actions:
            self._ask(lambda client: client.update_collection_aliases(actions))

    def delete(self, name: str) -> None:
        """Delete a collection and its aliases, if there is one of that name."""
        if name in self.collections():
            self._ask(lambda client: client.delete_collection(name))

    def info(self, name: str) -> Any:
        """The settings of a collection, as the client has them."""
        return self._ask(lambda client: client.get_collection(name))

    def create(self, name: str, size: int, distance: str, metadata: Mapping[str, Any]) -> None:
        """Make a collection with the settings that the server has for all, instead of one of that name.

        Args:
            name: Of the new one.
            size: Coordinates of its vectors, which have no name.
            distance: How it compares them, in Qdrant's words.
            metadata: Of the new one.
        """
        params = self._models.VectorParams(size=size, distance=self._models.Distance(distance))
        self._create(name, vectors_config=params, metadata=dict(metadata))

    def create_like(self, name: str, known: Any, vectors: Any, metadata: Mapping[str, Any]) -> None:
        """Make a collection with all settings of another one, instead of one of that name.

        Args:
            name: Of the new one.
            known: What `info` says of the other.
            vectors: The parameters of its dense vectors.
            metadata: Of the new one.
        """
        models, config, params = self._models, known.config, known.config.params
        own = ("shard_number", "replication_factor", "write_consistency_factor", "on_disk_payload", "payload")
        given = {each: getattr(params, each, None) for each in (*own, "id_tracker")}
        given |= {
            "hnsw_config": _as(models.HnswConfigDiff, config.hnsw_config),
            "optimizers_config": _as(models.OptimizersConfigDiff, config.optimizer_config),
            "wal_config": _as(models.WalConfigDiff, config.wal_config),
            "strict_mode_config": _as(models.StrictModeConfig, getattr(config, "strict_mode_config", None)),
            "quantization_config": config.quantization_config,
            "sparse_vectors_config": params.sparse_vectors,
            "metadata": dict(metadata) or None,
        }
        set_ones = {each: value for each, value in given.items() if value is not None}
        self._create(name, vectors_config=vectors, **set_ones)
        later = {
            each: value
            for each in ("read_fan_out_factor", "read_fan_out_delay_ms")
            if (value := getattr(params, each, None)) is not None
        }
        if later:
            diff = models.CollectionParamsDiff(**later)
            self._ask(lambda client: client.update_collection(name, collection_params=diff))
        for field, index in known.payload_schema.items():  # before points: graphs take them into account
            self._create_index(name, field, index.params or index.data_type)

    def _create(self, name: str, **settings: Any) -> None:
        from qdrant_client.http.exceptions import UnexpectedResponse

        asked = 0

        def create(client: Any) -> None:
            nonlocal asked
            asked += 1
            try:
                client.create_collection(name, **settings)
            except UnexpectedResponse as error:
                if asked == 1 or error.status_code != _CONFLICT:
                    raise
                # An earlier request made it, and only its answer was lost.

        self.delete(name)
        self._ask(create)

    def _create_index(self, name: str, field: str, schema: Any) -> None:
        self._ask(lambda client: client.create_payload_index(name, field_name=field, field_schema=schema, wait=True))

    def wait_until_indexed(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Return when a server has indexed what it was given, or has taken very long."""
        until, pause = clock() + _INDEXING_SECONDS, 0.1
        while str(self.info(name).status) == "yellow" and clock() < until:
            self._sleep(pause)
            pause = min(2 * pause, 5.0)

    # Points

    def count(self, name: str, vector: str | None = None) -> int:
        """How many points a collection has, or of them those with a vector of some name."""
        points = None if vector is None else self._filter(must=[self._has(vector)])
        return int(self._ask(lambda client: client.count(name, count_filter=points, exact=True)).count)

    def without_text(self, name: str, key: str, most: int) -> tuple[int, list[str]]:
        """How many points have nothing under a key of their payload, and the ids of some."""
        models, key = self._models, key if _IS_PLAIN(key) else f'"{key}"'  # `a.b` would be `b` in `a`
        empty = [
            models.IsEmptyCondition(is_empty=models.PayloadField(key=key)),
            models.IsNullCondition(is_null=models.PayloadField(key=key)),
            models.FieldCondition(key=key, match=models.MatchValue(value="")),
        ]
        node = models.IsEmptyCondition(is_empty=models.PayloadField(key="_node_content"))
        points = self._filter(must=[self._filter(should=empty), node])
        try:
            count = int(self._ask(lambda client: client.count(name, count_filter=points, exact=True)).count)
            if not count:
                return 0, []
            found, _ = self._ask(lambda client: client.scroll(name, points, limit=most, with_payload=False))
        except StoreError:  # a server in strict mode may refuse to look at what is not indexed
            return 0, []
        return count, [str(each.id) for each in found]

    def points(
        self,
        name: str,
        after: int | str | None = None,
        *,
        vectors: bool | Sequence[str] = False,
        having: str | None = None,
        lacking: str | None = None,
        page: int = _READ_POINTS,
    ) -> Iterator[Point]:
        """Points in the order of their ids.

        Args:
            name: Of the collection.
            after: The id after which to begin; it need no longer be there.
            vectors: Whether, or which, vectors are read with them.
            having: Only points that have a vector of this name.
            lacking: Only points that have none of this name.
            page: Points of one request, at most.
        """
        conditions: dict[str, Any] = {}
        if having is not None:
            conditions["must"] = [self._has(having)]
        if lacking is not None:
            conditions["must_not"] = [self._has(lacking)]
        chosen = self._filter(**conditions) if conditions else None
        most, offset = min(page, self._limit(name, "max_query_limit")), after
        page = min(most, _FIRST_POINTS)
        while True:
            found, offset = self._page(name, chosen, offset, vectors, page)
            page = max(1, min(most, page * _READ_BYTES // max(1, self._received_bytes)))
            for each in found:
                if each.id != after:
                    yield Point(id=each.id, payload=each.payload or {}, vectors=vectors_of(each))
            if offset is None:
                return

    def _page(self, name: str, chosen: Any, offset: Any, vectors: Any, page: int) -> Any:
        # The next offset is the id at which the next page begins: what is added or deleted meanwhile moves nothing.
        return self._ask(
            lambda client: client.scroll(
                name, scroll_filter=chosen, offset=offset, limit=page, with_payload=True, with_vectors=vectors
            )
        )

    def find(self, name: str, ids: Sequence[int | str], vectors: bool | Sequence[str]) -> dict[str, Point]:
        """Points by their ids; those that are not there are left out."""
        found: dict[str, Point] = {}
        for first in range(0, len(ids), _READ_POINTS):
            part = self._find(name, ids[first : first + _READ_POINTS], vectors)
            found |= {str(each.id): Point(id=each.id, payload={}, vectors=vectors_of(each)) for each in part}
        return found

    def _find(self, name: str, ids: Sequence[int | str], vectors: bool | Sequence[str]) -> Any:
        return self._ask(lambda client: client.retrieve(name, ids=list(ids), with_payload=False, with_vectors=vectors))

    def digest(self, name: str, vectors: bool | Sequence[str]) -> str:
        """A digest of all points; it takes as long as reading them."""
        whole = hashlib.blake2b(digest_size=16)
        for point in self.points(name, vectors=vectors):
            whole.update(point.canonical())
        return whole.hexdigest()

    def _limit(self, name: str, *settings: str) -> int:
        """The smallest of some limits that a collection has in strict mode, for points of one request."""
        strict = getattr(self.info(name).config, "strict_mode_config", None)
        known = [getattr(strict, each, None) for each in settings] if getattr(strict, "enabled", False) else []
        return min((each for each in known if each), default=sys.maxsize)

    def write(self, name: str, points: Iterable[Point]) -> None:
        """Write points, and wait until they are written; they replace those of the same ids."""
        most = min(_WRITTEN_POINTS, self._limit(name, "upsert_max_batchsize", "write_rate_limit"))
        waiting: list[Any] = []
        size = 0
        for point in points:
            made = self._models.PointStruct.model_construct(
                id=point.id, vector=self._vector(point.vectors), payload=dict(point.payload)
            )
            if waiting and (size + point.weight_bytes > _WRITTEN_BYTES or len(waiting) >= most):
                self._write(name, waiting)
                waiting, size = [], 0
            waiting.append(made)
            size += point.weight_bytes
        if waiting:
            self._write(name, waiting)

    def _write(self, name: str, points: list[Any]) -> None:
        self._ask(lambda client: client.upsert(name, points=points, wait=True))

    def _vector(self, vectors: Mapping[str, Any]) -> Any:
        made = {
            name: self._models.SparseVector(**vector) if isinstance(vector, Mapping) else vector
            for name, vector in vectors.items()
        }
        return made[UNNAMED] if made.keys() == {UNNAMED} else made

    def _filter(self, **conditions: Any) -> Any:
        return self._models.Filter(**conditions)

    def _has(self, vector: str) -> Any:
        return self._models.HasVectorCondition(has_vector=vector)

    def _ask(self, call: Callable[[Any], T]) -> T:
        """Ask, and ask again where there was no answer, or where it has to be later."""
        from qdrant_client.common.client_exceptions import QdrantException
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        pauses, patience = iter(_PAUSES_SECONDS), _LIMITED_TIMES
        failure: Exception
        while True:
            try:
                return call(self._client)
            except UnexpectedResponse as error:
                if (error.status_code or 0) < _SERVER_FAILURE:
                    raise self._refused(error.status_code or 0, error.content) from error
                failure, reason = error, f"it failed with {error.status_code}"
            except QdrantException as error:  # of which there is one that says when, and one that cannot read that
                failure, reason = error, "too much is asked of it"
                patience -= 1
                if patience > 0:
                    self._sleep(min(getattr(error, "retry_after_s", 1), _LONGEST_PAUSE_SECONDS))
                    continue
            except json.JSONDecodeError as error:
                raise self._unknown() from error
            except ResponseHandlingException as error:
                if isinstance(error.source, ValueError):
                    raise self._unknown() from error
                failure, reason = error, str(error.source) or type(error.source).__name__
            pause = next(pauses, None)
            if pause is None:
                raise StoreBusyError(
                    f"`{self.url}` does not answer: {reason}.",
                    store=self.url,
                    hint="See to the server, and run it again: it goes on where it stopped.",
                ) from failure
            self._sleep(pause)

    def _released(self, request: Any, send: Callable[[Any], Any]) -> Any:
        """An answer that is freed with its last reader.

        httpx lets an answer and the stream that it came from hold each other, so that pages of vectors wait for the
        garbage collector, which sees few objects in them and comes late.
        """
        response = send(request)
        self._received_bytes = len(response.content)
        response.stream = None  # it was read to its end
        return response

    def _unknown(self) -> StoreError:
        return StoreError(f"What answers at `{self.url}` is no Qdrant.", store=self.url)

    def _refused(self, status: int, content: bytes) -> StoreError:
        if status in _FORBIDDEN:
            hint = "Set QDRANT_API_KEY to a key that may read and write the collection."
            return StoreError(f"`{self.url}` wants another key (HTTP {status}).", store=self.url, hint=hint)
        try:
            reason = str(json.loads(content)["status"]["error"])
        except (ValueError, KeyError, TypeError):
            reason = f"HTTP {status}"
        gone = "Look whether a program has deleted the collection, or made it anew." if status == _NOT_FOUND else None
        return StoreError(f"`{self.url}` refuses: {reason}", store=self.url, hint=gone)


def _as(model: Any, known: Any) -> Any:
    """Settings that were read, as settings to be written."""
    if known is None:
        return None
    values = known.model_dump(exclude_none=True)
    return model(**{name: value for name, value in values.items() if name in model.model_fields})
