"""The remote catalogue against a real server that answers, changes, fails and lies; and the user's own entries."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_integrations.errors import RegistryError
from mlx_integrations.registry import ModelRegistry, load_registry
from mlx_integrations.registry.fetching import MAX_BODY_BYTES, Fetched, FetchError, fetch_http
from mlx_integrations.registry.overlay import CACHE_FILE, RefreshState, refresh_state
from tests.registry.catalogue_server import Answer, CatalogueServer, reply, serving

HOUR = 3600.0
NEW = {"id": "new-model", "name": "New Model", "kind": "chat", "repo_id": "mlx-community/New-4bit"}
CHANGED = {"id": "llama-3.2-3b", "name": "Llama, corrected", "kind": "chat"}


def content(*models: dict[str, Any], updated: str = "2027-01-01") -> bytes:
    return json.dumps({"schema_version": 1, "updated": updated, "models": list(models)}).encode()


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[CatalogueServer]:
    with serving() as state:
        state.body = content(NEW)
        yield state


@pytest.fixture
def clock() -> Clock:
    return Clock()


def load(server: CatalogueServer, folder: Path, clock: Clock, **options: Any) -> ModelRegistry:
    return load_registry(cache_dir=folder, url=server.url, now=clock, **{"refresh": True, **options})


def test_without_an_address_there_is_the_embedded_catalogue(tmp_path: Path) -> None:
    assert load_registry(cache_dir=tmp_path / "none", refresh=True) == ModelRegistry.embedded()
    assert not (tmp_path / "none").exists()


def test_remote_entries_are_added_and_win_over_embedded_ones(
    server: CatalogueServer, tmp_path: Path, clock: Clock
) -> None:
    server.body = content(NEW, CHANGED)
    registry = load(server, tmp_path, clock)
    new, changed = registry.get("mlx-community/New-4bit"), registry.get("llama-3.2-3b")
    assert new is not None and new.origin == "remote"
    assert changed is not None and changed.name == "Llama, corrected"
    assert len(registry.entries) == len(ModelRegistry.embedded().entries) + 1
    assert (registry.source, registry.updated) == ("embedded, remote", "2027-01-01")


def test_nothing_is_asked_unless_it_is_told_to(server: CatalogueServer, tmp_path: Path, clock: Clock) -> None:
    assert load(server, tmp_path, clock, refresh=False) == ModelRegistry.embedded()
    assert load(server, tmp_path, clock, offline=True) == ModelRegistry.embedded()
    assert server.requests == []


def test_the_server_is_asked_once_a_day(server: CatalogueServer, tmp_path: Path, clock: Clock) -> None:
    for hours in (0, 1, 22.9):
        clock.now += hours * HOUR
        assert load(server, tmp_path, clock).get("new-model") is not None
    assert len(server.requests) == 1
    clock.now += 0.2 * HOUR
    load(server, tmp_path, clock)
    assert len(server.requests) == 2


def test_a_stale_list_is_used_without_refreshing_and_offline(
    server: CatalogueServer, tmp_path: Path, clock: Clock
) -> None:
    load(server, tmp_path, clock)
    clock.now += 1000 * HOUR
    for options in ({"refresh": False}, {"offline": True}):
        assert load(server, tmp_path, clock, **options).get("new-model") is not None
    assert len(server.requests) == 1


def test_an_unchanged_list_is_not_sent_again(server: CatalogueServer, tmp_path: Path, clock: Clock) -> None:
    load(server, tmp_path, clock)
    clock.now += 25 * HOUR
    assert load(server, tmp_path, clock).get("new-model") is not None
    assert [headers.get("If-None-Match") for _, headers in server.requests] == [None, '"1"']
    state = refresh_state(tmp_path, server.url)
    assert state == RefreshState(fetched_at=clock.now, tried_at=clock.now)
    load(server, tmp_path, clock)
    assert len(server.requests) == 2, "the confirmation counts for another day"


def test_a_changed_list_replaces_the_old_one(server: CatalogueServer, tmp_path: Path, clock: Clock) -> None:
    load(server, tmp_path, clock)
    server.body, server.etag = content({**NEW, "id": "newer"}), '"2"'
    clock.now += 25 * HOUR
    registry = load(server, tmp_path, clock)
    assert registry.get("newer") is not None
    assert registry.get("new-model") is None


def test_another_address_has_another_list(server: CatalogueServer, tmp_path: Path, clock: Clock) -> None:
    load(server, tmp_path, clock)
    other = load_registry(cache_dir=tmp_path, url=server.url + "?other", offline=True, now=clock)
    assert other == ModelRegistry.embedded()


def test_a_clock_that_was_set_back_does_not_stop_refreshing(
    server: CatalogueServer, tmp_path: Path, clock: Clock
) -> None:
    load(server, tmp_path, clock)
    clock.now -= 1000 * HOUR
    load(server, tmp_path, clock)
    assert len(server.requests) == 2


def _status(code: int) -> Answer:
    return lambda handler: reply(handler, code, b"sorry")


def _body(body: bytes, **headers: str) -> Answer:
    return lambda handler: reply(handler, 200, body, **headers)


def _cut(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"models": [')


def _endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 65536)


def _rubbish(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\x01\x02 nonsense\r\n\r\n")


def _circle(handler: BaseHTTPRequestHandler) -> None:
    reply(handler, 302, b"", Location=handler.path)


FAILURES: dict[str, Answer] = {
    "an error of the server": _status(500),
    "a missing file": _status(404),
    "nothing": _status(204),
    "too many requests": _status(429),
    "an empty file": _body(b""),
    "a page": _body(b"<html>log in first</html>"),
    "not UTF-8": _body(b"\xff\xfe\x00"),
    "JSON of another kind": _body(b"[1, 2]"),
    "no entry": _body(content()),
    "no valid entry": _body(content({"id": "X", "name": 1})),
    "a later version": _body(json.dumps({"schema_version": 2, "models": [NEW]}).encode()),
    "NaN": _body(b'{"models": [{"id": "a", "name": "a", "kind": "chat", "parameters": NaN}]}'),
    "depth": _body(b"[" * 200_000),
    "a huge number": _body(b'{"models": [' + b"9" * 100_000 + b"]}"),
    "half a file": _cut,
    "no end": _endless,
    "more than fits": _body(b" " * (MAX_BODY_BYTES + 1) + content(NEW)),
    "a compressed bomb": _body(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip"),
    "another server": lambda handler: reply(handler, 302, b"", Location="http://127.0.0.1:1/models.json"),
    "another scheme": lambda handler: reply(handler, 302, b"", Location="file:///etc/passwd"),
    "a circle": _circle,
    "a redirect to nowhere": lambda handler: reply(handler, 302, b""),
    "rubbish": _rubbish,
    "a closed line": lambda handler: None,
}


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES)
def test_a_server_that_fails_or_lies_changes_nothing(
    answer: Answer, server: CatalogueServer, tmp_path: Path, clock: Clock
) -> None:
    server.answer = answer
    assert load(server, tmp_path, clock) == ModelRegistry.embedded()
    assert refresh_state(tmp_path, server.url).failure
    server.answer = None
    clock.now += 1.1 * HOUR
    assert load(server, tmp_path, clock).get("new-model") is not None, "an hour later it is asked again"
    assert refresh_state(tmp_path, server.url).failure == ""
    server.answer = answer
    clock.now += 25 * HOUR
    assert load(server, tmp_path, clock).get("new-model") is not None, "the good list stays"


def test_a_server_that_is_down_is_asked_once_an_hour(server: CatalogueServer, tmp_path: Path, clock: Clock) -> None:
    server.answer = _status(500)
    for minutes in (0, 1, 58):
        clock.now += minutes * 60
        load(server, tmp_path, clock)
    assert len(server.requests) == 1


def test_no_server_at_all_changes_nothing(tmp_path: Path, clock: Clock) -> None:
    registry = load_registry(cache_dir=tmp_path, url="http://127.0.0.1:1/models.json", refresh=True, now=clock)
    assert registry == ModelRegistry.embedded()


def test_a_redirect_on_the_same_server_is_followed(server: CatalogueServer, tmp_path: Path, clock: Clock) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/moved":
            reply(handler, 200, server.body)
        else:
            reply(handler, 301, b"", Location="/moved")

    server.answer = answer
    assert load(server, tmp_path, clock).get("new-model") is not None


@pytest.mark.parametrize(
    "url",
    ["http://example.org/m.json", "ftp://127.0.0.1/m", "file:///etc/passwd", "m.json", "https://", "http://[", ""],
)
def test_only_https_and_this_machine_are_asked(url: str) -> None:
    with pytest.raises(FetchError):
        fetch_http(url, "")


def test_a_server_that_drips_holds_nobody_longer_than_the_deadline(server: CatalogueServer) -> None:
    stop = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        """Headers, one line every tenth of a second: no single read ever takes long."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not stop.wait(0.1):
            handler.wfile.write(b"X-Wait: yes\r\n")

    server.answer = drip
    started = time.monotonic()
    with pytest.raises(FetchError, match="no whole answer within"):
        fetch_http(server.url, "", deadline_seconds=0.5)
    assert time.monotonic() - started < 2.0
    stop.set()


