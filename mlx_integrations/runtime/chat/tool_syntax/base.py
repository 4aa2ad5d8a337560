"""The records of output syntax: what a parser releases, how a family writes, and what a parser is.

Everything here is data or a protocol; the families beside this file fill it in, `runtime/chat/syntax.py` chooses one.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mlx_integrations.types import FinishReason, InvalidToolCall, ToolCall, ToolSpec

__all__ = [
    "Block",
    "CallError",
    "CallSyntax",
    "Delta",
    "NewId",
    "OutputParser",
    "OutputSyntax",
    "ParserOptions",
    "RawCall",
    "ReasoningDelta",
    "TextDelta",
    "UpstreamToolParser",
    "new_call_id",
]

NewId = Callable[[], str]


def new_call_id() -> str:
    """A fresh id for a tool call: `call_` and 24 hexadecimal digits."""
    return f"call_{secrets.token_hex(12)}"


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Visible text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """Text of the thinking channel."""

    text: str


Delta = TextDelta | ReasoningDelta | ToolCall | InvalidToolCall


class OutputParser(Protocol):
    """Splits the text of one answer, as it arrives, into deltas. Used for one answer, then thrown away."""

    def feed(self, text: str) -> list[Delta]:
        """Take the next piece of text; give back whatever is certain by now."""
        ...

    def finish(self, reason: FinishReason = "stop") -> list[Delta]:
        """Take note that nothing more comes; give back everything still held."""
        ...


class CallError(ValueError):
    """A call that cannot be accepted; the message becomes `InvalidToolCall.error`."""

    def __init__(self, message: str, *, name: str | None = None) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, slots=True)
class RawCall:
    """A call as written, before it is checked: `arguments` is an object, or JSON text."""

    name: Any
    arguments: Any


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of output that holds calls.

    Attributes:
        start: The text that opens it.
        end: The text that closes it; empty means that it ends with its JSON value.
        parse: Reads what is between; raises `CallError`.
        is_json: Whether a JSON value ends what is between, so that nothing is missing where only `end` is.
        is_open_ended: Whether the end of the answer closes it, too.
    """

    start: str
    end: str
    parse: Callable[[str, Sequence[ToolSpec]], list[RawCall]]
    is_json: bool = True
    is_open_ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSyntax:
    """How a call with JSON arguments is written; a grammar that forces a call is built from it.

    The text is `begin`, then for every call `before_name`, the name, `before_arguments`, the arguments as a JSON
    object, `after_call`; `between` separates calls; then `end`.

    Attributes:
        begin: Before all calls.
        before_name: Up to the name.
        before_arguments: From the name to the arguments.
        after_call: After the arguments.
        between: Between two calls of one answer.
        end: After all calls.
        parallel: Whether the family can write several calls in one answer.
    """

    begin: str = ""
    before_name: str
    before_arguments: str
    after_call: str
    between: str = ""
    end: str = ""
    parallel: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ParserOptions:
    """What a parser must know about the one answer it reads.

    Attributes:
        tools: The tools offered; with none, tool markers are ordinary text.
        in_reasoning: Whether the prompt ended inside an open thinking tag.
        forced_call: Whether a grammar holds the answer to the family's `CallSyntax`.
        new_id: Makes ids of calls.
    """

    tools: tuple[ToolSpec, ...] = ()
    in_reasoning: bool = False
    forced_call: bool = False
    new_id: NewId = new_call_id


@dataclass(frozen=True, kw_only=True)
class OutputSyntax:
    """How a model family writes tool calls, reasoning and the visible answer.

    Attributes:
        name: The family, such as `hermes` or `harmony`.
        call: How a forced call is written.
        build: Makes the parser of one answer.
        reasoning_start: Opens the thinking channel, where the family has one.
        reasoning_end: Closes it, up to where the visible answer or a call may begin.
        answer_prefix: Written before the visible answer (`<|channel|>final<|message|>`); a grammar that holds the
            answer to a schema puts it in front.
        call_trigger: The beginning of `call` after which nothing but a call can follow, where the family writes its
            calls so and no other way; empty otherwise.
        blocks: The stretches that hold calls.
        wrappers: Texts around calls that say nothing by themselves; dropped where tools are offered.
        silent: Texts that structure the answer and are never shown.
        markers: Special tokens, as text, that the parser needs to see; a detokeniser drops all others.
        stop_markers: End-of-turn tokens besides the tokenizer's own.
    """

    name: str
    call: CallSyntax
    build: "Callable[[OutputSyntax, ParserOptions], OutputParser]"
    reasoning_start: str | None = None
    reasoning_end: str | None = None
    answer_prefix: str = ""
    call_trigger: str = ""
    blocks: tuple[Block, ...] = ()
    wrappers: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    markers: frozenset[str] = frozenset()
    stop_markers: tuple[str, ...] = ()

    def parser(
        self,
        *,
        tools: Sequence[ToolSpec],
        in_reasoning: bool,
        forced_call: bool = False,
        new_id: NewId = new_call_id,
    ) -> OutputParser:
        """Make the parser of one answer.

        Args:
            tools: The tools offered; with none, tool markers are ordinary text.
            in_reasoning: Whether the prompt ended inside an open thinking tag.
            forced_call: Whether a grammar holds the answer to `call`.
            new_id: Makes ids of calls.
        """
        options = ParserOptions(tools=tuple(tools), in_reasoning=in_reasoning, forced_call=forced_call, new_id=new_id)
        return self.build(self, options)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamToolParser:
    """The tool parser that mlx-lm inferred for a tokenizer.

    Attributes:
        name: Its module under `mlx_lm.tool_parsers`.
        start: The text that opens a block of calls.
        end: The text that closes it; may be empty.
        parse: Reads what is between, given the tools in the OpenAI form; may raise anything.
    """

    name: str
    start: str
    end: str
    parse: Callable[[str, list[dict[str, Any]] | None], Mapping[str, Any] | Sequence[Mapping[str, Any]]]
