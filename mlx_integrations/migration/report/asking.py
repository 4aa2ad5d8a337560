"""The new model, as far as a report needs it: it asks questions, and counts the tokens of texts that were cut."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mlx_integrations.errors import MLXIntegrationsError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.migration.records import Row
from mlx_integrations.migration.report.records import CutRow, Note
from mlx_integrations.protocols import EmbeddingBackend
from mlx_integrations.types import EmbeddingOptions, EmbeddingResult

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Asker"]


class Asker:
    """Asks a model, if there is one and it is the one that made the vectors.

    Args:
        backend: The model.
        fingerprint: Of the new vectors.

    Attributes:
        note: Why it was not asked, if it was not.
        cut: Rows of which the model read only the beginning.
    """

    def __init__(self, backend: EmbeddingBackend | None, fingerprint: EmbeddingFingerprint) -> None:
        self.note: Note | None = None
        self.cut: list[CutRow] = []
        self._backend = backend
        self._options = EmbeddingOptions()
        self._limit = fingerprint.max_tokens
        if backend is None:
            self._leave_out("the model of the new vectors was not given")
            return
        try:
            whole = fingerprint.dimensions == backend.capabilities.dimensions
            self._options = EmbeddingOptions(dimensions=None if whole else fingerprint.dimensions)
            differences = fingerprint.differences(backend.fingerprint(self._options))
        except MLXIntegrationsError as error:
            self._leave_out(str(error))
            return
        if differences:
            self._leave_out(f"`{backend.model_id}` makes other vectors than those of the store: {differences[0]}")

    def vectors(self, questions: Sequence[str]) -> "NDArray[np.float32] | None":
        """(questions, dimensions), embedded as questions; `None` if that cannot be."""
        if self._backend is None:
            return None
        try:
            return EmbeddingResult.join(self._backend.stream(questions, replace(self._options, side="query"))).vectors
        except MLXIntegrationsError as error:
            self._leave_out(str(error))
            return None

    def take_in_cut(self, rows: Sequence[Row]) -> None:
        """Note rows of which the model read only the beginning."""
        tokens: Sequence[int | None] = self._tokens([row.text or "" for row in rows])
        for row, count in zip(rows, tokens, strict=True):
            self.cut.append(CutRow(id=row.id, characters=len(row.text or ""), tokens=count, read_tokens=self._limit))

    def _tokens(self, texts: Sequence[str]) -> Sequence[int | None]:
        if self._backend is not None and texts:
            try:
                return self._backend.count_tokens(texts, self._options)
            except MLXIntegrationsError as error:
                self._leave_out(str(error))
        return [None] * len(texts)

    def _leave_out(self, reason: str) -> None:
        self._backend = None
        message = f"No questions were asked, and tokens were not counted: {reason.rstrip('.')}."
        self.note = Note(code="no-questions", message=message)
