"""What the tour says about models that this machine could hold: known before a byte of them is downloaded."""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final, get_args

from rich.table import Table

from mlx_integrations.registry import ModelEntry, ModelRegistry, Recommendation, recommend
from mlx_integrations.registry.entry import Use
from mlx_integrations.registry.selection import estimate_entry
from mlx_integrations.types import Machine

__all__ = ["Suited", "suited_models", "suited_table"]

_GIB: Final = 1024**3
_STEP_TOKENS: Final = 256


@dataclass(frozen=True)
class Suited:
    """The best model for a use on a machine.

    Attributes:
        use: What for.
        model_id: Its name.
        download_bytes: What has to be downloaded.
        needed_bytes: Memory that it takes with a context of 8,192 tokens, or a text as long as it reads.
        budget_bytes: Memory that models may use.
        is_usable: Whether that fits.
        largest_context_tokens: Tokens of conversation that fit, at most the model's window; 0 for embedding models.
    """

    use: Use
    model_id: str
    download_bytes: int
    needed_bytes: int
    budget_bytes: int
    is_usable: bool
    largest_context_tokens: int


def suited_models(registry: ModelRegistry, machine: Machine) -> tuple[Suited, ...]:
    """For each use the first recommendation; where nothing fits, the model that misses by the least."""
    return tuple(_suited(use, recommend(registry, machine, use=use)[0], machine) for use in get_args(Use))


def suited_table(models: tuple[Suited, ...]) -> Table:
    """The same for a person."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 1), header_style="dim")
    for heading in ("for", "model"):  # names are there to be typed
        table.add_column(heading, no_wrap=True, overflow="fold")
    for heading in ("download", "memory", "context"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for one in models:
        table.add_row(
            one.use,
            one.model_id,
            f"{one.download_bytes / 10**9:.1f} GB",
            f"{one.needed_bytes / _GIB:.1f} GiB",
            f"{one.largest_context_tokens:,}" if one.largest_context_tokens else "",
            "fits" if one.is_usable else f"too large by {(one.needed_bytes - one.budget_bytes) / _GIB:.1f} GiB",
        )
    return table


def _suited(use: Use, best: Recommendation, machine: Machine) -> Suited:
    entry, fit = best.entry, best.fit
    return Suited(
        use=use,
        model_id=entry.id,
        download_bytes=entry.download_bytes or 0,
        needed_bytes=fit.needed_bytes if fit else 0,
        budget_bytes=fit.budget_bytes if fit else machine.budget_bytes,
        is_usable=best.is_usable,
        largest_context_tokens=_largest_context(entry, machine) if entry.kind == "chat" else 0,
    )


def _largest_context(entry: ModelEntry, machine: Machine) -> int:
    """The longest conversation whose weights, caches and work fit together, to the step in which caches grow."""

    def is_too_large(steps: int) -> bool:
        estimate = estimate_entry(entry, backend=machine.backend, context_tokens=steps * _STEP_TOKENS)
        return estimate is None or estimate.total_bytes > machine.budget_bytes

    steps = range(1, (entry.context_window or 0) // _STEP_TOKENS + 1)
    return bisect_left(steps, True, key=is_too_large) * _STEP_TOKENS
