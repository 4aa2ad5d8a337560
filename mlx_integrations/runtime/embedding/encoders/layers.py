"""The parts that several encoders share: attention, feed-forward, the layer that normalises after each of them."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from mlx_integrations.runtime._mlx import mx, nn
from mlx_integrations.runtime.embedding.encoders.activations import ACTIVATIONS, LOG2_E, exp2, prefers_polynomials
from mlx_integrations.runtime.embedding.encoders.base import Encoder
from mlx_integrations.runtime.embedding.encoders.configuration import EncoderConfig

__all__ = [
    "Embeddings",
    "PostNormEncoder",
    "PostNormLayer",
    "activation",
    "attend",
    "head_size",
    "in_slices",
    "lowest_bias",
    "merge_heads",
    "padding_bias",
    "split_heads",
]

# Arrays of about 4 MB: they stay in the caches and in memory that malloc keeps, where larger ones cost a page fault for
# every 4 kB each time (a third of the time for rows of 500 tokens).
_SLICE_ELEMENTS = 1_000_000


def activation(config: EncoderConfig, *keys: str, default: str = "gelu") -> Callable[[Any], Any]:
    """The activation that a configuration names under the first of these keys.

    Raises:
        UnsupportedArchitectureError: It is another one.
    """
    name = config.text(*keys, default=default)
    if name not in ACTIVATIONS:
        raise config.unsupported(f"`{keys[0]}` = `{name}`")
    return ACTIVATIONS[name]


def head_size(config: EncoderConfig, hidden_size: int, heads: int) -> int:
    """Coordinates of one head.

    Raises:
        UnsupportedArchitectureError: The heads do not share the hidden size evenly.
    """
    if hidden_size % heads:
        raise config.unsupported(f"a hidden size of {hidden_size} shared by {heads} heads")
    return hidden_size // heads


def padding_bias(mask: Any, dtype: Any) -> Any:
    """What attention adds to its scores so that nothing attends to padding.

    Args:
        mask: (B, T) bool, false where padded.
        dtype: Of the scores.

    Returns:
        (B, 1, 1, T).
    """
    return mx.where(mask, mx.zeros((), dtype=dtype), lowest_bias(dtype))[:, None, None, :]


def lowest_bias(dtype: Any) -> Any:
    """What is added to the score of a key that must not be seen.

    Finite, so that a row of nothing but padding gives numbers instead of NaN.
    """
    return mx.array(mx.finfo(dtype).min / 2, dtype=dtype)


def split_heads(x: Any, heads: int) -> Any:
    """(B, T, hidden) to (B, heads, T, head)."""
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def merge_heads(x: Any) -> Any:
    """(B, heads, T, head) to (B, T, hidden)."""
    batch, _, tokens, _ = x.shape
    return x.swapaxes(1, 2).reshape(batch, tokens, -1)


def attend(queries: Any, keys: Any, values: Any, bias: Any, *, scale: float) -> Any:
    """Softmax attention.

    Args:
        queries: (B, heads, T, head).
        keys: (B, heads, S, head).
        values: (B, heads, S, head).
        bias: Added to the scaled scores; broadcasts to (B, heads, T, S).
        scale: Factor of the scores.

    Returns:
        (B, heads, T, head).
    """
    if not prefers_polynomials(queries):
        return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=bias)
    queries, bias = queries * (scale * LOG2_E), bias * LOG2_E
    rows, heads, tokens, _ = queries.shape
    parts = [
        _attend_rows(queries[at], keys[at], values[at], bias[at] if bias.shape[0] > 1 else bias)
        for at in _slices(rows, heads * tokens * keys.shape[2])
    ]
    return parts[0] if len(parts) == 1 else mx.concatenate(parts)


def _attend_rows(queries: Any, keys: Any, values: Any, bias: Any) -> Any:
    """Attention with powers of 2, of rows that are few enough or of one that is long."""
    rows, heads, tokens, _ = queries.shape
    keys = keys.swapaxes(-1, -2)
    parts = []
    for at in _slices(tokens, rows * heads * keys.shape[3]):
        scores = queries[:, :, at] @ keys + (bias[:, :, at] if bias.shape[2] > 1 else bias)
        powers = exp2(scores - scores.max(axis=-1, keepdims=True))
        parts.append((powers @ values) / powers.sum(axis=-1, keepdims=True))
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=2)


def in_slices(function: Callable[[Any], Any], x: Any, width: int) -> Any:
    """Apply a function of single tokens, on the CPU backend to so many at a time that its arrays stay small.

    Args:
        function: Maps (tokens, hidden) to the same shape, and (B, T, hidden) too.
        x: (B, T, hidden).
        width: Numbers that it keeps for one token.
    """
    parts = _slices(x.shape[0] * x.shape[1], width) if prefers_polynomials(x) else []
    if len(parts) < 2:
        return function(x)
    tokens = x.reshape(-1, x.shape[-1])
    return mx.concatenate([function(tokens[at]) for at in parts]).reshape(x.shape)


def _slices(count: int, elements: int) -> list[slice]:
    """Cut `count` things with so many elements each into slices of about equal length."""
    pieces = -(-count * elements // _SLICE_ELEMENTS)
    pieces = max(min(pieces, count), 1)
    return [slice(count * piece // pieces, count * (piece + 1) // pieces) for piece in range(pieces)]


class Embeddings(nn.Module):
    """Word vectors, with learned positions and with the vector of the first token type if there are any; normalised.

    Args:
        words: Rows of the vocabulary.
        hidden_size: Coordinates of a hidden state.
        norm_eps: Added to the variance.
        positions: Rows of the position table; 0 for none.
        types: Rows of the table of token types; 0 for none.
    """

    def __init__(self, words: int, hidden_size: int, norm_eps: float, *, positions: int = 0, types: int = 0) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(words, hidden_size)
        if positions:
            self.position_embeddings = nn.Embedding(positions, hidden_size)
        if types:
            self.token_type_embeddings = nn.Embedding(types, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=norm_eps)

    def __call__(self, ids: Any, positions: Any = None) -> Any:
        """Look up (B, T) ids.

        Args:
            ids: (B, T) int32.
            positions: Rows of the position table; broadcasts to (B, T).

        Returns:
            (B, T, hidden).
        """
        hidden = self.word_embeddings(ids)
        if "token_type_embeddings" in self:
            hidden = hidden + self.token_type_embeddings(mx.zeros((1, 1), dtype=mx.int32))
        if positions is not None:
            hidden = hidden + self.position_embeddings(positions)
        return self.norm(hidden)


class _Attention(nn.Module):
    """Self-attention with a projection of its own for queries, keys and values, all with biases."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (hidden_size // heads) ** -0.5
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)

    def __call__(self, x: Any, bias: Any) -> Any:
        queries, keys, values = (split_heads(part(x), self.heads) for part in (self.query, self.key, self.value))
        return self.output(merge_heads(attend(queries, keys, values, bias, scale=self.scale)))


