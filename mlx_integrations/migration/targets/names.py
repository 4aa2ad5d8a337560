"""Which names new stores can have: a wrong one is told before anything is embedded for it."""

import re
from typing import Final

from mlx_integrations.errors import StoreError

__all__ = ["CHROMA", "FAISS", "LANCEDB", "QDRANT", "check_name"]

_MOST_BYTES: Final = 200
"""Names of files have 255, and endings of a run are added to these."""
_OURS: Final = ".mlxi-"

# https://docs.trychroma.com/docs/collections/manage-collections
CHROMA: Final = (
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]+[A-Za-z0-9]"),
    "collection of Chroma",
    "at least 3 letters, digits, `.`, `_` and `-`, with a letter or a digit at both ends",
)
FAISS: Final = (
    re.compile(r"[^/\\.\x00\ud800-\udfff][^/\\\x00\ud800-\udfff]*"),
    "index of FAISS",
    "letters, without `/` and without `.` in front: files are called by it",
)
LANCEDB: Final = (
    re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*"),
    "table of LanceDB",
    "letters, digits, `.`, `_` and `-`, without `.` in front",
)

# https://qdrant.tech/documentation/concepts/collections/#create-a-collection
QDRANT: Final = (
    re.compile(r'(?!\.{1,2}$)[^<>:"/\\|?*\x00\x1f\ud800-\udfff]+'),
    "collection of Qdrant",
    'letters, without any of `< > : " / \\ | ? *`, and not `.` or `..`',
)


def check_name(name: str, rule: tuple[re.Pattern[str], str, str], store: str) -> None:
    """Refuse a name that a store cannot have, or that looks like what a run leaves behind.

    Args:
        name: Of the index, collection or table.
        rule: How such names look, what has them, and the same for people.
        store: Where it would be, for the error.

    Raises:
        StoreError: It cannot have that name.
    """
    pattern, what, words = rule
    if not pattern.fullmatch(name) or len(name.encode("utf-8", "surrogatepass")) > _MOST_BYTES or _OURS in name:
        message = f"No {what} can have the name `{name}`."
        hint = f"Choose one of {words}; at most {_MOST_BYTES} bytes, and no `{_OURS}` in it."
        raise StoreError(message, store=store, hint=hint)
