"""Getting the remote catalogue: one small file over HTTPS, within a deadline, and from no other place than named."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from queue import Empty, SimpleQueue
from typing import Final
from urllib.parse import urljoin, urlsplit

__all__ = ["MAX_BODY_BYTES", "Fetch", "FetchError", "Fetched", "fetch_http"]

MAX_BODY_BYTES: Final = 4 * 1024**2
"""A catalogue of two thousand models takes half of it."""

_DEADLINE_SECONDS: Final = 6.0
_READ_TIMEOUT_SECONDS: Final = 3.0
_MAX_REDIRECTS: Final = 3
_MAX_ETAG: Final = 200
_OK = 200
_NOT_MODIFIED = 304
_REDIRECTS = (301, 302, 303, 307, 308)


class FetchError(Exception):
    """The file could not be had; the text says why. It never leaves the registry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What a server answered.

    Attributes:
        body: The file; `None` if it has not changed.
        etag: What to send the next time; empty if the server gave none.
    """

    body: bytes | None
    etag: str = ""


Fetch = Callable[[str, str], Fetched]
"""Gets a file by its address, given the ETag of the last one (or an empty text)."""


def fetch_http(url: str, etag: str, *, deadline_seconds: float = _DEADLINE_SECONDS) -> Fetched:
    """Get a file, asking only whether it has changed if its ETag is known.

    The work is done on a thread that is left behind at the deadline: a server that sends a byte now and then would
    otherwise hold its caller for as long as it likes.

    Args:
        url: An https address; plain http is for this machine only.
        etag: Of the file that is at hand; empty if none is.
        deadline_seconds: For everything together.

    Raises:
        FetchError: It could not be had, for whatever reason.
    """
    if not _is_allowed(url):
        raise FetchError(f"`{url}` is not an https address")
    answers: SimpleQueue[Fetched | FetchError] = SimpleQueue()

    def work() -> None:
        try:
            answers.put(_get(url, etag, time.monotonic() + deadline_seconds))
        except FetchError as error:
            answers.put(error)

    threading.Thread(target=work, name="mlxi-registry", daemon=True).start()
    try:
        answer = answers.get(timeout=deadline_seconds)
    except Empty:
        raise FetchError(f"no whole answer within {deadline_seconds:.0f} s") from None
    if isinstance(answer, FetchError):
        raise answer
    return answer


def _get(url: str, etag: str, deadline: float) -> Fetched:
    import httpx2

    # Compressed answers are not asked for: a few kilobytes can hold gigabytes.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "mlx-integrations"}
    if etag:
        headers["If-None-Match"] = etag
    try:
        with httpx2.Client(timeout=_READ_TIMEOUT_SECONDS, follow_redirects=False) as client:
            for _ in range(_MAX_REDIRECTS + 1):
                with client.stream("GET", url, headers=headers) as response:
                    if response.status_code in _REDIRECTS:
                        url = _redirected(url, str(response.headers.get("Location", "")))
                        continue
                    return _read(
                        response.status_code,
                        str(response.headers.get("ETag", "")),
                        str(response.headers.get("Content-Encoding", "")),
                        response.iter_raw(),
                        deadline,
                    )
            raise FetchError("it redirects in circles")
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, ValueError) as error:
        raise FetchError(f"{type(error).__name__}: {error}") from error


def _read(status: int, etag: str, encoding: str, chunks: Iterable[bytes], deadline: float) -> Fetched:
    """What an answer means; stops reading once it is too long or too late."""
    kept_etag = etag if len(etag) <= _MAX_ETAG and etag.isascii() and etag.isprintable() else ""
    if status == _NOT_MODIFIED:
        return Fetched(body=None, etag=kept_etag)
    if status != _OK:
        raise FetchError(f"the server answered with status {status}")
    if encoding not in ("", "identity"):
        raise FetchError(f"the answer is compressed ({encoding}), which was not asked for")
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise FetchError(f"the answer is longer than {MAX_BODY_BYTES:,} bytes")
        if time.monotonic() > deadline:
            raise FetchError("the answer took too long")
    return Fetched(body=bytes(body), etag=kept_etag)


def _redirected(url: str, location: str) -> str:
    """Where a redirect leads, if that is the same server."""
    target = urljoin(url, location)
    if not location:
        raise FetchError("it redirects to nowhere")
    if urlsplit(target)[:2] != urlsplit(url)[:2]:
        raise FetchError("it redirects to another server")
    return target


def _is_allowed(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme == "http" and _is_this_machine(parts.hostname or "")


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
