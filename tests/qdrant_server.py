"""A server that speaks Qdrant's REST protocol on a socket of this machine, over the client's own local mode in memory.

    python -m tests.qdrant_server            prints its address, and serves until its input ends

No package brings the real server. What is here is what the client and this project ask: collections with all their
settings, aliases, payload indexes, points by id and in their order, counts, searches, a key, and faults on demand. Some
rules of the real one that the local mode does not have are added: vectors that are normalised already stay as they are,
what is sent has to be below 32 MiB, the limits of strict mode for points of one request, and how numbers are read.
"""

import contextlib
import json
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import numpy as np
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python
from qdrant_client import QdrantClient, models

MOST_BYTES = 32 * 1024 * 1024
_TOLERANCE = 1e-6  # of a length that counts as 1

Handler = Callable[..., Any]


class _RefusedError(Exception):
    def __init__(self, status: int, reason: str, *, retry_after: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after


class Backend:
    """What a server knows."""

    def __init__(self) -> None:
        self.client: Any = QdrantClient(":memory:")
        self.settings: dict[str, models.CreateCollection] = {}
        self.indexes: dict[str, dict[str, Any]] = {}
        self.lock = threading.Lock()
        self._sorted: dict[str, tuple[int, list[Any]]] = {}

    @property
    def local(self) -> Any:
        return self.client._client

    def real(self, name: str) -> str:
        found = self.local.aliases.get(name, name)
        if found not in self.local.collections:
            raise _RefusedError(404, f"Not found: Collection `{name}` doesn't exist!")
        return str(found)

    # Collections

    def get_collections(self) -> Any:
        return self.client.get_collections()

    def get_collection(self, name: str) -> Any:
        real = self.real(name)
        known, made = self.client.get_collection(real), self.settings[real]
        params = known.config.params
        for each in ("shard_number", "replication_factor", "write_consistency_factor", "on_disk_payload"):
            value = getattr(made, each)
            setattr(params, each, value if value is not None else {"on_disk_payload": True}.get(each, 1))
        params.sharding_method = made.sharding_method
        config = known.config
        for part, given in (
            (config.hnsw_config, made.hnsw_config),
            (config.optimizer_config, made.optimizers_config),
            (config.wal_config, made.wal_config),
        ):
            for each, value in (given.model_dump(exclude_none=True) if given else {}).items():
                setattr(part, each, value)
        config.quantization_config = made.quantization_config
        if made.strict_mode_config is not None:
            config.strict_mode_config = models.StrictModeConfigOutput(**made.strict_mode_config.model_dump())
        known.payload_schema = {
            field: models.PayloadIndexInfo(
                data_type=models.PayloadSchemaType(getattr(schema, "type", schema)),
                params=None if isinstance(schema, str) else schema,
                points=0,
            )
            for field, schema in self.indexes.get(real, {}).items()
        }
        return known

    def exists(self, name: str) -> Any:
        return {"exists": self.client.collection_exists(name)}

    def create(self, name: str, body: bytes) -> Any:
        made = models.CreateCollection.model_validate_json(body)
        if name in self.local.collections or name in self.local.aliases:
            raise _RefusedError(409, f"Wrong input: Collection `{name}` already exists!")
        self.client.create_collection(
            name, made.vectors or {}, sparse_vectors_config=made.sparse_vectors, metadata=made.metadata
        )
        self.settings[name], self.indexes[name] = made, {}
        return True

    def update(self, name: str, body: bytes) -> Any:
        changes = models.UpdateCollection.model_validate_json(body)
        return self.client.update_collection(self.real(name), metadata=changes.metadata)

    def delete(self, name: str) -> Any:
        self.indexes.pop(name, None)
        self._sorted.pop(name, None)
        return self.client.delete_collection(name)

    def get_aliases(self) -> Any:
        return self.client.get_aliases()

    def change_aliases(self, body: bytes) -> Any:
        return self.client.update_collection_aliases(models.ChangeAliasesOperation.model_validate_json(body).actions)

    def index(self, name: str, body: bytes) -> Any:
        asked = models.CreateFieldIndex.model_validate_json(body)
        self.indexes[self.real(name)][asked.field_name] = asked.field_schema
        return _DONE

    # Points

    def upsert(self, name: str, body: bytes) -> Any:
        points = [
            models.PointStruct.model_validate(each) for each in json.loads(body, parse_float=read_number)["points"]
        ]
        real = self.real(name)
        self._check_limit(real, "upsert_max_batchsize", len(points), 400)
        self._check_limit(real, "write_rate_limit", len(points), 429)
        self.client.upsert(real, points)
        collection = self.local.collections[real]
        for point in points:
            named: dict[str, Any] = point.vector if isinstance(point.vector, dict) else {"": point.vector}
            for each, vector in named.items():
                length = float(np.linalg.norm(vector)) if each in collection.vectors else 0.0
                if abs(length**2 - 1) <= _TOLERANCE:
                    collection.vectors[each][collection.ids[_own(point.id)]] = np.asarray(vector, np.float32)
        return _DONE

    def retrieve(self, name: str, body: bytes) -> Any:
        asked = models.PointRequest.model_validate_json(body)
        return self.client.retrieve(
            self.real(name), asked.ids, with_payload=asked.with_payload, with_vectors=asked.with_vector
        )

    def scroll(self, name: str, body: bytes) -> Any:
        asked = models.ScrollRequest.model_validate_json(body)
        self._check_limit(self.real(name), "max_query_limit", asked.limit or 10, 400)
        if (vectors := _vectors_asked_for(asked.filter)) is not None:
            return self._page(self.real(name), asked, *vectors)
        found, after = self.client.scroll(
            self.real(name),
            scroll_filter=asked.filter,
            limit=asked.limit or 10,
            offset=asked.offset,
            with_payload=asked.with_payload,
            with_vectors=asked.with_vector,
        )
        return {"points": found, "next_page_offset": after}

    def _check_limit(self, real: str, setting: str, asked: int, status: int) -> None:
        strict = self.settings[real].strict_mode_config
        most = getattr(strict, setting) if strict is not None and strict.enabled else None
        if most is not None and asked > most:
            raise _RefusedError(status, f"Limit exceeded {asked} > {most} of {setting}")

    def _page(self, real: str, asked: models.ScrollRequest, having: list[str], lacking: list[str]) -> Any:
        """As the local mode does it, without sorting all points for each page."""
        collection = self.local.collections[real]
        known = self._sorted.get(real)
        if known is None or known[0] != len(collection.ids):
            known = self._sorted[real] = len(collection.ids), sorted(collection.ids, key=_order)
        ids, limit = known[1], asked.limit or 10
        first = 0 if asked.offset is None else bisect_left(ids, _order(_own(asked.offset)), key=_order)
        page: list[Any] = []
        for place in range(first, len(ids)):
            index = collection.ids.get(ids[place])
            if index is None or collection.deleted[index]:
                continue
            has = collection._calculate_has_vector(index)
            if all(has.get(each) for each in having) and not any(has.get(each) for each in lacking):
                page.append(ids[place])
            if len(page) > limit:
                break
        found = collection.retrieve(page[:limit], asked.with_payload, asked.with_vector or False)
        return {"points": found, "next_page_offset": page[limit] if len(page) > limit else None}

    def count(self, name: str, body: bytes) -> Any:
        asked = models.CountRequest.model_validate_json(body)
        return self.client.count(self.real(name), count_filter=asked.filter)

    def query(self, name: str, body: bytes) -> Any:
        asked = models.QueryRequest.model_validate_json(body)
        return self.client.query_points(
            self.real(name),
            query=asked.query,
            using=asked.using,
            prefetch=asked.prefetch,
            query_filter=asked.filter,
            limit=asked.limit or 10,
            with_payload=True if asked.with_payload is None else asked.with_payload,
            with_vectors=asked.with_vector or False,
        )

    def delete_points(self, name: str, body: bytes) -> Any:
        selector: Any = TypeAdapter(models.PointsSelector).validate_json(body)
        self.client.delete(self.real(name), selector)
        self._sorted.pop(self.real(name), None)
        return _DONE

    def set_payload(self, name: str, body: bytes) -> Any:
        asked = models.SetPayload.model_validate(json.loads(body, parse_float=read_number))
        self.client.set_payload(self.real(name), asked.payload, points=asked.points or [])
        return _DONE


def _vectors_asked_for(asked: Any) -> tuple[list[str], list[str]] | None:
    """The vectors that points have to have, and to lack; `None` if something else is asked for."""
    conditions = asked or models.Filter()
    must, must_not = list(conditions.must or ()), list(conditions.must_not or ())
    if conditions.should or not all(isinstance(each, models.HasVectorCondition) for each in (*must, *must_not)):
        return None
    return [each.has_vector for each in must], [each.has_vector for each in must_not]


def _order(point_id: Any) -> tuple[str, int]:
    """Numbers first, then UUIDs."""
    return (point_id, 0) if isinstance(point_id, str) else ("", point_id)


def read_number(text: str) -> float:
    """A number with a point or an exponent, as `serde_json` reads it: its digits, scaled by a power of ten."""
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    power = int(exponent or 0) - len(fraction)
    number = float(int(whole + fraction))
    return number * float(f"1e{power}") if power >= 0 else number / float(f"1e{-power}")


def _own(point_id: Any) -> int | str:
    """An id as the server spells it."""
    return point_id if isinstance(point_id, int) else str(UUID(str(point_id)))


_DONE = {"operation_id": 0, "status": "completed"}
_ROUTES: dict[tuple[str, str], str] = {
    ("GET", "collections"): "get_collections",
    ("GET", "aliases"): "get_aliases",
    ("POST", "collections/aliases"): "change_aliases",
    ("GET", "collections/*"): "get_collection",
    ("PUT", "collections/*"): "create",
    ("PATCH", "collections/*"): "update",
    ("DELETE", "collections/*"): "delete",
    ("GET", "collections/*/exists"): "exists",
    ("PUT", "collections/*/index"): "index",
    ("PUT", "collections/*/points"): "upsert",
    ("POST", "collections/*/points"): "retrieve",
    ("POST", "collections/*/points/scroll"): "scroll",
    ("POST", "collections/*/points/count"): "count",
    ("POST", "collections/*/points/query"): "query",
    ("POST", "collections/*/points/delete"): "delete_points",
    ("POST", "collections/*/points/payload"): "set_payload",
}


_WRITING = frozenset(
    ("change_aliases", "create", "delete", "delete_points", "index", "set_payload", "update", "upsert")
)


class Server(ThreadingHTTPServer):
    """A server.

    Attributes:
        url: Its address.
        log: What was asked, in its order: the names of the methods of `Backend`, and of what.
        written: How often something was written. It answers with that when asked for `/written`.
        faults: What to do instead of the next requests of a kind: a status to answer with, or seconds to be silent.
        lost: Kinds of requests of which the next one is done, and its answer is lost.
        before: Called with the name of a method, before it is called.
    """

    daemon_threads = True

    def __init__(self, api_key: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.api_key = api_key
        self.backend = Backend()
        self.log: list[tuple[float, str, str]] = []
        self.written = 0
        self.faults: dict[str, list[int | float]] = {}
        self.lost: set[str] = set()
        self.before: Callable[[str], None] = lambda method: None

    def kinds(self) -> list[str]:
        """What was asked, without the time and the place."""
        return [method for _, method, _ in self.log]


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        retry_after = ""
        try:
            status, content = 200, {"result": self._result(body), "status": "ok", "time": 0.0}
        except _RefusedError as error:
            status, content = error.status, {"status": {"error": str(error)}, "time": 0.0}
            retry_after = error.retry_after
        except ValueError as error:
            status, content = 400, {"status": {"error": f"Wrong input: {error}"}, "time": 0.0}
        except ConnectionError:
            self.close_connection = True
            return
        data = json.dumps(to_jsonable_python(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client did not wait, or was killed
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 -- `http.server` looks for these names

    def _result(self, body: bytes) -> Any:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        name = parts[1] if len(parts) > 1 and parts != ["collections", "aliases"] else ""
        pattern = "/".join(["*" if at == 1 and name else part for at, part in enumerate(parts)])
        if pattern == "written":
            return self.server.written
        method = _ROUTES.get((self.command, pattern))
        if method is None:
            raise _RefusedError(404, f"nothing is at {self.command} {self.path}")
        if self.server.api_key is not None and self.headers.get("api-key") != self.server.api_key:
            raise _RefusedError(401, "Must provide an API key or an Authorization bearer token")
        if len(body) > MOST_BYTES:
            raise _RefusedError(413, f"JSON payload ({len(body)} bytes) is larger than allowed (limit: {MOST_BYTES})")
        self._fail(method)
        self.server.before(method)
        arguments = [*([name] if name else []), *([body] if body else [])]
        with self.server.backend.lock:
            self.server.log.append((time.monotonic(), method, name))
            result = getattr(self.server.backend, method)(*arguments)
            self.server.written += method in _WRITING
        if method in self.server.lost:
            self.server.lost.remove(method)
            raise ConnectionAbortedError
        return result

    def _fail(self, method: str) -> None:
        waiting = self.server.faults.get(method)
        if not waiting:
            return
        fault = waiting.pop(0)
        if isinstance(fault, float):
            time.sleep(fault)
            raise ConnectionAbortedError
        raise _RefusedError(fault, "told to fail", retry_after="0" if fault == 429 else "")

    def log_message(self, format: str, *args: Any) -> None: ...


@contextlib.contextmanager
def serving(api_key: str | None = None) -> Iterator[Server]:
    """A server in threads of this process."""
    with Server(api_key) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    with serving() as running:
        print(running.url, flush=True)  # noqa: T201 -- the parent reads it
        sys.stdin.read()
