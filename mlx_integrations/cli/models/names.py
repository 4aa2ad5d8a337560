"""What a model is called on the screen, and what is told of it in JSON."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlx_integrations.manager.records import InstalledModel
    from mlx_integrations.registry import ModelEntry, ModelRegistry

__all__ = ["entry_record", "model_record", "short_name"]


def short_name(model: "InstalledModel", registry: "ModelRegistry") -> str:
    """The registry's name where it has one, which is shorter than a repository's; every command takes both."""
    entry = registry.get(model.repo_id) if model.repo_id else None
    return entry.id if entry is not None and model.source != "folder" else model.name


def model_record(model: "InstalledModel", registry: "ModelRegistry") -> dict[str, Any]:
    """A model on this machine as plain values."""
    entry = registry.get(model.repo_id) if model.repo_id else None
    record = asdict(model)
    record["path"] = str(model.path)
    record["quantization"] = model.quantization.label if model.quantization else None
    record["last_used"] = model.last_used.isoformat() if model.last_used else None
    return {"id": entry.id if entry else None, **record}


def entry_record(entry: "ModelEntry") -> dict[str, Any]:
    """A known model as plain values; what is not known is left out."""
    record = asdict(entry)
    record["quantization"] = entry.quantization.label if entry.quantization else None
    return {name: value for name, value in record.items() if value not in (None, "", (), {}, [])}
