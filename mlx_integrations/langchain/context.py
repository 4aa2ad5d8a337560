"""How much of a model's window a conversation may fill before it has to be shortened."""

from mlx_integrations.adapters.budget import budget_of
from mlx_integrations.langchain.chat_models import ChatMLX
from mlx_integrations.langchain.errors import langchain_errors

__all__ = ["context_budget", "context_window"]


def context_window(model: ChatMLX | int) -> int:
    """Tokens of prompt and answer together; a number is taken as it is."""
    if isinstance(model, int):
        return model
    assert model.profile is not None
    return int(model.profile["max_input_tokens"])


def context_budget(
    model: ChatMLX | int, fraction: float = 0.6, minimum_tokens: int = 2048, maximum_tokens: int = 200_000
) -> int:
    """Tokens that the messages of a conversation may take.

    The rest of the window is for the system prompt, the tools and the answer.

    Args:
        model: A model, or the size of a window in tokens.
        fraction: Share of the window, above 0 and at most 1.
        minimum_tokens: Never less than this, except where it would be more than three quarters of the window.
        maximum_tokens: Never more than this: prompts of every length cost time, and models get vaguer in long ones.

    Raises:
        InvalidRequestError: The fraction is out of range.
        ModelNotFoundError: The model is not on this machine.
    """
    with langchain_errors():
        return budget_of(context_window(model), fraction, minimum_tokens, maximum_tokens)
