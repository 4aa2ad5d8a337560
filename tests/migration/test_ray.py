"""A cluster makes the vectors that this process makes, and leaves nothing running; on a Ray of this machine."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray

from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.main import main
from mlx_integrations.errors import ClusterError
from mlx_integrations.migration.api import migrate, status
from mlx_integrations.migration.executors.protocol import Executor
from mlx_integrations.migration.executors.ray_data import Cluster, RayExecutor
from mlx_integrations.migration.executors.recipe import ModelRecipe, Recipe
from mlx_integrations.migration.stores.faiss.langchain import LangChainFaissStore
from tests.migration.ray_recipes import FakeRecipe
from tests.migration.stores import save_faiss, texts

CPUS = 2
MINILM = "minilm-l6-v2"
LONG = "many words " * 60
"""Longer than the model reads."""


@pytest.fixture(scope="module", autouse=True)
def address() -> Iterator[str]:
    """A Ray of two cores that is told to nobody."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    started: Any = ray.init(
        "local",
        num_cpus=CPUS,
        include_dashboard=False,
        object_store_memory=100 * 1024**2,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
    )
    yield str(started.address_info["gcs_address"])
    ray.shutdown()


@pytest.fixture(scope="module")
def executor() -> Iterator[RayExecutor]:
    """As many actors as there are cores: were anything else to need one, all would wait."""
    with RayExecutor(FakeRecipe(), Cluster(actors=CPUS)) as executor:
        yield executor


def assert_no_actors() -> None:
    """Wait until no process of an actor is left; those that are idle do not count."""
    until = time.monotonic() + 30
    while found := [each for each in _names() if "MapWorker" in each or "_Desk" in each]:
        assert time.monotonic() < until, found
        time.sleep(0.1)


def _names() -> Iterator[str]:
    for process in psutil.process_iter():
        try:
            yield " ".join(process.cmdline())
        except psutil.Error:
            continue


def test_it_is_an_executor(executor: RayExecutor) -> None:
    assert isinstance(executor, Executor)
    assert isinstance(FakeRecipe(), Recipe)
    assert isinstance(ModelRecipe(model="any"), Recipe)
    assert executor.long_texts == "truncate"


def test_its_fingerprint_and_its_counts_are_those_of_the_model(executor: RayExecutor) -> None:
    here = FakeRecipe().build()
    assert executor.fingerprint() == here.fingerprint()
    contents = [*texts(40), LONG, LONG]
    assert executor.count_long(contents) == here.count_long(contents) == 2
    assert executor.count_long([]) == 0


def test_batches_come_back_in_their_order_with_what_became_of_each_text(executor: RayExecutor) -> None:
    batches = [texts(70), [], ["", *texts(3), LONG, "  "], texts(300)[::-1]]
    for made, expected in zip(executor.embed(batches), FakeRecipe().build().embed(batches), strict=True):
        assert np.array_equal(made.vectors, expected.vectors)
        assert made.vectors.dtype == np.float32
        assert (made.truncated, made.refused) == (expected.truncated, expected.refused)


def test_nothing_is_read_ahead(executor: RayExecutor) -> None:
    read = 0

    def batches() -> Iterator[list[str]]:
        nonlocal read
        for _ in range(3):
            read += 1
            yield texts(20)

    for number, _ in enumerate(executor.embed(batches()), start=1):
        assert read == number


def test_a_migration_is_that_of_this_process(tmp_path: Path, executor: RayExecutor) -> None:
    here = LangChainFaissStore(save_faiss(tmp_path / "here", texts(150)))
    there = LangChainFaissStore(save_faiss(tmp_path / "there", texts(150)))
    migrate(here, FakeRecipe().build(), batch_rows=64)
    done = migrate(there, executor, batch_rows=64)
    assert (done.phase, done.embedded, done.in_use) == ("published", 150, "new")
    keys = [row.key for row in here.rows()]
    assert np.array_equal(there.vectors(keys), here.vectors(keys))