def test_a_strange_etag_is_not_kept(server: CatalogueServer, tmp_path: Path, clock: Clock) -> None:
    server.etag = '"' + "x" * 5000 + '"'
    load(server, tmp_path, clock)
    clock.now += 25 * HOUR
    load(server, tmp_path, clock)
    assert all("If-None-Match" not in headers for _, headers in server.requests)


DAMAGED = [b"", b"{", b"\xff", b"[]", b'{"format": 9}', b"[" * 100_000, b" " * (2 * MAX_BODY_BYTES + 10)]


@pytest.mark.parametrize("damage", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_cache_counts_as_none(damage: bytes, server: CatalogueServer, tmp_path: Path, clock: Clock) -> None:
    (tmp_path / CACHE_FILE).write_bytes(damage)
    assert load(server, tmp_path, clock, refresh=False) == ModelRegistry.embedded()
    assert load(server, tmp_path, clock).get("new-model") is not None


_FIELDS = st.sampled_from(["format", "url", "etag", "fetched_at", "tried_at", "failure", "document"])
_VALUES = st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=9), st.lists(st.integers(), max_size=3))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cached=st.binary(max_size=200) | st.dictionaries(_FIELDS, _VALUES))
def test_no_cache_makes_loading_fail(cached: bytes | dict[str, Any], tmp_path: Path) -> None:
    url = "https://example.org/models.json"
    if isinstance(cached, dict):
        cached = json.dumps({"format": 1, "url": url, **cached}).encode()
    (tmp_path / CACHE_FILE).write_bytes(cached)
    load_registry(cache_dir=tmp_path, url=url, offline=True)
    refresh_state(tmp_path, url)


