"""`RouterLLM`: one LlamaIndex model over several, local and cloud.

Input flow:
    messages or a prompt, tools, options, instrumentation tags around the call
        -> routing.facts.read_call       `RequestFacts`: sizes, needs, what is private
        -> router.Router                 who is asked, in which order
        -> routing.calls                 each candidate is asked in its own terms, silently

Output flow:
    responses of the candidate that answers
        -> routing.dialect               what is new in them, whether calls of tools are whole, what exceptions mean
        -> router.Router                 nothing is shown before it may be
        -> routing.answers               `ChatResponse`s, the last one with the report

What is chosen, when somebody else is asked, and what may leave this machine is decided in `mlx_integrations.router`.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
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
    MessageRole,
    ToolCallBlock,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.llm import LLM
from llama_index.core.tools.types import BaseTool
from pydantic import ConfigDict, Field, PrivateAttr, SkipValidation, field_serializer

from mlx_integrations.adapters.chat_candidates import EndsSeen, ModelFacts, check_facts, policy_with_first
from mlx_integrations.adapters.configured_candidates import configured_router
from mlx_integrations.adapters.endpoint_watch import watch_endpoints
from mlx_integrations.adapters.formats import read_format
from mlx_integrations.adapters.names import canonical
from mlx_integrations.adapters.tool_choice import tool_choice
from mlx_integrations.errors import ConfigurationError
from mlx_integrations.llama_index.answers import to_completion
from mlx_integrations.llama_index.llm import MLXLLM
from mlx_integrations.llama_index.messages import to_chat_messages
from mlx_integrations.llama_index.options import class_format
from mlx_integrations.llama_index.routing.answers import RoutedAnswer, whole_response
from mlx_integrations.llama_index.routing.calls import CandidateCalls, object_tool
from mlx_integrations.llama_index.routing.candidates import (
    candidate_of,
    described,
    locate_llm,
    observer_of,
    silent,
)
from mlx_integrations.llama_index.routing.dialect import LlamaIndexDialect
from mlx_integrations.llama_index.routing.facts import ROUTE_OPTIONS, read_call
from mlx_integrations.llama_index.routing.saved import (
    loaded_facts,
    loaded_llm,
    loaded_policy,
    saved_facts,
    saved_llm,
    saved_policy,
)
from mlx_integrations.llama_index.structured import StructuredPrediction
from mlx_integrations.llama_index.tool_calling import ToolCallingLLM
from mlx_integrations.llama_index.tools import openai_tool, tool_specs
from mlx_integrations.router.attempts import Router
from mlx_integrations.router.candidates import Candidate, Location
from mlx_integrations.router.facts import RequestFacts
from mlx_integrations.router.location import Locator
from mlx_integrations.router.plan import Plan
from mlx_integrations.router.policy import Policy
from mlx_integrations.router.read import RequestReader
from mlx_integrations.types import JsonObjectFormat, JsonSchemaFormat, ToolChoice

__all__ = ["ModelFacts", "RouterLLM"]

_ABOUT_TOOLS = ("tools", "tool_choice", "tool_required", "parallel_tool_calls", "allow_parallel_tool_calls")
# LlamaIndex passes these along although they are addressed to itself.
_NOT_OURS = ("stream", "formatted", "verbose")
_MAKING = frozenset({"llms", "policy", "facts", "local_hosts"})


class RouterLLM(ToolCallingLLM):
    """Asks the model that fits, and the next one when that fails; the cloud only where you allow it.

        RouterLLM(
            llms={"local": MLXLLM("qwen3-8b"), "cloud": OpenAILike(model="gpt-5-mini", is_function_calling_model=True)},
            policy=Policy(mode="prefer_local", allow_cloud=True),
        )

    It is a model like any other: tools, agents, query and chat engines, structured prediction, streaming and callbacks
    work. `additional_kwargs["router"]` of an answer, and `raw["router"]`, say who gave it, who else was asked, and why.

    What a candidate writes is shown once nothing that came before it can be wrong any more: its first visible piece,
    and calls of tools, with the last response, when they are whole and fit their schemas. If it fails after that,
    `PartialResponseError` carries what was shown. Where an answer is wanted as a whole (`chat`, `complete`, or a policy
    with `guarantee="complete"`), every failure is repaired by asking the next candidate.

    For one call, `model` names the candidate that goes first, and `task` and `language` say what it needs.

    A call is private, and stays on this machine, if it says so (`privacy="local_only"`), has one of the policy's tags,
    holds what the policy looks for, or one of its messages answers a private call. Agents and engines pass no options
    on; `with instrument_tags({"privacy": "local_only"}):` around them says the same.

    Callbacks and events report one call. Candidates report to no callbacks; events of models of other packages bear the
    tag `router_candidate`.

    Attributes:
        llms: The candidates by name, in your order. A list takes their own names. Models that call no functions are
            skipped for requests with tools.
        policy: What you want; by default nothing leaves this machine.
        facts: What you know of some of them: prices, tasks, languages, groups of equals.
        local_hosts: Hosts that count as your own machine, such as `mac-studio.local` or `192.168.1.0/24`.
    """

    # Another one would not be obeyed by what was made from it: a copy has to be made.
    llms: SkipValidation[Mapping[str, LLM]] = Field(repr=False, frozen=True)
    policy: SkipValidation[Policy] = Field(default_factory=Policy, frozen=True)
    facts: SkipValidation[Mapping[str, ModelFacts]] = Field(default_factory=dict, frozen=True)
    local_hosts: tuple[str, ...] = Field(default=(), frozen=True)

    model_config = ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True, protected_namespaces=())

    _lock: Any = PrivateAttr(default_factory=threading.Lock)
    _router: Router | None = PrivateAttr(default=None)
    _reader: RequestReader = PrivateAttr()
    _locator: Locator = PrivateAttr()
    _asked: Mapping[str, LLM] = PrivateAttr()
    _ends: EndsSeen = PrivateAttr()

    # Not a validator of pydantic's, whose errors quote what was given: keys of models among it.
    def __init__(self, llms: Mapping[str, LLM] | Sequence[LLM], **options: Any) -> None:
        """Name the candidates, and refuse what can never work.

        Raises:
            ConfigurationError: There is no model, two of one name, or a name that is none of theirs.
            InvalidRequestError: An option does not exist; the hint names the one that was probably meant.
        """
        super().__init__(**{"llms": _named(llms), **canonical(options, type(self).model_fields, {})})
        self._prepare()

    def _prepare(self) -> None:
        """Make what follows from the fields, and refuse what can never work."""
        self.policy.check_candidates(tuple(self.llms))
        check_facts(self.facts, self.llms)
        self._locator = Locator(self.local_hosts)
        self._reader = RequestReader(self.policy)
        self._asked = {name: silent(llm) for name, llm in self.llms.items()}
        self._ends = EndsSeen(name for name, llm in self.llms.items() if isinstance(llm, StructuredPrediction))

    @classmethod
    def class_name(cls) -> str:
        """What the model is called where it is written down."""
        return "RouterLLM"

    @property
    def router(self) -> Router:
        """Candidates, breakers, health and costs. Made at the first call, which looks up where everybody is."""
        with self._lock:
            router = self._router or self._make_router()
            self._router = router
            return router

    @property
    def metadata(self) -> LLMMetadata:
        """What the first candidate offers that can say it; it calls functions if one of them does."""
        known = [found for llm in self.llms.values() if (found := described(llm)) is not None]
        # Nobody can say it: let the first one raise why.
        first = known[0] if known else next(iter(self.llms.values())).metadata
        calls_functions = any(found.is_function_calling_model for found in known)
        return first.model_copy(
            update={
                "is_chat_model": True,
                "is_function_calling_model": calls_functions,
                "model_name": self._model_name(),
            }
        )

    def to_payload(self) -> dict[str, Any]:
        """What callbacks are told of the model. Unlike `metadata` it looks nothing up: it is asked on event loops."""
        return {"class_name": self.class_name(), "model_name": self._model_name()}

    @classmethod
    def from_settings(cls, **options: Any) -> Self:
        """The router of your settings: the default model, the endpoints, and what `[router]` says.

        Args:
            **options: Attributes of the router, instead of what the settings say.

        Raises:
            ConfigurationError: An endpoint has no key, or the settings name somebody who is not there.
        """
        found = configured_router()
        given: dict[str, Any] = {
            "llms": {name: MLXLLM(name, backend=model.backend) for name, model in found.models.items()},
            "facts": {name: model.facts for name, model in found.models.items()},
            "policy": found.policy,
            "local_hosts": found.local_hosts,
            **options,
        }
        return cls(**given)

    def watch_endpoints(self, *, interval_seconds: float = 30.0) -> tuple[str, ...]:
        """Ask endpoints in the background how they are, until `router.close()`: one that is away is not called.

        Args:
            interval_seconds: How often.

        Returns:
            Who is looked after: models of this package behind an endpoint. Of others, calls alone tell how they are.
        """
        backends = {name: llm.backend for name, llm in self.llms.items() if isinstance(llm, MLXLLM)}
        return watch_endpoints(self.router, backends, interval_seconds=interval_seconds)

    def explain(self, messages: str | Sequence[ChatMessage], **options: Any) -> Plan:
        """Who would be asked now, and why everybody else would not; asks nobody.

        Args:
            messages: What would be asked.
            **options: Of the call, such as `tools`, `task`, `tags` or `privacy`.
        """
        if isinstance(messages, str):
            messages = [ChatMessage(role=MessageRole.USER, content=messages)]
        given = _call_options(options)
        policy = policy_with_first(self.router.policy, given.get("model"), self.llms)
        return self.router.plan(read_call(self._reader, self._messages(messages), given), policy=policy)

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """The router again, from what `to_dict` has made of it.

        Args:
            data: It. There are no keys in it, and no scorer.
            **kwargs: What is to be different. `llms` need name only those models that are to be: those of other
                packages, which LlamaIndex seldom knows how to make, and those with a backend of their own.

        Raises:
            ConfigurationError: A model cannot be made, and was not given.
        """
        given = {**data, **kwargs}
        given.pop("class_name", None)
        llms = {**data.get("llms", {}), **kwargs.get("llms", {})}
        given["llms"] = {name: loaded_llm(name, llm) for name, llm in llms.items()}
        given["policy"] = loaded_policy(given.get("policy", Policy()))
        given["facts"] = {name: loaded_facts(facts) for name, facts in given.get("facts", {}).items()}
        return cls(**given)

    @field_serializer("llms")
    def _save_llms(self, llms: Mapping[str, LLM]) -> dict[str, Any]:
        return {name: saved_llm(llm) for name, llm in llms.items()}

    @field_serializer("policy")
    def _save_policy(self, policy: Policy) -> dict[str, Any]:
        return saved_policy(policy)

    @field_serializer("facts")
    def _save_facts(self, facts: Mapping[str, ModelFacts]) -> dict[str, Any]:
        return {name: saved_facts(item) for name, item in facts.items()}

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation."""
        return self._answer(self._messages(messages), kwargs)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt, as a single message of a user."""
        return to_completion(self._answer(self._prompt_messages(prompt, formatted), kwargs))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer a conversation in pieces. Closing the generator ends the candidate's stream."""
        return self._responses(self._messages(messages), kwargs)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answer a prompt in pieces."""
        streamed = self._responses(self._prompt_messages(prompt, formatted), kwargs)

        def responses() -> CompletionResponseGen:
            with closing(streamed) as answers:
                for answer in answers:
                    yield to_completion(answer)

        return responses()

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation, without ever blocking the event loop."""
        return await self._aanswer(self._messages(messages), kwargs)

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt, without ever blocking the event loop."""
        return to_completion(await self._aanswer(self._prompt_messages(prompt, formatted), kwargs))

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Answer a conversation in pieces, without ever blocking the event loop."""
        return await self._aresponses(self._messages(messages), kwargs)

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Answer a prompt in pieces, without ever blocking the event loop."""
        streamed = await self._aresponses(self._prompt_messages(prompt, formatted), kwargs)

        async def responses() -> CompletionResponseAsyncGen:
            async with aclosing(streamed) as answers:
                async for answer in answers:
                    yield to_completion(answer)

        return responses()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A router like this one. Breakers and health are shared unless the copy has other candidates or rules."""
        copied = super().model_copy(update=update)
        if not update or not _MAKING & set(update):
            return copied
        copied.__dict__["llms"] = _named(copied.llms)
        copied._lock, copied._router = threading.Lock(), None
        copied._prepare()
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy the options; candidates and what was found out about them are resources, which both copies use."""
        return self.model_copy()

    def _validate_chat_with_tools_response(
        self, response: ChatResponse, tools: Sequence[BaseTool], allow_parallel_tool_calls: bool = False, **kwargs: Any
    ) -> ChatResponse:
        """Keep the first call where only one is wanted: not every candidate can be told so."""
        message = response.message
        calls = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
        if not allow_parallel_tool_calls and len(calls) > 1:
            message.blocks = [block for block in message.blocks if block not in calls[1:]]
        return response

    def _answer(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatResponse:
        facts, calls, how = self._prepared(messages, kwargs, is_whole=True)
        stream = self.router.stream(facts, calls.open, **how)
        with closing(stream):
            response = whole_response(list(stream), stream.report)
        return self._remembered(response, facts)

    async def _aanswer(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatResponse:
        router = await self._arouter()
        facts, calls, how = self._prepared(messages, kwargs, is_whole=True)
        stream = router.astream(facts, calls.aopen, **how)
        async with aclosing(stream):
            response = whole_response([piece async for piece in stream], stream.report)
        return self._remembered(response, facts)

    # Streams read what is said around a call before they are read themselves: that is in another context, maybe.

    def _responses(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatResponseGen:
        facts, calls, how = self._prepared(messages, kwargs, is_whole=False)
        stream = self.router.stream(facts, calls.open, **how)

        def responses() -> ChatResponseGen:
            answer = RoutedAnswer(is_private=facts.is_private)
            with closing(stream):
                for piece in stream:
                    yield from answer.take(piece)
                yield self._remembered(answer.finish(stream.report), facts)

        return responses()

    async def _aresponses(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatResponseAsyncGen:
        router = await self._arouter()
        facts, calls, how = self._prepared(messages, kwargs, is_whole=False)
        stream = router.astream(facts, calls.aopen, **how)

        async def responses() -> ChatResponseAsyncGen:
            answer = RoutedAnswer(is_private=facts.is_private)
            async with aclosing(stream):
                async for piece in stream:
                    for response in answer.take(piece):
                        yield response
                yield self._remembered(answer.finish(stream.report), facts)

        return responses()

    def _prepared(
        self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any], *, is_whole: bool
    ) -> tuple[RequestFacts, CandidateCalls, dict[str, Any]]:
        """A call as the router needs it: facts, how to ask, and how to read it, who goes first, what to hold back."""
        options = _call_options(kwargs)
        facts = read_call(self._reader, messages, options)
        tools, output = options.pop("tools", []), options.pop("response_format", None)
        deadlines = self.policy.deadlines
        has_token_deadline = deadlines.first_token is not None or deadlines.between_tokens is not None
        calls = CandidateCalls(
            llms=self._asked,
            messages=messages,
            tools=tools,
            choice=tool_choice(options.pop("tool_choice", None), [tool["function"]["name"] for tool in tools]),
            parallel=options.pop("parallel_tool_calls", True),
            output=output,
            options={name: value for name, value in options.items() if name not in ROUTE_OPTIONS},
            is_streamed=not is_whole or has_token_deadline,
            ends=self._ends,
        )
        how = {
            "dialect": _dialect(tools, output),
            "policy": policy_with_first(self.router.policy, kwargs.get("model"), self.llms),
            "guarantee": "complete" if is_whole else None,
            "count": self._count(calls),
        }
        return facts, calls, how

    def _count(self, calls: CandidateCalls) -> Callable[[str], int | None]:
        """Counts the prompt as a candidate of this package would read it; asked only where sizes leave it open."""

        def count(name: str) -> int | None:
            llm = self._asked[name]
            if not isinstance(llm, MLXLLM):
                return None  # LlamaIndex's models cannot count
            messages = to_chat_messages(llm._messages(calls.messages))
            return llm._backend().count_prompt_tokens(messages, tool_specs(calls.tools))

        return count

    def _remembered(self, response: ChatResponse, facts: RequestFacts) -> ChatResponse:
        """Know the answer to a private call again: engines and agents write messages of their own, without marks."""
        if facts.is_private:
            self._reader.scanner.remember_answer(response.message.content or "")
        return response

    def _make_router(self) -> Router:
        from mlx_integrations.assembly import get_settings

        policy = replace(self.policy, is_offline=True) if get_settings().offline else self.policy
        candidates = [
            candidate_of(name, llm, self.facts.get(name, ModelFacts()), self._locator)
            for name, llm in self.llms.items()
        ]
        continuable = [name for name, facts in self.facts.items() if facts.can_continue]
        return Router(candidates, policy, observe=observer_of(self.llms), locate=self._locate, continuable=continuable)

    def _locate(self, candidate: Candidate) -> Location:
        """Where a candidate is now, not where it was when the plan was made."""
        facts = self.facts.get(candidate.name, ModelFacts())
        return locate_llm(self._asked[candidate.name], facts, self._locator, fresh=True)

    async def _arouter(self) -> Router:
        # Making it looks up hosts and reads a model's configuration: not on the event loop.
        return await asyncio.to_thread(getattr, self, "router") if self._router is None else self._router

    async def _aget_ready(self) -> None:
        for llm in self.llms.values():
            if isinstance(llm, StructuredPrediction):
                await llm._aget_ready()

    def _model_name(self) -> str:
        return "+".join(self.llms)


def _named(given: Mapping[str, LLM] | Sequence[LLM]) -> dict[str, LLM]:
    """Models by name; those of a list by their own."""
    llms: dict[str, LLM] = {}
    for name, llm in given.items() if isinstance(given, Mapping) else ((_own_name(llm), llm) for llm in given):
        if name in llms:
            raise ConfigurationError(
                f"Two of the models are called `{name}`.", hint='Name them: `llms={"local": ..., "cloud": ...}`.'
            )
        if not isinstance(llm, LLM):
            raise ConfigurationError(
                f"`{name}` is a `{type(llm).__name__}`, not an LLM.",
                hint="Give the model itself; tools, structured output and options go on the router.",
            )
        llms[name] = llm
    if not llms:
        raise ConfigurationError("A router needs at least one model.", hint='Give `llms={"local": MLXLLM(...)}`.')
    return llms


def _own_name(llm: Any) -> str:
    name = getattr(llm, "model", None) or getattr(llm, "model_name", None)
    return name if isinstance(name, str) else type(llm).__name__


def _call_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call in the router's words: tools and format as OpenAI writes them.

    Raises:
        InvalidRequestError: Something cannot be used as a tool or a format.
        UnknownToolError: A tool is asked for that is not offered.
    """
    options = {name: value for name, value in given.items() if name not in (*_NOT_OURS, *_ABOUT_TOOLS)}
    output = options.pop("response_format", None)
    if output is not None:
        wanted = class_format(output) if isinstance(output, type) else output
        if read_format(wanted) is not None:
            options["response_format"] = wanted
    tools = [openai_tool(tool) for tool in given.get("tools") or ()]
    if tools:
        names = [tool["function"]["name"] for tool in tools]
        choice = given.get("tool_choice") or ("required" if given.get("tool_required") else None)
        chosen: ToolChoice = tool_choice(choice, names)
        options["tools"] = tools
        options["tool_choice"] = chosen.name if chosen.mode == "tool" else chosen.mode
        parallel = given.get("parallel_tool_calls", given.get("allow_parallel_tool_calls"))
        options["parallel_tool_calls"] = True if parallel is None else parallel
    return options


def _dialect(tools: Sequence[Mapping[str, Any]], output: dict[str, Any] | None) -> LlamaIndexDialect:
    schemas = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools}
    wanted = read_format(output)
    schema = None
    if isinstance(wanted, JsonSchemaFormat) and output is not None:
        function = object_tool(output)["function"]
        schema = (function["name"], function["parameters"])
    return LlamaIndexDialect(schemas, wants_json=isinstance(wanted, JsonSchemaFormat | JsonObjectFormat), schema=schema)
