"""From a user's embedding models to one that routes among them: where each of them computes, and what is allowed."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Final, TypeVar

from mlx_integrations.errors import ConfigurationError, InvalidRequestError, MLXIntegrationsError
from mlx_integrations.fingerprint import EmbeddingFingerprint
from mlx_integrations.protocols import EmbeddingBackend
from mlx_integrations.router.candidates import Location
from mlx_integrations.router.embedding_space import EmbeddingCandidate
from mlx_integrations.router.embeddings import RoutedEmbeddingBackend
from mlx_integrations.router.failures import Failure, classify
from mlx_integrations.router.location import Locator
from mlx_integrations.router.policy import Policy
from mlx_integrations.sidecar import SIDECAR_NAME, read_sidecar, sidecar_of

__all__ = ["Members", "Space", "explained", "named", "policy_of_settings", "profile_allows", "routed"]

M = TypeVar("M")
Members = Mapping[str, M] | Sequence[M]
Space = EmbeddingFingerprint | str | PathLike[str]

_IN_PROCESS: Final = ("mlx_integrations.runtime.", "mlx_integrations.testing.")
_OWN_CLIENT: Final = ("mlx_integrations.cloud.",)
"""Asks this machine directly, whatever HTTP_PROXY says."""
_ADDRESSES: Final = ("base_url", "openai_api_base", "api_base", "azure_endpoint")
_NAMES: Final = ("model", "model_name", "model_id")


def named(models: "Members[M]") -> dict[str, M]:
    """Models by name; those of a list by the name of what they run.

    Raises:
        InvalidRequestError: There are none, or two of one name.
    """
    if isinstance(models, Mapping):
        found = {str(name): model for name, model in models.items()}
    else:
        found = {}
        for model in models:
            name = name_of(model)
            if name in found:
                raise InvalidRequestError(
                    f"Two models are named `{name}`.",
                    field="models",
                    hint='Name them yourself: `{"here": ..., "there": ...}`.',
                )
            found[name] = model
    if not found:
        raise InvalidRequestError("There is no model to embed with.", field="models")
    return found


def name_of(model: object) -> str:
    """What a framework's model calls the model that it runs."""
    given = (getattr(model, name, None) for name in _NAMES)
    return next((name for name in given if isinstance(name, str)), type(model).__name__)


def routed(
    models: Mapping[str, Any],
    backend_of: Callable[[str, Any], EmbeddingBackend],
    *,
    inner: Callable[[Any], EmbeddingBackend | None],
    is_ours: Callable[[Any], bool],
    same_space: bool | Collection[str],
    local: Collection[str],
    policy: Policy | None,
    allow_cloud: bool | None,
    private: bool,
    space: Space | None,
    **options: Any,
) -> RoutedEmbeddingBackend:
    """The backend behind a framework's routed model.

    Args:
        models: The framework's models, by name.
        backend_of: Makes a backend of one, under its name.
        inner: The backend that was given to a model of this package by hand, if one was.
        is_ours: Whether a model is of this package.
        same_space: Which of them the user declares equal to the first one; `True` for all.
        local: Names of models that the user vouches for: what they are asked stays with the user.
        policy: What the user wants; as the settings say if `None`.
        allow_cloud: Goes before what the policy says.
        private: Whether all texts must stay on this machine.
        space: A fingerprint, or a store or file that has one.
        **options: The other arguments of `RoutedEmbeddingBackend`.

    Raises:
        InvalidRequestError: Something is set up wrongly.
        SidecarError: The record of the store cannot be read.
    """
    for field, names in (("local", local), ("same_space", () if isinstance(same_space, bool) else same_space)):
        if unknown := sorted(set(names) - set(models)):
            hint = "The models are " + ", ".join(f"`{name}`" for name in models) + "."
            raise InvalidRequestError(f"`{field}` names `{unknown[0]}`, which is none of them.", field=field, hint=hint)
    rules, locator = _policy(policy, allow_cloud), Locator(_local_hosts())
    equal = set(models) if same_space is True else set(same_space or ())
    candidates = []
    for position, (name, model) in enumerate(models.items()):
        location, locate = _where(model, inner(model) if is_ours(model) else None, is_ours(model), locator)
        if name in local and location == "remote":
            location, locate = "listed", None
        candidates.append(
            EmbeddingCandidate(
                name=name,
                backend=backend_of(name, model),
                location=location,
                is_declared_equal=name in equal and (position > 0 or space is not None),
                locate=locate,
            )
        )
    return RoutedEmbeddingBackend(
        candidates, policy=rules, is_private=private, record=_record(space), explain_failure=explained, **options
    )


