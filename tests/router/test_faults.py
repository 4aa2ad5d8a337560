"""A matrix of faults, played by real servers on this machine and by models in this process.

Live, a fault before anything was shown is rescued by the next candidate, and one after it ends with an error that
carries what was shown. With `guarantee="complete"`, both are rescued. What the caller caused, and what rules forbid, is
asked of nobody else. In no case are two answers mixed, or is half a tool call let through.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import pytest

from mlx_integrations.assembly import chat_backend
from mlx_integrations.cloud.chat import OpenAIChatBackend
from mlx_integrations.errors import (
    InsufficientMemoryError,
    ModelNotFoundError,
    PartialResponseError,
    RemoteContentPolicyError,
    RemoteRequestError,
    RouterError,
)
from mlx_integrations.protocols import ChatBackend
from mlx_integrations.router.attempts import Router
from mlx_integrations.router.backend import RouterBackend
from mlx_integrations.router.candidates import Candidate, CandidateState, Location
from mlx_integrations.router.policy import Deadlines, Guarantee, Mode, Policy
from mlx_integrations.router.report import RouteReport, report_of
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.worker import get_worker
from mlx_integrations.settings import RuntimeSettings
from mlx_integrations.testing import FakeChatBackend
from mlx_integrations.types import ChatChunk, ChatMessage, ChatRequest, SamplingParams, ToolCall, ToolSpec
from tests.openai_server import OpenAIServer, Reply, refused_address

Expected = Literal["rescued", "partial", "surfaced"]
TOOL = ToolSpec(name="add", parameters={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
REQUEST = ChatRequest(
    messages=(ChatMessage(role="user", content="Hello! Who are you?"),),
    sampling=SamplingParams(temperature=0.0, max_tokens=24),
    tools=(TOOL,),
)
GOOD_CALL = ("add", {"a": 1})
SPARE = Reply(text="This is the spare answer.")
SPARE_CALL = Reply(tool_calls=[GOOD_CALL])
ROUNDS = 8  # more than any candidate is asked


@dataclass(frozen=True, kw_only=True)
class Case:
    """A fault of the candidate that is asked first.

    Attributes:
        play: Puts it into a server's script.
        live: What comes of it while an answer is shown as it comes.
        expects_call: The answer is a call of a tool.
        needs_deadlines: Nobody but the router ends it.
    """

    play: Callable[[OpenAIServer], Any]
    live: Expected = "rescued"
    expects_call: bool = False
    needs_deadlines: bool = False


def failing(**status: Any) -> Case:
    return Case(play=lambda server: server.fail(times=ROUNDS, **status))


CASES: dict[str, Case] = {
    "before the first token: 500": failing(status=500),
    "overloaded: 503": failing(status=503),
    "refused key: 401": failing(status=401),
    "nothing left to spend: 402": failing(status=402),
    "missing model: 404": failing(status=404, code="model_not_found"),
    "too often: 429": failing(status=429),
    "too often, come back later: 429": failing(status=429, retry_after=30),
    "connection reset": Case(play=lambda server: server.reset(times=ROUNDS)),
    "prompt too long": Case(play=lambda server: server.overflow(prompt_tokens=9, limit_tokens=8, times=ROUNDS)),
    "empty first chunk, then an error": Case(play=lambda server: server.error_after(chunks=0, times=ROUNDS)),
    "empty first chunk, then the end": Case(play=lambda server: server.end_early(chunks=0, times=ROUNDS)),
    "empty first chunk, then cut": Case(play=lambda server: server.cut(chunks=0, times=ROUNDS)),
    "error in mid-text": Case(play=lambda server: server.error_after(chunks=2, times=ROUNDS), live="partial"),
    "cut in mid-text": Case(play=lambda server: server.cut(chunks=2, times=ROUNDS), live="partial"),
    "silent end in mid-text": Case(play=lambda server: server.end_early(chunks=2, times=ROUNDS), live="partial"),
    "garbage in mid-text": Case(play=lambda server: server.garbage_after(chunks=2, times=ROUNDS), live="partial"),
    "cut in mid-call": Case(
        play=lambda server: server.cut(chunks=2, tool_calls=[GOOD_CALL], times=ROUNDS), expects_call=True
    ),
    "silent end in mid-call": Case(
        play=lambda server: server.end_early(chunks=2, tool_calls=[GOOD_CALL], times=ROUNDS), expects_call=True
    ),
    "half a call that says it is whole": Case(
        play=lambda server: server.answer(tool_calls=[("add", '{"a": ')], times=ROUNDS), expects_call=True
    ),
    "a call that breaks the schema": Case(
        play=lambda server: server.answer(tool_calls=[("add", {"a": "one"})], times=ROUNDS), expects_call=True
    ),
    "a call of a tool that was not offered": Case(
        play=lambda server: server.answer(tool_calls=[("launch_rocket", {})], times=ROUNDS), expects_call=True
    ),
    "stall before the first token": Case(play=lambda server: server.stall(times=ROUNDS), needs_deadlines=True),
    "stall between tokens": Case(
        play=lambda server: server.stall(chunks=2, times=ROUNDS), live="partial", needs_deadlines=True
    ),
    "the caller's own error: 400": replace(failing(status=400), live="surfaced"),
    "forbidden by rules": replace(failing(status=400, code="content_filter"), live="surfaced"),
}
MODES: dict[Mode, tuple[Location, Location]] = {
    "prefer_local": ("loopback", "remote"),
    "prefer_cloud": ("remote", "loopback"),
    "local_only": ("loopback", "loopback"),
    "cloud_only": ("remote", "remote"),
}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a caller saw of an answer."""

    chunks: list[ChatChunk]
    error: Exception | None
    report: RouteReport | None

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def calls(self) -> list[ToolCall]:
        return [call for chunk in self.chunks for call in chunk.tool_calls]


