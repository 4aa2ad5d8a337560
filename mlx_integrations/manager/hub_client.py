"""What is asked of the Hugging Face Hub, or of a mirror of it, and what its answers mean.

Requests go through the session of huggingface_hub, so that proxies, certificates and HF_HUB_OFFLINE hold here as they
do everywhere else. Redirects are followed here, because large files come from other hosts, which must not see the
token. Every failure is either one of the package's errors or an `InterruptionError`, which another attempt may mend.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, urljoin, urlsplit

from mlx_integrations.errors import HubError, HubUnavailableError, OfflineError
from mlx_integrations.manager.answers import check_status, describe_host
from mlx_integrations.manager.names import is_commit, is_safe_path, paths_collide
from mlx_integrations.manager.pacing import Clock, InterruptionError, RetryPolicy

if TYPE_CHECKING:  # types only: they take half a second to import
    import httpx2

__all__ = ["FileStream", "HubClient", "HubGreeting", "RemoteFile"]

API_RETRIES: Final = RetryPolicy(attempts=4)
_MAX_REDIRECTS = 5
_MAX_PAGES = 1000
_MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
_MAX_FILE_BYTES = 2 * 10**12  # more than any file the Hub takes
_ON = ("1", "ON", "YES", "TRUE")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file as the tree of its repository lists it."""

    path: str
    size_bytes: int
    git_sha1: str
    sha256: str | None

    @property
    def blob_id(self) -> str:
        """The name of its bytes in the cache."""
        return self.sha256 or self.git_sha1


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStream:
    """An answer with a file's bytes.

    Attributes:
        start: Position of the first byte that comes; 0 if the server sends the whole file whatever was asked for.
        total_bytes: Size of the whole file, if the server says.
        sha256: Digest of the whole file, if the server says.
        chunks: The bytes, as they arrive.
        abort: Breaks the connection; may be called from another thread.
    """

    start: int
    total_bytes: int | None
    sha256: str | None
    chunks: Iterator[bytes]
    abort: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubGreeting:
    """How the Hub answers a small question.

    Attributes:
        host: The server.
        seconds: How long the answer took.
        status: Its status: 200 if the token is good, 401 if it is not, or if there is none; anything else from a mirror
            that does not know the question.
    """

    host: str
    seconds: float
    status: int


