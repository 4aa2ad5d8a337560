"""The models that a router is given, each with a name."""

from collections.abc import Mapping
from typing import Any, Final

from langchain_core.language_models.chat_models import BaseChatModel

from mlx_integrations.errors import ConfigurationError

__all__ = ["named_models", "says_why_it_ends"]

_PROVIDERS: Final = ("mlx", "mlx-router", "openai", "azure", "anthropic", "ollama", "google_genai", "openrouter")


def named_models(given: Any) -> dict[str, BaseChatModel]:
    """Models by name.

    Args:
        given: A mapping, or models that are called what they call themselves.

    Raises:
        ConfigurationError: There is none, two have one name, or something is no chat model.
    """
    if isinstance(given, Mapping):
        models = dict(given)
    else:
        models = {}
        for model in given:
            name = _own_name(model)
            if name in models:
                raise ConfigurationError(
                    f"Two of the models are called `{name}`.",
                    hint='Name them: `models={"local": ..., "cloud": ...}`.',
                )
            models[name] = model
    if not models:
        raise ConfigurationError("A router needs at least one model.", hint='Give `models={"local": ChatMLX(...)}`.')
    for name, model in models.items():
        if not isinstance(model, BaseChatModel):
            raise ConfigurationError(
                f"`{name}` is a `{type(model).__name__}`, not a chat model.",
                hint="Give the chat model itself; tools, structured output and options go on the router.",
            )
    return models


def _own_name(model: Any) -> str:
    name = getattr(model, "model_name", None) or getattr(model, "model", None)
    return name if isinstance(name, str) else type(model).__name__


def says_why_it_ends(model: BaseChatModel) -> bool:
    """Whether answers of such a model carry the reason why they ended, as those of the big providers do."""
    provider = model._get_ls_params().get("ls_provider")
    return provider in _PROVIDERS