def test_a_folder_that_cannot_be_written_is_no_error(server: CatalogueServer, tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("in the way")
    assert load(server, tmp_path / "file", clock) == ModelRegistry.embedded()
    assert (tmp_path / "file").read_text() == "in the way"


URL = "https://example.org/models.json"


def _fetch_at_once(url: str, etag: str) -> Fetched:
    return Fetched(body=content(NEW, *({**NEW, "id": f"filler-{number}"} for number in range(200))))


def _refresh_in_a_process(folder: str, count: int) -> None:
    for _ in range(count):
        load_registry(cache_dir=Path(folder), url=URL, refresh=True, refresh_hours=0.0, fetch=_fetch_at_once)


def test_two_processes_write_the_cache_and_a_reader_never_sees_half_of_it(tmp_path: Path) -> None:
    _refresh_in_a_process(str(tmp_path), 1)
    context = get_context("spawn")
    processes = [context.Process(target=_refresh_in_a_process, args=(str(tmp_path), 60)) for _ in range(2)]
    for process in processes:
        process.start()
    reads = 0
    while any(process.is_alive() for process in processes):
        assert load_registry(cache_dir=tmp_path, url=URL).get("filler-199") is not None
        reads += 1
    assert [process.exitcode for process in processes] == [0, 0]
    assert reads > 0
    assert sorted(item.name for item in tmp_path.iterdir() if item.suffix != ".lock") == [CACHE_FILE]


def test_of_two_that_are_due_at_once_one_asks(tmp_path: Path, clock: Clock) -> None:
    """The second one finds the first at work, and takes what is there instead of waiting."""
    asked, seen = [], []

    def fetch(url: str, etag: str) -> Fetched:
        asked.append(url)
        seen.append(load_registry(cache_dir=tmp_path, url=url, refresh=True, now=clock, fetch=fetch))
        return Fetched(body=content(NEW))

    registry = load_registry(cache_dir=tmp_path, url="https://example.org/m.json", refresh=True, now=clock, fetch=fetch)
    assert registry.get("new-model") is not None
    assert (len(asked), seen) == (1, [ModelRegistry.embedded()])


TOML = """
[[models]]
id = "ours"
name = "Our model"
kind = "chat"
repo_id = "our-team/model-4bit"
aliases = ["house-model"]
weight_bytes = 1_000_000

[models.quantization]
bits = 4
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("models.toml", TOML),
        ("models.json", json.dumps({"models": [{**NEW, "id": "ours", "aliases": ["house-model"]}]})),
    ],
)
def test_the_users_entries_are_read_from_toml_and_json(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    registry = load_registry(cache_dir=tmp_path, user_file=tmp_path / name)
    entry = registry.get("house-model")
    assert entry is not None and (entry.id, entry.origin) == ("ours", "user")
    assert registry.source == "embedded, user"


def test_the_users_entries_win_over_the_remote_ones(server: CatalogueServer, tmp_path: Path, clock: Clock) -> None:
    server.body = content(NEW, CHANGED)
    own = tmp_path / "models.json"
    own.write_text(json.dumps({"models": [{**CHANGED, "name": "mine"}]}))
    registry = load(server, tmp_path / "cache", clock, user_file=own)
    entry = registry.get("llama-3.2-3b")
    assert entry is not None and entry.name == "mine"
    assert registry.get("new-model") is not None
    assert registry.source == "embedded, remote, user"


def test_no_file_of_the_user_is_no_error(tmp_path: Path) -> None:
    assert load_registry(cache_dir=tmp_path, user_file=tmp_path / "none.toml") == ModelRegistry.embedded()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("models.toml", "[[models]\n", "cannot be read"),
        ("models.json", "{", "cannot be read"),
        ("models.json", '{"models": [NaN]}', "NaN is not a number"),
        ("models.json", "[" * 100_000, "cannot be read"),
        ("models.json", "[]", "holds no list of models"),
        ("models.toml", 'models = "none"\n', "holds no list of models"),
        ("models.json", '{"models": [7]}', r"Entry 1 of .* is not valid: it is not an object"),
        ("models.toml", TOML.replace('"chat"', '"talk"'), r"Entry 1 \(`ours`\) .*`kind`: it must be one of chat"),
        ("models.toml", TOML + '[[models]]\nid = "two"\nname = "Two"\n', r"Entry 2 \(`two`\) .*`kind`: it is missing"),
    ],
)
def test_a_mistake_in_the_users_file_is_named(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RegistryError, match=message) as caught:
        load_registry(cache_dir=tmp_path, user_file=tmp_path / name)
    assert caught.value.path == str(tmp_path / name)
    assert caught.value.hint


def test_a_folder_in_the_place_of_the_users_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="cannot be read"):
        load_registry(cache_dir=tmp_path, user_file=tmp_path)
