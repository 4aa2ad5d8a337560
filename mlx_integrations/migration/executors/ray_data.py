"""Embeds on a Ray cluster: one stream of Ray Data, for as long as the executor is open.

    batch -> pieces -> desk (an actor) -> read task -> actors, each with its own model -> answers -> batch

A batch is cut into pieces, the long texts first, so that all actors have about as much to do, and put together again.
The next batch is sent when this one is complete: what is on its way when the driver dies is one batch, which is not in
the journal and is embedded again. Nothing of Ray's is kept, and none of its checkpoints is used.

The desk and the read task take no CPU: the actors of a small cluster leave them none, and all would wait for ever.
"""

import contextlib
import logging
import os
import pickle
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from mlx_integrations.errors import ClusterError, MissingExtraError, MLXIntegrationsError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.executors.protocol import Executor, LongTexts, Vectors
from mlx_integrations.migration.executors.recipe import Recipe

__all__ = ["Cluster", "RayExecutor"]

_LEAST_TEXTS, _MOST_TEXTS = 16, 256
"""Of a piece: fewer cost more in sending than in embedding, more leave actors idle at the end of a batch."""
_PIECES_PER_ACTOR: Final = 4
_MOST_TRIES: Final = 3
"""Of a piece that fails, or whose actor dies of it. Ray itself would try for ever."""
_IN_FLIGHT: Final = 2
"""Pieces that an actor is given at a time: while it embeds one, the next is there already."""
_LOCAL_STORE_BYTES: Final = 256 * 1024**2
LOCAL: Final = "local"
_CLIENT: Final = "ray://"
_SETTLE_SECONDS: Final = 3.0
"""What ended just now is counted as running for a moment."""
_KNOCK_SECONDS: Final = 10
_BYTES_FROM: Final = 1e6
"""Resources of more are memory, which nobody asked for."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where to embed, and with how much.

    Attributes:
        address: Of a running cluster: `auto` for that of this machine, or such as `10.0.0.1:6379`; `local` starts one
            for this program. One that has called `ray.init` before goes on with what it has.
        actors: How many models are loaded at most, over all machines: as many as there is room for when it begins.
        cpus: Cores of an actor.
        gpus: GPUs of an actor; parts of one are fine.
        resources: Other resources of an actor, by the names that the cluster has for them.
        runtime_env: What actors need to find, as for `ray.init`: environment variables, files, packages.
        start_seconds: How long to wait until the cluster has room for an actor; a cluster that grows takes minutes.
    """

    address: str = LOCAL
    actors: int = 1
    cpus: float = 1
    gpus: float = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    start_seconds: float = 600

    def __post_init__(self) -> None:
        if self.actors < 1:
            raise ValueError(f"a cluster of {self.actors} actors embeds nothing")

    def options(self) -> dict[str, Any]:
        """What each actor asks Ray for."""
        asked: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus, "resources": dict(self.resources)}
        return {**asked, "runtime_env": dict(self.runtime_env)} if self.runtime_env else asked

    def needs(self) -> dict[str, float]:
        """What each actor takes, by Ray's names."""
        return {"CPU": self.cpus, "GPU": self.gpus, **self.resources}


