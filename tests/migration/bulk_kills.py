"""Kills a migration of many stores at random moments, calls it again, and looks at what each store shows.

    python -m tests.migration.bulk_kills FOLDER KILLS [SEED]

The stores lie in projects, each of which is told its model. A process that migrates them all is killed; then every
store has to show its old vectors or its new ones. That is repeated until all are migrated, with new projects as long as
there are kills left.
"""

import json
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlx_integrations.migration.choice import project_of, remember_choice
from mlx_integrations.migration.contract import StoreContract, documents, snapshot
from mlx_integrations.migration.many.bulk import migrate_all
from mlx_integrations.migration.many.jobs import Job, Wanted, jobs_of
from mlx_integrations.migration.stores.opening import open_store
from tests.migration.crash import BATCH_ROWS, LoggingExecutor, in_child
from tests.migration.test_chroma import TestChroma as Chroma
from tests.migration.test_in_memory import TestInMemory as InMemory
from tests.migration.test_langchain_faiss import TestLangChainFaiss as LangChainFaiss
from tests.migration.test_llama_index_simple import TestLlamaIndexSimple as LlamaIndexSimple

ROWS = (60, 40, 50, 30, 20)
CONTRACTS: tuple[StoreContract, ...] = (LangChainFaiss(), InMemory(), LlamaIndexSimple(), Chroma(), LangChainFaiss())
Shown = tuple[str, str]


def make(folder: Path) -> None:
    """Projects with a store each."""
    for number, (contract, rows) in enumerate(zip(CONTRACTS, ROWS, strict=True)):
        project = folder / f"project-{number}"
        contract.make(project / "store", documents(rows))
        (project / "requirements.txt").write_text("")


def log_of(job: Job) -> Path:
    """Where it is noted how many texts of a store were embedded."""
    return project_of(open_store(job.address, job.name).location) / "embedded"


def jobs(folder: Path) -> list[Job]:
    return jobs_of(folder, Wanted(model="instant"))[0]


def migrate(folder: Path) -> None:
    """What is killed: migrate them all, and let each project remember its model."""
    done = migrate_all(jobs(folder), lambda job: LoggingExecutor(log_of(job)), batch_rows=BATCH_ROWS)
    assert not any(one.is_failure for one in done), [one.error for one in done]
    for one in done:
        assert one.location is not None
        remember_choice(one.location, project_of(one.location, folder), one.job.wanted.model)


def shown(folder: Path) -> list[Shown]:
    return [snapshot(open_store(job.address, job.name)) for job in jobs(folder)]


def look(folder: Path, old: Sequence[Shown], new: Sequence[Shown]) -> None:
    """After a kill, each store shows all of its old vectors or all of its new ones."""
    for job, seen, before, after in zip(jobs(folder), shown(folder), old, new, strict=True):
        assert seen in (before, after), f"{job.label} is torn"


def check(folder: Path, new: Sequence[Shown], kills: int) -> None:
    """At the end all are new, each project knows it, and each kill has cost a batch at most."""
    assert shown(folder) == list(new), "not all are new"
    made = 0
    for job, rows in zip(jobs(folder), ROWS, strict=True):
        info = open_store(job.address, job.name).describe()
        assert info.fingerprint == LoggingExecutor(Path()).fingerprint(), f"{job.label} has no record"
        unique = len({each.text for each in documents(rows)})
        embedded = sum(map(int, log_of(job).read_text().split()))
        assert unique <= embedded <= unique + kills * BATCH_ROWS, f"{job.label}: {embedded} instead of {unique}"
        made += embedded - unique
        said = (log_of(job).parent / "mlxi.toml").read_text()
        assert said == '[embedding]\ndefault = "instant"\n', said
    assert made <= kills * BATCH_ROWS, f"{made} texts were embedded twice, in {kills} kills"


def reference(folder: Path) -> dict[str, Any]:
    """What the stores show before and after, and how long it takes."""
    make(folder)
    old = shown(folder)
    began = time.monotonic()
    migrate(folder)
    seconds = time.monotonic() - began
    new = shown(folder)
    check(folder, new, 0)
    return {"old": old, "new": new, "seconds": seconds}


def in_another(action: Any, delay: float | None = None) -> Any:
    """Run something in a process of its own.

    Returns:
        What it returned; `None` if it was killed.

    Raises:
        AssertionError: It failed.
    """
    code, answer = in_child(action, delay)
    if code == signal.SIGKILL:
        return None
    assert code == 0, answer
    return json.loads(answer)


def run(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill so many times, on as many sets of projects as that takes."""
    known = in_another(lambda: reference(folder / "reference"))
    old, new = ([tuple(each) for each in known[name]] for name in ("old", "new"))
    chance = random.Random(seed)
    done, sets, worst = 0, 0, 0
    while done < kills:
        projects = folder / str(sets)
        in_another(lambda here=projects: make(here))
        here_kills = 0
        while done < kills:
            delay = chance.random() * known["seconds"] * chance.choice((1.0, 0.4))
            in_another(lambda here=projects: migrate(here), delay)
            done, here_kills = done + 1, here_kills + 1
            in_another(lambda here=projects: look(here, old, new))
            if here_kills >= chance.randint(2, 6):
                break
        in_another(lambda here=projects: migrate(here))
        in_another(lambda here=projects, count=here_kills: check(here, new, count))
        sets, worst = sets + 1, max(worst, here_kills)
    return {"kills": done, "sets": sets, "most_kills_of_one_set": worst, "seconds_of_one_run": known["seconds"]}


def main(arguments: Sequence[str]) -> None:
    folder, kills, *seed = arguments
    print(json.dumps(run(Path(folder), int(kills), int(seed[0]) if seed else 0)))  # noqa: T201 -- the parent reads it


if __name__ == "__main__":
    main(sys.argv[1:])
