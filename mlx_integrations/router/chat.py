"""`ChatChunk`s, `ChatRequest`s and `ChatBackend`s as the router sees them."""

from collections.abc import Sequence
from dataclasses import replace

from mlx_integrations.router.dialect import Budget, Reading
from mlx_integrations.router.failures import Failure
from mlx_integrations.router.tool_check import call_problem, json_problem
from mlx_integrations.types import ChatChunk, ChatMessage, ChatRequest, JsonObjectFormat, JsonSchemaFormat

__all__ = ["ChatDialect", "request_within"]


class ChatDialect:
    """Reads the chunks of this package; implements `Dialect[ChatChunk]`.

    Args:
        request: What was asked, for the tools and the format that an answer is held to.
    """

    def __init__(self, request: ChatRequest) -> None:
        self._request = request

    def read(self, chunk: ChatChunk) -> Reading:
        """What a chunk holds."""
        finish = chunk.finish
        has_tool_parts = bool(chunk.tool_calls or chunk.invalid_tool_calls)
        if finish is None:
            return Reading(chunk.text, chunk.reasoning, has_tool_parts)
        return Reading(chunk.text, chunk.reasoning, has_tool_parts, finish.reason, finish.usage)

    def check(self, chunks: Sequence[ChatChunk]) -> str:
        """What is wrong with an answer that was held back."""
        if any(chunk.invalid_tool_calls for chunk in chunks):
            return "it wrote a tool call that cannot be accepted"
        calls = [call for chunk in chunks for call in chunk.tool_calls]
        tools = {tool.name: tool.parameters for tool in self._request.tools}
        problems = (call_problem(call.name, call.arguments, tools) for call in calls)
        if problem := next(filter(None, problems), ""):
            return problem
        is_json = isinstance(self._request.output, JsonSchemaFormat | JsonObjectFormat)
        return json_problem("".join(chunk.text for chunk in chunks)) if is_json and not calls else ""

    def classify(self, error: Exception) -> Failure | None:
        """Every error of a backend is one of this package's, or Python's."""
        return None


def request_within(request: ChatRequest, budget: Budget) -> ChatRequest:
    """The request as one attempt asks it."""
    if budget.is_repair:
        request = replace(request, sampling=replace(request.sampling, temperature=0.0))
    if budget.continues:
        begun = ChatMessage(role="assistant", content=budget.continues)
        request = replace(request, messages=(*request.messages, begun))
    return request
