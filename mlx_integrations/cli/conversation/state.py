"""What a conversation is: who answers, what was said, and how full the model's window is. No terminal here."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlx_integrations.types import ChatMessage, ChatRequest, SamplingParams

if TYPE_CHECKING:
    from mlx_integrations.protocols import ChatBackend

__all__ = ["Conversation"]


@dataclass(kw_only=True)
class Conversation:
    """Messages, and the model that answers them.

    Attributes:
        backend: Who answers.
        system: Instructions before everything else.
        sampling: How answers are chosen.
        messages: Questions and answers in turn.
    """

    backend: "ChatBackend"
    system: str | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    messages: list[ChatMessage] = field(default_factory=list)

    @property
    def prompt(self) -> tuple[ChatMessage, ...]:
        """All messages, the instructions first."""
        first = (ChatMessage(role="system", content=self.system),) if self.system else ()
        return (*first, *self.messages)

    def ask(self, question: str) -> ChatRequest:
        """The request for an answer to a question; nothing is kept of it yet."""
        messages = (*self.prompt, ChatMessage(role="user", content=question))
        return ChatRequest(messages=messages, sampling=self.sampling)

    def keep(self, question: str, answer: str) -> None:
        """Remember a question and what was said to it, be it only the beginning of an answer."""
        self.messages += [ChatMessage(role="user", content=question), ChatMessage(role="assistant", content=answer)]

    def forget(self) -> None:
        """Start anew, with the same model and instructions."""
        self.messages.clear()

    def filled_tokens(self) -> int:
        """How much of the window is taken, as the present model counts."""
        return self.backend.count_prompt_tokens(self.prompt) if self.prompt else 0

    def as_markdown(self) -> str:
        """The conversation as a document."""
        names = {"system": "Instructions", "user": "You", "assistant": self.backend.model_id}
        return (
            "\n\n".join(f"**{names.get(one.role, one.role)}**\n\n{one.content.strip()}" for one in self.prompt) + "\n"
        )

    def as_records(self) -> list[dict[str, str]]:
        """The conversation as messages that any chat API takes."""
        return [{"role": one.role, "content": one.content} for one in self.prompt]
