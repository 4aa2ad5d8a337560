"""Texts to token ids, as sentence-transformers makes them: prompt first, special tokens kept when a text is cut.

tokenizer.json is read by `tokenizers` itself: its calls may come from any number of threads, and do not hold the GIL.
No MLX.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mlx_integrations.errors import ModelLoadError
from mlx_integrations.runtime.chat.prompt_messages import clean_text
from mlx_integrations.runtime.embedding.json_fields import JsonFields
from mlx_integrations.runtime.embedding.model_files import SentenceModel

__all__ = ["TextEncoder", "Tokens"]

_SLICE_TEXTS = 16
_OLD_TOKENIZER_FILES = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
_BERT_TOKENIZERS = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MPNetTokenizer")
_BERT_OPTIONS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
_KEPT_PROMPTS = 64
_PROBE = "a"


class Tokens(NamedTuple):
    """One text as the model reads it.

    Attributes:
        ids: Prompt, text and special tokens, cut to what the model reads.
        prompt_tokens: How many of them, from the first, belong to the prompt.
        total_tokens: How many there were before cutting.
    """

    ids: tuple[int, ...]
    prompt_tokens: int
    total_tokens: int


class TextEncoder:
    """What turns texts into token ids for one model.

    Args:
        model: What the model's files say.

    Raises:
        ModelLoadError: The folder has no tokenizer, a damaged one, or that of another model.
    """

    def __init__(self, model: SentenceModel) -> None:
        self._folder = model.folder.path
        self._max_tokens = model.max_tokens
        config, options = model.folder.config, JsonFields(self._folder / "tokenizer_config.json", model.path)
        self._vocabulary_size = _vocabulary_size(config)
        self._tokenizer = _load(self._folder, options, model)
        self._check_vocabulary()
        self._leading, self._trailing = self._special_tokens_added()
        self._cuts_left = options.text("truncation_side") == "left"
        self._special_ids = _special_ids(self._tokenizer, options)
        self._prompt_tokens: dict[str, int] = {}
        self.pad_id = self._find_pad_id(config, options)
        """The id that fills up short rows; the model never looks at it."""

    def encode(self, texts: Sequence[str], prompt: str = "") -> list[Tokens]:
        """Token ids of texts, each with the prompt put before it as it stands.

        Raises:
            ModelLoadError: A text has a token that the model has no vector for: the tokenizer belongs to another model.
        """
        prompt_tokens = self._count_prompt(prompt) if prompt else 0
        found = []
        for whole in self._encode_whole(texts, prompt):
            ids = tuple(self._cut(whole))
            if self._vocabulary_size is not None and ids and max(ids) >= self._vocabulary_size:
                raise self._foreign(max(ids))
            found.append(Tokens(ids, min(prompt_tokens, len(ids)), len(whole)))
        return found

    def count(self, texts: Sequence[str], prompt: str = "") -> list[int]:
        """Tokens of each text before it is cut, prompt and special tokens included."""
        return [len(ids) for ids in self._encode_whole(texts, prompt)]

    def _encode_whole(self, texts: Sequence[str], prompt: str) -> list[list[int]]:
        cleaned = [clean_text(prompt + text) for text in texts]
        # In slices: a whole window would keep all cores from a chat for as long as it takes.
        slices = (cleaned[start : start + _SLICE_TEXTS] for start in range(0, len(cleaned), _SLICE_TEXTS))
        return [encoding.ids for some in slices for encoding in self._tokenizer.encode_batch_fast(some)]

    def _cut(self, ids: list[int]) -> list[int]:
        """At most `max_tokens` of them. What is cut is text; the special tokens around it stay."""
        if len(ids) <= self._max_tokens:
            return ids
        start, end = self._leading, len(ids) - self._trailing
        kept = self._max_tokens - self._leading - self._trailing
        text = ids[end - kept : end] if self._cuts_left else ids[start : start + kept]
        return ids[:start] + text + ids[end:]

    def _count_prompt(self, prompt: str) -> int:
        """Tokens that `include_prompt: false` leaves out of pooling.

        sentence-transformers encodes the prompt alone, and does not count a special token at its end
        (`_get_prompt_length` in sentence_transformers/base/modules/transformer.py).
        """
        known = self._prompt_tokens.get(prompt)
        if known is None:
            ids = self._cut(self._encode_whole([""], prompt)[0])
            known = len(ids) - bool(ids and ids[-1] in self._special_ids)
            if len(self._prompt_tokens) < _KEPT_PROMPTS:
                self._prompt_tokens[prompt] = known
        return known

    def _check_vocabulary(self) -> None:
        tokens = self._tokenizer.get_vocab_size(with_added_tokens=False)
        if self._vocabulary_size is not None and tokens > self._vocabulary_size:
            raise ModelLoadError(
                f"The tokenizer of `{self._folder}` has {tokens:,} tokens, the model knows {self._vocabulary_size:,} "
                "(`vocab_size`).",
                model_path=str(self._folder),
                hint="The tokenizer belongs to another model; download both from one place.",
            )

    def _foreign(self, token_id: int) -> ModelLoadError:
        return ModelLoadError(
            f"The tokenizer of `{self._folder}` gives the token `{self._tokenizer.id_to_token(token_id)}` the id "
            f"{token_id}, the model knows ids below {self._vocabulary_size} (`vocab_size`).",
            model_path=str(self._folder),
            hint="The tokenizer belongs to another model; download both from one place.",
        )

    def _special_tokens_added(self) -> tuple[int, int]:
        """How many special tokens go before a text and after it."""
        bare = self._tokenizer.encode(_PROBE, add_special_tokens=False).ids
        whole = self._tokenizer.encode(_PROBE).ids
        added = len(whole) - len(bare)
        leading = next((at for at in range(added + 1) if whole[at : at + len(bare)] == bare), added)
        if added >= self._max_tokens:
            raise ModelLoadError(
                f"`{self._folder}` cuts texts after {self._max_tokens} tokens, but {added} special tokens belong to "
                "each: nothing of a text would be left.",
                model_path=str(self._folder),
                hint="Correct `max_seq_length` in sentence_bert_config.json.",
            )
        return leading, added - leading

    def _find_pad_id(self, config: Mapping[str, Any], options: JsonFields) -> int:
        token = _content(options.values.get("pad_token"))
        candidates = (self._tokenizer.token_to_id(token) if token else None, config.get("pad_token_id"))
        limit = self._vocabulary_size
        for candidate in candidates:
            if isinstance(candidate, int) and candidate >= 0 and (limit is None or candidate < limit):
                return candidate
        return 0


def _load(folder: Path, options: JsonFields, model: SentenceModel) -> Any:
    """A `tokenizers.Tokenizer` that neither cuts nor pads."""
    file = folder / "tokenizer.json"
    has_old_files = any((folder / name).is_file() for name in _OLD_TOKENIZER_FILES)
    if not file.is_file() and not has_old_files:
        raise ModelLoadError(
            f"`{folder}` has no tokenizer: there is no tokenizer.json.",
            model_path=str(model.path),
            hint="Download tokenizer.json and tokenizer_config.json of the model.",
        )
    try:
        tokenizer = _from_json(file) if file.is_file() else _from_old_files(folder)
    except Exception as error:  # tokenizers raises bare `Exception`, transformers anything from KeyError to ImportError
        raise ModelLoadError(
            f"The tokenizer of `{folder}` cannot be loaded: {error}.",
            model_path=str(model.path),
            hint="Download tokenizer.json again, or have transformers write it: "
            "`AutoTokenizer.from_pretrained(folder).save_pretrained(folder)`.",
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    _apply_bert_options(tokenizer, options, model.folder.model_type)
    if model.do_lower_case:
        _lower_case(tokenizer)
    return tokenizer


def _from_json(file: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(file))


def _from_old_files(folder: Path) -> Any:
    """A tokenizer that transformers builds from vocab.txt, a sentencepiece model or the like."""
    advisory = os.environ.get("TRANSFORMERS_NO_ADVISORY_WARNINGS")
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # else its import says that torch is missing
    try:
        from transformers import AutoTokenizer
    finally:
        if advisory is None:
            os.environ.pop("TRANSFORMERS_NO_ADVISORY_WARNINGS", None)
        else:
            os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = advisory
    loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    backend = getattr(loaded, "backend_tokenizer", None)
    if backend is None:
        raise TypeError(f"`{type(loaded).__name__}` exists in Python only")
    return backend


def _apply_bert_options(tokenizer: Any, options: JsonFields, model_type: str) -> None:
    """Let tokenizer_config.json overrule tokenizer.json where transformers does.

    Its BERT tokenizers build their normalizer from these options (transformers/models/bert/tokenization_bert.py).
    """
    name = (options.text("tokenizer_class") or "").removesuffix("Fast")
    is_bert = name in _BERT_TOKENIZERS or (not name and model_type in ("bert", "distilbert", "electra", "mpnet"))
    normalizer = tokenizer.normalizer
    if not is_bert or type(normalizer).__name__ != "BertNormalizer":
        return
    for option, field in _BERT_OPTIONS.items():
        if option in options.values and options.values[option] != getattr(normalizer, field):
            setattr(normalizer, field, options.values[option])
    tokenizer.normalizer = normalizer


def _lower_case(tokenizer: Any) -> None:
    from tokenizers.normalizers import Lowercase, Sequence

    normalizer = tokenizer.normalizer
    tokenizer.normalizer = Lowercase() if normalizer is None else Sequence([Lowercase(), normalizer])


def _vocabulary_size(config: Mapping[str, Any]) -> int | None:
    nested = config.get("text_config")
    size = config.get("vocab_size", nested.get("vocab_size") if isinstance(nested, dict) else None)
    return size if isinstance(size, int) and size > 0 else None


def _special_ids(tokenizer: Any, options: JsonFields) -> frozenset[int]:
    added = tokenizer.get_added_tokens_decoder()
    named = {_content(value) for key, value in options.values.items() if key.endswith("_token")}
    return frozenset(
        [token_id for token_id, token in added.items() if token.special]
        + [token_id for name in named if name and (token_id := tokenizer.token_to_id(name)) is not None]
    )


def _content(token: Any) -> str | None:
    """The text of a token, which tokenizer_config.json writes as a string or as an object."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None
