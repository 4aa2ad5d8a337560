"""What stores say of their state, compared with what journals have kept of it."""

import re
from typing import Final

__all__ = ["is_kept", "is_same_state"]

_ADDED: Final = re.compile("<[0-9a-f:]*>")


def is_same_state(now: str, then: str | None) -> bool:
    """Whether a store is in a state that was kept; an earlier version may have kept it, without what is in `<>`."""
    return then in (now, _ADDED.sub("", now))


def is_kept(kept: str | None, state: str) -> bool:
    """Whether old vectors are what they were when their store was in a state; also if there are none any more."""
    return kept is None or is_same_state(kept, state) or state.startswith(f"{kept} ")