def asked(backend: RouterBackend, flavour: str, guarantee: Guarantee, request: ChatRequest = REQUEST) -> Seen:
    """Ask in a thread or on an event loop."""
    chunks: list[ChatChunk] = []

    async def aread() -> None:
        stream = backend.aroute(request, guarantee=guarantee)
        try:
            async for chunk in stream:
                chunks.append(chunk)
        finally:
            reports.append(stream.report)
            for each in backend._backends.values():
                if isinstance(each, OpenAIChatBackend):
                    await each.aclose()

    def read() -> None:
        stream = backend.route(request, guarantee=guarantee)
        try:
            for chunk in stream:
                chunks.append(chunk)
        finally:
            reports.append(stream.report)

    reports: list[RouteReport] = []
    error: Exception | None = None
    try:
        asyncio.run(aread()) if flavour == "astream" else read()
    except Exception as caught:  # noqa: BLE001 - the tests look at it
        error = caught
    assert error is None or report_of(error) == reports[0]
    return Seen(chunks=chunks, error=error, report=reports[0])


@pytest.fixture
def spare() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def faulty() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@contextlib.contextmanager
def routed(first: ChatBackend, second: ChatBackend, mode: Mode, deadlines: Deadlines) -> Iterator[RouterBackend]:
    policy = Policy(mode=mode, allow_cloud=mode != "local_only", deadlines=deadlines, order=("first", "second"))
    candidates = [
        Candidate(name=name, location=location) for name, location in zip(("first", "second"), MODES[mode], strict=True)
    ]
    router = Router(candidates, policy, retry_seconds=(0.0, 0.0))
    backend = RouterBackend({"first": first, "second": second}, router)
    try:
        yield backend
    finally:
        assert all(router.roster.health.vitals(name).in_flight == 0 for name in ("first", "second"))
        for each in (first, second):
            if isinstance(each, OpenAIChatBackend):
                each.close()


def endpoint(server: OpenAIServer) -> OpenAIChatBackend:
    return OpenAIChatBackend(base_url=server.base_url, model="test-model")


