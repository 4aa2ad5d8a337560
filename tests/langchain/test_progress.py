"""How far a long call is, in one line."""

import io

from mlx_integrations.adapters.progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_in_a_terminal_is_rewritten() -> None:
    stream, now = Terminal(), iter([0.0, 2.0, 2.05, 4.0, 5.0])
    line = ProgressLine(1000, stream=stream, clock=lambda: next(now))
    for texts in (200, 1, 199):
        line.advance(texts)
    line.close()
    assert stream.getvalue() == (
        "\rEmbedding: 200 of 1000 texts, 100 texts/s, 8.0 s left"
        "\rEmbedding: 400 of 1000 texts, 100 texts/s, 6.0 s left"
        "\rEmbedded 400 of 1000 texts in 5.0 s, 80 texts/s.     \n"
    )


def test_a_log_file_gets_a_line_now_and_then() -> None:
    stream, now = io.StringIO(), iter([0.0, 9.0, 200.0, 3700.0])
    line = ProgressLine(None, stream=stream, clock=lambda: next(now))
    line.advance(9)
    line.advance(191)
    line.close()
    assert stream.getvalue() == "Embedding: 200 texts, 1.0 texts/s\nEmbedded 200 texts in 1 h 1 min, 0.1 texts/s.\n"


def test_the_time_left_is_in_minutes_when_it_is_long() -> None:
    stream, now = io.StringIO(), iter([0.0, 100.0])
    ProgressLine(2000, stream=stream, clock=lambda: next(now)).advance(1000)
    assert "1 min 40 s left" in stream.getvalue()