def policy_of_settings() -> Policy:
    """What the section `router` of the settings says of where texts may go."""
    from mlx_integrations.assembly import get_settings

    settings = get_settings()
    return Policy(
        mode=settings.router.mode,
        allow_cloud=settings.router.allow_cloud,
        is_offline=settings.offline,
        detectors=settings.router.detectors,
        private_words=settings.router.private_words,
        private_patterns=settings.router.private_patterns,
    )


def profile_allows(name: str, asked: bool | None) -> bool:
    """Whether another model may embed the texts of a profile.

    Args:
        name: The profile.
        asked: What the caller wants, if they say.

    Raises:
        ConfigurationError: There is no such profile, or it forbids what the caller wants.
    """
    from mlx_integrations.assembly import get_settings

    allows = get_settings().embedding.profile(name).allow_fallback
    if asked and not allows:
        raise ConfigurationError(
            f"The profile `{name}` allows no fallback.",
            hint=f"Leave out `allow_fallback`, or set it in the section `[embedding.profiles.{name}]`.",
        )
    return allows if asked is None else asked


def explained(error: Exception) -> Failure:
    """Which failure an error is, those of HTTP clients included: they have a `status_code`."""
    status = getattr(error, "status_code", None)
    if isinstance(error, MLXIntegrationsError) or not isinstance(status, int):
        return classify(error)
    if status in (401, 403):
        return Failure(kind="authentication", status=status)
    if status == 429:
        return Failure(kind="rate_limit", status=status)
    if status == 404:
        return Failure(kind="missing_model", status=status)
    is_refused = 400 <= status < 500 and status != 408
    return Failure(kind="invalid_request" if is_refused else "unavailable", status=status)


def _policy(policy: Policy | None, allow_cloud: bool | None) -> Policy:
    rules = policy_of_settings() if policy is None else policy
    if allow_cloud is None or allow_cloud == rules.allow_cloud:
        return rules
    # A mode that needs a cloud contradicts a call that forbids it; the call is nearer.
    return replace(rules, allow_cloud=allow_cloud, mode=rules.mode if allow_cloud else "local_only")


def _local_hosts() -> Iterable[str]:
    from mlx_integrations.assembly import get_settings

    return get_settings().router.local_hosts


def _where(
    model: object, backend: EmbeddingBackend | None, is_ours: bool, locator: Locator
) -> tuple[Location, Callable[[], Location] | None]:
    """Where a model computes, and how to find out again. What cannot be found out counts as remote."""
    asked: object = model if backend is None else backend
    if is_ours and (backend is None or _is_from(backend, _IN_PROCESS)):
        return "in-process", None
    if isinstance(asked, RoutedEmbeddingBackend):
        return asked.location, None
    address = next((value for name in _ADDRESSES if (value := _text(getattr(asked, name, None)))), None)
    if address is None:
        return "remote", None
    runs = name_of(asked)

    def locate() -> Location:
        return locator.locate(address, model=runs, uses_proxies=not _is_from(asked, _OWN_CLIENT))

    return locate(), locate


def _is_from(thing: object, rooms: tuple[str, ...]) -> bool:
    return any(f"{cls.__module__}.".startswith(rooms) for cls in type(thing).__mro__)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _record(space: Space | None) -> EmbeddingFingerprint | None:
    if space is None or isinstance(space, EmbeddingFingerprint):
        return space
    path = Path(os.fspath(space)).expanduser()
    record = read_sidecar(path if path.name.endswith(SIDECAR_NAME) else sidecar_of(path))
    if record is None:
        raise InvalidRequestError(
            f"There is no fingerprint beside `{path}`.",
            field="space",
            hint="Name a store that `guarded` has saved, or a fingerprint; for a store that is yet to be filled, use "
            "`for_new_store=True`.",
        )
    return record