def check(case: Case, seen: Seen, guarantee: Guarantee) -> None:
    expected = "rescued" if case.live == "partial" and guarantee == "complete" else case.live
    assert all(not chunk.invalid_tool_calls for chunk in seen.chunks)
    if expected == "rescued":
        assert seen.error is None
        if case.expects_call:
            assert [(call.name, dict(call.arguments)) for call in seen.calls] == [GOOD_CALL] and seen.text == ""
        else:
            assert seen.text == SPARE.text and seen.calls == []
        assert seen.report is not None and seen.report.answered_by == "second"
    elif expected == "partial":
        assert isinstance(seen.error, PartialResponseError)
        assert seen.text == seen.error.partial_text == "one two" and seen.calls == []
    else:
        assert isinstance(seen.error, RemoteRequestError | RemoteContentPolicyError) and seen.chunks == []


def combinations() -> Iterator[tuple[str, str, str, Mode]]:
    """Every fault in every way of reading and every guarantee, and every fault in every mode.

    All of it in all modes, which takes four times as long, if MLXI_FULL_MATRIX is set.
    """
    for number, name in enumerate(name for name, case in CASES.items() if not case.needs_deadlines):
        for turn, (flavour, guarantee) in enumerate(product(("stream", "astream"), ("live", "complete"))):
            for place, mode in enumerate(MODES):
                if "MLXI_FULL_MATRIX" in os.environ or place == (number + turn) % len(MODES):
                    yield name, flavour, guarantee, mode


@pytest.mark.parametrize(("name", "flavour", "guarantee", "mode"), list(combinations()))
def test_a_fault_is_rescued_or_said(
    name: str, flavour: str, guarantee: Guarantee, mode: Mode, faulty: OpenAIServer, spare: OpenAIServer
) -> None:
    case = CASES[name]
    case.play(faulty)
    spare.reply(SPARE_CALL if case.expects_call else SPARE)
    with routed(endpoint(faulty), endpoint(spare), mode, Deadlines()) as backend:
        seen = asked(backend, flavour, guarantee)
    check(case, seen, guarantee)
    is_asked = case.live == "rescued" or (case.live == "partial" and guarantee == "complete")
    assert len(spare.calls("chat")) == is_asked


@pytest.mark.parametrize("flavour", ["stream", "astream"])
@pytest.mark.parametrize(
    ("name", "guarantee"),
    [("stall before the first token", "live"), ("stall between tokens", "live"), ("stall between tokens", "complete")],
)
def test_a_stall_is_ended(
    name: str, flavour: str, guarantee: Guarantee, faulty: OpenAIServer, spare: OpenAIServer
) -> None:
    case = CASES[name]
    case.play(faulty)
    spare.reply(SPARE)
    # Long enough for the spare on a machine with other work.
    deadlines = Deadlines(first_token=2.5, between_tokens=2.5)
    with routed(endpoint(faulty), endpoint(spare), "prefer_cloud", deadlines) as backend:
        seen = asked(backend, flavour, guarantee)
        check(case, seen, guarantee)
        faulty.close()  # which ends what a thread may still be waiting for


@pytest.mark.parametrize("flavour", ["stream", "astream"])
@pytest.mark.parametrize("kind", ["nobody listens", "no such host"])
def test_a_server_that_is_not_there_is_passed_over(flavour: str, kind: str, spare: OpenAIServer) -> None:
    spare.reply(SPARE)
    with refused_address() as address:
        base_url = address if kind == "nobody listens" else "http://nowhere.invalid/v1"
        gone = OpenAIChatBackend(base_url=base_url, model="test-model")
        with routed(gone, endpoint(spare), "prefer_cloud", Deadlines()) as backend:
            seen = asked(backend, flavour, "live")
    assert seen.error is None and seen.text == SPARE.text
    assert seen.report is not None and [item.outcome for item in seen.report.attempts][-1] == "answered"


# Models in this process


METAL = RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory (00000008)")


