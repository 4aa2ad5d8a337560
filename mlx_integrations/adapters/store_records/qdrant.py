"""The record of a Qdrant collection: part of its metadata, whichever framework fills the collection.

Qdrant keeps metadata of collections since 1.16; of an earlier server, a collection has no record, and is known by its
vectors. Clients are asked through their own attributes, so that Qdrant does not have to be installed.
"""

from collections.abc import Mapping
from typing import Any

from mlx_integrations.adapters.migration_command import migration_command
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.sidecar import decode, encode

__all__ = [
    "collection_name",
    "count_of",
    "migration_of",
    "read_record",
    "record_in",
    "samples_of",
    "size_of",
    "with_record",
    "write_record",
]

_METADATA_KEY = "mlxi_embedding"
_UNNAMED = ""


def collection_name(name: str) -> str:
    """What messages call it."""
    return f"the Qdrant collection `{name}`"


def record_in(metadata: Mapping[str, Any], collection: str) -> EmbeddingFingerprint | None:
    """The record in a collection's metadata, if there is one.

    Args:
        metadata: Of the collection.
        collection: What messages call it.

    Raises:
        SidecarError: The record is damaged.
    """
    text = metadata.get(_METADATA_KEY)
    return None if text is None else decode(str(text), f"the metadata of {collection}")


def with_record(metadata: Mapping[str, Any], fingerprint: EmbeddingFingerprint) -> dict[str, Any]:
    """A collection's metadata with its record."""
    return {**metadata, _METADATA_KEY: encode(fingerprint)}


def read_record(client: Any, name: str) -> EmbeddingFingerprint | None:
    """The record of a collection, if it has one.

    Raises:
        SidecarError: The record is damaged.
    """
    return record_in(_metadata(client, name), collection_name(name))


def write_record(client: Any, name: str, fingerprint: EmbeddingFingerprint) -> bool:
    """Write the record of a collection, if there is one of that name yet; what else its metadata say stays.

    Returns:
        Whether it was written.
    """
    if not client.collection_exists(name):
        return False
    client.update_collection(name, metadata={_METADATA_KEY: encode(fingerprint)})  # it is merged into the rest
    return True


def count_of(client: Any, name: str) -> int:
    """How many points a collection has; 0 if there is none of that name yet."""
    return int(client.count(name).count) if client.collection_exists(name) else 0


def size_of(client: Any, name: str, vector: str) -> int | None:
    """Coordinates of its vectors of a name; `None` if it has none of it."""
    if not client.collection_exists(name):
        return None
    known = client.get_collection(name).config.params.vectors
    params = known.get(vector) if isinstance(known, Mapping) else known
    return None if params is None else int(params.size)


def samples_of(client: Any, name: str, vector: str, count: int) -> list[tuple[Mapping[str, Any], list[float]]]:
    """Payloads and vectors of a few points."""
    if not client.collection_exists(name):
        return []
    points, _ = client.scroll(name, limit=count, with_payload=True, with_vectors=True)
    found = []
    for point in points:
        known = point.vector.get(vector) if isinstance(point.vector, Mapping) else point.vector
        if known:
            found.append((point.payload or {}, [float(x) for x in known]))
    return found


def migration_of(client: Any, name: str) -> str | None:
    """The command that gives a collection the vectors of another model; `None` for one in memory."""
    inner = getattr(client, "_client", None)
    place = getattr(inner, "rest_uri", None) or getattr(inner, "location", ":memory:")
    if place == ":memory:":
        return None
    return migration_command(str(place), name)


def _metadata(client: Any, name: str) -> Mapping[str, Any]:
    if not client.collection_exists(name):
        return {}
    return getattr(client.get_collection(name).config, "metadata", None) or {}
