"""Builds the byte-level BPE tokenizer from the training text.

Two choices serve copying, which is most of what the model does. A word has the same tokens wherever it stands: merges
never cross a space, so ``Oslo`` after a blank and ``"Oslo"`` in JSON are equal; only frequent words that are never
copied get a second token that includes the blank. And every digit is a token.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from mlx_integrations.demo.recipe import skills, words
from mlx_integrations.demo.recipe.draw import Draw
from mlx_integrations.demo.recipe.render import MODEL_FOLDER, render

PAD: Final = "<|endoftext|>"
TURN_START: Final = "<|im_start|>"
TURN_END: Final = "<|im_end|>"
_SPECIAL: Final = (PAD, TURN_START, TURN_END)
_MARKERS: Final = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
_GLUE: Final = (r'"\}\}', r'"\}', r'": "', r'", "', r'": ', r"\}\}", r'\{"', ", ")
_PIECES: Final = "|".join((*_GLUE, r" ?[\p{L}\p{M}]+", r"\p{N}", r"[^\s\p{L}\p{N}]", r"\s"))
_TEXT_PIECES: Final = _PIECES.replace(" ?", "")
_MERGED_TOKENS: Final = 832
_SPACED_TOKENS: Final = 313
_CASES: Final = 7000
_BLANK: Final = "Ġ"

_COPIED: Final = frozenset(
    word.lower()
    for listed in (words.FIRST_NAMES, words.CITIES, words.NOUNS, words.ADJECTIVES, words.COLOURS, words.FOODS,
     words.ANIMALS,
                   words.JOBS, words.HOBBIES, words.TOPICS, words.COUNTRIES, words.UNITS, words.CURRENCIES,
                    words.LANGUAGES, words.WEATHERS)
    for entry in listed
    for word in entry.split()
)  # fmt: skip


def training_texts(count: int = _CASES) -> Iterator[str]:
    """Yields rendered conversations of the training split."""
    names = list(skills.SKILLS)
    for at in range(count):
        case = skills.make(names[at % len(names)], Draw(f"tokenizer:{at}", "train"))
        yield render(case.messages, case.tools)


def _pre_tokenizer(pattern: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _spaced_words(texts: Iterable[str], vocabulary: dict[str, int]) -> list[str]:
    """Returns the most frequent words, never copied ones, that are one token and follow a blank."""
    counts = Counter(word for text in texts for word in re.findall(r" ([A-Za-z]+)", text))
    fitting = (word for word, _ in counts.most_common() if word in vocabulary and word.lower() not in _COPIED)
    return [word for word in fitting if len(word) > 1 or word in ("a", "I")][:_SPACED_TOKENS]


def build() -> Tokenizer:
    """Trains the tokenizer on generated text.

    Returns:
        A tokenizer that round-trips any text.
    """
    texts = list(training_texts())
    for marker in (*_SPECIAL, *_MARKERS):
        texts = [text.replace(marker, "\n") for text in texts]
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = _pre_tokenizer(_TEXT_PIECES)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=_MERGED_TOKENS, initial_alphabet=alphabet, show_progress=False, min_frequency=20
    )
    trained.train_from_iterator(texts, trainer)

    state = json.loads(trained.to_str())
    vocabulary: dict[str, int] = state["model"]["vocab"]
    for word in _spaced_words(texts, vocabulary):
        vocabulary[_BLANK + word] = len(vocabulary)
    state["model"]["ignore_merges"] = True
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.pre_tokenizer = _pre_tokenizer(_PIECES)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in _MARKERS])
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path = MODEL_FOLDER) -> None:
    """Writes tokenizer.json and tokenizer_config.json into `folder`."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": TURN_END,
        "pad_token": PAD,
        "bos_token": None,
        "unk_token": None,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load(folder: Path = MODEL_FOLDER) -> Tokenizer:
    """Returns the tokenizer saved in `folder`."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))
