"""What the tour shows of the router is what happened, and the server that plays the cloud notes all that it is sent."""

import io

import pytest
from rich.console import Console

from mlx_integrations.cloud import OpenAIChatBackend
from mlx_integrations.demo.page import Page
from mlx_integrations.demo.pretend_cloud import PretendCloud
from mlx_integrations.demo.rescue import CLOUD_ANSWER, Rescue, show_rescues
from mlx_integrations.errors import ConfigurationError
from mlx_integrations.langchain import ChatMLX
from mlx_integrations.langchain.routing import listening
from mlx_integrations.testing import FakeChatBackend
from mlx_integrations.types import ChatMessage, ChatRequest, ChatResult
from tests.langchain.routing import allow_network

QUESTION = "What can you do?"
LOCAL_ANSWER = "one two three four five six seven"


def _shown() -> tuple[tuple[Rescue, ...], str]:
    page = io.StringIO()
    model = ChatMLX(model="fake", backend=FakeChatBackend([LOCAL_ANSWER]))
    rescues = show_rescues(Page(Console(file=page, width=100, highlight=False), pauses=False), model, QUESTION)
    return rescues, page.getvalue()


@pytest.fixture(scope="module")
def online() -> tuple[tuple[Rescue, ...], str]:
    with pytest.MonkeyPatch.context() as patch:
        allow_network(patch)
        return _shown()


def test_a_local_model_that_cannot_answer_is_replaced_unnoticed(online: tuple[tuple[Rescue, ...], str]) -> None:
    for rescue in online[0][:2]:
        assert rescue.mode == "prefer_local"
        assert (rescue.shown, rescue.error, rescue.asked) == (CLOUD_ANSWER, None, ("cloud",))


def test_an_answer_that_breaks_off_is_never_mixed_with_another(online: tuple[tuple[Rescue, ...], str]) -> None:
    live, complete = online[0][2:4]
    assert (live.fault, live.shown, live.error, live.asked) == (
        "interrupted",
        "one two three four",
        "PartialResponseError",
        ("local",),
    )
    assert (complete.shown, complete.error, complete.asked) == (CLOUD_ANSWER, None, ("local", "cloud"))


def test_nothing_reaches_the_cloud_with_local_only(online: tuple[tuple[Rescue, ...], str]) -> None:
    rescues, page = online
    kept = [rescue for rescue in rescues if rescue.mode == "local_only"]
    assert [rescue.fault for rescue in kept] == ["missing", "memory", "interrupted"]
    assert all(rescue.cloud_requests == 0 and rescue.error and rescue.shown == "" for rescue in kept)
    assert [rescue.cloud_requests for rescue in rescues if rescue.mode == "prefer_local"] == [1, 1, 0, 1]
    assert "Requests that reached the cloud: 3 where it is allowed, 0 with `local_only`." in page


def test_who_was_asked_is_shown_and_why_others_were_not(online: tuple[tuple[Rescue, ...], str]) -> None:
    for line in (
        "asked  cloud: answered; local was left out: its model is not on this machine",
        "asked  cloud: answered; local was left out: its model does not fit into memory",
        "asked  local: it failed; cloud: answered",
        "asked  local: it failed; cloud was left out: the mode is `local_only`",
        "error  PrivacyError: The request must stay on this machine",
    ):
        assert line in online[1]


def test_without_a_network_the_cloud_is_not_asked_either() -> None:
    """Tests run offline."""
    rescues, page = _shown()
    assert all(rescue.error and rescue.cloud_requests == 0 for rescue in rescues)
    assert page.count("cloud was left out: the network is switched off") == 4


def test_tracing_which_contradicts_local_only_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_is_traced", lambda: True)  # tracing itself would look for a server
    with pytest.raises(ConfigurationError, match="contradicts LangSmith's tracing"):
        _shown()


def test_the_server_answers_word_by_word_and_notes_what_it_is_asked() -> None:
    with PretendCloud("Hello there.") as server:
        backend = OpenAIChatBackend(base_url=server.base_url, model="cloud")
        request = ChatRequest(messages=(ChatMessage(role="user", content=QUESTION),))
        chunks = list(backend.stream(request))
        backend.connection.close()
    assert [chunk.text for chunk in chunks if chunk.text] == ["Hello", " there."]
    assert ChatResult.join(chunks).finish.reason == "stop"
    assert [body["messages"] for body in server.requests] == [[{"role": "user", "content": QUESTION}]]
