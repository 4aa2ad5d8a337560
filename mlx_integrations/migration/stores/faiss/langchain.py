"""LangChain's FAISS: a folder with `index.faiss`, the vectors, and `index.pkl`, the documents.

Only vectors change in a migration, so only `index.faiss` is replaced (`file_swap.py` says how); documents stay byte for
byte.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.errors import RowsError, StoreChangedError, StoreError
from mlx_integrations.migration.likely import SAMPLED_ROWS, likely_model
from mlx_integrations.migration.protocol import Embedded, Run
from mlx_integrations.migration.records import Document, Finding, Row, StoreInfo, StoreLocation, as_document
from mlx_integrations.migration.stores.faiss.index import IndexFile, write_flat, write_trained
from mlx_integrations.migration.stores.faiss.kinds import choose_factory, is_plain_list
from mlx_integrations.migration.stores.faiss.langchain_pickle import STREAMED_BYTES, Documents, read_documents
from mlx_integrations.migration.stores.file_swap import FileSwap, SwappedStore, file_state
from mlx_integrations.migration.stores.findings import EXAMPLES, missing_texts
from mlx_integrations.sidecar import sidecar_of

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray


__all__ = ["KIND", "LangChainFaissStore"]

KIND: Final = "langchain-faiss"


class _Index:
    """Documents of a folder with one of its files of vectors."""

    def __init__(self, location: StoreLocation, swap: FileSwap, index: Path, pickle: Path, streamed_bytes: int) -> None:
        self._location = location
        self._swap = swap
        self._index = index
        self._pickle = pickle
        self._streamed_bytes = streamed_bytes
        self._documents: tuple[str, Documents] | None = None
        self._opened: tuple[str, IndexFile] | None = None

    @property
    def location(self) -> StoreLocation:
        return self._location

    def describe(self) -> StoreInfo:
        facts, documents = self._vectors().facts, self._texts()
        record = self._swap.record()
        few = [str(position) for position in range(min(facts.count, SAMPLED_ROWS))]
        return StoreInfo(
            location=self._location,
            count=len(documents.ids),
            dimensions=(facts.dimensions,),
            metric=facts.metric,
            index=facts.factory,
            fingerprint=record,
            likely_model=likely_model(
                (facts.dimensions,),
                fingerprint=record,
                sample=partial(self.vectors, few) if facts.is_exact else None,
            ),
            bytes=self._index.stat().st_size + self._pickle.stat().st_size,
            is_exact=facts.is_exact,
            findings=tuple(self._findings(facts.count, documents)),
        )

    def rows(self, after: str | None = None) -> Iterator[Row]:
        documents = self._texts()
        first = 0 if after is None else int(after) + 1
        for position in range(first, len(documents.ids)):
            row_id = documents.ids[position]
            text, metadata = documents.find(row_id) or (None, {})
            yield Row(key=str(position), id=str(row_id), text=text, metadata=metadata)

    def documents(self, after: str | None = None) -> Iterator[Document]:
        return map(as_document, self.rows(after))

    def vectors(self, keys: Sequence[str]) -> "NDArray[np.float32]":
        return self._vectors().vectors([int(key) for key in keys])

    def state(self) -> str:
        return f"{file_state(self._index)} {file_state(self._pickle)}"

    def close(self) -> None:
        self._documents = self._opened = None

    def _texts(self) -> Documents:
        state = file_state(self._pickle)
        if self._documents is None or self._documents[0] != state:
            self._documents = state, read_documents(self._pickle, streamed_bytes=self._streamed_bytes)
        return self._documents[1]

    def _vectors(self) -> IndexFile:
        state = file_state(self._index)
        if self._opened is None or self._opened[0] != state:
            self._opened = state, IndexFile(self._index)
        return self._opened[1]

    def _findings(self, vectors: int, documents: Documents) -> Iterator[Finding]:
        ids = documents.ids
        yield from self._vectors().findings()
        if vectors != len(ids):
            message = (
                f"There are {vectors} vectors and {len(ids)} documents: it was cut off while it was saved, or a "
                "document was added twice. The documents are embedded anew; vectors without one are left behind."
            )
            yield Finding(code="misaligned", message=message, count=abs(vectors - len(ids)), is_blocking=True)
        repeated = [str(each) for each, times in Counter(ids).items() if times > 1] if len(set(ids)) < len(ids) else []
        if repeated:
            yield Finding(
                code="duplicate-ids",
                message="Several vectors belong to one document; each gets a vector of it.",
                count=len(repeated),
                examples=tuple(repeated[:EXAMPLES]),
            )
        missing = [str(row_id) for row_id in ids if not _has_text(documents.find(row_id))]
        if missing:
            message = "There is no text for them, and so nothing to embed; FAISS cannot leave them out: delete them."
            yield missing_texts(len(missing), missing, message, is_final=True)
        if orphans := documents.count - sum(documents.find(row_id) is not None for row_id in set(ids)):
            message = "Documents without a vector; they stay as they are."
            yield Finding(code="orphans", message=message, count=orphans)


class LangChainFaissStore(SwappedStore, _Index):
    """A folder that `FAISS.save_local` wrote. Implements `Store`.

    Args:
        folder: The folder.
        name: The index's name, as `save_local` was given it.
        streamed_bytes: From which size on documents are not held in memory.

    Raises:
        StoreError: There is no such index in it.
    """

    def __init__(self, folder: str | Path, name: str = "index", *, streamed_bytes: int = STREAMED_BYTES) -> None:
        path = Path(os.path.realpath(Path(folder).expanduser()))
        index, pickle = path / f"{name}.faiss", path / f"{name}.pkl"
        for file in (index, pickle):
            if not file.is_file():
                raise StoreError(
                    f"`{folder}` is no store of LangChain's FAISS: it has no `{file.name}`.",
                    store=str(folder),
                    hint="Name the folder that `save_local` was given.",
                )
        location = StoreLocation(kind=KIND, address=str(path), name=None if name == "index" else name)
        sidecar = sidecar_of(path, is_file=False) if name == "index" else sidecar_of(index, is_file=True)
        super().__init__(location, FileSwap(location, index, sidecar), index, pickle, streamed_bytes)

    def index_for(self, dimensions: int, wanted: str = "") -> str:
        """The kind of index that `build` makes: the one it has, or `Flat` where FAISS makes none of the new size.

        Raises:
            StoreError: Another kind is wanted, and FAISS makes none.
        """
        return self._factory(dimensions, wanted, len(self._texts().ids))

    def _factory(self, dimensions: int, wanted: str, count: int) -> str:
        facts = self._vectors().facts
        return choose_factory(wanted, facts.factory, dimensions, facts.metric, str(self.location), count)

    def build(self, run: Run, rows: Iterator[Embedded]) -> None:
        """Write the new vectors into a file of their own."""
        with self._swap.placing(run) as part:
            count = write_flat(part, run.fingerprint.dimensions, run.metric, self._in_order(rows))
            factory = self._factory(run.fingerprint.dimensions, run.index, count)
            if not is_plain_list(factory, run.metric):
                trained = part.with_name(f"{part.name}.trained")
                write_trained(trained, part, factory, run.metric, self._index)
                trained.replace(part)

    def _in_order(self, rows: Iterator[Embedded]) -> "Iterator[NDArray[np.float32]]":
        """Vectors of rows that follow each other without a gap: a row's number is all that connects it to its text."""
        expected = 0
        for part in rows:
            for row in part.rows:
                if row.key != str(expected):
                    break
                expected += 1
            else:
                yield part.vectors
                continue
            break
        missing = list(islice(self.rows(str(expected - 1)), 1))
        if missing:
            raise RowsError(
                f"`{self.location}` has documents that cannot be embedded, such as `{missing[0].id}`, and FAISS cannot "
                "leave them out.",
                store=str(self.location),
                count=1,
                ids=(missing[0].id,),
                hint="Delete them with `FAISS.delete(ids)` and `save_local`, or give them a text.",
            )

    def built(self, run: Run) -> _Index:
        """The documents with the new vectors.

        Raises:
            StoreChangedError: They are not those for which vectors were built.
        """
        made = _Index(self.location, self._swap, self._swap.built(run), self._pickle, self._streamed_bytes)
        made._documents = self._documents  # read once for both
        if (vectors := made._vectors().facts.count) != (count := len(made._texts().ids)):
            raise StoreChangedError(
                f"`{self.location}` was changed since: it has {count} documents, and {vectors} new vectors were built.",
                store=str(self.location),
            )
        return made

    def replaced(self, run: Run) -> _Index:
        """The documents with the old vectors."""
        swap = self._swap.replaced(run)
        made = _Index(self.location, swap, swap.file, self._pickle, self._streamed_bytes)
        made._documents = self._documents
        return made


def _has_text(found: "tuple[str | None, Any] | None") -> bool:
    return found is not None and bool(found[0] and found[0].strip())
