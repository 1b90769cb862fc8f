"""Tokens: what is minted verifies, what is altered does not, and no message repeats one."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas import tokens


def test_minted_tokens_verify_and_differ() -> None:
    minted = {tokens.mint() for _ in range(200)}
    assert len(minted) == 200
    for token in minted:
        assert re.fullmatch(r"mk_[0-9A-Za-z]{49}", token)
        tokens.verify(token)


def test_minting_uses_the_whole_of_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens.secrets, "token_bytes", lambda size: b"\xff" * size)
    highest = tokens.mint()
    monkeypatch.setattr(tokens.secrets, "token_bytes", lambda size: b"\x00" * size)
    lowest = tokens.mint()
    assert lowest.startswith("mk_" + "0" * tokens.SECRET_LENGTH)
    assert len(highest) == len(lowest) == tokens.TOKEN_LENGTH
    tokens.verify(highest)


def test_checksum_is_the_published_one() -> None:
    # CRC-32 of "123456789" is 0xCBF43926, the check value of the algorithm; written in base 62.
    number = 0
    for character in tokens.checksum("123456789"):
        number = number * 62 + tokens.ALPHABET.index(character)
    assert number == 0xCBF43926


@given(position=st.integers(min_value=0, max_value=tokens.TOKEN_LENGTH - 1), character=st.characters())
def test_one_wrong_character_is_always_noticed(position: int, character: str) -> None:
    token = tokens.mint()
    altered = token[:position] + character + token[position + 1 :]
    if altered == token:
        tokens.verify(altered)
        return
    with pytest.raises(tokens.MalformedToken) as caught:
        tokens.verify(altered)
    assert altered not in str(caught.value)


@given(text=st.text(max_size=120))
def test_any_text_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(tokens.MalformedToken) as caught:
        tokens.verify(text)
    assert caught.value.reason in {"prefix", "length", "alphabet", "checksum"}


def test_swapped_neighbours_are_noticed() -> None:
    token = "mk_" + "ab" * 21 + "c"
    token += tokens.checksum(token)
    swapped = token[:5] + token[6] + token[5] + token[7:]
    with pytest.raises(tokens.MalformedToken, match="checksum"):
        tokens.verify(swapped)


def test_digest_is_the_sha256_of_the_whole_token() -> None:
    token = tokens.mint()
    assert tokens.digest(token) == hashlib.sha256(token.encode()).hexdigest()
