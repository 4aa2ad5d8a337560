"""What an answer may look like, as a grammar: forced tool calls, JSON by schema, regular expressions, after thinking.

Flow: `answer_grammar` (request + the model family's syntax -> Lark text, pure) -> `GrammarCompiler.compile` (checked
in the caller's thread) -> `grammar_mask.GrammarProcessor` (one per row, on the worker thread).
The text is llguidance's Lark dialect (https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md).
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from llguidance import LLMatcher, LLTokenizer

from mlx_integrations.errors import InvalidRequestError, UnknownToolError, UnsupportedSchemaError
from mlx_integrations.runtime.chat.json_schema import grammar_schema
from mlx_integrations.runtime.chat.syntax import OutputSyntax
from mlx_integrations.types import ChatRequest, JsonObjectFormat, JsonSchemaFormat, RegexFormat, ToolSpec

__all__ = ["GrammarCompiler", "answer_grammar"]

_MAX_PARALLEL_CALLS = 16
_ANYTHING = r"/(.|\n)*/"
_BLANK = r"/[\n ]{0,4}/"
_HEADER = "%llguidance {}\n"
_ANY_OBJECT = grammar_schema({"type": "object"})
_SHAPES = frozenset({"$ref", "allOf", "anyOf", "oneOf"})
_ESCAPE_SLASH_OR_BREAK = re.compile(r"\\.|/|\n", re.DOTALL)
_PROBE_STEPS = 4
_MAX_KNOWN_SCHEMAS = 1024


class GrammarCompiler:
    """Compiles grammars for one model's vocabulary.

    Args:
        tokenizer_json: The Hugging Face tokenizer, serialised.
        vocabulary_size: Width of the model's logits, padding included.
        end_ids: Every token that ends a turn.
    """

    def __init__(self, tokenizer_json: str, *, vocabulary_size: int, end_ids: Sequence[int]) -> None:
        self._tokenizer = LLTokenizer(tokenizer_json, n_vocab=vocabulary_size, eos_token=list(end_ids))
        added = json.loads(tokenizer_json).get("added_tokens", [])
        self._special_ids: dict[str, int] = {
            token["content"]: token["id"] for token in added if self._tokenizer.is_special_token(token["id"])
        }
        longest_first = sorted(self._special_ids, key=len, reverse=True)
        self._special = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None
        self._end_ids = tuple(end_ids)
        self._problems: dict[bytes, str] = {}

    def literal(self, text: str) -> str:
        """Lark for a fixed text; special tokens in it are matched as the tokens they are."""
        if not text:
            return '""'
        parts = self._special.split(text) if self._special else [text]
        return " ".join(
            f"<[{self._special_ids[part]}]>" if part in self._special_ids else json.dumps(part)
            for part in parts
            if part
        )

    def starts_special(self, text: str) -> bool:
        """Whether `text` begins with a special token."""
        return self._special is not None and self._special.match(text) is not None

    def compile(self, lark: str) -> LLMatcher:
        """A fresh matcher.

        Raises:
            UnsupportedSchemaError: llguidance cannot compile it; the message is its own.
        """
        matcher = LLMatcher(self._tokenizer, lark, log_level=0)
        if not matcher.is_error():
            matcher.compute_bitmask()  # the first token may be one too many
        if matcher.is_error():
            raise UnsupportedSchemaError(f"The grammar cannot be compiled: {_first_words(matcher.get_error())}.")
        return matcher

    def check_schema(self, schema: str) -> str:
        """`schema` (from `grammar_schema`) itself, if it can be enforced; tried once for each schema.

        Raises:
            UnsupportedSchemaError: llguidance cannot compile it, or it is too much for it.
        """
        key = hashlib.sha256(schema.encode()).digest()
        problem = self._problems.get(key)
        if problem is None:
            problem = self._problem(schema)
            if len(self._problems) >= _MAX_KNOWN_SCHEMAS:
                self._problems.clear()
            self._problems[key] = problem
        if problem:
            raise UnsupportedSchemaError(problem)
        return schema

    def _problem(self, schema: str) -> str:
        """What is wrong with a schema, empty if nothing; some limits of llguidance show after the first tokens only."""
        try:
            matcher = self.compile(f"{_HEADER}start: %json {schema}\n")
        except UnsupportedSchemaError as error:
            return str(error.args[0])
        for _ in range(_PROBE_STEPS):
            allowed = int.from_bytes(matcher.compute_bitmask(), "little")
            for end_id in self._end_ids:
                allowed &= ~(1 << end_id)
            if matcher.is_error() or not allowed:
                break
            lowest = (allowed & -allowed).bit_length() - 1
            matcher.consume_token(lowest)
        if matcher.is_error():
            return f"The schema is too much for the grammar engine: {_first_words(matcher.get_error())}."
        return ""


def answer_grammar(
    request: ChatRequest, syntax: OutputSyntax, compiler: GrammarCompiler, *, may_think: bool, in_reasoning: bool
) -> str | None:
    """The grammar of the whole answer, or `None` when anything goes.

    Args:
        request: What was asked.
        syntax: How this model family writes calls and thinking.
        compiler: Knows which texts are special tokens.
        may_think: The model is one that thinks.
        in_reasoning: The prompt ends inside an open thinking block.

    Raises:
        UnknownToolError: The forced tool was not offered.
        InvalidRequestError: A call is forced together with an output format, or without tools.
        UnsupportedSchemaError: A schema or regex cannot be enforced.
    """
    if not in_reasoning and (not may_think or request.reasoning is False):
        syntax = replace(syntax, reasoning_start=None, reasoning_end=None)
    rules = _Rules(compiler)
    mode = request.tool_choice.mode
    if mode in ("any", "tool"):
        tools = _forced_tools(request)
        if request.output is not None:
            raise InvalidRequestError(
                "A tool call cannot be forced together with an output format.",
                field="tool_choice",
                hint='Use `tool_choice="auto"`, or drop the format.',
            )
        body = rules.calls(tools, syntax, at_most=1 if mode == "tool" else _most_calls(request, syntax))
    elif request.output is not None:
        body = rules.add("output", _output(request.output, compiler))
        if syntax.answer_prefix:
            body = f"{rules.compiler.literal(syntax.answer_prefix)} {body}"
        if request.tools and mode == "auto":
            calls = rules.calls(request.tools, syntax, at_most=_most_calls(request, syntax), is_forced=False)
            body = f"({body} | {calls})"
    elif request.tools and mode == "auto":
        return _auto_grammar(request, syntax, rules, in_reasoning=in_reasoning)
    else:
        return None
    return rules.text(rules.after_thinking(body, syntax, in_reasoning=in_reasoning))


class _Rules:
    """Collects named rules around a start rule."""

    def __init__(self, compiler: GrammarCompiler) -> None:
        self.compiler = compiler
        self._rules: list[str] = []

    def add(self, name: str, body: str) -> str:
        self._rules.append(f"{name}: {body}")
        return name

    def text(self, start: str) -> str:
        return _HEADER + f"start: {start}\n" + "\n".join(self._rules) + "\n"

    def calls(self, tools: Sequence[ToolSpec], syntax: OutputSyntax, *, at_most: int, is_forced: bool = True) -> str:
        """One to `at_most` calls as the family writes them.

        A tool whose schema cannot be enforced takes any object where no call is forced: it must not stand in the way
        of an ordinary answer, nor of the other tools.
        """
        literal, call = self.compiler.literal, syntax.call
        names = []
        for number, tool in enumerate(tools):
            head = literal(call.before_name + json.dumps(tool.name, ensure_ascii=False)[1:-1] + call.before_arguments)
            self.add(f"arguments_{number}", f"%json {self._arguments(tool, is_forced=is_forced)}")
            names.append(self.add(f"call_{number}", f"{head} arguments_{number} {literal(call.after_call)}"))
        self.add("call", " | ".join(names))
        more = f" ({literal(call.between)} call){{0,{at_most - 1}}}" if at_most > 1 else ""
        return self.add("calls", f"{literal(call.begin)} call{more} {literal(call.end)}")

    def _arguments(self, tool: ToolSpec, *, is_forced: bool) -> str:
        try:
            return self.compiler.check_schema(grammar_schema(_object_schema(tool)))
        except UnsupportedSchemaError as error:
            if not is_forced:
                return _ANY_OBJECT
            raise UnsupportedSchemaError(
                f"The parameters of the tool `{tool.name}` cannot be enforced. {error.args[0]}", keywords=error.keywords
            ) from error

    def after_thinking(self, body: str, syntax: OutputSyntax, *, in_reasoning: bool) -> str:
        """Let the thinking come first where the model thinks."""
        start, end = syntax.reasoning_start, syntax.reasoning_end
        if not start or not end:
            return body
        if self.compiler.starts_special(end):
            self.add("thinking", f"{_ANYTHING} {self.compiler.literal(end)} {_BLANK}")
        else:
            self.add("thinking_end[lazy]", f"{_ANYTHING} {self.compiler.literal(end)}")
            self.add("thinking", f"thinking_end {_BLANK}")
        if in_reasoning:
            return f"thinking {body}"
        return f"({self.compiler.literal(start)} thinking)? {body}"


def _auto_grammar(request: ChatRequest, syntax: OutputSyntax, rules: _Rules, *, in_reasoning: bool) -> str | None:
    """Free text, in which a call that is begun must become a whole call of an offered tool.

    Only where the family writes JSON calls behind an unmistakable marker; elsewhere the parser alone judges.
    """
    trigger = syntax.call_trigger
    if not trigger:
        return None
    literal, call = rules.compiler.literal, syntax.call
    whole = call.begin + call.before_name
    if not whole.startswith(trigger):
        return None
    rules.calls(request.tools, syntax, at_most=1, is_forced=False)  # for the rules of the arguments and of one call
    heads = []
    for number, tool in enumerate(request.tools):
        name = json.dumps(tool.name, ensure_ascii=False)[1:-1]
        rest = whole[len(trigger) :] + name + call.before_arguments
        heads.append(f"{literal(rest)} arguments_{number} {literal(call.after_call)}")
    rules.add("first_rest", " | ".join(heads))
    if rules.compiler.starts_special(trigger):
        rules.add("opened", f"{_ANYTHING} {literal(trigger)}")
    else:
        rules.add("opened[lazy]", f"{_ANYTHING} {json.dumps(trigger)}")
    at_most = _most_calls(request, syntax)
    more = f" ({literal(call.between)} call){{0,{at_most - 1}}}" if at_most > 1 else ""
    end = f" {literal(call.end)}" if call.end else ""
    body = f"(opened first_rest{more}{end} | {_ANYTHING})"
    if syntax.reasoning_start and not rules.compiler.starts_special(syntax.reasoning_start) and not in_reasoning:
        return rules.text(body)  # plain-text thinking marks are part of the free text
    return rules.text(rules.after_thinking(body, syntax, in_reasoning=in_reasoning))


def _most_calls(request: ChatRequest, syntax: OutputSyntax) -> int:
    return _MAX_PARALLEL_CALLS if request.parallel_tool_calls and syntax.call.parallel else 1


def _forced_tools(request: ChatRequest) -> Sequence[ToolSpec]:
    choice = request.tool_choice
    if not request.tools:
        if choice.mode == "tool":
            raise UnknownToolError(f"There is no tool `{choice.name}` to be called.", tool_name=str(choice.name))
        raise InvalidRequestError(
            "A tool call is forced, but no tools are offered.", field="tool_choice", hint="Pass the tools."
        )
    if choice.mode == "any":
        return request.tools
    named = [tool for tool in request.tools if tool.name == choice.name]
    if not named:
        raise UnknownToolError(
            f"There is no tool `{choice.name}` to be called.",
            tool_name=str(choice.name),
            offered=[tool.name for tool in request.tools],
        )
    return named


def _output(output: JsonSchemaFormat | JsonObjectFormat | RegexFormat, compiler: GrammarCompiler) -> str:
    match output:
        case JsonSchemaFormat(schema=schema):
            return f"%json {compiler.check_schema(grammar_schema(schema))}"
        case JsonObjectFormat():
            return f"%json {_ANY_OBJECT}"
        case RegexFormat(pattern=pattern):
            return _lark_regex(pattern)


def _lark_regex(pattern: str) -> str:
    """A regex as Lark writes it: on one line, between slashes, anchored at both ends whether it says so or not."""
    in_lark = {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}
    return "/" + _ESCAPE_SLASH_OR_BREAK.sub(lambda found: in_lark.get(found[0], found[0]), pattern) + "/"


def _object_schema(tool: ToolSpec) -> Mapping[str, object]:
    if _SHAPES.isdisjoint(tool.parameters):
        return {"type": "object", "properties": {}, **tool.parameters}
    return {"type": "object", **tool.parameters}


def _first_words(problem: str) -> str:
    """llguidance's message without the grammar it prints below it."""
    return " ".join(line.strip() for line in problem.split("\n   1 |")[0].splitlines() if line.strip(" ^"))