class RayExecutor:
    """Embeds texts as documents on a Ray cluster. Implements `Executor`; use it in a `with` statement.

    Every actor builds the model for itself and shows that it makes the same vectors as the first one.

    Args:
        recipe: Makes the model on each machine.
        cluster: Where, and with how much.

    Raises:
        MissingExtraError: Ray is not installed.
    """

    def __init__(self, recipe: Recipe, cluster: Cluster | None = None) -> None:
        _require_ray()
        self._recipe = recipe
        self._cluster = cluster or Cluster()
        self._stream: _Stream | None = None
        self._is_own = False
        self._fingerprint: EmbeddingFingerprint | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the actors, and Ray if it was started here. The next call starts what it needs again."""
        self._end_stream()
        if self._is_own:
            import ray

            ray.shutdown()
            self._is_own = False

    @property
    def long_texts(self) -> LongTexts:
        """What it does with texts that are longer than the model reads."""
        return self._recipe.long_texts

    def fingerprint(self) -> EmbeddingFingerprint:
        """Of the vectors that the first actor makes; every other one has to make the same.

        Raises:
            ClusterError: The cluster cannot be reached, has no room, or cannot load the model.
        """
        if self._fingerprint is None:
            (answer,) = self._ask([_Request(kind="fingerprint")])
            self._fingerprint = answer
        return self._fingerprint

    def count_long(self, texts: Sequence[str]) -> int:
        """How many of some texts are longer than the model reads."""
        pieces = _cut(texts, self._cluster.actors)
        asked = [_Request(kind="count", texts=[texts[at] for at in piece]) for piece in pieces]
        return sum(self._ask(asked))

    def embed(self, batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
        """One `Vectors` for each batch; nothing is read ahead.

        Raises:
            ClusterError: An actor died again and again, its machine makes other vectors, or the model cannot be used.
        """
        expected = self.fingerprint()
        for texts in batches:
            pieces = _cut(texts, self._cluster.actors)
            asked = [_Request(texts=[texts[at] for at in piece], expected=expected) for piece in pieces]
            yield _joined(len(texts), expected.dimensions, pieces, self._ask(asked))

    def _ask(self, requests: Sequence["_Request"]) -> list[Any]:
        """What becomes of some requests, in their order; everything is ended if that fails."""
        if not requests:
            return []
        try:
            if self._stream is None:
                self._is_own |= _connect(self._cluster)
                self._stream = _Stream(self._recipe, self._cluster)
            return self._stream.ask(requests)
        except _ray_errors() as error:
            self._end_stream()
            raise ClusterError(
                f"The cluster has given up: {_first_line(error)}.",
            ) from error
        except BaseException:
            self._end_stream()
            raise

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What an actor is asked."""

    kind: str = "embed"
    texts: Sequence[str] = ()
    expected: EmbeddingFingerprint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """What went wrong on another machine."""

    machine: str
    error: MLXIntegrationsError
    tries: int

    def told(self) -> ClusterError:
        return ClusterError(f"`{self.machine}` cannot embed: {self.error.message}", hint=self.error.hint or None)


class _Embedder:
    """Runs in an actor: one model, which answers requests."""

    def __init__(self, recipe: Recipe, desk: Any) -> None:
        self._recipe = recipe
        self._desk = desk
        self._executor: Executor | None = None
        self._checked: EmbeddingFingerprint | None = None

    def __call__(self, table: Any) -> Any:
        """A table of one request becomes a table of one answer."""
        import pyarrow as pa
        import ray

        request: _Request = pickle.loads(table["content"][0].as_py())
        tries = ray.get(self._desk.try_once_more.remote(table["number"][0].as_py()))
        try:
            if tries > _MOST_TRIES:
                raise _ends_actors(request)
            answer: Any = self._answer(request)
        except MLXIntegrationsError as error:
            answer = _Failure(machine=_machine(), error=error, tries=tries)
        content = pa.array([pickle.dumps(answer, protocol=5)], pa.large_binary())
        return pa.table({"number": table["number"], "content": content})

    def _answer(self, request: _Request) -> Any:
        if self._executor is None:
            self._executor = self._recipe.build()
        if request.kind == "fingerprint":
            return self._executor.fingerprint()
        if request.kind == "count":
            return self._executor.count_long(request.texts)
        if request.expected is not None and request.expected != self._checked:
            different = request.expected.differences(self._executor.fingerprint())
            if different:
                raise _other_vectors(different)
            self._checked = request.expected
        return next(iter(self._executor.embed([request.texts])))


def _ends_actors(request: _Request) -> ClusterError:
    return ClusterError(
        f"{_MOST_TRIES} actors have died of {len(request.texts)} texts, such as `{(*request.texts, '')[0][:80]}`.",
        hint="Give actors more memory. If it is a text that they die of, take its row out of the store.",
    )


def _other_vectors(different: Sequence[str]) -> ClusterError:
    names = ", ".join(f"`{name}`" for name in different)
    return ClusterError(
        f"Its vectors are not those of the first machine: {names} differ.",
        hint="Every machine needs the same model: the same revision, the same files.",
    )


