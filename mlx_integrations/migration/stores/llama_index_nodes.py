"""Nodes of LlamaIndex, as they were embedded: those of a persisted storage context, and those in a database."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import MissingExtraError
from mlx_integrations.migration.stores.json_reader import JsonFile, Places

__all__ = ["DOCSTORE", "Nodes", "text_of_flat_node"]

DOCSTORE: Final = "docstore.json"
_NODES: Final = "/data"  # after the docstore's namespace


class Nodes:
    """Where in `docstore.json` each node is; the nodes themselves stay there.

    Args:
        path: The file.

    Raises:
        StoreError: It is missing, no JSON, or was cut off while it was written.
    """

    def __init__(self, path: Path) -> None:
        self._file = JsonFile(path)
        self._places = Places()
        cursor = self._file.cursor()
        for section in cursor.members():
            is_nodes = section.endswith(_NODES)
            if cursor.peek() != b"{":
                cursor.skip()
                continue
            for node_id in cursor.members():
                span = cursor.skip()
                if is_nodes:
                    self._places.add("node", node_id, span)
        cursor.end()

    def count(self) -> int:
        """How many there are."""
        return self._places.count("node")

    def has(self, node_id: str) -> bool:
        """Whether there is a node of that id."""
        return self._places.find("node", node_id) is not None

    def find(self, node_id: str) -> tuple[str | None, Mapping[str, Any]] | None:
        """What was embedded of a node, and its metadata; `None` if there is no such node.

        The text is `None` if LlamaIndex cannot make a node of what is stored.
        """
        span = self._places.find("node", node_id)
        return None if span is None else _embedded(self._file.value(span))


def text_of_flat_node(metadata: Mapping[str, Any], text: str | None) -> str | None:
    """What was embedded of a node that is part of the metadata of its text, as databases have it.

    Args:
        metadata: Of the text; `_node_content` is the node.
        text: The node's own text, where it is not in the node.

    Returns:
        The text with what the node's metadata add to it; `None` if LlamaIndex cannot make a node of it.
    """
    try:
        from llama_index.core.schema import MetadataMode
        from llama_index.core.vector_stores.utils import metadata_dict_to_node
    except ImportError as error:
        raise _missing() from error
    try:
        return metadata_dict_to_node(dict(metadata), text=text).get_content(metadata_mode=MetadataMode.EMBED)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _missing() -> MissingExtraError:
    return MissingExtraError("The nodes of LlamaIndex need `llama-index-core`.", extra="llama-index")


def _embedded(stored: Any) -> tuple[str | None, Mapping[str, Any]]:
    try:
        from llama_index.core.schema import MetadataMode
        from llama_index.core.storage.docstore.utils import json_to_doc
    except ImportError as error:
        raise _missing() from error
    try:
        node = json_to_doc(stored)
        return node.get_content(metadata_mode=MetadataMode.EMBED), node.metadata
    except (AttributeError, KeyError, TypeError, ValueError):  # not the parts that a node has; pydantic's is the last
        return None, {}
