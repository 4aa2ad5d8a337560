"""One answer, streamed: the text to stdout, thoughts and how it ended to stderr."""

import contextlib
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from mlx_integrations.cli.console import errors
from mlx_integrations.types import ChatChunk, ChatRequest, ChatResult, Finish

if TYPE_CHECKING:
    from mlx_integrations.protocols import ChatBackend

__all__ = ["as_record", "say_how_it_ended", "stream_answer"]


def stream_answer(backend: "ChatBackend", request: ChatRequest, heard: list[ChatChunk] | None = None) -> Finish | None:
    """Write an answer as it comes.

    Args:
        backend: Who answers.
        request: The question and what came before it.
        heard: Takes every chunk, so that a caller who is interrupted knows what was said.

    Returns:
        How it ended.
    """
    finish, is_thinking = None, False
    console = errors()
    waiting = (
        console.status("", spinner="dots", spinner_style="dim") if console.is_terminal else contextlib.nullcontext()
    )
    with contextlib.ExitStack() as stack, contextlib.closing(backend.stream(request)) as chunks:
        stack.enter_context(waiting)
        for chunk in chunks:
            stack.close()  # the first chunk ends the waiting
            if heard is not None:
                heard.append(chunk)
            if chunk.reasoning:
                console.print(chunk.reasoning, end="", style="dim", markup=False, soft_wrap=True)
                is_thinking = True
            if chunk.text:
                if is_thinking:
                    console.print()
                    is_thinking = False
                sys.stdout.write(chunk.text)
                sys.stdout.flush()
            finish = chunk.finish or finish
    typer.echo()
    return finish


def say_how_it_ended(finish: Finish | None, *, window_tokens: int | None = None) -> None:
    """Tell of a cut answer always, of its speed where somebody looks.

    Args:
        finish: How the answer ended.
        window_tokens: Of the model, to say how full it is.
    """
    if finish is None:
        return
    usage = finish.usage
    if finish.reason == "length":
        typer.echo(f"mlxi: cut after {usage.completion_tokens} tokens; raise --max-tokens for more.", err=True)
    if not sys.stderr.isatty():
        return
    told = [f"{usage.completion_tokens} tokens"]
    if finish.tokens_per_second:
        told.append(f"{finish.tokens_per_second:.0f} a second")
    if window_tokens:
        filled = usage.prompt_tokens + usage.completion_tokens
        told.append(f"{filled:,} of {window_tokens:,} tokens of context used")
    told.append(finish.model_id)
    errors().print(" · ".join(told), style="dim", markup=False)


def as_record(result: ChatResult) -> dict[str, Any]:
    """A whole answer as plain values."""
    finish = result.finish
    return {
        "model": finish.model_id,
        "text": result.text,
        "reasoning": result.reasoning or None,
        "finish_reason": finish.reason,
        "usage": asdict(finish.usage),
        "prompt_seconds": round(finish.prompt_seconds, 4),
        "generation_seconds": round(finish.generation_seconds, 4),
        "tokens_per_second": round(finish.tokens_per_second, 1),
    }
