"""How much of a model's window a conversation may fill, and LlamaIndex's memories of just that size."""

from typing import Any

from llama_index.core.memory import ChatMemoryBuffer, Memory

from mlx_integrations.adapters.budget import budget_of
from mlx_integrations.llama_index.llm import MLXLLM

__all__ = ["chat_memory_buffer", "context_budget", "memory"]

# What LlamaIndex's chat engines put around a conversation: prompts of some 200 tokens, 500 kept free, and passages.
_AROUND_TOKENS = 1024
_LEAST_SHARE = 8  # an eighth of the window is kept for the conversation, however small the window is
_FLUSHED_SHARE = 0.1  # of the budget: what goes at once when a memory is full, as LlamaIndex does itself


def context_budget(
    llm: MLXLLM | int, fraction: float = 0.6, minimum_tokens: int = 2048, maximum_tokens: int = 200_000
) -> int:
    """Tokens that the messages of a conversation may take.

    The rest of the window is for the system prompt, the tools and the answer.

    Args:
        llm: A model, or the size of a window in tokens.
        fraction: Share of the window, above 0 and at most 1.
        minimum_tokens: Never less than this, except where it would be more than three quarters of the window.
        maximum_tokens: Never more than this: prompts of every length cost time, and models get vaguer in long ones.

    Raises:
        InvalidRequestError: The fraction is out of range.
        ModelNotFoundError: The model is not on this machine.
    """
    window = llm if isinstance(llm, int) else llm.metadata.context_window
    return budget_of(window, fraction, minimum_tokens, maximum_tokens)


def memory(llm: MLXLLM, *, fraction: float = 0.6, **options: Any) -> Memory:
    """A `Memory` that keeps a conversation within the model's budget, counted by the model's own tokenizer.

    In a small window that is less than `context_budget`: an answer and what a chat engine puts around the conversation
    have to fit as well.

    Args:
        llm: The model.
        fraction: Share of its window.
        **options: Any option of `Memory.from_defaults`.
    """
    limit = int(options.pop("token_limit", None) or _history_tokens(llm, fraction))
    flushed = max(1, int(limit * _FLUSHED_SHARE))
    given = {"token_flush_size": flushed, "tokenizer_fn": llm.tokenizer, **options}
    return Memory.from_defaults(token_limit=limit, **given)


def chat_memory_buffer(llm: MLXLLM, *, fraction: float = 0.6, **options: Any) -> ChatMemoryBuffer:
    """The older `ChatMemoryBuffer`, sized and counted in the same way.

    Args:
        llm: The model.
        fraction: Share of its window.
        **options: Any option of `ChatMemoryBuffer.from_defaults`.
    """
    limit = int(options.pop("token_limit", None) or _history_tokens(llm, fraction))
    return ChatMemoryBuffer.from_defaults(token_limit=limit, **{"tokenizer_fn": llm.tokenizer, **options})


def _history_tokens(llm: MLXLLM, fraction: float) -> int:
    window, longest_answer = llm.metadata.context_window, llm.metadata.num_output
    room = max(window - longest_answer - _AROUND_TOKENS, window // _LEAST_SHARE)
    return min(context_budget(llm, fraction), room)
