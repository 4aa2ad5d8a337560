"""Which model for this machine: estimates before any download, ranked, each with the reason in words."""

from dataclasses import dataclass
from typing import Final

from mlx_integrations.memory_estimate import Fit, MemoryEstimate, estimate_memory, fits, margin_bytes
from mlx_integrations.registry.catalogue import ModelRegistry
from mlx_integrations.registry.entry import ModelEntry, Use
from mlx_integrations.types import Backend, Machine

__all__ = ["MemoryNeeds", "Recommendation", "estimate_entry", "memory_needs", "recommend", "weights_in_memory"]

_GIB = 1024**3
_SHORT_CONTEXT_TOKENS: Final = 2_048
_LONG_CONTEXT_TOKENS: Final = 32_768
_EMBEDDING_TEXT_TOKENS: Final = 512  # where it is not known where a model cuts texts: most do it there or earlier
_EMBEDDING_BATCH_TOKENS: Final[dict[Backend, int]] = {"cpu": 2_048, "metal": 16_384, "cuda": 16_384}
_ORDER = {"fits": 0, "tight": 1, "unknown": 2, "too large": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeeds:
    """What a model needs of the memory that models may use, in half precision or as quantised.

    Attributes:
        minimum_bytes: With a context of 2,048 tokens.
        recommended_bytes: With one of 32,768 tokens, or its whole window if that is shorter.
    """

    minimum_bytes: int
    recommended_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """A model for a use on a machine.

    Attributes:
        entry: The model.
        estimate: What it takes; `None` if the size of its weights is not known.
        fit: Whether that fits; `None` without an estimate.
        reason: Why it stands where it stands, in a sentence.
        has_disk: Whether its download fits the free disk, as far as is known.
    """

    entry: ModelEntry
    estimate: MemoryEstimate | None
    fit: Fit | None
    reason: str
    has_disk: bool = True

    @property
    def is_usable(self) -> bool:
        """Whether it is known to run here."""
        return self.has_disk and self.fit is not None and self.fit.verdict in ("fits", "tight")


def weights_in_memory(entry: ModelEntry, backend: Backend) -> int | None:
    """Bytes that a model's weights take once loaded; on a CPU they are widened to float32."""
    if backend != "cpu":
        return entry.weight_bytes if entry.weight_bytes is not None else entry.size_bytes
    if entry.float32_bytes is not None:
        return entry.float32_bytes
    return None if entry.parameters is None else entry.parameters * 4


def estimate_entry(entry: ModelEntry, *, backend: Backend, context_tokens: int) -> MemoryEstimate | None:
    """What a model of the catalogue would take; `None` if the size of its weights is not known.

    Args:
        entry: The model.
        backend: Where it would run.
        context_tokens: Tokens of prompt and answer together; at most the model's window counts.
    """
    weight_bytes = weights_in_memory(entry, backend)
    if weight_bytes is None:
        return None
    limit = (entry.max_tokens or _EMBEDDING_TEXT_TOKENS) if entry.kind == "embedding" else entry.context_window
    tokens = min(context_tokens, limit) if limit else context_tokens
    width, is_fused = (4, False) if backend == "cpu" else (2, True)
    if entry.kind == "chat":
        return estimate_memory(
            entry.architecture, weight_bytes, tokens, bytes_per_element=width, is_attention_fused=is_fused
        )
    margin = margin_bytes(
        entry.architecture,
        None,
        weight_bytes=weight_bytes,
        step_tokens=_EMBEDDING_BATCH_TOKENS[backend],
        context_tokens=tokens,
        bytes_per_element=width,
        is_attention_fused=is_fused,
    )
    return MemoryEstimate(
        weight_bytes=weight_bytes, cache_bytes=0, margin_bytes=margin, context_tokens=tokens, bytes_per_element=width
    )


def memory_needs(entry: ModelEntry) -> MemoryNeeds | None:
    """What a model needs on a GPU: what the catalogue says, else what the estimate says; `None` if neither does."""
    short = estimate_entry(entry, backend="metal", context_tokens=_SHORT_CONTEXT_TOKENS)
    long = estimate_entry(entry, backend="metal", context_tokens=_LONG_CONTEXT_TOKENS)
    minimum = entry.minimum_memory_bytes or (short.total_bytes if short and short.is_complete else None)
    recommended = entry.recommended_memory_bytes or (long.total_bytes if long and long.is_complete else None)
    if minimum is None or recommended is None:
        return None
    return MemoryNeeds(minimum_bytes=minimum, recommended_bytes=max(minimum, recommended))


def recommend(
    registry: ModelRegistry,
    machine: Machine,
    *,
    use: Use,
    context_tokens: int = 8_192,
    free_disk_bytes: int | None = None,
    freed_bytes: int = 0,
) -> list[Recommendation]:
    """Models for a use, the best one for this machine first, those that do not fit last.

    Of the models that fit, those that the catalogue recommends come first, then the larger ones, because they answer
    better; on a CPU the smaller ones, because every token there reads all weights at the speed of main memory.

    Args:
        registry: The catalogue.
        machine: Where they would run.
        use: What for.
        context_tokens: The context that has to fit.
        free_disk_bytes: Left on the disk that downloads go to; `None` if that does not matter.
        freed_bytes: Memory that the model which is replaced gives back.
    """
    found = []
    for entry in registry.search(use=use):
        estimate = estimate_entry(entry, backend=machine.backend, context_tokens=context_tokens)
        fit = None if estimate is None else _fit(estimate, machine, freed_bytes)
        has_disk = free_disk_bytes is None or (entry.download_bytes or 0) <= free_disk_bytes
        found.append(
            Recommendation(
                entry=entry,
                estimate=estimate,
                fit=fit,
                reason=_reason(entry, estimate, fit, machine, has_disk=has_disk),
                has_disk=has_disk,
            )
        )
    usable = {one.entry.id for one in found if one.is_usable}
    outdated = {old for one in found if one.entry.id in usable for old in one.entry.replaces}
    return sorted(found, key=lambda one: _rank(one, machine, is_outdated=one.entry.id in outdated))


def _fit(estimate: MemoryEstimate, machine: Machine, freed_bytes: int) -> Fit:
    fit = fits(estimate, machine.budget_bytes, freed_bytes)
    if machine.usable_bytes is None and not fit.is_refused:
        return Fit(
            verdict="unknown",
            needed_bytes=fit.needed_bytes,
            budget_bytes=fit.budget_bytes,
            largest_context_tokens=fit.largest_context_tokens,
        )
    return fit


def _rank(one: Recommendation, machine: Machine, *, is_outdated: bool) -> tuple[bool, int, bool, bool, int, str]:
    verdict = _ORDER[one.fit.verdict] if one.fit is not None else _ORDER["unknown"]
    if one.fit is not None and one.fit.is_refused:  # the one that misses by the least comes first
        return (not one.has_disk, verdict, False, False, one.fit.needed_bytes, one.entry.id)
    size = one.entry.parameters or 0
    if machine.backend == "cpu":
        size = -(one.entry.active_parameters or size)
    return (not one.has_disk, verdict, is_outdated, not one.entry.is_recommended, -size, one.entry.id)


def _reason(
    entry: ModelEntry, estimate: MemoryEstimate | None, fit: Fit | None, machine: Machine, *, has_disk: bool
) -> str:
    if estimate is None or fit is None:
        return "The catalogue does not know how large its weights are."
    parts = f"weights {_gib(estimate.weight_bytes)}, "
    if estimate.cache_bytes:
        parts += f"cache {_gib(estimate.cache_bytes)}, "
    needs = (
        f"{_gib(fit.needed_bytes)} at {estimate.context_tokens:,} tokens ({parts}margin {_gib(estimate.margin_bytes)})"
    )
    limit = f"{_gib(fit.budget_bytes)} that models may use here"
    if not has_disk:
        return f"Its download of {_gib(entry.download_bytes or 0)} does not fit the free disk."
    if fit.verdict == "too large":
        shorter = fit.largest_context_tokens
        way = f" It fits with {shorter:,} tokens." if shorter else ""
        return f"It needs {needs}, more than the {limit}.{way}"
    if machine.usable_bytes is None:
        return f"It needs {needs}. What models may use here is unknown until MLX is asked."
    if not estimate.is_complete:
        return f"It needs {needs} and its caches, whose size is not known for this architecture."
    slow = " A CPU is slow with it." if machine.backend == "cpu" and entry.kind == "chat" else ""
    if fit.verdict == "tight":
        return f"It needs {needs}, nearly all of the {limit}.{slow}"
    return f"It needs {needs} of the {limit}.{slow}"


def _gib(count: int) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB // 10 else f"{count / 1024**2:.0f} MiB"