class HubClient:
    """Asks the Hub; reads only.

    Args:
        endpoint: Address of a mirror; by default what huggingface_hub uses (HF_ENDPOINT).
        token: What opens private and gated repositories; by default what huggingface_hub uses (HF_TOKEN, or the file
            that `hf auth login` wrote).
        offline: Never ask.
        clock: Time and chance.
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        token: str | None = None,
        offline: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._token = token
        self._offline = offline
        self._clock = clock or Clock()

    @property
    def endpoint(self) -> str:
        """The address that is asked."""
        from huggingface_hub import constants

        return (self._endpoint or os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")

    @property
    def is_offline(self) -> bool:
        """Whether the network is switched off, by argument or by huggingface_hub's own variables."""
        names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        return self._offline or any(os.environ.get(name, "").upper() in _ON for name in names)

    @property
    def token(self) -> str | None:
        """What opens private and gated repositories; `None` if there is nothing."""
        from huggingface_hub import constants, get_token

        return get_token() if self._token is None and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else self._token

    def greet(self, timeout_seconds: float) -> HubGreeting:
        """Ask who the token belongs to, once: a small question that every Hub answers in some way.

        Raises:
            OfflineError: The network is switched off.
            HubUnavailableError: No answer in time.
            HubError: The address is none.
        """
        try:
            with self._translated(""):
                from huggingface_hub import get_session

                began = self._clock.monotonic()
                url = f"{self.endpoint}/api/whoami-v2"
                answer = get_session().get(
                    url, headers=self._headers()(True), follow_redirects=False, timeout=timeout_seconds
                )
                seconds = self._clock.monotonic() - began
        except InterruptionError as interruption:
            raise HubUnavailableError(
                f"{describe_host(self.endpoint)} cannot be reached: {interruption.reason}.",
                hint="Check the connection, proxies and HF_ENDPOINT, or work without it: `--offline`.",
            ) from interruption
        return HubGreeting(host=describe_host(self.endpoint), seconds=seconds, status=answer.status_code)

    def commit(self, repo_id: str, revision: str) -> str:
        """The commit that a branch, tag or commit hash means now.

        Raises:
            RevisionNotFoundError: There is no such revision.
            HubError: The repository cannot be read; its subclasses say why.
        """
        path = f"/api/models/{repo_id}/revision/{quote(revision, safe='')}"
        document = self._json(path, repo_id, revision)[0]
        commit = document.get("sha") if isinstance(document, dict) else None
        if not isinstance(commit, str) or not is_commit(commit):
            raise self._strange(repo_id, "it names no commit")
        return commit

    def tree(self, repo_id: str, commit: str) -> tuple[RemoteFile, ...]:
        """Every file of a commit.

        Raises:
            HubError: The repository cannot be read, or its list of files is one that no repository has.
        """
        path: str | None = f"/api/models/{repo_id}/tree/{commit}?recursive=true&expand=false"
        files: list[RemoteFile] = []
        for _ in range(_MAX_PAGES):
            if path is None:
                break
            entries, path = self._json(path, repo_id, commit)
            if not isinstance(entries, list):
                raise self._strange(repo_id, "its list of files is none")
            files += [_remote_file(entry) for entry in entries if _is_file(entry)]
        unsafe = next((file.path for file in files if not is_safe_path(file.path)), None)
        if unsafe is not None:
            raise self._strange(repo_id, f"it lists a file `{unsafe!r}`, whose name leads out of its folder")
        if paths_collide(file.path for file in files):
            raise self._strange(repo_id, "it lists a name as a file and as a folder")
        return tuple(files)

    def read(self, repo_id: str, commit: str, path: str, *, limit_bytes: int) -> bytes:
        """A small file, whole.

        Raises:
            HubError: It cannot be read, or is larger than the limit.
        """

        def attempt() -> bytes:
            with self.stream(repo_id, commit, path) as stream:
                return _joined(stream.chunks, limit_bytes)

        try:
            return self.retrying(attempt, repo_id)
        except _TooLongError as exc:
            raise self._strange(repo_id, f"`{path}` is larger than {limit_bytes:,} bytes") from exc

    @contextmanager
    def stream(self, repo_id: str, commit: str, path: str, *, start: int = 0) -> Iterator[FileStream]:
        """Open a file, from a position on. One attempt.

        Raises:
            InterruptionError: The connection failed or the server is busy; also out of `chunks`.
            HubError: Another attempt would not help.
        """
        url = f"/{repo_id}/resolve/{commit}/{quote(path)}"
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._translated(repo_id), self._get(url, headers, repo_id, commit) as (response, first):
            position, total = _span(response.status_code, response.headers)
            yield FileStream(
                start=position,
                total_bytes=total,
                sha256=first.get("x-linked-etag", "").strip('"') or None,
                chunks=response.iter_bytes(),
                abort=lambda: _break(response),
            )

    def retrying(self, attempt: Callable[[], _Value], repo_id: str, policy: RetryPolicy = API_RETRIES) -> _Value:
        """Make a short request, again if it is interrupted.

        Raises:
            HubUnavailableError: No attempt got through.
        """
        failures = 0
        while True:
            try:
                return attempt()
            except InterruptionError as interruption:
                failures += 1
                pause = policy.pause_seconds(failures, interruption, self._clock.random())
                if pause is None:
                    raise self.unavailable(repo_id, interruption) from interruption
                self._clock.sleep(pause)

    def unavailable(self, repo_id: str, interruption: InterruptionError) -> HubUnavailableError:
        """The error for a Hub that stays silent."""
        hint = None
        if interruption.pause_seconds:
            hint = f"It asks to be left alone for {interruption.pause_seconds:.0f} seconds; run the same command then."
        return HubUnavailableError(
            f"`{repo_id}` could not be read from {describe_host(self.endpoint)}: {interruption.reason}.",
            repo_id=repo_id,
            hint=hint,
        )

    def _json(self, path: str, repo_id: str, revision: str) -> tuple[Any, str | None]:
        """A document, and the path of its next page if it has one."""

        def attempt() -> tuple[bytes, str | None]:
            with self._translated(repo_id), self._get(path, {}, repo_id, revision) as (response, _):
                following = response.links.get("next", {}).get("url")
                return _joined(response.iter_bytes(), _MAX_DOCUMENT_BYTES), following

        try:
            body, following = self.retrying(attempt, repo_id)
            document = json.loads(body)
            return document, None if following is None else self._path_of(following)
        except (ValueError, RecursionError, _TooLongError) as exc:
            raise self._strange(repo_id, "its answer is not the Hub's") from exc

    def _path_of(self, address: str) -> str:
        """The path of a next page, to be asked for where the first one was; a mirror may name the Hub's own address."""
        parts = urlsplit(urljoin(self.endpoint + "/", address))
        return f"{parts.path.removeprefix(urlsplit(self.endpoint).path)}?{parts.query}"

    @contextmanager
    def _get(
        self, path: str, headers: Mapping[str, str], repo_id: str, revision: str
    ) -> Iterator[tuple["httpx2.Response", Mapping[str, str]]]:
        """The answer behind all redirects, and the headers of the first one, which is the Hub's own."""
        import httpx2
        from huggingface_hub import constants, get_session

        endpoint = self.endpoint
        url = endpoint + path
        timeout = httpx2.Timeout(constants.HF_HUB_DOWNLOAD_TIMEOUT, connect=constants.HF_HUB_ETAG_TIMEOUT)
        own_headers = self._headers()
        first: Mapping[str, str] | None = None
        for _ in range(_MAX_REDIRECTS + 1):
            is_hub = _origin(url) == _origin(endpoint)
            sent = {"Accept-Encoding": "identity", **headers, **own_headers(is_hub)}
            with get_session().stream("GET", url, headers=sent, follow_redirects=False, timeout=timeout) as response:
                first = first if first is not None else response.headers
                if response.has_redirect_location:
                    url = self._redirected(url, response.headers["location"], repo_id)
                    continue
                if is_hub or response.status_code not in (401, 403, 404):
                    check_status(response.status_code, response.headers, repo_id, revision, endpoint)
                else:  # a signed address that is no longer good
                    raise InterruptionError(f"{describe_host(url)} answered with status {response.status_code}")
                yield response, first
                return
        raise self._strange(repo_id, "it redirects for ever")

    def _redirected(self, url: str, location: str, repo_id: str) -> str:
        try:
            target = urljoin(url, location)
            scheme = _origin(target)[0]
        except ValueError as exc:
            raise self._strange(repo_id, "it redirects to what is no address") from exc
        if scheme not in ("http", "https") or (urlsplit(url).scheme == "https" and scheme != "https"):
            raise self._strange(repo_id, f"it redirects to `{scheme}:`")
        return target

    def _headers(self) -> Callable[[bool], dict[str, str]]:
        """Headers for the Hub, with the token, and for other hosts, without."""
        from mlx_integrations import __version__

        token = self.token
        agent = {"User-Agent": f"mlx-integrations/{__version__}"}
        return lambda is_hub: {**agent, "Authorization": f"Bearer {token}"} if is_hub and token else agent

    @contextmanager
    def _translated(self, repo_id: str) -> Iterator[None]:
        """Turn whatever the network raises into this package's errors."""
        self._refuse_offline(repo_id)
        self._refuse_strange_endpoint(repo_id)
        import httpx2
        from huggingface_hub.errors import OfflineModeIsEnabled

        try:
            yield
        except OfflineModeIsEnabled as exc:
            raise _offline(repo_id) from exc
        except (httpx2.TransportError, httpx2.DecodingError, httpx2.StreamError) as exc:
            raise InterruptionError(_reason(exc)) from exc
        except httpx2.InvalidURL as exc:
            raise self._strange(repo_id, f"`{self.endpoint}` is not an address") from exc

    def _refuse_offline(self, repo_id: str) -> None:
        if self.is_offline:
            raise _offline(repo_id)

    def _refuse_strange_endpoint(self, repo_id: str) -> None:
        try:
            scheme, host, _ = _origin(self.endpoint)
        except ValueError:
            scheme, host = "", ""
        if scheme not in ("http", "https") or not host:
            raise self._strange(repo_id, f"`{self.endpoint}` is not an address that begins with https://")

    def _strange(self, repo_id: str, why: str) -> HubError:
        return HubError(
            f"`{repo_id}` cannot be taken from {describe_host(self.endpoint)}: {why}.",
            repo_id=repo_id,
            hint="Check HF_ENDPOINT, and whether a proxy or a log-in page answers in its place.",
        )


