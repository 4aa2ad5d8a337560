"""The catalogue that is in use: the package's own, a remote file over it, and the user's entries over both.

`load_registry` reads files and nothing else, unless it is told to refresh: library code never waits for a server, and
takes what the last refresh left, however old it is. The command line refreshes, at most once a day. A remote file that
is broken, hostile or out of reach changes nothing; a mistake in the user's own file is an error that names it.
"""

import json
import logging
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import RegistryError
from mlx_integrations.registry.catalogue import ModelRegistry
from mlx_integrations.registry.fetching import MAX_BODY_BYTES, Fetch, FetchError, fetch_http
from mlx_integrations.registry.files import read_small_file, write_whole
from mlx_integrations.registry.reading import Document, read_document

__all__ = ["CACHE_FILE", "DEFAULT_REFRESH_HOURS", "RefreshState", "load_registry", "refresh_state"]

CACHE_FILE: Final = "models-registry.json"
"""In the cache folder: the last remote file, its ETag, and when it was asked for."""
DEFAULT_REFRESH_HOURS: Final = 24.0

_FORMAT = 1
_HOUR_SECONDS = 3600
_RETRY_SECONDS: Final = _HOUR_SECONDS  # after a failure: a server that is down is not asked at every call
_MAX_CACHE_BYTES = 2 * MAX_BODY_BYTES
_MAX_USER_BYTES = 2**20
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshState:
    """When the remote catalogue was last seen, for people who look for mistakes.

    Attributes:
        fetched_at: Seconds since 1970 when its content was last confirmed; `None` if never.
        tried_at: Seconds since 1970 of the last attempt; `None` if never.
        failure: Why the last attempt failed; empty if it did not.
    """

    fetched_at: float | None = None
    tried_at: float | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cached:
    """The cache file."""

    url: str
    etag: str = ""
    fetched_at: float | None = None
    tried_at: float | None = None
    failure: str = ""
    document: Any = None


def load_registry(
    *,
    cache_dir: Path,
    url: str | None = None,
    user_file: Path | None = None,
    offline: bool = False,
    refresh: bool = False,
    refresh_hours: float = DEFAULT_REFRESH_HOURS,
    now: Callable[[], float] = time.time,
    fetch: Fetch = fetch_http,
) -> ModelRegistry:
    """The catalogue in use.

    Args:
        cache_dir: Where the remote file is kept.
        url: Of the remote file; `None` if there is none.
        user_file: The user's own entries, TOML or JSON; `None` or a missing file if there are none.
        offline: Never ask the network; what is in the cache still counts.
        refresh: Ask the server if the last answer is older than `refresh_hours`. Takes six seconds at most.
        refresh_hours: How old an answer may be.
        now: Seconds since 1970.
        fetch: Gets the file.

    Raises:
        RegistryError: The user's own file cannot be read, or an entry of it is not valid.
    """
    registry = ModelRegistry.embedded()
    if url:
        if refresh and not offline:
            _refresh(cache_dir / CACHE_FILE, url, refresh_hours * _HOUR_SECONDS, now, fetch)
        remote = read_document(_read_cache(cache_dir / CACHE_FILE, url).document, origin="remote")
        if remote.entries:
            registry = registry.merged(remote, source="remote")
    if user_file is not None and user_file.exists():
        registry = registry.merged(_read_user_file(user_file), source="user")
    return registry


def refresh_state(cache_dir: Path, url: str) -> RefreshState:
    """When the remote catalogue was last seen."""
    cached = _read_cache(cache_dir / CACHE_FILE, url)
    return RefreshState(fetched_at=cached.fetched_at, tried_at=cached.tried_at, failure=cached.failure)


