"""All checks, in the order in which they are told."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from mlx_integrations.cli.diagnosis.configuration import check_default_model, check_settings
from mlx_integrations.cli.diagnosis.finding import Finding
from mlx_integrations.cli.diagnosis.hardware import check_backend, check_blas, check_memory
from mlx_integrations.cli.diagnosis.interpreter import check_architecture, check_packages, check_python
from mlx_integrations.cli.diagnosis.network import check_hub, check_offline, check_registry, check_token
from mlx_integrations.cli.diagnosis.storage import check_cache, check_disk, check_models, check_partials
from mlx_integrations.cli.diagnosis.surroundings import Surroundings
from mlx_integrations.cli.diagnosis.trials import check_chat, check_embedding

__all__ = ["CHECKS", "Check"]

Look = Callable[[Surroundings], Finding | Iterable[Finding]]

_OTHERS: Final = (
    *("mlx-integrations", "pydantic-settings", "jsonschema", "tomlkit", "filelock", "platformdirs", "psutil"),
    *("packaging", "typer", "rich"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing to look at.

    Attributes:
        id: Never changes, so that programs can ask for it.
        group: What it is about.
        title: Its name on the screen.
        look: Looks.
    """

    id: str
    group: str
    title: str
    look: Look


def _check(name: str, group: str, title: str, look: Look) -> Check:
    return Check(id=name, group=group, title=title, look=look)


CHECKS: Final = (
    _check("python.version", "Python", "version", check_python),
    _check("python.architecture", "Python", "built for", check_architecture),
    _check(
        "packages.mlx",
        "Packages",
        "MLX",
        check_packages(
            "mlx", "mlx-lm", "mlx-metal", "mlx-cpu", "mlx-cuda-12", "mlx-cuda-13", "transformers", "llguidance"
        ),
    ),
    _check("packages.hub", "Packages", "Hub", check_packages("huggingface-hub")),
    _check(
        "packages.langchain", "Packages", "LangChain", check_packages("langchain-core", "langchain", extra="langchain")
    ),
    _check("packages.llama-index", "Packages", "LlamaIndex", check_packages("llama-index-core", extra="llama-index")),
    _check("packages.others", "Packages", "others", check_packages(*_OTHERS, summary="as needed")),
    _check("machine.backend", "Machine", "MLX uses", check_backend),
    _check("machine.memory", "Machine", "memory", check_memory),
    _check("machine.blas", "Machine", "fast BLAS", check_blas),
    _check("cache.folder", "Models on disk", "folder", check_cache),
    _check("cache.disk", "Models on disk", "room", check_disk),
    _check("cache.models", "Models on disk", "models", check_models),
    _check("cache.partials", "Models on disk", "left-overs", check_partials),
    _check("network.offline", "Network", "network", check_offline),
    _check("network.token", "Network", "token", check_token),
    _check("network.hub", "Network", "Hub", check_hub),
    _check("registry", "Network", "known models", check_registry),
    _check("config", "Settings", "read from", check_settings),
    _check("config.chat", "Settings", "chat model", check_default_model("chat")),
    _check("config.embedding", "Settings", "embeddings", check_default_model("embedding")),
    _check("trial.chat", "Trial", "chat", check_chat),
    _check("trial.embedding", "Trial", "embedding", check_embedding),
)
