"""A host that moves, without asking any name server."""

import socket
from typing import Any

import pytest

__all__ = ["moving_host"]


def moving_host(monkeypatch: pytest.MonkeyPatch, name: str, addresses: list[str]) -> None:
    """Let a name resolve to the last of these addresses, to which more may be added later."""
    resolve = socket.getaddrinfo

    def moved(host: Any, *args: Any, **kwargs: Any) -> Any:
        asked = host.decode() if isinstance(host, bytes) else host
        return resolve(addresses[-1] if asked == name else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", moved)
