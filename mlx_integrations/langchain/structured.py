"""`with_structured_output`: a model whose answers are objects."""

import json
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Literal

import pydantic
import pydantic.v1
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import BaseCumulativeTransformOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.json import parse_partial_json

from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.langchain.errors import InvalidOutputError, TruncatedOutputError
from mlx_integrations.langchain.formats import Schema, schema_name, schema_response_format
from mlx_integrations.langchain.tools import openai_tool

__all__ = ["METHODS", "Method", "StructuredOutputParser", "structured_output"]

Method = Literal["json_schema", "function_calling", "json_mode"]
METHODS = ("json_schema", "function_calling", "json_mode")


class StructuredOutputParser(BaseCumulativeTransformOutputParser[Any]):
    """Turns an answer into an object, or raises: it never returns half of one, and `None` only for a tool call.

    While an answer streams in, dictionaries are yielded as they grow; objects of a class only when they are complete.

    Attributes:
        target: The pydantic class of the result; `None` for a dictionary.
        tool_name: The tool whose arguments are the result; `None` if the text is.
        allow_tool_calls: Whether the answer may be a call of another tool instead; then there is no result.
    """

    target: Any = None
    tool_name: str | None = None
    allow_tool_calls: bool = False

    def parse(self, text: str) -> Any:
        """Parse a text."""
        return self.parse_result([Generation(text=text)])

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Parse an answer.

        Args:
            result: One generation.
            partial: Whether more of the answer may come.

        Raises:
            TruncatedOutputError: The token limit cut it before it was complete.
            InvalidOutputError: It is not what was asked for.
        """
        generation = result[0]
        message = generation.message if isinstance(generation, ChatGeneration) else None
        text = generation.text if message is None else str(message.text)
        finish_reason = message.response_metadata.get("finish_reason") if message else None
        if partial and finish_reason is None:
            return self._growing(text)
        if self.allow_tool_calls and message is not None and getattr(message, "tool_calls", None):
            return None
        try:
            return self._complete(message, text)
        except InvalidOutputError as error:
            if finish_reason != "length":
                raise
            raise TruncatedOutputError(
                "The answer was cut by the token limit before it was complete.", partial_text=error.partial_text
            ) from error

    @property
    def _type(self) -> str:
        return "mlx-structured-output"

    def _growing(self, text: str) -> dict[str, Any] | None:
        if self.target is not None or self.tool_name is not None or not text.strip():
            return None
        try:
            value = parse_partial_json(text)
        except json.JSONDecodeError:
            return None
        return value if isinstance(value, dict) else None

    def _complete(self, message: BaseMessage | None, text: str) -> Any:
        if self.tool_name is None:
            try:
                value = json.loads(text)
            except json.JSONDecodeError as error:
                raise InvalidOutputError(f"The answer is not JSON: {error}.", partial_text=text) from error
        else:
            value, text = self._arguments(message, text)
        if self.target is None:
            return value
        try:
            if issubclass(self.target, pydantic.BaseModel):
                return self.target.model_validate(value)
            return self.target.parse_obj(value)
        except (pydantic.ValidationError, pydantic.v1.ValidationError) as error:
            name = self.target.__name__
            raise InvalidOutputError(f"The answer is not a `{name}`: {error}", partial_text=text) from error

    def _arguments(self, message: BaseMessage | None, text: str) -> tuple[Any, str]:
        for call in getattr(message, "tool_calls", None) or ():
            if call["name"] == self.tool_name:
                return call["args"], json.dumps(call["args"], ensure_ascii=False)
        invalid = message.additional_kwargs.get("invalid_tool_calls") if message else None
        if invalid:
            raise InvalidOutputError(
                f"The call of `{self.tool_name}` was not accepted: {invalid[0]['error']}",
                partial_text=invalid[0]["args"],
            )
        raise InvalidOutputError(f"The model did not call `{self.tool_name}`.", partial_text=text)


def structured_output(
    model: BaseChatModel,
    schema: Schema | None,
    *,
    method: Method = "json_schema",
    include_raw: bool = False,
    strict: bool | None = None,
    tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
    options: dict[str, Any],
) -> Runnable[LanguageModelInput, Any]:
    """Bind a schema to a model and parse its answers. See `ChatMLX.with_structured_output`."""
    if method not in METHODS:
        raise InvalidRequestError(
            f"`method` cannot be `{method!r}`.", field="method", hint="Use one of " + ", ".join(METHODS) + "."
        )
    if schema is None and method != "json_mode":
        raise InvalidRequestError(f"The method `{method}` needs a schema.", field="schema")
    if tools and method != "json_schema":
        raise InvalidRequestError(f"`tools` cannot be combined with the method `{method}`.", field="tools")
    target = (
        schema if isinstance(schema, type) and issubclass(schema, pydantic.BaseModel | pydantic.v1.BaseModel) else None
    )
    parser = StructuredOutputParser(target=target, allow_tool_calls=bool(tools))
    traced: dict[str, Any] = {
        "ls_structured_output_format": {"kwargs": {"method": method, "strict": strict}, "schema": schema or {}}
    }
    if method == "function_calling":
        assert schema is not None
        tool = openai_tool(_titled(schema), strict=strict)
        parser.tool_name = tool["function"]["name"]
        bound = model.bind_tools([tool], tool_choice=parser.tool_name, parallel_tool_calls=False, **traced, **options)
    else:
        # Elsewhere `json_mode` promises no more than JSON; here the grammar can hold it to its schema as well.
        response_format = {"type": "json_object"} if schema is None else schema_response_format(schema)
        bound = model.bind_tools(tools or [], response_format=response_format, **traced, **options)
    return _with_raw(bound, parser) if include_raw else bound | parser


def _titled(schema: Schema) -> Schema:
    """A JSON Schema needs a title to become a tool."""
    if isinstance(schema, type) or {"title", "name", "function", "toolSpec"} & schema.keys():
        return schema
    return {"title": schema_name(schema), **schema}


def _with_raw(
    bound: Runnable[LanguageModelInput, Any], parser: StructuredOutputParser
) -> Runnable[LanguageModelInput, Any]:
    """The answer, the object and the error, if any, side by side."""
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | parsed.with_fallbacks([failed], exception_key="parsing_error")
