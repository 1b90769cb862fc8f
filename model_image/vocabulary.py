"""What the tasks need of a tokenizer; imports nothing heavy, so that the server answers before torch is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class TemplateRefusedError(Exception):
    """A chat template does not accept these messages; carries none of their text."""


@dataclass(frozen=True)
class Encoded:
    """Token ids and, for each, the characters of the text it stands for: `text[start:end]`."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class Vocabulary(Protocol):
    """
    The tokenizer of one model; every method may be called from any thread.

    Ids of a text are with the tokens the model wants around it, such as a first `<s>`, and none at all for a text that
    has no tokens of its own.
    """

    is_byte_level: bool
    special_tokens: frozenset[int]
    mask_token: str | None
    mask_token_id: int | None
    has_chat_template: bool

    def encode(self, text: str) -> Encoded:
        """Ids of a prompt as its caller wrote it: a special token spelled out in it is that token."""

    def encode_plain(self, text: str) -> Encoded:
        """Ids of a text that is data: a special token spelled out in it is so many characters."""

    def encode_masked(self, pieces: Sequence[str]) -> list[int]:
        """Ids of a text with the mask token between its pieces, each of which is data."""

    def encode_chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """
        Ids of a chat up to where the assistant's answer begins; the messages are data. Raises TemplateRefusedError.
        """

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        """Text of token ids, without special tokens unless asked for."""

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for within a text; of a byte-level tokenizer they may be part of a character."""

    def whole_word(self, token: int) -> str | None:
        """The word a token stands for if it is one by itself: letters only, not the continuation of a word."""
