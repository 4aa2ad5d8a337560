"""What the tour shows of the router: a model of this machine that fails, and who answers in its place, if anybody may.

The failures are real, but for the last one: a model that is not on the disk, a runtime whose budget is too small for
the weights, and a stream that ends after a few words.
"""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from pydantic import ValidationError

from mlx_integrations import Runtime, Settings
from mlx_integrations.adapters.route_reports import ROUTER_KEY, describe_report
from mlx_integrations.assembly import chat_backend
from mlx_integrations.cloud import OpenAIChatBackend
from mlx_integrations.demo.page import Page
from mlx_integrations.demo.pretend_cloud import PretendCloud
from mlx_integrations.errors import GenerationError, MLXIntegrationsError
from mlx_integrations.langchain import ChatMLX, ChatRouter, ModelFacts
from mlx_integrations.protocols import ChatBackend
from mlx_integrations.router import Policy, report_of
from mlx_integrations.router.failures import REACTIONS
from mlx_integrations.router.policy import Mode
from mlx_integrations.types import ChatChunk, ChatMessage, ChatRequest, ModelCapabilities, ToolSpec

__all__ = ["CLOUD_ANSWER", "Fault", "Rescue", "show_rescues"]

Fault = Literal["missing", "memory", "interrupted"]
CLOUD_ANSWER: Final = "This is the answer of the cloud, from its first word to its last."
_FAULTS: Final[dict[Fault, str]] = {
    "missing": "The local model is not on the disk",
    "memory": "It needs more memory than it may have",
    "interrupted": "It fails in the middle of its answer",
}
_BUDGET_BYTES: Final = 1_000_000  # less than the weights of the demo model
_CHUNKS_BEFORE_IT_FAILS: Final = 4


@dataclass(frozen=True)
class Rescue:
    """One question to a router whose local model fails.

    Attributes:
        fault: How it fails.
        mode: Of the router's policy; the cloud is allowed unless it is `local_only`.
        guarantee: Whether the answer was shown as it came.
        shown: What the user saw of an answer.
        error: The class of the error that ended it; `None` if there was an answer.
        asked: Who was asked, in order.
        cloud_requests: Requests that reached the server which plays the cloud.
    """

    fault: Fault
    mode: Mode
    guarantee: Literal["live", "complete"]
    shown: str
    error: str | None
    asked: tuple[str, ...]
    cloud_requests: int


def show_rescues(page: Page, model: BaseChatModel, question: str) -> tuple[Rescue, ...]:
    """Ask a router the same question for each kind of failure, with a cloud that is allowed and with `local_only`.

    Args:
        page: Where to show it.
        model: Writes the answer that breaks off.
        question: What is asked.

    Raises:
        MissingExtraError: The client for endpoints is not installed.
        ConfigurationError: LangSmith's tracing is on, which `local_only` does not go with.
    """
    runtime = Runtime(Settings(runtime={"memory_budget_bytes": _BUDGET_BYTES}).runtime)
    working = getattr(model, "backend", None) or chat_backend(getattr(model, "model", "demo"))
    models: dict[Fault, ChatMLX] = {
        "missing": ChatMLX(model="not-on-this-disk"),
        "memory": ChatMLX(model="demo", runtime=runtime),
        "interrupted": ChatMLX(model="demo", temperature=0, backend=_Interrupted(working)),
    }
    with PretendCloud(CLOUD_ANSWER) as server:
        backend = OpenAIChatBackend(base_url=server.base_url, model="cloud")
        backend.connection.client()  # says what is missing before anything is asked
        cloud = ChatMLX(model="cloud", backend=backend)
        stage = _Stage(page, server, cloud, question)
        try:
            page.show("[dim]Here a small server of this process plays the cloud, and notes what it is asked.[/]")
            page.line("you", question)
            allowed = [stage.show(fault, models[fault]) for fault in get_args(Fault)]
            allowed.append(stage.show("interrupted", models["interrupted"], guarantee="complete"))
            page.show('\n[dim]The same with Policy(mode="local_only"):[/]')
            kept = [
                stage.show(fault, models[fault], mode="local_only", guarantee="complete") for fault in get_args(Fault)
            ]
        finally:
            backend.connection.close()
            runtime.close()
    page.show()
    counts = [sum(one.cloud_requests for one in rescues) for rescues in (allowed, kept)]
    page.line("", f"Requests that reached the cloud: {counts[0]} where it is allowed, {counts[1]} with `local_only`.")
    return (*allowed, *kept)


