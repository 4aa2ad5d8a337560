"""What a menu of models offers: those that are here, those to download, those that need more memory. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from mlx_integrations.cli.menus import Choice, Section
from mlx_integrations.cli.models.names import short_name
from mlx_integrations.cli.text import Column, disk, memory

if TYPE_CHECKING:
    from mlx_integrations.manager import InstalledModel
    from mlx_integrations.memory_estimate import Fit, FitVerdict
    from mlx_integrations.registry import ModelRegistry, Recommendation

__all__ = ["COLUMNS", "Kind", "Offer", "make_offers", "preselect", "sections_of"]

Kind = Literal["chat", "embedding"]
State = Literal["here", "interrupted", "available", "too large"]

COLUMNS: Final = (
    Column(title="model"),
    Column(title="size", is_number=True, rank=2),
    Column(title="memory", is_number=True, rank=1),
    Column(title="", rank=3),
    Column(title="", rank=4),
)
_TITLES: Final[dict[State, str]] = {
    "here": "On this machine",
    "interrupted": "Downloads that were interrupted",
    "available": "To download",
    "too large": "Needs more memory or disk",
}
_SHOWN: Final[dict[State, int]] = {"here": 12, "interrupted": 6, "available": 6, "too large": 3}
_DEMO: Final = "demo"
_VERDICTS: Final[dict["FitVerdict", str]] = {
    "fits": "fits",
    "tight": "tight",
    "too large": "too large",
    "unknown": "or more",  # the weights fit; what a conversation takes is not known
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A model that a menu shows.

    Attributes:
        name: What it is called in the settings.
        state: Whether it is here, or can be.
        size_bytes: Of its files, or of what has to be downloaded.
        here_bytes: What an interrupted download left of it.
        needed_bytes: What it takes in memory, if that is known.
        note: A word or two about that.
        title: Its name for people.
        is_recommended: Whether the list of models advises it for this machine.
    """

    name: str
    state: State
    size_bytes: int | None = None
    here_bytes: int = 0
    needed_bytes: int | None = None
    note: str = ""
    title: str = ""
    is_recommended: bool = False


def make_offers(
    kind: Kind,
    *,
    installed: "Sequence[InstalledModel]",
    recommended: "Sequence[Recommendation]",
    registry: "ModelRegistry",
    fit: "Callable[[InstalledModel], Fit | None]",
    offline: bool = False,
) -> list[Offer]:
    """What a menu shows.

    Args:
        kind: What the model is wanted for.
        installed: The models on this machine.
        recommended: The known models for this machine, the best first.
        registry: What the models on this machine are called.
        fit: Whether a model on this machine fits its memory.
        offline: Whether nothing can be downloaded.
    """
    by_id = {one.entry.id: one for one in recommended}
    here = [_installed(model, kind, registry, by_id, fit) for model in installed]
    offers = list({offer.name: offer for offer in here if offer is not None}.values())
    order = {name: position for position, name in enumerate(by_id)}
    offers.sort(key=lambda offer: (offer.state != "here", order.get(offer.name, len(order)), offer.name))
    if offline:
        return [offer for offer in offers if offer.state == "here"]
    known = {offer.name for offer in offers}
    return [*offers, *(_known(one) for one in recommended if one.entry.id not in known and one.entry.repo_id)]


def preselect(offers: Sequence[Offer], chosen: str | None) -> Offer | None:
    """What pressing Enter takes.

    Args:
        offers: What there is.
        chosen: What the settings name, if somebody set it.

    Returns:
        What is set; else a download that was interrupted; else the best that is here, the demo model aside; else the
        best to download; else whatever can be taken.
    """
    takable = [offer for offer in offers if offer.state != "too large"]
    tests: tuple[Callable[[Offer], bool], ...] = (
        lambda offer: offer.name == chosen,
        lambda offer: offer.state == "interrupted",
        lambda offer: offer.state == "here" and offer.is_recommended,
        lambda offer: offer.state == "available",
        lambda offer: offer.state == "here" and offer.name != _DEMO,
        lambda offer: True,
    )
    return next((offer for test in tests for offer in takable if test(offer)), None)


def sections_of(
    offers: Sequence[Offer], *, show_all: bool, keep: Offer | None = None
) -> tuple[list[Section], list[Offer]]:
    """A menu, and the offers that have a number in it.

    Args:
        offers: What there is.
        show_all: Whether long lists are shown whole.
        keep: An offer that is shown in any case.
    """
    sections, takable = [], []
    for state, title in _TITLES.items():
        group = [offer for offer in offers if offer.state == state]
        shown = group if show_all else [one for at, one in enumerate(group) if at < _SHOWN[state] or one == keep]
        more = f" ({len(group) - len(shown)} more: m)" if len(shown) < len(group) else ""
        choices = tuple(Choice(cells=_cells(offer), is_enabled=state != "too large") for offer in shown)
        sections.append(Section(title=title + more, choices=choices))
        takable += shown if state != "too large" else []
    return sections, takable


def _installed(
    model: "InstalledModel",
    kind: Kind,
    registry: "ModelRegistry",
    by_id: "Mapping[str, Recommendation]",
    fit: "Callable[[InstalledModel], Fit | None]",
) -> Offer | None:
    """A model on this machine; `None` if it is not for this use, or cannot be run."""
    name = short_name(model, registry)
    entry = registry.get(name)
    if model.is_complete:
        if model.kind != kind or not model.is_usable:
            return None
        found = fit(model)
        return Offer(
            name=name,
            state="here",
            size_bytes=model.size_bytes,
            needed_bytes=found.needed_bytes if found else None,
            note=_VERDICTS[found.verdict] if found else "",
            title=entry.name if entry else "",
            is_recommended=name in by_id and name != _DEMO,
        )
    # Before a model is whole its configuration may be missing, which says what it is for.
    known_kind = model.kind or (entry.kind if entry else None)
    if model.source != "hub" or known_kind not in (kind, None):
        return None
    known = by_id.get(name)
    return Offer(
        name=name,
        state="interrupted",
        size_bytes=entry.download_bytes if entry else None,
        here_bytes=model.size_bytes,
        needed_bytes=known.fit.needed_bytes if known and known.fit else None,
        note=f"{disk(model.size_bytes)} of it are here",
        title=entry.name if entry else "",
    )


def _known(one: "Recommendation") -> Offer:
    is_refused = not one.has_disk or (one.fit is not None and one.fit.is_refused)
    note = "too large for the disk" if not one.has_disk else _VERDICTS[one.fit.verdict] if one.fit else "size not known"
    return Offer(
        name=one.entry.id,
        state="too large" if is_refused else "available",
        size_bytes=one.entry.download_bytes,
        needed_bytes=one.fit.needed_bytes if one.fit else None,
        note=note,
        title=one.entry.name,
        is_recommended=one.is_usable,
    )


def _cells(offer: Offer) -> tuple[str, ...]:
    return (
        offer.name,
        disk(offer.size_bytes) if offer.size_bytes is not None else "",
        memory(offer.needed_bytes) if offer.needed_bytes is not None else "",
        offer.note,
        offer.title,
    )
