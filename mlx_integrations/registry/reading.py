"""Reading a catalogue that somebody else wrote: what is not right is left out, entry by entry, and nothing else harmed.

Nothing here raises on a strange document. Sizes, lengths and kinds are bounded, text that could play tricks on a
terminal is refused, and unknown fields are ignored, so that later versions can add some.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from mlx_integrations.memory_estimate import CONFIG_KEYS
from mlx_integrations.registry.entry import EntryOrigin, ModelEntry, ModelKind, Quantization, Use

__all__ = ["READABLE_FIELDS", "SCHEMA_VERSION", "Document", "EntryProblem", "read_document", "read_entry"]

SCHEMA_VERSION: Final = 1
"""Of the file; a higher number means that it must not be read by this version."""

MAX_ENTRIES: Final = 2_000
_MAX_BYTES = 2**50
_MAX_TOKENS = 10**9
_MAX_LIST = 128
_MAX_TEXT = 400

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,95}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]{2,4})?")
_MONTH = re.compile(r"(19|20)\d\d-(0[1-9]|1[0-2])")
_DAY = re.compile(r"(19|20)\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,120}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,120}){0,4}")

_FORMS = {
    _ID: "it must be lower case letters, digits, dots and dashes, such as `llama-3.2-3b`",
    _REPOSITORY: "it must be a repository, such as `mlx-community/Qwen3-4B-4bit`",
    _REVISION: "it must be a whole commit hash of 40 characters",
    _SHA256: "it must be a SHA-256 of 64 characters",
    _LANGUAGE: "it must be a language code, such as `en`",
    _MONTH: "it must be a month, such as `2026-11`",
}

_Reader = Callable[[Any], Any]


class _InvalidError(ValueError):
    """A value is not what its field holds; the text says what that is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryProblem:
    """Why an entry was left out."""

    position: int
    entry_id: str
    field: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A catalogue file, read.

    Attributes:
        entries: Those that are valid, each id once.
        updated: Its day, as `2026-11-21`; empty if it does not say.
        problems: Why others were left out.
        is_readable: Whether it is a catalogue of a version that is known.
    """

    entries: tuple[ModelEntry, ...] = ()
    updated: str = ""
    problems: tuple[EntryProblem, ...] = ()
    is_readable: bool = True


def read_document(value: Any, *, origin: EntryOrigin) -> Document:
    """Read a parsed catalogue. Never raises.

    Args:
        value: What JSON or TOML gave.
        origin: Which list it is.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("models"), list):
        return Document(is_readable=False)
    version = value.get("schema_version", SCHEMA_VERSION)
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        return Document(is_readable=False)
    day = value.get("updated")
    entries: dict[str, ModelEntry] = {}
    problems: list[EntryProblem] = []
    for position, item in enumerate(value["models"][:MAX_ENTRIES]):
        found = read_entry(item, origin=origin, position=position)
        if isinstance(found, EntryProblem):
            problems.append(found)
        else:
            entries[found.id] = found
    return Document(
        entries=tuple(entries.values()),
        updated=day if isinstance(day, str) and _DAY.fullmatch(day) else "",
        problems=tuple(problems),
    )


def read_entry(value: Any, *, origin: EntryOrigin, position: int = 0) -> ModelEntry | EntryProblem:
    """Read one entry, or say what is wrong with it."""
    if not isinstance(value, Mapping):
        return EntryProblem(position=position, entry_id="", field="", reason="it is not an object")
    name = value.get("id")
    entry_id = name if isinstance(name, str) and _ID.fullmatch(name) else ""
    known: dict[str, Any] = {"origin": origin}
    for field, reader in _READERS.items():
        if value.get(field) is None:
            continue
        try:
            known[field] = reader(value[field])
        except _InvalidError as error:
            return EntryProblem(position=position, entry_id=entry_id, field=field, reason=str(error))
    for field in ("id", "name", "kind"):
        if field not in known:
            return EntryProblem(position=position, entry_id=entry_id, field=field, reason="it is missing")
    return ModelEntry(**known)


def _text(limit: int = _MAX_TEXT, *, pattern: re.Pattern[str] | None = None, allow_lines: bool = False) -> _Reader:
    def read(value: Any) -> str:
        if not isinstance(value, str) or len(value) > limit:
            raise _InvalidError(f"it must be text of at most {limit} characters")
        if any(_plays_tricks(character) and not (allow_lines and character == "\n") for character in value):
            raise _InvalidError("it holds characters that cannot be shown")
        if pattern is not None and not pattern.fullmatch(value):
            raise _InvalidError(_FORMS.get(pattern, f"it must match {pattern.pattern}"))
        return value

    return read


