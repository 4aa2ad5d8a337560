"""`ChatRouter`: one LangChain chat model over several, local and cloud.

Input flow:
    messages, bound tools, options, tags and metadata of the run
        -> routing.facts.read_call       `RequestFacts`: sizes, needs, what is private
        -> router.Router                 who is asked, in which order
        -> routing.calls                 each candidate is asked in its own terms, silently

Output flow:
    pieces of the candidate that answers
        -> routing.dialect               what they hold, whether calls of tools are whole, what exceptions mean
        -> router.Router                 nothing is shown before it may be
        -> routing.answers               `AIMessageChunk`s, the last one with the report

What is chosen, when somebody else is asked, and what may leave this machine is decided in `mlx_integrations.router`.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from typing import Any, Final, Self, cast

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    BaseCallbackManager,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import LangSmithParams, LanguageModelInput, ModelProfile
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import ConfigDict, Field, PrivateAttr, SkipValidation, field_validator, model_validator

from mlx_integrations import __version__
from mlx_integrations.adapters.chat_candidates import check_facts, policy_with_first
from mlx_integrations.adapters.configured_candidates import configured_router
from mlx_integrations.adapters.endpoint_watch import watch_endpoints
from mlx_integrations.adapters.names import OF_NO_USE_HERE
from mlx_integrations.langchain.chat_models import ChatMLX
from mlx_integrations.langchain.errors import langchain_errors
from mlx_integrations.langchain.formats import output_format, schema_response_format
from mlx_integrations.langchain.routing.answers import Ending, whole_result
from mlx_integrations.langchain.routing.calls import CandidateCalls, EndsSeen
from mlx_integrations.langchain.routing.candidates import ModelFacts, candidate_of, locate_model, observer_of
from mlx_integrations.langchain.routing.dialect import LangChainDialect, Piece
from mlx_integrations.langchain.routing.facts import ROUTE_OPTIONS, read_call, wants_format
from mlx_integrations.langchain.routing.listening import RunListener, RunMarks, check_tracing, take_marks
from mlx_integrations.langchain.routing.named import named_models, says_why_it_ends
from mlx_integrations.langchain.routing.retries import without_retries
from mlx_integrations.langchain.routing.silence import is_cached, silent_copy, without_cache
from mlx_integrations.langchain.routing.tools import neutral_choice, schemas_of
from mlx_integrations.langchain.structured import Method, structured_output
from mlx_integrations.langchain.tools import openai_tool
from mlx_integrations.router.attempts import AsyncRoutedStream, RoutedStream, Router
from mlx_integrations.router.candidates import Candidate, Location
from mlx_integrations.router.facts import RequestFacts
from mlx_integrations.router.location import Locator
from mlx_integrations.router.plan import Plan
from mlx_integrations.router.policy import Guarantee, Policy
from mlx_integrations.router.read import RequestReader

__all__ = ["ChatRouter", "ModelFacts"]

_NOT_FOR_CANDIDATES = (*ROUTE_OPTIONS, "tools", "stream", "ls_structured_output_format", "structured_output_format")

_MAKING: Final = frozenset({"models", "policy", "facts", "local_hosts", "timeout", "callbacks"})
"""Fields that a router is made of."""


class ChatRouter(BaseChatModel):
    """Asks the model that fits, and the next one when that fails; the cloud only where you allow it.

        ChatRouter(
            models={"local": ChatMLX(model="qwen3-8b"), "cloud": ChatOpenAI(model="gpt-5-mini")},
            policy=Policy(mode="prefer_local", allow_cloud=True),
        )

    It is a chat model like any other: tools, structured output, agents, streaming and callbacks work, and a trace shows
    one run. `response_metadata["router"]` of an answer says who gave it, who else was asked, and why.

    What a candidate writes is shown once nothing that came before it can be wrong any more: its first visible piece,
    and calls of tools when they are whole and fit their schemas. If it fails after that, `PartialResponseError` carries
    what was shown. Where an answer is wanted as a whole (`invoke`, or a policy with `guarantee="complete"`), every
    failure is repaired by asking the next candidate.

    A call is private, and stays on this machine, if it says so (`privacy="local_only"`), has one of the policy's tags,
    holds what the policy looks for, or one of its messages answers a private call.

    Attributes:
        models: The candidates by name, in your order. A list takes their own names.
        policy: What you want; by default nothing leaves this machine.
        facts: What you know of some of them: prices, tasks, languages, groups of equals.
        local_hosts: Hosts that count as your own machine, such as `mac-studio.local` or `192.168.1.0/24`.
        temperature: For whoever answers, as are the next two; `None` leaves it to the candidates.
        max_tokens: Tokens generated at most.
        stop: Strings that end the answer.
        timeout: Seconds for a whole call, where the policy's deadlines do not say.
        streaming: Whether `invoke` streams to callbacks as well.

    For one call, `model` names the candidate that goes first, `task` and `language` say what it needs, and `privacy`
    whether it may leave this machine.

    `api_key`, `base_url` and `max_retries` are accepted and ignored: they belong to the candidates.
    """

    # Another one would not be obeyed by what was made from it: a copy has to be made.
    models: SkipValidation[Mapping[str, BaseChatModel]] = Field(frozen=True)
    policy: SkipValidation[Policy] = Field(default_factory=Policy, frozen=True)
    facts: SkipValidation[Mapping[str, ModelFacts]] = Field(default_factory=dict, frozen=True)
    local_hosts: tuple[str, ...] = Field(default=(), frozen=True)
    temperature: float | None = None
    max_tokens: int | None = None
    stop: list[str] | None = None
    timeout: float | None = None
    streaming: bool = False
    profile: ModelProfile | None = Field(default=None, exclude=True, repr=False)

    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", protected_namespaces=(), hide_input_in_errors=True
    )

    _lock: Any = PrivateAttr(default_factory=threading.Lock)
    _router: Router | None = PrivateAttr(default=None)
    _reader: RequestReader = PrivateAttr()
    _locator: Locator = PrivateAttr()
    _asked: Mapping[str, BaseChatModel] = PrivateAttr()
    _ends: EndsSeen = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {name: value for name, value in values.items() if name == "timeout" or name not in OF_NO_USE_HERE}

    @field_validator("models", mode="before")
    @classmethod
    def _name_models(cls, given: Any) -> Any:
        return named_models(given)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        self._prepare()
        return self

    def _prepare(self) -> None:
        """Make what follows from the fields, and refuse what can never work."""
        self.policy.check_candidates(tuple(self.models))
        if self.timeout is not None and self.policy.deadlines.total is None:
            deadlines = replace(self.policy.deadlines, total=self.timeout)
            self.__dict__["policy"] = replace(self.policy, deadlines=deadlines)
        check_facts(self.facts, self.models)
        self._locator = Locator(self.local_hosts)
        self._reader = RequestReader(self.policy)
        self._asked = {name: silent_copy(without_retries(model)) for name, model in self.models.items()}
        self._ends = EndsSeen([name for name, model in self.models.items() if says_why_it_ends(model)])
        check_tracing(self.policy)
        self._listen()
        self._add_version("mlx-integrations", __version__)

    def _listen(self) -> None:
        listener = RunListener(self._reader, is_local_only=self.policy.mode == "local_only")
        if isinstance(self.callbacks, BaseCallbackManager):
            self.callbacks.add_handler(listener, inherit=False)
        else:
            others = [item for item in self.callbacks or [] if not isinstance(item, RunListener)]
            self.callbacks = [listener, *others]

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A router like this one. Breakers and health are shared unless the copy has other candidates or rules."""
        copied = super().model_copy(update=update)
        if not update or not _MAKING & set(update):
            return copied
        copied.__dict__["models"] = named_models(copied.models)
        copied._lock, copied._router = threading.Lock(), None
        copied._prepare()
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy the options; candidates and what was found out about them are resources, which both copies use."""
        return self.model_copy()

    @classmethod
    def from_settings(cls, **options: Any) -> "ChatRouter":
        """The router of your settings: the default model, the endpoints, and what `[router]` says.

        Args:
            **options: Fields of the router, instead of what the settings say.

        Raises:
            ConfigurationError: An endpoint has no key, or the settings name somebody who is not there.
        """
        with langchain_errors():
            found = configured_router()
        models = {name: ChatMLX(model=name, backend=model.backend) for name, model in found.models.items()}
        facts = {name: model.facts for name, model in found.models.items()}
        given: dict[str, Any] = {
            "models": models,
            "facts": facts,
            "policy": found.policy,
            "local_hosts": found.local_hosts,
            **options,
        }
        return cls(**given)

    @property
    def router(self) -> Router:
        """Candidates, breakers, health and costs. Made at the first call, which looks up where everybody is."""
        with self._lock:
            router = self._router or self._make_router()
            self._router = router
            return router

    @property
    def _llm_type(self) -> str:
        return "mlx-chat-router"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        models = {name: {"type": model._llm_type, **model._identifying_params} for name, model in self.models.items()}
        own = {"temperature": self.temperature, "max_tokens": self.max_tokens, "stop": self.stop}
        return {"models": models, "policy": repr(self.policy), **own}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        """Tell a trace who it is; who answered is in the answer's metadata."""
        name = str(kwargs.get("model") or "+".join(self.models))
        params = LangSmithParams(ls_provider="mlx-router", ls_model_type="chat", ls_model_name=name)
        temperature, max_tokens = (kwargs.get(name, getattr(self, name)) for name in ("temperature", "max_tokens"))
        if isinstance(temperature, int | float):
            params["ls_temperature"] = temperature
        if isinstance(max_tokens, int):
            params["ls_max_tokens"] = max_tokens
        if stop or self.stop:
            params["ls_stop"] = stop or self.stop
        return params

    def _resolve_model_profile(self) -> ModelProfile | None:
        """What at least the first candidate can do: agents ask for its window before they ask the model anything."""
        return next(iter(self.models.values())).profile

    def watch_endpoints(self, *, interval_seconds: float = 30.0) -> tuple[str, ...]:
        """Ask endpoints in the background how they are, until `router.close()`: one that is away is not called.

        Args:
            interval_seconds: How often.

        Returns:
            Who is looked after: models of this package behind an endpoint. Of others, calls alone tell how they are.
        """
        backends = {name: model.backend for name, model in self.models.items() if isinstance(model, ChatMLX)}
        return watch_endpoints(self.router, backends, interval_seconds=interval_seconds)

    def explain(self, input: LanguageModelInput, *, tags: Collection[str] = (), **options: Any) -> Plan:
        """Who would be asked now, and why everybody else would not; asks nobody.

        Args:
            input: What would be asked.
            tags: Of the call.
            **options: Of the call, such as `model`, `tools`, `task` or `privacy`.
        """
        with langchain_errors():
            if options.get("tools"):
                options["tools"] = [openai_tool(tool) for tool in options["tools"]]
            messages = self._convert_input(input).to_messages()
            facts = read_call(self._reader, messages, options, stop=options.get("stop") or self.stop, tags=tags)
            policy = policy_with_first(self.router.policy, options.get("model"), self.models)
            return self.router.plan(facts, policy=policy, count=self._count(messages, options))

    def _make_router(self) -> Router:
        from mlx_integrations.assembly import get_settings

        policy = replace(self.policy, is_offline=True) if get_settings().offline else self.policy
        candidates = [
            candidate_of(name, model, self.facts.get(name, ModelFacts()), self._locator)
            for name, model in self.models.items()
        ]
        continuable = [name for name, facts in self.facts.items() if facts.can_continue]
        return Router(
            candidates, policy, observe=observer_of(self.models), locate=self._locate, continuable=continuable
        )

    def _locate(self, candidate: Candidate) -> Location:
        """Where a candidate is now, not where it was when the plan was made."""
        name = candidate.name
        return locate_model(self.models[name], self.facts.get(name, ModelFacts()), self._locator, fresh=True)

    def _generate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        """Keep private calls out of LangChain's cache, wherever it keeps things."""
        model = self
        if is_cached(self) and self._is_private(messages, stop, kwargs, take_marks(run_manager)):
            _ = self.router  # which both have
            model = cast(Self, without_cache(self))
        return super(ChatRouter, model)._generate_with_cache(messages, stop=stop, run_manager=run_manager, **kwargs)

    async def _agenerate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        model = self
        if is_cached(self) and self._is_private(messages, stop, kwargs, take_marks(run_manager)):
            await self._arouter()
            model = cast(Self, without_cache(self))
        return await super(ChatRouter, model)._agenerate_with_cache(
            messages, stop=stop, run_manager=run_manager, **kwargs
        )

    def _is_private(
        self, messages: list[BaseMessage], stop: list[str] | None, options: Mapping[str, Any], marks: RunMarks
    ) -> bool:
        with langchain_errors():
            return read_call(
                self._reader, messages, options, stop=stop, tags=marks.tags, metadata=marks.metadata
            ).is_private

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with langchain_errors():
            stream = self._route(self.router, messages, stop, kwargs, take_marks(run_manager), is_whole=True)
            with closing(stream):
                pieces = list(stream)
            return whole_result(pieces, stream.report)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with langchain_errors():
            stream = self._aroute(await self._arouter(), messages, stop, kwargs, take_marks(run_manager), is_whole=True)
            async with aclosing(stream):
                pieces = [piece async for piece in stream]
            return whole_result(pieces, stream.report)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with langchain_errors():
            stream = self._route(self.router, messages, stop, kwargs, take_marks(run_manager), is_whole=False)
            ending = Ending(is_private=stream.report.is_private)
            with closing(stream):
                for piece in stream:
                    for generation in ending.take(piece):
                        if run_manager is not None:
                            run_manager.on_llm_new_token(generation.text, chunk=generation)
                        yield generation
                for generation in ending.finish(stream.report):
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
            stream = self._aroute(
                await self._arouter(), messages, stop, kwargs, take_marks(run_manager), is_whole=False
            )
            ending = Ending(is_private=stream.report.is_private)
            async with aclosing(stream):
                async for piece in stream:
                    for generation in ending.take(piece):
                        if run_manager is not None:
                            await run_manager.on_llm_new_token(generation.text, chunk=generation)
                        yield generation
                for generation in ending.finish(stream.report):
                    if run_manager is not None:
                        await run_manager.on_llm_new_token(generation.text, chunk=generation)
                    yield generation

    async def _arouter(self) -> Router:
        # Making it looks up hosts and reads a model's configuration: not on the event loop.
        return await asyncio.to_thread(getattr, self, "router") if self._router is None else self._router

    def _route(
        self,
        router: Router,
        messages: list[BaseMessage],
        stop: list[str] | None,
        options: Mapping[str, Any],
        marks: RunMarks,
        *,
        is_whole: bool,
    ) -> RoutedStream[Piece]:
        facts, calls, dialect, guarantee = self._prepared(messages, stop, options, marks, is_whole)
        policy = policy_with_first(router.policy, options.get("model"), self.models)
        return router.stream(
            facts, calls.open, dialect, policy=policy, guarantee=guarantee, count=self._count(messages, options)
        )

    def _aroute(
        self,
        router: Router,
        messages: list[BaseMessage],
        stop: list[str] | None,
        options: Mapping[str, Any],
        marks: RunMarks,
        *,
        is_whole: bool,
    ) -> AsyncRoutedStream[Piece]:
        facts, calls, dialect, guarantee = self._prepared(messages, stop, options, marks, is_whole)
        policy = policy_with_first(router.policy, options.get("model"), self.models)
        return router.astream(
            facts, calls.aopen, dialect, policy=policy, guarantee=guarantee, count=self._count(messages, options)
        )

    def _prepared(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        options: Mapping[str, Any],
        marks: RunMarks,
        is_whole: bool,
    ) -> tuple[RequestFacts, CandidateCalls, LangChainDialect, Guarantee | None]:
        """A call as the router needs it: facts, how to ask, how to read, how much to hold back."""
        stop = self.stop or None if stop is None else stop
        tools = [dict(tool) for tool in options.get("tools") or ()]
        facts = read_call(self._reader, messages, options, stop=stop, tags=marks.tags, metadata=marks.metadata)
        deadlines = self.policy.deadlines
        has_token_deadline = deadlines.first_token is not None or deadlines.between_tokens is not None
        defaults = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        given = {name: value for name, value in defaults.items() if value is not None}
        given |= {name: value for name, value in options.items() if name not in _NOT_FOR_CANDIDATES}
        calls = CandidateCalls(
            models=self._asked,
            messages=messages,
            stop=stop,
            tools=tools,
            options=given,
            is_streamed=not is_whole or has_token_deadline,
            is_private=facts.is_private,
            ends=self._ends,
        )
        wants_json = wants_format(options.get("response_format"))
        dialect = LangChainDialect(schemas_of(tools), wants_json=wants_json)
        return facts, calls, dialect, "complete" if is_whole else None

    def _count(self, messages: list[BaseMessage], options: Mapping[str, Any]) -> Callable[[str], int | None]:
        """Counts the prompt as a candidate of this package would read it; asked only where sizes leave it open."""

        def count(name: str) -> int | None:
            model = self.models[name]
            if not isinstance(model, ChatMLX):
                return None  # others fetch a tokenizer first, or guess
            return model.get_num_tokens_from_messages(messages, options.get("tools"))

        return count

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
        """Offer tools. Each candidate gets them by its own `bind_tools`.

        Args:
            tools: Tools, functions, pydantic classes, `TypedDict`s, or dictionaries in the form of OpenAI or Anthropic.
            tool_choice: `"auto"`, `"none"`, `"any"` or `"required"`; `True` for any; or the name of one tool.
            strict: Passed on to candidates that know it.
            parallel_tool_calls: Whether one answer may hold several calls.
            response_format: A format for answers in text; only for candidates that know it.
            **kwargs: Any other option of a call.

        Raises:
            InvalidRequestError: Something cannot be used as a tool.
            UnknownToolError: `tool_choice` names a tool that is not offered.
        """
        with langchain_errors():
            bound: dict[str, Any] = {"tools": [openai_tool(tool, strict=strict) for tool in tools], **kwargs}
            if tool_choice is not None:
                bound["tool_choice"] = neutral_choice(tool_choice, bound["tools"])
            if strict is not None:
                bound["strict"] = strict
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
        method: Method = "function_calling",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Make a model whose answers are objects.

        Args:
            schema: A pydantic class, a `TypedDict`, a JSON Schema, or a tool in the form of OpenAI or Anthropic.
            method: `function_calling`, which every candidate with tools understands; `json_schema` and `json_mode` for
                candidates that know `response_format`, such as `ChatMLX` and `ChatOpenAI`.
            include_raw: Whether to return a dictionary of `raw`, `parsed` and `parsing_error`.
            strict: Passed on to candidates that know it.
            **kwargs: Any other option of a call.

        Raises:
            InvalidRequestError: The schema, method or an option cannot be used.
        """
        with langchain_errors():
            return structured_output(
                self, schema, method=method, include_raw=include_raw, strict=strict, options=kwargs
            )

    def get_token_ids(self, text: str) -> list[int]:
        """Token ids of a text, by a candidate of this package if there is one: others fetch their tokenizers first."""
        return self._counting().get_token_ids(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Tokens of a conversation, counted by the same candidate."""
        return self._counting().get_num_tokens_from_messages(messages, tools)

    def _counting(self) -> BaseChatModel:
        models = list(self.models.values())
        return next((model for model in models if isinstance(model, ChatMLX)), models[0])
