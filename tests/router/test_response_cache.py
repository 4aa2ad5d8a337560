"""The cache of answers: the same question gets the same answer, and nothing else does; private ones leave no trace."""

import logging
import multiprocessing
import os
import sqlite3
import stat
import threading
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_integrations.errors import ConfigurationError, GenerationError, InvalidRequestError
from mlx_integrations.protocols import ChatBackend
from mlx_integrations.router.answer_record import answer_from, answer_to, key_of
from mlx_integrations.router.attempts import Router
from mlx_integrations.router.backend import RouterBackend
from mlx_integrations.router.cached_backend import CacheCounts, CachedBackend
from mlx_integrations.router.candidates import Candidate
from mlx_integrations.router.policy import Policy
from mlx_integrations.router.read import RequestReader
from mlx_integrations.router.response_cache import MemoryResponses, ResponseStore, SQLiteResponses
from mlx_integrations.testing import FakeAnswer, FakeChatBackend
from mlx_integrations.types import (
    Attachment,
    ChatChunk,
    ChatMessage,
    ChatRequest,
    ChatResult,
    Finish,
    InvalidToolCall,
    JsonObjectFormat,
    JsonSchemaFormat,
    ModelCapabilities,
    RegexFormat,
    SamplingParams,
    TokenLogprob,
    ToolCall,
    ToolChoice,
    ToolSpec,
    Usage,
)
from tests.contracts.chat_backend import ChatBackendContract
from tests.test_fake_contract import sensible

GREEDY = SamplingParams(temperature=0)
HELLO = ChatRequest(messages=(ChatMessage(role="user", content="Hello."),), sampling=GREEDY)
CARD = ChatRequest(messages=(ChatMessage(role="user", content="My card: 4111 1111 1111 1111"),), sampling=GREEDY)
CALL = ToolCall(id="1", name="search", arguments={"query": "mlx", "deep": {"a": [1, 2.5, None, True]}})


def said(backend: ChatBackend, request: ChatRequest = HELLO) -> ChatResult:
    return ChatResult.join(backend.stream(request))


async def asaid(backend: ChatBackend, request: ChatRequest = HELLO) -> ChatResult:
    return ChatResult.join([chunk async for chunk in backend.astream(request)])


