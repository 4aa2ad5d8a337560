"""Lets the disk take nothing more from one operation of a migration on, and looks at what is left.

    python -m tests.migration.full_disk CLASS FOLDER VERB POINTS [SEED]
    python -m tests.migration.full_disk --read-only CLASS STORE SCRATCH

It forks a child for each point, as `tests.migration.crash` does. At its n-th operation the child forbids itself to
write to any file, which is what a disk without room comes to, for files as for databases. It has to say so with an
error of its own; another child then looks at the store, does the same again with room, and looks again.

The second form tries to migrate a store as somebody who may only read it.
"""

import json
import os
import random
import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from mlx_integrations.errors import StoreError
from mlx_integrations.migration.api import migrate
from mlx_integrations.migration.contract import StoreContract, documents
from mlx_integrations.migration.planning import plan_migration
from tests.migration.crash import OPERATIONS, Scene, contract_of, import_all, in_child, needed, reference
from tests.migration.memory_store import InstantExecutor

NOBODY = 65534


def filled_up(action: Callable[[], None], full_at: int) -> str:
    """Call something on a disk that is full from the n-th operation on; the message and the hint of its error."""
    seen = 0

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal seen
        if event in ("c_call", "c_return") and getattr(argument, "__name__", "") in OPERATIONS:
            seen += 1
            if seen == full_at:
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    sys.setprofile(watch)
    try:
        action()
    except StoreError as error:
        return f"{error.message} {error.hint}"
    finally:
        sys.setprofile(None)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return ""


def attempt(scene: Scene, old: tuple[str, str], new: tuple[str, str], point: int) -> tuple[str | None, bool]:
    """What is wrong, or nothing; and whether the disk was missed."""
    scene.folder.parent.mkdir(parents=True)
    code, answer = in_child(scene.prepare)
    if code:
        return f"preparing failed: {answer}", False
    code, answer = in_child(lambda: filled_up(scene.act, point))
    if code:
        return f"it ended with another error: {answer}", False
    told = json.loads(answer)
    if told and "cannot write" not in told:
        return f"it says nothing of the disk: {told}", True

    code, answer = in_child(lambda: scene.complete(old, new))
    return (answer if code else None), bool(told)


def run(contract: StoreContract, folder: Path, verb: str, points: int, seed: int) -> dict[str, Any]:
    """Fill the disk at `points` operations, or at each with 0."""
    (folder / "reference").mkdir(parents=True)
    (folder / "needed").mkdir()
    code, answer = in_child(lambda: needed(contract, folder / "needed"))
    if code:
        return {"failures": [answer], "operations": 0, "told": 0, "points": 0}
    import_all(json.loads(answer))
    filled = folder / "filled"
    in_child(lambda: contract.make(filled, documents(60)))
    code, answer = in_child(lambda: reference(contract, folder / "reference", verb))
    if code:
        return {"failures": [answer], "operations": 0, "told": 0, "points": 0}
    old, new, course = json.loads(answer)
    count = course["operations"]
    chosen = list(range(1, count + 1))
    if points and points < count:
        # One in each part of the way: the vectors and the journal come first, then building, then publishing.
        chance = random.Random(seed)
        chosen = [1 + count * part // points + chance.randrange(count // points) for part in range(points)]
    failures, told = [], 0
    for point in chosen:
        scene = Scene(contract, folder / str(point), verb, filled)
        wrong, is_told = attempt(scene, tuple(old), tuple(new), point)
        told += is_told
        if wrong is None:
            shutil.rmtree(scene.folder.parent)
        else:
            failures.append(f"full at {point}: {wrong}")
    return {"failures": failures, "operations": count, "told": told, "points": len(chosen)}


def read_only(place: str, folder: Path, scratch: Path) -> tuple[int, str, str]:
    """The rows that somebody can plan for who may only read, and the error of migrating."""
    contract = contract_of(place)
    contract.make(scratch, documents(5))
    migrate(contract.open(scratch), InstantExecutor())  # imports what nobody may read
    if os.geteuid() == 0:  # who may write everywhere
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    store = contract.open(folder)
    count = plan_migration(store, InstantExecutor()).info.count
    try:
        migrate(store, InstantExecutor())
    except Exception as error:  # noqa: BLE001 -- told to the parent
        return count, type(error).__name__, str(error)
    return count, "", ""


def main(arguments: Sequence[str]) -> None:
    if arguments[0] == "--read-only":
        _, place, folder, scratch = arguments
        print(json.dumps(read_only(place, Path(folder), Path(scratch))))  # noqa: T201 -- the parent reads it
        return
    place, folder, verb, points, *seed = arguments
    os.environ["XDG_STATE_HOME"] = str(Path(folder) / "state")
    contract = contract_of(place)
    done = run(contract, Path(folder), verb, int(points), int(seed[0]) if seed else 0)
    print(json.dumps(done))  # noqa: T201 -- the parent reads it


if __name__ == "__main__":
    main(sys.argv[1:])
