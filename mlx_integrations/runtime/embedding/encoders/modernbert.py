"""ModernBERT: norms before each part, rotary positions, gated feed-forward, layers that see only what is near.

Source: https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/models/modernbert/modeling_modernbert.py
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from mlx_integrations.runtime._mlx import mx, nn
from mlx_integrations.runtime.embedding.encoders.base import Encoder
from mlx_integrations.runtime.embedding.encoders.configuration import EncoderConfig
from mlx_integrations.runtime.embedding.encoders.layers import (
    activation,
    attend,
    head_size,
    in_slices,
    lowest_bias,
    merge_heads,
    padding_bias,
    split_heads,
)
from mlx_integrations.runtime.embedding.encoders.rotary import Rotary, rotary_from, rotate

__all__ = ["ModernBertEncoder"]

_FULL, _SLIDING = "full_attention", "sliding_attention"
_THETA = {_FULL: 160_000.0, _SLIDING: 10_000.0}
# Queries that are taken together in a layer with a window; longer texts are cut into such blocks.
_BLOCK_TOKENS = 256


class ModernBertEncoder(Encoder):
    """ModernBERT, as configured by transformers 4 or 5."""

    unused: ClassVar[tuple[str, ...]] = ("head.", "decoder.")

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.hidden_size = config.size("hidden_size")
        self.vocabulary_size = config.size("vocab_size")
        heads = config.size("num_attention_heads")
        head_size(config, self.hidden_size, heads)
        count = config.size("num_hidden_layers")
        self._kinds = _kinds_of_layers(config, count)
        self._rotaries = {kind: _rotary(config, kind, self.hidden_size // heads) for kind in sorted(set(self._kinds))}
        # config.json gives the whole window, left and right.
        self._reach = config.size("local_attention", default=128) // 2
        eps = config.number("norm_eps", default=1e-5)
        has_norm_bias = config.flag("norm_bias", False)
        self.embeddings = _Embeddings(self.vocabulary_size, self.hidden_size, eps, has_norm_bias)
        activate = activation(config, "hidden_activation")
        inner_size = config.size("intermediate_size")
        self.layers = [
            _Layer(
                self.hidden_size,
                heads,
                inner_size,
                activate,
                eps,
                is_first=number == 0,
                has_norm_bias=has_norm_bias,
                has_attention_bias=config.flag("attention_bias", False),
                has_inner_bias=config.flag("mlp_bias", False),
            )
            for number in range(count)
        ]
        self.final_norm = nn.LayerNorm(self.hidden_size, eps=eps, bias=has_norm_bias)

    def stages(self, ids: Any, mask: Any) -> Iterator[Any]:
        """Yield the hidden states; see `Encoder.stages`."""
        hidden = self.embeddings(ids)
        yield hidden
        bias = padding_bias(mask, hidden.dtype)
        angles = {kind: rotary.angles(mask) for kind, rotary in self._rotaries.items()}
        last = len(self.layers) - 1
        for number, (layer, kind) in enumerate(zip(self.layers, self._kinds, strict=True)):
            reach = self._reach if kind == _SLIDING else None
            hidden = layer(hidden, bias, angles[kind], reach)
            yield self.final_norm(hidden) if number == last else hidden


def _kinds_of_layers(config: EncoderConfig, count: int) -> list[str]:
    """Which layers see everything; before transformers 5 it was every so many."""
    named = config.values_of("layer_types")
    if named is None:
        every = config.size("global_attn_every_n_layers", default=3)
        return [_FULL if number % every == 0 else _SLIDING for number in range(count)]
    if not isinstance(named, list) or len(named) != count or not set(named) <= {_FULL, _SLIDING}:
        raise config.unsupported(f"`layer_types` = `{named}` for {count} layers")
    return named


def _rotary(config: EncoderConfig, kind: str, size: int) -> Rotary:
    config.allow_only("rope_scaling")
    theta = config.number("global_rope_theta", default=_THETA[_FULL])
    if kind == _SLIDING:
        # In transformers 4, `null` means the other layers' base.
        default = theta if config.is_null("local_rope_theta") else _THETA[_SLIDING]
        theta = config.number("local_rope_theta", default=default)
    max_tokens = config.size("max_position_embeddings", default=8192)
    return rotary_from(config.part("rope_parameters").part(kind), size, theta=theta, max_tokens=max_tokens)


class _Embeddings(nn.Module):
    def __init__(self, words: int, hidden_size: int, norm_eps: float, has_bias: bool) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(words, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=norm_eps, bias=has_bias)

    def __call__(self, ids: Any) -> Any:
        return self.norm(self.tok_embeddings(ids))


class _Attention(nn.Module):
    def __init__(self, hidden_size: int, heads: int, has_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (hidden_size // heads) ** -0.5
        self.Wqkv = nn.Linear(hidden_size, 3 * hidden_size, bias=has_bias)
        self.Wo = nn.Linear(hidden_size, hidden_size, bias=has_bias)

    def __call__(self, x: Any, bias: Any, angles: tuple[Any, Any], reach: int | None) -> Any:
        queries, keys, values = (split_heads(part, self.heads) for part in mx.split(self.Wqkv(x), 3, axis=-1))
        queries, keys = rotate(queries, *angles), rotate(keys, *angles)
        if reach is None or x.shape[1] <= reach + 1:
            found = attend(queries, keys, values, bias, scale=self.scale)
        else:
            found = _attend_nearby(queries, keys, values, bias, reach, scale=self.scale)
        return self.Wo(merge_heads(found))


def _attend_nearby(queries: Any, keys: Any, values: Any, bias: Any, reach: int, *, scale: float) -> Any:
    """Attention to the keys at most `reach` tokens away, in blocks, so that its cost grows with the length only."""
    tokens = queries.shape[2]
    blocks = []
    for start in range(0, tokens, _BLOCK_TOKENS):
        stop = min(start + _BLOCK_TOKENS, tokens)
        low, high = max(start - reach, 0), min(stop + reach, tokens)
        distances = mx.abs(mx.arange(start, stop)[:, None] - mx.arange(low, high)[None])
        nearby = mx.where(distances <= reach, bias[..., low:high], lowest_bias(bias.dtype))
        blocks.append(
            attend(
                queries[:, :, start:stop],
                keys[:, :, low:high],
                values[:, :, low:high],
                nearby,
                scale=scale,
            )
        )
    return mx.concatenate(blocks, axis=2)


class _FeedForward(nn.Module):
    def __init__(self, hidden_size: int, inner_size: int, activate: Callable[[Any], Any], has_bias: bool) -> None:
        super().__init__()
        self.activate = activate
        self.Wi = nn.Linear(hidden_size, 2 * inner_size, bias=has_bias)
        self.Wo = nn.Linear(inner_size, hidden_size, bias=has_bias)

    def __call__(self, x: Any) -> Any:
        return in_slices(self._feed_forward, x, self.Wi.weight.shape[0])

    def _feed_forward(self, x: Any) -> Any:
        inner, gate = mx.split(self.Wi(x), 2, axis=-1)
        return self.Wo(self.activate(inner) * gate)


class _Layer(nn.Module):
    def __init__(
        self,
        hidden_size: int,
        heads: int,
        inner_size: int,
        activate: Callable[[Any], Any],
        norm_eps: float,
        *,
        is_first: bool,
        has_norm_bias: bool,
        has_attention_bias: bool,
        has_inner_bias: bool,
    ) -> None:
        super().__init__()
        # The embeddings have just been normalised.
        if not is_first:
            self.attn_norm = nn.LayerNorm(hidden_size, eps=norm_eps, bias=has_norm_bias)
        self.attn = _Attention(hidden_size, heads, has_attention_bias)
        self.mlp_norm = nn.LayerNorm(hidden_size, eps=norm_eps, bias=has_norm_bias)
        self.mlp = _FeedForward(hidden_size, inner_size, activate, has_inner_bias)

    def __call__(self, x: Any, bias: Any, angles: tuple[Any, Any], reach: int | None) -> Any:
        normal = self.attn_norm(x) if "attn_norm" in self else x
        x = x + self.attn(normal, bias, angles, reach)
        return x + self.mlp(self.mlp_norm(x))
