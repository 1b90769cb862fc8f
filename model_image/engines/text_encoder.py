"""Text as text: an encoder in which nobody's text can spell the tokens that steer a model."""

import json
import re
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import AddedToken, Encoding, Tokenizer, models

# No text from a request holds half of a surrogate pair: UTF-8 has none, and JSON that escapes one is refused.
_MARK = "\ud800"


class TextEncoder:
    """
    Encodes as a given tokenizer does, except that control tokens come out only where they are put on purpose.

    Control tokens are the special ones, and those that the chat template writes (some models' role tokens are not
    called special). In this copy of the tokenizer each goes by an alias that cannot be guessed, so the same characters
    in a text are ordinary characters. Everything around a token (merges, normalising, the spaces it takes along) is
    left to the tokenizers library. A template that marks roles by ordinary words, not tokens, cannot be guarded so.
    Thread-safe.
    """

    def __init__(self, tokenizer: Tokenizer, *, template: str) -> None:
        """Shares the tokenizer's vocabulary and rules; `template` is the chat template, empty where there is none."""
        added = tokenizer.get_added_tokens_decoder()
        controls = {token: entry for token, entry in added.items() if entry.special or _written(entry, template)}
        nonce = secrets.token_hex(8)
        self._alias = {entry.content: f"\ufdd0{nonce}:{token}\ufdd0" for token, entry in controls.items()}
        self._copy = _copy(tokenizer, self._alias)
        # The library numbers tokens anew that are not in the model's own vocabulary.
        self._copy.add_tokens([_named(entry, self._alias.get(entry.content)) for entry in added.values()])
        self._true_id = {self._id_of(entry.content): token for token, entry in added.items()}
        self._first = sorted({name[0] for name in self._alias})
        self._control = re.compile(f"(?<!{_MARK}){_pattern(self._alias)}") if self._alias else None

    def encode(self, text: str) -> Encoding:
        """A text with the tokens the model wants around it; `ids` are those of this copy, to be read by `ids_of`."""
        return self._copy.encode(text)

    def joined(self, token: str, pieces: Iterable[str]) -> Encoding:
        """As `encode`, of pieces of text with one control token between them."""
        return self._copy.encode(self._alias[token].join(pieces))

    def quoted(self, text: str) -> str:
        """
        A text to be put into a template, marked where a control token could begin.

        Marks survive what templates do to a text, such as trimming; `encode_rendered` takes them away.
        """
        for character in self._first:
            text = text.replace(character, _MARK + character)
        return text

    def encode_rendered(self, rendered: str) -> Encoding:
        """A rendered template: the control tokens it writes itself come out as such, those in quoted text do not."""
        if self._control is not None:
            rendered = self._control.sub(lambda match: self._alias[match.group()], rendered)
        return self._copy.encode(rendered.replace(_MARK, ""), add_special_tokens=False)

    def ids_of(self, encoding: Encoding) -> list[int]:
        """The ids of an encoding as the model knows them; those that the post-processor put in are so already."""
        pairs = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
        return [token if added else self._true_id.get(token, token) for token, added in pairs]

    def spells_control(self, text: str) -> bool:
        """Whether the characters of a control token stand in a text."""
        return self._control is not None and self._control.search(text) is not None

    def _id_of(self, content: str) -> int:
        name = self._alias.get(content, content)
        token = self._copy.token_to_id(name)
        if token is None:
            raise ValueError("the tokenizers library did not take an added token")
        return token


def _written(entry: AddedToken, template: str) -> bool:
    """Whether a template writes this token; runs of spaces, which some tokenizers add, are only its layout."""
    return not entry.content.isspace() and entry.content in template


def _named(entry: AddedToken, alias: str | None) -> AddedToken:
    """The same token under its alias, looked for before a text is normalised; without an alias as it is."""
    return AddedToken(
        alias or entry.content,
        single_word=entry.single_word,
        lstrip=entry.lstrip,
        rstrip=entry.rstrip,
        normalized=entry.normalized and alias is None,
        special=entry.special,
    )


def _copy(tokenizer: Tokenizer, alias: dict[str, str]) -> Tokenizer:
    """A tokenizer without added tokens. Vocabularies take megabytes and are shared, but for the kind below."""
    copy = Tokenizer(_unigram(tokenizer, alias) if isinstance(tokenizer.model, models.Unigram) else tokenizer.model)
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if getattr(tokenizer, part) is not None:
            setattr(copy, part, getattr(tokenizer, part))
    return copy


def _unigram(tokenizer: Tokenizer, alias: dict[str, str]) -> models.Unigram:
    """A unigram model finds any piece of its vocabulary in a text, control tokens too: there they must be renamed."""
    model: Any = json.loads(tokenizer.to_str())["model"]
    pieces = [(alias.get(piece, piece), score) for piece, score in model["vocab"]]
    return models.Unigram(pieces, model["unk_id"], model.get("byte_fallback", False))


def _pattern(words: Iterable[str]) -> str:
    """A pattern for the longest of some words: a tree of their characters, since some models have a thousand."""
    tails: dict[str, set[str]] = {}
    for word in words:
        if word:
            tails.setdefault(word[0], set()).add(word[1:])
    if not tails:
        return ""
    options: Sequence[str] = [re.escape(first) + _pattern(rest) for first, rest in sorted(tails.items())]
    return f"(?:{'|'.join(options)})" + ("?" if "" in words else "")