def _refresh(file: Path, url: str, max_age_seconds: float, now: Callable[[], float], fetch: Fetch) -> None:
    """Ask the server if that is due; one process at a time, the others take what is there."""
    if not _is_due(_read_cache(file, url), max_age_seconds, now()):
        return
    from filelock import FileLock, Timeout

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock"), timeout=0):
            cached = _read_cache(file, url)
            if _is_due(cached, max_age_seconds, now()):
                _write_cache(file, _ask(cached, now, fetch))
    except Timeout:
        _logger.debug("Another process is asking for the catalogue")
    except OSError as error:
        _logger.debug("The catalogue cannot be kept: %s", error)


def _is_due(cached: _Cached, max_age_seconds: float, now: float) -> bool:
    """Whether the last answer is too old; a clock that was set back counts as one."""
    if cached.tried_at is None:
        return True
    age = now - cached.tried_at
    return not 0 <= age < (min(_RETRY_SECONDS, max_age_seconds) if cached.failure else max_age_seconds)


def _ask(cached: _Cached, now: Callable[[], float], fetch: Fetch) -> _Cached:
    """What is to be kept after asking: the new file, the old one confirmed, or the old one and why."""
    try:
        answer = fetch(cached.url, cached.etag if cached.document is not None else "")
        document = cached.document if answer.body is None else _parse(answer.body)
    except (FetchError, ValueError, RecursionError) as error:
        _logger.debug("The remote catalogue was not taken: %s", error)
        return _Cached(
            url=cached.url,
            etag=cached.etag,
            fetched_at=cached.fetched_at,
            tried_at=now(),
            failure=str(error)[:200],
            document=cached.document,
        )
    at = now()
    return _Cached(url=cached.url, etag=answer.etag or cached.etag, fetched_at=at, tried_at=at, document=document)


def _parse(body: bytes) -> Any:
    """A catalogue with at least one entry that is valid: an empty or broken file does not replace a good one."""
    value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    if not read_document(value, origin="remote").entries:
        raise ValueError("it is no catalogue, or none of its entries is valid")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _read_cache(file: Path, url: str) -> _Cached:
    """What is in the cache for this address; nothing if it is damaged, or of another address."""
    try:
        value = json.loads(read_small_file(file, _MAX_CACHE_BYTES), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError):
        return _Cached(url=url)
    if not isinstance(value, Mapping) or value.get("format") != _FORMAT or value.get("url") != url:
        return _Cached(url=url)
    return _Cached(
        url=url,
        etag=_text(value.get("etag")),
        fetched_at=_moment(value.get("fetched_at")),
        tried_at=_moment(value.get("tried_at")),
        failure=_text(value.get("failure")),
        document=value.get("document"),
    )


def _write_cache(file: Path, cached: _Cached) -> None:
    content = {
        "format": _FORMAT,
        "url": cached.url,
        "etag": cached.etag,
        "fetched_at": cached.fetched_at,
        "tried_at": cached.tried_at,
        "failure": cached.failure,
        "document": cached.document,
    }
    write_whole(file, json.dumps(content))


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value.isascii() and value.isprintable() else ""


def _moment(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and 0 <= value < 2**40 else None


def _read_user_file(file: Path) -> Document:
    """The user's own entries: a list under `models`.

    Raises:
        RegistryError: The file cannot be read, or an entry is not valid.
    """
    try:
        text = read_small_file(file, _MAX_USER_BYTES)
        value = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text, parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise RegistryError(
            f"`{file}` cannot be read: {error}.",
            path=str(file),
            hint="Correct it, or move it away: the catalogue works without it.",
        ) from error
    document = read_document(value, origin="user")
    if not document.is_readable:
        raise RegistryError(
            f"`{file}` holds no list of models that this version reads.",
            path=str(file),
            hint="In TOML an entry begins with `[[models]]`; in JSON the file is an object with the list `models`.",
        )
    if document.problems:
        first = document.problems[0]
        entry = f"Entry {first.position + 1}" + (f" (`{first.entry_id}`)" if first.entry_id else "")
        what = f"`{first.field}`: {first.reason}" if first.field else first.reason
        raise RegistryError(
            f"{entry} of `{file}` is not valid: {what}.",
            path=str(file),
            hint="The fields are described in docs/reference/models.md.",
        )
    return document