def test_the_command_makes_of_a_model_by_its_name_what_this_process_makes_of_it(
    tmp_path: Path, executor: RayExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    executor.close()  # two cores
    contents = [*texts(40), "One long sentence, and then another. " * 60]
    folder = save_faiss(tmp_path / "store", contents)
    options = ["--model", MINILM, "--ray", "auto", "--ray-workers", "2", "--ray-cpus", "0.5"]
    assert main(["migrate", "run", str(folder), *options]) == 0
    assert "1 texts are longer than the model reads" in capsys.readouterr().out
    assert_no_actors()
    here = ModelRecipe(model=MINILM).build()
    store = LangChainFaissStore(folder)
    keys = {row.text: row.key for row in store.rows()}
    made, expected = store.vectors([keys[text] for text in contents]), next(iter(here.embed([contents])))
    assert np.allclose(made, expected.vectors, atol=2e-6)
    record = store.describe().fingerprint
    assert record is not None and record.differences(here.fingerprint()) == ()


def test_a_command_for_many_stores_has_no_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "run", str(tmp_path), "--bulk", "--ray", "auto"]) == ExitCode.WRONG_USAGE
    assert "without --bulk" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "127.0.0.1:1"])
def test_an_address_without_a_cluster_is_told(address: str) -> None:
    code = (
        "from tests.migration.ray_recipes import *\n"
        "from mlx_integrations.errors import ClusterError\n"
        f"try: RayExecutor(FakeRecipe(), Cluster(address={address!r})).fingerprint()\n"
        "except ClusterError as error: print(error.message, error.hint)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert f"`{address}`" in done.stdout
    assert "auto" in done.stdout


def test_what_fails_once_is_tried_again_and_what_always_fails_is_an_error(
    tmp_path: Path, executor: RayExecutor
) -> None:
    executor.close()
    there = RayExecutor(FakeRecipe(folder=tmp_path))
    contents = [*texts(20), "poison", "flaky"]
    (made,) = there.embed([contents])
    (expected,) = FakeRecipe().build().embed([contents])
    assert np.array_equal(made.vectors, expected.vectors)
    assert {path.name for path in tmp_path.iterdir()} == {"poison", "flaky"}
    with pytest.raises(ClusterError, match=r"`.+` cannot embed: The model stumbled.") as caught:
        list(there.embed([[*texts(20), "hopeless"]]))
    assert caught.value.hint
    assert_no_actors()


def test_fewer_actors_than_asked_for_do_and_a_text_that_ends_them_is_named(executor: RayExecutor) -> None:
    executor.close()
    there = RayExecutor(FakeRecipe(), Cluster(actors=5, cpus=CPUS))
    assert len(next(there.embed([texts(100)])).vectors) == 100
    with pytest.raises(ClusterError, match="3 actors have died of 1 texts, such as `deadly`"):
        list(there.embed([["deadly"]]))
    assert_no_actors()


def test_machines_that_make_other_vectors_are_refused(executor: RayExecutor) -> None:
    executor.close()
    there = RayExecutor(FakeRecipe(is_uneven=True), Cluster(actors=CPUS, cpus=0.5))
    many = [texts(200)] * 50  # both get some of them
    with pytest.raises(ClusterError, match=r"not those of the first machine: `witness` differ"):
        list(there.embed(many))
    assert_no_actors()


def test_more_than_the_cluster_has_is_not_waited_for_for_ever(executor: RayExecutor) -> None:
    executor.close()
    with pytest.raises(ClusterError, match=r"No machine of the cluster has room .* CPU 2"):
        RayExecutor(FakeRecipe(), Cluster(cpus=100, start_seconds=1)).fingerprint()


def test_a_pause_and_an_interruption_leave_no_actors(tmp_path: Path, executor: RayExecutor) -> None:
    executor.close()
    store = LangChainFaissStore(save_faiss(tmp_path / "store", texts(100)))

    def interrupt() -> bool:
        raise KeyboardInterrupt

    def stopped_twice() -> None:
        with RayExecutor(FakeRecipe()) as there:
            assert migrate(store, there, batch_rows=32, should_stop=lambda: True).embedded == 32
            migrate(store, there, batch_rows=32, should_stop=interrupt)

    with pytest.raises(KeyboardInterrupt):
        stopped_twice()
    assert_no_actors()
    known = status(store)
    assert known is not None and known.embedded == 64


def test_a_driver_that_is_killed_costs_one_batch_and_leaves_no_actors(
    tmp_path: Path, executor: RayExecutor, address: str
) -> None:
    executor.close()
    store = LangChainFaissStore(save_faiss(tmp_path / "store", texts(100)))
    command = [sys.executable, "-m", "tests.migration.ray_recipes", address, str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert [int(driver.stdout.readline()) for _ in range(2)] == [32, 64]
        driver.send_signal(signal.SIGKILL)  # while the third batch is on its way
    known = status(store)
    assert known is not None and known.embedded == 64
    assert_no_actors()
    done = migrate(store, FakeRecipe().build())
    assert (done.embedded, done.in_use) == (100, "new")
