"""`mlxi chat`: the answer on stdout and nothing else, talk on stderr."""

import io
import json

import pytest

from mlx_integrations.cli.main import main
from mlx_integrations.cli.parts import Parts
from mlx_integrations.settings import Settings
from mlx_integrations.testing import FakeAnswer, FakeChatBackend
from mlx_integrations.types import ChatMessage


def _parts(backend: FakeChatBackend) -> Parts:
    def find(model: str, provider: str = "mlx") -> FakeChatBackend:
        assert model in ("fake", "demo") and provider == "mlx"
        return backend

    return Parts(chat_backend=find)


def test_the_answer_goes_to_stdout_and_nothing_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    backend = FakeChatBackend(["Hello there."])
    assert main(["chat", "--model", "fake", "Hi"], _parts(backend)) == 0
    assert capsys.readouterr() == ("Hello there.\n", "")
    assert backend.requests[0].messages == (ChatMessage(role="user", content="Hi"),)


def test_options_reach_the_request() -> None:
    backend = FakeChatBackend()
    options = ["--system", "Be brief.", "--max-tokens", "7", "--temperature", "0.5", "--provider", "mlx"]
    assert main(["chat", "--model", "fake", *options, "Hi"], _parts(backend)) == 0
    request = backend.requests[0]
    assert request.messages[0] == ChatMessage(role="system", content="Be brief.")
    assert (request.sampling.max_tokens, request.sampling.temperature) == (7, 0.5)


def test_the_question_may_come_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("What is this?\n"))
    backend = FakeChatBackend()
    assert main(["chat", "--model", "fake"], _parts(backend)) == 0
    assert backend.requests[0].messages[-1].content == "What is this?\n"


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_wrong_usage(
    question: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(question))
    backend = FakeChatBackend()
    assert main(["chat", "--model", "fake"], _parts(backend)) == 2
    assert "There is no question" in capsys.readouterr().err
    assert backend.requests == []


def test_the_model_of_the_settings_is_the_default() -> None:
    asked: list[str] = []

    def find(model: str) -> FakeChatBackend:
        asked.append(model)
        return FakeChatBackend()

    parts = Parts(chat_backend=find, settings=lambda: Settings(models={"default": "mine"}))
    assert main(["chat", "hi"], parts) == 0
    assert asked == ["mine"]


def test_json_is_one_object_with_text_and_usage(capsys: pytest.CaptureFixture[str]) -> None:
    backend = FakeChatBackend([FakeAnswer(text="Zoë says hi", reasoning="hm", cached_tokens=2)])
    assert main(["chat", "--model", "fake", "--json", "Hi"], _parts(backend)) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    record = json.loads(captured.out)
    assert (record["text"], record["reasoning"], record["finish_reason"]) == ("Zoë says hi", "hm", "stop")
    assert record["usage"]["completion_tokens"] == 4
    assert record["usage"]["cached_tokens"] == 2


def test_thoughts_are_not_part_of_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    backend = FakeChatBackend([FakeAnswer(text="Yes.", reasoning="Let me see")])
    assert main(["chat", "--model", "fake", "Hi"], _parts(backend)) == 0
    assert capsys.readouterr() == ("Yes.\n", "Let me see\n")


def test_a_cut_answer_is_said_to_be_cut(capsys: pytest.CaptureFixture[str]) -> None:
    backend = FakeChatBackend(["one two three four"])
    assert main(["chat", "--model", "fake", "--max-tokens", "2", "Hi"], _parts(backend)) == 0
    captured = capsys.readouterr()
    assert captured.out == "one two\n"
    assert "cut after 2 tokens" in captured.err