class _TooLongError(Exception):
    """A document is longer than it may be."""


def _offline(repo_id: str) -> OfflineError:
    return OfflineError(f"`{repo_id}` cannot be asked for: the network is switched off.", repo_id=repo_id)


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _is_file(entry: object) -> bool:
    return isinstance(entry, dict) and entry.get("type") == "file"


def _remote_file(entry: Mapping[str, Any]) -> RemoteFile:
    lfs = entry.get("lfs") if isinstance(entry.get("lfs"), dict) else None
    size = lfs.get("size") if lfs else entry.get("size")
    sha256 = lfs.get("oid") or lfs.get("sha256") if lfs else None
    git_sha1 = entry.get("oid")
    path = entry.get("path")
    is_whole = (
        isinstance(path, str)
        and type(size) is int
        and 0 <= size <= _MAX_FILE_BYTES
        and _is_digest(git_sha1, 40)
        and (lfs is None or _is_digest(sha256, 64))
    )
    if not is_whole:
        raise HubError(f"The Hub lists a file as no file can be: {str(entry)[:200]}.")
    return RemoteFile(path=str(path), size_bytes=int(size or 0), git_sha1=str(git_sha1), sha256=sha256)


def _is_digest(value: object, length: int) -> bool:
    return (
        isinstance(value, str) and len(value) == length and all(character in "0123456789abcdef" for character in value)
    )


