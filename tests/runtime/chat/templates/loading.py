"""Tokenizers with the chat templates of this folder: faithful in format, short, in this project's own words."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.jinja"))


def template_source(name: str) -> str:
    """The Jinja text of `name`."""
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


@lru_cache
def tokenizer(name: str | None = None, *, adds_bos: bool = False) -> Any:
    """A byte-level tokenizer without merges, with the template of `name`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({char: number for number, char in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<s>", "</s>"])
    if adds_bos:
        bos_id = inner.token_to_id("<s>")
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos_id)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        eos_token="</s>",
        chat_template=None if name is None else template_source(name),
    )
