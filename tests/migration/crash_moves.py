"""Kills a move at one operation after another, as `crash` does with migrations, and looks at what is left.

    python -m tests.migration.crash_moves SOURCE-TARGET FOLDER VERB POINTS RANDOM [SEED]

The source has to be what it was, byte for byte; at the new store's place there is nothing, or all of it.
"""

import json
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlx_integrations.migration.api import gc, migrate, publish, rollback, status
from mlx_integrations.migration.contract import documents, snapshot
from mlx_integrations.migration.moving import Move
from tests.migration.crash import (
    BATCH_ROWS,
    ROWS,
    Course,
    LoggingExecutor,
    counted,
    failed_before,
    import_all,
    in_child,
)
from tests.migration.places import NAME, PAIRS, LangChainChroma, LangChainFaiss, Pair, chroma_at
from tests.migration.stores import contents_of


class ChromaBeside(LangChainChroma):
    """A collection in a database that has another one."""

    def prepare(self, folder: Path) -> None:
        with chroma_at(self.at(folder)) as client:
            collection = client.create_collection("other", embedding_function=None)
            collection.add(ids=["a"], embeddings=[[1.0]], documents=["text"])

    def is_there(self, folder: Path) -> bool:
        with chroma_at(self.at(folder)) as client:
            names = {each.name for each in client.list_collections()}
            assert client.get_collection("other").get()["documents"] == ["text"]
        return NAME in names


BESIDE = Pair(source=LangChainFaiss(), target=ChromaBeside())
CASES = {str(pair): pair for pair in (*PAIRS, BESIDE)}


class Scene:
    """One source and one place, and the verb that is tried on them."""

    def __init__(self, pair: Pair, folder: Path, verb: str) -> None:
        self.pair = pair
        self.here, self.there = folder / "here", folder / "there"
        self.log = folder / "embedded"
        self.verb = verb

    def move(self) -> Move:
        return Move(self.pair.source.source(self.here), self.pair.target.target(self.there))

    def prepare(self) -> None:
        for folder in (self.here, self.there):
            folder.mkdir(parents=True)
        self.pair.source.fill(self.here, documents(ROWS))
        self.pair.target.prepare(self.there)
        if self.verb in ("publish", "rollback", "gc"):
            migrate(self.move(), self.executor(), batch_rows=BATCH_ROWS, publishes=self.verb != "publish")

    def executor(self) -> LoggingExecutor:
        return LoggingExecutor(self.log)

    def act(self) -> None:
        if self.verb == "migrate":
            migrate(self.move(), self.executor(), batch_rows=BATCH_ROWS)
        elif self.verb == "publish":
            publish(self.move())
        elif self.verb == "rollback":
            rollback(self.move())
        else:
            gc(self.move())

    def source_files(self) -> dict[str, str]:
        names = contents_of(self.here).items()
        return {name: content.hex() for name, content in names if not name.startswith(".mlxi-migrate/")}

    def look(self, old: dict[str, str], new: list[str]) -> bool:
        """Whether the new store is there; raises where it is not whole, or the source is not what it was."""
        assert self.source_files() == old, "the source was written to"
        if not self.pair.target.is_there(self.there):
            return False
        made = self.pair.target.source(self.there)
        assert list(snapshot(made)) == new, "torn"
        assert made.describe().fingerprint == self.executor().fingerprint(), "no record, or another model's"
        made.close()
        return True

    def made(self) -> list[str]:
        return list(snapshot(self.pair.target.source(self.there)))

    def check_result(self, old: dict[str, str], new: list[str]) -> None:
        assert self.look(old, new) is (self.verb != "rollback")
        known = status(self.move())
        if self.verb == "gc":
            assert known is None
            left = [path for path in self.here.parent.rglob("*.mlxi-*") if not path.name.endswith("embedding.json")]
            assert not left, f"left behind: {left}"
        else:
            assert known is not None and known.phase == ("rolled back" if self.verb == "rollback" else "published")
            assert known.in_use == ("nothing" if self.verb == "rollback" else "new") and known.embedded == ROWS
        unique = len({each.text for each in documents(ROWS)})
        made = sum(map(int, self.log.read_text().split())) if self.log.exists() else unique
        assert made <= unique + BATCH_ROWS, f"{made} texts were embedded instead of {unique}"


def needed(pair: Pair, folder: Path) -> list[str]:
    """The modules that the verbs and the looks of a scene import."""
    scene = Scene(pair, folder, "migrate")
    scene.prepare()
    for scene.verb in ("migrate", "rollback"):
        scene.act()
        scene.check_result(scene.source_files(), [] if scene.verb == "rollback" else scene.made())
    return sorted(sys.modules)


def reference(pair: Pair, folder: Path, verb: str) -> tuple[list[str], dict[str, Any]]:
    """What the new store is, and the course of a verb."""
    scene = Scene(pair, folder / "whole", "migrate")
    scene.prepare()
    old = scene.source_files()
    scene.act()
    new = scene.made()
    scene.check_result(old, new)
    measured = Scene(pair, folder / "measured", verb)
    measured.prepare()
    old = measured.source_files()
    course = Course.of(measured.act)
    measured.check_result(old, new)
    return new, asdict(course)


def attempt(scene: Scene, new: list[str], *, point: int | None, delay: float | None) -> str | None:
    """Kill once, look, repeat, look; what is wrong, or nothing."""
    code, answer = in_child(lambda: scene.prepare() or scene.source_files())  # type: ignore[func-returns-value]
    if code:
        return f"preparing failed: {answer}"
    old = json.loads(answer)
    code, answer = in_child(lambda: counted(scene.act, point), delay)
    if point is not None and code != signal.SIGKILL:
        return f"it was not killed, and ended with {code}: {answer}"

    def afterwards() -> None:
        scene.look(old, new)
        if scene.verb != "gc" or status(scene.move()) is not None or (scene.here / ".mlxi-migrate").exists():
            scene.act()
        scene.check_result(old, new)

    code, answer = in_child(afterwards)
    return answer if code else None


def run(pair: Pair, folder: Path, verb: str, points: int, moments: int, seed: int) -> dict[str, Any]:
    """Kill at `points` operations, or at all with 0, and at `moments` random times."""
    code, answer = in_child(lambda: needed(pair, folder / "needed"))
    if code:
        return failed_before(answer)
    import_all(json.loads(answer))
    code, answer = in_child(lambda: reference(pair, folder / "reference", verb))
    if code:
        return failed_before(answer)
    new, known = json.loads(answer)
    course = Course(**known)
    deaths = course.deaths(points, moments, seed)
    failures = []
    for number, (point, delay) in enumerate(deaths):
        place = folder / str(number)
        wrong = attempt(Scene(pair, place, verb), new, point=point, delay=delay)
        if wrong is None:
            shutil.rmtree(place)
        else:
            failures.append(f"killed at {point or f'{delay} s'}: {wrong}")
    return course.report(failures, len(deaths))


def main(arguments: Sequence[str]) -> None:
    name, folder, verb, points, moments, *seed = arguments
    done = run(CASES[name], Path(folder), verb, int(points), int(moments), int(seed[0]) if seed else 0)
    print(json.dumps(done))  # noqa: T201 -- the parent reads it


if __name__ == "__main__":
    main(sys.argv[1:])
