"""Texts being embedded, as the worker thread sees them, and what it sends back: NumPy arrays, never MLX's."""

from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlx_integrations.runtime.embedding.batching import longest_first
from mlx_integrations.runtime.embedding.text import Tokens
from mlx_integrations.runtime.tasks import FailEvent, Task

__all__ = ["DoneEvent", "EmbeddingEvent", "EmbeddingJob", "RowsEvent"]


class RowsEvent(NamedTuple):
    """Some texts are done: their positions in the job, and their vectors (texts, dimensions) float32."""

    positions: list[int]
    vectors: NDArray[np.float32]


class DoneEvent(NamedTuple):
    """All texts are done."""


EmbeddingEvent = RowsEvent | DoneEvent | FailEvent


@dataclass(eq=False, slots=True, kw_only=True)
class EmbeddingJob(Task):
    """Texts to embed.

    Attributes:
        rows: The texts, tokenised; each has a token at least.
        pad_id: The token that fills shorter rows.
        batch_tokens: Tokens of one batch at most, padding included; `None` means what suits the backend.
        waiting: Positions of the rows that no batch has taken, longest first.
        waiting_tokens: How many tokens those are.
        open_rows: Rows whose vectors were not sent yet.
    """

    rows: list[Tokens]
    pad_id: int
    batch_tokens: int | None
    waiting: list[int] = field(init=False)
    waiting_tokens: int = field(init=False)
    open_rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = longest_first([len(row.ids) for row in self.rows])
        self.waiting_tokens = sum(len(row.ids) for row in self.rows)
        self.open_rows = len(self.rows)

    def waiting_up_to(self, tokens: int, limit: int) -> list[int]:
        """The first so many waiting rows that are not longer than this, longest first."""
        start = bisect_left(self.waiting, -tokens, key=self._minus_length)
        return self.waiting[start : start + limit]

    def take(self, positions: Collection[int]) -> None:
        """Let rows wait no longer."""
        taken = set(positions)
        self.waiting = [position for position in self.waiting if position not in taken]
        self.waiting_tokens -= sum(len(self.rows[position].ids) for position in taken)

    def take_back(self, positions: Collection[int]) -> None:
        """Let rows wait again, each in its place."""
        self.waiting = sorted([*positions, *self.waiting], key=self._minus_length)
        self.waiting_tokens += sum(len(self.rows[position].ids) for position in positions)

    def _minus_length(self, position: int) -> int:
        return -len(self.rows[position].ids)
