"""What a router shows of its candidates' answers, and what it says when it cannot show one."""

import logging
import pickle
from collections.abc import Sequence

import pytest

from mlx_integrations.errors import (
    ConfigurationError,
    ContextOverflowError,
    GenerationError,
    InvalidRequestError,
    PartialResponseError,
    PrivacyError,
    RemoteAuthenticationError,
    RemoteConnectionError,
    RouterError,
    UnsupportedContentError,
)
from mlx_integrations.router.attempts import Router
from mlx_integrations.router.candidates import Candidate
from mlx_integrations.router.chat import ChatDialect
from mlx_integrations.router.dialect import Budget
from mlx_integrations.router.facts import RequestFacts
from mlx_integrations.router.policy import Policy
from mlx_integrations.router.report import report_of
from mlx_integrations.types import ChatChunk, ModelCapabilities, Usage
from tests.router.scripts import (
    BLANK,
    CALL,
    CALL_AGAINST_SCHEMA,
    CALL_OF_ANOTHER,
    END,
    FACTS,
    HALF_A_CALL,
    REQUEST,
    STALL,
    USAGE,
    Bench,
    Script,
    text_of,
    thought,
)

BROKEN = GenerationError("It broke.")
SPARE: Script = ["spare", " answer", END]
CONTINUING = Policy(allow_cloud=True, continue_text=True)


def shown(bench: Bench, facts: RequestFacts = FACTS) -> tuple[list[ChatChunk], Exception | None]:
    """Everything that a caller sees of a stream, and the error at its end."""
    chunks: list[ChatChunk] = []
    try:
        for chunk in bench.stream(facts):
            chunks.append(chunk)
    except Exception as error:  # noqa: BLE001 - the tests look at it
        return chunks, error
    return chunks, None


@pytest.mark.parametrize("beginning", [[], [BLANK], [BLANK, BLANK]], ids=["nothing", "blank", "two blanks"])
def test_a_failure_before_anything_is_shown_goes_to_the_next(beginning: Script) -> None:
    first: Script = [*beginning, BROKEN]
    chunks, error = shown(Bench([first, SPARE]))
    assert error is None and text_of(chunks) == "spare answer"
    assert BLANK not in chunks, "what the first one sent is not shown"


def test_chunks_come_unchanged_and_in_order() -> None:
    script: Script = [BLANK, thought("hm"), "one", BLANK, " two", END]
    chunks, _ = shown(Bench([script, SPARE]))
    assert chunks == [BLANK, thought("hm"), ChatChunk(text="one"), BLANK, ChatChunk(text=" two"), END]


def test_text_is_shown_as_it_comes() -> None:
    bench = Bench([["one", STALL, END]])
    stream = bench.stream()
    assert next(stream).text == "one"
    assert bench.in_flight == 1
    stream.close()
    assert bench.in_flight == 0 and bench.closed == 1
    assert list(stream) == []


@pytest.mark.parametrize("piece", ["text", "thought"])
def test_after_something_was_shown_the_error_carries_it(piece: str) -> None:
    first = ChatChunk(text="one two") if piece == "text" else thought("hm")
    script: Script = [first, BROKEN]
    bench = Bench([script, SPARE])
    chunks, error = shown(bench)
    assert isinstance(error, PartialResponseError) and error.__cause__ is BROKEN
    assert error.partial_text == text_of(chunks) and error.candidate == "c0"
    assert bench.asked == ["c0"]


def test_a_stream_that_ends_without_saying_why_was_cut() -> None:
    chunks, error = shown(Bench([[BLANK], SPARE]))
    assert error is None and text_of(chunks) == "spare answer"
    chunks, error = shown(Bench([["one"], SPARE]))
    assert isinstance(error, PartialResponseError) and error.partial_text == text_of(chunks) == "one"


def test_what_fails_after_the_end_of_an_answer_changes_nothing() -> None:
    chunks, error = shown(Bench([["one", END, BROKEN], SPARE]))
    assert error is None and chunks == [ChatChunk(text="one"), END]


def test_an_answer_may_be_empty() -> None:
    assert shown(Bench([[END], SPARE])) == ([END], None)


