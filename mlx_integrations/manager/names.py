"""What a name given by a person or a server may be: repositories, revisions, and the paths of files in them. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

__all__ = ["RepositoryName", "is_commit", "is_safe_path", "is_safe_revision", "parse_repository", "paths_collide"]

# https://huggingface.co/docs/huggingface_hub/package_reference/utilities#huggingface_hub.utils.validate_repo_id
_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.@+-]*)*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Controls, marks that turn the direction of what is shown, and halves of characters, which no file system takes.
_NOT_SHOWN = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
_NO_MODELS = ("api", "collections", "datasets", "docs", "papers", "spaces")
_MAX_PATH_CHARACTERS = 1000
_MAX_NAME_BYTES = 255  # what file systems take


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryName:
    """A repository on the Hub, and the branch, tag or commit of it that was named, if one was."""

    repo_id: str
    revision: str | None = None


def parse_repository(text: str) -> RepositoryName | None:
    """Read `org/name`, `org/name@revision`, or the address of a model's page; `None` if it is none of these."""
    if text.startswith(("https://", "http://")):
        try:
            address = urlsplit(text).path
        except ValueError:
            return None
        parts = [unquote(part) for part in address.strip("/").split("/")]
        if parts[0] in _NO_MODELS:
            return None
        text = "/".join(parts[:2])
        if len(parts) > 3 and parts[2] in ("tree", "blob", "resolve"):
            text += f"@{parts[3]}"
    repo_id, separator, revision = text.partition("@")
    parts = repo_id.split("/")
    if len(parts) != 2 or not all(_PART.fullmatch(part) and "--" not in part and ".." not in part for part in parts):
        return None
    if separator and not is_safe_revision(revision):
        return None
    return RepositoryName(repo_id=repo_id, revision=revision or None)


def is_safe_revision(revision: str) -> bool:
    """Whether a revision can be the name of a file below `refs/`."""
    return bool(_REVISION.fullmatch(revision)) and ".." not in revision and not revision.endswith(".lock")


def is_commit(revision: str) -> bool:
    """Whether a revision is a whole commit hash, which can never mean anything else later."""
    return bool(_COMMIT.fullmatch(revision))


def is_safe_path(path: str) -> bool:
    """Whether a path that a server names stays inside the folder that it is put into, on every system."""
    parts = path.split("/")
    return (
        0 < len(path) <= _MAX_PATH_CHARACTERS
        and not _NOT_SHOWN.search(path)
        and "\\" not in path
        and ":" not in path
        and all(part not in ("", ".", "..") and len(part.encode()) <= _MAX_NAME_BYTES for part in parts)
    )


def paths_collide(paths: Iterable[str]) -> bool:
    """Whether one of the paths would have to be a folder and a file at once, or one occurs twice."""
    files = list(paths)
    known = set(files)
    return len(known) < len(files) or any(
        str(parent) in known for path in files for parent in PurePosixPath(path).parents
    )
