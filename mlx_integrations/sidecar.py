"""The record beside a store that says which model made its vectors.

It is a small JSON file, `mlxi-embedding.json` in a store's folder, or the store's own name with that added when the
store is one file:

    {"format": 1, "embedding": {"model": "minilm-l6-v2", "dimensions": 384, ...}}

Reading it costs nothing, so it is read before anything is embedded or written.
"""

import json
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from mlx_integrations.errors import EmbeddingMismatchError, InvalidRequestError, SidecarError
from mlx_integrations.fingerprint import EmbeddingFingerprint

__all__ = [
    "SIDECAR_NAME",
    "check",
    "check_dimensions",
    "check_vectors",
    "decode",
    "encode",
    "place_of",
    "read_sidecar",
    "sidecar_of",
    "still_true",
    "write_sidecar",
]

SIDECAR_NAME: Final = "mlxi-embedding.json"
"""The file's name in a store's folder."""

_FORMAT = 1
_OTHER_MODEL = 0.5  # cosine: two models are near 0; one model on other hardware, or in fewer bits, is near 1
_logger = logging.getLogger(__name__)
_WAY_OUT = "Restore it, or delete it: the store then counts as one without a record."


def place_of(path: str | Path | None) -> Path | None:
    """Where a store lies, or its record, as a program says it.

    Raises:
        InvalidRequestError: It is the address of a server, of which a folder would be made.
    """
    if path is not None and "://" in str(path):
        raise InvalidRequestError(
            "The address of a server is no path.",  # it may have a password in it
            field="path",
            hint="Leave it out, or name a place on this machine's disk for a small file.",
        )
    return None if path is None else Path(path)


def sidecar_of(store: str | Path, *, is_file: bool | None = None) -> Path:
    """Where the record of a store lies.

    Args:
        store: The store's folder, or its file.
        is_file: Which of the two it is; looked up, and guessed from its suffix if it does not exist, when left out.
    """
    path = Path(store)
    if is_file is None:
        is_file = not path.is_dir() if path.exists() else bool(path.suffix)
    return path.with_name(f"{path.name}.{SIDECAR_NAME}") if is_file else path / SIDECAR_NAME


