"""Tokens to text: whole characters, nothing past a stop string, and the same text as decoding all at once."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models

from model_image.engines.tokenizer import Tokenizer
from model_image.tasks.text_stream import Detokeniser, StopMatcher, token_name

texts = st.text(max_size=40)
pieces = st.lists(st.text(alphabet="abc", max_size=4), max_size=12)
stops = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=4)


@pytest.fixture(scope="module")
def byte_level(artefacts: dict[str, Path]) -> Tokenizer:
    return Tokenizer(artefacts["gpt2"])


class ByteFallback(Tokenizer):
    """A vocabulary of bytes with SentencePiece's decoder: words with their space before them, bytes as <0xE2>."""

    def __init__(self) -> None:
        self.is_byte_level = False
        self.special_tokens = frozenset()
        vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"▁the": 256, "▁end": 257, "ing": 258}
        self._fast = FastTokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
        self._fast.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )


@given(texts)
@settings(max_examples=100, deadline=None)
def test_text_comes_back_through_its_tokens(byte_level: Tokenizer, text: str) -> None:
    detokeniser = Detokeniser(byte_level)

    # As plain text: hypothesis also tries the strings of the code it tests, and one of them is a special token.
    parts = [detokeniser.push(token) for token in byte_level.encode_plain(text).ids]

    assert "".join(parts) == text


@given(st.lists(st.integers(0, 383), max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_tokens_give_what_decoding_gives_but_for_an_unfinished_end(byte_level: Tokenizer, ids: list[int]) -> None:
    detokeniser = Detokeniser(byte_level)

    text = "".join(detokeniser.push(token) for token in ids)

    whole = byte_level.decode(ids)
    assert whole.startswith(text)
    assert set(whole[len(text) :]) <= {"\ufffd"}
    assert len(whole) - len(text) <= 1


def test_a_character_of_several_tokens_comes_whole(byte_level: Tokenizer) -> None:
    ids = byte_level.encode("𝄞").ids
    detokeniser = Detokeniser(byte_level)

    assert len(ids) > 1
    assert [detokeniser.push(token) for token in ids] == [""] * (len(ids) - 1) + ["𝄞"]


def test_special_tokens_are_no_text(byte_level: Tokenizer) -> None:
    assert Detokeniser(byte_level).push(0) == ""
    assert Detokeniser(byte_level, keep_special=True).push(0) == "<|endoftext|>"


@given(st.lists(st.integers(0, 258), max_size=25))
@settings(max_examples=200, deadline=None)
def test_a_window_gives_what_decoding_gives(ids: list[int]) -> None:
    vocabulary = ByteFallback()
    text_ids = [256, *[token for token in ids if token > 255 or 32 < token < 127], *"é𝄞".encode(), 257]
    detokeniser = Detokeniser(vocabulary)

    parts = [detokeniser.push(token) for token in text_ids]

    assert "".join(parts) == vocabulary.decode(text_ids)
    assert not any("\ufffd" in part for part in parts)


@given(pieces, stops)
def test_text_ends_before_the_first_stop_string(parts: list[str], forbidden: list[str]) -> None:
    matcher = StopMatcher(forbidden)
    whole = "".join(parts)

    shown = "".join(matcher.push(part) for part in parts)
    if not matcher.stopped:
        shown += matcher.flush()

    assert whole.startswith(shown)
    assert not any(stop in shown for stop in forbidden)
    assert matcher.stopped == any(stop in whole for stop in forbidden)
    if not matcher.stopped:
        assert shown == whole


def test_the_beginning_of_a_stop_string_is_kept_back_until_it_is_none() -> None:
    matcher = StopMatcher(["END"])

    assert [matcher.push("an E"), matcher.push("N"), matcher.push("x"), matcher.push("END.")] == ["an ", "", "ENx", ""]
    assert matcher.stopped


def test_a_token_that_is_no_text_is_named_by_its_bytes(byte_level: Tokenizer) -> None:
    token = byte_level.encode("𝄞").ids[0]

    assert token_name(byte_level, token).startswith("bytes:\\xf0")
