"""What every encoder offers, and how the names in a checkpoint become those of its modules."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from mlx_integrations.errors import ContextOverflowError
from mlx_integrations.runtime._mlx import nn

__all__ = ["Encoder", "renamed"]

# What sentence-transformers and task heads put before the names of the model inside.
_WRAPPERS = ("0.auto_model.", "auto_model.", "model.")
_LAYER_NUMBER = re.compile(r"\.(\d+)(?=\.)")


class Encoder(nn.Module):
    """Turns token ids into one hidden state a token. Worker thread only.

    Attributes:
        hidden_size: Coordinates of a hidden state.
        vocabulary_size: Token ids are below it.
        max_tokens: The longest text it has positions for; `None` if it has no such limit.
        prefixes: What a checkpoint may put before its names, besides the wrappers of sentence-transformers.
        names: Modules of the checkpoint and what they are called here, `*` for a layer's number; others keep theirs.
        unused: Beginnings of names that a checkpoint may have and an embedding does not need.
    """

    prefixes: ClassVar[tuple[str, ...]] = ()
    names: ClassVar[Mapping[str, str]] = {}
    unused: ClassVar[tuple[str, ...]] = ()

    hidden_size: int
    vocabulary_size: int
    max_tokens: int | None = None

    def stages(self, ids: Any, mask: Any) -> Iterator[Any]:
        """Yield the hidden states after the embedding layer and after every layer or half of one; the last ones are the
        output.

        Args:
            ids: (B, T) int32, padded at the end.
            mask: (B, T) bool, false where padded.

        Yields:
            (B, T, hidden_size) in the precision of the weights; what stands at padded places means nothing.
        """
        raise NotImplementedError

    def __call__(self, ids: Any, mask: Any) -> Any:
        """The last of the stages."""
        hidden = None
        for stage in self.stages(ids, mask):
            hidden = stage
        return hidden

    def sanitize(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Give a checkpoint's tensors the names they have here, and drop those that an embedding does not need.

        Raises:
            ValueError: Two tensors would get the same name.
        """
        kept: dict[str, Any] = {}
        for name, value in weights.items():
            plain = self.without_prefix(name)
            if plain.startswith(self.unused) or plain.endswith("rotary_emb.inv_freq"):
                continue
            module, _, kind = plain.rpartition(".")
            # The names that TensorFlow's first BERT gave a norm's parameters.
            kind = {"gamma": "weight", "beta": "bias"}.get(kind, kind)
            ours = f"{renamed(module, self.names)}.{kind}"
            if ours in kept:
                raise ValueError(f"`{name}` is there twice, once under another name")
            kept[ours] = value
        return kept

    def checkpoint_name(self, name: str) -> str:
        """What one of our tensors is called in a checkpoint, for errors."""
        module, _, kind = name.rpartition(".")
        return f"{renamed(module, {ours: theirs for theirs, ours in self.names.items()})}.{kind}"

    def check_length(self, ids: Any) -> None:
        """Refuse texts for which there are no positions: looking those up would read other memory.

        Raises:
            ContextOverflowError: `ids`, (B, T), are longer than `max_tokens`.
        """
        tokens = ids.shape[1]
        if self.max_tokens is not None and tokens > self.max_tokens:
            raise ContextOverflowError(
                f"A text has {tokens:,} tokens, the model has positions for {self.max_tokens:,}.",
                prompt_tokens=tokens,
                limit_tokens=self.max_tokens,
                hint="Cut the text, or lower `max_seq_length` in sentence_bert_config.json.",
            )

    def without_prefix(self, name: str) -> str:
        """A tensor's name without what sentence-transformers or a task head put before it."""
        prefixes = _WRAPPERS + self.prefixes
        while found := next((prefix for prefix in prefixes if name.startswith(prefix)), None):
            name = name[len(found) :]
        return name


def renamed(module: str, names: Mapping[str, str]) -> str:
    """Look a module's name up, with `*` for a layer's number.

    >>> renamed("encoder.layer.7.attention.self.query", {"encoder.layer.*.attention.self.query": "layers.*.query"})
    'layers.7.query'
    """
    number = _LAYER_NUMBER.search(module)
    pattern = _LAYER_NUMBER.sub(".*", module, count=1)
    found = names.get(pattern, pattern)
    return found.replace("*", number[1], 1) if number else found