class _Stage:
    """Asks and shows."""

    def __init__(self, page: Page, server: PretendCloud, cloud: ChatMLX, question: str) -> None:
        self._page = page
        self._server = server
        self._cloud = cloud
        self._question = question

    def show(
        self,
        fault: Fault,
        local: ChatMLX,
        *,
        mode: Mode = "prefer_local",
        guarantee: Literal["live", "complete"] = "live",
    ) -> Rescue:
        """Ask once; show what the user sees, and who was asked."""
        router = _router(local, self._cloud, Policy(mode=mode, allow_cloud=mode != "local_only", guarantee=guarantee))
        before = len(self._server.requests)
        text, error, report = _listen(router, self._question)
        held = ', with guarantee="complete"' if fault == "interrupted" and guarantee == "complete" else ""
        self._page.show(f"\n  {_FAULTS[fault]}{held}:")
        if text:
            self._page.line("shown", text)
        if error is not None:
            self._page.line("error", f"{type(error).__name__}: {error.message}", style="yellow")
        self._page.line("asked", _asked(report), style="green")
        return Rescue(
            fault=fault,
            mode=mode,
            guarantee=guarantee,
            shown=text,
            error=None if error is None else type(error).__name__,
            asked=tuple(attempt["candidate"] for attempt in report["attempts"]),
            cloud_requests=len(self._server.requests) - before,
        )


def _router(local: ChatMLX, cloud: ChatMLX, policy: Policy) -> ChatRouter:
    try:
        return ChatRouter(
            models={"local": local, "cloud": cloud},
            policy=policy,
            facts={"local": ModelFacts(is_local=True), "cloud": ModelFacts(is_local=False)},
        )
    except ValidationError as error:
        # What pydantic has wrapped: an error of this package, with its hint.
        raise error.errors()[0]["ctx"]["error"] from None


def _listen(router: ChatRouter, question: str) -> tuple[str, MLXIntegrationsError | None, dict[str, Any]]:
    """What is shown of an answer, the error that ended it, and the report of how it came about."""
    text, report = "", dict[str, Any](attempts=[], considered=[])
    try:
        for chunk in router.stream(question):
            text += str(chunk.text)
            report = _report(chunk) or report
    except MLXIntegrationsError as error:
        found = report_of(error)
        return text, error, report if found is None else describe_report(found)
    return text, None, report


def _report(message: AIMessage) -> dict[str, Any] | None:
    found = message.response_metadata.get(ROUTER_KEY)
    return found if isinstance(found, dict) else None


def _asked(report: dict[str, Any]) -> str:
    """Who was asked and what became of it; who was not, and why."""
    said = [f"{attempt['candidate']}: {_outcome(attempt['outcome'])}" for attempt in report["attempts"]] or ["nobody"]
    said += [f"{item['name']} was left out: {item['reason']}" for item in report["considered"] if not item["is_taken"]]
    return "; ".join(said)


def _outcome(outcome: Any) -> str:
    return REACTIONS[outcome].description if outcome in REACTIONS else str(outcome)


class _Interrupted:
    """A `ChatBackend` that answers as another one does, and fails after a few pieces."""

    def __init__(self, backend: ChatBackend) -> None:
        self._backend = backend

    @property
    def model_id(self) -> str:
        """The name of the other one."""
        return self._backend.model_id

    @property
    def capabilities(self) -> ModelCapabilities:
        """What the other one can do."""
        return self._backend.capabilities

    def stream(self, request: ChatRequest) -> Generator[ChatChunk, None, None]:
        """The beginning of an answer.

        Raises:
            GenerationError: Always, after the first pieces.
        """
        with closing(self._backend.stream(request)) as chunks:
            for _ in range(_CHUNKS_BEFORE_IT_FAILS):
                yield next(chunks)
        raise _failure()

    async def astream(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        """The same for event loops."""
        async with aclosing(self._backend.astream(request)) as chunks:
            for _ in range(_CHUNKS_BEFORE_IT_FAILS):
                yield await anext(chunks)
        raise _failure()

    def tokenize(self, text: str) -> list[int]:
        """As the other one."""
        return self._backend.tokenize(text)

    def count_prompt_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """As the other one."""
        return self._backend.count_prompt_tokens(messages, tools)


def _failure() -> GenerationError:
    return GenerationError("The model was made to fail here.")