def test_a_reader_that_stops_at_the_end_has_got_an_answer() -> None:
    bench = Bench([["one", END]])
    stream = bench.stream()
    assert next(stream).text == "one" and next(stream) == END
    stream.close()
    assert stream.report.answered_by == "c0" and stream.report.attempts[0].outcome == "answered"


@pytest.mark.parametrize(("hold", "is_rescued"), [(0, False), (1, False), (2, True), (3, True)])
def test_pieces_may_be_held_so_that_an_early_failure_is_repaired(hold: int, is_rescued: bool) -> None:
    bench = Bench([["one", " two", BROKEN], SPARE], Policy(hold_tokens=hold))
    chunks, error = shown(bench)
    assert (error is None) == is_rescued
    assert text_of(chunks) == ("spare answer" if is_rescued else "one two")


def test_a_short_answer_that_was_held_is_shown_at_its_end() -> None:
    assert text_of(shown(Bench([["one", END]], Policy(hold_tokens=10)))[0]) == "one"


@pytest.mark.parametrize("first", [["one", BROKEN], ["one"], [thought("hm"), "one", BROKEN], ["one", HALF_A_CALL, END]])
def test_a_complete_answer_is_rescued_whatever_fails_in_the_middle(first: Script) -> None:
    bench = Bench([first, SPARE], Policy(guarantee="complete"))
    chunks, error = shown(bench)
    assert error is None and text_of(chunks) == "spare answer"


def test_the_guarantee_may_be_chosen_for_a_call() -> None:
    bench = Bench([["one", BROKEN], SPARE])
    assert text_of(list(bench.stream(guarantee="complete"))) == "spare answer"


class Kept:
    """A stream that something else refers to as well, such as a connection: only `close` ends it."""

    def __init__(self, chunks: Sequence[ChatChunk | Exception]) -> None:
        self._chunks = iter(chunks)
        self.closed = 0

    def __iter__(self) -> "Kept":
        return self

    def __next__(self) -> ChatChunk:
        chunk = next(self._chunks)
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    def close(self) -> None:
        self.closed += 1

    def __aiter__(self) -> "Kept":
        return self

    async def __anext__(self) -> ChatChunk:
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("flavour", ["sync", "async"])
@pytest.mark.parametrize("leaves", [False, True], ids=["to the end", "leaves early"])
async def test_every_stream_is_closed_once(flavour: str, leaves: bool) -> None:
    streams = {"c0": Kept([BROKEN]), "c1": Kept([ChatChunk(text="one"), END])}
    bench = Bench([SPARE, SPARE])
    if flavour == "sync":
        stream = bench.router.stream(FACTS, lambda name, budget: streams[name], ChatDialect(REQUEST))
        next(stream)
        assert streams["c0"].closed == 1, "before the next one is asked"
        stream.close() if leaves else list(stream)
    else:
        astream = bench.router.astream(FACTS, lambda name, budget: streams[name], ChatDialect(REQUEST))
        await anext(astream)
        assert streams["c0"].closed == 1, "before the next one is asked"
        if leaves:
            await astream.aclose()
        else:
            assert [chunk async for chunk in astream] == [END]
    assert [stream.closed for stream in streams.values()] == [1, 1]


def test_a_stream_that_cannot_be_closed_spoils_nothing() -> None:
    class Stuck(Kept):
        def close(self) -> None:
            raise OSError("it does not close")

    bench = Bench([SPARE])
    stream = bench.router.stream(FACTS, lambda name, budget: Stuck([ChatChunk(text="one"), END]), ChatDialect(REQUEST))
    assert text_of(list(stream)) == "one"


# Tool calls


@pytest.mark.parametrize("bad", [HALF_A_CALL, CALL_OF_ANOTHER, CALL_AGAINST_SCHEMA], ids=["half", "unknown", "schema"])
def test_a_bad_call_is_asked_for_again_at_temperature_0_and_then_of_the_next(bad: ChatChunk) -> None:
    bench = Bench([[bad, END], [CALL, END]])
    assert shown(bench) == ([CALL, END], None)
    assert [(name, budget.is_repair) for name, budget in zip(bench.asked, bench.budgets, strict=True)] == [
        ("c0", False),
        ("c0", True),
        ("c1", False),
    ]