class _Stream:
    """A running stream of Ray Data, with its driver's end in hand."""

    def __init__(self, recipe: Recipe, cluster: Cluster) -> None:
        import ray
        from ray.data import ActorPoolStrategy, DataContext, read_datasource

        _wait_for_room(cluster)
        # On this machine, which everything depends on anyway.
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        self._desk: Any = ray.remote(_Desk).options(num_cpus=0, label_selector=here).remote()
        self._number = 0
        context = DataContext.get_current().copy()
        context.enable_progress_bars = False
        # A row is a request, and is handed on by itself: Ray would gather 128 MB of them first.
        context.target_min_block_size = context.target_max_block_size = 1
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # its talk would go through the progress bar
        with DataContext.current(context):
            read = read_datasource(
                _source(self._desk),
                num_cpus=0,
                override_num_blocks=1,
                label_selector=here,
            )
            answers = read.map_batches(
                _Embedder,
                fn_constructor_args=(recipe, self._desk),
                batch_size=1,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=_that_fit(cluster), max_tasks_in_flight_per_actor=_IN_FLIGHT),
                **cluster.options(),
            )
            self._answers = iter(answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))

    def ask(self, requests: Sequence[_Request]) -> list[Any]:
        """Send some requests, and wait for all their answers."""
        import ray

        first, self._number = self._number, self._number + len(requests)
        numbered = [(first + place, pickle.dumps(request, protocol=5)) for place, request in enumerate(requests)]
        ray.get(self._desk.put.remote(numbered))
        found: dict[int, Any] = {}
        while len(found) < len(requests):
            table = next(self._answers)
            for number, content in zip(table["number"].to_pylist(), table["content"].to_pylist(), strict=True):
                place, answer = number - first, pickle.loads(content)
                if isinstance(answer, _Failure):
                    if not answer.error.is_retryable or answer.tries >= _MOST_TRIES:
                        raise answer.told() from answer.error
                    ray.get(self._desk.put.remote([numbered[place]]))
                else:
                    found[place] = answer
        return [found[place] for place in range(len(requests))]

    def close(self) -> None:
        """End the actors."""
        import ray

        with contextlib.suppress(*_ray_errors()):
            self._answers.close()
        with contextlib.suppress(*_ray_errors()):
            ray.kill(self._desk)


class _Desk:
    """Runs in an actor: where the read task takes requests from, as they come."""

    def __init__(self) -> None:
        import asyncio

        self._waiting: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self._has_reader = False
        self._tries: dict[int, int] = {}

    async def sit_down(self) -> None:
        """Called by the read task before all else; one that is run again would wait for what the first has taken."""
        if self._has_reader:
            raise RuntimeError("the read task was ended, and what it had taken is lost")
        self._has_reader = True

    async def try_once_more(self, number: int) -> int:
        """How often a request was tried with this time; one whose actor died comes again by Ray's doing."""
        self._tries[number] = self._tries.get(number, 0) + 1
        return self._tries[number]

    async def put(self, requests: Sequence[tuple[int, bytes]]) -> None:
        """Lay down requests; earlier ones that are not among them are done with."""
        numbers = {number for number, _ in requests}
        self._tries = {number: tries for number, tries in self._tries.items() if number >= min(numbers)}
        for request in requests:
            await self._waiting.put(request)

    async def take(self) -> tuple[int, bytes]:
        return await self._waiting.get()


def _source(desk: Any) -> Any:
    """A source of Ray Data that never ends; a class of Ray's, which is not there before Ray is asked for."""
    import ray
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    def read() -> Iterator[Any]:
        import pyarrow as pa

        ray.get(desk.sit_down.remote())
        while True:
            number, content = ray.get(desk.take.remote())
            yield pa.table({"number": [number], "content": pa.array([content], pa.large_binary())})

    class Requests(Datasource):
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[Any]:
            nothing = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [ReadTask(read, nothing)]

    source: Any = Requests
    return source()


