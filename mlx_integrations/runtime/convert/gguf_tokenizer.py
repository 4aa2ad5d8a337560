"""The tokenizer inside a GGUF file as tokenizer.json and tokenizer_config.json.

Two kinds are known (`tokenizer.ggml.model`): `gpt2`, byte-level BPE with its merges, and `llama`, SentencePiece's BPE,
which has scores instead. How texts are split before merging is known by a name only (`tokenizer.ggml.pre`), so a name
that is not known is refused: a guess would give a model other tokens than it was trained with, and nobody would notice.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlx_integrations.errors import ConversionError, UnsupportedFormatError
from mlx_integrations.runtime.convert.gguf_file import GGUFFile
from mlx_integrations.runtime.convert.gguf_values import GGUFValues, listed

__all__ = ["write_tokenizer"]

# Kinds of tokens (llama.cpp, include/llama.h: `llama_token_type`).
_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 2, 3, 4, 6
_SPACE = "▁"

_GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2: Final = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE_WORD = r"[^\r\n\p{L}\p{N}]?"
_AFTER_WORDS = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN: Final = rf"{_BEFORE_WORD}{_UPPER}*{_LOWER}+|{_BEFORE_WORD}{_UPPER}+{_LOWER}*|\p{{N}}{_AFTER_WORDS}"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_GPT4O: Final = (
    rf"{_BEFORE_WORD}{_UPPER}*{_LOWER}+{_CONTRACTION}|{_BEFORE_WORD}{_UPPER}+{_LOWER}*{_CONTRACTION}"
    rf"|\p{{N}}{{1,3}}{_AFTER_WORDS}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Splitting:
    """How a byte-level vocabulary's texts are split before anything is merged.

    Attributes:
        pattern: What is one piece.
        single_digits: Digits are split from one another first.
        composes: Texts are brought into Unicode's composed form (NFC).
        keeps_words: A piece that is a token as a whole is not merged.
        begins: Whether texts begin with the first special token, unless the file says.
    """

    pattern: str
    single_digits: bool = False
    composes: bool = False
    keeps_words: bool = False
    begins: bool = False


_LLAMA3_SPLITTING = _Splitting(pattern=_LLAMA3, keeps_words=True, begins=True)
_QWEN2_SPLITTING = _Splitting(pattern=_QWEN2, composes=True)
# By llama.cpp's names (src/llama-vocab.cpp: `llm_tokenizer_bpe`); the patterns are those of the models' own
# tokenizer.json files.
_SPLITTINGS: Final[Mapping[str, _Splitting]] = {
    "dbrx": _Splitting(pattern=_LLAMA3),
    "deepseek-r1-qwen": _QWEN2_SPLITTING,
    "gpt-2": _Splitting(pattern=_GPT2),
    "gpt-4o": _Splitting(pattern=_GPT4O),
    "llama-bpe": _LLAMA3_SPLITTING,
    "llama-v3": _LLAMA3_SPLITTING,
    "llama3": _LLAMA3_SPLITTING,
    "qwen2": _QWEN2_SPLITTING,
    "smaug-bpe": _Splitting(pattern=_LLAMA3),
    "smollm": _Splitting(pattern=_GPT2, single_digits=True),
    "tekken": _Splitting(pattern=_TEKKEN, keeps_words=True, begins=True),
}
# Files from before May 2024 have no such name; these architectures have one tokenizer only.
_OF_ARCHITECTURE: Final = {"qwen2": "qwen2", "qwen3": "qwen2"}
_LLAMA3_BEGIN = "<|begin_of_text|>"


def write_tokenizer(file: GGUFFile, folder: Path, *, max_tokens: int) -> None:
    """Write a file's tokenizer, its chat template included.

    Args:
        file: The model.
        folder: Where the files go.
        max_tokens: The model's window.

    Raises:
        ConversionError: The vocabulary is damaged, or there is none.
        UnsupportedFormatError: It is of a kind that is not known.
    """
    vocabulary = _Vocabulary(file)
    kind = file.metadata.get("tokenizer.ggml.model")
    if kind == "gpt2":
        splitting = _splitting(file, vocabulary)
        tokenizer, begins = _byte_level(vocabulary, splitting), splitting.begins
    elif kind == "llama":
        tokenizer, begins = _sentencepiece(vocabulary), True
    else:
        raise _unknown(file, f"has a tokenizer of the kind `{kind}`")
    _add_special_tokens(tokenizer, vocabulary)
    affixes = {
        "bos": file.metadata.get("tokenizer.ggml.add_bos_token", begins),
        "eos": file.metadata.get("tokenizer.ggml.add_eos_token", False),
    }
    _add_affixes(tokenizer, vocabulary, affixes)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = _settings(vocabulary, affixes, max_tokens)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False), encoding="utf-8")


class _Vocabulary:
    """The tokens of a file.

    Args:
        file: The model.
    """

    def __init__(self, file: GGUFFile) -> None:
        self.file = file
        self.values = GGUFValues(file, str(file.metadata.get("general.architecture")))
        self.tokens = self.values.tokens()
        if not self.tokens:
            raise self.damaged("has no tokens")
        kinds = file.metadata.get("tokenizer.ggml.token_type")
        self.kinds: Sequence[int] = listed(kinds) if kinds is not None else [1] * len(self.tokens)
        if len(self.kinds) != len(self.tokens):
            raise self.damaged(f"has {len(self.tokens)} tokens, but the kinds of {len(self.kinds)}")
        self.ids: dict[str, int] = {}
        for index, token in enumerate(self.tokens):
            self.ids.setdefault(token, index)

    def of_kind(self, *kinds: int) -> list[str]:
        """The tokens of some kinds."""
        return [token for token, kind in zip(self.tokens, self.kinds, strict=True) if kind in kinds]

    def special(self, name: str) -> str | None:
        """The special token that a name such as `bos` stands for."""
        index = self.values.token_id(name)
        return None if index is None else self.tokens[index]

    def merges(self) -> list[tuple[str, str]]:
        """Which tokens are merged, the first ones first."""
        found: list[tuple[str, str]] = []
        for line in self.file.metadata.get("tokenizer.ggml.merges") or []:
            left, _, right = line.partition(" ")
            if any(part not in self.ids for part in (left, right, left + right)):
                raise self.damaged(f"merges `{line}`, which are not tokens")
            found.append((left, right))
        if not found:
            raise self.damaged("has no merges (`tokenizer.ggml.merges`)")
        return found

    def merges_by_score(self) -> list[tuple[str, str]]:
        """Which tokens are merged, by SentencePiece's rule: what gives the token with the highest score first.

        Where scores are equal, the token that comes first wins; of the ways to make one, the one with the longest
        beginning, because SentencePiece takes the leftmost.
        """
        scores = self.file.metadata.get("tokenizer.ggml.scores")
        if scores is None or len(scores) != len(self.tokens):
            raise self.damaged("has no score for each of its tokens (`tokenizer.ggml.scores`)")
        whole = set(self.of_kind(_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE))
        usable = {token: index for token, index in self.ids.items() if token not in whole}
        found: list[tuple[float, int, int, str, str]] = []
        for token, index in usable.items():
            for cut in range(1, len(token)):
                left, right = token[:cut], token[cut:]
                if left in usable and right in usable:
                    found.append((-float(scores[index]), index, -cut, left, right))
        return [(left, right) for *_, left, right in sorted(found)]

    def damaged(self, reason: str) -> ConversionError:
        """An error about the vocabulary."""
        return ConversionError(
            f"The tokenizer in `{self.file.path}` {reason}.",
            path=str(self.file.path),
            hint="Take another file of the same model, or pull it in MLX's format.",
        )


def _splitting(file: GGUFFile, vocabulary: _Vocabulary) -> _Splitting:
    name = str(file.metadata.get("tokenizer.ggml.pre") or "default")
    if name == "default":
        is_llama3 = _LLAMA3_BEGIN in vocabulary.ids
        name = "llama-bpe" if is_llama3 else _OF_ARCHITECTURE.get(vocabulary.values.architecture, name)
    if name not in _SPLITTINGS:
        raise _unknown(file, f"splits texts in the way `{name}`")
    return _SPLITTINGS[name]


def _unknown(file: GGUFFile, what: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(
        f"`{file.path}` {what}, which is not known here.",
        path=str(file.path),
        format_name="gguf",
        hint="Pull the model in MLX's format instead; it brings its own tokenizer.json.",
    )


def _byte_level(vocabulary: _Vocabulary, splitting: _Splitting) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary.ids, merges=vocabulary.merges(), ignore_merges=splitting.keeps_words)
    )
    if splitting.composes:
        tokenizer.normalizer = normalizers.NFC()
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if splitting.single_digits else []
    steps.append(pre_tokenizers.Split(Regex(splitting.pattern), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(vocabulary: _Vocabulary) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers

    marked = vocabulary.of_kind(_UNKNOWN)
    unknown = marked[0] if marked else vocabulary.special("unknown")
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary.ids,
            merges=vocabulary.merges_by_score(),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=bool(vocabulary.of_kind(_BYTE)),
        )
    )
    begins_with_space = vocabulary.file.metadata.get("tokenizer.ggml.add_space_prefix", True)
    escape = normalizers.Replace(" ", _SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), escape]) if begins_with_space else escape
    steps: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if begins_with_space:
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def _add_special_tokens(tokenizer: Any, vocabulary: _Vocabulary) -> None:
    """Tell the tokenizer which tokens are taken out of a text whole, before it is split."""
    from tokenizers import AddedToken

    # Phi-3's own tokenizer drops blanks after its marks; llama.cpp does so too, by the architecture's name.
    eats_blanks = vocabulary.values.architecture == "phi3" and (
        vocabulary.file.metadata.get("tokenizer.ggml.model") == "llama"
    )
    keeps_blanks = ("<unk>", "<s>", "<|endoftext|>")
    special = [
        AddedToken(token, normalized=False, special=True, rstrip=eats_blanks and token not in keeps_blanks)
        for token in dict.fromkeys(vocabulary.of_kind(_UNKNOWN, _CONTROL))
    ]
    tokenizer.add_special_tokens(special)
    own = [AddedToken(token, normalized=False) for token in dict.fromkeys(vocabulary.of_kind(_USER_DEFINED)) if token]
    tokenizer.add_tokens(own)


def _add_affixes(tokenizer: Any, vocabulary: _Vocabulary, affixes: Mapping[str, Any]) -> None:
    """Put special tokens around every text, if the model wants them."""
    from tokenizers import processors

    begin = vocabulary.special("bos") if affixes["bos"] else None
    end = vocabulary.special("eos") if affixes["eos"] else None
    wanted = [token for token in (begin, end) if token is not None]
    if not wanted:
        return
    first = [*([begin] if begin else []), "$A", *([end] if end else [])]
    second = [f"{part}:1" if part != "$A" else "$B:1" for part in first]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=first,
        pair=[*first, *second],
        special_tokens=[(token, vocabulary.ids[token]) for token in dict.fromkeys(wanted)],
    )


def _settings(vocabulary: _Vocabulary, affixes: Mapping[str, Any], max_tokens: int) -> dict[str, Any]:
    named = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    tokens = {key: vocabulary.special(name) for key, name in named.items()}
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{key: token for key, token in tokens.items() if token is not None},
        "add_bos_token": bool(affixes["bos"]),
        "add_eos_token": bool(affixes["eos"]),
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_tokens,
    }
    template = vocabulary.file.metadata.get("tokenizer.chat_template")
    if isinstance(template, str) and template:
        settings["chat_template"] = template
    return settings