def test_a_repair_that_works_is_shown() -> None:
    def first(call: int, budget: Budget) -> Script:
        return [CALL, END] if budget.is_repair else [HALF_A_CALL, END]

    bench = Bench([first, SPARE])
    stream = bench.stream()
    assert list(stream) == [CALL, END]
    assert [(item.outcome, item.is_repair) for item in stream.report.attempts] == [
        ("bad_tool_call", False),
        ("answered", True),
    ]


def test_nothing_of_a_call_is_shown_before_all_of_it_was_checked() -> None:
    chunks, error = shown(Bench([["let me see", CALL, "and", BROKEN], SPARE]))
    assert chunks == [ChatChunk(text="let me see")]
    assert isinstance(error, PartialResponseError) and error.partial_text == "let me see"


def test_text_after_a_call_keeps_its_place() -> None:
    script: Script = ["before", CALL, "after", END]
    assert [chunk.text for chunk in shown(Bench([script]))[0]] == ["before", "", "after", ""]


def test_a_call_that_was_cut_off_is_never_shown() -> None:
    assert shown(Bench([[CALL], [CALL, END]])) == ([CALL, END], None)


def test_when_nobody_calls_a_tool_properly_the_error_says_so_without_a_word_of_it() -> None:
    _, error = shown(Bench([[HALF_A_CALL, END]]))
    assert isinstance(error, RouterError)
    assert error.attempts == (("c0", "it wrote a tool call that cannot be accepted"),) * 2
    assert '{"a' not in str(error) + str(error.__cause__)


# Continuing


def test_another_one_may_write_on_where_a_text_broke_off() -> None:
    bench = Bench([["one ", BROKEN], ["two", END]], CONTINUING, options={"continuable": ["c1"]})
    stream = bench.stream()
    assert text_of(list(stream)) == "one two"
    assert bench.budgets[1].continues == "one "
    assert stream.report.answered_by == "c1" and stream.report.attempts[1].is_continuation


@pytest.mark.parametrize("case", ["not wanted", "cannot", "thoughts", "tools", "a call", "structured", "its own fault"])
def test_nobody_writes_on_where_that_might_mix_answers(case: str) -> None:
    policy = Policy(continue_text=case != "not wanted")
    beginning: list[str | ChatChunk] = [thought("hm"), "one "] if case == "thoughts" else ["one "]
    if case == "a call":
        beginning.append(CALL)
    facts = RequestFacts(text_bytes=1, needs_tools=case == "tools", needs_structured_output=case == "structured")
    capabilities = ModelCapabilities(context_window=100, tools=True)
    first: Script = [*beginning, ValueError("no") if case == "its own fault" else BROKEN]
    bench = Bench(
        [first, ["two", END]],
        policy,
        options={"continuable": [] if case == "cannot" else ["c1"]},
        candidates={"capabilities": capabilities},
    )
    chunks, error = shown(bench, facts)
    assert isinstance(error, PartialResponseError) and error.partial_text == text_of(chunks) == "one "
    assert bench.asked == ["c0"]


def test_only_one_writes_on() -> None:
    scripts: Sequence[Script] = [["one ", BROKEN], ["two ", BROKEN], ["three", END]]
    bench = Bench(scripts, CONTINUING, options={"continuable": ["c1", "c2"]})
    chunks, error = shown(bench)
    assert isinstance(error, PartialResponseError)
    assert error.partial_text == text_of(chunks) == "one two "
    assert bench.asked == ["c0", "c1"]


def test_one_that_cannot_write_on_after_all_leaves_the_error_with_the_text() -> None:
    bench = Bench([["one ", BROKEN], [BLANK, BROKEN], SPARE], CONTINUING, options={"continuable": ["c1", "c2"]})
    chunks, error = shown(bench)
    assert isinstance(error, PartialResponseError) and error.partial_text == text_of(chunks) == "one "


def test_a_private_text_is_never_written_on_elsewhere() -> None:
    facts = RequestFacts(text_bytes=1, private_because=("it was said to be private",))
    bench = Bench([["one ", BROKEN], SPARE], CONTINUING, ["in-process", "remote"], options={"continuable": ["c1"]})
    _, error = shown(bench, facts)
    assert isinstance(error, PartialResponseError) and bench.asked == ["c0"]


# Errors


