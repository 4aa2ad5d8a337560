"""From a user's chat models to candidates of a router: what the user says of them, and where each computes."""

import difflib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from mlx_integrations.errors import ConfigurationError, InvalidRequestError
from mlx_integrations.router.candidates import Candidate, Location
from mlx_integrations.router.location import Locator
from mlx_integrations.router.policy import Policy
from mlx_integrations.types import ModelCapabilities

__all__ = [
    "EndsSeen",
    "ModelFacts",
    "addresses_of",
    "candidate_with",
    "check_facts",
    "locate_all",
    "locate_backend",
    "policy_with_first",
]

_FAKES: Final = "mlx_integrations.testing"
_OWN_CLIENT: Final = "mlx_integrations.cloud."
"""Asks this machine directly, whatever HTTP_PROXY says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What you know of a model and nobody else can tell.

    Attributes:
        tasks: Tasks it is good at, such as `code`.
        languages: ISO 639-1 codes of languages it knows; `None` if you cannot say.
        input_price: US dollars for a million prompt tokens.
        output_price: The same for tokens of the answer.
        group: Models of one group are equals: the least busy one goes first.
        max_concurrent: Calls that it takes at the same time.
        context_window: Tokens of prompt and answer together, where the model itself does not say.
        is_local: `None` finds out by its address. `True` vouches for it that what it is asked stays with you, which is
            needed for models of other packages that run in this process, and for backends of your own: nobody can
            look into them. `False` says that what listens at an address of this machine passes on what it is asked,
            as a proxy does.
        can_continue: Asked with an assistant's message at the end, it writes on from there, and does not begin anew.
    """

    tasks: frozenset[str] = frozenset()
    languages: frozenset[str] | None = None
    input_price: float | None = None
    output_price: float | None = None
    group: str | None = None
    max_concurrent: int | None = None
    context_window: int | None = None
    is_local: bool | None = None
    can_continue: bool = False


class EndsSeen:
    """Which candidates say why an answer ended.

    One that has done so once always does: an answer of it without a reason was cut off. Of one that never did, an
    answer counts as complete when its stream ends.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = set(names)

    def add(self, name: str) -> None:
        """Note that this candidate gave a reason."""
        self._names.add(name)

    def __contains__(self, name: str) -> bool:
        return name in self._names


def check_facts(facts: Collection[str], names: Collection[str]) -> None:
    """Refuse facts about a model that is not there.

    Raises:
        ConfigurationError: There are some; the hint says the nearest name that exists.
    """
    for name in facts:
        if name not in names:
            raise ConfigurationError(
                f"`facts` is about `{name}`, which is none of the models.", hint=_nearest(name, names)
            )


def policy_with_first(policy: Policy, name: Any, names: Collection[str]) -> Policy:
    """The policy, for a call that names a model with that one first.

    Args:
        policy: What holds otherwise.
        name: The model; `None` if the call names none.
        names: Those that there are.

    Raises:
        InvalidRequestError: There is no such model; the hint says the nearest name that exists.
    """
    if name is None:
        return policy
    if name not in names:
        raise InvalidRequestError(f"`{name}` is none of the models.", field="model", hint=_nearest(str(name), names))
    return replace(policy, first=str(name))


def candidate_with(
    name: str, location: Location, capabilities: ModelCapabilities | None, facts: ModelFacts
) -> Candidate:
    """A model as the router knows it."""
    return Candidate(
        name=name,
        location=location,
        capabilities=capabilities,
        tasks=facts.tasks,
        languages=facts.languages,
        input_price=0.0 if location == "in-process" else facts.input_price,
        output_price=0.0 if location == "in-process" else facts.output_price,
        group=facts.group,
        max_concurrent=facts.max_concurrent,
    )


def locate_backend(backend: Any, model: str, facts: ModelFacts, locator: Locator, *, fresh: bool = False) -> Location:
    """Where a model of this package computes.

    Args:
        backend: What was given to it by hand; `None` for the runtime of this process. It may be anything: one with an
            address is looked up, one that routes is not looked through.
        model: The model's name.
        facts: What the user says of it.
        locator: Looks addresses up.
        fresh: Whether to look again although it was looked up a moment ago.
    """
    if facts.is_local is False:
        return "remote"
    room = "" if backend is None else f"{type(backend).__module__}."
    if backend is None or room.startswith(f"{_FAKES}."):
        return "in-process"
    if facts.is_local:
        return "listed"
    address = getattr(backend, "base_url", None)
    if address is None:
        return "remote"
    # What the endpoint is asked for may differ from what the model is called here.
    names = {model, str(getattr(backend, "model_id", model))}
    direct = room.startswith(_OWN_CLIENT)
    return _farthest(
        locator.locate(str(address), model=name, uses_proxies=not direct, fresh=fresh) for name in sorted(names)
    )


def locate_all(addresses: Collection[str], model: Any, locator: Locator, *, fresh: bool = False) -> Location:
    """Where a model of another package computes that is asked at some of these addresses.

    Args:
        addresses: All that the model may use. Without any nobody knows, and that counts as remote.
        model: What it calls the model that it runs.
        locator: Looks addresses up.
        fresh: Whether to look again although it was looked up a moment ago.
    """
    name = str(model) if model else None
    return _farthest(locator.locate(address, model=name, fresh=fresh) for address in sorted(addresses))


def addresses_of(model: Any, paths: Iterable[str]) -> Iterator[str]:
    """The addresses that a model keeps at any of these paths of attributes."""
    for path in paths:
        value: Any = model
        for part in path.split("."):
            value = getattr(value, part, None)
        if value is not None and not callable(value) and str(value):
            yield str(value)


def _nearest(name: str, names: Collection[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listed = ", ".join(f"`{known}`" for known in names)
    return f"Did you mean `{near[0]}`?" if near else f"There are {listed}."


def _farthest(locations: Iterable[Location]) -> Location:
    found = set(locations)
    if len(found) == 1:
        return found.pop()
    return "remote" if "remote" in found or not found else "listed"
