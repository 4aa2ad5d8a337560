"""Keep what is asked on this machine: `seal()` switches off what other libraries would send on their own, and can watch
whether anything in this process still tries to reach another machine.

The watch hears of what goes through Python's `socket` module, from any thread or event loop of this process: that is
how httpx, requests, openai, huggingface_hub and urllib3 connect. It does not hear of libraries that open connections in
C or Rust themselves (gRPC, hf-xet, uvloop), of other programs that this one starts, nor of servers on this machine that
pass on what they are sent. It sees connections, not what goes through those that were open before. It is a net below
the router's filter, and no firewall: code that wants to get around it can.
"""

import ipaddress
import logging
import os
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any, Final, Literal

from mlx_integrations.errors import PrivacyError
from mlx_integrations.offline import switch_off_network

__all__ = ["Contact", "NetworkWatch", "is_loopback_address", "seal", "watch_network"]

_logger = logging.getLogger(__name__)
_KEPT: Final = 1000
_CONNECTING: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_ASKING: Final = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
"""Python's names for what is watched: https://docs.python.org/3/library/audit_events.html."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """A try to reach another machine.

    Attributes:
        event: Python's name for it, such as `socket.connect`.
        host: The address, or the name that was looked up.
        port: The port, where there is one.
    """

    event: str
    host: str
    port: int | None = None


class NetworkWatch:
    """Watches until it is closed. Made by `watch_network`; several may watch at the same time.

    Attributes:
        contacts: The latest tries to reach another machine.
    """

    def __init__(
        self, *, refuses: bool, allow_hosts: Iterable[str], on_contact: Callable[[Contact], None] | None
    ) -> None:
        self.contacts: deque[Contact] = deque(maxlen=_KEPT)
        self._refuses = refuses
        self._allowed = frozenset(host.lower() for host in (*allow_hosts, "localhost", socket.gethostname()))
        self._on_contact = on_contact
        self._within = threading.local()

    def close(self) -> None:
        """Stop watching."""
        if self in _watches:
            _watches.remove(self)

    def __enter__(self) -> "NetworkWatch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Look at one event.

        Raises:
            PrivacyError: It would reach another machine, and this watch refuses that.
        """
        contact = _contact(event, arguments)
        if contact is None or contact.host.lower().rstrip(".") in self._allowed:
            return
        self.contacts.append(contact)
        # What is told of a contact may itself try to reach another machine, such as a log that is kept there.
        if not getattr(self._within, "is_telling", False):
            self._within.is_telling = True
            try:
                (self._on_contact or _log)(contact)
            finally:
                self._within.is_telling = False
        if self._refuses:
            raise PrivacyError(
                f"This process is sealed: it must not reach `{contact.host}` (`{contact.event}`).",
                hint="List the host in `allow_hosts`, or leave out the watch.",
            )


_watches: list[NetworkWatch] = []
_hook_lock = threading.Lock()
_is_hooked = False


def seal(
    *,
    watch: Literal["off", "report", "refuse"] = "off",
    allow_hosts: Iterable[str] = (),
    on_contact: Callable[[Contact], None] | None = None,
    environ: MutableMapping[str, str] = os.environ,
    modules: Mapping[str, ModuleType] = sys.modules,
) -> NetworkWatch | None:
    """Switch off, until the process ends, what other libraries send on their own: traces to LangSmith, downloads from
    the Hub, telemetry, lists of prices. What a router was told to send to the cloud is another matter: its policy says.

    Tracing is switched off for all chains and agents of the process, also where it was in use before.

    Args:
        watch: `report` also tells of every try of Python code to reach another machine; `refuse` lets it fail with
            `PrivacyError`. See the top of this module for what cannot be seen.
        allow_hosts: Names and addresses that may be reached although they are not this machine.
        on_contact: Is told of each try, in the thread that makes it; a warning is logged otherwise.
        environ: Where variables are set.
        modules: The modules that were imported so far.

    Returns:
        The watch, if there is one.
    """
    switch_off_network(environ, modules)
    if watch == "off":
        return None
    return watch_network(refuses=watch == "refuse", allow_hosts=allow_hosts, on_contact=on_contact)


def watch_network(
    *,
    refuses: bool = False,
    allow_hosts: Iterable[str] = (),
    on_contact: Callable[[Contact], None] | None = None,
) -> NetworkWatch:
    """Watch whether anything in this process tries to reach another machine; arguments as for `seal`."""
    global _is_hooked
    made = NetworkWatch(refuses=refuses, allow_hosts=allow_hosts, on_contact=on_contact)
    with _hook_lock:
        _watches.append(made)
        if not _is_hooked:  # hooks stay until the process ends
            sys.addaudithook(_hook)
            _is_hooked = True
    return made


def is_loopback_address(text: str) -> bool:
    """Whether a numeric address is one of this machine's own: 127.0.0.0/8 or ::1, also written as IPv6."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    # Called for every import and every file that is opened, too.
    if _watches and (event in _CONNECTING or event in _ASKING):
        for watch in tuple(_watches):
            watch.see(event, arguments)


def _contact(event: str, arguments: tuple[Any, ...]) -> Contact | None:
    """The other machine that an event would reach; `None` if it is this one, or none."""
    if event in _ASKING:
        host = _text(arguments[0])
        # A numeric address is not looked up, and nothing is sent: connecting to it is another event.
        return None if not host or _is_numeric(host) else Contact(event=event, host=host)
    address = arguments[1]
    if not (isinstance(address, tuple) and len(address) > 1 and isinstance(address[0], str | bytes | bytearray)):
        return None  # a path of this machine, or one of the kernel's own families
    host = _text(address[0])
    if not host or is_loopback_address(host):
        return None
    return Contact(event=event, host=host, port=address[1] if isinstance(address[1], int) else None)


def _text(host: Any) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else str(host or "")


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _log(contact: Contact) -> None:
    _logger.warning("Something in this process tries to reach `%s` (%s).", contact.host, contact.event)
