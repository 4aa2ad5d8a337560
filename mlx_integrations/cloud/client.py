"""The way to one endpoint: its address, its key, and the openai clients that talk to it.

Nothing is left to chance that would send a prompt or a key elsewhere: redirects are not followed, this machine's own
endpoints are never asked through a proxy, and none of the variables that the openai client reads on its own
(OPENAI_API_KEY, OPENAI_ORG_ID, OPENAI_CUSTOM_HEADERS, ...) reaches an endpoint that they were not set for.
"""

import asyncio
import ipaddress
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from mlx_integrations.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:  # half a second to import, and not everybody has it
    from openai import AsyncOpenAI, OpenAI

__all__ = ["ApiKey", "Connection", "check_address", "is_loopback"]

ApiKey = SecretStr | Callable[[], str]
"""A key, or what gets one: it is asked for every request, so that keys may change."""

_USER_AGENT: Final = "mlx-integrations"
_OWN_HEADERS: Final = frozenset(
    {"accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "host", "user-agent"}
)


def check_address(base_url: str) -> str:
    """An address as it is used: without a slash at its end.

    Raises:
        ConfigurationError: It is none, or there is a key or a password in it.
    """
    parts = urlsplit(base_url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            "`base_url` is no address of an endpoint.", hint="Give one such as `http://localhost:8080/v1`."
        )
    # It would be shown in messages and logs.
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigurationError(
            f"`base_url` carries more than an address: a user, a password or a query for `{parts.hostname}`.",
            hint="Give the key as `api_key`, and the address without it.",
        )
    return base_url.strip().rstrip("/")


def is_loopback(base_url: str) -> bool:
    """Whether an address says by itself that it is this machine: `localhost`, 127.0.0.0/8 or ::1. Asks no server."""
    host = (urlsplit(base_url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Connection:
    """One endpoint and the clients for it: one for threads, and one for every event loop. Made at the first use.

    Args:
        base_url: Where it is.
        api_key: Its key; `None` sends none.
        timeout_seconds: The longest silence that is waited out, before the first byte and between two.
        connect_seconds: How long it may take to reach it.
        name: What messages call it; its host otherwise.

    Raises:
        ConfigurationError: The address is none, or the key cannot be one.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: ApiKey | str | None = None,
        timeout_seconds: float = 600.0,
        connect_seconds: float = 10.0,
        name: str | None = None,
    ) -> None:
        for field, value in (("timeout_seconds", timeout_seconds), ("connect_seconds", connect_seconds)):
            if not value > 0:
                raise ConfigurationError(f"`{field}` cannot be `{value}`.", hint="Give seconds above 0.")
        self.base_url = check_address(base_url)
        self.name = name or urlsplit(self.base_url).netloc
        self._key: ApiKey | None = SecretStr(api_key) if isinstance(api_key, str) else api_key
        if isinstance(self._key, SecretStr):
            _check_key(self._key.get_secret_value(), self.name)
        self._timeout_seconds = timeout_seconds
        self._connect_seconds = connect_seconds
        self._lock = threading.Lock()
        self._client: OpenAI | None = None
        self._async_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncOpenAI] = (
            weakref.WeakKeyDictionary()
        )

    def __repr__(self) -> str:
        return f"Connection({self.name!r}, {self.base_url!r})"

    def key(self) -> str | None:
        """The key of the next request.

        Raises:
            ConfigurationError: It cannot be one.
        """
        if self._key is None:
            return None
        key = self._key.get_secret_value() if isinstance(self._key, SecretStr) else self._key()
        return _check_key(key, self.name)

    async def akey(self) -> str | None:
        """The same for event loops: what gets a key may have to wait for it."""
        return self.key() if isinstance(self._key, SecretStr | None) else await asyncio.to_thread(self.key)

    @staticmethod
    def headers(key: str | None) -> dict[str, Any]:
        """What a request says about who asks: nothing without a key."""
        import openai

        return {"Authorization": f"Bearer {key}" if key is not None else openai.Omit()}

    def client(self) -> "OpenAI":
        """The client for threads.

        Raises:
            MissingExtraError: The openai client is not installed.
        """
        with self._lock:
            if self._client is None:
                openai = _library()
                http = openai.DefaultHttpxClient(**self._http(openai), event_hooks={"request": [_keep_own_headers]})
                self._client = openai.OpenAI(http_client=http, **self._options())
            return self._client

    def async_client(self) -> "AsyncOpenAI":
        """The client of the running event loop: connections belong to the loop that opened them.

        Raises:
            MissingExtraError: The openai client is not installed.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            found = self._async_clients.get(loop)
            if found is None:
                openai = _library()
                hooks = {"request": [_akeep_own_headers]}
                http = openai.DefaultAsyncHttpxClient(**self._http(openai), event_hooks=hooks)
                found = self._async_clients[loop] = openai.AsyncOpenAI(http_client=http, **self._options())
            return found

    def close(self) -> None:
        """Close the client for threads. A later request opens it again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close the client of the running event loop, and the one for threads."""
        with self._lock:
            client = self._async_clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()
        self.close()

    def _http(self, openai: Any) -> dict[str, Any]:
        return {
            "timeout": openai.Timeout(self._timeout_seconds, connect=self._connect_seconds),
            "follow_redirects": False,  # a server on this machine could send a prompt elsewhere with one
            "trust_env": not is_loopback(self.base_url),  # HTTP_PROXY is not meant for this machine
            "verify": self.base_url.startswith("https:"),  # reading certificates takes longer than all the rest
        }

    def _options(self) -> dict[str, Any]:
        # The real key is a header of each request; without any, the client would look for one in the environment.
        return {"base_url": self.base_url, "api_key": "unused", "max_retries": 0}


def _library() -> Any:
    try:
        import openai
    except ImportError as exc:
        raise MissingExtraError("Endpoints need the openai client.", extra="openai") from exc
    return openai


def _keep_own_headers(request: Any) -> None:
    """Take out what the openai client adds on its own: who runs on which system, and its variables."""
    request.headers["User-Agent"] = _USER_AGENT
    for name in [name for name in request.headers if name.lower() not in _OWN_HEADERS]:
        del request.headers[name]


async def _akeep_own_headers(request: Any) -> None:
    _keep_own_headers(request)


def _check_key(key: str, endpoint: str) -> str:
    """A key that can be sent; an HTTP library would show an impossible one in its error."""
    key = key.strip() if isinstance(key, str) else ""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            f"The key of `{endpoint}` is empty, or has characters that no key has.",
            hint="Copy it again; check the variable that holds it.",
        )
    return key
