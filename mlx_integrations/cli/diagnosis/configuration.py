"""Checks of what is set, and of the models that are used when none is named."""

from collections.abc import Callable, Iterator
from typing import Literal

from mlx_integrations.cli.diagnosis.finding import Finding
from mlx_integrations.cli.diagnosis.surroundings import Surroundings
from mlx_integrations.cli.text import disk, memory
from mlx_integrations.errors import ModelNotFoundError

__all__ = ["check_default_model", "check_settings"]

_CORRECT = "Correct it in your editor; mlxi config path says where your file is"


def check_settings(around: Surroundings) -> Iterator[Finding]:
    """Names that no setting has, values that cannot be, files that cannot be read."""
    for problem in around.problems:
        yield Finding(status="fail", text=problem.message, repair=problem.hint or _CORRECT)
    if not around.problems:
        files = [str(path) for path in around.config_files if path.is_file() and path.stat().st_size]
        changed = {key: str(origin) for key, origin in sorted(around.origins.items())}
        variables = {origin.place for origin in around.origins.values() if origin.kind == "variable"}
        text = ", ".join([*files, *sorted(variables)]) or "none; the defaults hold"
        yield Finding(status="ok", text=text, facts={"files": files, "changed": changed})


def check_default_model(kind: Literal["chat", "embedding"]) -> Callable[[Surroundings], Iterator[Finding]]:
    """A check that the model which is used when none is named is here, can be run, and fits."""

    def check(around: Surroundings) -> Iterator[Finding]:
        names = {_setting(kind): _default(around, kind)}
        if kind == "embedding":
            for profile, value in around.settings.embedding.profiles.items():
                if value.model and value.model not in names.values():
                    names[f"embedding.profiles.{profile}.model"] = value.model
        for setting, name in names.items():
            yield _check_model(around, kind, setting, name)

    return check


def _check_model(around: Surroundings, kind: Literal["chat", "embedding"], setting: str, name: str) -> Finding:
    manager = around.manager()
    facts = {"setting": setting, "model": name}
    try:
        model = manager.find(name)
    except ModelNotFoundError as error:
        # Nobody asked for the model that is used by default: without it, embeddings wait until one is named.
        status: Literal["warn", "fail"] = "fail" if setting in around.origins or kind == "chat" else "warn"
        return Finding(
            status=status, text=f"{name} is not on this machine", repair=_how_to_get(around, name, error), facts=facts
        )
    facts["path"] = str(model.path)
    if model.kind is not None and model.kind != kind:
        wrong = f"{name} is {'an embedding' if model.kind == 'embedding' else 'a chat'} model"
        return Finding(status="fail", text=wrong, repair="mlxi setup", facts=facts)
    if not model.is_usable:
        pull = f"mlxi models pull {name}" if not model.is_complete and model.source == "hub" else "mlxi setup"
        return Finding(status="fail", text=f"{name} cannot be used: {model.reason}", repair=pull, facts=facts)
    machine = around.machine()
    fit = around.fit(model, machine) if machine else None
    if fit is not None and fit.is_refused:
        text = (
            f"{name} needs {memory(fit.needed_bytes)} with {around.settings.models.context_tokens:,} tokens of context"
        )
        text += f"; models may use {memory(fit.budget_bytes)}"
        return Finding(status="warn", text=text, repair="mlxi models recommend, then mlxi setup", facts=facts)
    return Finding(status="ok", text=f"{name}, {disk(model.size_bytes)}", facts=facts)


def _how_to_get(around: Surroundings, name: str, error: ModelNotFoundError) -> str:
    """The line that brings a model; what the error says where there is none."""
    entry = around.manager().registry.get(name)
    if entry is not None and entry.install_command:
        return entry.install_command
    return f"mlxi models pull {name}" if entry is not None and entry.repo_id else error.hint or "mlxi setup"


def _setting(kind: Literal["chat", "embedding"]) -> str:
    return "models.default" if kind == "chat" else "embedding.default"


def _default(around: Surroundings, kind: Literal["chat", "embedding"]) -> str:
    return around.settings.models.default if kind == "chat" else around.settings.embedding.default
