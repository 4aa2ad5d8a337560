"""The record of a Chroma collection: part of its metadata, whichever framework fills the collection.

A file beside the folder of the database would be lost with a server, and one database holds many collections, each with
a model of its own. Collections are asked through their own attributes, so that Chroma does not have to be installed.
"""

from collections.abc import Mapping
from typing import Any

from mlx_integrations.adapters.migration_command import migration_command
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.sidecar import decode, encode

__all__ = ["collection_name", "has_record", "migration_of", "read_record", "record_in", "write_record"]

_METADATA_KEY = "mlxi_embedding"


def collection_name(collection: Any) -> str:
    """What messages call it."""
    return f"the Chroma collection `{collection.name}`"


def read_record(collection: Any) -> EmbeddingFingerprint | None:
    """Its record, if it has one.

    Raises:
        SidecarError: The record is damaged.
    """
    return record_in(_metadata(collection), collection_name(collection))


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


def write_record(collection: Any, fingerprint: EmbeddingFingerprint) -> None:
    """Write its record; what else its metadata say stays."""
    # Metadata is replaced as a whole. The distance function may not be part of it then; its value has long been
    # copied to the collection's configuration: https://docs.trychroma.com/docs/collections/configure
    kept = {key: value for key, value in _metadata(collection).items() if key != "hnsw:space"}
    collection.modify(metadata={**kept, _METADATA_KEY: encode(fingerprint)})


def has_record(collection: Any) -> bool:
    """Whether there is a record, damaged or not, as far as the collection at hand knows; asks no server."""
    return _METADATA_KEY in (collection.metadata or {})


def migration_of(collection: Any) -> str | None:
    """The command that migrates it; `None` for one in memory or on a server."""
    settings: Any = getattr(getattr(collection, "_client", None), "get_settings", lambda: None)()
    if not getattr(settings, "is_persistent", False):
        return None
    return migration_command(str(settings.persist_directory), str(collection.name))


def _metadata(collection: Any) -> dict[str, Any]:
    """As it is now: the collection at hand does not see what another process wrote since it was opened."""
    fresh = collection._client.get_collection(collection.name, tenant=collection.tenant, database=collection.database)
    return dict(fresh.metadata or {})
