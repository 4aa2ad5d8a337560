"""What is known of candidates from their calls, and from looking after them in the background."""

import threading
from collections.abc import Iterator

import pytest

from mlx_integrations.router.candidates import Candidate
from mlx_integrations.router.checks import Checks
from mlx_integrations.router.health import Health, Ledger
from mlx_integrations.router.roster import Roster
from mlx_integrations.types import Usage
from tests.router.scripts import END, Bench, Clock, Script, Step, text_of

SPARE: Script = ["spare", END]


def test_speeds_are_averages_that_forget() -> None:
    health = Health(("a",))
    for seconds in (1.0, 2.0):
        health.began("a")
        health.ended("a", first_token_seconds=seconds, tokens_per_second=10 * seconds)
    vitals = health.vitals("a")
    assert vitals.first_token_seconds == pytest.approx(1.3) and vitals.tokens_per_second == pytest.approx(13.0)
    for _ in range(30):
        health.began("a")
        health.ended("a", first_token_seconds=5.0)
    assert health.vitals("a").first_token_seconds == pytest.approx(5.0, rel=0.01)
    assert health.vitals("a").tokens_per_second == pytest.approx(13.0), "calls that tell no speed change none"


def test_running_calls_are_counted_in_the_state_that_plans_are_made_of() -> None:
    bench = Bench([SPARE, SPARE])
    streams = [bench.stream() for _ in range(3)]
    for stream in streams:
        next(stream)
    assert bench.router.roster.states()["c0"].in_flight == 3
    for stream in streams:
        stream.close()
    assert bench.router.roster.states()["c0"].in_flight == 0


def test_the_least_busy_of_equals_goes_first() -> None:
    bench = Bench([["zero", END], ["one", END]], candidates={"group": "macs"})
    first = bench.stream()
    assert next(first).text == "zero"
    assert text_of(list(bench.stream())) == "one"


def test_answers_show_how_fast_a_candidate_is_and_failures_do_not() -> None:
    clock = Clock()

    class Ticking(list[Step]):
        """A script whose every step takes a tenth of a second."""

        def __iter__(self) -> Iterator[Step]:
            for step in super().__iter__():
                clock.now += 0.1
                yield step

    bench = Bench([Ticking(["a"] * 4 + [END])], options={"clock": clock})
    list(bench.stream())
    state = bench.router.roster.states()["c0"]
    assert state.first_token_seconds == pytest.approx(0.1)
    assert state.tokens_per_second == pytest.approx(10.0)  # 4 of the 5 tokens of its usage, in 0.4 s
    failing = Bench([Ticking(["a", OSError()])], options={"clock": clock})
    with pytest.raises(Exception, match="part of its answer"):
        list(failing.stream())
    assert failing.router.roster.states()["c0"].first_token_seconds is None


def test_a_callers_own_slowness_is_not_the_candidates() -> None:
    clock = Clock()
    bench = Bench([["a", "b", "c", END]], options={"clock": clock})
    for _ in bench.stream():
        clock.now += 1.0
    assert bench.router.roster.states()["c0"].tokens_per_second is None


def test_costs_are_prices_times_tokens() -> None:
    candidates = {
        "dear": Candidate(name="dear", location="remote", input_price=3.0, output_price=15.0),
        "own": Candidate(name="own", location="in-process"),
    }
    ledger = Ledger(candidates)
    assert ledger.charge("dear", Usage(prompt_tokens=1_000_000, completion_tokens=2_000)) == pytest.approx(3.03)
    assert ledger.charge("own", Usage(prompt_tokens=1_000_000, completion_tokens=2_000)) == 0.0
    assert ledger.spent_usd == pytest.approx(3.03)


def test_threads_lose_nothing_of_what_they_count() -> None:
    health = Health(("a",))
    ledger = Ledger({"a": Candidate(name="a", location="remote", input_price=1.0)})

    def work() -> None:
        for _ in range(2000):
            health.began("a")
            ledger.charge("a", Usage(prompt_tokens=1, completion_tokens=0))
            health.ended("a")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert health.vitals("a").in_flight == 0 and ledger.spent_usd == pytest.approx(8000 / 1e6)


# Looking after them


def watched(*, there: set[str], clock: Clock) -> tuple[Roster, Checks]:
    def probe(name: str) -> bool:
        if name == "raises" and name not in there:
            raise OSError("nobody answers")
        return name in there

    candidates = [Candidate(name=name, location="loopback") for name in ("a", "raises")]
    roster = Roster(candidates, clock=clock)
    return roster, Checks(roster, probe, interval_seconds=10.0, names=("a", "raises"))


@pytest.mark.parametrize("name", ["a", "raises"])
def test_one_that_is_not_there_is_left_alone_until_it_is(name: str) -> None:
    there, clock = {"a", "raises"} - {name}, Clock()
    roster, checks = watched(there=there, clock=clock)
    checks.look()
    assert roster.states()[name].blocked_seconds == 30.0
    assert "health check" in roster.states()[name].blocked_because
    assert all(roster.states()[other].blocked_seconds == 0 for other in there)
    there.add(name)
    checks.look()
    ticket = roster.enter(name)
    assert ticket is not None and ticket.is_probe, "that it is there does not show yet that it answers"


def test_a_check_does_not_end_a_wait_that_it_knows_nothing_of() -> None:
    there, clock = {"raises"}, Clock()
    roster, checks = watched(there=there, clock=clock)
    ticket = roster.enter("a")
    assert ticket is not None
    checks.look()
    ticket.fail("asked too often", opens=True, seconds=100.0)
    there.add("a")
    checks.look()
    assert roster.states()["a"].blocked_seconds == 100.0


def test_checks_run_in_the_background_until_they_are_stopped() -> None:
    asked: list[str] = []
    enough = threading.Event()

    def probe(name: str) -> bool:
        asked.append(name)
        if len(asked) >= 6:
            enough.set()
        return True

    bench = Bench([SPARE, SPARE])
    assert not any(thread.name == "mlxi-route-checks" for thread in threading.enumerate())
    bench.router.watch(probe, interval_seconds=0.001)
    assert enough.wait(30)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "mlxi-route-checks"]
    assert thread.daemon
    bench.router.close()
    thread.join(30)
    assert not thread.is_alive() and asked[:4] == ["c0", "c1", "c0", "c1"]
