"""Token ids to text, one at a time, exactly: the pieces joined equal the decoding of all ids together.

Tokenizers of the sentencepiece family write rare characters as bytes, one token each (`<0xE6>`), and decode a run of
such tokens as a whole: one byte out of place makes U+FFFD of all its bytes. So a run is held back until it ends.
"""

import re
from collections.abc import Collection

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

__all__ = ["Detokenizer"]

_BYTE_TOKEN = re.compile("<0x[0-9A-Fa-f]{2}>")
_MAX_HELD_TOKENS = 64
"""A run of bytes longer than this is a script that the vocabulary lacks, and is shown as it comes."""


class Detokenizer:
    """Streams the text of one answer; holds back bytes until they make a character.

    Args:
        tokenizer: The Hugging Face tokenizer (thread-safe, not changed).
        hidden_ids: Tokens that never show: special tokens that mean nothing to the parser.
    """

    def __init__(self, tokenizer: Tokenizer, hidden_ids: Collection[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._hidden_ids = hidden_ids
        self._run: list[int] = []
        self._run_tokens = 0
        self._stream = DecodeStream(skip_special_tokens=False)
        self._ids: list[int] = []
        self._emitted_chars = 0

    def add(self, token_id: int) -> str:
        """The text that this token completes, often empty in the middle of a character."""
        if token_id in self._hidden_ids:
            return ""
        self._run.append(token_id)
        is_byte = _BYTE_TOKEN.fullmatch(self._tokenizer.id_to_token(token_id) or "") is not None
        self._run_tokens = self._run_tokens + 1 if is_byte else 0
        if is_byte and self._run_tokens <= _MAX_HELD_TOKENS:
            return ""
        run, self._run = self._run, []
        return self._step(run)

    def flush(self) -> str:
        """What is still held back: the bytes of a character that never ended, as U+FFFD."""
        self._ids += self._run
        self._run = []
        whole: str = self._tokenizer.decode(self._ids, skip_special_tokens=False)
        rest = whole[self._emitted_chars :]
        self._emitted_chars = len(whole)
        return rest

    def _step(self, ids: list[int]) -> str:
        try:
            text = self._stream.step(self._tokenizer, ids) or ""
        except Exception:  # noqa: BLE001 - tokenizers has nothing narrower for shown bytes that turn out invalid
            self._stream = DecodeStream(ids, skip_special_tokens=False)
            self._ids += ids
            return self.flush()
        self._ids += ids
        self._emitted_chars += len(text)
        return text
