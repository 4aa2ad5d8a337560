"""Nodes of LlamaIndex, as they were embedded: those of a persisted storage context, and those in a database."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import MissingExtraError
from mlx_integrations.migration.records import Document, Row, as_document
from mlx_integrations.migration.stores.json_reader import JsonFile, Places

__all__ = [
    "DOCSTORE",
    "KIND_OF_NODE",
    "NODE",
    "Nodes",
    "StoredNode",
    "empty_index",
    "node_with_text",
    "stored_node",
    "text_of_flat_node",
    "with_text",
]

DOCSTORE: Final = "docstore.json"
NODE: Final = "_node_content"
"""Among the metadata of a text in a database, the node without that text."""
KIND_OF_NODE: Final = "_node_type"
"""Beside it, the name of the node's class."""
_NODES: Final = "/data"  # after the docstore's namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNode:
    """A node in the files of a storage context.

    Attributes:
        content: In `docstore.json`.
        digest: What LlamaIndex compares to know whether a node is another one.
        owner: The document that it is part of, if it is.
        owner_digest: The same of that document, if the node knows it.
        metadata: Beside its vector.
    """

    content: Mapping[str, Any]
    digest: str
    owner: str | None
    owner_digest: str | None
    metadata: Mapping[str, Any]


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

    def document(self, key: str, node_id: str) -> Document:
        """A node, by what LlamaIndex writes of it into databases; without a text if it cannot be read."""
        span = self._places.find("node", node_id)
        found = None if span is None else _flat(self._file.value(span))
        text, content, metadata = (None, "", {}) if found is None else found
        return Document(key=key, id=node_id, text=text, content=content, metadata=metadata, framework="llama-index")


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


def stored_node(metadata: Mapping[str, Any], text: str) -> StoredNode:
    """A node that is part of the metadata of its text, as the files of a storage context have it.

    Args:
        metadata: Of the text; `_node_content` is the node.
        text: The node's own text.
    """
    try:
        from llama_index.core.schema import BaseNode, ImageDocument
        from llama_index.core.schema import Document as WholeDocument
        from llama_index.core.storage.docstore.utils import doc_to_json
        from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
    except ImportError as error:
        raise _missing() from error
    # Files can have whole documents among the nodes, which are read from databases as something else.
    classes = {each.class_name(): each for each in (WholeDocument, ImageDocument)}
    node: BaseNode
    if (whole := classes.get(metadata.get(KIND_OF_NODE, ""))) is not None:
        node = whole.from_json(metadata[NODE])
        node.set_content(text)
    else:
        node = metadata_dict_to_node(dict(metadata), text=text)
    found = node_to_metadata_dict(node, remove_text=True, flat_metadata=False)
    found.pop(NODE, None)
    source = node.source_node
    return StoredNode(
        content=doc_to_json(node),
        digest=node.hash,
        owner=node.ref_doc_id,
        owner_digest=None if source is None else source.hash,
        metadata=found,
    )


def with_text(metadata: Mapping[str, Any], text: str) -> dict[str, Any]:
    """A node that is part of the metadata of its text, with the text in it, as some databases have it."""
    try:
        from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
    except ImportError as error:
        raise _missing() from error
    made: dict[str, Any] = node_to_metadata_dict(metadata_dict_to_node(dict(metadata), text=text), flat_metadata=False)
    return made


def node_with_text(row: Row) -> Document:
    """A row whose metadata are a node with its text in it."""
    try:
        from llama_index.core.schema import MetadataMode
        from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
    except ImportError as error:
        raise _missing() from error
    if row.text is None:  # it cannot be read
        return replace(as_document(row), framework="llama-index")
    node = metadata_dict_to_node(dict(row.metadata))
    return Document(
        key=row.key,
        id=node.node_id,
        text=row.text,
        content=node.get_content(MetadataMode.NONE),
        metadata=node_to_metadata_dict(node, remove_text=True, flat_metadata=False),
        framework="llama-index",
    )


def empty_index(index_id: str) -> dict[str, Any]:
    """What the index of a storage context without nodes is written as."""
    try:
        from llama_index.core.data_structs.data_structs import IndexDict
        from llama_index.core.storage.index_store.utils import index_struct_to_json
    except ImportError as error:
        raise _missing() from error
    made: dict[str, Any] = index_struct_to_json(IndexDict(index_id=index_id))
    return made


def _flat(stored: Any) -> tuple[str, str, dict[str, Any]] | None:
    try:
        from llama_index.core.schema import MetadataMode
        from llama_index.core.storage.docstore.utils import json_to_doc
        from llama_index.core.vector_stores.utils import node_to_metadata_dict
    except ImportError as error:
        raise _missing() from error
    try:
        node = json_to_doc(stored)
        embedded, content = node.get_content(MetadataMode.EMBED), node.get_content(MetadataMode.NONE)
        return embedded, content, node_to_metadata_dict(node, remove_text=True, flat_metadata=False)
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
