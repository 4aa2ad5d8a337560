"""Pauses between attempts grow, are spread, have an end, and are as long as a server asks for."""

from datetime import UTC, datetime

import pytest

from mlx_integrations.manager.pacing import InterruptionError, RetryPolicy, asked_pause_seconds

POLICY = RetryPolicy(attempts=9, first_seconds=1.0, longest_seconds=30.0, longest_asked_seconds=120.0)


def test_pauses_double_up_to_the_longest_and_end() -> None:
    pauses = [POLICY.pause_seconds(failures, InterruptionError("x"), 1.0) for failures in range(1, 10)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30, None]


def test_chance_spreads_pauses_over_their_upper_half() -> None:
    assert POLICY.pause_seconds(3, InterruptionError("x"), 0.0) == 2.0
    assert POLICY.pause_seconds(3, InterruptionError("x"), 0.5) == 3.0


def test_no_pause_is_shorter_than_the_server_asks() -> None:
    pause = POLICY.pause_seconds(1, InterruptionError("x", pause_seconds=60), 0.0)
    assert pause is not None and pause >= 60
    assert POLICY.pause_seconds(1, InterruptionError("x", pause_seconds=121), 0.0) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "17"}, 17.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "Mon, 1 Jan 99999999999999999999 00:00:00 GMT"}, None),
        ({"retry-after": "9" * 5000}, float("inf")),
        ({"ratelimit": '"resolvers";r=0;t=42'}, 42.0),
        ({"ratelimit": '"resolvers";r=17;t=42'}, None),
        ({}, None),
    ],
)
def test_headers_say_how_long_to_stay_away(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_pause_seconds(headers, now=datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)) == seconds
