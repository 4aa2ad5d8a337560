"""What both lanes do with a row: its processors, its token events, its errors. Worker thread only."""

import math
from collections.abc import Callable
from typing import Any

from mlx_integrations.errors import GenerationError
from mlx_integrations.runtime._mlx import mx
from mlx_integrations.runtime.chat.grammar_mask import GrammarProcessor
from mlx_integrations.runtime.chat.rows import FailEvent, Row, TokenEvent
from mlx_integrations.runtime.chat.samplers import Processor, make_processors

__all__ = ["end_row", "generation_error", "guarded", "row_processors", "token_event"]


def row_processors(row: Row) -> list[Processor]:
    """What changes this row's logits, the grammar last."""
    processors = make_processors(row.sampling)
    if row.matcher is not None:
        processors.append(GrammarProcessor(row.matcher))
    return processors


def guarded(row: Row, function: Callable[..., Any]) -> Callable[..., Any]:
    """A sampler or processor that never raises: an exception inside a step leaves every row's cache one token ahead.

    The failure is kept for the lane, which drops the row after the step. A sampler (one argument) then picks the first
    token, a processor returns the logits as they are.
    """

    def never_raises(*arguments: Any) -> Any:
        if row.failure is None:
            try:
                return function(*arguments)
            except BaseException as error:  # noqa: BLE001  (a panic in a Rust library is a BaseException)
                row.failure = error
        return arguments[-1] if len(arguments) > 1 else mx.zeros(arguments[0].shape[:1], dtype=mx.uint32)

    return never_raises


def token_event(row: Row, token_id: int, logprobs: Any) -> TokenEvent:
    """What is sent for a token.

    Args:
        row: The row.
        token_id: What was sampled.
        logprobs: (V,) float, evaluated.
    """
    sampling = row.sampling
    if not sampling.logprobs:
        return TokenEvent(token_id)
    top: tuple[tuple[int, float], ...] = ()
    if count := min(sampling.top_logprobs, logprobs.shape[-1] - 1):
        ids: Any = mx.argpartition(-logprobs, kth=count - 1)[:count]
        pairs: zip[tuple[int, float]] = zip(ids.tolist(), logprobs[ids].tolist(), strict=True)
        # What a grammar or a bias rules out is minus infinity, which JSON cannot say.
        top = tuple(sorted((pair for pair in pairs if math.isfinite(pair[1])), key=lambda pair: -pair[1]))
    return TokenEvent(token_id, logprobs[token_id].item(), top)


def end_row(row: Row) -> None:
    """Let go of a row that was cancelled or has failed."""
    row.end(None if row.failure is None else FailEvent(generation_error(row.failure)))


def generation_error(error: BaseException) -> GenerationError:
    """A failure as callers see it. Its traceback is left behind: the frames hold the model and its caches."""
    failure = GenerationError(f"The model failed while generating: {error}.")
    failure.__cause__ = error.with_traceback(None)
    return failure
