"""The usual parser: reasoning is split off first, then calls are split from visible text."""

import itertools

from mlx_integrations.runtime.chat.tool_syntax.base import Delta, OutputParser, OutputSyntax, ParserOptions
from mlx_integrations.runtime.chat.tool_syntax.blocks import BlockParser
from mlx_integrations.runtime.chat.tool_syntax.forced import ForcedCallParser
from mlx_integrations.runtime.chat.tool_syntax.reasoning import ReasoningSplitter
from mlx_integrations.types import FinishReason, ToolCall

__all__ = ["StagedParser", "block_parser", "build_staged", "stage"]


class StagedParser:
    """Reasoning first; what follows goes to a parser of the answer.

    Some models call a tool without closing their thinking first (Kimi K2 and Qwen 3 are known for it). So where the
    answer ends inside the thinking, and that ends with complete calls, the calls come out after all.

    Args:
        splitter: Takes the reasoning off.
        answer: Reads the rest.
        unclosed: Reads reasoning that was never closed.
    """

    def __init__(self, splitter: ReasoningSplitter, answer: OutputParser, *, unclosed: OutputParser) -> None:
        self._splitter = splitter
        self._answer = answer
        self._unclosed = unclosed

    def feed(self, text: str) -> list[Delta]:
        """Take the next piece of text; give back whatever is certain by now."""
        deltas, answer = self._splitter.feed(text)
        return deltas + (self._answer.feed(answer) if answer else [])

    def finish(self, reason: FinishReason = "stop") -> list[Delta]:
        """Give back everything still held."""
        deltas, answer = self._splitter.finish()
        if (reasoning := self._splitter.unclosed) and reason != "length":
            read = self._unclosed.feed(reasoning) + self._unclosed.finish(reason)
            calls = list(itertools.takewhile(lambda delta: isinstance(delta, ToolCall), reversed(read)))
            deltas.extend(reversed(calls))
        return deltas + (self._answer.feed(answer) if answer else []) + self._answer.finish(reason)


def build_staged(syntax: OutputSyntax, options: ParserOptions) -> OutputParser:
    """Make the parser of a family whose calls are blocks in the text."""
    return stage(syntax, options, block_parser(syntax, options))


def block_parser(syntax: OutputSyntax, options: ParserOptions) -> BlockParser:
    """Make the parser of visible text with blocks in it."""
    silent = (*syntax.silent, *syntax.wrappers) if options.tools else syntax.silent
    return BlockParser(syntax.blocks, silent=silent, tools=options.tools, new_id=options.new_id)


def stage(syntax: OutputSyntax, options: ParserOptions, answer: OutputParser) -> OutputParser:
    """Put the forced call, where there is one, and the reasoning in front of a parser of the answer."""
    if options.forced_call:
        answer = ForcedCallParser(syntax.call, otherwise=answer, tools=options.tools, new_id=options.new_id)
    if syntax.reasoning_start is None or syntax.reasoning_end is None:
        return answer
    unclosed = block_parser(syntax, options)
    splitter = ReasoningSplitter(syntax.reasoning_start, syntax.reasoning_end, in_reasoning=options.in_reasoning)
    return StagedParser(splitter, answer, unclosed=unclosed)
