"""What the router has to know of a framework's chunks, and what it tells a candidate that it asks.

A framework joins by one `Dialect`. The router never looks into a chunk itself, so the same core carries out plans over
the chunks of this package, of LangChain and of LlamaIndex.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from mlx_integrations.router.failures import Failure
from mlx_integrations.types import Usage

__all__ = ["Budget", "Dialect", "Reading"]

C = TypeVar("C", contravariant=True)


class Reading(NamedTuple):
    """What one chunk holds.

    Attributes:
        text: What it adds to the visible answer.
        reasoning: What it adds to the visible thoughts.
        has_tool_parts: It holds a tool call or a piece of one, valid or not.
        finish_reason: Set if the chunk says that the answer is complete. A stream that ends without one was cut.
        usage: Tokens that it reports; those of all chunks are added up.
    """

    text: str = ""
    reasoning: str = ""
    has_tool_parts: bool = False
    finish_reason: str | None = None
    usage: Usage | None = None


class Dialect(Protocol[C]):
    """Reads the chunks of one framework. May be made for a single call, and know its tools and its schema."""

    def read(self, chunk: C) -> Reading:
        """What a chunk holds. Called once for each, in order."""
        ...

    def check(self, chunks: Sequence[C]) -> str:
        """What is wrong with an answer of which nothing was shown yet, or an empty text.

        Called with all chunks from the first one with a part of a tool call on, or, where a whole answer is held
        back, with all of it. Arguments have to be JSON as a whole, and satisfy the tool's schema where it is known: a
        parser that mends what was cut off makes a valid call of half a call. The text says what is wrong without
        quoting the answer.
        """
        ...

    def classify(self, error: Exception) -> Failure | None:
        """Which failure an exception of the framework or of a provider is; `None` leaves it to the router.

        The router knows this package's errors and Python's own. An exception that steers the framework, such as an
        interrupt of LangGraph, is `Failure(kind="control")` and passes through unchanged.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one attempt may take, and how it differs from a first one. Seconds count from the moment it is asked.

    Attributes:
        first_token: Seconds to the first visible piece; `None` means no limit, here and below.
        between_tokens: Seconds from one piece to the next.
        total: Seconds that are left of the whole call.
        is_repair: The same candidate has just written something that could not be accepted: ask again at
            temperature 0.
        continues: What another candidate has written, and the user has seen: only what comes after it is wanted.
    """

    first_token: float | None = None
    between_tokens: float | None = None
    total: float | None = None
    is_repair: bool = False
    continues: str = ""
