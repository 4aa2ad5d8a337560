"""Checks of the way to the Hub: whether it is switched off, the token, the server, the age of the list of models."""

from datetime import UTC, datetime
from typing import Final

from mlx_integrations.cli.diagnosis.finding import Finding
from mlx_integrations.cli.diagnosis.surroundings import Surroundings
from mlx_integrations.errors import HubError, RegistryError

__all__ = ["check_hub", "check_offline", "check_registry", "check_token"]

_TIMEOUT_SECONDS: Final = 4.0
_DAY_SECONDS: Final = 86_400
_OLD_LIST_DAYS: Final = 270
_OLD_REFRESHES: Final = 4  # so many missed ones in a row are no accident
_GOOD, _BAD_TOKEN = 200, 401


def check_offline(around: Surroundings) -> Finding:
    """Whether the network is switched off, and who says so."""
    if not around.settings.offline:
        return Finding(status="ok", text="on", facts={"offline": False})
    origin = around.origins.get("offline")
    words = f"switched off by {origin.place}" if origin and origin.place else "switched off by --offline"
    return Finding(status="ok", text=words, facts={"offline": True, "by": origin.place if origin else ""})


def check_token(around: Surroundings) -> Finding:
    """Whether there is a token. Never which."""
    has_token = around.manager().has_token
    origin = around.origins.get("hub.token")
    where = origin.place if origin and origin.place else "saved by hf auth login"
    facts = {"has_token": has_token, "from": where if has_token else None}
    text = where if has_token else "none; only private and gated models need one"
    return Finding(status="ok", text=text, facts=facts)


def check_hub(around: Surroundings) -> Finding:
    """Whether the Hub answers, and takes the token."""
    if around.settings.offline:
        return Finding(status="skip", text="not asked: the network is switched off")
    if around.problems:
        return Finding(status="skip", text="not asked: the configuration, which may forbid it, cannot be read")
    manager = around.manager()
    try:
        greeting = manager.greet_hub(_TIMEOUT_SECONDS)
    except HubError as error:
        return Finding(status="fail", text=error.message, repair=error.hint)
    facts = {"host": greeting.host, "seconds": round(greeting.seconds, 3), "status": greeting.status}
    text = f"{greeting.host} answers in {greeting.seconds:.1f} s"
    if greeting.status == _BAD_TOKEN and manager.has_token:
        return Finding(status="warn", text=f"{text}, and refuses the token", repair="hf auth login", facts=facts)
    if greeting.status >= 500:
        return Finding(status="warn", text=f"{text}, with status {greeting.status}", repair="Try later", facts=facts)
    accepted = ", and takes the token" if greeting.status == _GOOD and manager.has_token else ""
    return Finding(status="ok", text=text + accepted, facts=facts)


def check_registry(around: Surroundings) -> Finding:
    """The list of known models: whether it can be read, and how old it is."""
    try:
        registry = around.registry()
    except RegistryError as error:
        return Finding(status="fail", text=error.message, repair=error.hint)
    fetched_at, failure = around.refreshed_at()
    facts = {
        "models": len(registry.entries),
        "updated": registry.updated or None,
        "source": registry.source,
        "url": around.settings.registry.url,
        "fetched_at": fetched_at,
    }
    text = f"{len(registry.entries)} models ({registry.source})"
    if registry.updated:
        text += f", of {registry.updated}"
    if around.settings.registry.url and not around.settings.offline:
        limit = around.settings.registry.refresh_hours * 3600 * _OLD_REFRESHES
        if failure or fetched_at is None or around.now - fetched_at > limit:
            why = failure or "it was never fetched"
            repair = "mlxi config get registry.url"
            return Finding(status="warn", text=f"{text}; not refreshed: {why}", repair=repair, facts=facts)
    elif _age_days(registry.updated, around.now) > _OLD_LIST_DAYS:
        return Finding(status="warn", text=f"{text}: old", repair="pip install -U mlx-integrations", facts=facts)
    return Finding(status="ok", text=text, facts=facts)


def _age_days(day: str, now: float) -> float:
    """How old a day like `2026-11-21` is; 0 if it is none."""
    try:
        then = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
    return (now - then) / _DAY_SECONDS
