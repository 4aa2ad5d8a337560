"""A download brings exactly what is needed, exactly as it is on the Hub, whatever goes wrong on the way."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_integrations import errors
from mlx_integrations.manager import ModelManager, PullProgress
from tests.hub import LoopbackHub, go_online
from tests.manager.conftest import CONFIG, MB, FakeClock, model_files, weights

REPO_ID = "test-org/tiny"
NEEDED = {"README.md", "config.json", "tokenizer.json", "model.safetensors"}


def _files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_needed_arrives_and_copies_in_other_formats_stay_there(hub: LoopbackHub, manager: ModelManager) -> None:
    files = model_files()
    commit = hub.publish(REPO_ID, files)
    pulled = manager.pull(REPO_ID)
    assert (pulled.repo_id, pulled.revision) == (REPO_ID, commit)
    assert _files_in(pulled.path) == {path: files[path] for path in NEEDED}
    assert pulled.transferred_bytes == sum(len(files[path]) for path in NEEDED)
    assert manager.path(REPO_ID) == pulled.path


def test_the_cache_looks_as_if_huggingface_hub_had_filled_it(hub: LoopbackHub, manager: ModelManager) -> None:
    from huggingface_hub import scan_cache_dir, snapshot_download

    commit = hub.publish(REPO_ID, {path: model_files()[path] for path in NEEDED} | {"1_Pooling/config.json": b"{ }"})
    pulled = manager.pull(REPO_ID)
    theirs = manager.cache_dir.parent / "theirs"
    reference = Path(snapshot_download(REPO_ID, cache_dir=theirs, endpoint=hub.endpoint))

    def layout(cache: Path) -> dict[str, str]:
        found = (path for path in cache.rglob("*") if not {"trees", "mlxi"} & {path.name, path.parent.name})
        return {str(path.relative_to(cache)): str(path.readlink()) if path.is_symlink() else "" for path in found}

    assert layout(manager.cache_dir) == layout(theirs)
    assert reference.name == pulled.path.name == commit
    asked = len(hub.requests)
    offline = snapshot_download(REPO_ID, cache_dir=manager.cache_dir, local_files_only=True)
    assert Path(offline) == pulled.path
    (repository,) = scan_cache_dir(manager.cache_dir).repos
    assert (repository.repo_id, repository.nb_files) == (REPO_ID, 5)
    assert scan_cache_dir(manager.cache_dir).warnings == []
    again = snapshot_download(REPO_ID, cache_dir=manager.cache_dir, endpoint=hub.endpoint)
    assert Path(again) == pulled.path
    assert not [request for request in hub.requests[asked:] if "/resolve/" in request.path and request.method == "GET"]


def test_mlx_lm_finds_the_model_by_its_name_without_a_network(
    hub: LoopbackHub, make: Callable[..., ModelManager], tmp_path: Path
) -> None:
    from tests.hub import DEMO_FOLDER

    hub.publish_folder("test-org/demo", DEMO_FOLDER)
    cache = make().pull("test-org/demo").path.parents[2]
    code = "from mlx_lm.utils import hf_repo_to_path, _download; print(hf_repo_to_path('test-org/demo'))"
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()) == make().path("test-org/demo")


def test_a_second_pull_asks_for_no_file(hub: LoopbackHub, manager: ModelManager) -> None:
    hub.publish(REPO_ID, model_files())
    manager.pull(REPO_ID)
    seen = len(hub.requests)
    plan = manager.plan(REPO_ID)
    assert plan.is_complete and plan.missing_bytes == 0
    assert manager.pull(plan).transferred_bytes == 0
    assert [request.path.split("/")[-2] for request in hub.requests[seen:]] == ["revision", "tree"]


def test_progress_never_goes_back_and_ends_at_the_total(hub: LoopbackHub, manager: ModelManager) -> None:
    hub.publish(REPO_ID, model_files())
    hub.cut("*.safetensors", after_bytes=MB)
    hub.corrupt("*/tokenizer.json")
    seen: list[PullProgress] = []
    manager.pull(REPO_ID, on_progress=seen.append)
    done = [progress.done_bytes for progress in seen]
    assert done == sorted(done) and done[-1] == seen[-1].total_bytes
    assert {progress.total_bytes for progress in seen} == {manager.plan(REPO_ID).total_bytes}
    assert {progress.phase for progress in seen} == {"downloading", "verifying", "waiting", "linking"}


@pytest.mark.parametrize("cdn", [False, True])
def test_a_dropped_connection_is_gone_on_with_in_mid_file(cache: Path, cdn: bool, fake_clock: FakeClock) -> None:
    with pytest.MonkeyPatch.context() as patch, LoopbackHub(cdn=cdn) as hub:
        go_online(patch)
        files = model_files(5 * MB)
        hub.publish(REPO_ID, files)
        hub.cut("*.safetensors", after_bytes=2 * MB, times=2)
        manager = ModelManager(cache_dir=cache, endpoint=hub.endpoint, clock=fake_clock.clock)
        pulled = manager.pull(REPO_ID)
        assert (pulled.path / "model.safetensors").read_bytes() == files["model.safetensors"]
        starts = [request.start or 0 for request in hub.downloads("*.safetensors")]
        assert starts == [0, 2 * MB, 4 * MB]
        assert hub.sent_bytes("*.safetensors") == 5 * MB


def test_what_an_interrupted_download_left_counts_as_done(hub: LoopbackHub, make: Callable[..., ModelManager]) -> None:
    hub.publish(REPO_ID, model_files(3 * MB))
    hub.cut("*.safetensors", after_bytes=MB, times=1)
    hub.cut("*.safetensors", after_bytes=0, times=20)
    with pytest.raises(errors.HubUnavailableError, match="the connection") as caught:
        make().pull(REPO_ID)
    assert caught.value.is_retryable and "goes on" in str(caught.value)
    hub._faults.clear()
    plan = make().plan(REPO_ID)
    (file,) = [file for file in plan.files if file.path == "model.safetensors"]
    assert (file.resumed_bytes, plan.missing_bytes >= 2 * MB, plan.resumed_bytes) == (MB, True, MB)
    seen: list[PullProgress] = []
    make().pull(plan, on_progress=seen.append)
    assert seen[0].done_bytes == seen[0].resumed_bytes >= MB
    assert hub.downloads("*.safetensors")[-1].start == MB


def test_a_server_that_ignores_ranges_starts_that_file_again(hub: LoopbackHub, manager: ModelManager) -> None:
    files = model_files()
    hub.publish(REPO_ID, files)
    hub.ignore_ranges = True
    hub.cut("*.safetensors", after_bytes=MB)
    pulled = manager.pull(REPO_ID)
    assert _files_in(pulled.path)["model.safetensors"] == files["model.safetensors"]
    assert [request.status for request in hub.downloads("*.safetensors")] == [200, 200]


@pytest.mark.parametrize("path", ["model.safetensors", "tokenizer.json"])
def test_wrong_bytes_are_asked_for_once_more(hub: LoopbackHub, manager: ModelManager, path: str) -> None:
    hub.publish(REPO_ID, model_files())
    hub.corrupt(f"*/{path}")
    assert manager.pull(REPO_ID).path.is_dir()
    assert manager.verify(REPO_ID).is_intact
    assert len(hub.downloads(f"*/{path}")) == 2


@pytest.mark.parametrize("path", ["model.safetensors", "tokenizer.json"])
def test_wrong_bytes_twice_are_an_error_and_nothing_of_them_is_kept(
    hub: LoopbackHub, manager: ModelManager, path: str
) -> None:
    hub.publish(REPO_ID, model_files())
    hub.corrupt(f"*/{path}", times=2)
    with pytest.raises(errors.ChecksumMismatchError) as caught:
        manager.pull(REPO_ID)
    assert (caught.value.file, caught.value.repo_id) == (path, REPO_ID)
    assert caught.value.expected != caught.value.actual
    assert manager.partials() == []
    with pytest.raises(errors.ModelNotFoundError):
        manager.path(REPO_ID)


def test_a_file_of_another_size_than_listed_is_refused_before_it_is_read(
    hub: LoopbackHub, manager: ModelManager
) -> None:
    hub.publish(REPO_ID, model_files())
    hub.shorten("*.safetensors", times=2)
    with pytest.raises(errors.ChecksumMismatchError) as caught:
        manager.pull(REPO_ID)
    assert (caught.value.expected, caught.value.actual) == (f"{2 * MB:,} bytes", f"{MB:,} bytes")


def test_a_damaged_part_is_noticed_and_started_again(hub: LoopbackHub, make: Callable[..., ModelManager]) -> None:
    files = model_files()
    hub.publish(REPO_ID, files)
    plan = make().plan(REPO_ID)
    (file,) = [file for file in plan.files if file.path == "model.safetensors"]
    part = make().cache_dir / "models--test-org--tiny" / "blobs" / f"{file.blob_id}.mlxi-part"
    part.parent.mkdir(parents=True)
    for content in (bytes(MB), bytes(3 * MB), bytes(2 * MB)):  # wrong, too long, and as long as the whole file
        part.write_bytes(content)
        pulled = make().pull(REPO_ID)
        assert (pulled.path / "model.safetensors").read_bytes() == files["model.safetensors"]
        pulled.path.joinpath("model.safetensors").resolve().unlink()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_a_busy_server_is_asked_again_with_growing_pauses(
    hub: LoopbackHub, manager: ModelManager, fake_clock: FakeClock, status: int
) -> None:
    hub.publish(REPO_ID, model_files())
    hub.fail("/api/*", status=status, times=2)
    hub.fail("*.safetensors", status=status, times=3)
    manager.pull(REPO_ID)
    assert manager.verify(REPO_ID).is_intact
    assert fake_clock.slept_seconds == pytest.approx(0.5 + 1 + 0.5 + 1 + 2)


def test_a_server_that_says_when_to_come_back_is_left_alone_until_then(
    hub: LoopbackHub, manager: ModelManager, fake_clock: FakeClock
) -> None:
    hub.publish(REPO_ID, model_files())
    hub.fail("*.safetensors", status=429, headers={"Retry-After": "17"})
    manager.pull(REPO_ID)
    assert 17 <= fake_clock.slept_seconds < 19


def test_a_server_that_asks_for_a_very_long_pause_is_given_up_on(
    hub: LoopbackHub, manager: ModelManager, fake_clock: FakeClock
) -> None:
    hub.publish(REPO_ID, model_files())
    hub.fail("*.safetensors", status=429, headers={"Retry-After": "3600"})
    with pytest.raises(errors.HubUnavailableError, match="3600 seconds"):
        manager.pull(REPO_ID)
    assert fake_clock.slept_seconds == 0


def test_a_new_commit_in_mid_download_does_not_mix_revisions(hub: LoopbackHub, manager: ModelManager) -> None:
    old = model_files()
    commit = hub.publish(REPO_ID, old)
    plan = manager.plan(REPO_ID)
    new = {**old, "model.safetensors": weights(MB, seed=7), "tokenizer.json": b'{"new": 1}'}
    newer_commit = hub.publish(REPO_ID, new)
    pulled = manager.pull(plan)
    assert pulled.revision == commit
    assert _files_in(pulled.path) == {path: old[path] for path in NEEDED}
    (update,) = manager.updates()
    assert (update.installed_revision, update.latest_revision) == (commit, newer_commit)
    again = manager.pull(REPO_ID)
    assert again.revision == newer_commit
    assert again.transferred_bytes == len(new["model.safetensors"]) + len(new["tokenizer.json"])  # the rest was here
    assert _files_in(again.path) == {path: new[path] for path in NEEDED}
    assert manager.path(REPO_ID) == again.path and manager.updates() == []


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_downloaded(
    hub: LoopbackHub, make: Callable[..., ModelManager]
) -> None:
    hub.publish(REPO_ID, model_files())
    with pytest.raises(errors.InsufficientDiskError, match="more bytes") as caught:
        make(free_bytes=lambda folder: MB).pull(REPO_ID)
    assert (caught.value.free_bytes, caught.value.needed_bytes > 2 * MB) == (MB, True)
    assert hub.downloads("*.safetensors") == [] and not make().cache_dir.exists()


def test_a_file_that_the_disk_does_not_take_is_kept_as_far_as_it_went(
    hub: LoopbackHub, manager: ModelManager, cache: Path
) -> None:
    """A limit on the size of files stands in for a full disk: the system refuses the write in the same place."""
    hub.publish(REPO_ID, model_files(3 * MB))
    code = f"""
