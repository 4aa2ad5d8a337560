"""The catalogue: entries by name, and how a person finds one. Facts only; nothing here looks at this machine."""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Final

from mlx_integrations.registry.entry import ModelEntry, Use
from mlx_integrations.registry.reading import Document, read_document

__all__ = ["EMBEDDED_FILE", "ModelRegistry"]

EMBEDDED_FILE: Final = "models.json"
"""In the package's `registry/data`; `config/models-registry.json` is the same file, published."""

_SUGGESTIONS = 3
_LIKENESS = 0.6  # of two names, from 0 to 1; below it, names are not worth suggesting


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRegistry:
    """A catalogue of models.

    Attributes:
        entries: In the catalogue's own order: the ones to try first come first.
        updated: Day of the newest list in it, as `2026-11-21`.
        source: Which lists it is made of, such as `embedded` or `embedded, remote`.
    """

    entries: tuple[ModelEntry, ...]
    updated: str = ""
    source: str = "embedded"
    _by_name: Mapping[str, ModelEntry] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", _index(self.entries))

    @classmethod
    def embedded(cls) -> "ModelRegistry":
        """The catalogue that is in the package."""
        document = _embedded_document()
        return cls(entries=document.entries, updated=document.updated)

    def get(self, name: str) -> ModelEntry | None:
        """The entry with this id, repository or alias, whatever the case; `None` if there is none."""
        return self._by_name.get(name.strip().lower())

    def search(self, text: str = "", *, use: Use | None = None, include_deprecated: bool = False) -> list[ModelEntry]:
        """Entries in which every word of a text occurs.

        Args:
            text: Words, whatever the case and order; they may be parts of names, families, publishers or uses.
            use: What for.
            include_deprecated: Whether those that should not be started with any more are meant too.
        """
        words = text.lower().split()
        return [
            entry
            for entry in self.entries
            if (use is None or use in entry.best_for)
            and (include_deprecated or not entry.deprecated)
            and all(word in _searched(entry) for word in words)
        ]

    def suggest(self, name: str) -> tuple[str, ...]:
        """Ids of the entries whose names are most like this one, the likeliest first."""
        near = difflib.get_close_matches(name.strip().lower(), self._by_name, n=4 * _SUGGESTIONS, cutoff=_LIKENESS)
        return tuple(dict.fromkeys(self._by_name[found].id for found in near))[:_SUGGESTIONS]

    def replacement(self, entry: ModelEntry) -> ModelEntry | None:
        """The first entry that says it replaces this one."""
        return next((one for one in self.entries if entry.id in one.replaces and not one.deprecated), None)

    def merged(self, document: Document, *, source: str) -> "ModelRegistry":
        """This catalogue with the entries of a list over it: one of the same id replaces the whole entry."""
        by_id = {entry.id: entry for entry in self.entries} | {entry.id: entry for entry in document.entries}
        return ModelRegistry(
            entries=tuple(by_id.values()),
            updated=max(self.updated, document.updated),
            source=f"{self.source}, {source}",
        )


def _index(entries: Iterable[ModelEntry]) -> dict[str, ModelEntry]:
    """Every name in lower case. Ids win over repositories, these over short names; then the stronger list wins."""
    strength = {"user": 0, "remote": 1, "embedded": 2}
    ordered = sorted(entries, key=lambda entry: strength[entry.origin])
    found: dict[str, ModelEntry] = {}
    for names in (
        lambda entry: (entry.id,),
        lambda entry: (entry.repo_id,) if entry.repo_id else (),
        lambda entry: entry.names,
    ):
        for entry in ordered:
            for name in names(entry):
                found.setdefault(name.lower(), entry)
    return found


def _searched(entry: ModelEntry) -> str:
    parts = (*entry.names, entry.name, entry.family, entry.publisher, entry.kind, *entry.best_for)
    return " ".join(part for part in parts if part).lower()


@lru_cache(maxsize=1)
def _embedded_document() -> Document:
    text = resources.files("mlx_integrations.registry").joinpath("data", EMBEDDED_FILE).read_text(encoding="utf-8")
    return read_document(json.loads(text), origin="embedded")