def read_sidecar(path: Path) -> EmbeddingFingerprint | None:
    """The fingerprint in a record; `None` if there is no such file.

    Raises:
        SidecarError: The file is there and cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise SidecarError(f"`{path}` cannot be read: {error}.", path=str(path), hint=_WAY_OUT) from error
    return decode(text, path)


def write_sidecar(path: Path, fingerprint: EmbeddingFingerprint) -> None:
    """Write a record, whole or not at all.

    Raises:
        SidecarError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.write(encode(fingerprint, indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        hint = "Make the place writable: without the record, the store cannot be told from one of another model."
        raise SidecarError(f"`{path}` cannot be written: {error}.", path=str(path), hint=hint) from error


def encode(fingerprint: EmbeddingFingerprint, *, indent: int | None = None) -> str:
    """A record as text, for stores that keep it among their own metadata."""
    return json.dumps({"format": _FORMAT, "embedding": fingerprint.to_dict()}, indent=indent)


def decode(text: str, where: str | Path) -> EmbeddingFingerprint:
    """The fingerprint in a record.

    Args:
        text: What `encode` wrote.
        where: Named in errors.

    Raises:
        SidecarError: It is damaged, or written by a later version.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(where, str(error)) from error
    if not isinstance(record, dict) or not isinstance(record.get("embedding"), dict):
        raise _damaged(where, "it has no `embedding`")
    if record.get("format") != _FORMAT:
        hint = "Update mlx-integrations: a later version reads what an earlier one wrote."
        message = f"`{where}` has the format `{record.get('format')}`, and {_FORMAT} is the newest known."
        raise SidecarError(message, path=str(where), hint=hint)
    try:
        return EmbeddingFingerprint.from_dict(record["embedding"])
    except ValueError as error:
        raise _damaged(where, str(error)) from error


def check(
    stored: EmbeddingFingerprint, current: EmbeddingFingerprint, store: str, *, migration: str | None = None
) -> None:
    """Refuse to let two models meet in one store.

    Args:
        stored: Of the model that made the store's vectors.
        current: Of the model that is to add to it or ask it.
        store: The store's name, for the message.
        migration: The command that migrates a store of its kind, up to the model's name.

    Raises:
        EmbeddingMismatchError: Their vectors cannot be compared.
    """
    different = stored.differences(current)
    if not different:
        return
    reasons = "; ".join(_reason(name, stored, current) for name in different)
    raise EmbeddingMismatchError(
        f"The vectors of {store} were made by {_described(stored)}, and it was opened with {_described(current)}: "
        f"{reasons}. Nothing was written.",
        store=store,
        stored=stored.to_dict(),
        current=current.to_dict(),
        fields=different,
        hint=_hint(different, stored, current, migration),
    )


def still_true(stored: EmbeddingFingerprint, made: int | None, store: str) -> EmbeddingFingerprint | None:
    """A record, unless a program that knows of none has put other vectors in the place of those that it is about.

    Args:
        stored: The record.
        made: Coordinates of the store's vectors; `None` if it cannot say.
        store: The store's name, for the log.
    """
    if made in (None, stored.dimensions):
        return stored
    _logger.warning("%s has %s dimensions and a record of %s: left aside.", store, made, stored.dimensions)
    return None


def check_dimensions(made: int, current: EmbeddingFingerprint, store: str, *, migration: str | None = None) -> None:
    """Refuse a store without a record whose vectors have another size.

    Args:
        made: Coordinates of its vectors.
        current: Of the model that is to add to it or ask it.
        store: The store's name, for the message.
        migration: As for `check`.

    Raises:
        EmbeddingMismatchError: Another model made its vectors.
    """
    if made != current.dimensions:
        raise _unrecorded(f"have {made} dimensions", "dimensions", made, current, store, migration)


def check_vectors(
    stored: Sequence[Sequence[float]],
    again: Sequence[Sequence[float]],
    current: EmbeddingFingerprint,
    store: str,
    *,
    migration: str | None = None,
) -> None:
    """Refuse a store without a record whose vectors are not those that its texts have now.

    Args:
        stored: A few of its vectors.
        again: What the model makes of the same texts, in the same order.
        current: Of the model that is to add to it or ask it.
        store: The store's name, for the message.
        migration: As for `check`.

    Raises:
        EmbeddingMismatchError: Another model made its vectors.
    """
    check_dimensions(len(stored[0]), current, store, migration=migration)
    likeness = max(_cosine(old, new) for old, new in zip(stored, again, strict=True))
    if likeness < _OTHER_MODEL:
        reason = f"are not those that its texts have now (cosine {likeness:.2f} at best)"
        raise _unrecorded(reason, "witness", len(stored[0]), current, store, migration)


def _unrecorded(
    reason: str, field: str, dimensions: int, current: EmbeddingFingerprint, store: str, migration: str | None
) -> EmbeddingMismatchError:
    adopt = " If they were made of other texts on purpose, pass `adopt=True`." if field == "witness" else ""
    return EmbeddingMismatchError(
        f"The vectors of {store} {reason}, and it was opened with {_described(current)}. "
        "It does not say which model made them. Nothing was written.",
        store=store,
        stored={"dimensions": dimensions},
        current=current.to_dict(),
        fields=(field,),
        hint=f"Open it with the model that it was made with; or {_change(current, migration)}.{adopt}",
    )


def _cosine(first: Sequence[float], second: Sequence[float]) -> float:
    size = math.hypot(*first) * math.hypot(*second)
    return sum(a * b for a, b in zip(first, second, strict=True)) / size if size else 0.0


def _damaged(where: str | Path, reason: str) -> SidecarError:
    return SidecarError(f"`{where}` is damaged: {reason}.", path=str(where), hint=_WAY_OUT)


def _described(fingerprint: EmbeddingFingerprint) -> str:
    return f"`{fingerprint.model}` ({fingerprint.dimensions} dimensions)"


def _reason(name: str, stored: EmbeddingFingerprint, current: EmbeddingFingerprint) -> str:
    if name == "witness":
        return "the same texts get other vectors"
    there, here = getattr(stored, name), getattr(current, name)
    return f"`{name}` was {_shown(there)} and is {_shown(here)}"


def _shown(value: Any) -> str:
    return f"`{value}`" if value != "" else "empty"


def _hint(
    different: Sequence[str], stored: EmbeddingFingerprint, current: EmbeddingFingerprint, migration: str | None
) -> str:
    settings = [name for name in ("dimensions", "normalize", "query_prompt", "document_prompt") if name in different]
    given = "".join(f", `{name}={getattr(stored, name)!r}`" for name in settings)
    # Other settings give other vectors; only a difference that they do not explain is one of the weights.
    is_explained = set(different) <= {*settings, "witness"} and different != ("witness",)
    weights = "" if is_explained or stored.model != current.model else "the weights that it was made with, of "
    return f"Open it with {weights}`{stored.model}`{given}; or {_change(current, migration)}."


def _change(current: EmbeddingFingerprint, migration: str | None) -> str:
    """How the store comes to the vectors of another model."""
    if migration is None:
        return f"fill a new store from its documents with `{current.model}`"
    return f"embed its texts with `{current.model}`: `{migration} --model {current.model}`"
