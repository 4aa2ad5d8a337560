"""`MLXLLM`: a LlamaIndex model that runs in this process.

Input flow:
    LlamaIndex messages or a prompt, the model's fields, options of the call
        -> ToolCallingLLM._messages      system prompt, messages_to_prompt, completion_to_prompt
        -> options.call_options          names checked, aliases resolved; the call's value goes before the field's
        -> options.chat_request          messages.py, tools.py: one frozen `ChatRequest`
        -> ChatBackend.stream / astream

Output flow:
    `ChatChunk`s
        -> answers.GrowingAnswer         stream_chat, stream_complete and their async forms: responses that grow
        -> answers.chat_response         chat, complete and their async forms: the same chunks, joined
        -> structured.py                 structured_predict and its other forms: the text as an object

Nothing here chooses, retries or samples. Sync and async, streamed and whole, are one path through one backend.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, closing
from os import PathLike, fspath
from typing import Any, Self

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from pydantic import ConfigDict, Field, PrivateAttr, SkipValidation

from mlx_integrations.adapters.lookup import ChatLookup
from mlx_integrations.adapters.names import OF_NO_USE_HERE, canonical
from mlx_integrations.llama_index.answers import GrowingAnswer, chat_response, completion_response, to_completion
from mlx_integrations.llama_index.options import ALIASES, DEFAULTS, call_options, chat_request
from mlx_integrations.llama_index.tool_calling import ToolCallingLLM
from mlx_integrations.protocols import ChatBackend
from mlx_integrations.types import ChatRequest, ChatResult

__all__ = ["MLXLLM"]

_OUTPUT_SHARE = 4  # a quarter of the window is kept for the answer when nobody says how long it may be


class MLXLLM(ToolCallingLLM):
    """A chat model that runs in this process on MLX.

    Constructing one reads nothing and loads nothing; the model is loaded when it is first called, once for the process,
    and shared with every `ChatMLX` and `MLXLLM` that names it. Every option below can also be given for one call:
    `llm.chat(messages, temperature=0.2)`.

    `api_key`, `api_base`, `max_retries` and `timeout` are accepted and ignored, so that a model of another provider can
    be exchanged for this one: there is no connection that they could describe.

    Attributes:
        model: A registry id, a Hub repository id in the local cache, a folder, or `demo`. Also `model_name`.
        temperature: 0 (greedy) or above. For every sampling option `None` means: what the model's own files say.
        top_p: In (0, 1]; 1 switches it off.
        top_k: 0 (off) to the size of the vocabulary.
        min_p: In [0, 1]; 0 switches it off.
        xtc_probability: In [0, 1]; 0 switches it off.
        xtc_threshold: In [0, 0.5].
        repetition_penalty: Above 0; 1 switches it off.
        presence_penalty: 0 switches it off.
        frequency_penalty: 0 switches it off.
        logit_bias: Token id to what is added to its logit.
        seed: The same seed gives the same answer, alone or in a batch.
        max_tokens: Tokens generated at most. Also `max_new_tokens`.
        stop: Strings that end the answer; they are not part of it. Also `stop_sequences`.
        logprobs: Whether answers carry the log-probabilities of their tokens.
        top_logprobs: 0 to 20 alternatives for each token.
        reasoning: Whether the model thinks first; `None` leaves it to the model.
        template_options: Extra variables for the model's chat template.
        system_prompt: Goes before every conversation that has no system message of its own.
        messages_to_prompt: Writes a conversation as one text, which is then a single user message. Left out, the
            model's own chat template renders the messages.
        completion_to_prompt: Writes the prompt of `complete`; it does not see prompts that are `formatted` already.
        backend: Answers in place of the model's own runtime: for tests, or a backend of your own.
        runtime: A private runtime to load the model in, instead of the one that the process shares.
    """

    model: str = Field(min_length=1)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning: bool | None = None
    template_options: dict[str, Any] | None = None
    # Not validated: an isinstance check of a protocol reads its properties, and so the model's files.
    backend: SkipValidation[ChatBackend | None] = Field(default=None, exclude=True, repr=False)
    runtime: Any = Field(default=None, exclude=True, repr=False)
    _lookup: ChatLookup = PrivateAttr(default_factory=ChatLookup)

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    def __init__(self, model: str | PathLike[str] | None = None, **options: Any) -> None:
        """Take the names that other models use for the same options, too.

        Raises:
            InvalidRequestError: An option does not exist; the hint names the one that was probably meant.
        """
        given = {name: value for name, value in options.items() if name not in (*OF_NO_USE_HERE, "api_base")}
        if model is not None:
            given["model"] = fspath(model)
        given = canonical(given, type(self).model_fields, ALIASES)
        if isinstance(given.get("stop"), str):
            given["stop"] = [given["stop"]]
        super().__init__(**given)

    @classmethod
    def class_name(cls) -> str:
        """What the model is called where it is written down."""
        return "MLXLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What the model can do, by its own files."""
        capabilities = self._backend().capabilities
        window = capabilities.context_window
        # LlamaIndex fills what `num_output` leaves of the window with context: an answer of any length would leave
        # none. Limits that were set count as they are.
        longest = self.max_tokens or min(capabilities.max_output_tokens or window, window // _OUTPUT_SHARE)
        return LLMMetadata(
            context_window=window,
            num_output=min(longest, window - 1),
            is_chat_model=True,
            is_function_calling_model=capabilities.tools,
            model_name=self.model,
        )

    def to_payload(self) -> dict[str, Any]:
        """What callbacks are told of the model. Unlike `metadata` it looks nothing up: it is asked on event loops."""
        return {"class_name": self.class_name(), "model_name": self.model, **self._defaults()}

    @property
    def tokenizer(self) -> Callable[[str], list[int]]:
        """The model's own tokenizer, for `Settings.tokenizer`, splitters and memories."""
        return self._tokenize

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation."""
        return chat_response(self._result(self._messages(messages), kwargs))

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt, as a single message of a user."""
        return completion_response(self._result(self._prompt_messages(prompt, formatted), kwargs))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer a conversation in pieces. Closing the generator frees the model at the next token."""
        return self._responses(self._request(self._messages(messages), kwargs))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answer a prompt in pieces."""
        request = self._request(self._prompt_messages(prompt, formatted), kwargs)

        def responses() -> CompletionResponseGen:
            with closing(self._responses(request)) as answers:
                for answer in answers:
                    yield to_completion(answer)

        return responses()

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation, without ever blocking the event loop."""
        return chat_response(await self._aresult(self._messages(messages), kwargs))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt, without ever blocking the event loop."""
        return completion_response(await self._aresult(self._prompt_messages(prompt, formatted), kwargs))

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Answer a conversation in pieces, without ever blocking the event loop."""
        return self._aresponses(self._request(self._messages(messages), kwargs))

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Answer a prompt in pieces, without ever blocking the event loop."""
        request = self._request(self._prompt_messages(prompt, formatted), kwargs)

        async def responses() -> CompletionResponseAsyncGen:
            async with aclosing(self._aresponses(request)) as answers:
                async for answer in answers:
                    yield to_completion(answer)

        return responses()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy the options; a backend and a runtime are resources, which both copies use."""
        shared = {id(item): item for item in (self.backend, self.runtime) if item is not None}
        return super().__deepcopy__({**(memo or {}), **shared})

    def __getstate__(self) -> dict[str, Any]:
        """Leave out a backend and a runtime: they belong to this process."""
        return super(MLXLLM, self.model_copy(update={"backend": None, "runtime": None})).__getstate__()

    def _request(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatRequest:
        return chat_request(messages, {**self._defaults(), **call_options(kwargs)})

    def _defaults(self) -> dict[str, Any]:
        """The options that this model was given."""
        return {name: value for name in DEFAULTS if (value := getattr(self, name)) is not None}

    def _result(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatResult:
        request = self._request(messages, kwargs)
        with closing(self._backend().stream(request)) as chunks:
            return ChatResult.join(chunks)

    async def _aresult(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatResult:
        request = self._request(messages, kwargs)
        backend = await self._abackend()
        async with aclosing(backend.astream(request)) as chunks:
            return ChatResult.join([chunk async for chunk in chunks])

    def _responses(self, request: ChatRequest) -> ChatResponseGen:
        answer = GrowingAnswer()
        with closing(self._backend().stream(request)) as chunks:
            for chunk in chunks:
                yield answer.add(chunk)

    async def _aresponses(self, request: ChatRequest) -> ChatResponseAsyncGen:
        answer = GrowingAnswer()
        backend = await self._abackend()
        async with aclosing(backend.astream(request)) as chunks:
            async for chunk in chunks:
                yield answer.add(chunk)

    def _tokenize(self, text: str) -> list[int]:
        return self._backend().tokenize(text)

    def _backend(self) -> ChatBackend:
        return self._lookup.find(self.model, self.runtime) if self.backend is None else self.backend

    async def _abackend(self) -> ChatBackend:
        return await self._lookup.afind(self.model, self.runtime) if self.backend is None else self.backend

    async def _aget_ready(self) -> None:
        await self._lookup.adescribe(await self._abackend())
