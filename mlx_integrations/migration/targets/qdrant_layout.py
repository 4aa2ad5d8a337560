"""What a document becomes in a Qdrant, in a folder or on a server: ids, payloads, and what is lost of them."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID, uuid5

from mlx_integrations.migration.records import Document, Held, Loss, Metric, Row
from mlx_integrations.migration.stores.llama_index_nodes import NODE, with_text
from mlx_integrations.migration.stores.qdrant.layout import (
    CONTENT,
    FORMER_ID,
    METRICS,
    OTHER_VECTORS,
    UNNAMED,
    Layout,
    own_id,
)
from mlx_integrations.migration.targets.values import (
    LEFT_OUT,
    Changed,
    is_unicode,
    losses_of_class,
    survivors,
    through_strict_json,
)

__all__ = ["DISTANCES", "LAYOUT", "held_by_qdrant", "point_id"]

LAYOUT: Final = Layout(vector=UNNAMED, content_key=CONTENT)
"""What LangChain and LlamaIndex make when they are told nothing else."""
DISTANCES: Final[Mapping[Metric, str]] = {metric: name for name, metric in METRICS.items()}

_NAMESPACE: Final = UUID("1b0a4a3c-6b0f-5d53-9a53-0c8d7f1a2e6b")
_SHOWN_INSTEAD: Final = ("_id", "_collection_name")
_TOLD_INSTEAD: Final = "kept in the payload, where LangChain shows something of its own by this name"
_TOLD_ID: Final = "an id that is no number and no UUID becomes a UUID; the old one is kept beside it in the payload"
_TOLD_NODE_ID: Final = (
    "an id that is no UUID becomes one; the node has its own as before, and is deleted by the new one"
)


def point_id(document_id: str) -> int | str:
    """The id of a point for a document: its own where Qdrant has such, and otherwise one that follows from it."""
    if isinstance(known := own_id(document_id), int):
        return known
    try:
        if str(UUID(document_id)) == document_id:
            return document_id
    except ValueError:
        pass
    return str(uuid5(_NAMESPACE, document_id.encode("utf-8", "surrogatepass").hex()))


def held_by_qdrant(document: Document) -> Held:
    """A document as a row of Qdrant."""
    new_id = point_id(document.id)
    is_node = document.framework == "llama-index"
    refused = "Qdrant holds no halves of characters in texts and ids"
    if is_unicode(document.content) and is_unicode(document.id):
        refused = ""
    losses: tuple[Loss, ...] = ()
    metadata: dict[str, Any] = {}
    if is_node and document.text is not None:
        payload = with_text(document.metadata, document.content)
        metadata, losses = survivors(payload, _kept_of_node, is_blocking=False)
        losses += losses_of_class(document)
        refused = refused if NODE in metadata else refused or "Qdrant holds no halves of characters in nodes"
    elif not is_node:
        known, losses = survivors(document.metadata, _kept)
        metadata = {"metadata": known}
        losses += tuple(
            Loss(key=name, reason=_TOLD_INSTEAD, is_blocking=False) for name in _SHOWN_INSTEAD if name in known
        )
    if str(new_id) != document.id:
        reason = _TOLD_NODE_ID if is_node else _TOLD_ID
        losses += (Loss(key="id", reason=reason, is_blocking=False),)
        metadata |= {} if is_node else {FORMER_ID: document.id}
    row = Row(key=document.key, id=str(new_id), text=document.text, metadata=metadata, refused=refused)
    return Held(row=row, losses=losses)


def _kept(name: str, value: Any) -> Changed:
    if not is_unicode(name):
        return LEFT_OUT, "a name with halves of characters, left out"
    if name == OTHER_VECTORS:
        return LEFT_OUT, "other vectors of the points, left out"
    return through_strict_json(value)


def _kept_of_node(name: str, value: Any) -> Changed:
    content, reason = _kept(name, value)
    return content, reason and f"{reason.removesuffix(', left out')}; kept in the node, but not to be asked for"