def test_when_everybody_fails_the_first_error_is_the_cause_and_all_are_listed() -> None:
    bench = Bench([[BROKEN], [KeyError("canary")], [OSError("canary")]])
    _, error = shown(bench)
    assert isinstance(error, RouterError) and error.__cause__ is BROKEN
    assert error.attempts == (
        ("c0", "it failed"),
        ("c1", "it failed"),
        ("c2", "it cannot be reached, or is overloaded"),
    )
    assert "canary" not in str(error)
    report = report_of(error)
    assert report is not None and "canary" not in repr(report)
    assert [item.error_type for item in report.attempts] == ["GenerationError", "KeyError", "OSError"]
    assert report_of(pickle.loads(pickle.dumps(error))) == report


@pytest.mark.parametrize("position", [0, 1])
def test_what_the_caller_caused_is_not_asked_of_anybody_else(position: int) -> None:
    fault = ValueError("a number was expected")
    scripts: list[Script] = [SPARE, SPARE, SPARE]
    scripts[position] = [fault]
    if position == 1:
        scripts[0] = [BROKEN]
    bench = Bench(scripts)
    _, error = shown(bench)
    assert bench.asked == ["c0", "c1"][: position + 1]
    if position == 0:
        assert error is fault
    else:
        assert isinstance(error, RouterError) and error.__cause__ is BROKEN


def test_when_it_fits_nobody_the_error_says_what_does_not_fit() -> None:
    overflow = ContextOverflowError("Too long.", prompt_tokens=2, limit_tokens=1)
    _, error = shown(Bench([[overflow], [ContextOverflowError("Too long.", prompt_tokens=3, limit_tokens=2)]]))
    assert error is overflow and report_of(error) is not None


def test_a_plan_without_anybody_says_what_does_not_fit() -> None:
    candidates = {"capabilities": ModelCapabilities(context_window=100)}
    bench = Bench([SPARE], candidates=candidates)
    _, error = shown(bench, RequestFacts(text_bytes=5000, prompt_tokens=1000))
    assert isinstance(error, ContextOverflowError) and (error.prompt_tokens, error.limit_tokens) == (1000, 99)
    _, error = shown(bench, RequestFacts(text_bytes=5, attachments=frozenset({"image"})))
    assert isinstance(error, UnsupportedContentError) and error.kind == "image"
    _, error = shown(bench, RequestFacts(text_bytes=5, needs_tools=True))
    assert isinstance(error, RouterError) and "cannot call tools" in str(error)
    assert bench.asked == []


def test_a_private_request_without_anybody_here_reaches_nobody() -> None:
    bench = Bench([SPARE], locations=["remote"])
    facts = RequestFacts(text_bytes=5, private_because=("it is tagged `private`",))
    _, error = shown(bench, facts)
    assert isinstance(error, PrivacyError) and bench.asked == []
    assert error.because == facts.private_because and error.candidates == ("c0",)


def test_a_candidate_that_has_moved_since_it_was_looked_up_gets_nothing_private() -> None:
    bench = Bench(
        [SPARE],
        locations=["loopback"],
        candidates={"base_url": "http://somewhere/v1"},
        options={"locate": lambda candidate: "remote"},
    )
    _, error = shown(bench, RequestFacts(text_bytes=5, private_because=("it is tagged `private`",)))
    assert isinstance(error, PrivacyError) and bench.asked == []
    assert shown(bench)[1] is None, "what is not private may go there"


def test_a_nested_routers_plan_changes_nothing_at_the_door() -> None:
    """Whoever makes plans, a private request does not leave."""

    class Careless(Router):
        def plan(self, facts: RequestFacts, **options: object):  # type: ignore[no-untyped-def]
            return super().plan(RequestFacts(text_bytes=facts.text_bytes))

    bench = Bench([SPARE], locations=["remote"])
    bench.router = Careless(list(bench.router.roster.candidates.values()), bench.policy)
    _, error = shown(bench, RequestFacts(text_bytes=5, private_because=("it is tagged `private`",)))
    assert isinstance(error, PrivacyError) and bench.asked == []


class Interrupt(BaseException):
    """What is no error of anybody."""


