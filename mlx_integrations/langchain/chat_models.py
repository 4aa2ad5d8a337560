"""`ChatMLX`: a LangChain chat model that runs in this process.

Input flow:
    LangChain messages, the model's fields, bound options, options of the call
        -> options.call_options          names checked, aliases resolved; the call's value goes before the field's
        -> options.chat_request          messages.py and blocks.py, tools.py, formats.py: one frozen `ChatRequest`
        -> ChatBackend.stream / astream

Output flow:
    `ChatChunk`s
        -> answers.AnswerChunks          stream, astream and every kind of event: `AIMessageChunk`s
        -> answers.to_langchain_result   invoke and ainvoke: the same chunks, joined
    errors
        -> errors.langchain_errors       the same errors, each of them a LangChain error too

Nothing here chooses, retries or samples. Sync and async, streamed and whole, are one path through one backend.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from os import PathLike, fspath
from typing import Any, Self, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams, LanguageModelInput, ModelProfile
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.outputs import ChatResult as LangChainResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import ConfigDict, Field, SkipValidation, model_validator

from mlx_integrations import __version__
from mlx_integrations.adapters.names import OF_NO_USE_HERE, canonical
from mlx_integrations.adapters.sampling import SAMPLING_OPTIONS
from mlx_integrations.adapters.tool_choice import openai_tool_choice
from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.langchain.answers import MODEL_PROVIDER, AnswerChunks, to_langchain_result
from mlx_integrations.langchain.batching import shared_configs
from mlx_integrations.langchain.errors import langchain_errors
from mlx_integrations.langchain.formats import output_format, schema_response_format
from mlx_integrations.langchain.messages import to_chat_messages
from mlx_integrations.langchain.options import ALIASES, call_options, chat_request
from mlx_integrations.langchain.profile import LazyProfile, profile_of
from mlx_integrations.langchain.structured import Method, structured_output
from mlx_integrations.langchain.tools import openai_tool, tool_specs
from mlx_integrations.protocols import ChatBackend
from mlx_integrations.types import ChatMessage, ChatRequest, ChatResult

__all__ = ["ChatMLX"]

_DEFAULTS = (*SAMPLING_OPTIONS, "reasoning", "template_options")


class ChatMLX(BaseChatModel):
    """A chat model that runs in this process on MLX.

    Constructing one reads nothing and loads nothing; the model is loaded when it is first called, once for the process.
    Every option below can also be given for one call, or bound: `llm.invoke(..., temperature=0.2)`.

    `api_key`, `base_url`, `max_retries` and `timeout` are accepted and ignored, so that a model of another provider can
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
        max_tokens: Tokens generated at most. Also `max_completion_tokens`.
        stop: Strings that end the answer; they are not part of it. Also `stop_sequences`.
        logprobs: Whether answers carry the log-probabilities of their tokens.
        top_logprobs: 0 to 20 alternatives for each token.
        reasoning: Whether the model thinks first; `None` leaves it to the model.
        template_options: Extra variables for the model's chat template.
        streaming: Whether `invoke` streams to callbacks as well.
        backend: Answers in place of the model's own runtime: for tests, or a backend of your own.
        runtime: A private runtime to load the model in, instead of the one that the process shares.
    """

    model: str
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
    streaming: bool = False
    # Not validated: an isinstance check of a protocol reads its properties, and so the model's files.
    backend: SkipValidation[ChatBackend | None] = Field(default=None, exclude=True, repr=False)
    runtime: Any = Field(default=None, exclude=True, repr=False)
    profile: ModelProfile | None = Field(default=None, exclude=True, repr=False)

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = {name: value for name, value in values.items() if name not in OF_NO_USE_HERE}
        if isinstance(given.get("profile"), LazyProfile):
            # LangChain makes variants of a model by passing all its fields on: the profile may be another model's.
            del given["profile"]
        given = canonical(given, cls.model_fields, ALIASES)
        if isinstance(given.get("stop"), str):
            given["stop"] = [given["stop"]]
        if isinstance(given.get("model"), PathLike):
            given["model"] = fspath(given["model"])
        return given

    @model_validator(mode="after")
    def _set_mlx_integrations_version(self) -> Self:
        self._add_version("mlx-integrations", __version__)
        return self

    @model_validator(mode="after")
    def _obey_settings(self) -> Self:
        # LangChain traces a call before it makes it: where the settings say `offline`, that must hold already.
        from mlx_integrations.assembly import get_settings

        get_settings()
        return self

    @property
    def model_name(self) -> str:
        """The name that many LangChain tools ask for; the same as `model`."""
        return self.model

    @property
    def _llm_type(self) -> str:
        return "mlx-chat"

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Its options are plain values; a backend or runtime given by hand is left out."""
        return True

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, **self._defaults()}

    @property
    def _serialized(self) -> dict[str, Any]:
        """Computed afresh: the base class remembers it, also for a copy of the model with other values."""
        return cast(dict[str, Any], dumpd(self))

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """Key of the LLM cache. A backend given by hand is no part of the serialised model, but it is who answers."""
        key = super()._get_llm_string(stop=stop, **kwargs)
        return key if self.backend is None else f"{key}---{self.backend.model_id}"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        """Tell a trace which model answered: names and values of the call before those of the fields."""
        params = LangSmithParams(ls_provider=MODEL_PROVIDER, ls_model_type="chat")
        given = {ALIASES.get(name, name): value for name, value in kwargs.items() if value is not None}
        named = {**self._identifying_params, **given}
        params["ls_model_name"] = str(named["model"])
        if isinstance(named.get("temperature"), int | float):
            params["ls_temperature"] = named["temperature"]
        if isinstance(named.get("max_tokens"), int):
            params["ls_max_tokens"] = named["max_tokens"]
        if stop or self.stop:
            params["ls_stop"] = stop or self.stop
        return params

    def _resolve_model_profile(self) -> ModelProfile | None:
        return cast(ModelProfile, LazyProfile(_look_up_profile, self.model, self.backend, self.runtime))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the model. The profile is looked up again, because the copy may be of another model."""
        copied = super().model_copy(update=update, deep=deep)
        if isinstance(copied.profile, LazyProfile):
            copied.profile = copied._resolve_model_profile()
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy the options; a backend and a runtime are resources, which both copies use."""
        shared = {id(item): item for item in (self.backend, self.runtime) if item is not None}
        return super().__deepcopy__({**(memo or {}), **shared})

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LangChainResult:
        with langchain_errors():
            backend, request = self._prepare(messages, stop, kwargs)
            with closing(backend.stream(request)) as chunks:
                return to_langchain_result(ChatResult.join(chunks))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LangChainResult:
        with langchain_errors():
            backend, request = await self._aprepare(messages, stop, kwargs)
            async with aclosing(backend.astream(request)) as chunks:
                return to_langchain_result(ChatResult.join([chunk async for chunk in chunks]))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with langchain_errors():
            backend, request = self._prepare(messages, stop, kwargs)
            answer = AnswerChunks()
            with closing(backend.stream(request)) as chunks:
                for chunk in chunks:
                    for generation in answer.translate(chunk):
                        if run_manager is not None:
                            run_manager.on_llm_new_token(generation.text, chunk=generation)
                        yield generation

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with langchain_errors():
            backend, request = await self._aprepare(messages, stop, kwargs)
            answer = AnswerChunks()
            async with aclosing(backend.astream(request)) as chunks:
                async for chunk in chunks:
                    for generation in answer.translate(chunk):
                        if run_manager is not None:
                            await run_manager.on_llm_new_token(generation.text, chunk=generation)
                        yield generation

    def _request(self, messages: Sequence[BaseMessage], stop: list[str] | None = None, **kwargs: Any) -> ChatRequest:
        """The request that a call with these arguments makes."""
        return chat_request(messages, self._options(stop, kwargs))

    def _prepare(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> tuple[ChatBackend, ChatRequest]:
        options = self._options(stop, kwargs)
        request = chat_request(messages, options)
        return self._backend(options.get("model")), request

    async def _aprepare(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> tuple[ChatBackend, ChatRequest]:
        options = self._options(stop, kwargs)
        request = chat_request(messages, options)
        if self.backend is not None and options.get("model", self.model) == self.model:
            return self.backend, request
        # Finding a model looks at the disk, and the first time imports MLX: not on the event loop.
        return await asyncio.to_thread(self._backend, options.get("model")), request

    def _options(self, stop: list[str] | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in call_options(kwargs).items() if value is not None}
        return {**self._defaults(), **given, **({} if stop is None else {"stop": stop})}

    def _defaults(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in _DEFAULTS}
        return {name: value for name, value in values.items() if value is not None}

    def _backend(self, model: str | None = None) -> ChatBackend:
        return _find_backend(model or self.model, self.model, self.backend, self.runtime)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        response_format: dict[str, Any] | type | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the model.

        What is bound are OpenAI's dictionaries, so that `.bind(tools=[...])` by hand does the same.

        Args:
            tools: Tools, functions, pydantic classes, `TypedDict`s, or dictionaries in the form of OpenAI or Anthropic.
            tool_choice: `"auto"`, `"none"`, `"any"` or `"required"`; `True` for any; or the name of one tool. The
                grammar enforces it: the model cannot write anything else.
            strict: Accepted for exchange with other models: arguments are held to their schema in any case.
            parallel_tool_calls: Whether one answer may hold several calls; they may unless it is `False`.
            response_format: A format for answers in text. With tools, an answer is a call or has this format.
            **kwargs: Any other option of a call.

        Raises:
            InvalidRequestError: Something cannot be used as a tool, or is no option.
            UnknownToolError: `tool_choice` names a tool that is not offered.
        """
        with langchain_errors():
            call_options(kwargs)
            bound: dict[str, Any] = {"tools": [openai_tool(tool, strict=strict) for tool in tools], **kwargs}
            if tool_choice is not None:
                offered = [tool["function"]["name"] for tool in bound["tools"]]
                bound["tool_choice"] = openai_tool_choice(tool_choice, offered)
            if parallel_tool_calls is not None:
                bound["parallel_tool_calls"] = parallel_tool_calls
            if response_format is not None:
                if isinstance(response_format, type):
                    response_format = schema_response_format(response_format)
                output_format(response_format)
                bound["response_format"] = response_format
        return cast(Runnable[LanguageModelInput, AIMessage], self.bind(**bound))

    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Make a model whose answers are objects.

        Args:
            schema: A pydantic class, a `TypedDict`, a JSON Schema, or a tool in the form of OpenAI or Anthropic.
                Answers are instances of a pydantic class, dictionaries otherwise. May be left out for `json_mode`.
            method: `json_schema`: the grammar lets the model write only what satisfies the schema.
                `function_calling`: a forced call of a tool with these arguments. `json_mode`: as `json_schema`; without
                a schema, any JSON object, and the prompt has to say which.
            include_raw: Whether to return a dictionary of `raw` (the message), `parsed` and `parsing_error`, and not to
                raise when parsing fails.
            strict: Accepted for exchange with other models: answers are held to the schema in any case.
            tools: Tools that the model may call instead of answering; then the result is `None`, and `include_raw`
                has the message with the calls.
            **kwargs: Any other option of a call.

        Raises:
            InvalidRequestError: The schema, method or an option cannot be used. At run time the result raises
                `TruncatedOutputError` for an answer cut by the token limit and `InvalidOutputError` for any other
                that is not what was asked for.
        """
        with langchain_errors():
            return structured_output(
                self, schema, method=method, include_raw=include_raw, strict=strict, tools=tools, options=kwargs
            )

    def get_token_ids(self, text: str) -> list[int]:
        """Token ids of a text, by the model's own tokenizer."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        with langchain_errors():
            return self._backend().tokenize(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Tokens of a conversation and of tools, exactly as the model's own chat template renders them."""
        if not messages:
            return 0
        with langchain_errors():
            backend, translated, specs = self._backend(), to_chat_messages(messages), tool_specs(tools or ())
            try:
                return backend.count_prompt_tokens(translated, specs)
            except InvalidRequestError:
                if translated[0].role in ("system", "user"):
                    raise
            # The end of a conversation, as `trim_messages` counts it: some templates insist on a user's message first.
            return backend.count_prompt_tokens((ChatMessage(role="user"), *translated), specs)

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answer several inputs in one batch of the runtime, up to 32 at once unless `max_concurrency` is given."""
        configs = shared_configs(config, len(inputs))
        return super().batch(inputs, configs, return_exceptions=return_exceptions, **kwargs)

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """The same for event loops."""
        configs = shared_configs(config, len(inputs))
        return await super().abatch(inputs, configs, return_exceptions=return_exceptions, **kwargs)


def _find_backend(model: str, own_model: str, backend: ChatBackend | None, runtime: Any) -> ChatBackend:
    """A backend given by hand answers for the model it was given with; any other is the process's or `runtime`'s."""
    if backend is not None and model == own_model:
        return backend
    # Here, so that importing or constructing a model does not import MLX.
    from mlx_integrations.assembly import chat_backend

    return chat_backend(model, runtime=runtime)


def _look_up_profile(model: str, backend: ChatBackend | None, runtime: Any) -> ModelProfile:
    with langchain_errors():
        return profile_of(_find_backend(model, model, backend, runtime).capabilities)
