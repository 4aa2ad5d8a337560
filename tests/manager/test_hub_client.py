"""What a Hub answers is taken for what it means, and a hostile or broken one harms nothing."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlx_integrations import errors
from mlx_integrations.manager import ModelManager
from mlx_integrations.manager.answers import check_status
from mlx_integrations.manager.hub_client import HubClient
from mlx_integrations.manager.pacing import InterruptionError
from tests.hub import LoopbackHub, go_online
from tests.manager.conftest import FakeClock, model_files

REPO_ID = "test-org/tiny"
COMMIT = "a" * 40
Reply = tuple[int, dict[str, str], bytes]


class _Strange:
    """A server that answers every path as it is told to."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        replies = self.replies

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                key = next((key for key in replies if key in self.path), "")
                status, headers, body = replies.get(key, (404, {}, b""))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"

    def tree(self, *entries: dict[str, Any]) -> None:
        self.replies["/revision/"] = (200, {}, json.dumps({"sha": COMMIT}).encode())
        self.replies["/tree/"] = (200, {}, json.dumps(list(entries)).encode())


def entry(path: str = "config.json", **changes: Any) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": 2, "oid": "b" * 40, **changes}


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Strange]:
    go_online(monkeypatch)
    strange = _Strange()
    yield strange
    strange.server.shutdown()
    strange.server.server_close()


@pytest.fixture
def client(strange: _Strange, fake_clock: FakeClock) -> HubClient:
    return HubClient(endpoint=strange.endpoint, token="secret", clock=fake_clock.clock)


@pytest.mark.parametrize(
    "path",
    ["../x.json", "/etc/passwd", "a/../../b", "a//b", "C:/x", "..\\x", "a\x00b", "a\nb", ".", "", "x" * 300, "a\ud800"],
)
def test_a_file_name_that_leads_elsewhere_is_refused(
    strange: _Strange, client: HubClient, cache: Path, path: str
) -> None:
    strange.tree(entry(), entry(path))
    with pytest.raises(errors.HubError, match="leads out of its folder"):
        client.tree(REPO_ID, COMMIT)
    with pytest.raises(errors.HubError):
        ModelManager(endpoint=strange.endpoint, cache_dir=cache).pull(REPO_ID)
    assert not cache.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"size": -1},
        {"size": 10**15},
        {"size": "2"},
        {"size": True},
        {"size": 2.0},
        {"oid": "../../x"},
        {"oid": "B" * 40},
        {"lfs": {"oid": "short", "size": 2}},
        {"lfs": {"oid": "c" * 64, "size": -5}},
        {"path": 7},
    ],
)
def test_a_file_that_cannot_be_is_refused(strange: _Strange, client: HubClient, changes: dict[str, Any]) -> None:
    strange.tree(entry(**changes))
    with pytest.raises(errors.HubError, match="no file can be"):
        client.tree(REPO_ID, COMMIT)


def test_a_name_that_is_a_file_and_a_folder_is_refused(strange: _Strange, client: HubClient) -> None:
    strange.tree(entry("config.json"), entry("config.json/x.json"))
    with pytest.raises(errors.HubError, match="as a file and as a folder"):
        client.tree(REPO_ID, COMMIT)


@pytest.mark.parametrize(
    "body", [b"<html>Log in</html>", b"[]", b'{"sha": "main"}', b'{"sha": 5}', b"[" * 100_000, b"\xff\xfe"]
)
def test_an_answer_that_is_not_a_hubs_is_named_as_such(strange: _Strange, client: HubClient, body: bytes) -> None:
    strange.replies["/revision/"] = (200, {}, body)
    with pytest.raises(errors.HubError, match="cannot be taken from") as caught:
        client.commit(REPO_ID, "main")
    assert "HF_ENDPOINT" in caught.value.hint


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "javascript:1", "http://[", "http://127.0.0.1:99999/", "//["]
)
def test_a_redirect_to_another_protocol_is_not_followed(strange: _Strange, client: HubClient, target: str) -> None:
    strange.replies["/resolve/"] = (302, {"Location": target}, b"")
    with pytest.raises(errors.HubError, match="it redirects to"), client.stream(REPO_ID, COMMIT, "x"):
        pass


def test_a_secure_address_never_leads_to_an_open_one() -> None:
    client = HubClient(endpoint="https://hub.example")
    with pytest.raises(errors.HubError, match="it redirects to `http:`"):
        client._redirected("https://hub.example/x", "http://hub.example/y", REPO_ID)
    assert client._redirected("https://hub.example/x", "/y", REPO_ID) == "https://hub.example/y"


def test_redirects_in_a_circle_end(strange: _Strange, client: HubClient) -> None:
    strange.replies["/resolve/"] = (302, {"Location": f"/{REPO_ID}/resolve/again"}, b"")
    with pytest.raises(errors.HubError, match="for ever"), client.stream(REPO_ID, COMMIT, "x"):
        pass


def test_a_signed_address_that_is_no_longer_good_is_asked_for_again(strange: _Strange, client: HubClient) -> None:
    other = _Strange()
    strange.replies["/resolve/"] = (302, {"Location": f"{other.endpoint}/signed"}, b"")
    with pytest.raises(InterruptionError, match="status 404"), client.stream(REPO_ID, COMMIT, "x"):
        pass
    other.server.shutdown()
    other.server.server_close()


