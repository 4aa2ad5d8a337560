"""What each failure leads to: the table, read from errors and carried out."""

import json
from typing import Any, get_args

import pytest

from mlx_integrations import errors
from mlx_integrations.errors import MLXIntegrationsError
from mlx_integrations.router.candidates import CandidateState
from mlx_integrations.router.chat import ChatDialect
from mlx_integrations.router.dialect import Budget
from mlx_integrations.router.failures import REACTIONS, Failure, FailureKind, classify
from mlx_integrations.router.policy import Policy
from mlx_integrations.router.report import report_of
from tests.router.scripts import END, FACTS, REQUEST, Bench, Clock, Script, text_of

AT: dict[str, Any] = {"endpoint": "cloud"}


def translated(cause: Exception) -> Exception:
    """An error as a room translates it: the first one is its cause."""
    error = errors.GenerationError("The model failed.")
    error.__cause__ = cause
    return error


def bad_json() -> Exception:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")
    return caught.value


KINDS: list[tuple[Exception, FailureKind]] = [
    (errors.ModelNotFoundError("No.", model="x"), "missing_model"),
    (FileNotFoundError("config.json"), "missing_model"),
    (errors.OfflineError("No."), "missing_model"),
    (errors.RemoteModelNotFoundError("No.", **AT, status=404), "missing_model"),
    (errors.InsufficientMemoryError("No.", needed_bytes=2, available_bytes=1, budget_bytes=1), "no_memory"),
    (MemoryError(), "out_of_memory"),
    (RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory"), "out_of_memory"),
    (RuntimeError("[metal::malloc] Attempting to allocate more than the maximum allowed buffer size"), "out_of_memory"),
    (translated(RuntimeError("[METAL] Command buffer execution failed")), "out_of_memory"),
    (translated(translated(MemoryError())), "out_of_memory"),
    (errors.ContextOverflowError("No.", prompt_tokens=2, limit_tokens=1), "context_overflow"),
    (errors.UnsupportedContentError("No.", kind="image"), "unsupported"),
    (errors.UnsupportedSchemaError("No."), "unsupported"),
    (NotImplementedError(), "unsupported"),
    (TimeoutError(), "timeout"),
    (errors.RemoteTimeoutError("No.", **AT), "timeout"),
    (errors.RemoteStreamError("No.", **AT), "cut"),
    (bad_json(), "cut"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "cut"),
    (errors.InvalidOutputError("No."), "bad_output"),
    (errors.RemoteRateLimitError("No.", **AT, status=429), "rate_limit"),
    (errors.RemoteServerError("No.", **AT, status=503), "unavailable"),
    (errors.RemoteConnectionError("No.", **AT), "unavailable"),
    (ConnectionResetError(), "unavailable"),
    (OSError("Name or service not known"), "unavailable"),
    (errors.RouterError("No."), "unavailable"),
    (errors.RemoteAuthenticationError("No.", **AT, status=401), "authentication"),
    (errors.RemoteQuotaError("No.", **AT, status=402), "authentication"),
    (errors.RemoteRequestError("No.", **AT, status=400), "invalid_request"),
    (errors.InvalidRequestError("No.", field="top_p"), "invalid_request"),
    (errors.UnknownToolError("No.", tool_name="x"), "invalid_request"),
    (ValueError("no"), "invalid_request"),
    (TypeError("no"), "invalid_request"),
    (errors.RemoteContentPolicyError("No.", **AT, status=400), "content_policy"),
    (errors.PrivacyError("No."), "privacy"),
    (errors.QueueFullError("No."), "busy"),
    (errors.ModelLoadError("No.", model_path="x"), "broken"),
    (errors.RuntimeClosedError("No."), "broken"),
    (errors.MissingExtraError("No.", extra="openai"), "broken"),
    (errors.ConfigurationError("No."), "broken"),
    (errors.GenerationError("No."), "failed"),
    (RuntimeError("no"), "failed"),
    (KeyError("no"), "failed"),
]


@pytest.mark.parametrize(("error", "kind"), KINDS, ids=lambda value: value if isinstance(value, str) else repr(value))
def test_an_error_is_of_the_kind_that_the_table_says(error: Exception, kind: FailureKind) -> None:
    assert classify(error).kind == kind


def test_every_error_of_this_package_has_a_kind_that_was_chosen() -> None:
    """No new class falls through to what is meant for strangers."""

    def leaves(cls: type[MLXIntegrationsError]) -> list[type[MLXIntegrationsError]]:
        subclasses = [item for item in cls.__subclasses__() if item.__module__.startswith(errors.__name__)]
        return [cls] if not subclasses else [leaf for item in subclasses for leaf in leaves(item)]

    chosen_as_failed: set[type[MLXIntegrationsError]] = {errors.GenerationError, errors.ConversionError}
    for cls in leaves(MLXIntegrationsError):
        if issubclass(cls, errors.MigrationError | errors.ClusterError):
            continue  # no candidate migrates stores
        error = cls.__new__(cls)
        error.__dict__["status"] = None
        kind = classify(error).kind
        assert (kind == "failed") == (cls in chosen_as_failed), cls


def test_a_chain_of_causes_that_is_a_circle_ends() -> None:
    first, second = RuntimeError("no"), RuntimeError("no")
    first.__cause__, second.__cause__ = second, first
    assert classify(first).kind == "failed"


WINDOW, LONG = 30.0, 600.0
# For each kind: calls of the first candidate if it is local, and if it is remote; whether the next one answers; for how
# many seconds the first one is left alone after one request, local and remote.
TABLE: dict[FailureKind, tuple[int, int, bool, float, float]] = {
    "missing_model": (1, 1, True, WINDOW, WINDOW),
    "slow_load": (1, 1, True, 0, 0),
    "no_memory": (1, 1, True, 0, 0),
    "out_of_memory": (1, 1, True, WINDOW, WINDOW),
    "broken": (1, 1, True, WINDOW, WINDOW),
    "context_overflow": (1, 1, True, 0, 0),
    "unsupported": (1, 1, True, 0, 0),
    "busy": (1, 1, True, 0, 0),
    "timeout": (1, 1, True, 0, 0),
    "stall": (1, 1, True, 0, 0),
    "cut": (1, 1, True, 0, 0),
    "failed": (1, 1, True, 0, 0),
    "unavailable": (1, 2, True, 0, 0),
    "rate_limit": (1, 1, True, 10.0, 10.0),
    "bad_tool_call": (2, 1, True, 0, 0),
    "bad_output": (2, 2, True, 0, 0),
    "authentication": (1, 1, True, LONG, LONG),
    "invalid_request": (1, 1, False, 0, 0),
    "content_policy": (1, 1, False, 0, 0),
    "privacy": (1, 1, False, 0, 0),
    "control": (1, 1, False, 0, 0),
}
COUNTED = {"timeout", "stall", "cut", "failed", "unavailable"}
"""Those that open a breaker when they come again and again."""


class AsIs(ChatDialect):
    """Lets a test say which kind a failure is."""

    def __init__(self, kind: FailureKind) -> None:
        super().__init__(REQUEST)
        self._kind = kind

    def classify(self, error: Exception) -> Failure | None:
        return Failure(kind=self._kind)


@pytest.mark.parametrize("kind", get_args(FailureKind))
@pytest.mark.parametrize("is_local", [True, False], ids=["local", "remote"])
def test_the_table_is_carried_out(kind: FailureKind, is_local: bool) -> None:
    local_calls, remote_calls, is_answered, local_seconds, remote_seconds = TABLE[kind]
    error = KeyError("it is in no table")
    bench = Bench(
        [[error], ["spare", END]],
        Policy(allow_cloud=True, mode="prefer_local" if is_local else "prefer_cloud"),
        locations=["in-process" if is_local else "remote", "in-process"],
        options={"clock": lambda: 0.0},
    )

    def ask() -> None:
        chunks = bench.router.stream(FACTS, bench.open, AsIs(kind))
        if is_answered:
            assert text_of(list(chunks)) == "spare"
        else:
            with pytest.raises(KeyError) as caught:
                list(chunks)
            assert caught.value is error and report_of(error) is not None

    ask()
    assert bench.asked.count("c0") == (local_calls if is_local else remote_calls)
    breaker = bench.router.roster.breakers["c0"]
    assert breaker.blocked()[0] == (local_seconds if is_local else remote_seconds)
    for _ in range(2):
        ask()
    is_left_alone = (local_seconds if is_local else remote_seconds) > 0 or kind in COUNTED
    assert (breaker.enter() is None) == is_left_alone
    assert bench.in_flight == 0 and bench.opened == bench.closed == len(bench.asked)


def test_every_kind_says_what_happened() -> None:
    assert set(REACTIONS) == set(get_args(FailureKind)) == set(TABLE)
    assert all(reaction.description for reaction in REACTIONS.values())


@pytest.mark.parametrize("kind", ["rate_limit", "unavailable"])
def test_a_candidate_that_says_how_long_to_wait_is_left_alone_so_long(kind: str) -> None:
    errors_by_kind = {
        "rate_limit": errors.RemoteRateLimitError("No.", **AT, status=429, retry_after_seconds=77.0),
        "unavailable": errors.RemoteServerError("No.", **AT, status=503, retry_after_seconds=77.0),
    }
    bench = Bench(
        [[errors_by_kind[kind]], ["spare", END]],
        Policy(allow_cloud=True, mode="prefer_cloud"),
        locations=["remote", "in-process"],
        options={"clock": lambda: 0.0},
    )
    assert text_of(list(bench.stream())) == "spare"
    assert bench.asked == ["c0", "c1"], "it is not asked again at once"
    assert bench.router.roster.breakers["c0"].blocked()[0] == 77.0


@pytest.mark.parametrize("is_wanted", [False, True])
def test_what_rules_forbid_is_asked_of_another_only_if_that_is_wanted(is_wanted: bool) -> None:
    forbidden = errors.RemoteContentPolicyError("No.", **AT, status=400)
    policy = Policy(allow_cloud=True, mode="prefer_cloud", asks_another_if_forbidden=is_wanted)
    bench = Bench([[forbidden], ["spare", END]], policy, ["remote", "in-process"])
    for _ in range(4):
        if is_wanted:
            assert text_of(list(bench.stream())) == "spare"
        else:
            with pytest.raises(errors.RemoteContentPolicyError):
                list(bench.stream())
    assert bench.asked.count("c0") == 4, "it says nothing about the candidate"


def test_a_missing_model_is_tried_again_when_it_is_there() -> None:
    there = {"c0", "c1"}
    clock = Clock()

    def first(call: int, budget: Budget) -> Script:
        if call == 0:  # somebody deletes it after the plan was made
            there.discard("c0")
            return [FileNotFoundError("model.safetensors")]
        return ["here", END]

    options = {"clock": clock, "observe": lambda name: CandidateState(is_present=name in there)}
    bench = Bench([first, ["spare", END]], options=options)
    for _ in range(3):
        assert text_of(list(bench.stream())) == "spare"
        clock.now += 3600.0
    there.add("c0")
    assert text_of(list(bench.stream())) == "here"
    assert bench.asked.count("c0") == 2