class PostNormLayer(nn.Module):
    """A layer of the first BERT: attention and feed-forward, each added to its input and then normalised.

    Args:
        hidden_size: Coordinates of a hidden state.
        heads: Attention heads.
        inner_size: Width of the feed-forward part.
        activate: Its activation.
        norm_eps: Added to the variance.
    """

    def __init__(
        self, hidden_size: int, heads: int, inner_size: int, activate: Callable[[Any], Any], norm_eps: float
    ) -> None:
        super().__init__()
        self.activate = activate
        self.attention = _Attention(hidden_size, heads)
        self.attention_norm = nn.LayerNorm(hidden_size, eps=norm_eps)
        self.up = nn.Linear(hidden_size, inner_size)
        self.down = nn.Linear(inner_size, hidden_size)
        self.output_norm = nn.LayerNorm(hidden_size, eps=norm_eps)

    def __call__(self, x: Any, bias: Any) -> Any:
        """Map (B, T, hidden) to the same shape."""
        return self.transform(self.mix(x, bias))

    def mix(self, x: Any, bias: Any) -> Any:
        """The half that looks at other tokens."""
        return self.attention_norm(x + self.attention(x, bias))

    def transform(self, x: Any) -> Any:
        """The half that takes each token by itself."""
        return self.output_norm(x + in_slices(self._feed_forward, x, self.up.weight.shape[0]))

    def _feed_forward(self, x: Any) -> Any:
        return self.down(self.activate(self.up(x)))


class PostNormEncoder(Encoder):
    """An encoder of such layers."""

    layers: list[PostNormLayer]

    def stages(self, ids: Any, mask: Any) -> Iterator[Any]:
        """Yield the hidden states; see `Encoder.stages`."""
        self.check_length(ids)
        hidden = self.embed(ids, mask)
        yield hidden
        bias = self.attention_bias(mask, hidden.dtype)
        for layer in self.layers:
            hidden = layer.mix(hidden, bias)
            yield hidden
            hidden = layer.transform(hidden)
            yield hidden

    @abstractmethod
    def embed(self, ids: Any, mask: Any) -> Any:
        """The hidden states before the first layer, (B, T, hidden)."""

    def attention_bias(self, mask: Any, dtype: Any) -> Any:
        """What is added to the attention scores of every layer."""
        return padding_bias(mask, dtype)
