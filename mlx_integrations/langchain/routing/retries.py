"""One loop asks again: the router's. What provider clients repeat on their own would only keep the next one waiting."""

from typing import Any, Final

from langchain_core.language_models.chat_models import BaseChatModel

__all__ = ["without_retries"]

# Clients that models keep, with what they hand out of them, in the packages of OpenAI and those built on it.
_OPENAI: Final = (("root_client", "client"), ("root_async_client", "async_client"))
_CACHED: Final = ("_client", "_async_client")


def without_retries(model: BaseChatModel) -> BaseChatModel:
    """The model, or a copy of it whose client does not repeat failed requests.

    The copy shares everything else with the model. A model that has no such setting is returned as it is.
    """
    if "max_retries" not in type(model).model_fields:
        return model
    copied = model.model_copy(update={"max_retries": 0})
    for name in _CACHED:  # Anthropic's are made when they are first needed, from what the fields say then
        copied.__dict__.pop(name, None)
    for root_name, name in _OPENAI:
        root: Any = getattr(model, root_name, None)
        if hasattr(root, "with_options"):
            root = root.with_options(max_retries=0)
            object.__setattr__(copied, root_name, root)
            object.__setattr__(copied, name, root.chat.completions)
    return copied
