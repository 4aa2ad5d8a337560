"""How many tokens something has for a model whose tokenizer is elsewhere: an estimate, and never more than that.

A token is taken to be four bytes of UTF-8. For English that is what OpenAI says of its own tokenizers
(https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them); a Chinese or Japanese character has
three bytes and so counts as three quarters of a token. What the endpoint counts comes with the answer, in `usage`.
"""

import json
from collections.abc import Sequence
from typing import Final

from mlx_integrations.types import ChatMessage, ToolSpec

__all__ = ["clean", "estimated_pieces", "estimated_prompt_tokens", "estimated_tokens"]

_BYTES_PER_TOKEN: Final = 4
_MESSAGE_TOKENS: Final = 4  # role and marks around each message
_IMAGE_TOKENS: Final = 1000  # between what providers count for a small picture and for a large one


def clean(text: str) -> str:
    """`text` with lone surrogates replaced by U+FFFD: they cannot be sent."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def estimated_pieces(text: str) -> list[int]:
    """A number for each token that `text` is taken to have. Equal pieces have equal numbers; no model knows them."""
    data = clean(text).encode()
    return [
        int.from_bytes(data[start : start + _BYTES_PER_TOKEN], "big") for start in range(0, len(data), _BYTES_PER_TOKEN)
    ]


def estimated_tokens(text: str) -> int:
    """Tokens that `text` is taken to have."""
    return -(-len(clean(text).encode()) // _BYTES_PER_TOKEN)


def estimated_prompt_tokens(messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
    """Tokens that messages and tools are taken to have."""
    images = sum(len(message.attachments) for message in messages)
    texts = estimated_tokens("".join(_texts(messages, tools)))
    return texts + _MESSAGE_TOKENS * len(messages) + _IMAGE_TOKENS * images


def _texts(messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> list[str]:
    texts = [message.content for message in messages]
    texts += [
        f"{call.name}{json.dumps(dict(call.arguments), ensure_ascii=False, default=str)}"
        for message in messages
        for call in message.tool_calls
    ]
    return texts + [f"{tool.name}{tool.description}{json.dumps(dict(tool.parameters), default=str)}" for tool in tools]
