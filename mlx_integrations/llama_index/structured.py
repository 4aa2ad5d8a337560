"""Answers that are objects: what is asked of the model, and what its text amounts to, complete or growing.

class, prompt  -> structured_options   the schema of the class as the format of the answer
the answer     -> object_of            a whole one
-> GrowingObject        one that streams in, as often as it says something new
"""

import json
from abc import abstractmethod
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, closing
from typing import Any, Generic

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictInProgressEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.program.utils import FlexibleModel, create_flexible_model
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.types import Model, PydanticProgramMode
from llama_index_instrumentation import get_dispatcher
from pydantic import BaseModel, SerializeAsAny, ValidationError
from pydantic_core import from_json

from mlx_integrations.llama_index.errors import InvalidOutputError, TruncatedOutputError
from mlx_integrations.llama_index.options import class_format

__all__ = ["GrowingObject", "ObjectLLM", "StructuredPrediction", "object_of", "structured_options"]

_dispatcher = get_dispatcher(__name__)

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


class StructuredPrediction(FunctionCallingLLM):
    """A model whose grammar holds an answer to the schema of a class, so that it needs no call of a function.

    Another `pydantic_program_mode` than the default leaves all of it to LlamaIndex.
    """

    def as_structured_llm(self, output_cls: type[BaseModel], **kwargs: Any) -> StructuredLLM:
        """A model all of whose answers are instances of a class: `raw` has the object, the message its JSON."""
        return ObjectLLM(llm=self, output_cls=output_cls, **kwargs)

    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Answer with an object. The grammar lets the model write only what satisfies the schema of its class.

        Args:
            output_cls: A pydantic class.
            prompt: The prompt.
            llm_kwargs: Options of the call.
            **prompt_args: Variables of the prompt.

        Raises:
            TruncatedOutputError: The token limit cut the answer.
            InvalidOutputError: The class has rules that a schema cannot express, and the answer breaks one.
        """
        if self.pydantic_program_mode is not PydanticProgramMode.DEFAULT:
            by_program: Model = super().structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return by_program
        messages = self._begin_structured(output_cls, prompt, prompt_args)
        response: ChatResponse = self.chat(messages, **structured_options(output_cls, llm_kwargs))
        result = object_of(response, output_cls)
        _dispatcher.event(LLMStructuredPredictEndEvent(output=result))
        return result

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """The same for event loops."""
        if self.pydantic_program_mode is not PydanticProgramMode.DEFAULT:
            by_program: Model = await super().astructured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return by_program
        messages = self._begin_structured(output_cls, prompt, prompt_args)
        response: ChatResponse = await self.achat(messages, **structured_options(output_cls, llm_kwargs))
        result = object_of(response, output_cls)
        _dispatcher.event(LLMStructuredPredictEndEvent(output=result))
        return result

    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | FlexibleModel, None, None]:
        """Answer with an object that grows; the last one is complete, and of the class."""
        if self.pydantic_program_mode is not PydanticProgramMode.DEFAULT:
            yield from super().stream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return
        messages = self._begin_structured(output_cls, prompt, prompt_args)
        growing, response = GrowingObject(output_cls), None
        with closing(self.stream_chat(messages, **structured_options(output_cls, llm_kwargs))) as responses:
            for response in responses:
                if (partial := growing.update(response.message.content or "")) is not None:
                    _dispatcher.event(LLMStructuredPredictInProgressEvent(output=partial))
                    yield partial
        assert response is not None
        result = object_of(response, output_cls)
        _dispatcher.event(LLMStructuredPredictEndEvent(output=result))
        yield result

    async def astream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | FlexibleModel, None]:
        """The same for event loops."""
        if self.pydantic_program_mode is not PydanticProgramMode.DEFAULT:
            return await super().astream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
        messages = self._begin_structured(output_cls, prompt, prompt_args)
        stream = await self.astream_chat(messages, **structured_options(output_cls, llm_kwargs))

        async def objects() -> AsyncGenerator[Model | FlexibleModel, None]:
            growing, response = GrowingObject(output_cls), None
            async with aclosing(stream) as responses:
                async for response in responses:
                    if (partial := growing.update(response.message.content or "")) is not None:
                        _dispatcher.event(LLMStructuredPredictInProgressEvent(output=partial))
                        yield partial
            assert response is not None
            result = object_of(response, output_cls)
            _dispatcher.event(LLMStructuredPredictEndEvent(output=result))
            yield result

        return objects()

    @abstractmethod
    async def _aget_ready(self) -> None:
        """See to it that `metadata` need nothing any more: LlamaIndex reads them on event loops."""

    def _begin_structured(
        self, output_cls: type[Model], prompt: BasePromptTemplate, prompt_args: dict[str, Any]
    ) -> list[ChatMessage]:
        _dispatcher.event(
            LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args)
        )
        return self._extend_messages(prompt.format_messages(llm=self, **prompt_args))


class ObjectLLM(StructuredLLM):
    """What `as_structured_llm` makes: LlamaIndex's own, which looks the model up on no event loop."""

    llm: SerializeAsAny[StructuredPrediction]

    def to_payload(self) -> dict[str, Any]:
        """What callbacks are told; the base class tells `metadata`."""
        return {**self.llm.to_payload(), "class_name": self.class_name()}

    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Answer a prompt template, with `metadata` known before the base class reads them."""
        await self.llm._aget_ready()
        answer: str = await super().apredict(prompt, **prompt_args)
        return answer
