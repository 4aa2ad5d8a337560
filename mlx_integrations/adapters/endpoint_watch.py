"""Looking in the background whether the endpoints of a router are there."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlx_integrations.router.attempts import Router

if TYPE_CHECKING:  # so that a router does not wait for the client of OpenAI
    from mlx_integrations.cloud.client import Connection

__all__ = ["watch_endpoints"]


def watch_endpoints(router: Router, backends: Mapping[str, Any], *, interval_seconds: float) -> tuple[str, ...]:
    """Ask endpoints now and then which models they offer; one that does not answer is left alone until it does.

    Args:
        router: Told what was found. `Router.close` ends it.
        backends: What answers for each candidate; those without a connection of this package are not looked after.
        interval_seconds: How often.

    Returns:
        The names of the candidates that are looked after.
    """
    connections: dict[str, Connection] = {}
    models: dict[str, str] = {}
    for name, backend in backends.items():
        if hasattr(backend, "connection"):
            connections[name], models[name] = backend.connection, backend.model
    names = tuple(connections)
    if not names:
        return ()

    def is_there(name: str) -> bool:
        from mlx_integrations.cloud.health import probe

        health = probe(connections[name])
        return health.is_ready and health.offers(models[name])

    router.watch(is_there, interval_seconds=interval_seconds, names=names)
    return names
