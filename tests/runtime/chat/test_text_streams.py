"""Detokenising and stop strings, as properties over any text and any cut."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from mlx_integrations.runtime.chat.answer import Answer
from mlx_integrations.runtime.chat.detokenize import Detokenizer
from mlx_integrations.runtime.chat.rows import EndEvent, TokenEvent
from mlx_integrations.runtime.chat.stopping import StopMatcher
from mlx_integrations.runtime.chat.syntax import detect_syntax
from mlx_integrations.types import ChatResult, JsonSchemaFormat
from tests.tiny_models import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def sentencepiece_like() -> Tokenizer:
    """A tokenizer of the other great family: metaspace words, byte fallback."""
    from tokenizers import decoders, models, normalizers

    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁hello", "▁world", "h", "e", "l", "o", "!"]
    bpe = models.BPE(vocab={word: n for n, word in enumerate(words)}, merges=[], unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def stream(tokenizer: Tokenizer, ids: list[int], hidden: frozenset[int] = frozenset()) -> tuple[list[str], str]:
    detokenizer = Detokenizer(tokenizer, hidden)
    pieces = [detokenizer.add(token_id) for token_id in ids]
    return pieces, "".join(pieces) + detokenizer.flush()


@given(text=st.text())
@settings(max_examples=300)
def test_any_text_comes_back_exactly(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert stream(tokenizer, ids)[1] == tokenizer.decode(ids, skip_special_tokens=False)
    if not any(marker in text for marker in ("<|", "<t", "</t")):
        assert stream(tokenizer, ids)[1] == text


@given(ids=st.lists(st.integers(0, 990), max_size=60))
@settings(max_examples=300)
def test_any_tokens_give_their_decoding_and_no_piece_breaks_a_character(tokenizer: Tokenizer, ids: list[int]) -> None:
    known = [token_id for token_id in ids if tokenizer.id_to_token(token_id) is not None]
    pieces, text = stream(tokenizer, known)
    assert text == tokenizer.decode(known, skip_special_tokens=False)
    for piece in pieces:
        piece.encode("utf-8")  # no half of a surrogate pair


@given(text=st.text(alphabet="hello wrd!é🙂 ", min_size=1))
def test_metaspace_tokenizers_stream_what_they_decode(sentencepiece_like: Tokenizer, text: str) -> None:
    ids = sentencepiece_like.encode(text, add_special_tokens=False).ids
    assert stream(sentencepiece_like, ids)[1] == sentencepiece_like.decode(ids)


@given(ids=st.lists(st.integers(0, 264), max_size=60))
@settings(max_examples=500)
def test_invalid_bytes_are_streamed_as_they_are_decoded(sentencepiece_like: Tokenizer, ids: list[int]) -> None:
    assert stream(sentencepiece_like, ids)[1] == sentencepiece_like.decode(ids)


@given(ids=st.lists(st.integers(1, 256), min_size=60, max_size=200))
def test_endless_bytes_never_raise(sentencepiece_like: Tokenizer, ids: list[int]) -> None:
    assert stream(sentencepiece_like, [*ids, 258])[1].endswith(" hello")


def test_a_long_text_in_bytes_is_shown_before_it_ends(sentencepiece_like: Tokenizer) -> None:
    text = "ไม่มีคำใดที่รู้จัก" * 10
    ids = [byte + 1 for byte in text.encode()]
    pieces, whole = stream(sentencepiece_like, ids)
    assert whole == text
    assert sum(map(bool, pieces)) > 100


def test_bytes_that_turn_out_invalid_after_they_were_shown_do_not_end_the_stream(sentencepiece_like: Tokenizer) -> None:
    ids = [ord("x") + 1] * 70 + [0xFF + 1, 258, 259, 258]
    assert stream(sentencepiece_like, ids)[1] == "x" * 70 + "\ufffd hello world hello"


def test_leading_spaces_stay(tokenizer: Tokenizer) -> None:
    for text in (" hello", "    indented", "\n\n  x", "\ttab"):
        assert stream(tokenizer, tokenizer.encode(text).ids)[1] == text


def test_a_character_of_several_tokens_appears_whole(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a🙂b", add_special_tokens=False).ids
    assert len(ids) >= 5
    assert "".join(stream(tokenizer, ids)[0]) == "a🙂b"
    assert all("\ufffd" not in piece for piece in stream(tokenizer, ids)[0])


def test_a_character_cut_off_at_the_end_is_not_lost(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a🙂", add_special_tokens=False).ids[:-1]
    pieces, text = stream(tokenizer, ids)
    assert "".join(pieces) == "a"
    assert text.startswith("a\ufffd")


def test_hidden_tokens_do_not_show(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a<|im_start|>b").ids
    assert stream(tokenizer, ids, frozenset({1}))[1] == "ab"


def cuts(text: str, at: list[int]) -> list[str]:
    places = sorted({min(place, len(text)) for place in at})
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@given(
    text=st.text(alphabet="ab\n", max_size=40),
    stops=st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), min_size=1, max_size=3),
    at=st.lists(st.integers(0, 40), max_size=10),
)
@settings(max_examples=500)
def test_the_first_stop_string_ends_the_text_wherever_it_is_cut(text: str, stops: list[str], at: list[int]) -> None:
    matcher = StopMatcher(stops)
    shown = "".join(matcher.feed(piece) for piece in cuts(text, at))
    if matcher.matched is None:
        assert not any(stop in text for stop in stops)
        assert shown + matcher.flush() == text
    else:
        # A stop string that is complete wins over one that begins earlier and is not.
        assert text.startswith(shown + matcher.matched)
        assert not any(stop in shown for stop in stops)
    one_by_one = StopMatcher(stops)
    assert "".join(map(one_by_one.feed, text)) == shown
    assert one_by_one.matched == matcher.matched


@pytest.mark.parametrize("pieces", [["abcd"], ["a", "b", "c", "d"], ["ab", "cd"]])
def test_the_stop_string_that_is_complete_first_wins(pieces: list[str]) -> None:
    matcher = StopMatcher(["abcd", "bc", "c"])
    assert "".join(map(matcher.feed, pieces)) == "a"
    assert matcher.matched == "bc"  # the longer of the two that end there


def test_a_stop_string_that_shows_up_at_the_very_end_is_the_reason(sentencepiece_like: Tokenizer) -> None:
    syntax = detect_syntax(chat_template=None, vocabulary={}, model_type="llama", upstream=None)
    answer = Answer(
        model_id="m",
        prompt_tokens=1,
        detokenizer=Detokenizer(sentencepiece_like),
        parser=syntax.parser(tools=(), in_reasoning=False, forced_call=False),
        stops=("END",),
        decode=lambda ids: "",
        output=JsonSchemaFormat(schema={"type": "null"}),
    )
    chunks = [chunk for byte in b"so END." for chunk in answer.feed(TokenEvent(token_id=byte + 1))]
    assert not chunks  # bytes are held back while more may follow
    result = ChatResult.join(answer.feed(EndEvent(reason="length")))
    assert (result.text, result.finish.reason, result.finish.stop_string) == ("so ", "stop", "END")


def test_text_that_could_begin_a_stop_string_is_held_back() -> None:
    matcher = StopMatcher(["END"])
    assert matcher.feed("some E") == "some "
    assert matcher.feed("N") == ""
    assert matcher.feed("ough") == "ENough"


def test_without_stop_strings_text_passes_through() -> None:
    matcher = StopMatcher([])
    assert matcher.feed("anything") == "anything"
    assert matcher.flush() == ""