def _cut(texts: Sequence[str], actors: int) -> list[list[int]]:
    """Indices of texts as pieces of about the same length each, those with the longest texts first."""
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]), reverse=True)
    size = min(max(len(texts) // (actors * _PIECES_PER_ACTOR), _LEAST_TEXTS), _MOST_TEXTS)
    return [order[first : first + size] for first in range(0, len(order), size)]


def _joined(count: int, dimensions: int, pieces: Sequence[Sequence[int]], made: Sequence[Vectors]) -> Vectors:
    """Put the vectors of pieces in the places of their texts."""
    import numpy as np

    vectors = np.zeros((count, dimensions), np.float32)
    truncated: set[int] = set()
    refused: dict[int, str] = {}
    for piece, part in zip(pieces, made, strict=True):
        vectors[list(piece)] = part.vectors
        truncated |= {piece[at] for at in part.truncated}
        refused |= {piece[at]: why for at, why in part.refused.items()}
    return Vectors(vectors=vectors, truncated=frozenset(truncated), refused=refused)


def _require_ray() -> None:
    try:
        import pyarrow  # noqa: F401
        import ray.data  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"A cluster needs `{error.name}`.", extra="ray") from error


def _connect(cluster: Cluster) -> bool:
    """Join the cluster, or start Ray on this machine; whether Ray is ours to end."""
    import ray

    if ray.is_initialized():
        return False
    if cluster.address.startswith(_CLIENT):
        raise ClusterError(
            f"`{cluster.address}` is an address of Ray's client, through which Ray Data does not stream.",
            hint="Run it on a machine of the cluster with the address `auto`, or submit it there as a job.",
        )
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if cluster.address == LOCAL:
        # For what is started below: nothing is told to anybody, and nothing listens to other machines.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        options |= {"object_store_memory": _LOCAL_STORE_BYTES, "num_cpus": _local_cpus(cluster)}
    try:
        _knock(cluster.address)
        ray.init(cluster.address, **options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        where = "no Ray on this machine" if cluster.address == LOCAL else f"no Ray cluster at `{cluster.address}`"
        raise ClusterError(
            f"There is {where}: {_first_line(error)}.",
            hint="Start one with `ray start --head`, and name its address; `auto` finds the one of this machine.",
        ) from error
    return True


def _knock(address: str) -> None:
    """Raise `OSError` if nobody listens there: Ray itself asks for minutes."""
    import socket

    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()


def _local_cpus(cluster: Cluster) -> int:
    """Cores of a cluster that is this machine: all, or as many as were asked for."""
    return max(os.cpu_count() or 1, int(cluster.cpus * cluster.actors + 0.999))


def _wait_for_room(cluster: Cluster) -> None:
    """Return when one actor could run."""
    import ray
    from ray.exceptions import GetTimeoutError

    probe = ray.remote(_machine).options(max_retries=0, **cluster.options()).remote()
    try:
        ray.get(probe, timeout=cluster.start_seconds)
    except GetTimeoutError as error:
        ray.cancel(probe, force=True)
        has = ", ".join(f"{name} {amount:g}" for name, amount in _resources() if amount < _BYTES_FROM)
        raise ClusterError(
            f"No machine of the cluster has room for an actor after {cluster.start_seconds:g} s; all have {has}.",
            hint="Ask for less per actor, wait until others have finished, or add machines.",
        ) from error


def _ray() -> Any:
    """Ray, for what its own annotations leave out."""
    import ray

    return ray


def _resources() -> list[tuple[str, float]]:
    found: dict[str, float] = _ray().cluster_resources()
    return sorted(found.items())


def _that_fit(cluster: Cluster) -> int:
    """How many actors there is room for: those that wait would take the place of one that dies and is to come back."""
    ray = _ray()
    asked = {name: amount for name, amount in cluster.needs().items() if amount}
    if not asked:
        return cluster.actors
    places = [_times(asked, node["Resources"]) for node in ray.nodes() if node["Alive"]]
    wanted = min(cluster.actors, sum(places))
    until = time.monotonic() + _SETTLE_SECONDS
    while (free := _times(asked, ray.available_resources())) < wanted and time.monotonic() < until:
        time.sleep(_SETTLE_SECONDS / 20)
    fitting = max(1, min(wanted, free))
    if fitting < cluster.actors:
        _logger.warning("The cluster has room for %d of %d actors.", fitting, cluster.actors)
    return fitting


def _times(asked: Mapping[str, float], there: Mapping[str, float]) -> int:
    return min(int(there.get(name, 0) / amount) for name, amount in asked.items())


def _machine() -> str:
    """The name of the machine that this runs on."""
    import platform

    return platform.node()


def _ray_errors() -> tuple[type[Exception], ...]:
    from ray.data.exceptions import ExecutionTimeoutError, SystemException
    from ray.exceptions import RayError

    return RayError, SystemException, ExecutionTimeoutError


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
