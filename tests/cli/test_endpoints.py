"""Talking to a model behind an endpoint from the command line, over real sockets."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_integrations import assembly
from mlx_integrations.cli.conversation.reader import LineReader
from mlx_integrations.cli.main import main
from mlx_integrations.settings import Settings
from tests.openai_server import OpenAIServer, refused_address

KEY = "sk-canary-0123456789"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """An endpoint `house` that wants a key."""
    with OpenAIServer(models=("big", "small"), api_key=KEY) as server:
        _configure(tmp_path, monkeypatch, f'[endpoints.house]\nbase_url = "{server.base_url}"\nmodel = "big"\n')
        monkeypatch.setenv("HOUSE_KEY", KEY)
        yield server
    assembly.use_settings(Settings())


def _configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = tmp_path / "mlxi.toml"
    path.write_text(f'{text}api_key_env = "HOUSE_KEY"\n')
    monkeypatch.setenv("MLXI_CONFIG", str(path))


@pytest.mark.parametrize(
    ("argv", "model"),
    [
        (["chat", "--provider", "house", "Hi"], "big"),
        (["chat", "--provider", "house", "--model", "small", "Hi"], "small"),
        (["--provider", "house", "chat", "-m", "small", "Hi"], "small"),
        (["chat", "--model", "house/small", "Hi"], "small"),
        (["run", "small", "Hi", "--provider", "house"], "small"),
    ],
)
def test_an_endpoint_answers_when_it_is_named(
    server: OpenAIServer, capsys: pytest.CaptureFixture[str], argv: list[str], model: str
) -> None:
    assert main(argv) == 0
    assert capsys.readouterr() == ("Hello from the server.\n", "")
    (call,) = server.calls("chat")
    assert call.body["model"] == model
    assert call.body["messages"] == [{"role": "user", "content": "Hi"}]


def test_a_misspelt_provider_is_answered_with_the_nearest(
    server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", "--provider", "hous", "Hi"]) == 1
    assert "There is no endpoint `hous`" in (told := capsys.readouterr().err) and "Did you mean `house`?" in told
    assert server.requests == []


def test_offline_asks_this_machine_only(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", "--offline", "--provider", "house", "Hi"]) == 0
    _configure(tmp_path, monkeypatch, '[endpoints.house]\nbase_url = "http://192.0.2.1/v1"\nmodel = "big"\n')
    assert main(["chat", "--offline", "--provider", "house", "Hi"]) == 5
    assert "the network is switched off" in capsys.readouterr().err


def test_failures_end_with_a_code_and_never_show_the_key(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", "--provider", "house", "-m", "other", "Hi"]) == 3
    server.fail(status=401, message=f"unknown key {KEY}")
    assert main(["chat", "--provider", "house", "Hi"]) == 1
    server.fail(status=400, message=f"bad key {KEY}")
    assert main(["chat", "--provider", "house", "Hi"]) == 1
    with refused_address() as address:
        _configure(tmp_path, monkeypatch, f'[endpoints.house]\nbase_url = "{address}"\nmodel = "big"\n')
        assert main(["chat", "--provider", "house", "Hi"]) == 5
    monkeypatch.delenv("HOUSE_KEY")
    assert main(["chat", "--provider", "house", "Hi"]) == 1
    told = capsys.readouterr()
    assert "Nobody answers at" in told.err and "HOUSE_KEY is not set" in told.err
    assert KEY not in told.out + told.err


def test_a_conversation_with_an_endpoint_lists_and_changes_its_models(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = iter(["Hi", "/models", "/model small", "Again", None])
    monkeypatch.setattr(LineReader, "read", lambda self: next(lines))
    monkeypatch.setattr("sys.stdin", _Terminal())
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main(["chat", "--provider", "house"]) == 0
    told = capsys.readouterr()
    assert "* big\n  small\n" in told.err + told.out
    assert [call.body["model"] for call in server.calls("chat")] == ["big", "small"]
    assert [message["content"] for message in server.calls("chat")[1].body["messages"]] == [
        "Hi",
        "Hello from the server.",
        "Again",
    ]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
