"""LangChain's FAISS: a folder with `index.faiss`, the vectors, and `index.pkl`, the documents.

Only vectors change in a migration, so only `index.faiss` is replaced, by one rename; documents stay byte for byte.

    index.faiss                  in use
    index.faiss.mlxi-RUN         new vectors that are built and not in use
    index.faiss.mlxi-RUN.old     the old vectors, while the new ones are in use: another name of the same file
    mlxi-embedding.json...       the record of the model, with the same endings

Which vectors are in use is seen from these names alone: the new ones if there is an `.old` that is another file.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlx_integrations.errors import RowsError, SidecarError, StoreError
from mlx_integrations.migration.files import copy_whole, flush_folder, is_same_file
from mlx_integrations.migration.protocol import Embedded, Published, Run
from mlx_integrations.migration.records import Finding, Row, StoreInfo, StoreLocation
from mlx_integrations.migration.stores.faiss_index import FLAT, IndexFile, empty_index, write_flat, write_trained
from mlx_integrations.migration.stores.langchain_pickle import STREAMED_BYTES, Documents, read_documents
from mlx_integrations.sidecar import read_sidecar, sidecar_of, write_sidecar

if TYPE_CHECKING:  # a type only: importing this module stays fast
    import numpy as np
    from numpy.typing import NDArray

    from mlx_integrations.fingerprint import EmbeddingFingerprint

__all__ = ["KIND", "LangChainFaissStore"]

KIND: Final = "langchain-faiss"
_EXAMPLES: Final = 5
_UNFINISHED: Final = (".part", ".trained")


class _Index:
    """Documents of a folder with one of its files of vectors."""

    def __init__(self, location: StoreLocation, index: Path, pickle: Path, sidecar: Path, streamed_bytes: int) -> None:
        self._location = location
        self._index = index
        self._pickle = pickle
        self._sidecar = sidecar
        self._streamed_bytes = streamed_bytes
        self._documents: tuple[str, Documents] | None = None
        self._opened: tuple[str, IndexFile] | None = None

    @property
    def location(self) -> StoreLocation:
        return self._location

    def describe(self) -> StoreInfo:
        facts, documents = self._vectors().facts, self._texts()
        return StoreInfo(
            location=self._location,
            count=len(documents.ids),
            dimensions=(facts.dimensions,),
            metric=facts.metric,
            index=facts.factory,
            fingerprint=self._record(),
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

    def vectors(self, keys: Sequence[str]) -> "NDArray[np.float32]":
        return self._vectors().vectors([int(key) for key in keys])

    def state(self) -> str:
        return f"{_state(self._index)} {_state(self._pickle)}"

    def close(self) -> None:
        self._documents = self._opened = None

    def _texts(self) -> Documents:
        state = _state(self._pickle)
        if self._documents is None or self._documents[0] != state:
            self._documents = state, read_documents(self._pickle, streamed_bytes=self._streamed_bytes)
        return self._documents[1]

    def _vectors(self) -> IndexFile:
        state = _state(self._index)
        if self._opened is None or self._opened[0] != state:
            self._opened = state, IndexFile(self._index)
        return self._opened[1]

    def _record(self) -> "EmbeddingFingerprint | None":
        try:
            return read_sidecar(self._sidecar)
        except SidecarError:
            return None

    def _findings(self, vectors: int, documents: Documents) -> Iterator[Finding]:
        ids = documents.ids
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
                examples=tuple(repeated[:_EXAMPLES]),
            )
        missing = [str(row_id) for row_id in ids if not _has_text(documents.find(row_id))]
        if missing:
            message = "There is no text for them, and so nothing to embed."
            examples = tuple(missing[:_EXAMPLES])
            yield Finding(
                code="missing-texts", message=message, count=len(missing), examples=examples, is_blocking=True
            )
        if orphans := documents.count - sum(documents.find(row_id) is not None for row_id in set(ids)):
            message = "Documents without a vector; they stay as they are."
            yield Finding(code="orphans", message=message, count=orphans)


class LangChainFaissStore(_Index):
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
        super().__init__(location, index, pickle, sidecar, streamed_bytes)

    def index_for(self, dimensions: int, wanted: str = "") -> str:
        """The kind of index that `build` makes: the one it has, or `Flat` where FAISS makes none of the new size.

        Raises:
            StoreError: Another kind is wanted, and FAISS makes none.
        """
        facts = self._vectors().facts
        factory = wanted or facts.factory
        if factory == FLAT or empty_index(factory, dimensions, facts.metric) is not None:
            return factory
        if wanted:
            message = f"FAISS makes no index of the kind `{wanted}` of {dimensions} dimensions."
            raise StoreError(message, store=str(self.location), hint="Name another kind, such as `Flat`.")
        return FLAT

    def build(self, run: Run, rows: Iterator[Embedded]) -> None:
        """Write the new vectors into a file of their own."""
        built = self._built(run)
        part, trained = (built.with_name(f"{built.name}{ending}") for ending in _UNFINISHED)
        try:
            count = write_flat(part, run.fingerprint.dimensions, run.metric, self._in_order(rows))
            if (factory := self.index_for(run.fingerprint.dimensions, run.index)) != FLAT and count:
                write_trained(trained, part, factory, run.metric, self._index)
                trained.replace(built)
            else:
                part.replace(built)
        finally:
            part.unlink(missing_ok=True)
            trained.unlink(missing_ok=True)
        flush_folder(built.parent)

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
        """The documents with the new vectors."""
        place = self._index if self._is_new_in_use(run) else self._built(run)
        if not place.is_file():
            raise StoreError(f"Nothing was built for `{self.location}`.", store=str(self.location))
        made = _Index(self.location, place, self._pickle, self._sidecar, self._streamed_bytes)
        made._documents = self._documents  # read once for both
        return made

    def published(self, run: Run) -> Published:
        """Which vectors are in use, by the names in the folder."""
        if self._is_new_in_use(run):
            is_whole = self._record() == run.fingerprint and not self._built(run).exists()
            return "new" if is_whole else "between"
        is_cut_off = self._old(run).exists() or (self._old_record(run).exists() and not self._sidecar.exists())
        return "between" if is_cut_off else "old"

    def publish(self, run: Run) -> None:
        """Put the new file in place of the old one, which keeps another name."""
        built, old = self._built(run), self._old(run)
        if not old.exists():
            self._check_built(built)
            if self._sidecar.exists():
                copy_whole(self._sidecar, self._old_record(run))
            self._link(self._index, old)
        if not self._is_new_in_use(run):
            self._check_built(built)
            # Without a record a store is known by its vectors, so at no moment does a record lie beside others'.
            self._sidecar.unlink(missing_ok=True)
            built.replace(self._index)
            flush_folder(built.parent)
        elif built.exists():
            built.unlink()  # a second name of the file in use, from a rollback that was cut off
        write_sidecar(self._sidecar, run.fingerprint)
        flush_folder(built.parent)

    def rollback(self, run: Run) -> None:
        """Put the old file back in place; the new one is then built and not in use, as before publishing."""
        built, old = self._built(run), self._old(run)
        if not old.exists() and not built.exists():
            raise StoreError(f"The old vectors of `{self.location}` are no longer there.", store=str(self.location))
        if self._is_new_in_use(run):
            if not built.exists():
                self._link(self._index, built)
            self._sidecar.unlink(missing_ok=True)
            old.replace(self._index)
            flush_folder(built.parent)
        if self._old_record(run).exists():
            self._old_record(run).replace(self._sidecar)
        old.unlink(missing_ok=True)  # after a publish that was cut off: a second name of the file in use
        flush_folder(built.parent)

    def discard(self, run: Run) -> None:
        """Delete the old file after publishing, otherwise the new one."""
        built, old = self._built(run), self._old(run)
        if not self._is_new_in_use(run) and self.published(run) == "between":
            self.rollback(run)
        # What is in use has a name of its own, which is none of these.
        for place in (built, old, *(built.with_name(f"{built.name}{ending}") for ending in _UNFINISHED)):
            place.unlink(missing_ok=True)
        self._old_record(run).unlink(missing_ok=True)
        flush_folder(built.parent)

    def _is_new_in_use(self, run: Run) -> bool:
        old = self._old(run)
        return old.exists() and not is_same_file(old, self._index)

    def _built(self, run: Run) -> Path:
        return self._index.with_name(f"{self._index.name}.mlxi-{run.id}")

    def _old(self, run: Run) -> Path:
        return self._index.with_name(f"{self._index.name}.mlxi-{run.id}.old")

    def _old_record(self, run: Run) -> Path:
        return self._sidecar.with_name(f"{self._sidecar.name}.mlxi-{run.id}.old")

    def _check_built(self, built: Path) -> None:
        if not built.is_file():
            raise StoreError(f"Nothing was built for `{self.location}`.", store=str(self.location))

    def _link(self, file: Path, name: Path) -> None:
        try:
            name.hardlink_to(file)
        except OSError as error:
            raise StoreError(
                f"`{file}` cannot be given a second name: {error.strerror}.",
                store=str(self.location),
                hint="Move the store to a file system that has hard links, such as APFS or ext4.",
            ) from error
        flush_folder(name.parent)


def _has_text(found: "tuple[str | None, Any] | None") -> bool:
    return found is not None and bool(found[0] and found[0].strip())


def _state(path: Path) -> str:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return "missing"
    return f"{facts.st_ino}:{facts.st_size}:{facts.st_mtime_ns}"
