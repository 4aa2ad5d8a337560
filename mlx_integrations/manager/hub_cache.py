"""The Hugging Face cache on disk, laid out as huggingface_hub lays it out, so that other tools see the same files.

    models--org--name/
      blobs/<id>                   the bytes of a file; the id is their SHA-256, or git's SHA-1 for small files
      blobs/<id>.mlxi-part         what has arrived of them
      snapshots/<commit>/<path>    a link to ../../blobs/<id>
      refs/<branch or tag>         the commit it was at
      mlxi/<commit>.json           which files were wanted of that commit, with their ids
    .locks/models--org--name/<id>.lock

A blob may itself be a link into a store that repositories share (`blobs/` of the whole cache): its own name is the id,
the name it leads to is not. Layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlx_integrations.manager.names import is_safe_path, is_safe_revision
from mlx_integrations.manager.records import PlannedFile

__all__ = ["PART_SUFFIX", "HubRepository", "WantedFile", "default_cache_dir", "repositories", "write_atomically"]

PART_SUFFIX: Final = ".mlxi-part"
_FOLDER = re.compile(r"models--([^/]+)")
_WANTED_FORMAT = 1
_CACHE_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Models from the Hugging Face Hub: they can be had again.\n"


def default_cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The cache of huggingface_hub, by its own environment variables."""
    home = environ.get("HF_HOME") or str(Path(environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or str(Path(home) / "hub")
    return Path(os.path.expandvars(cache)).expanduser()


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedFile:
    """A file that belongs to a snapshot, as the tree of its repository listed it."""

    size_bytes: int
    blob_id: str


@dataclass(frozen=True, slots=True)
class HubRepository:
    """Where the parts of one repository are in a cache; it need not be there."""

    cache_dir: Path
    repo_id: str

    @property
    def _name(self) -> str:
        return "models--" + self.repo_id.replace("/", "--")

    @property
    def folder(self) -> Path:
        """The repository's folder in the cache."""
        return self.cache_dir / self._name

    def blob(self, blob_id: str) -> Path:
        """Where the bytes of a file are."""
        return self.folder / "blobs" / blob_id

    def part(self, blob_id: str) -> Path:
        """Where what has arrived of them is."""
        return self.folder / "blobs" / (blob_id + PART_SUFFIX)

    def lock(self, blob_id: str) -> Path:
        """The lock that whoever downloads them holds, huggingface_hub included."""
        return self.cache_dir / ".locks" / self._name / f"{blob_id}.lock"

    def snapshot(self, commit: str) -> Path:
        """The folder of a commit: what a model is loaded from."""
        return self.folder / "snapshots" / commit

    def wanted_list(self, commit: str) -> Path:
        """Where it is written down which files were wanted of a commit."""
        return self.folder / "mlxi" / f"{commit}.json"

    def commits(self) -> list[str]:
        """The commits that have a folder, the one changed last first."""
        folders = [path for path in _entries(self.folder / "snapshots") if path.is_dir()]
        return [path.name for path in sorted(folders, key=_changed, reverse=True)]

    def references(self) -> dict[str, str]:
        """Branches and tags, with the commits they were at."""
        refs = self.folder / "refs"
        found = {}
        for path in sorted(refs.rglob("*")) if refs.is_dir() else ():
            if path.suffix != ".tmp" and path.is_file() and (commit := _read_text(path)):
                found[path.relative_to(refs).as_posix()] = commit
        return found

    def commit_of(self, revision: str | None) -> str | None:
        """The commit that a branch, tag or commit hash means here; `None` if it is not here.

        Without a revision it is the commit of `main`, or the newest one if only a commit was ever asked for.
        """
        name = revision or "main"
        if not is_safe_revision(name):
            return None
        commit = _read_text(self.folder / "refs" / name)
        if commit is None and revision is None:
            return next(iter(self.commits()), None)
        commit = commit or name
        return commit if is_safe_revision(commit) and self.snapshot(commit).is_dir() else None

    def wanted(self, commit: str) -> dict[str, WantedFile] | None:
        """Which files were wanted of a commit; `None` if it was not this package that downloaded it."""
        text = _read_text(self.wanted_list(commit))
        try:
            document = json.loads(text or "")
            if document["format_version"] != _WANTED_FORMAT:
                return None
            return {
                path: WantedFile(size_bytes=int(item["size"]), blob_id=str(item["blob"]))
                for path, item in document["files"].items()
                if is_safe_path(path)
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def listed(self, commit: str) -> tuple[str, ...]:
        """Every file of a commit, if huggingface_hub wrote down its list; empty otherwise."""
        try:
            document = json.loads(_read_text(self.folder / "trees" / f"{commit}.json") or "")
            return tuple(str(path) for path in document["files"])
        except (ValueError, KeyError, TypeError):
            return ()

    def write_wanted(self, commit: str, files: Iterable[PlannedFile]) -> None:
        """Write down which files are wanted of a commit, next to those wanted of it before."""
        wanted = self.wanted(commit) or {}
        wanted |= {file.path: WantedFile(size_bytes=file.size_bytes, blob_id=file.blob_id) for file in files}
        document = {
            "format_version": _WANTED_FORMAT,
            "files": {path: {"size": file.size_bytes, "blob": file.blob_id} for path, file in sorted(wanted.items())},
        }
        write_atomically(self.wanted_list(commit), json.dumps(document, indent=1))

    def write_reference(self, name: str, commit: str) -> None:
        """Remember the commit that a branch or tag is at."""
        reference = self.folder / "refs" / name
        if _read_text(reference) != commit:
            write_atomically(reference, commit)

    def prepare(self) -> None:
        """Make the folders, and tell backup tools (https://bford.info/cachedir/) to leave the cache out."""
        for folder in (self.folder / "blobs", self.folder / "snapshots", self.lock("x").parent):
            folder.mkdir(parents=True, exist_ok=True)
        tag = self.cache_dir / "CACHEDIR.TAG"
        if not tag.exists():
            write_atomically(tag, _CACHE_TAG)


def repositories(cache_dir: Path) -> list[HubRepository]:
    """The repositories of models in a cache, by name; none if there is no cache."""
    names = (_FOLDER.fullmatch(path.name) for path in _entries(cache_dir))
    return [
        HubRepository(cache_dir, match[1].replace("--", "/", 1))
        for match in sorted((match for match in names if match), key=lambda match: match[1].lower())
    ]


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that no reader ever sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
