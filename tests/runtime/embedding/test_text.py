"""Texts become the token ids that sentence-transformers makes of them."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, normalizers, processors

from mlx_integrations.errors import ModelLoadError
from mlx_integrations.runtime.embedding.model_files import read_sentence_model
from mlx_integrations.runtime.embedding.text import TextEncoder
from tests.runtime.embedding.sentence_models import NAMES, assemble, edit, reference


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return assemble("bert-mean-normalize", tmp_path / "model")


def encoder(folder: Path) -> TextEncoder:
    return TextEncoder(read_sentence_model(folder))


def refused(folder: Path) -> str:
    with pytest.raises(ModelLoadError) as caught:
        encoder(folder)
    assert caught.value.hint and caught.value.model_path
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_those_of_sentence_transformers(name: str, tmp_path: Path) -> None:
    expected, text = reference(name), encoder(assemble(name, tmp_path / "model"))

    for case in expected.cases.values():
        rows = text.encode(expected.texts, case["prompt"])
        assert [list(row.ids) for row in rows] == case["ids"]
        assert {row.prompt_tokens for row in rows} == {case["prompt_tokens"]}


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_text_keeps_its_special_tokens_and_its_whole_length(name: str, tmp_path: Path) -> None:
    text = encoder(assemble(name, tmp_path / "model"))
    short, long = text.encode(["dog", "the dog sleeps on " * 500])
    leading, trailing = text._leading, text._trailing

    assert len(long.ids) == 24 and long.total_tokens > 2000
    assert short.total_tokens == len(short.ids)
    assert long.ids[:leading] == short.ids[:leading]
    assert long.ids[24 - trailing :] == short.ids[len(short.ids) - trailing :]
    assert leading + trailing > 0


def test_where_a_text_is_cut_is_what_tokenizers_does(folder: Path) -> None:
    texts = ["the quick brown fox " * 20, "fox", "", "[SEP] " * 40]
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for side in ("right", "left"):
        own.enable_truncation(24, direction=side)
        edit(folder / "tokenizer_config.json", truncation_side=side)
        rows = encoder(folder).encode(texts)
        assert [list(row.ids) for row in rows] == [encoding.ids for encoding in own.encode_batch(texts)]


def test_truncation_and_padding_of_tokenizer_json_do_not_count(folder: Path) -> None:
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.enable_truncation(5)
    own.enable_padding(length=128)
    own.save(str(folder / "tokenizer.json"))

    (row,) = encoder(folder).encode(["the quick brown fox jumps"])

    assert len(row.ids) == row.total_tokens > 5


def test_the_prompt_is_put_before_the_text_as_it_stands(folder: Path) -> None:
    text = encoder(folder)
    (joined,), (prompted,) = text.encode(["find:dog"]), text.encode(["dog"], "find:")
    assert prompted.ids == joined.ids
    assert (joined.prompt_tokens, prompted.prompt_tokens) == (0, 1 + len(text.encode(["find:"])[0].ids) - 2)


def test_a_prompt_longer_than_the_model_reads_leaves_only_the_last_special_token(folder: Path) -> None:
    (row,) = encoder(folder).encode(["dog"], "find the passage " * 50)
    assert len(row.ids) == 24 and row.prompt_tokens == 23 and row.total_tokens > 100


def test_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    text = encoder(assemble("qwen3-lasttoken", tmp_path / "model"))  # byte-level: it keeps every character
    broken, repaired = text.encode(["dog \ud83d fox", "\udc00"]), text.encode(["dog \ufffd fox", "\ufffd"])
    assert broken == repaired != text.encode(["dog  fox", ""])
    assert text.encode(["dog"], "find \ude00") == text.encode(["dog"], "find \ufffd")


def test_no_texts_give_no_rows(folder: Path) -> None:
    assert encoder(folder).encode([]) == []


def test_a_tokenizer_without_special_tokens_may_give_nothing(folder: Path) -> None:
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    own.save(str(folder / "tokenizer.json"))

    empty, long = encoder(folder).encode(["", "fox " * 40])

    assert (empty.ids, empty.total_tokens) == ((), 0)
    assert len(long.ids) == 24 and long.total_tokens == 40


def test_counting_gives_the_same_totals_as_encoding(folder: Path) -> None:
    text, texts = encoder(folder), reference("bert-mean-normalize").texts
    assert text.count(texts, "find: ") == [row.total_tokens for row in text.encode(texts, "find: ")]


def test_many_threads_may_share_an_encoder(folder: Path) -> None:
    text = encoder(folder)
    texts = [["fox " * (n % 40), f"dog {n}", ""] for n in range(64)]
    expected = [text.encode(rows, "find: ") for rows in texts]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda rows: text.encode(rows, "find: "), texts)) == expected


def test_lower_casing_is_done_for_a_tokenizer_that_keeps_capitals(tmp_path: Path) -> None:
    folder = assemble("bert-lower-case", tmp_path / "model")
    lower = encoder(folder).encode(["THE QUICK FOX"])
    edit(folder / "sentence_bert_config.json", do_lower_case=False)
    kept = encoder(folder).encode(["THE QUICK FOX"])

    assert lower == encoder(folder).encode(["the quick fox"]) != kept


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"do_lower_case": False}, False),
        ({"do_lower_case": False, "tokenizer_class": "BertTokenizerFast"}, False),
        ({"do_lower_case": False, "tokenizer_class": "PreTrainedTokenizerFast"}, True),
        ({"do_lower_case": True}, True),
    ],
)
def test_tokenizer_config_overrules_a_bert_tokenizer(folder: Path, options: dict[str, Any], same: bool) -> None:
    before = encoder(folder).encode(["THE FOX"])
    edit(folder / "tokenizer_config.json", **options)
    assert (encoder(folder).encode(["THE FOX"]) == before) is same


def test_bert_options_leave_other_normalizers_alone(folder: Path) -> None:
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.normalizer = normalizers.NFC()
    own.save(str(folder / "tokenizer.json"))
    edit(folder / "tokenizer_config.json", do_lower_case=True)
    assert encoder(folder).encode(["FOX"]) != encoder(folder).encode(["fox"])


def test_padding_is_the_tokenizers_own_or_one_that_exists(folder: Path) -> None:
    assert encoder(folder).pad_id == 0
    edit(folder / "tokenizer_config.json", pad_token={"content": "[MASK]"})
    assert encoder(folder).pad_id == 4
    edit(folder / "tokenizer_config.json", "pad_token")
    edit(folder / "config.json", pad_token_id=3)
    assert encoder(folder).pad_id == 3
    edit(folder / "config.json", pad_token_id=-1)
    assert encoder(folder).pad_id == 0


def test_a_folder_without_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer" in refused(folder)


@pytest.mark.parametrize("content", ["{", "{}", '{"model": {"type": "Unknown"}}'])
def test_a_damaged_tokenizer_is_refused(folder: Path, content: str) -> None:
    (folder / "tokenizer.json").write_text(content)
    assert "cannot be loaded" in refused(folder)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(folder: Path) -> None:
    edit(folder / "config.json", vocab_size=200)
    message = refused(folder)
    assert "266" in message and "200" in message and "`vocab_size`" in message


def test_an_added_token_that_the_model_does_not_know_is_refused_when_a_text_has_it(folder: Path) -> None:
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.add_tokens(["zebra"])
    own.save(str(folder / "tokenizer.json"))
    text = encoder(folder)

    assert text.encode(["fox"])
    with pytest.raises(ModelLoadError, match=r"`zebra` the id 266.*below 266"):
        text.encode(["fox", "a zebra"])


def test_a_limit_that_leaves_no_room_for_text_is_refused(folder: Path) -> None:
    edit(folder / "sentence_bert_config.json", max_seq_length=2)
    assert "2 special tokens" in refused(folder)


def test_a_vocabulary_file_serves_without_tokenizer_json(folder: Path) -> None:
    texts = reference("bert-mean-normalize").texts
    expected = encoder(folder).encode(texts, "find: ")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.__getitem__)))

    assert encoder(folder).encode(texts, "find: ") == expected


def test_a_sentencepiece_model_serves_without_tokenizer_json(tmp_path: Path) -> None:
    import sentencepiece
    from transformers import AutoTokenizer

    folder = assemble("bert-plain", tmp_path / "model")
    texts = reference("bert-mean-normalize").texts
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(line for text in texts for line in text.splitlines() if line.strip()), "utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines),
        model_prefix=str(folder / "sentencepiece.bpe"),
        vocab_size=120,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    edit(folder / "config.json", model_type="xlm-roberta")

    rows = encoder(folder).encode(texts)

    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    assert (folder / "tokenizer.json").is_file()
    assert encoder(folder).encode(texts) == rows
    # Fairseq's order: <s> 0, <pad> 1, </s> 2.
    assert rows[0].ids == (0, 2) and all(row.ids[0] == 0 and row.ids[-1] == 2 for row in rows)
