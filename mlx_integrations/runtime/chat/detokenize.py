"""Token ids to text, one at a time, exactly: the pieces joined equal the decoding of all ids together."""

from collections.abc import Collection

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

__all__ = ["Detokenizer"]


class Detokenizer:
    """Streams the text of one answer; holds back bytes until they make a character.

    Args:
        tokenizer: The Hugging Face tokenizer (thread-safe, not changed).
        hidden_ids: Tokens that never show: special tokens that mean nothing to the parser.
    """

    def __init__(self, tokenizer: Tokenizer, hidden_ids: Collection[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._hidden_ids = hidden_ids
        self._stream = DecodeStream(skip_special_tokens=False)
        self._ids: list[int] = []
        self._emitted_chars = 0

    def add(self, token_id: int) -> str:
        """The text that this token completes, often empty in the middle of a character."""
        if token_id in self._hidden_ids:
            return ""
        self._ids.append(token_id)
        text = self._stream.step(self._tokenizer, token_id) or ""
        self._emitted_chars += len(text)
        return text

    def flush(self) -> str:
        """What is still held back: the bytes of a character that never ended, as U+FFFD."""
        whole: str = self._tokenizer.decode(self._ids, skip_special_tokens=False)
        rest = whole[self._emitted_chars :]
        self._emitted_chars = len(whole)
        return rest
