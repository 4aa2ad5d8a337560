"""`RouterBackend`: several chat backends that answer as one.

Whoever speaks to a `ChatBackend` can speak to this one, so the command line and servers route without any framework.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from functools import partial

from mlx_integrations.errors import InvalidRequestError
from mlx_integrations.protocols import ChatBackend
from mlx_integrations.router.attempts import AsyncRoutedStream, RoutedStream, Router
from mlx_integrations.router.chat import ChatDialect, request_within
from mlx_integrations.router.dialect import Budget
from mlx_integrations.router.facts import RequestFacts
from mlx_integrations.router.plan import Plan
from mlx_integrations.router.policy import Guarantee
from mlx_integrations.router.read import RequestReader
from mlx_integrations.router.report import RouteReport
from mlx_integrations.types import ChatChunk, ChatMessage, ChatRequest, ModelCapabilities, ToolSpec

__all__ = ["RouterBackend"]


class RouterBackend:
    """Answers chats by whichever candidate the router chooses; implements `ChatBackend`.

    `finish.model_id` of an answer names the model that gave it. `route` and `aroute` give the report as well; an error
    carries it, too (`report_of`).

    Args:
        backends: Who answers, by the names that the router knows them by.
        router: Chooses.
        model_id: The name that all of them together are known by.
        facts: What the router may know of a request; read from its messages and the policy otherwise.

    Raises:
        InvalidRequestError: A candidate without a backend, or the other way round.
    """

    def __init__(
        self,
        backends: Mapping[str, ChatBackend],
        router: Router,
        *,
        model_id: str = "router",
        facts: Callable[[ChatRequest], RequestFacts] | None = None,
    ) -> None:
        names = set(router.roster.candidates)
        if lonely := sorted(names.symmetric_difference(backends)):
            raise InvalidRequestError(
                f"`{lonely[0]}` is a candidate without a backend, or a backend that is no candidate.", field="backends"
            )
        self.router = router
        self._backends = dict(backends)
        self._model_id = model_id
        self._reader = RequestReader(router.policy)
        self._facts = facts or self._reader.read_chat

    @property
    def model_id(self) -> str:
        """The name that all candidates together are known by."""
        return self._model_id

    @property
    def capabilities(self) -> ModelCapabilities:
        """What at least one candidate offers that the policy lets answer; the largest of their windows.

        No single candidate need offer all of it: a request is planned for what it needs.
        """
        known = [self._backends[name].capabilities for name in self._allowed()]
        limits = [item.max_output_tokens for item in known]
        return ModelCapabilities(
            context_window=max(item.context_window for item in known),
            max_output_tokens=None if None in limits else max(limit for limit in limits if limit is not None),
            tools=any(item.tools for item in known),
            reasoning=any(item.reasoning for item in known),
            structured_output=any(item.structured_output for item in known),
            vision=any(item.vision for item in known),
        )

    def is_private(self, request: ChatRequest) -> bool:
        """Whether a request must stay on this machine."""
        return self._facts(request).is_private

    def plan(self, request: ChatRequest) -> Plan:
        """Who would be asked now, and why; asks nobody."""
        return self.router.plan(self._facts(request), count=partial(self._count, request))

    def route(self, request: ChatRequest, *, guarantee: Guarantee | None = None) -> RoutedStream[ChatChunk]:
        """Answer in pieces, with a report.

        Args:
            request: What is asked.
            guarantee: Instead of the policy's; `complete` where nobody sees an answer before its end.
        """
        return self.router.stream(
            self._facts(request),
            partial(self._open, request),
            ChatDialect(request),
            guarantee=guarantee,
            count=partial(self._count, request),
        )

    def aroute(self, request: ChatRequest, *, guarantee: Guarantee | None = None) -> AsyncRoutedStream[ChatChunk]:
        """The same for event loops."""
        return self.router.astream(
            self._facts(request),
            partial(self._aopen, request),
            ChatDialect(request),
            guarantee=guarantee,
            count=partial(self._count, request),
        )

    def stream(self, request: ChatRequest) -> Generator[ChatChunk, None, None]:
        """Answer in pieces; the last one carries `finish`."""
        routed, texts = self.route(request), list[str]()
        try:
            for chunk in routed:
                texts.append(chunk.text)
                yield chunk
        finally:
            routed.close()
            self._remember(routed.report, texts)

    async def astream(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        """The same for event loops."""
        routed, texts = self.aroute(request), list[str]()
        try:
            async for chunk in routed:
                texts.append(chunk.text)
                yield chunk
        finally:
            await routed.aclose()
            self._remember(routed.report, texts)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a plain text for the first candidate that may answer."""
        return self._backends[self._allowed()[0]].tokenize(text)

    def count_prompt_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """Tokens of messages and tools for the first candidate that may answer."""
        return self._backends[self._allowed()[0]].count_prompt_tokens(messages, tools)

    def _remember(self, report: RouteReport, texts: Sequence[str]) -> None:
        """Keep an answer to a private request on this machine: a `ChatMessage` cannot be marked."""
        if report.is_private:
            self._reader.scanner.remember_answer("".join(texts))

    def _allowed(self) -> list[str]:
        """Those that the policy lets answer, on this machine first; everybody, if that is nobody."""
        policy, candidates = self.router.policy, self.router.roster.candidates.values()
        locals_ = [item.name for item in candidates if item.is_local and policy.mode != "cloud_only"]
        may_leave = policy.allow_cloud and policy.mode != "local_only"
        remotes = [item.name for item in candidates if not item.is_local and may_leave]
        return locals_ + remotes or list(self._backends)

    def _count(self, request: ChatRequest, name: str) -> int:
        return self._backends[name].count_prompt_tokens(request.messages, request.tools)

    def _open(self, request: ChatRequest, name: str, budget: Budget) -> Iterator[ChatChunk] | AsyncIterator[ChatChunk]:
        backend, request = self._backends[name], request_within(request, budget)
        is_limited = (budget.first_token, budget.between_tokens, budget.total) != (None, None, None)
        if is_limited and self.router.roster.candidates[name].location == "in-process":
            # It would go on computing for nobody: only its asynchronous stream can be told to stop at any moment.
            return backend.astream(request)
        return backend.stream(request)

    def _aopen(self, request: ChatRequest, name: str, budget: Budget) -> AsyncIterator[ChatChunk]:
        return self._backends[name].astream(request_within(request, budget))
