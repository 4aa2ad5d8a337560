"""The bar of a download: what it says, how it fits, and that it never jumps."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_integrations.cli.progress import Meter, ProgressDisplay
from mlx_integrations.manager.records import PullPhase, PullProgress

MB = 1_000_000


def at(done_mb: float, phase: PullPhase = "downloading", total_mb: float = 100) -> PullProgress:
    return PullProgress(phase=phase, done_bytes=int(done_mb * MB), total_bytes=int(total_mb * MB), resumed_bytes=0)


def test_speed_and_time_left_come_from_the_last_seconds() -> None:
    meter = Meter()
    for second in range(20):
        meter.feed(at(second), now=second)  # 1 MB a second
    for second in range(20, 30):
        meter.feed(at(20 + (second - 20) * 4), now=second)  # then four
    assert meter.bytes_per_second == pytest.approx(4 * MB)
    assert meter.parts() == [" 56 %", "56.0 MB of 100 MB", "4.0 MB/s", "11 s left"]


def test_what_an_earlier_download_left_is_not_speed() -> None:
    meter = Meter()
    meter.feed(at(60), now=0)
    assert (meter.bytes_per_second, meter.share) == (None, 0.6)
    meter.feed(at(61), now=1)
    assert meter.bytes_per_second == MB


def test_waiting_is_not_slow_downloading() -> None:
    meter = Meter()
    meter.feed(at(10), now=0)
    meter.feed(at(10, "waiting"), now=1)
    meter.feed(at(10, "waiting"), now=600)
    assert meter.parts() == [" 10 %", "10.0 MB of 100 MB", "waiting"]
    meter.feed(at(10), now=601)
    meter.feed(at(12), now=602)
    assert meter.bytes_per_second == 2 * MB


def test_a_model_without_bytes_is_done() -> None:
    meter = Meter()
    assert (meter.parts(), meter.share) == ([], 0.0)
    meter.feed(at(0, total_mb=0), now=0)
    assert meter.share == 1.0


@given(st.floats(0, 100), st.integers(1, 200))
def test_the_bar_fits_every_terminal(done: float, width: int) -> None:
    meter = Meter()
    meter.feed(at(0), now=0)
    meter.feed(at(done), now=1)
    assert len(meter.line(width)) <= width


def test_the_bar_grows_with_what_is_done() -> None:
    meter = Meter()
    lengths = []
    for done in range(0, 101, 5):
        meter.feed(at(done), now=done)
        lengths.append(meter.line(100).count("━"))
    assert lengths == sorted(lengths)
    assert (lengths[0], lengths[-1]) == (0, 40)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_line_that_is_drawn_again() -> None:
    stream, now = Terminal(), [0.0]
    with ProgressDisplay(stream, width=lambda: 60, clock=lambda: now[0]) as display:
        for step in range(100):
            display.update(at(step))
            now[0] += 0.01
    text = stream.getvalue()
    assert text.count("\n") == 1 and text.endswith("\n")
    assert 10 <= text.count("\r") <= 13, "ten times a second, not a hundred"
    assert " 99 %" in text.rpartition("\r")[2], "the last state is shown"


def test_a_file_gets_a_line_every_five_seconds() -> None:
    stream, now = io.StringIO(), [0.0]
    with ProgressDisplay(stream, clock=lambda: now[0]) as display:
        for second in range(13):
            display.update(at(second))
            now[0] += 1
    assert stream.getvalue().splitlines() == [
        "5 %, 5.0 MB of 100 MB, 1.0 MB/s, 1 min 35 s left",
        "10 %, 10.0 MB of 100 MB, 1.0 MB/s, 1 min 30 s left",
    ]


def test_what_is_done_at_once_leaves_no_trace() -> None:
    stream = io.StringIO()
    with ProgressDisplay(stream, clock=lambda: 0.0) as display:
        display.update(at(100))
    assert stream.getvalue() == ""
