"""The worker thread: order, failures, ticks, stopping."""

import threading
import time
from collections.abc import Callable

import pytest

from mlx_integrations.errors import RuntimeClosedError
from mlx_integrations.runtime.worker import Worker


def test_commands_run_in_order_on_one_thread() -> None:
    worker = Worker()
    seen: list[int] = []
    futures = [worker.call(seen.append, n) for n in range(50)]
    for future in futures:
        future.result()
    assert seen == list(range(50))
    assert worker.call(lambda: threading.current_thread().name).result() == "mlx"
    worker.close()


def test_an_exception_reaches_the_caller_and_the_thread_lives_on() -> None:
    worker = Worker()
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 / 0).result()
    assert worker.call(lambda: 42).result() == 42
    worker.close()


def test_a_call_from_the_thread_itself_runs_at_once() -> None:
    worker = Worker()
    assert worker.call(lambda: worker.call(lambda: 7).result()).result(timeout=5) == 7
    worker.close()


def test_steps_alternate_with_commands_until_they_are_done() -> None:
    worker = Worker()
    steps: list[int] = []

    def step() -> bool:
        steps.append(len(steps))
        time.sleep(0.001)
        return len(steps) < 100

    worker.call(worker.set_step, "a", step).result()
    assert worker.call(lambda: len(steps)).result() < 100  # a command gets its turn between two steps
    deadline = time.monotonic() + 5
    while len(steps) < 100:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    worker.close()
    assert len(steps) == 100


def test_a_step_that_raises_is_dropped_and_the_others_go_on() -> None:
    worker = Worker()
    done = threading.Event()
    count = 0

    def bad() -> bool:
        raise ValueError("broken")

    def good() -> bool:
        nonlocal count
        count += 1
        if count == 20:
            done.set()
        return count < 20

    def start() -> None:
        worker.set_step("bad", bad)
        worker.set_step("good", good)

    worker.call(start).result()
    assert done.wait(5)
    worker.close()


def test_what_a_step_left_running_is_waited_for_before_background_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker("never started")
    clock = 0.0
    seen: list[str] = []

    def act(what: str, seconds: float) -> Callable[[], bool]:
        def run() -> bool:
            nonlocal clock
            clock += seconds
            seen.append(what)
            return True

        return run

    def settle() -> None:
        act("settled", 0.02)()

    monkeypatch.setattr("mlx_integrations.runtime.worker.time.perf_counter", lambda: clock)
    worker.set_step("chat", act("chat", 0.01), settle=settle)
    worker._run_steps()
    assert seen == ["chat"], "nothing else wants the cores"
    worker.set_step("texts", act("texts", 0.5), settle=settle, is_background=True)
    for _ in range(15):  # until the first step, which nobody waited for, is forgotten
        worker._run_steps()
    assert seen[1:] == ["chat", "settled", "texts"] * 15
    waited = worker.background_seconds()
    worker.drop_step("texts")
    for _ in range(15):
        worker._run_steps()
    assert seen[-15:] == ["chat"] * 15
    seconds = worker.background_seconds()
    assert waited and seconds and waited == pytest.approx(3 * seconds), "the time to wait counts as the step's"


def test_ticks_run_when_idle_and_ask_for_their_next_time() -> None:
    worker = Worker()
    times: list[float] = []
    done = threading.Event()

    def tick() -> float | None:
        times.append(time.monotonic())
        if len(times) == 4:
            done.set()
            return None
        return 0.02

    worker.call(worker.set_tick, "t", tick).result()
    assert done.wait(5)
    worker.close()
    assert times[-1] - times[0] >= 0.05


def test_closing_runs_the_hooks_on_the_thread_and_refuses_new_commands() -> None:
    names: list[str] = []
    worker = Worker("closing", on_stop=lambda: names.append("last"))
    hook = lambda is_exit: names.append(f"{threading.current_thread().name}, exit: {is_exit}")  # noqa: E731
    worker.call(worker.add_stop_hook, hook).result()
    worker.close()
    assert names == ["closing, exit: False", "last"]
    with pytest.raises(RuntimeClosedError):
        worker.call(lambda: None)
    worker.close()  # twice is once


def test_a_worker_that_never_started_closes() -> None:
    worker = Worker()
    worker.close()
    with pytest.raises(RuntimeClosedError):
        worker.post(lambda: None)


def test_commands_that_the_thread_did_not_come_to_are_refused() -> None:
    worker = Worker()
    running, go_on = threading.Event(), threading.Event()

    def block() -> None:
        running.set()
        go_on.wait(5)
        raise SystemExit  # guarded like everything else

    worker.post(block)
    running.wait(5)
    closing = threading.Thread(target=worker.close)
    closing.start()
    while True:
        try:
            late = worker.call(lambda: 1)
        except RuntimeClosedError:
            break
        assert not late.done()
    go_on.set()
    closing.join(5)
    assert not closing.is_alive()


def test_every_refusal_is_an_error_of_its_own() -> None:
    worker = Worker()
    worker.close()
    errors = []
    for _ in range(2):
        with pytest.raises(RuntimeClosedError) as caught:
            worker.post(lambda: None)
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def test_a_panic_in_a_step_or_a_tick_does_not_end_the_thread() -> None:
    class Panic(BaseException):
        """What a Rust library raises."""

    worker = Worker()

    def fail() -> bool:
        raise Panic

    def start() -> None:
        worker.set_step("a", fail)
        worker.set_tick("b", fail)

    worker.call(start).result()
    assert worker.call(lambda: 42).result(5) == 42
    worker.close()


def test_ticks_run_while_steps_keep_the_thread_busy() -> None:
    worker = Worker()
    ticked = threading.Event()

    def tick() -> float | None:
        ticked.set()
        return None

    def start() -> None:
        worker.set_step("busy", lambda: not ticked.is_set())
        worker.set_tick("t", tick)

    worker.call(start).result()
    assert ticked.wait(5)
    worker.close()
