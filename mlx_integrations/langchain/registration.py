"""`init_chat_model("mlx:...")`: LangChain's registry of providers is closed, so the entry is added at run time."""

from contextlib import suppress

from langchain.chat_models import base as langchain_base

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.langchain.answers import MODEL_PROVIDER
from mlx_integrations.langchain.chat_models import ChatMLX

__all__ = ["register_with_langchain"]


def register_with_langchain() -> None:
    """Make `init_chat_model("mlx:demo")` and `create_agent("mlx:demo")` work in this process. Safe to call again.

    It also lets `langchain_core.load` revive a `ChatMLX` with `allowed_objects="all"`.

    Raises:
        ConfigurationError: This version of LangChain keeps its providers elsewhere.
    """
    # Both tables are private: LangChain takes no providers from other packages. It offers an instance instead, which
    # is what the hint says. Removable once init_chat_model reads entry points.
    providers = getattr(langchain_base, "_BUILTIN_PROVIDERS", None)
    creator = getattr(langchain_base, "_call", None)
    if not isinstance(providers, dict) or not callable(creator):
        raise ConfigurationError(
            "This version of LangChain keeps its providers in another place.",
            hint='Pass the model itself: `create_agent(ChatMLX(model="demo"))`.',
        )
    providers[MODEL_PROVIDER] = (ChatMLX.__module__.rpartition(".")[0], ChatMLX.__name__, creator)
    # `allowed_objects=[ChatMLX]` needs no entry, so there is nothing to complain of where this table has moved.
    with suppress(ImportError):
        from langchain_core.load.load import ALL_SERIALIZABLE_MAPPINGS, _default_class_paths_cache

        path = tuple(ChatMLX.lc_id())
        ALL_SERIALIZABLE_MAPPINGS[path] = path
        _default_class_paths_cache.pop("all", None)
