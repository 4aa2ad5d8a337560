"""Kills a migration at one operation after another, for real, and looks at what is left.

    python -m tests.migration.crash CLASS FOLDER VERB POINTS RANDOM [SEED]

It forks a child for each point. The child dies by SIGKILL just before or just after its n-th call of a function that
changes files or databases: the interpreter itself tells of these calls, so the program has no hook for tests in it.
Where the system says that nothing was written since the call before, dying is the same as it was there, and done once.
Then another child looks at the store as it was left, does the same again, and looks again.

Children begin with the modules of the parent, which imports what the first of them needed: that, and one copy of the
documents for all, is most of what a point would take otherwise.
"""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from types import FrameType, GeneratorType
from typing import Any

from mlx_integrations.migration.api import gc, migrate, publish, rollback, status
from mlx_integrations.migration.contract import StoreContract, documents, snapshot
from mlx_integrations.migration.executors.protocol import Vectors
from mlx_integrations.migration.protocol import Store
from tests.migration.memory_store import InstantExecutor

ROWS, BATCH_ROWS = 60, 16
OPERATIONS = frozenset(
    "close commit execute executemany fdatasync fsync link open pwrite rename replace rmdir send symlink truncate "
    "unlink write".split()
)

QUIET = frozenset("commit execute executemany fdatasync fsync pwrite write".split())
"""Those that change nothing unless they write: into a buffer, in a transaction, or what was written already."""

HARMLESS = (str, bytes, date, io.BytesIO, io.StringIO, GeneratorType)
"""Types with methods of the same names that change nothing outside of the process."""

CLIENTS = frozenset({"psycopg.copy", "psycopg.cursor"})
"""Modules of clients that are written in Python, of whose functions the same names count."""


