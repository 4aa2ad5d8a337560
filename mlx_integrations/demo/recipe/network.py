"""The Llama network in torch, for training only; its weights have the names that mlx-lm expects."""

from __future__ import annotations

import torch  # type: ignore[import-not-found, unused-ignore]
from torch import Tensor, nn  # type: ignore[import-not-found, unused-ignore]
from torch.nn import functional  # type: ignore[import-not-found, unused-ignore]

from mlx_integrations.demo.recipe.shape import Shape


def rotary(shape: Shape) -> tuple[Tensor, Tensor]:
    """Returns the cosines and sines of rotary positions, each (context, head_width) float32."""
    half = shape.head_width // 2
    frequencies = shape.rope_theta ** (-torch.arange(half) / half)
    angles = torch.arange(shape.context_tokens)[:, None] * frequencies[None, :]
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):  # type: ignore[misc, unused-ignore]
    """Causal self-attention with rotary positions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(shape.width, shape.width, bias=False))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Maps x: (B, T, width) to the same shape."""
        batch, length, width = x.shape
        weights = torch.cat((self.q_proj.weight, self.k_proj.weight, self.v_proj.weight))
        queries, keys, values = (
            functional.linear(x, weights).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        )
        mixed = functional.scaled_dot_product_attention(
            _rotate(queries, cos, sin), _rotate(keys, cos, sin), values, is_causal=True
        )
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return out


class FeedForward(nn.Module):  # type: ignore[misc, unused-ignore]
    """Gated feed-forward layer (SwiGLU)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.down_proj = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x: (B, T, width) to the same shape."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):  # type: ignore[misc, unused-ignore]
    """One transformer layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Maps x: (B, T, width) to the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Llama(nn.Module):  # type: ignore[misc, unused-ignore]
    """The language model; the output layer is the embedding matrix."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.model.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.model.norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        cos, sin = rotary(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self._initialise(shape)

    def _initialise(self, shape: Shape) -> None:
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                scale = 0.02 if "embed" in name else shape.width**-0.5
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    scale *= (2 * shape.layers) ** -0.5
                nn.init.normal_(weight, std=scale)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens: (B, T) int64 to hidden states (B, T, width)."""
        x = self.model.embed_tokens(tokens)
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        out: Tensor = self.model.norm(x)
        return out

    def loss(self, tokens: Tensor, weights: Tensor) -> Tensor:
        """Returns the weighted sum of the cross-entropy of each next token.

        Args:
            tokens: (B, T) int64.
            weights: (B, T) float32, how much predicting each token counts; 0 for padding.
        """
        hidden, targets, counts = self(tokens[:, :-1]), tokens[:, 1:], weights[:, 1:]
        used = counts > 0
        logits = functional.linear(hidden[used], self.model.embed_tokens.weight)
        losses = functional.cross_entropy(logits, targets[used], reduction="none")
        total: Tensor = (losses * counts[used]).sum()
        return total
