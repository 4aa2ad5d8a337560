"""A tokenizer out of a GGUF file gives the ids that the tokenizer gave that went into it."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from mlx_integrations.errors import ConversionError, UnsupportedFormatError
from mlx_integrations.runtime.convert.gguf_file import GGUFFile, read_gguf
from mlx_integrations.runtime.convert.gguf_tokenizer import write_tokenizer

CONTROL, NORMAL = 3, 1
SPECIAL = ("<|endoftext|>", "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")


@pytest.fixture(scope="module")
def reference(data: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((data / "tokenizers.json").read_text(encoding="utf-8"))
    return found


def byte_level_file(kind: dict[str, Any], pre: str | None, **changes: Any) -> GGUFFile:
    metadata = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": kind["tokens"],
        "tokenizer.ggml.merges": kind["merges"],
        "tokenizer.ggml.token_type": [CONTROL if token in SPECIAL else NORMAL for token in kind["tokens"]],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        **changes,
    }
    return GGUFFile(path=Path("model.gguf"), metadata=metadata, tensors={})


def written(file: GGUFFile, folder: Path) -> Tokenizer:
    write_tokenizer(file, folder, max_tokens=256)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("pre", ["qwen2", "llama-bpe", "gpt-2", "smollm"])
def test_byte_level_ids_are_the_same(reference: dict[str, Any], tmp_path: Path, pre: str) -> None:
    kind = reference["kinds"][pre]
    tokenizer = written(byte_level_file(kind, pre), tmp_path)
    for text, ids in zip(reference["texts"], kind["ids"], strict=True):
        assert tokenizer.encode(text).ids == ids, text
        composed = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False)
        assert pre == "qwen2" or composed == text


@pytest.mark.parametrize("kind", ["sentencepiece", "sentencepiece, no space first"])
def test_sentencepiece_ids_are_the_same(reference: dict[str, Any], data: Path, tmp_path: Path, kind: str) -> None:
    file = read_gguf(data / "gguf" / f"{reference['kinds'][kind]['file']}.gguf")
    tokenizer = written(file, tmp_path)
    for text, ids in zip(reference["texts"], reference["kinds"][kind]["ids"], strict=True):
        if "<|" in text:  # sentencepiece takes marks for plain text, a chat template means them
            continue
        found = tokenizer.encode(text, add_special_tokens=False)
        assert found.ids == ids, text
        assert tokenizer.decode(found.ids) == text


def test_texts_begin_and_end_as_the_file_says(reference: dict[str, Any], tmp_path: Path) -> None:
    kind = reference["kinds"]["gpt-2"]
    plain = written(byte_level_file(kind, "gpt-2"), tmp_path).encode("hello").ids
    flags = {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}
    assert written(byte_level_file(kind, "gpt-2", **flags), tmp_path).encode("hello").ids == [1, *plain, 2]


def test_marks_stay_whole_and_the_template_comes_along(data: Path, tmp_path: Path) -> None:
    tokenizer = written(read_gguf(data / "gguf" / "chat.gguf"), tmp_path)
    assert tokenizer.encode("<|user|>x<|end|>").tokens == ["<|user|>", "x", "<|end|>"]
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert settings["eos_token"] == "<|end|>"
    assert settings["model_max_length"] == 256
    assert "add_generation_prompt" in settings["chat_template"]


def test_blanks_after_marks_belong_to_them_in_phi_3_only(data: Path, tmp_path: Path) -> None:
    phi3 = written(read_gguf(data / "gguf" / "phi3.gguf"), tmp_path)
    llama = written(read_gguf(data / "gguf" / "llama.gguf"), tmp_path)
    joined, apart = "<|user|>\n hello", "<|user|>hello"
    assert phi3.encode(joined).ids == phi3.encode(apart).ids
    assert llama.encode(joined).ids != llama.encode(apart).ids


@pytest.mark.parametrize(("name", "arch"), [(None, "qwen2"), ("default", "qwen3")])
def test_older_files_of_qwen_are_split_as_qwen_is(
    reference: dict[str, Any], tmp_path: Path, name: str | None, arch: str
) -> None:
    kind = reference["kinds"]["qwen2"]
    tokenizer = written(byte_level_file(kind, name, **{"general.architecture": arch}), tmp_path)
    assert [tokenizer.encode(text).ids for text in reference["texts"]] == kind["ids"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"tokenizer.ggml.pre": "chatglm-bpe"}, "chatglm-bpe"),
        ({"tokenizer.ggml.pre": None}, "default"),
        ({"tokenizer.ggml.model": "t5"}, "`t5`"),
    ],
)
def test_kinds_that_are_not_known_are_not_guessed(
    reference: dict[str, Any], tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(UnsupportedFormatError, match=what):
        written(byte_level_file(reference["kinds"]["gpt-2"], "gpt-2", **changes), tmp_path)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"tokenizer.ggml.tokens": []}, "no tokens"),
        ({"tokenizer.ggml.merges": ["h jjj"]}, "merges `h jjj`"),
        ({"tokenizer.ggml.merges": None}, "no merges"),
        ({"tokenizer.ggml.token_type": [1, 2]}, "kinds of 2"),
        ({"tokenizer.ggml.model": "llama"}, "score"),
    ],
)
def test_a_damaged_vocabulary_is_refused(
    reference: dict[str, Any], tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(ConversionError, match=what):
        written(byte_level_file(reference["kinds"]["gpt-2"], "gpt-2", **changes), tmp_path)
