"""Texts being embedded, as the worker thread sees them, and what it sends back: NumPy arrays, never MLX's."""

from collections import deque
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
        batch_tokens: Tokens of one batch at most, padding included.
        waiting: Positions of the rows that no batch has taken, longest first.
        open_rows: Rows whose vectors were not sent yet.
    """

    rows: list[Tokens]
    pad_id: int
    batch_tokens: int
    waiting: deque[int] = field(init=False)
    open_rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = deque(longest_first([len(row.ids) for row in self.rows]))
        self.open_rows = len(self.rows)
