"""What stores of several kinds say of their rows in the same words."""

from collections.abc import Mapping, Sequence
from typing import Final

from mlx_integrations.migration.records import Finding

__all__ = ["EXAMPLES", "NO_TEXT", "missing_texts", "several_sizes"]

EXAMPLES: Final = 5
"""How many ids a finding shows."""
NO_TEXT: Final = "There is no text for them, and so nothing to embed."


def missing_texts(count: int, ids: Sequence[str], message: str = NO_TEXT, *, is_final: bool = False) -> Finding:
    """Rows without a text.

    Args:
        count: Of them.
        ids: Of some or all.
        message: For people.
        is_final: Whether the store cannot leave them out.
    """
    examples = tuple(ids[:EXAMPLES])
    return Finding(
        code="missing-texts", message=message, count=count, examples=examples, is_blocking=True, is_final=is_final
    )


def several_sizes(sizes: Mapping[int, int], consequence: str) -> Finding:
    """Vectors of which not all have the same dimensions.

    Args:
        sizes: How many there are of each.
        consequence: What does not work with them, in words.
    """
    told = ", ".join(f"{count} of {size}" for size, count in sorted(sizes.items()))
    message = f"Vectors of several sizes: {told} coordinates. {consequence}; the new ones are of one size."
    return Finding(code="mixed-dimensions", message=message, count=sum(sizes.values()) - max(sizes.values()))