@pytest.mark.parametrize("guarantee", ["live", "complete"])
@pytest.mark.parametrize("flavour", ["stream", "astream"])
@pytest.mark.parametrize("kind", ["missing", "out of memory", "too large", "closed"])
def test_a_model_of_this_process_that_cannot_is_replaced_by_the_cloud(
    kind: str, flavour: str, guarantee: Guarantee, spare: OpenAIServer
) -> None:
    spare.reply(SPARE)
    demo = chat_backend("demo")
    runtime: Runtime | None = None
    local: ChatBackend
    if kind in ("too large", "closed"):
        runtime = Runtime(RuntimeSettings(memory_budget_bytes=1000))
        local = runtime.chat(demo.path)  # type: ignore[attr-defined]
        if kind == "closed":
            runtime.close()
    else:
        error = ModelNotFoundError("No model.", model="x") if kind == "missing" else METAL
        local = FakeChatBackend([error])
    with routed(local, endpoint(spare), "prefer_local", Deadlines()) as backend:
        seen = asked(backend, flavour, guarantee)
    assert seen.error is None and seen.text == SPARE.text
    assert seen.report is not None
    outcomes = {
        "missing": "missing_model",
        "out of memory": "out_of_memory",
        "too large": "no_memory",
        "closed": "broken",
    }
    assert [item.outcome for item in seen.report.attempts] == [outcomes[kind], "answered"]
    if runtime is not None and kind == "too large":
        runtime.close()


def test_a_real_models_own_error_is_the_cause_when_nobody_answers(faulty: OpenAIServer) -> None:
    runtime = Runtime(RuntimeSettings(memory_budget_bytes=1000))
    local = runtime.chat(chat_backend("demo").path)  # type: ignore[attr-defined]
    faulty.fail(status=503, times=ROUNDS)
    with routed(local, endpoint(faulty), "prefer_local", Deadlines()) as backend:
        seen = asked(backend, "stream", "live")
    assert isinstance(seen.error, RouterError) and isinstance(seen.error.__cause__, InsufficientMemoryError)
    assert [name for name, _ in seen.error.attempts] == ["first", "second", "second"]
    runtime.close()


@pytest.mark.parametrize("guarantee", ["live", "complete"])
@pytest.mark.parametrize("flavour", ["stream", "astream"])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.live == "rescued"][:12])
def test_the_demo_model_rescues_what_the_cloud_cannot(
    name: str, flavour: str, guarantee: Guarantee, faulty: OpenAIServer
) -> None:
    demo = chat_backend("demo")
    request = replace(REQUEST, tools=())
    alone = "".join(chunk.text for chunk in demo.stream(request))
    CASES[name].play(faulty)
    with routed(endpoint(faulty), demo, "prefer_cloud", Deadlines(total=120.0)) as backend:
        seen = asked(backend, flavour, guarantee, request)
    assert seen.error is None and seen.text == alone
    assert seen.chunks[-1].finish is not None and seen.chunks[-1].finish.model_id == "demo"


@pytest.mark.parametrize("flavour", ["stream", "astream"])
def test_a_model_that_loads_too_slowly_is_left_loads_on_and_answers_the_next_time(flavour: str) -> None:
    runtime = Runtime()
    local = runtime.chat(chat_backend("demo").path)  # type: ignore[attr-defined]
    spare = FakeChatBackend([SPARE.text], model_id="second")
    request = replace(REQUEST, tools=())
    candidates = [Candidate(name=name, location="in-process") for name in ("first", "second")]

    def observe(name: str) -> CandidateState:
        return CandidateState(is_loaded=name == "second" or runtime.loads > 0)

    in_time = Policy(order=("first", "second"))
    router = Router(candidates, replace(in_time, deadlines=Deadlines(first_token=1.5)), observe=observe)
    backend = RouterBackend({"first": local, "second": spare}, router)
    assert local.capabilities.tools  # the tokenizer is there already, the weights are not
    is_slow = threading.Event()
    get_worker().call(is_slow.wait)  # whatever is loaded waits for that
    seen = asked(backend, flavour, "live", request)
    is_slow.set()
    assert seen.error is None and seen.text == SPARE.text and seen.report is not None
    assert [item.outcome for item in seen.report.attempts] == ["slow_load", "answered"]
    runtime.load(local.path)
    assert all(model.active_requests == 0 for model in runtime.models()), "nothing is computed for nobody"
    router.policy = in_time
    assert asked(backend, flavour, "live", request).text == "".join(chunk.text for chunk in local.stream(request))
    runtime.close()
