"""Routers as plain values and back: models and policy, without keys and without functions."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final

from llama_index.core.llms.llm import LLM
from llama_index.core.llms.loading import load_llm

from mlx_integrations.adapters.chat_candidates import ModelFacts
from mlx_integrations.errors import ConfigurationError
from mlx_integrations.llama_index.llm import MLXLLM
from mlx_integrations.router.policy import Deadlines, Policy

__all__ = ["loaded_facts", "loaded_llm", "loaded_policy", "saved_facts", "saved_llm", "saved_policy"]

_SECRETS: Final = ("key", "token", "secret", "password", "headers", "authorization")


def saved_llm(llm: LLM) -> dict[str, Any] | None:
    """A model as plain values, or `None` if values do not make it again: one that somebody else computes for."""
    if isinstance(llm, MLXLLM) and (llm.backend is not None or llm.runtime is not None):
        return None
    values: dict[str, Any] = _without_secrets(llm.to_dict())
    return values


def loaded_llm(name: str, data: Any) -> LLM:
    """The model again.

    Raises:
        ConfigurationError: Nobody knows how to make it; it has to be given.
    """
    if isinstance(data, LLM):
        return data
    kind = data.get("class_name") if isinstance(data, Mapping) else None
    try:
        if kind == MLXLLM.class_name():
            return MLXLLM.from_dict(data)
        if kind is not None:
            return load_llm(dict(data))
    except ValueError:  # LlamaIndex knows how to make few models
        pass
    raise ConfigurationError(
        f"The model `{name}` cannot be made from what was saved of it.",
        hint=f'Give it: `RouterLLM.from_dict(data, llms={{"{name}": ...}})`.',
    )


def saved_policy(policy: Policy) -> dict[str, Any]:
    """A policy as plain values. A scorer is a function, and left out."""
    values = {item.name: getattr(policy, item.name) for item in fields(policy) if item.name != "scorer"}
    return {**_plain(values), "deadlines": asdict(policy.deadlines)}


def loaded_policy(data: Policy | Mapping[str, Any]) -> Policy:
    """The policy again.

    Raises:
        ConfigurationError: It contradicts itself, or has a name that does not exist.
    """
    if isinstance(data, Policy):
        return data
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    for name in ("private_tags", "private_profiles"):
        values[name] = frozenset(values.get(name, ()))
    values["tasks"] = {task: tuple(names) for task, names in values.get("tasks", {}).items()}
    values["deadlines"] = Deadlines(**values.get("deadlines", {}))
    return Policy(**values)


def saved_facts(facts: ModelFacts) -> dict[str, Any]:
    """Facts as plain values."""
    return _plain(asdict(facts))


def loaded_facts(data: ModelFacts | Mapping[str, Any]) -> ModelFacts:
    """The facts again."""
    if isinstance(data, ModelFacts):
        return data
    values = dict(data)
    for name in ("tasks", "languages"):
        if values.get(name) is not None:
            values[name] = frozenset(values[name])
    return ModelFacts(**values)


def _without_secrets(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    kept = {name: item for name, item in value.items() if not str(name).lower().endswith(_SECRETS)}
    return {name: _without_secrets(item) for name, item in kept.items()}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in values.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, frozenset):
        return sorted(value)
    return list(value) if isinstance(value, tuple) else value