def test_a_huge_config_is_not_read_to_its_end(strange: _Strange, client: HubClient) -> None:
    strange.replies["/resolve/"] = (200, {}, b"x" * 5000)
    assert len(client.read(REPO_ID, COMMIT, "config.json", limit_bytes=5000)) == 5000
    with pytest.raises(errors.HubError, match="larger than 4,999 bytes"):
        client.read(REPO_ID, COMMIT, "config.json", limit_bytes=4999)


@pytest.mark.parametrize("header", ["", "bytes", "items 0-1/2", "bytes x-1/2", "bytes ²-1/2", f"bytes {'9' * 5000}-/2"])
def test_a_part_that_does_not_say_which_it_is_is_not_used(strange: _Strange, client: HubClient, header: str) -> None:
    strange.replies["/resolve/"] = (206, {"Content-Range": header}, b"ab")
    with pytest.raises(InterruptionError, match="without saying which"), client.stream(REPO_ID, COMMIT, "x", start=5):
        pass


def test_a_tree_of_several_pages_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    go_online(monkeypatch)
    with LoopbackHub(page_size=2) as hub:
        commit = hub.publish(REPO_ID, model_files(1000))
        files = HubClient(endpoint=hub.endpoint).tree(REPO_ID, commit)
    assert {file.path for file in files} == set(model_files(1000))
    (weights,) = [file for file in files if file.path == "model.safetensors"]
    assert weights.blob_id == weights.sha256 and len(weights.sha256 or "") == 64
    assert weights.size_bytes == 1000


@pytest.mark.parametrize(
    "link", ["<http://[>; rel=next", "<>; rel=next", "<", "; rel=next", "<?x>; rel=next; rel=next"]
)
def test_a_strange_link_to_the_next_page_is_no_other_error(strange: _Strange, client: HubClient, link: str) -> None:
    strange.tree(entry())
    strange.replies["/tree/"] = (200, {"Link": link}, b"[]")
    with suppress(errors.HubError):
        assert client.tree(REPO_ID, COMMIT) == ()


@pytest.mark.parametrize("own_address", ["", "https://huggingface.co"])
def test_a_mirror_in_a_folder_of_its_server_is_asked_there_for_every_page(
    strange: _Strange, fake_clock: FakeClock, own_address: str
) -> None:
    page = f"/api/models/{REPO_ID}/tree/{COMMIT}?cursor=2"
    for link in (f"{strange.endpoint}/mirrors/hub{page}", f"{own_address}{page}"):
        pages = {"cursor=2": ({}, "model.safetensors"), "recursive": ({"Link": f'<{link}>; rel="next"'}, "config.json")}
        for key, (headers, path) in pages.items():
            strange.replies[f"/mirrors/hub/api/models/{REPO_ID}/tree/{COMMIT}?{key}"] = (
                200,
                headers,
                json.dumps([entry(path)]).encode(),
            )
        client = HubClient(endpoint=f"{strange.endpoint}/mirrors/hub/", clock=fake_clock.clock)
        assert [file.path for file in client.tree(REPO_ID, COMMIT)] == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    "endpoint", ["hf-mirror.example", "ftp://hub.example", "http://[", "https://", "http://h:99999"]
)
def test_an_endpoint_that_is_no_address_is_named_at_once(
    endpoint: str, fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_online(monkeypatch)
    client = HubClient(endpoint=endpoint, clock=fake_clock.clock)
    for ask in (lambda: client.commit(REPO_ID, "main"), lambda: client.greet(1.0)):
        with pytest.raises(errors.HubError, match="is not an address") as caught:
            ask()
        assert "HF_ENDPOINT" in caught.value.hint
    assert fake_clock.pauses == []


def test_a_server_that_hangs_up_is_tried_four_times(fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    go_online(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as server:
        calls = []

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                calls.append(1)
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        client = HubClient(endpoint=f"http://127.0.0.1:{server.getsockname()[1]}", clock=fake_clock.clock)
        with pytest.raises(errors.HubUnavailableError):
            client.commit(REPO_ID, "main")
        server.shutdown(socket.SHUT_RDWR)
    assert len(calls) == 4
    assert fake_clock.pauses == [0.5, 1.0, 2.0]


def test_the_token_of_the_hub_is_used_when_none_is_given(
    hub: LoopbackHub, make: Callable[..., ModelManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    monkeypatch.setenv("HF_TOKEN", "from-the-environment")
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    hub.publish(REPO_ID, model_files(1000))
    make(endpoint=None).plan(REPO_ID)
    assert {request.authorization for request in hub.requests} == {"Bearer from-the-environment"}


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (401, {"x-error-code": "GatedRepo"}, errors.GatedRepositoryError),
        (403, {"x-error-code": "GatedRepo"}, errors.GatedRepositoryError),
        (403, {}, errors.GatedRepositoryError),
        (401, {}, errors.RepositoryNotFoundError),
        (404, {}, errors.RepositoryNotFoundError),
        (404, {"x-error-code": "RepoNotFound"}, errors.RepositoryNotFoundError),
        (404, {"x-error-code": "RevisionNotFound"}, errors.RevisionNotFoundError),
        (404, {"x-error-code": "EntryNotFound"}, errors.HubError),
        (400, {}, errors.HubError),
        (418, {}, errors.HubError),
        (300, {}, errors.HubError),
        (429, {}, InterruptionError),
        (500, {}, InterruptionError),
        (521, {}, InterruptionError),
        (416, {}, InterruptionError),
    ],
)
def test_every_status_has_its_meaning(status: int, headers: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        check_status(status, headers, REPO_ID, "main", "https://hub.example")
    assert type(caught.value) is error
    if isinstance(caught.value, errors.HubError):
        assert caught.value.hint and caught.value.repo_id == REPO_ID
