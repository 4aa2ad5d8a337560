"""Where an endpoint computes, as found out and not as declared.

An address is this machine's own if all that its host resolves to is loopback, and if it is asked directly: with a proxy
in between, the proxy sees every word. Who listens there is not known: a server on this machine may pass on what it is
sent. Of Ollama it is known that it does so for models whose names say so.
"""

import ipaddress
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.router.candidates import Location
from mlx_integrations.seal import is_loopback_address

__all__ = ["Locator"]

_KEEP_SECONDS: Final = 5.0
_PLAIN_ADDRESS: Final = re.compile(r"https?://[A-Za-z0-9._~:/\[\]%@!$&'()*+,;=-]+", re.IGNORECASE)
"""Without what programs read differently, such as backslashes."""
_OLLAMA_CLOUD: Final = re.compile(r"[:-]cloud$", re.IGNORECASE)
"""Ollama on this machine hands these to ollama.com: https://docs.ollama.com/cloud."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Locator:
    """Finds out where endpoints are. Safe from any thread; looks up names, so keep it off event loops.

    Args:
        local_hosts: Hosts that the user counts as their own machine: names, addresses, or networks such as
            `192.168.1.0/24`.
        resolve: All numeric addresses of a host; raises `OSError` if there are none.
        proxies: Proxies by scheme, and `no` with the hosts that are asked without one.
        clock: Seconds that only go up.
        keep_seconds: For how long an address counts as looked up.

    Raises:
        ConfigurationError: One of the hosts is none.
    """

    def __init__(
        self,
        local_hosts: Iterable[str] = (),
        *,
        resolve: Callable[[str], list[str]] | None = None,
        proxies: Callable[[], Mapping[str, str]] | None = None,
        clock: Callable[[], float] = time.monotonic,
        keep_seconds: float = _KEEP_SECONDS,
    ) -> None:
        self._names: set[str] = set()
        self._networks: list[Network] = []
        for host in local_hosts:
            self._list(host)
        self._resolve = resolve or _addresses
        self._proxies = proxies or _system_proxies
        self._clock = clock
        self._keep_seconds = keep_seconds
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str | None, bool], tuple[float, Location]] = {}

    def locate(
        self, base_url: str | None, *, model: str | None = None, uses_proxies: bool = True, fresh: bool = False
    ) -> Location:
        """Where a candidate computes. What cannot be found out counts as remote.

        Args:
            base_url: Its address; `None` for a model in this process.
            model: The model that it is asked for.
            uses_proxies: Whether whoever asks it obeys HTTP_PROXY and the like.
            fresh: Whether to look again although it was looked up a moment ago.
        """
        if base_url is None:
            return "in-process"
        key = (base_url, model, uses_proxies)
        with self._lock:
            known = self._known.get(key)
        if known is not None and not fresh and self._clock() - known[0] < self._keep_seconds:
            return known[1]
        location = self._find(base_url, model, uses_proxies)
        with self._lock:
            self._known[key] = (self._clock(), location)
        return location

    def _list(self, host: str) -> None:
        name = host.strip().strip("[]").rstrip(".").lower()
        try:
            self._networks.append(ipaddress.ip_network(name, strict=False))
        except ValueError:
            if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", name):
                raise ConfigurationError(
                    f"`{host}` in `local_hosts` is no host.",
                    hint="Give a name such as `mac-studio.local`, an address, or a network such as `192.168.1.0/24`.",
                ) from None
            self._names.add(name)

    def _find(self, base_url: str, model: str | None, uses_proxies: bool) -> Location:
        parts = _parts(base_url)
        host = (parts.hostname or "").rstrip(".") if parts is not None else ""
        if parts is None or not host or (model and _OLLAMA_CLOUD.search(model)):
            return "remote"
        if uses_proxies and _goes_through_proxy(parts.scheme, host, self._proxies()):
            return "remote"
        if host in self._names:
            return "listed"
        try:
            addresses = [host] if _is_numeric(host) else self._resolve(host)
        except (OSError, UnicodeError):
            return "remote"
        if addresses and all(is_loopback_address(address) for address in addresses):
            return "loopback"
        if addresses and all(self._is_listed(address) for address in addresses):
            return "listed"
        return "remote"

    def _is_listed(self, text: str) -> bool:
        address = ipaddress.ip_address(text.partition("%")[0])
        return is_loopback_address(text) or any(address in network for network in self._networks)


def _parts(base_url: str) -> SplitResult | None:
    try:
        return urlsplit(base_url) if _PLAIN_ADDRESS.fullmatch(base_url) else None
    except ValueError:
        return None


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _goes_through_proxy(scheme: str, host: str, proxies: Mapping[str, str]) -> bool:
    """Whether an HTTP client asks a proxy for a host; libraries differ in what `no` may say, so only the host itself
    counts, or all hosts.
    """
    if not (proxies.get(scheme) or proxies.get("all")):
        return False
    exempt = {item.strip().strip("[]").lower() for item in proxies.get("no", "").split(",")}
    return not exempt & {host, "*"}


def _addresses(host: str) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def _system_proxies() -> Mapping[str, str]:
    """Those of the environment; on macOS and Windows, without any, those of the system."""
    from urllib.request import getproxies

    return getproxies()
