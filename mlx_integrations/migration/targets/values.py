"""What becomes of metadata in stores that cannot hold every value of Python. Nothing is changed without being told."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from mlx_integrations.migration.records import Document, Loss
from mlx_integrations.migration.stores.llama_index_nodes import KIND_OF_NODE
from mlx_integrations.migration.stores.pickle_values import as_plain

__all__ = [
    "LEFT_OUT",
    "MARKS_NODES",
    "Changed",
    "is_unicode",
    "losses_of_class",
    "survivors",
    "through_json",
    "through_strict_json",
]

LEFT_OUT: Final = object()
"""In the place of a value that is not kept at all."""
MARKS_NODES: Final = "a name by which nodes of LlamaIndex are known, left out"
"""What is said of a document of LangChain that would be taken for a node."""

Changed = tuple[Any, str]
"""What is kept of a value, and what is lost of it, in words; empty if nothing is."""

_READ_AS_THEY_ARE: Final = frozenset({"TextNode", "ImageNode", "IndexNode"})
_MULTIMODAL: Final = "Node"
_WITH_IMAGE: Final = "ImageDocument"
_DEEPEST: Final = 100
_SINGLE: Final = frozenset({str, int, float, bool, type(None)})
_WHOLE_NUMBERS: Final = range(-(2**63), 2**63)


def survivors(
    metadata: Mapping[Any, Any], kept: Callable[[str, Any], Changed], *, is_blocking: bool = True
) -> tuple[dict[str, Any], tuple[Loss, ...]]:
    """What is kept of a document's metadata, and what is lost.

    Args:
        metadata: Of the document.
        kept: What becomes of a value.
        is_blocking: Whether losses have to be accepted.
    """
    found: dict[str, Any] = {}
    losses: list[Loss] = []
    for key, value in metadata.items():
        if not isinstance(key, str):
            losses.append(Loss(key=repr(key), reason="a name that is no text, left out", is_blocking=is_blocking))
            continue
        name, told_of_name = (key, "") if type(key) is str else as_plain(key)
        plain, told = (value, "") if type(value) in _SINGLE else as_plain(value)
        content, reason = kept(name, plain)
        if content is not LEFT_OUT:
            found[name] = content
        if reason := reason or told or told_of_name:
            losses.append(Loss(key=name, reason=reason, is_blocking=is_blocking))
    return found, tuple(losses)


def losses_of_class(document: Document, *, in_files: bool = False) -> tuple[Loss, ...]:
    """What LlamaIndex does not read again of a node of some classes.

    https://github.com/run-llama/llama_index/blob/main/llama-index-core/llama_index/core/vector_stores/utils.py

    Args:
        document: With the class of its node among its metadata.
        in_files: Whether it becomes part of a storage context, which knows all classes; in a database few are known.
    """
    kind = document.metadata.get(KIND_OF_NODE)
    if document.framework != "llama-index" or kind is None or kind in _READ_AS_THEY_ARE:
        return ()
    if kind == _MULTIMODAL:
        reason = f"`{kind}`, of whose text only the text is kept: no MIME type, no path and no address"
    elif in_files:
        return ()
    else:
        reason = f"`{kind}`, of which LlamaIndex makes a `TextNode` when it reads it from a database"
    return (Loss(key=KIND_OF_NODE, reason=reason, is_blocking=kind == _WITH_IMAGE),)


def is_unicode(text: str) -> bool:
    """Whether it can be written as UTF-8, which halves of surrogate pairs cannot."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def through_json(value: Any, depth: int = 0) -> Changed:
    """What is read of a value that was written as JSON, in Python's dialect, which has `NaN`."""
    if value is None or type(value) in (str, bool, int, float):
        return value, ""
    if depth >= _DEEPEST:
        return LEFT_OUT, "values that are nested too deeply, left out"
    if isinstance(value, list | tuple):
        return _list_through_json(value, depth)
    if isinstance(value, Mapping):
        return _mapping_through_json(value, depth)
    return LEFT_OUT, f"values of `{type(value).__name__}`, left out"


def _list_through_json(value: list[Any] | tuple[Any, ...], depth: int) -> Changed:
    parts = [through_json(each, depth + 1) for each in value]
    lost = next((reason for content, reason in parts if content is LEFT_OUT), "")
    if lost:
        return LEFT_OUT, lost
    told = "tuples, which become lists" if isinstance(value, tuple) else ""
    return [content for content, _ in parts], told or next((reason for _, reason in parts if reason), "")


def _mapping_through_json(value: Mapping[Any, Any], depth: int) -> Changed:
    if not all(isinstance(key, str) for key in value):
        return LEFT_OUT, "mappings with names that are no texts, left out"
    found: dict[str, Any] = {}
    told = ""
    for key, each in value.items():
        content, reason = through_json(each, depth + 1)
        if content is LEFT_OUT:
            return LEFT_OUT, reason
        found[key] = content
        told = told or reason
    return found, told


def through_strict_json(value: Any, depth: int = 0) -> Changed:
    """What is read of a value that was written as JSON for servers: numbers of 64 bits, and whole characters only."""
    content, reason = through_json(value, depth)
    if content is LEFT_OUT:
        return content, reason
    return (LEFT_OUT, lost) if (lost := _not_strict(content)) else (content, reason)


def _not_strict(value: Any) -> str:
    if isinstance(value, str):
        return "" if is_unicode(value) else "halves of characters, left out"
    if isinstance(value, float):
        return "" if value - value == 0 else "numbers that are not finite, left out"
    if isinstance(value, int):
        return "" if value in _WHOLE_NUMBERS else "whole numbers of more than 64 bits, left out"
    parts: Iterable[Any] = ()
    if isinstance(value, Mapping):
        parts = (*value, *value.values())
    elif isinstance(value, list):
        parts = value
    return next((reason for each in parts if (reason := _not_strict(each))), "")
