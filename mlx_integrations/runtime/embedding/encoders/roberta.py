"""RoBERTa, XLM-RoBERTa and CamemBERT: BERT with positions counted from after the padding token's id.

Source: https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/models/roberta/modeling_roberta.py
"""

from typing import Any, ClassVar

from mlx_integrations.runtime._mlx import mx
from mlx_integrations.runtime.embedding.encoders.bert import BertEncoder
from mlx_integrations.runtime.embedding.encoders.configuration import EncoderConfig

__all__ = ["RobertaEncoder", "positions_after"]


class RobertaEncoder(BertEncoder):
    """BERT with RoBERTa's positions; padding tokens inside a text have a position of their own and are not counted."""

    prefixes: ClassVar[tuple[str, ...]] = ("roberta.", "xlm_roberta.", "camembert.")

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.padding_id = config.index("pad_token_id", default=1)
        self.max_tokens = config.size("max_position_embeddings", default=512) - 1 - self.padding_id
        if self.max_tokens < 1:
            raise config.unsupported(f"`pad_token_id` = `{self.padding_id}`, which leaves no positions,")

    def positions(self, ids: Any, mask: Any) -> Any:
        """The rows of the position table that the tokens get, (B, T)."""
        return positions_after(self.padding_id, ids, mask)


def positions_after(padding_id: int, ids: Any, mask: Any) -> Any:
    """Number the tokens of each row from `padding_id + 1`; padding gets `padding_id`.

    Args:
        padding_id: The padding token.
        ids: (B, T) int32.
        mask: (B, T) bool, false where padded.

    Returns:
        (B, T) int32.
    """
    # The mask too: a tokenizer may pad with another token than config.json names.
    counted = mx.logical_and(ids != padding_id, mask).astype(mx.int32)
    return mx.cumsum(counted, axis=1) * counted + padding_id
