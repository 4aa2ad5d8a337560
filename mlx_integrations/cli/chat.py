"""`mlxi chat`: one question, one streamed answer."""

import contextlib
import json
import sys
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from mlx_integrations.cli.parts import Parts
from mlx_integrations.protocols import ChatBackend
from mlx_integrations.types import ChatMessage, ChatRequest, ChatResult, Finish, SamplingParams


class Provider(StrEnum):
    """Who answers."""

    MLX = "mlx"


def chat(
    context: typer.Context,
    prompt: Annotated[str | None, typer.Argument(help="The question; read from stdin when left out.")] = None,
    model: Annotated[str | None, typer.Option(help="Model id, Hub repository in the local cache, or folder.")] = None,
    provider: Annotated[Provider, typer.Option(help="Who answers.")] = Provider.MLX,
    system: Annotated[str | None, typer.Option(help="Instructions that come before the question.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="0 is greedy.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer as one JSON object.")] = False,
) -> None:
    """Ask a model one question and stream its answer to stdout."""
    parts: Parts = context.obj
    question = _read_question() if prompt is None else prompt
    if not question.strip():
        raise typer.BadParameter('There is no question. Try: mlxi chat "Who are you?"', param_hint="prompt")
    backend = parts.chat_backend(model or parts.settings().models.default)
    messages: tuple[ChatMessage, ...] = (ChatMessage(role="user", content=question),)
    if system is not None:
        messages = (ChatMessage(role="system", content=system), *messages)
    sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature)
    request = ChatRequest(messages=messages, sampling=sampling)
    if as_json:
        result = ChatResult.join(backend.stream(request))
        typer.echo(json.dumps(_as_record(result), ensure_ascii=False))
    else:
        _say_how_it_ended(_stream_to_stdout(backend, request))


def _read_question() -> str:
    if sys.stdin.isatty():
        typer.echo("Type your question, then Ctrl-D:", err=True)
    return sys.stdin.read()


def _stream_to_stdout(backend: ChatBackend, request: ChatRequest) -> Finish | None:
    """Write text as it comes; thoughts go to stderr, since they are not the answer."""
    finish, thinking = None, False
    with contextlib.closing(backend.stream(request)) as chunks:
        for chunk in chunks:
            if chunk.reasoning:
                typer.secho(chunk.reasoning, nl=False, err=True, dim=True)
                thinking = True
            if chunk.text:
                if thinking:
                    typer.echo(err=True)
                    thinking = False
                sys.stdout.write(chunk.text)
                sys.stdout.flush()
            finish = chunk.finish or finish
    typer.echo()
    return finish


def _say_how_it_ended(finish: Finish | None) -> None:
    if finish is None:
        return
    if finish.reason == "length":
        typer.echo(f"mlxi: cut after {finish.usage.completion_tokens} tokens; raise --max-tokens for more.", err=True)
    elif sys.stderr.isatty():
        usage = finish.usage
        speed = f", {finish.tokens_per_second:.0f} a second" if finish.tokens_per_second else ""
        typer.secho(f"{usage.completion_tokens} tokens{speed} ({finish.model_id})", dim=True, err=True)


def _as_record(result: ChatResult) -> dict[str, Any]:
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
