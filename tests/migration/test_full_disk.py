"""A disk that takes nothing more, or nothing at all, is told of; the store is whole, and with room the run goes on.

`MLXI_CRASH_POINTS` says at how many operations of each verb the disk is full, 0 for every one.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_integrations.migration.contract import documents, snapshot
from tests.migration.crash import contract_of
from tests.migration.stores import contents_of

STORES = [
    f"tests.migration.{name}"
    for name in (
        "test_langchain_faiss:TestLangChainFaiss",
        "test_in_memory:TestInMemory",
        "test_llama_index_simple:TestLlamaIndexSimple",
        "test_llama_index_faiss:TestLlamaIndexFaissMap",
        "test_chroma:TestChroma",
        "test_llama_index_faiss:TestLlamaIndexFaiss",
    )
]
VERBS = ["migrate", "publish", "rollback", "gc"]
POINTS = int(os.environ.get("MLXI_CRASH_POINTS", 3))
CASES = [(store, "migrate") for store in STORES[:-1]]  # the last one differs from another in little
if "MLXI_CRASH_POINTS" in os.environ:
    CASES = [(store, verb) for store in STORES for verb in VERBS]


@pytest.mark.skipif(sys.platform == "win32", reason="processes have no limit of file sizes there")
@pytest.mark.parametrize(("store", "verb"), CASES)
@pytest.mark.timeout(3000)
def test_a_full_disk_is_told_and_costs_nothing(tmp_path: Path, store: str, verb: str) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.migration.full_disk", store, str(tmp_path / verb), verb]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # it forks
    done = subprocess.run([*command, str(POINTS)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert report["told"] >= report["points"] // 2  # at the end of a verb nothing is written any more


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that others can see, which those of tests are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("place", STORES[:-1])
def test_a_store_that_can_only_be_read_is_planned_for_and_not_migrated(
    tmp_path: Path, open_folder: Path, place: str
) -> None:
    contract = contract_of(place)
    contract.make(open_folder / "store", documents(30))
    before = contents_of(open_folder / "store")

    for path in [*(open_folder / "store").rglob("*"), open_folder / "store", open_folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    command = [sys.executable, "-W", "ignore", "-m", "tests.migration.full_disk", "--read-only", place]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(open_folder / "store"), str(tmp_path / "another")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    count, error, message = json.loads(done.stdout)
    assert (count, error) == (30, "StoreError")
    assert "cannot write: Permission denied" in message
    assert contents_of(open_folder / "store") == before
    assert len(snapshot(contract.open(open_folder / "store"))) == 2
