"""What the manager says about models: on disk, to be downloaded, being downloaded, checked and removed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from mlx_integrations.registry.entry import ModelEntry, Quantization
from mlx_integrations.types import Support

__all__ = [
    "FileProblem",
    "InstalledModel",
    "ModelSource",
    "PartialFile",
    "PlannedFile",
    "PullPhase",
    "PullPlan",
    "PullProgress",
    "PulledModel",
    "Removal",
    "Update",
    "Verification",
    "VerificationMethod",
]

ModelSource = Literal["packaged", "hub", "folder"]
PullPhase = Literal["waiting", "downloading", "verifying", "linking"]
VerificationMethod = Literal["hub", "checksums", "structure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledModel:
    """A model on this machine.

    Attributes:
        name: What `locate` and the models of LangChain and LlamaIndex find it by.
        path: Its folder.
        repo_id: The repository on the Hugging Face Hub that it came from, where known.
        revision: The commit of that repository.
        source: `packaged` in a Python package, `hub` in the Hugging Face cache, `folder` anywhere else.
        model_type: The architecture's name, from config.json.
        kind: What it is run as; `None` if that cannot be told.
        quantization: How its weights are stored, if config.json says.
        size_bytes: What its files take on the disk; a file that occurs twice counts once.
        is_complete: Whether all files that it needs are there.
        is_usable: Whether it is complete and can be run here.
        reason: Why it is not usable; empty if it is.
        last_used: When its files were last read, as far as the file system keeps count.
    """

    name: str
    path: Path
    repo_id: str | None = None
    revision: str | None = None
    source: ModelSource
    model_type: str | None = None
    kind: Literal["chat", "embedding"] | None = None
    quantization: Quantization | None = None
    size_bytes: int
    is_complete: bool
    is_usable: bool
    reason: str = ""
    last_used: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """A file of a repository, and how much of it is here already.

    Attributes:
        path: Its name in the repository, parts separated by `/`.
        size_bytes: Its exact size.
        sha256: Its digest; `None` for small files that git keeps itself.
        blob_id: The name of its bytes in the cache: `sha256` where there is one, else git's SHA-1 of the blob.
        is_cached: Whether all of it is here.
        resumed_bytes: How much of it an earlier, interrupted download left.
    """

    path: str
    size_bytes: int
    sha256: str | None
    blob_id: str
    is_cached: bool = False
    resumed_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PullPlan:
    """What a download will do, decided before a byte of a weight is asked for.

    Attributes:
        repo_id: The repository.
        revision: The commit that all files are taken from, whatever happens to the branch meanwhile.
        reference: The branch or tag that named the commit, which the cache will remember; `None` if a commit was named.
        files: The files that are needed.
        total_bytes: Of these files.
        missing_bytes: Of them, still to be transferred.
        resumed_bytes: Of them, left by an earlier download that was interrupted.
        free_disk_bytes: Free where the cache is.
        weight_bytes: Of the weight files: what the model takes in memory at least, as stored.
        config: config.json, which decides whether the model can be run; empty if there is none.
        support: Whether it can be run here.
        entry: The model's entry in the registry, if it has one.
    """

    repo_id: str
    revision: str
    reference: str | None = None
    files: tuple[PlannedFile, ...]
    total_bytes: int
    missing_bytes: int
    resumed_bytes: int = 0
    free_disk_bytes: int
    weight_bytes: int
    config: Mapping[str, Any] = field(default_factory=dict)
    support: Support
    entry: ModelEntry | None = None

    @property
    def is_complete(self) -> bool:
        """Whether nothing has to be transferred."""
        return self.missing_bytes == 0 and all(file.is_cached for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullProgress:
    """Where a download stands.

    Attributes:
        phase: `waiting` for another process that downloads the same file or for a busy server, `downloading`,
            `verifying` what an earlier download left, or `linking` the files into the cache.
        done_bytes: Bytes that are here, those of earlier downloads included; never less than before.
        total_bytes: Of all files of the plan; never changes.
        resumed_bytes: Of `done_bytes`, those that were here before this download began.
        file: The file in hand.
    """

    phase: PullPhase
    done_bytes: int
    total_bytes: int
    resumed_bytes: int
    file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledModel:
    """A model that was downloaded, or was here already.

    Attributes:
        path: Its folder.
        repo_id: The repository.
        revision: The commit.
        transferred_bytes: What came over the network.
        seconds: How long it took.
    """

    path: Path
    repo_id: str
    revision: str
    transferred_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FileProblem:
    """A file that is not as it should be.

    Attributes:
        file: Its name, relative to the model's folder.
        reason: What is wrong, in one sentence.
        expected: The digest or size it should have, where there is one.
        actual: The one it has.
    """

    file: str
    reason: str
    expected: str | None = None
    actual: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a check of a model's files found.

    Attributes:
        path: The model's folder.
        checked_files: How many were read.
        checked_bytes: Their size.
        problems: What is wrong; empty if nothing is.
        method: `hub` compared with the Hub's own list, `checksums` with digests kept on this machine, `structure`
            checked that weight files are whole, because no digests are known.
    """

    path: Path
    checked_files: int
    checked_bytes: int
    problems: tuple[FileProblem, ...] = ()
    method: VerificationMethod

    @property
    def is_intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What removing a model would delete. Nothing that is not listed is.

    Attributes:
        name: The model.
        root: The folder that all paths are in.
        paths: Files and folders, in the order in which they go.
        freed_bytes: What that frees.
        shared_with: Who else uses these files, each in a few words.
    """

    name: str
    root: Path
    paths: tuple[Path, ...]
    freed_bytes: int
    shared_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialFile:
    """What an interrupted download left.

    Attributes:
        path: Where it is.
        repo_id: The repository it belongs to.
        size_bytes: How much of the file arrived.
        origin: Whose download it was: `mlxi` goes on with its own, huggingface_hub never does with its.
        is_active: Whether a download is writing it now.
    """

    path: Path
    repo_id: str
    size_bytes: int
    origin: Literal["mlxi", "huggingface_hub"]
    is_active: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A model whose repository has moved on.

    Attributes:
        repo_id: The repository.
        installed_revision: The commit that is here.
        latest_revision: The commit that its main branch is at.
    """

    repo_id: str
    installed_revision: str
    latest_revision: str