class LoggingExecutor(InstantExecutor):
    """Notes in a file how many texts a migration embedded, so that it is known after the process is gone."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self._log = log

    def embed(self, batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
        is_verification = isinstance(batches, list)
        for made in super().embed(batches):
            if not is_verification:
                with self._log.open("a") as file:
                    file.write(f"{len(made.vectors)}\n")
            yield made


class Scene:
    """One store in one folder, and the verb that is tried on it."""

    def __init__(self, contract: StoreContract, folder: Path, verb: str, filled: Path | None = None) -> None:
        self.contract = contract
        self.folder = folder / "store"
        self.log = folder / "embedded"
        self.verb = verb
        self.filled = filled

    def open(self) -> Store:
        return self.contract.open(self.folder)

    def prepare(self) -> None:
        """Everything that comes before the verb."""
        if self.filled is None:
            self.contract.make(self.folder, documents(ROWS))
        else:
            shutil.copytree(self.filled, self.folder)
        if self.verb in ("publish", "rollback", "gc"):
            migrate(self.open(), self.executor(), batch_rows=BATCH_ROWS, publishes=self.verb != "publish")

    def executor(self) -> LoggingExecutor:
        return LoggingExecutor(self.log)

    def act(self) -> None:
        store = self.open()
        if self.verb == "migrate":
            migrate(store, self.executor(), batch_rows=BATCH_ROWS)
        elif self.verb == "publish":
            publish(store)
        elif self.verb == "rollback":
            rollback(store)
        else:
            gc(store)

    def look(self, old: tuple[str, str], new: tuple[str, str]) -> str:
        """What the store shows; raises where that is neither the old nor the new."""
        store = self.open()
        seen, info = snapshot(store), store.describe()
        assert seen in (old, new), f"torn: {seen} is neither {old} nor {new}"
        record = info.fingerprint
        assert record is None or (seen == new and record == self.executor().fingerprint()), "another model's record"
        return "old" if seen == old else "new"

    def complete(self, old: tuple[str, str], new: tuple[str, str]) -> None:
        """Do the verb again where it was cut off, and see to it that the store is what it would have become."""
        self.look(old, new)
        if self.verb != "gc" or status(self.open()) is not None or (self.folder.parent / ".mlxi-migrate").exists():
            self.act()
        self.check_result(old, new)

    def check_result(self, old: tuple[str, str], new: tuple[str, str]) -> None:
        expected = "old" if self.verb == "rollback" else "new"
        assert self.look(old, new) == expected
        known = status(self.open())
        if self.verb == "gc":
            assert known is None
            assert {path.name for path in self.folder.parent.iterdir()} <= {"store", "embedded"}
        else:
            assert known is not None and known.phase == ("rolled back" if self.verb == "rollback" else "published")
            assert known.in_use == expected and known.embedded == ROWS
        if expected == "new":
            assert self.open().describe().fingerprint == self.executor().fingerprint()
        unique = len({each.text for each in documents(ROWS)})
        made = sum(map(int, self.log.read_text().split())) if self.log.exists() else unique
        assert made <= unique + BATCH_ROWS, f"{made} texts were embedded instead of {unique}"


def _is_operation(frame: FrameType, event: str, argument: Any) -> bool:
    if event in ("c_call", "c_return"):
        return getattr(argument, "__name__", "") in OPERATIONS and not isinstance(argument.__self__, HARMLESS)
    return frame.f_code.co_name in OPERATIONS and frame.f_globals.get("__name__", "") in CLIENTS


class Writes:
    """Tells how often this process has written, as far as its system does."""

    def __init__(self) -> None:
        self._file = os.open("/proc/self/io", os.O_RDONLY) if sys.platform == "linux" else -1

    def count(self) -> int | None:
        if self._file < 0:
            return None
        told = os.pread(self._file, 4096, 0).split()
        return int(told[told.index(b"syscw:") + 1])


def different_points(action: Callable[[], None], committed: Callable[[], Any] | None) -> tuple[int, list[int]]:
    """Call something; how many operations it is, and those at which something was written since the one before.

    Args:
        action: Is called once.
        committed: Tells by another value each time that a server has taken something from a client; without it, every
            call of a client is taken for such a time.
    """
    writes, found, seen = Writes(), list[int](), 0
    before: Any = None

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal before, seen
        if _is_operation(frame, event, argument):
            seen += 1
            now = (writes.count(), committed and committed())
            is_of_client = not event.startswith("c_")
            name = "" if is_of_client else getattr(argument, "__name__", "")
            is_quiet = name in QUIET if committed is None else is_of_client or name in QUIET or name == "send"
            if now[0] is None or now != before or not is_quiet:
                if committed is not None and seen > 1 and seen - 1 not in found[-1:]:
                    found.append(seen - 1)  # a server may take what it was sent after its client is gone
                found.append(seen)
            before = now

    sys.setprofile(watch)
    try:
        action()
    finally:
        sys.setprofile(None)
    return seen, found


def counted(action: Callable[[], None], dies_at: int | None) -> int:
    """Call something; die at the n-th operation, or count them all."""
    seen = 0

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal seen
        if _is_operation(frame, event, argument):
            seen += 1
            if seen == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(watch)
    try:
        action()
    finally:
        sys.setprofile(None)
    return seen


def in_child(action: Callable[[], Any], kill_after_seconds: float | None = None) -> tuple[int, str]:
    """Run something in a process of its own; its exit status, and what it returned or raised, as JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            answer, code = json.dumps(action()), 0
        except BaseException:  # noqa: BLE001 -- told to the parent
            answer, code = traceback.format_exc(), 1
        with os.fdopen(writing, "w") as file:
            file.write(answer)
        os._exit(code)
    os.close(writing)
    if kill_after_seconds is not None:
        time.sleep(kill_after_seconds)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading) as file:
        answer = file.read()
    return os.waitpid(child, 0)[1], answer


def needed(contract: StoreContract, folder: Path) -> list[str]:
    """The modules that the verbs and the looks of a scene import."""
    scene = Scene(contract, folder, "migrate")
    scene.prepare()
    for scene.verb in ("migrate", "rollback", "gc"):
        scene.act()
        snapshot(scene.open())
    return sorted(sys.modules)