def _plays_tricks(character: str) -> bool:
    """Whether it controls a terminal, changes the direction of text, or is no character at all."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _whole(limit: int) -> _Reader:
    def read(value: Any) -> int:
        if type(value) is not int or not 1 <= value <= limit:
            raise _InvalidError(f"it must be a whole number from 1 to {limit}")
        return value

    return read


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise _InvalidError("it must be true or false")
    return value


def _one_of(kind: Any) -> _Reader:
    allowed = get_args(kind)

    def read(value: Any) -> Any:
        if not isinstance(value, str) or value not in allowed:
            raise _InvalidError(f"it must be one of {', '.join(allowed)}")
        return value

    return read


def _list_of(reader: _Reader) -> _Reader:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > _MAX_LIST:
            raise _InvalidError(f"it must be a list of at most {_MAX_LIST}")
        return tuple(dict.fromkeys(reader(item) for item in value))

    return read


def _mapping_of(keys: _Reader, values: _Reader) -> _Reader:
    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or len(value) > _MAX_LIST:
            raise _InvalidError(f"it must be an object of at most {_MAX_LIST} fields")
        return {keys(key): values(item) for key, item in value.items()}

    return read


def _repository(value: Any) -> str:
    found: str = _text(pattern=_REPOSITORY)(value)
    if ".." in found or "--" in found:
        raise _InvalidError("it must be a Hugging Face repository, such as mlx-community/name")
    return found


def _file(value: Any) -> str:
    found: str = _text(pattern=_FILE)(value)
    if ".." in found:
        raise _InvalidError("it must be the name of a file in the repository")
    return found


def _quantization(value: Any) -> Quantization:
    if not isinstance(value, Mapping):
        raise _InvalidError("it must be an object")
    if value.get("bits") is None:
        raise _InvalidError("its bits are missing")
    size, mode = value.get("group_size"), value.get("mode")
    return Quantization(
        bits=_whole(64)(value["bits"]),
        group_size=None if size is None else _whole(1024)(size),
        mode=None if mode is None else _text(20, pattern=re.compile(r"[a-z0-9]+"))(mode),
    )


def _architecture(value: Any) -> dict[str, Any]:
    """The keys of config.json that estimates read; others are left out."""
    if not isinstance(value, Mapping):
        raise _InvalidError("it must be an object")
    return {key: _plain(item) for key, item in value.items() if key in CONFIG_KEYS and item is not None}


def _plain(value: Any) -> Any:
    if type(value) is int and 0 <= value <= _MAX_TOKENS:
        return value
    if isinstance(value, str):
        return _text()(value)
    if isinstance(value, list) and len(value) <= 1_000:
        if all(type(item) is int and 0 <= item <= _MAX_TOKENS for item in value):
            return list(value)
        return [_text(40)(item) for item in value]
    raise _InvalidError("its values must be whole numbers, short texts, or lists of one of them")


_SHORT = _text(120)
_BYTES = _whole(_MAX_BYTES)
_TOKENS = _whole(_MAX_TOKENS)
_READERS: Final[Mapping[str, _Reader]] = {
    "id": _text(pattern=_ID),
    "name": _SHORT,
    "kind": _one_of(ModelKind),
    "repo_id": _repository,
    "revision": _text(pattern=_REVISION),
    "aliases": _list_of(_SHORT),
    "family": _text(60),
    "publisher": _text(60),
    "license": _text(60),
    "parameters": _whole(10**14),
    "active_parameters": _whole(10**14),
    "quantization": _quantization,
    "size_bytes": _BYTES,
    "weight_bytes": _BYTES,
    "is_weight_derived": _flag,
    "float32_bytes": _BYTES,
    "context_window": _TOKENS,
    "max_output_tokens": _TOKENS,
    "minimum_memory_bytes": _BYTES,
    "recommended_memory_bytes": _BYTES,
    "architecture": _architecture,
    "tools": _flag,
    "vision": _flag,
    "reasoning": _flag,
    "structured_output": _flag,
    "languages": _list_of(_text(pattern=_LANGUAGE)),
    "best_for": _list_of(_one_of(Use)),
    "is_recommended": _flag,
    "released": _text(pattern=_MONTH),
    "dimensions": _whole(100_000),
    "smaller_dimensions": _list_of(_whole(100_000)),
    "pooling": _text(20),
    "max_tokens": _TOKENS,
    "query_prompt": _text(allow_lines=True),
    "document_prompt": _text(allow_lines=True),
    "replaces": _list_of(_text(pattern=_ID)),
    "deprecated": _text(),
    "sha256": _mapping_of(_file, _text(pattern=_SHA256)),
    "install_command": _text(200),
    "sources": _mapping_of(_text(40), _text(600)),
}
READABLE_FIELDS: Final[Sequence[str]] = tuple(_READERS)
"""What an entry may say, in the order of the record."""
