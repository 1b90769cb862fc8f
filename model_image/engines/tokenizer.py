"""From text to token ids and back, with the tokenizer and the chat template that came with a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from tokenizers import Encoding, decoders
from tokenizers import Tokenizer as FastTokenizer
from transformers import AutoTokenizer

from model_image.engines.text_encoder import TextEncoder
from model_image.errors import ArtefactError
from model_image.vocabulary import Encoded, TemplateRefusedError

_SAMPLE = "The quick brown fox jumps over 13 lazy dogs, abc."


class Tokenizer:
    """The tokenizer of one artefact. Thread-safe; knows no limit of length (that is the model's)."""

    def __init__(self, directory: Path) -> None:
        """Reads the tokenizer from an artefact directory; ArtefactError if it holds none that is usable."""
        try:
            self._pretrained: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True)
            self._fast: FastTokenizer = self._pretrained.backend_tokenizer
            self._fast.no_padding()
            self._fast.no_truncation()
            self._texts = TextEncoder(self._fast, template=str(self._pretrained.chat_template or ""))
        except (OSError, ValueError, AttributeError) as error:
            remedy = "publish the model again with its tokenizer.json"
            raise ArtefactError(f"{directory} has no usable tokenizer ({type(error).__name__}); {remedy}") from error
        self._check_plain(directory)
        added = self._fast.get_added_tokens_decoder()
        self._added = {token: entry.content for token, entry in added.items()}
        self.special_tokens = frozenset(token for token, entry in added.items() if entry.special)
        self.is_byte_level = isinstance(self._fast.decoder, decoders.ByteLevel)
        self.max_length: int = self._pretrained.model_max_length
        self.pad_token: int = self._pretrained.pad_token_id or 0
        self.mask_token: str | None = self._pretrained.mask_token
        self.mask_token_id: int | None = self._pretrained.mask_token_id if self.mask_token else None
        self.largest_id = max(self._fast.get_vocab(with_added_tokens=True).values())
        self.has_chat_template = self._pretrained.chat_template is not None
        self._marks_continuations = any(token.startswith("##") for token in self._fast.get_vocab())

    def _check_plain(self, directory: Path) -> None:
        """Raises ArtefactError where a text that spells no control token has other ids as data than as a prompt."""
        text = " ".join(word for word in _SAMPLE.split() if not self._texts.spells_control(word))
        if self.encode(text) != self.encode_plain(text):
            found = f"{directory} has a tokenizer whose control tokens cannot be kept apart from text"
            raise ArtefactError(f"{found}; number them in its tokenizer.json as transformers does when it saves one")

    def encode(self, text: str) -> Encoded:
        """Ids of a prompt as its caller wrote it: a special token spelled out in it is that token."""
        return _encoded(self._fast.encode(text))

    def encode_plain(self, text: str) -> Encoded:
        """Ids of a text that is data: a special token spelled out in it is so many characters."""
        encoding = self._texts.encode(text)
        return _encoded(encoding, self._texts.ids_of(encoding))

    def encode_masked(self, pieces: Sequence[str]) -> list[int]:
        """Ids of a text with the mask token between its pieces, each of which is data. LookupError without one."""
        if self.mask_token is None:
            raise LookupError("this tokenizer has no mask token; models for masks are checked when they are loaded")
        return self._texts.ids_of(self._texts.joined(self.mask_token, pieces))

    def encode_chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """
        Ids of a chat up to where the assistant's answer begins. Raises TemplateRefusedError.

        Special tokens are those that the template writes. One that is spelled out in a message is so many characters:
        else a user could begin another role's turn.
        """
        quoted = [message | {"content": self._texts.quoted(message["content"])} for message in messages]
        try:
            text = self._pretrained.apply_chat_template(
                quoted, tokenize=False, add_generation_prompt=True, continue_final_message=False
            )
        except jinja2.TemplateError:
            raise TemplateRefusedError from None  # its message may quote the messages
        return self._texts.ids_of(self._texts.encode_rendered(text))

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        """Text of token ids, without special tokens unless asked for."""
        text: str = self._fast.decode(ids, skip_special_tokens=not keep_special)
        return text

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for within a text; of a byte-level tokenizer they may be part of a character."""
        if token in self._added:
            return self._added[token].encode()
        if not self.is_byte_level:
            return self._fast.decode([token], skip_special_tokens=False).encode()
        name = self._fast.id_to_token(token) or ""
        return bytes(_BYTE_OF_CHARACTER[character] for character in name)

    def whole_word(self, token: int) -> str | None:
        """The word a token stands for if it is one by itself: letters only, not the continuation of a word."""
        name = self._fast.id_to_token(token) or ""
        if token in self._added:
            return None
        if self._marks_continuations:
            word = name
        elif name[:1] in {"\u0120", "\u2581"}:  # how byte-level BPE and SentencePiece write the space before a word
            word = self._fast.decode([token]).strip()
        else:
            return None
        return word if word.isalpha() else None


def _encoded(encoding: Encoding, ids: list[int] | None = None) -> Encoded:
    """None at all for a text without tokens of its own: what the model wants around a text says nothing alone."""
    if 0 not in encoding.special_tokens_mask:
        return Encoded([], [])
    return Encoded(encoding.ids if ids is None else ids, encoding.offsets)


def _byte_of_character() -> dict[str, int]:
    """How GPT-2's byte-level BPE (Radford et al. 2019) writes bytes: printable ones as they are, others from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF_CHARACTER = _byte_of_character()