def import_all(names: Iterable[str]) -> None:
    """Import what can be imported by itself."""
    for name in names:
        if name not in sys.modules:
            with contextlib.suppress(Exception):  # one that is made up at run time, or made by another one
                __import__(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a verb is when nobody kills it.

    Attributes:
        operations: How many operations.
        points: Those at which dying may differ from dying at the one before.
        seconds: How long they take.
    """

    operations: int
    points: Sequence[int]
    seconds: float

    @staticmethod
    def of(action: Callable[[], None], committed: Callable[[], Any] | None = None) -> "Course":
        began = time.monotonic()
        count, points = different_points(action, committed)
        return Course(operations=count, points=points, seconds=time.monotonic() - began)

    def deaths(self, points: int, moments: int, seed: int) -> list[tuple[int | None, float | None]]:
        """Where or when to die: at so many points, or at all with 0, and at so many random times."""
        chance = random.Random(seed)
        chosen = list(self.points)
        if points and points < len(chosen):
            chosen = sorted(chance.sample(chosen, points))
        return [(point, None) for point in chosen] + [(None, chance.random() * self.seconds) for _ in range(moments)]

    def report(self, failures: Sequence[str], kills: int) -> dict[str, Any]:
        return {"failures": failures, "operations": self.operations, "points": len(self.points), "kills": kills}


def failed_before(reason: str) -> dict[str, Any]:
    """The report where nothing could be killed."""
    return Course(operations=0, points=(), seconds=0.0).report([reason], 0)


def reference(contract: StoreContract, folder: Path, verb: str) -> tuple[Any, Any, dict[str, Any]]:
    """The store before and after, and the course of the verb between."""
    scene = Scene(contract, folder, "migrate")
    scene.prepare()
    old = snapshot(scene.open())
    scene.act()
    new = snapshot(scene.open())
    measured = Scene(contract, folder / "measured", verb)
    measured.folder.parent.mkdir()
    measured.prepare()
    committed = getattr(contract, "committed", None)  # a server's
    course = Course.of(measured.act, committed() if callable(committed) else None)
    measured.check_result(old, new)
    return old, new, asdict(course)


def attempt(
    scene: Scene, old: tuple[str, str], new: tuple[str, str], *, point: int | None, delay: float | None
) -> str | None:
    """Kill once, look, repeat, look; what is wrong, or nothing."""
    scene.folder.parent.mkdir(parents=True)
    code, answer = in_child(scene.prepare)
    if code:
        return f"preparing failed: {answer}"
    code, answer = in_child(lambda: counted(scene.act, point), delay)
    if point is not None and code != signal.SIGKILL:
        return f"it was not killed, and ended with {code}: {answer}"

    code, answer = in_child(lambda: scene.complete(old, new))
    return answer if code else None


def run(contract: StoreContract, folder: Path, verb: str, points: int, moments: int, seed: int) -> dict[str, Any]:
    """Kill at `points` operations, or at all with 0, and at `moments` random times."""
    (folder / "reference").mkdir(parents=True)
    (folder / "needed").mkdir()
    code, answer = in_child(lambda: needed(contract, folder / "needed"))
    if code:
        return failed_before(answer)
    import_all(json.loads(answer))
    filled = None
    # Asked in a child: a client that the parent has used is of no use to those that it forks.
    if in_child(lambda: contract.open(folder / "needed" / "store").location.is_remote)[1] != "true":
        filled = folder / "filled"
        in_child(lambda: contract.make(filled, documents(ROWS)))
    code, answer = in_child(lambda: reference(contract, folder / "reference", verb))
    if code:
        return failed_before(answer)
    old, new, known = json.loads(answer)
    forget = getattr(contract, "forget", lambda folder: None)  # what a server has of it
    course = Course(**known)
    deaths = course.deaths(points, moments, seed)
    failures = []
    for number, (point, delay) in enumerate(deaths):
        scene = Scene(contract, folder / str(number), verb, filled)
        wrong = attempt(scene, tuple(old), tuple(new), point=point, delay=delay)
        if wrong is None:
            in_child(lambda folder=scene.folder: forget(folder))  # type: ignore[misc]
            shutil.rmtree(scene.folder.parent)
        else:
            failures.append(f"killed at {point or f'{delay} s'}: {wrong}")
    return course.report(failures, len(deaths))


def contract_of(place: str) -> StoreContract:
    """The contract at a place such as `tests.migration.test_chroma:TestChroma`."""
    module, name = place.split(":")
    __import__(module)
    found: StoreContract = getattr(sys.modules[module], name)()
    return found


def main(arguments: Sequence[str]) -> None:
    place, folder, verb, points, moments, *seed = arguments
    os.environ["XDG_STATE_HOME"] = str(Path(folder) / "state")  # which keeps a lock for each store
    contract = contract_of(place)
    done = run(contract, Path(folder), verb, int(points), int(moments), int(seed[0]) if seed else 0)
    print(json.dumps(done))  # noqa: T201 -- the parent reads it


if __name__ == "__main__":
    main(sys.argv[1:])
