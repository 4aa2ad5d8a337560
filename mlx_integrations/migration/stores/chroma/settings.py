"""How a collection compares and searches, in the words of each version of Chroma that has written it down.

Chroma has kept that in several places, and today's client (1.5.9) looks at them in this order: the schema of a
collection, its configuration, the metadata of its segment of vectors, which are the early form, and otherwise what is
usual. What it shows as `configuration_json` leaves out some of that, and everything that is in the metadata of a
segment, by which it compares nevertheless: so it is read here.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["PREFIX", "models_of", "schema_without_model", "settings_of"]

PREFIX: Final = "hnsw:"
"""How names of metadata begin that are settings."""

_VECTORS: Final = ("keys", "#embedding", "float_list", "vector_index", "config")
_USUAL_VECTORS: Final = ("defaults", "float_list", "vector_index", "config")
_CONFIG: Final = ("vector_index", "hnsw")
_EARLY_CONFIG: Final = ("hnsw",)
_FUNCTION: Final = "embedding_function"
_OTHER_MODEL: Final = {"type": "legacy"}
"""What Chroma writes down where the program makes the vectors."""

# The names that settings have in metadata, and what Chroma 1.5.9 makes of them in a configuration.
_NAMES: Final = {"construction_ef": "ef_construction", "search_ef": "ef_search", "M": "max_neighbors"}

_KNOWN: Final = frozenset(
    {
        "space",
        "ef_construction",
        "ef_search",
        "max_neighbors",
        "num_threads",
        "batch_size",
        "sync_threshold",
        "resize_factor",
    }
)


def settings_of(
    schema: str | None, config: str | None, segment: Mapping[str, Any], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings of a collection's index, `space` among them where it was ever written down.

    Args:
        schema: Of the collection, as JSON.
        config: Its configuration, as JSON.
        segment: Metadata of its segment of vectors.
        metadata: Its own.
    """
    vectors = _part(schema, _VECTORS)
    if vectors:
        space = {"space": vectors["space"]} if vectors.get("space") else {}
        return _said({**(vectors.get("hnsw") or {}), **space})
    known = (_part(config, _CONFIG), _early(segment), _early(metadata), _part(config, _EARLY_CONFIG))
    return _said(next(filter(None, known), {}))


def models_of(schema: str | None, config: str | None) -> Iterator[str]:
    """The model of the embedding function that a collection was made with, where that is known by name.

    Chroma's client notes it. LangChain leaves nothing there, and collections made for LlamaIndex have the function that
    is used when nobody says, which names no model.
    """
    for text, path in ((schema, (*_VECTORS, _FUNCTION)), (config, (_FUNCTION,))):
        settings = _part(text, path).get("config")
        model = settings.get("model_name") if isinstance(settings, Mapping) else None
        if isinstance(model, str):
            yield model


def schema_without_model(schema: str | None) -> dict[str, Any] | None:
    """What else a schema says; the embedding function made the old vectors, and must not make more of them.

    Returns:
        `None` where a collection has no schema.
    """
    if not _part(schema, _VECTORS):
        return None
    made: dict[str, Any] = json.loads(schema or "{}")
    for path in (_VECTORS, _USUAL_VECTORS):
        if _FUNCTION in (settings := _within(made, path)):
            settings[_FUNCTION] = dict(_OTHER_MODEL)
    return made


def _early(metadata: Mapping[str, Any]) -> dict[str, Any]:
    names = ((key, key.removeprefix(PREFIX)) for key in metadata if key.startswith(PREFIX))
    return {_NAMES.get(name, name): metadata[key] for key, name in names}


def _said(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in _KNOWN and value is not None}


def _part(text: str | None, path: tuple[str, ...]) -> dict[str, Any]:
    try:
        return _within(json.loads(text or "{}"), path)
    except ValueError:
        return {}


def _within(value: Any, path: tuple[str, ...]) -> dict[str, Any]:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