@pytest.mark.parametrize("is_late", [False, True])
def test_what_is_no_error_passes_through_and_counts_for_nothing(is_late: bool) -> None:
    bench = Bench([["one", Interrupt()] if is_late else [Interrupt()], SPARE])
    for _ in range(5):
        with pytest.raises(Interrupt):
            list(bench.stream())
    assert bench.asked == ["c0"] * 5 and bench.in_flight == 0 and bench.closed == 5


def test_what_a_caller_throws_in_is_not_the_candidates_failure() -> None:
    bench = Bench([["one", "two", END]])
    backend = bench.router._chunks(bench.stream()._call, bench.open)
    next(backend)
    with pytest.raises(KeyError):
        backend.throw(KeyError("the caller's"))
    assert bench.in_flight == 0 and bench.closed == 1
    assert bench.router.roster.breakers["c0"].blocked() == (0.0, "")


def test_a_key_that_is_refused_is_said_in_the_log_without_the_key(caplog: pytest.LogCaptureFixture) -> None:
    refused = RemoteAuthenticationError("`cloud` refuses the key sk-canary.", endpoint="cloud", status=401)
    bench = Bench([[refused], SPARE], Policy(allow_cloud=True, mode="prefer_cloud"), ["remote", "in-process"])
    with caplog.at_level(logging.WARNING):
        assert text_of(shown(bench)[0]) == "spare answer"
    assert "`c0` refuses the key" in caplog.text and "canary" not in caplog.text


def test_a_remote_candidate_that_cannot_be_reached_is_asked_once_more() -> None:
    gone = RemoteConnectionError("Nobody answers.", endpoint="cloud")

    def first(call: int, budget: Budget) -> Script:
        return [gone] if call == 0 else ["back", END]

    bench = Bench([first, SPARE], Policy(allow_cloud=True, mode="prefer_cloud"), ["remote", "in-process"])
    assert text_of(shown(bench)[0]) == "back"
    assert bench.asked == ["c0", "c0"] and not bench.budgets[1].is_repair


# Reports


def test_the_report_says_what_became_of_everybody() -> None:
    bench = Bench([["one", BROKEN], SPARE], candidates={"input_price": 1.0, "output_price": 2.0})
    stream = bench.stream(RequestFacts(text_bytes=400), guarantee="complete")
    before = stream.report
    assert before.attempts == () and before.answered_by is None
    list(stream)
    first, second = stream.report.attempts
    assert (first.candidate, first.outcome, first.error_type) == ("c0", "failed", "GenerationError")
    assert first.usage == Usage(prompt_tokens=100, completion_tokens=1) and first.is_usage_estimated
    assert (second.candidate, second.outcome, second.usage) == ("c1", "answered", USAGE)
    assert second.first_token_seconds is not None and 0 <= second.first_token_seconds <= second.seconds
    assert stream.report.answered_by == "c1" and stream.report.plan.order == ("c0", "c1")
    assert stream.report.cost_usd == pytest.approx((100 + 2 * 1 + 10 + 2 * 5) / 1e6)
    assert bench.router.roster.ledger.spent_usd == pytest.approx(stream.report.cost_usd)


def test_a_stream_that_was_left_says_so() -> None:
    bench = Bench([["one", "two", END]])
    stream = bench.stream()
    next(stream)
    stream.close()
    assert [item.outcome for item in stream.report.attempts] == ["abandoned"]
    assert stream.report.answered_by is None


def test_nothing_happens_before_the_first_chunk_is_wanted() -> None:
    bench = Bench([SPARE])
    stream = bench.stream()
    stream.close()
    assert bench.asked == [] and stream.report.attempts == ()


# What cannot be


def test_a_router_without_candidates_or_with_two_of_one_name_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="at least one"):
        Router([])
    with pytest.raises(InvalidRequestError, match="Two candidates"):
        Router([Candidate(name="a", location="in-process")] * 2)


@pytest.mark.parametrize("field", ["interruptible", "continuable"])
def test_names_that_are_no_candidates_are_refused(field: str) -> None:
    with pytest.raises(InvalidRequestError, match="`b`") as caught:
        Router([Candidate(name="a", location="in-process")], **{field: ["b"]})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_policy_that_names_nobody_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="`locl`"):
        Router([Candidate(name="local", location="in-process")], Policy(order=("locl",)))
