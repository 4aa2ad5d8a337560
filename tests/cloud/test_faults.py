"""Every way in which an endpoint fails, over real sockets, and the error that each becomes."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from mlx_integrations import errors
from mlx_integrations.cloud.chat import OpenAIChatBackend
from mlx_integrations.cloud.failures import retry_after_seconds
from mlx_integrations.errors import ConfigurationError, ContextOverflowError, MLXIntegrationsError, RemoteError
from mlx_integrations.types import ChatChunk, ChatMessage, ChatRequest, ModelCapabilities
from tests.openai_server import Fault, OpenAIServer, Reply, refused_address

KEY = "sk-canary-0123456789"
ASKED = ChatRequest(messages=(ChatMessage(role="user", content="Hi"),))
PATIENCE_SECONDS = 1.0  # for endpoints that fall silent

Plan = Callable[[OpenAIServer], None]


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(api_key=KEY) as server:
        yield server


def backend_for(address: str, key: Any = KEY, **options: Any) -> OpenAIChatBackend:
    return OpenAIChatBackend(base_url=address, model="test-model", api_key=key, endpoint="house", **options)


def fail_sync(backend: OpenAIChatBackend) -> tuple[list[ChatChunk], BaseException]:
    heard: list[ChatChunk] = []
    try:
        heard.extend(backend.stream(ASKED))
    except MLXIntegrationsError as error:
        return heard, error
    finally:
        backend.close()
    raise AssertionError("it did not fail")


def fail_async(backend: OpenAIChatBackend) -> tuple[list[ChatChunk], BaseException]:
    heard: list[ChatChunk] = []

    async def read() -> BaseException:
        try:
            async for chunk in backend.astream(ASKED):
                heard.append(chunk)
        except MLXIntegrationsError as error:
            return error
        finally:
            await backend.aclose()
        raise AssertionError("it did not fail")

    return heard, asyncio.run(read())


STATUSES: list[tuple[int, dict[str, Any], str, bool]] = [
    (400, {"message": "Unsupported parameter: 'x'"}, "RemoteRequestError", False),
    (401, {}, "RemoteAuthenticationError", False),
    (402, {}, "RemoteQuotaError", False),
    (403, {}, "RemoteAuthenticationError", False),
    (404, {"code": "model_not_found"}, "RemoteModelNotFoundError", False),
    (405, {}, "RemoteModelNotFoundError", False),
    (307, {}, "RemoteModelNotFoundError", False),
    (408, {}, "RemoteTimeoutError", True),
    (409, {}, "RemoteServerError", True),
    (413, {}, "RemoteRequestError", False),
    (422, {}, "RemoteRequestError", False),
    (429, {}, "RemoteRateLimitError", True),
    (429, {"code": "insufficient_quota"}, "RemoteQuotaError", False),
    (500, {}, "RemoteServerError", True),
    (502, {}, "RemoteServerError", True),
    (503, {}, "RemoteServerError", True),
    (529, {"type": "overloaded_error"}, "RemoteServerError", True),
    (400, {"code": "content_filter"}, "RemoteContentPolicyError", False),
    (400, {"code": "context_length_exceeded"}, "ContextOverflowError", False),
]


@pytest.mark.parametrize(("status", "details", "name", "is_retryable"), STATUSES, ids=lambda value: str(value))
@pytest.mark.parametrize("fail", [fail_sync, fail_async])
def test_a_status_becomes_one_error_and_is_asked_for_once(
    server: OpenAIServer, fail: Any, status: int, details: dict[str, Any], name: str, is_retryable: bool
) -> None:
    server.fail(status=status, **details)
    heard, error = fail(backend_for(server.base_url))
    assert heard == [] and type(error) is getattr(errors, name)
    assert error.is_retryable is is_retryable and error.hint
    if isinstance(error, RemoteError):
        assert (error.endpoint, error.status) == ("house", status)
    assert len(server.requests) == 1, "others retry, not the client"


FAULTS: dict[str, tuple[Plan, str, str]] = {
    "reset": (lambda server: server.reset(), "RemoteConnectionError", ""),
    "silent": (lambda server: server.stall(), "RemoteTimeoutError", ""),
    "role, then cut": (lambda server: server.cut(chunks=0), "RemoteStreamError", ""),
    "cut": (lambda server: server.cut(chunks=2), "RemoteStreamError", "one two"),
    "silent end": (lambda server: server.end_early(chunks=2), "RemoteStreamError", "one two"),
    "silent end of all": (lambda server: server.end_early(chunks=4), "RemoteStreamError", "one two three four"),
    "garbage": (lambda server: server.garbage_after(chunks=1), "RemoteStreamError", "one"),
    "role, then silence": (lambda server: server.stall(chunks=0), "RemoteTimeoutError", ""),
    "silence": (lambda server: server.stall(chunks=2), "RemoteTimeoutError", "one two"),
    "error inside": (lambda server: server.error_after(chunks=2), "RemoteServerError", "one two"),
    "role, then error": (lambda server: server.error_after(chunks=0, code=502), "RemoteServerError", ""),
    "rate limit inside": (
        lambda server: server.error_after(chunks=1, code="rate_limit_exceeded"),
        "RemoteRateLimitError",
        "one",
    ),
    "a status as a text": (lambda server: server.error_after(chunks=1, code="429"), "RemoteRateLimitError", "one"),
}


@pytest.mark.parametrize("case", FAULTS)
@pytest.mark.parametrize("fail", [fail_sync, fail_async])
def test_a_fault_in_the_stream_becomes_one_error_after_what_was_said(
    server: OpenAIServer, fail: Any, case: str
) -> None:
    play, name, said = FAULTS[case]
    play(server)
    patience = PATIENCE_SECONDS if name == "RemoteTimeoutError" else 600.0
    heard, error = fail(backend_for(server.base_url, timeout_seconds=patience))
    assert type(error) is getattr(errors, name), error
    assert "".join(chunk.text for chunk in heard) == said
    assert all(chunk.finish is None for chunk in heard)
    assert getattr(error, "partial_text", said) == said
    assert len(server.requests) == 1


@pytest.mark.parametrize("fail", [fail_sync, fail_async])
def test_nobody_there_is_told_with_the_address(fail: Any) -> None:
    with refused_address() as address:
        _, error = fail(backend_for(address))
        assert isinstance(error, errors.RemoteConnectionError | ConnectionError)
        assert address in str(error)


def test_a_name_that_is_no_machine_is_nobody() -> None:
    _, error = fail_sync(backend_for("http://nobody.invalid:1/v1"))
    assert type(error) is errors.RemoteConnectionError


def test_an_overflow_has_the_endpoints_numbers_or_ours(server: OpenAIServer) -> None:
    texts = {
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8500 in the messages, "
        "500 in the completion).": (9000, 8192),
        "prompt is too long: 209170 tokens > 200000 maximum": (209170, 200000),
        "The input token count (1189802) exceeds the maximum number of tokens allowed (1048576).": (1189802, 1048576),
        "the request exceeds the available context size. try increasing the context size": (51, 50),
    }
    capabilities = ModelCapabilities(context_window=50)
    for text, numbers in texts.items():
        server.fail(status=400, message=text)
        _, error = fail_sync(backend_for(server.base_url, capabilities=capabilities))
        assert isinstance(error, ContextOverflowError)
        assert (error.prompt_tokens, error.limit_tokens) == numbers


def test_words_of_an_overflow_in_a_rate_limit_stay_a_rate_limit(server: OpenAIServer) -> None:
    server.fail(status=429, message="Limit: maximum context length is 10 of 20 a minute")
    assert isinstance(fail_sync(backend_for(server.base_url))[1], errors.RemoteRateLimitError)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("header", "seconds"), [(3, 3.0), ("0.5", 0.5), ("soon", None), (None, None)])
def test_how_long_to_wait_is_told(server: OpenAIServer, status: int, header: Any, seconds: float | None) -> None:
    server.fail(status=status, retry_after=header)
    _, error = fail_sync(backend_for(server.base_url))
    assert isinstance(error, errors.RemoteRateLimitError | errors.RemoteServerError)
    assert error.retry_after_seconds == seconds


def test_a_time_to_wait_may_be_a_date() -> None:
    now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp()
    assert retry_after_seconds({"retry-after": "Sat, 21 Nov 2026 12:01:30 GMT"}, now=now) == 90
    assert retry_after_seconds({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT"}, now=now) == 0
    assert retry_after_seconds({"retry-after": "-5"}, now=now) == 0
    assert retry_after_seconds({"retry-after": "inf"}, now=now) is None
    assert retry_after_seconds({"retry-after-ms": "1500", "retry-after": "9"}, now=now) == 1.5


def test_an_error_may_be_a_plain_text_as_mlx_lm_writes_it(server: OpenAIServer) -> None:
    server.reply(Reply(fault=Fault(kind="status", status=400, error="max_tokens must be positive")))  # type: ignore[arg-type]
    _, error = fail_sync(backend_for(server.base_url))
    assert "max_tokens must be positive" in str(error)


# Closing


def test_closing_a_stream_closes_the_connection(server: OpenAIServer) -> None:
    server.stall(chunks=1)
    backend = backend_for(server.base_url)
    stream = backend.stream(ASKED)
    assert next(stream).text == "one"
    stream.close()
    assert server.requests[0].done.wait(10) and server.requests[0].client_left
    backend.close()


def test_cancelling_a_task_closes_the_connection(server: OpenAIServer) -> None:
    server.stall(chunks=1)
    backend = OpenAIChatBackend(base_url=server.base_url, model="test-model", api_key=KEY)

    async def read() -> None:
        began = asyncio.Event()

        async def listen() -> None:
            async for _ in backend.astream(ASKED):
                began.set()

        task = asyncio.create_task(listen())
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await backend.aclose()

    asyncio.run(read())
    assert server.requests[0].done.wait(10) and server.requests[0].client_left


def test_one_backend_serves_many_event_loops_and_threads(server: OpenAIServer) -> None:
    backend = OpenAIChatBackend(base_url=server.base_url, model="test-model", api_key=KEY)

    async def read() -> str:
        text = "".join([chunk.text async for chunk in backend.astream(ASKED)])
        await backend.aclose()
        return text

    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(asyncio.run(read()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts += [asyncio.run(read()), "".join(chunk.text for chunk in backend.stream(ASKED))]
    assert texts == ["Hello from the server."] * 6
    backend.close()


def test_a_closed_backend_opens_again(server: OpenAIServer) -> None:
    backend = backend_for(server.base_url)
    for _ in range(2):
        assert list(backend.stream(ASKED))
        backend.close()


# Keys


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 307])
@pytest.mark.parametrize("fail", [fail_sync, fail_async])
def test_a_key_that_the_endpoint_repeats_is_in_no_text(
    server: OpenAIServer, fail: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.fail(status=status, message=f"Incorrect key {KEY} provided")
    backend = backend_for(server.base_url, SecretStr(KEY))
    _, error = fail(backend)
    chain: list[BaseException] = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    shown = "".join(f"{one}{one!r}{vars(one)!r}{one.args!r}" for one in chain)
    assert KEY not in shown + caplog.text + repr(backend) + repr(vars(backend)) + repr(vars(backend.connection))


def test_a_key_is_asked_for_with_every_request(server: OpenAIServer) -> None:
    keys = iter(["sk-old", KEY])
    backend = backend_for(server.base_url, lambda: next(keys))
    with pytest.raises(errors.RemoteAuthenticationError, match="refuses the key"):
        list(backend.stream(ASKED))
    assert list(backend.stream(ASKED))[-1].finish is not None
    backend.close()


def test_no_key_sends_none_and_says_that_one_is_wanted(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    _, error = fail_sync(backend_for(server.base_url, None))
    assert "`house` wants a key" in str(error)
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("key", ["", "   ", "two words", "line\nbreak", "schlüssel", "null\0"])
def test_an_impossible_key_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigurationError, match="The key of `house`") as caught:
        backend_for("http://localhost:1/v1", key)
    assert not key.strip() or key.strip() not in str(caught.value)


def test_nothing_of_the_environment_reaches_an_endpoint(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    canaries = {
        "OPENAI_API_KEY": "sk-env-canary",
        "OPENAI_ADMIN_KEY": "sk-env-canary",
        "OPENAI_ORG_ID": "org-env-canary",
        "OPENAI_PROJECT_ID": "proj-env-canary",
        "OPENAI_BASE_URL": "http://192.0.2.1/env-canary",
        "OPENAI_CUSTOM_HEADERS": "X-Canary: env-canary\nAuthorization: Bearer env-canary",
    }
    for name, value in canaries.items():
        monkeypatch.setenv(name, value)
    for key in (KEY, None):
        backend = backend_for(server.base_url, key)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server, "api_key", key)
            assert list(backend.stream(ASKED))
        backend.close()
    assert not server.saw("env-canary")
    allowed = {"host", "accept", "accept-encoding", "connection", "content-type", "content-length", "user-agent"}
    assert set(server.requests[1].headers) == allowed


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_is_not_asked_about_this_machine(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with OpenAIServer() as proxy:
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv(name, proxy.root_url)
        backend = backend_for(server.base_url)
        assert list(backend.stream(ASKED))
        backend.close()
        assert proxy.requests == []


def test_a_proxy_is_asked_about_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenAIServer() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.root_url)
        monkeypatch.delenv("http_proxy", raising=False)
        backend = backend_for("http://192.0.2.1/v1")
        assert list(backend.stream(ASKED))
        backend.close()
        (request,) = proxy.requests
        assert request.headers["host"] == "192.0.2.1"


def test_a_redirect_is_not_followed(server: OpenAIServer) -> None:
    with OpenAIServer() as elsewhere:
        headers = {"Location": f"{elsewhere.base_url}/chat/completions"}
        server.reply(Reply(fault=Fault(kind="status", status=308, headers=headers)))
        _, error = fail_sync(backend_for(server.base_url))
        assert "sends us elsewhere" in str(error) and elsewhere.requests == []


# What cannot be an endpoint


@pytest.mark.parametrize(
    "address", ["localhost:8080", "ftp://x/v1", "http://", "http://user:pw-canary@x/v1", "https://x/v1?key=pw-canary"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        backend_for(address)
    assert "pw-canary" not in str(caught.value) and caught.value.hint


@pytest.mark.parametrize(
    "options", [{"timeout_seconds": 0}, {"connect_seconds": -1}, {"timeout_seconds": float("nan")}]
)
def test_no_patience_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="seconds"):
        OpenAIChatBackend(base_url="http://localhost:1/v1", model="m", **options)  # type: ignore[arg-type]
