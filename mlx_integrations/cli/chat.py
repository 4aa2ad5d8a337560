"""`mlxi chat`: one question and its answer, or a conversation where somebody sits at a terminal."""

import json
import sys
from typing import Annotated

import typer

from mlx_integrations.cli.answer import as_record, say_how_it_ended, stream_answer
from mlx_integrations.cli.options import MaxTokens, Model, Offline, Provider, System, Temperature
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.types import ChatMessage, ChatRequest, ChatResult, SamplingParams

__all__ = ["chat", "talk"]


def chat(
    context: typer.Context,
    prompt: Annotated[
        str | None, typer.Argument(help="The question. Left out: a conversation, or what comes through a pipe.")
    ] = None,
    model: Model = None,
    provider: Provider = None,
    system: System = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer as one JSON object.")] = False,
    offline: Offline = False,
) -> None:
    """Ask one question, or have a conversation.

    With a question, the answer is streamed to stdout and the command ends. Without one, in a terminal, a conversation
    begins that keeps its history: /help shows what you can do in it. Through a pipe, all of stdin is the question.
    """
    invocation: Invocation = context.obj
    if offline:
        invocation.overrides["offline"] = True
    invocation.provider = provider or invocation.provider
    sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature)
    talk(invocation, model or invocation.model, prompt, system=system, sampling=sampling, as_json=as_json)


def talk(
    invocation: Invocation,
    model: str | None,
    prompt: str | None,
    *,
    system: str | None,
    sampling: SamplingParams,
    as_json: bool = False,
) -> None:
    """Answer one question, or hold a conversation if there is none and a person at a terminal.

    Without a model, the provider's default answers.
    """
    if prompt is None and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
        from mlx_integrations.cli.conversation.loop import converse

        converse(invocation, model, system=system, sampling=sampling)
        return
    question = _read_question() if prompt is None else prompt
    if not question.strip():
        raise typer.BadParameter('There is no question. Try: mlxi chat "Who are you?"', param_hint="prompt")
    backend = invocation.chat_backend(model)
    messages: tuple[ChatMessage, ...] = (ChatMessage(role="user", content=question),)
    if system is not None:
        messages = (ChatMessage(role="system", content=system), *messages)
    request = ChatRequest(messages=messages, sampling=sampling)
    if as_json:
        result = ChatResult.join(backend.stream(request))
        typer.echo(json.dumps(as_record(result), ensure_ascii=False))
    else:
        say_how_it_ended(stream_answer(backend, request))


def _read_question() -> str:
    if sys.stdin.isatty():
        typer.echo("Type your question, then Ctrl-D:", err=True)
    return sys.stdin.read()
