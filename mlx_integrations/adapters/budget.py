"""How much of a model's window a conversation may fill before it has to be shortened."""

from mlx_integrations.errors import InvalidRequestError

__all__ = ["budget_of"]


def budget_of(window: int, fraction: float = 0.6, minimum_tokens: int = 2048, maximum_tokens: int = 200_000) -> int:
    """Tokens that the messages of a conversation may take.

    Args:
        window: Tokens of prompt and answer together.
        fraction: Share of the window, above 0 and at most 1.
        minimum_tokens: Never less than this, except where it would be more than three quarters of the window.
        maximum_tokens: Never more than this: prompts of every length cost time, and models get vaguer in long ones.

    Raises:
        InvalidRequestError: The fraction is out of range.
    """
    if not 0 < fraction <= 1:
        raise InvalidRequestError(f"`fraction` cannot be `{fraction}`: it is above 0 and at most 1.", field="fraction")
    floor = min(minimum_tokens, window * 3 // 4)
    return min(max(int(window * fraction), floor), maximum_tokens)
