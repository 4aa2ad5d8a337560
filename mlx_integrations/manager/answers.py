"""What a status code and the headers of a Hub say went wrong. Pure."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from mlx_integrations.errors import (
    GatedRepositoryError,
    HubError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from mlx_integrations.manager.pacing import InterruptionError, asked_pause_seconds

__all__ = ["check_status", "describe_host"]

_BUSY: Final = (408, 425, 429, 500, 502, 503, 504)


def check_status(status: int, headers: Mapping[str, str], repo_id: str, revision: str, endpoint: str) -> None:
    """Let a good answer pass.

    `X-Error-Code` is what the Hub adds to a status (https://huggingface.co/docs/hub/api).

    Raises:
        InterruptionError: The server is busy.
        RevisionNotFoundError: There is no such branch, tag or commit.
        GatedRepositoryError: The repository's terms have to be accepted.
        RepositoryNotFoundError: There is no such repository, or not for this token.
        HubError: Anything else.
    """
    if status in (200, 206):
        return
    host = describe_host(endpoint)
    code = headers.get("x-error-code", "")
    if status in _BUSY or (code == "" and status > 500):
        raise InterruptionError(_busy_reason(status), pause_seconds=asked_pause_seconds(headers))
    if status == 416:
        raise InterruptionError("the file there is shorter than it should be", must_restart=True)
    if code == "RevisionNotFound":
        raise RevisionNotFoundError(
            f"`{repo_id}` has no revision `{revision}`.",
            repo_id=repo_id,
            revision=revision,
            hint="Leave the revision out for `main`, or name a branch, a tag or a whole commit hash.",
        )
    if code == "GatedRepo":
        raise _gated(repo_id, endpoint)
    if code == "EntryNotFound":
        raise HubError(
            f"A file of `{repo_id}` is no longer there.", repo_id=repo_id, hint="Run the same command again."
        )
    if code == "RepoNotFound" or status in (401, 404):
        raise RepositoryNotFoundError(
            f"{host} has no repository `{repo_id}` that can be read from here.",
            repo_id=repo_id,
            hint="Check the spelling. If it is private, log in with `hf auth login` or set HF_TOKEN.",
        )
    if status == 403:
        raise _gated(repo_id, endpoint)
    raise HubError(
        f"{host} answered with status {status} when `{repo_id}` was asked for.",
        repo_id=repo_id,
        hint="Check HF_ENDPOINT, and whether a proxy answers in its place.",
    )


def describe_host(address: str) -> str:
    """A server by its name, without a password that its address may hold."""
    try:
        return urlsplit(address).netloc.rpartition("@")[2] or address
    except ValueError:  # it is none
        return address


def _busy_reason(status: int) -> str:
    return "too many requests" if status == 429 else f"it is out of order (status {status})"


def _gated(repo_id: str, endpoint: str) -> GatedRepositoryError:
    return GatedRepositoryError(
        f"`{repo_id}` is only for people who have accepted its terms.",
        repo_id=repo_id,
        hint=f"Accept them at {endpoint}/{repo_id}, then log in with `hf auth login` or set HF_TOKEN, and pull again.",
    )
