"""The loop of a conversation: read a line, do what it says or answer it, until the person leaves."""

import json
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_integrations.cli.answer import say_how_it_ended, stream_answer
from mlx_integrations.cli.console import errors, say
from mlx_integrations.cli.conversation.commands import HELP, LOCAL_HELP, Command, complete_line, parse
from mlx_integrations.cli.conversation.reader import History, LineReader
from mlx_integrations.cli.conversation.state import Conversation
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.errors import ContextOverflowError, MLXIntegrationsError
from mlx_integrations.types import ChatChunk, SamplingParams

if TYPE_CHECKING:
    from mlx_integrations.manager.records import InstalledModel

__all__ = ["converse"]

_HISTORY_FILE = "chat-history.jsonl"


def converse(invocation: Invocation, model: str | None, *, system: str | None, sampling: SamplingParams) -> None:
    """Hold a conversation until the person leaves.

    Args:
        invocation: What the command is made of.
        model: Who answers first; the provider's default otherwise.
        system: Instructions before everything else.
        sampling: How answers are chosen.

    Raises:
        MLXIntegrationsError: The first model cannot be found. Later failures are told and end nothing.
    """
    backend = invocation.chat_backend(model)
    window = backend.capabilities.context_window  # reads the model's files: a broken one is told of at once
    conversation = Conversation(backend=backend, system=system, sampling=sampling)
    history = History(invocation.parts.state_folder() / _HISTORY_FILE, invocation.settings.chat.history_entries)
    reader = LineReader(history, partial(_complete, invocation))
    say(f"{backend.model_id}, {window:,} tokens of context. /help shows what you can do, Ctrl-D leaves.", style="dim")
    while True:
        try:
            message = reader.read()
        except KeyboardInterrupt:
            say("\nCtrl-D or /exit leaves.", style="dim")
            continue
        if message is None:
            say()
            return
        if not message.strip():
            continue
        command = parse(message)
        if command is not None and command.name == "exit":
            return
        try:
            if command is None:
                _answer(conversation, message)
            else:
                _obey(command, conversation, invocation)
        except MLXIntegrationsError as error:
            _tell(error)
        except KeyboardInterrupt:
            say("\nStopped.", style="dim")


def _answer(conversation: Conversation, question: str) -> None:
    """Stream an answer. One that is stopped with Ctrl-C is kept as far as it got."""
    heard: list[ChatChunk] = []
    try:
        finish = stream_answer(conversation.backend, conversation.ask(question), heard)
    except KeyboardInterrupt:
        if text := _text(heard):
            conversation.keep(question, text)
        raise
    conversation.keep(question, _text(heard))
    say_how_it_ended(finish, window_tokens=conversation.backend.capabilities.context_window)


def _text(heard: list[ChatChunk]) -> str:
    return "".join(chunk.text for chunk in heard)


def _obey(command: Command, conversation: Conversation, invocation: Invocation) -> None:
    actions: dict[str, Callable[[str], None]] = {
        "model": partial(_switch, conversation, invocation),
        "models": lambda _: _list(conversation, invocation),
        "system": partial(_instruct, conversation),
        "clear": lambda _: _forget(conversation),
        "save": partial(_save, conversation),
        "help": lambda topic: say(LOCAL_HELP if topic == "local" else HELP),
    }
    if command.name in actions:
        actions[command.name](command.argument)
    else:
        near = f" Did you mean /{command.nearest}?" if command.nearest else " /help lists what there is."
        say(f"There is no /{command.name}.{near}")


def _switch(conversation: Conversation, invocation: Invocation, name: str) -> None:
    """Hand the conversation to another model; it stays with the present one if that cannot be had."""
    if not name:
        say(f"{conversation.backend.model_id} answers. /model NAME switches, /models lists what is here.")
        return
    backend = invocation.chat_backend(name)
    window = backend.capabilities.context_window
    conversation.backend = backend
    filled = conversation.filled_tokens()
    say(f"{backend.model_id} answers from here on: {filled:,} of {window:,} tokens of context used.")
    if filled >= window:
        say("The conversation is longer than it can read. /clear starts anew, /save keeps it first.", style="yellow")


def _list(conversation: Conversation, invocation: Invocation) -> None:
    if invocation.asks_elsewhere:
        _list_offered(conversation, invocation)
        return
    for model in _chat_models(invocation):
        mark = "*" if model.name == conversation.backend.model_id else " "
        say(f"{mark} {model.name}" if model.is_usable else f"{mark} {model.name} ({model.reason})")


def _list_offered(conversation: Conversation, invocation: Invocation) -> None:
    """The models of the endpoint that was named, as it lists them now."""
    health = invocation.endpoint_health()
    if health.problem:
        say(health.problem)
    for name in health.models:
        mark = "*" if f"{health.endpoint}/{name}" == conversation.backend.model_id else " "
        say(f"{mark} {name}")


def _chat_models(invocation: Invocation) -> "list[InstalledModel]":
    return [model for model in invocation.manager.list() if model.kind != "embedding"]


def _complete(invocation: Invocation, line: str) -> list[str]:
    is_name = line.startswith("/model ") and not invocation.asks_elsewhere  # the Tab key asks no server
    names = [model.name for model in _chat_models(invocation)] if is_name else []
    return complete_line(line, names)


def _instruct(conversation: Conversation, text: str) -> None:
    if text:
        conversation.system = text
        say("From here on that comes before the conversation.")
    else:
        say(conversation.system or "There are no instructions. /system TEXT sets them.")


def _forget(conversation: Conversation) -> None:
    conversation.forget()
    say("Forgotten. The instructions stay." if conversation.system else "Forgotten.")


def _save(conversation: Conversation, name: str) -> None:
    """Write the conversation to a file that is not there yet."""
    if not conversation.messages:
        say("There is nothing to save yet.")
        return
    path = Path(name or f"chat-{datetime.now():%Y-%m-%d-%H%M%S}.md").expanduser()
    text = conversation.as_markdown()
    if path.suffix == ".json":
        text = json.dumps(conversation.as_records(), indent=2, ensure_ascii=False) + "\n"
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        say(f"{path} is there already. Give another name: /save NAME")
    except OSError as error:
        say(f"{path} cannot be written: {error.strerror}.")
    else:
        say(f"Saved to {path}")


def _tell(error: MLXIntegrationsError) -> None:
    """Say what went wrong; the conversation goes on."""
    hint = "/clear starts anew, /save keeps it first." if isinstance(error, ContextOverflowError) else error.hint
    errors().print(f"mlxi: {error.message}", style="red", markup=False, soft_wrap=True)
    if hint:
        say(f"hint: {hint}")