class Twice:
    """Asks a backend twice and gives the second answer."""

    def __init__(self, backend: ChatBackend) -> None:
        self._backend = backend

    @property
    def model_id(self) -> str:
        return self._backend.model_id

    @property
    def capabilities(self) -> ModelCapabilities:
        return self._backend.capabilities

    def stream(self, request: ChatRequest) -> Generator[ChatChunk, None, None]:
        list(self._backend.stream(request))
        yield from self._backend.stream(request)

    async def astream(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        [_ async for _ in self._backend.astream(request)]
        async for chunk in self._backend.astream(request):
            yield chunk

    def tokenize(self, text: str) -> list[int]:
        return self._backend.tokenize(text)

    def count_prompt_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        return self._backend.count_prompt_tokens(messages, tools)


class TestWhatIsNew(ChatBackendContract):
    @pytest.fixture
    def backend(self) -> ChatBackend:
        return CachedBackend(FakeChatBackend([sensible]), MemoryResponses(), cache_sampled=True)


class TestWhatIsKnown(ChatBackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[ChatBackend]:
        store = SQLiteResponses(tmp_path / "answers.db")
        yield Twice(CachedBackend(FakeChatBackend([sensible]), store, cache_sampled=True))
        store.close()


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ResponseStore]:
    if request.param == "memory":
        yield MemoryResponses()
        return
    made = SQLiteResponses(tmp_path / "answers.db")
    yield made
    made.close()


# What is answered from the cache


async def test_the_same_question_is_answered_once(store: ResponseStore) -> None:
    answer = FakeAnswer(text="It is 5.", reasoning="2 and 3.", tool_calls=(CALL,))
    inner = FakeChatBackend([answer, "another one"])
    backend = CachedBackend(inner, store)
    first = said(backend)
    for again in (said(backend), await asaid(backend)):
        assert (again.text, again.reasoning, again.tool_calls) == (first.text, first.reasoning, first.tool_calls)
        assert (again.finish.reason, again.finish.model_id) == (first.finish.reason, first.finish.model_id)
        assert again.finish.usage == replace(first.finish.usage, cached_tokens=first.finish.usage.prompt_tokens)
    assert len(inner.requests) == 1
    assert backend.counts == CacheCounts(hits=2, misses=1)


def test_an_answer_from_the_cache_can_be_changed_by_whoever_got_it(store: ResponseStore) -> None:
    backend = CachedBackend(FakeChatBackend([CALL]), store)
    said(backend)
    arguments: Any = said(backend).tool_calls[0].arguments
    arguments["deep"]["a"].append("mine")
    assert said(backend).tool_calls == (CALL,)


VARIANTS: list[ChatRequest] = [
    replace(HELLO, messages=(ChatMessage(role="user", content="Hello. "),)),
    replace(HELLO, messages=(ChatMessage(role="system", content="Hello."),)),
    replace(HELLO, messages=(ChatMessage(role="user", content="Hello.", name="ann"),)),
    replace(
        HELLO,
        messages=(ChatMessage(role="user", content="Hello.", attachments=(Attachment(kind="image", data=b"a"),)),),
    ),
    replace(
        HELLO,
        messages=(ChatMessage(role="user", content="Hello.", attachments=(Attachment(kind="image", data=b"b"),)),),
    ),
    replace(HELLO, messages=(*HELLO.messages, *HELLO.messages)),
    replace(HELLO, tools=(ToolSpec(name="a"),)),
    replace(HELLO, tools=(ToolSpec(name="a", description="b"),)),
    replace(HELLO, tools=(ToolSpec(name="a", parameters={"type": "object", "x": 1, "y": 2}),)),
    replace(HELLO, tools=(ToolSpec(name="a", parameters={"type": "object", "y": 2, "x": 1}),)),
    replace(HELLO, tool_choice=ToolChoice(mode="any")),
    replace(HELLO, parallel_tool_calls=False),
    replace(HELLO, output=JsonObjectFormat()),
    replace(HELLO, output=JsonSchemaFormat(schema={"type": "object"})),
    replace(HELLO, output=RegexFormat(pattern="a")),
    replace(HELLO, reasoning=True),
    replace(HELLO, reasoning=False),
    *(replace(HELLO, template_options={"n": value}) for value in (1, True, 1.0, "1", None, [1], {"1": 1}, {1: 1})),
    *(
        replace(HELLO, sampling=replace(GREEDY, **{item.name: value}))  # type: ignore[arg-type]
        for item in fields(SamplingParams)
        for value in [{"stop": ("x",), "logprobs": True, "logit_bias": {1: 2.0}, "temperature": 0.5}.get(item.name, 7)]
    ),
]


def test_everything_that_an_answer_depends_on_is_part_of_its_key() -> None:
    keys = {key_of(request, "model") for request in [HELLO, *VARIANTS]}
    assert None not in keys
    assert len(keys) == len(VARIANTS) + 1
    assert len({key_of(HELLO, *asked) for asked in [("a",), ("b",), ("a", ""), ("a", "b"), ("ab",)]}) == 5
    covered = {
        item.name
        for request in VARIANTS
        for item in fields(request)
        if getattr(request, item.name) != getattr(HELLO, item.name)
    }
    assert covered == {item.name for item in fields(ChatRequest)}


def test_what_is_no_plain_value_is_not_cached() -> None:
    request = replace(HELLO, template_options={"now": object()})
    assert key_of(request) is None
    inner = FakeChatBackend()
    backend = CachedBackend(inner, MemoryResponses())
    said(backend, request)
    said(backend, request)
    assert (len(inner.requests), backend.counts.passed) == (2, 2)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
calls = st.builds(ToolCall, id=st.text(), name=st.text(), arguments=st.dictionaries(st.text(), json_values, max_size=3))
rivals = st.tuples(st.text(), st.integers(), st.floats(allow_nan=False))
answers = st.builds(
    ChatResult,
    text=st.text(),
    reasoning=st.text(),
    tool_calls=st.lists(calls, max_size=2).map(tuple),
    invalid_tool_calls=st.just(()),
    logprobs=st.lists(
        st.builds(
            TokenLogprob,
            token=st.text(),
            token_id=st.integers(),
            logprob=st.floats(allow_nan=False),
            top=st.lists(rivals, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    finish=st.builds(
        Finish,
        reason=st.sampled_from(["stop", "tool_calls"]),
        usage=st.builds(Usage, prompt_tokens=st.integers(0), completion_tokens=st.integers(0)),
        model_id=st.text(),
        stop_string=st.none() | st.text(),
    ),
)


@given(answers)
def test_an_answer_comes_back_as_it_was(answer: ChatResult) -> None:
    assert answer_from(answer_to(answer)) == answer


@given(st.binary(max_size=60) | answers.map(lambda answer: answer_to(answer)[:-3]))
def test_bytes_that_are_no_answer_are_a_miss(data: bytes) -> None:
    assert answer_from(data) is None


def test_a_damaged_answer_is_asked_for_again() -> None:
    store = MemoryResponses()
    inner = FakeChatBackend(["one", "two"])
    backend = CachedBackend(inner, store)
    said(backend)
    (key,) = store._kept
    store.put(key, b"{}")
    assert said(backend).text == "two" and said(backend).text == "two"


# What is kept


@pytest.mark.parametrize(
    ("answer", "sampling"),
    [
        ("Hi.", SamplingParams()),
        ("Hi.", SamplingParams(temperature=0.7)),
        (FakeAnswer(text="Hi", finish_reason="length"), GREEDY),
        (InvalidToolCall(id="1", name="f", arguments="{", error="cut"), GREEDY),
    ],
    ids=["the model's temperature", "sampled", "cut", "a bad call"],
)
def test_what_would_not_be_said_again_is_not_kept(answer: Any, sampling: SamplingParams) -> None:
    inner, request = FakeChatBackend([answer]), replace(HELLO, sampling=sampling)
    backend = CachedBackend(inner, MemoryResponses())
    said(backend, request)
    said(backend, request)
    assert len(inner.requests) == 2


@pytest.mark.parametrize("sampling", [SamplingParams(temperature=0.7, seed=3), SamplingParams()])
def test_sampled_answers_are_kept_with_a_seed_or_if_asked_for(sampling: SamplingParams) -> None:
    inner, request = FakeChatBackend(["one", "two"]), replace(HELLO, sampling=sampling)
    backend = CachedBackend(inner, MemoryResponses(), cache_sampled=sampling.seed is None)
    assert [said(backend, request).text for _ in range(3)] == ["one"] * 3


async def test_an_answer_that_is_not_read_to_its_end_is_not_kept() -> None:
    inner = FakeChatBackend(["one two three"])
    backend = CachedBackend(inner, MemoryResponses())
    stream = backend.stream(HELLO)
    next(stream)
    stream.close()
    astream = backend.astream(HELLO)
    await anext(astream)
    await astream.aclose()
    assert said(backend).text == "one two three"
    assert (len(inner.requests), inner.closed) == (3, 2)


def test_errors_are_not_kept(store: ResponseStore) -> None:
    backend = CachedBackend(FakeChatBackend([GenerationError("it broke"), "Hi."]), store)
    with pytest.raises(GenerationError):
        said(backend)
    assert said(backend).text == "Hi."


def test_two_models_have_two_answers(store: ResponseStore) -> None:
    one = CachedBackend(FakeChatBackend(["one"], model_id="one"), store)
    two = CachedBackend(FakeChatBackend(["two"], model_id="two"), store)
    three = CachedBackend(FakeChatBackend(["three"], model_id="two"), store, identity="v2")
    for _ in range(2):
        assert [said(backend).text for backend in (one, two, three)] == ["one", "two", "three"]


def test_other_weights_under_the_same_name_have_other_answers(tmp_path: Path) -> None:
    class OnDisk(FakeChatBackend):
        path = tmp_path

    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"1")
    store = MemoryResponses()
    assert said(CachedBackend(OnDisk(["one"]), store)).text == "one"
    assert said(CachedBackend(OnDisk(["two"]), store)).text == "one"
    weights.write_bytes(b"12")
    assert said(CachedBackend(OnDisk(["three"]), store)).text == "three"


# What is private


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("options", "request_"),
    [
        ({}, CARD),
        ({"private": True}, HELLO),
        ({"policy": Policy(private_words=("hello",))}, HELLO),
        ({}, replace(HELLO, messages=(*HELLO.messages, ChatMessage(role="tool", content=CARD.messages[0].content)))),
    ],
    ids=["found", "said", "a word", "in a tool's result"],
)
async def test_nothing_private_goes_to_the_disk(
    options: dict[str, Any], request_: ChatRequest, is_async: bool, tmp_path: Path
) -> None:
    canary = "canary-51c2"
    path = tmp_path / "answers.db"
    kept = SQLiteResponses(path)
    said(CachedBackend(FakeChatBackend(), kept), replace(HELLO, reasoning=False))
    backend = CachedBackend(FakeChatBackend([canary]), kept, **options)
    follow = (
        *request_.messages,
        ChatMessage(role="assistant", content=canary),
        ChatMessage(role="user", content="And?"),
    )
    follow = tuple(message for message in follow if message.content == canary or "card" not in message.content)
    for request in (request_, replace(request_, messages=follow)):
        assert (await asaid(backend, request) if is_async else said(backend, request)).text == canary
    assert len(kept) == 1
    kept.close()
    for file in tmp_path.iterdir():
        assert canary.encode() not in file.read_bytes()


def test_what_only_the_router_knows_to_be_private_stays_off_the_disk(tmp_path: Path) -> None:
    policy = Policy()
    reader = RequestReader(policy)
    router = RouterBackend(
        {"fake": FakeChatBackend(["canary-9f0e"])},
        Router([Candidate(name="fake", location="in-process")], policy),
        facts=lambda request: reader.read_chat(request, private=True),
    )
    kept = SQLiteResponses(tmp_path / "answers.db")
    assert said(CachedBackend(router, kept), HELLO).text == "canary-9f0e"
    assert len(kept) == 0


def test_private_answers_are_kept_in_memory() -> None:
    inner = FakeChatBackend(["one", "two"])
    backend = CachedBackend(inner, MemoryResponses())
    assert [said(backend, CARD).text for _ in range(2)] == ["one", "one"]


# Bounds


def test_what_is_too_old_is_forgotten(tmp_path: Path) -> None:
    now = [1000.0]
    for kept in (
        MemoryResponses(max_age_seconds=10, clock=lambda: now[0]),
        SQLiteResponses(tmp_path / "a.db", max_age_seconds=10, clock=lambda: now[0]),
    ):
        kept.put("a", b"1")
        now[0] += 10
        assert kept.get("a") == b"1"
        now[0] += 0.5
        assert kept.get("a") is None and len(kept) == 0
    kept.put("b", b"1")
    now[0] -= 100
    assert kept.get("b") is None


@pytest.mark.parametrize("is_on_disk", [False, True])
def test_the_bound_holds_and_what_was_not_used_for_longest_goes_first(is_on_disk: bool, tmp_path: Path) -> None:
    now, value, bound = [0.0], b"x" * 1000, 20_000

    def clock() -> float:
        now[0] += 1
        return now[0]

    kept: MemoryResponses | SQLiteResponses = MemoryResponses(max_bytes=bound, max_age_seconds=None, clock=clock)
    if is_on_disk:
        kept = SQLiteResponses(tmp_path / "a.db", max_bytes=bound, max_age_seconds=None, clock=clock)
    for number in range(200):
        kept.put(f"key {number}", value)
        assert kept.get("key 0") == value
    assert 10 < len(kept) * len(value) // 1000 <= 20
    assert kept.get("key 199") == value and kept.get("key 100") is None
    kept.put("huge", b"x" * bound)
    assert kept.get("huge") is None and kept.get("key 199") == value
    kept.clear()
    assert len(kept) == 0 and kept.get("key 0") is None
    if isinstance(kept, SQLiteResponses):
        kept.close()
        assert kept.path.stat().st_size < 5 * bound


@pytest.mark.parametrize("options", [{"max_bytes": 0}, {"max_age_seconds": 0}, {"max_age_seconds": -1}])
def test_impossible_bounds_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    for make in (MemoryResponses, lambda **given: SQLiteResponses(tmp_path / "a.db", **given)):
        with pytest.raises(InvalidRequestError):
            make(**options)


# The file


def test_nothing_is_written_before_there_is_an_answer_and_only_the_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.db"
    kept = SQLiteResponses(path)
    assert not path.parent.exists()
    mask = os.umask(0)
    try:
        kept.put("a", b"1")
    finally:
        os.umask(mask)
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {
        "answers.db": 0o600,
        "answers.db-shm": 0o600,
        "answers.db-wal": 0o600,
    }
    kept.close()
    path.chmod(0o644)
    assert kept.get("a") == b"1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept.close()


@pytest.mark.parametrize("damage", ["garbage", "cut", "holes", "header"])
def test_a_damaged_file_is_put_aside_and_the_cache_starts_afresh(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "answers.db"
    kept = SQLiteResponses(path)
    for number in range(40):
        kept.put(f"{number}", bytes(3000))
    kept.close()
    whole = path.read_bytes()
    damaged = {
        "garbage": b"not a database at all, but long enough to be taken for one" * 100,
        "cut": whole[: len(whole) // 3],
        "holes": whole[:4096] + bytes([0xFF]) * (len(whole) - 4096),
        "header": b"SQLite format 4" + whole[15:],
    }[damage]
    path.write_bytes(damaged)
    backend = CachedBackend(FakeChatBackend(["one", "two"]), kept)
    with caplog.at_level(logging.WARNING):
        for number in range(40):
            kept.get(f"{number}")
        assert [said(backend).text for _ in range(3)] == ["one"] * 3
    assert "starts afresh" in caplog.text
    assert (tmp_path / "answers.db.damaged").read_bytes()[:15] == damaged[:15]
    kept.close()


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE notes (text TEXT)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="another program"):
        SQLiteResponses(path).get("a")
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_costs_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    backend = CachedBackend(FakeChatBackend(["one", "two"]), SQLiteResponses(tmp_path / "file" / "answers.db"))
    assert [said(backend).text for _ in range(2)] == ["one", "two"]
    assert "could not be used" in caplog.text


def test_a_locked_file_costs_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_integrations.router.response_cache._BUSY_SECONDS", 0.05)
    path = tmp_path / "answers.db"
    kept = SQLiteResponses(path)
    kept.put("a", b"1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    kept.put("b", b"1")
    other.execute("ROLLBACK")
    other.close()
    kept.put("c", b"1")
    assert [kept.get(key) for key in "abc"] == [b"1", None, b"1"]
    kept.close()


def test_threads_share_a_cache(store: ResponseStore) -> None:
    backend = CachedBackend(FakeChatBackend([lambda request: request.messages[0].content.upper()]), store)
    barrier = threading.Barrier(8)

    def ask(number: int) -> list[bool]:
        barrier.wait(timeout=20)
        texts = [f"question {(number + at) % 10}" for at in range(30)]
        requests = [replace(HELLO, messages=(ChatMessage(role="user", content=text),)) for text in texts]
        return [
            said(backend, request).text.lower().strip() == text for request, text in zip(requests, texts, strict=True)
        ]

    with ThreadPoolExecutor(8) as pool:
        assert all(all(found) for found in pool.map(ask, range(8)))
    counts = backend.counts
    assert counts.hits + counts.misses == 240 and counts.hits > 100


def _write(path: str, start: int) -> None:
    kept = SQLiteResponses(path)
    for number in range(start, start + 50):
        kept.put(f"{number}", f"{number}".encode() * 100)
        kept.get(f"{number - 1}")
    kept.close()


def test_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(str(path), start)) for start in (0, 50)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    kept = SQLiteResponses(path)
    assert [kept.get(f"{number}") for number in range(100)] == [f"{number}".encode() * 100 for number in range(100)]
    kept.close()


def test_a_child_of_a_fork_opens_the_file_for_itself(tmp_path: Path) -> None:
    kept = SQLiteResponses(tmp_path / "answers.db")
    kept.put("a", b"1")
    context = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: kept.put("b", kept.get("a") or b"nothing"))
    child.start()
    child.join(timeout=60)
    assert (child.exitcode, kept.get("b")) == (0, b"1")
    kept.close()
