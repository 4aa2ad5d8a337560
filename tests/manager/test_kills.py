"""Downloads that are killed go on where they stopped, and downloads that run at the same time share the work.

MLXI_TEST_KILLS sets how often the download is killed; `--log-cli-level=INFO` shows the figures.
"""

import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mlx_integrations.manager import ModelManager
from tests.hub import LoopbackHub, Request
from tests.manager.conftest import CONFIG, weights
from tests.manager.pullers import Puller

_log = logging.getLogger(__name__)

REPO_ID = "test-org/several-files"
KILLS = int(os.environ.get("MLXI_TEST_KILLS", "8"))
SLICE_BYTES = 64 * 1024
BYTES_PER_SECOND = 4e6
MEAN_SECONDS = 0.06  # from the first byte to the kill


@pytest.fixture
def slow_hub() -> Iterator[LoopbackHub]:
    with LoopbackHub(bytes_per_second=BYTES_PER_SECOND, slice_bytes=SLICE_BYTES, cdn=True) as hub:
        yield hub


def _files(total: int) -> dict[str, bytes]:
    """Shards of different sizes, and small files before and after them."""
    shards = {
        f"model-0000{number}-of-00004.safetensors": weights(total * share // 100, seed=number)
        for number, share in enumerate((10, 50, 15, 25), 1)
    }
    return {"README.md": b"# Shards", "config.json": CONFIG, **shards, "tokenizer.json": weights(30_000, seed=9)}


def _shard_requests(hub: LoopbackHub) -> list[Request]:
    return [request for request in hub.downloads("*.safetensors") if request.server == "cdn"]


def _parts(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in cache.glob("models--*/blobs/*.mlxi-part")}


def _has_asked(hub: LoopbackHub, seen: int) -> bool:
    return len(_shard_requests(hub)) > seen


def _wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not condition() and time.monotonic() < until:
        time.sleep(0.002)


def test_a_download_that_is_killed_again_and_again_goes_on_where_it_stopped(slow_hub: LoopbackHub, cache: Path) -> None:
    chance = random.Random(20)
    files = _files(max(2_000_000, int(KILLS * MEAN_SECONDS * BYTES_PER_SECOND)))
    slow_hub.publish(REPO_ID, files)
    ids = {blob.etag: path for path, blob in next(iter(slow_hub.repositories[REPO_ID].commits.values())).items()}
    kills = resumptions = 0
    with Puller(REPO_ID, slow_hub.environment(cache)) as puller:
        while True:
            before = _parts(cache)
            seen = len(_shard_requests(slow_hub))
            pid = puller.start()
            if kills < KILLS:
                if chance.random() < 0.8:  # in the middle of a file; otherwise at any moment
                    _wait_until(partial(_has_asked, slow_hub, seen))
                time.sleep(chance.uniform(0, 2 * MEAN_SECONDS))
                puller.kill(pid)
                kills += 1
            status = puller.wait()
            for request in _shard_requests(slow_hub)[seen:]:
                name = request.path.rpartition("/")[2]
                kept = next((size for part, size in before.items() if ids[part.removesuffix(".mlxi-part")] == name), 0)
                assert (request.start or 0) == kept  # it asks for exactly what is not on the disk
                resumptions += kept > 0
            if status == 0:
                break
            assert kills <= KILLS and status == -9

    sent = sum(request.sent_bytes for request in _shard_requests(slow_hub))
    again = sent - sum(len(content) for path, content in files.items() if path.endswith(".safetensors"))
    _log.info("%d kills, %d resumptions, %d bytes sent, %d of them again", kills, resumptions, sent, again)
    assert kills >= min(KILLS, 3) and resumptions > 0
    assert 0 <= again <= kills * SLICE_BYTES
    manager = ModelManager(cache_dir=cache)
    assert _parts(cache) == {} and manager.partials() == []
    verification = manager.verify(REPO_ID)
    assert (verification.is_intact, verification.method) == (True, "checksums")
    assert {path: (manager.path(REPO_ID) / path).read_bytes() for path in files} == files


def test_two_downloads_at_the_same_time_transfer_each_byte_once(slow_hub: LoopbackHub, cache: Path) -> None:
    files = _files(2_000_000)
    slow_hub.publish(REPO_ID, files)
    environment = slow_hub.environment(cache)
    with Puller(REPO_ID, environment) as one, Puller(REPO_ID, environment) as other:
        one.start(), other.start()
        assert (one.wait(), other.wait()) == (0, 0)
    expected = sum(len(content) for path, content in files.items() if path.endswith(".safetensors"))
    assert sum(request.sent_bytes for request in _shard_requests(slow_hub)) == expected
    assert ModelManager(cache_dir=cache).verify(REPO_ID).is_intact


def test_a_download_takes_over_from_one_that_is_killed_beside_it(slow_hub: LoopbackHub, cache: Path) -> None:
    files = {"config.json": CONFIG, "tokenizer.json": b"{}", "model.safetensors": weights(1_500_000)}
    slow_hub.publish(REPO_ID, files)
    environment = slow_hub.environment(cache)
    with Puller(REPO_ID, environment) as one, Puller(REPO_ID, environment) as other:
        pid = one.start()
        _wait_until(lambda: any(size > 100_000 for size in _parts(cache).values()))
        other.start()
        time.sleep(0.1)
        one.kill(pid)
        assert (one.wait(), other.wait()) == (-9, 0)
    requests = _shard_requests(slow_hub)
    assert len(requests) == 2 and (requests[1].start or 0) >= 100_000
    assert ModelManager(cache_dir=cache).verify(REPO_ID).is_intact
