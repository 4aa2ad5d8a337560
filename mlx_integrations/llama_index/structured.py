"""Answers that are objects: what is asked of the model, and what its text amounts to, complete or growing."""

import json
from collections.abc import Mapping
from typing import Any, Generic

from llama_index.core.base.llms.types import ChatResponse
from llama_index.core.program.utils import FlexibleModel, create_flexible_model
from llama_index.core.types import Model
from pydantic import ValidationError
from pydantic_core import from_json

from mlx_integrations.llama_index.errors import InvalidOutputError, TruncatedOutputError
from mlx_integrations.llama_index.options import class_format

__all__ = ["GrowingObject", "object_of", "structured_options"]

# LlamaIndex's programs drop these from the options of a call as well: the schema has taken their place.
_ABOUT_TOOLS = ("tools", "tool_choice", "tool_required", "allow_parallel_tool_calls", "parallel_tool_calls")


def structured_options(output_cls: type[Model], llm_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of a call whose answer is an instance of a class."""
    options = {name: value for name, value in (llm_kwargs or {}).items() if name not in _ABOUT_TOOLS}
    return {**options, "response_format": class_format(output_cls)}


def object_of(response: ChatResponse, output_cls: type[Model]) -> Model:
    """The object that a whole answer is.

    Raises:
        TruncatedOutputError: The token limit cut it before it was complete.
        InvalidOutputError: It is not what was asked for.
    """
    text = response.message.content or ""
    try:
        found: Model = output_cls.model_validate(json.loads(text))
    except (json.JSONDecodeError, ValidationError) as error:
        raw = response.raw if isinstance(response.raw, Mapping) else {}
        if raw.get("finish_reason") == "length":
            message = "The answer was cut by the token limit before it was complete."
            raise TruncatedOutputError(message, partial_text=text) from error
        raise InvalidOutputError(f"The answer is not a `{output_cls.__name__}`: {error}", partial_text=text) from error
    return found


class GrowingObject(Generic[Model]):
    """An object while its text streams in: every new state of it, once.

    Attributes are added as they are complete enough to be read; a string grows. As long as the class itself cannot be
    made of them, they are in a copy of it whose fields are all optional.
    """

    def __init__(self, output_cls: type[Model]) -> None:
        self._output_cls = output_cls
        self._flexible_cls: type[FlexibleModel] = create_flexible_model(output_cls)
        self._last: Any = {}

    def update(self, text: str) -> Model | FlexibleModel | None:
        """The object as far as it can be read from this text; `None` if it says nothing new."""
        try:
            value = from_json(text, allow_partial="trailing-strings")
        except ValueError:
            return None
        if not isinstance(value, dict) or value == self._last:
            return None
        self._last = value
        try:
            return self._output_cls.model_validate(value)
        except ValidationError:
            return self._flexible_cls.model_validate(value)