def _span(status: int, headers: Mapping[str, str]) -> tuple[int, int | None]:
    """Position of the first byte of an answer and size of the whole file, as far as its headers say."""
    if status == 206:
        unit, _, rest = headers.get("content-range", "").partition(" ")
        positions, _, total = rest.partition("/")
        first = positions.partition("-")[0]
        start = _count(first)
        if unit != "bytes" or start is None:
            raise InterruptionError("the server sent a part of the file without saying which")
        return start, _count(total)
    return 0, None if "content-encoding" in headers else _count(headers.get("content-length", ""))


def _count(text: str) -> int | None:
    """A number of bytes in a header; `None` if it is none, or more than any file has."""
    return int(text) if text.isdecimal() and len(text) <= len(str(_MAX_FILE_BYTES)) else None


def _joined(chunks: Iterator[bytes], limit_bytes: int) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > limit_bytes:
            raise _TooLongError
    return bytes(body)


def _break(response: "httpx2.Response") -> None:
    """Close the connection under an answer, so that whoever waits for its bytes wakes up."""
    import socket

    stream = response.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream is not None else None
    if isinstance(connection, socket.socket):
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # it is closed already
            return


def _reason(exc: Exception) -> str:
    import httpx2

    if isinstance(exc, httpx2.TimeoutException):
        return "it did not answer in time"
    if isinstance(exc, httpx2.ConnectError):
        return f"no connection ({exc})"
    return f"the connection broke off ({str(exc) or type(exc).__name__})"
