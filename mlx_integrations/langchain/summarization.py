"""LangChain's summarisation middleware, set up for a model whose window may be small."""

from typing import Any, Literal

from langchain.agents.middleware import SummarizationMiddleware

from mlx_integrations.langchain.chat_models import ChatMLX
from mlx_integrations.langchain.context import context_budget, context_window

__all__ = ["summarization_middleware"]

Keep = tuple[Literal["messages", "tokens"], int] | tuple[Literal["fraction"], float]

_SMALL_WINDOW_TOKENS = 8192
"""Below this, LangChain's own prompt of some 600 tokens is too large a part of the window."""

_SHORT_PROMPT = """Summarise this conversation in a few sentences. Keep names, numbers, decisions and open tasks.

{messages}"""


def summarization_middleware(
    model: ChatMLX, *, fraction: float = 0.6, keep: Keep | None = None, **kwargs: Any
) -> SummarizationMiddleware:
    """Make the middleware that replaces old messages by a summary before the window is full.

    Tokens are counted by the model's own tokenizer and template. What is summarised, and how long the summary may be,
    follow from the window.

    Args:
        model: The agent's model; it writes the summary too.
        fraction: Share of the window that messages may fill; see `context_budget`.
        keep: How much of the latest conversation stays as it is; a third of the budget when not given.
        **kwargs: Anything else that `SummarizationMiddleware` takes; it goes before what is set here.

    Raises:
        ModelNotFoundError: The model is not on this machine.
    """
    window, budget = context_window(model), context_budget(model, fraction)
    summary_tokens = max(budget // 4, 32)
    settings: dict[str, Any] = {
        "trigger": ("tokens", budget),
        "keep": keep or ("tokens", budget // 3),
        "token_counter": model.get_num_tokens_from_messages,
        "summarizer": model.model_copy(update={"max_tokens": min(model.max_tokens or summary_tokens, summary_tokens)}),
        # Half of the window, and not 4000 tokens: less fits a small one, and a large one need not forget the rest.
        "trim_tokens_to_summarize": window // 2,
    }
    if window < _SMALL_WINDOW_TOKENS:
        settings["summary_prompt"] = _SHORT_PROMPT
    return SummarizationMiddleware(model, **{**settings, **kwargs})