import resource
from pathlib import Path
from mlx_integrations.errors import InsufficientDiskError
from mlx_integrations.manager import ModelManager
resource.setrlimit(resource.RLIMIT_FSIZE, ({MB}, {MB}))
try:
    ModelManager(endpoint={hub.endpoint!r}, cache_dir=Path({str(cache)!r})).pull({REPO_ID!r})
except InsufficientDiskError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **hub.environment(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "larger than this file system takes" in run.stdout and "HF_HUB_CACHE" in run.stdout
    (partial,) = manager.partials()
    assert (partial.size_bytes, partial.is_active) == (MB, False)
    assert manager.pull(REPO_ID).transferred_bytes < 3 * MB
    assert hub.downloads("*.safetensors")[-1].start == MB


def test_a_full_disk_says_so_and_how_to_make_room() -> None:
    import errno

    from mlx_integrations.manager.records import PlannedFile
    from mlx_integrations.manager.transfer import disk_full

    file = PlannedFile(path="model.safetensors", size_bytes=5, sha256=None, blob_id="0" * 40)
    error = disk_full(REPO_ID, file, OSError(errno.ENOSPC, "No space left on device"), free_bytes=3)
    assert "the disk is full" in str(error) and "mlxi models rm" in error.hint
    assert (error.needed_bytes, error.free_bytes) == (5, 3)
    links = disk_full(REPO_ID, None, OSError(errno.ENOSPC, "No space left on device"), free_bytes=0)
    assert str(links).startswith(f"`{REPO_ID}` does not fit: the disk is full.")


def test_a_cache_that_cannot_be_written_to_says_so(hub: LoopbackHub, manager: ModelManager, cache: Path) -> None:
    hub.publish(REPO_ID, model_files())
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    assert manager.list()[-1].source == "packaged"
    with pytest.raises(errors.ConfigurationError, match=r"cannot be written to.*HF_HUB_CACHE"):
        manager.pull(REPO_ID)


@pytest.mark.parametrize(
    "place", [".locks", "{}/blobs", "{}/snapshots", "{}/snapshots/COMMIT/config.json/x", "{}/mlxi"]
)
def test_something_in_the_way_inside_the_cache_is_named_like_that(
    hub: LoopbackHub, manager: ModelManager, cache: Path, place: str
) -> None:
    commit = hub.publish(REPO_ID, model_files())
    in_the_way = cache / place.format("models--test-org--tiny").replace("COMMIT", commit)
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file where no file should be")
    with pytest.raises(errors.ConfigurationError, match=r"cannot be written to.*HF_HUB_CACHE"):
        manager.pull(REPO_ID)
    assert in_the_way.read_text() == "a file where no file should be"
    assert list(cache.rglob("*.tmp")) == []


def test_an_event_stops_a_download_at_once_and_keeps_what_arrived(
    hub: LoopbackHub, make: Callable[..., ModelManager]
) -> None:
    """Even while nothing arrives: the server has stopped sending without closing the connection."""
    hub.publish(REPO_ID, model_files(3 * MB))
    hub.stall("*.safetensors", after_bytes=MB)
    cancel = threading.Event()
    timer = threading.Timer(0.4, cancel.set)
    timer.start()
    began = time.monotonic()
    with pytest.raises(errors.DownloadCancelledError):
        make(clock=None).pull(REPO_ID, cancel=cancel)
    assert 0.3 < time.monotonic() - began < 3
    timer.join()
    assert [partial.size_bytes for partial in make().partials()] == [MB]
    assert make().pull(REPO_ID).transferred_bytes < 3 * MB


def test_an_event_stops_a_pause(hub: LoopbackHub, make: Callable[..., ModelManager]) -> None:
    hub.publish(REPO_ID, model_files())
    hub.fail("*.safetensors", status=429, headers={"Retry-After": "200"})
    cancel = threading.Event()

    def on_progress(progress: PullProgress) -> None:
        if progress.phase == "waiting":
            cancel.set()

    began = time.monotonic()
    with pytest.raises(errors.DownloadCancelledError):
        make(clock=None).pull(REPO_ID, cancel=cancel, on_progress=on_progress)
    assert time.monotonic() - began < 3


def test_control_c_stops_a_download_at_once(hub: LoopbackHub, cache: Path) -> None:
    hub.publish(REPO_ID, model_files(3 * MB))
    hub.stall("*.safetensors", after_bytes=MB)
    code = f"""
from pathlib import Path
from mlx_integrations.manager import ModelManager
manager = ModelManager(endpoint={hub.endpoint!r}, cache_dir=Path({str(cache)!r}))
manager.pull({REPO_ID!r})
"""
    environment = {**os.environ, **hub.environment(cache)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 30
    while not any(request.sent_bytes == MB for request in hub.downloads("*.safetensors")):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=30)
    assert time.monotonic() - began < 3
    assert process.returncode != 0 and "KeyboardInterrupt" in talk
    assert [path.stat().st_size for path in cache.glob("*/blobs/*.mlxi-part")] == [MB]


@pytest.mark.parametrize(
    ("access", "token", "error"),
    [
        ("gated", None, errors.GatedRepositoryError),
        ("refused", "hf_loopback", errors.GatedRepositoryError),
        ("private", None, errors.RepositoryNotFoundError),
        ("private", "wrong", errors.RepositoryNotFoundError),
        ("gated", "hf_loopback", None),
        ("private", "hf_loopback", None),
    ],
)
def test_closed_repositories_open_for_the_right_token_only(
    hub: LoopbackHub,
    make: Callable[..., ModelManager],
    access: str,
    token: str | None,
    error: type[errors.HubError] | None,
) -> None:
    hub.publish(REPO_ID, model_files(), access=access)
    manager = make(token=token)
    if error is None:
        assert manager.pull(REPO_ID).path.is_dir()
        return
    with pytest.raises(error, match="hf auth login") as caught:
        manager.pull(REPO_ID)
    assert caught.value.repo_id == REPO_ID and not caught.value.is_retryable


def test_the_token_goes_to_the_hub_and_to_nobody_else(cache: Path, fake_clock: FakeClock) -> None:
    with pytest.MonkeyPatch.context() as patch, LoopbackHub(cdn=True) as hub:
        go_online(patch)
        hub.publish(REPO_ID, model_files(), access="private")
        ModelManager(cache_dir=cache, endpoint=hub.endpoint, token=hub.token, clock=fake_clock.clock).pull(REPO_ID)
        by_server = {(request.server, request.authorization) for request in hub.requests}
        assert by_server == {("hub", f"Bearer {hub.token}"), ("cdn", None)}


def test_missing_repositories_and_revisions_are_named(hub: LoopbackHub, manager: ModelManager) -> None:
    with pytest.raises(errors.RepositoryNotFoundError, match="test-org/nowhere"):
        manager.pull("test-org/nowhere")
    hub.publish(REPO_ID, model_files())
    with pytest.raises(errors.RevisionNotFoundError) as caught:
        manager.plan(f"{REPO_ID}@v9")
    assert caught.value.revision == "v9"


def test_a_hub_that_is_not_there_is_an_error_that_can_be_retried(make: Callable[..., ModelManager]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(errors.HubUnavailableError, match="no connection") as caught:
        make(endpoint=f"http://127.0.0.1:{port}").pull(REPO_ID)
    assert caught.value.is_retryable


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_offline_nothing_is_asked_and_what_is_here_is_used(
    hub: LoopbackHub, make: Callable[..., ModelManager], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    hub.publish(REPO_ID, model_files())
    pulled = make().pull(REPO_ID)
    asked = len(hub.requests)
    if how == "variable":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    manager = make(offline=how == "argument")
    again = manager.pull(REPO_ID)
    assert (again.path, again.transferred_bytes) == (pulled.path, 0)
    with pytest.raises(errors.OfflineError, match="HF_HUB_OFFLINE"):
        manager.pull("test-org/other")
    with pytest.raises(errors.OfflineError):
        manager.updates(REPO_ID)
    assert len(hub.requests) == asked


def test_a_model_that_cannot_be_run_is_refused_before_its_weights_are_downloaded(
    hub: LoopbackHub, manager: ModelManager
) -> None:
    hub.publish(REPO_ID, {**model_files(), "config.json": b'{"model_type": "whisper"}'})
    with pytest.raises(errors.UnsupportedArchitectureError, match="There is no code for `whisper`") as caught:
        manager.pull(REPO_ID)
    assert caught.value.model_type == "whisper"
    assert hub.downloads("*.safetensors") == []
    assert manager.pull(REPO_ID, force=True).path.is_dir()


def test_a_repository_without_safetensors_says_what_it_has(hub: LoopbackHub, manager: ModelManager) -> None:
    hub.publish(REPO_ID, {"config.json": CONFIG, "pytorch_model.bin": b"x", "tokenizer.json": b"{}"})
    with pytest.raises(errors.UnsupportedFormatError, match=r"PyTorch files.*mlxi models import"):
        manager.pull(REPO_ID)
    pulled = manager.pull(REPO_ID, force=True)
    assert "pytorch_model.bin" in _files_in(pulled.path)


def test_where_links_are_impossible_files_are_moved_into_place(
    hub: LoopbackHub, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_SYMLINKS", "1")
    files = model_files()
    hub.publish(REPO_ID, files)
    pulled = manager.pull(REPO_ID)
    assert not any(path.is_symlink() for path in pulled.path.iterdir())
    assert _files_in(pulled.path) == {path: files[path] for path in NEEDED}
    assert manager.pull(REPO_ID).transferred_bytes == 0
    assert manager.verify(REPO_ID).method == "checksums" and manager.verify(REPO_ID).is_intact


def test_a_planted_link_is_not_written_through(hub: LoopbackHub, manager: ModelManager, tmp_path: Path) -> None:
    hub.publish(REPO_ID, model_files())
    victim = tmp_path / "victim"
    victim.write_text("mine")
    blobs = manager.cache_dir / "models--test-org--tiny" / "blobs"
    blobs.mkdir(parents=True)
    for file in manager.plan(REPO_ID).files:
        (blobs / f"{file.blob_id}.mlxi-part").symlink_to(victim)
    with pytest.raises(errors.ConfigurationError):
        manager.pull(REPO_ID)
    assert victim.read_text() == "mine"


def test_a_snapshot_that_leads_elsewhere_is_not_filled(hub: LoopbackHub, manager: ModelManager, tmp_path: Path) -> None:
    commit = hub.publish(REPO_ID, {**model_files(), "1_Pooling/config.json": b"{}"})
    snapshot = manager.cache_dir / "models--test-org--tiny" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (snapshot / "1_Pooling").symlink_to(elsewhere)
    with pytest.raises(errors.HubError, match="leads out of the cache"):
        manager.pull(REPO_ID)
    assert list(elsewhere.iterdir()) == []


def test_a_file_that_huggingface_hub_is_downloading_is_left_to_it(
    hub: LoopbackHub, make: Callable[..., ModelManager]
) -> None:
    from huggingface_hub.utils._fixes import WeakFileLock

    files = model_files()
    hub.publish(REPO_ID, files)
    manager = make(clock=None)
    (file,) = [file for file in manager.plan(REPO_ID).files if file.path == "model.safetensors"]
    repository = manager.cache_dir / "models--test-org--tiny"
    lock = manager.cache_dir / ".locks" / repository.name / f"{file.blob_id}.lock"
    lock.parent.mkdir(parents=True)
    waiting = threading.Event()

    def on_progress(progress: PullProgress) -> None:
        if progress.phase == "waiting":
            waiting.set()

    def download_as_huggingface_hub() -> None:
        with WeakFileLock(lock):
            is_held.set()
            waiting.wait(10)
            (repository / "blobs" / file.blob_id).write_bytes(files["model.safetensors"])

    is_held = threading.Event()
    other = threading.Thread(target=download_as_huggingface_hub)
    other.start()
    is_held.wait(10)
    pulled = manager.pull(REPO_ID, on_progress=on_progress)
    other.join()
    assert waiting.is_set() and hub.downloads("*.safetensors") == []
    assert (pulled.path / "model.safetensors").read_bytes() == files["model.safetensors"]
