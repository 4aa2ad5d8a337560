"""`init_chat_model("mlx:...")`, `init_embeddings("mlx:...")`: LangChain's registries of providers are closed, so the
entries are added at run time.
"""

from contextlib import suppress

from langchain.chat_models import base as chat_base
from langchain.embeddings import base as embeddings_base

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.langchain.answers import MODEL_PROVIDER
from mlx_integrations.langchain.chat_models import ChatMLX
from mlx_integrations.langchain.embeddings import MLXEmbeddings

__all__ = ["register_with_langchain"]


def register_with_langchain() -> None:
    """Make `init_chat_model("mlx:demo")`, `create_agent("mlx:demo")` and `init_embeddings("mlx:minilm-l6-v2")` work.

    It holds for this process, is safe to call again, and lets `langchain_core.load` revive a `ChatMLX` or
    `MLXEmbeddings` with `allowed_objects="all"`.

    Raises:
        ConfigurationError: This version of LangChain keeps its providers elsewhere.
    """
    # The tables are private: LangChain takes no providers from other packages. It takes an instance instead, which is
    # what the hint says. Removable once init_chat_model and init_embeddings read entry points.
    models: tuple[type, ...] = (ChatMLX, MLXEmbeddings)
    tables = [getattr(base, "_BUILTIN_PROVIDERS", None) for base in (chat_base, embeddings_base)]
    creators = [getattr(base, "_call", None) for base in (chat_base, embeddings_base)]
    if not all(isinstance(table, dict) for table in tables) or not all(callable(creator) for creator in creators):
        raise ConfigurationError(
            "This version of LangChain keeps its providers in another place.",
            hint='Pass the model itself: `create_agent(ChatMLX(model="demo"))`.',
        )
    for table, creator, model in zip(tables, creators, models, strict=True):
        assert table is not None
        table[MODEL_PROVIDER] = (model.__module__.rpartition(".")[0], model.__name__, creator)
    # `allowed_objects=[ChatMLX]` needs no entry, so there is nothing to complain of where this table has moved.
    with suppress(ImportError):
        from langchain_core.load.load import ALL_SERIALIZABLE_MAPPINGS, _default_class_paths_cache

        for path in (tuple(ChatMLX.lc_id()), tuple(MLXEmbeddings.lc_id())):
            ALL_SERIALIZABLE_MAPPINGS[path] = path
        _default_class_paths_cache.pop("all", None)
