"""What a router may know of a request: sizes and needs, in no framework's words."""

from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from mlx_integrations.types import Role

__all__ = ["TASKS", "AttachmentKind", "MessageFacts", "RequestFacts", "Task"]

Task = Literal["chat", "classify", "code", "extract", "reasoning", "rewrite", "summarize", "translate"]
"""What a request is for."""
TASKS: Final[tuple[str, ...]] = get_args(Task)
AttachmentKind = Literal["image", "audio", "video", "file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFacts:
    """One message: what it says and carries, not how a framework writes it.

    Attributes:
        role: Who wrote it.
        text: Everything in it that is text: content, reasoning, names, arguments of tool calls, results of tools.
        attachments: Kinds of what is not text.
        is_private: It is marked: the user said so, or it answers a request that had to stay on this machine.
    """

    role: Role
    text: str
    attachments: frozenset[AttachmentKind] = frozenset()
    is_private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """A whole request.

    Attributes:
        text_bytes: Bytes of all text in UTF-8, with descriptions of tools and what a template puts around messages: a
            tokenizer gives no more tokens than that.
        prompt_tokens: Tokens of the prompt, where somebody has counted them.
        output_tokens: The longest answer that was asked for.
        needs_tools: Tools are offered.
        needs_structured_output: The answer has to satisfy a schema.
        attachments: Kinds of what is not text.
        private_because: Why it must stay on this machine; empty if it may leave.
        task: What it is for, one of `TASKS`.
        language: The language it needs, as an ISO 639-1 code.
        tags: Tags of the call.
    """

    text_bytes: int
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    needs_tools: bool = False
    needs_structured_output: bool = False
    attachments: frozenset[AttachmentKind] = frozenset()
    private_because: tuple[str, ...] = ()
    task: str | None = None
    language: str | None = None
    tags: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_private(self) -> bool:
        """Whether it must stay on this machine."""
        return bool(self.private_because)
