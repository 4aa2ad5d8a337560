"""Whether the Hub is there, and whether it takes the token: one question, one attempt."""

import socket
from pathlib import Path

import pytest

from mlx_integrations.errors import HubUnavailableError, OfflineError
from mlx_integrations.manager import ModelManager
from tests.hub import LoopbackHub, go_online


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    go_online(monkeypatch)


@pytest.mark.parametrize("status", [200, 401, 404])
def test_any_answer_is_an_answer(status: int, tmp_path: Path) -> None:
    with LoopbackHub() as hub:
        hub.fail("/api/whoami-v2", status=status)
        greeting = ModelManager(endpoint=hub.endpoint, cache_dir=tmp_path, token="hf_mine").greet_hub(2.0)
        assert (greeting.status, hub.requests[0].authorization) == (status, "Bearer hf_mine")
        assert greeting.host == hub.endpoint.removeprefix("http://")
        assert len(hub.requests) == 1


def test_no_answer_is_told_after_one_attempt(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://somebody:secret@127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(HubUnavailableError, match="did not answer in time") as caught:
            ModelManager(endpoint=endpoint, cache_dir=tmp_path).greet_hub(0.2)
    assert "secret" not in str(caught.value)


def test_offline_nothing_is_asked(tmp_path: Path) -> None:
    with LoopbackHub() as hub:
        with pytest.raises(OfflineError):
            ModelManager(endpoint=hub.endpoint, cache_dir=tmp_path, offline=True).greet_hub(2.0)
        assert hub.requests == []


def test_whether_there_is_a_token(tmp_path: Path) -> None:
    assert not ModelManager(cache_dir=tmp_path).has_token
    assert ModelManager(cache_dir=tmp_path, token="hf_mine").has_token
