"""From a stream of tokens to a stream of text: whole characters only, and never past a stop string."""

import codecs
from collections.abc import Sequence

from model_image.vocabulary import Vocabulary

# The longest UTF-8 character: a byte-fallback tokenizer cannot leave more tokens than this without text.
_LONGEST_CHARACTER = 4
_REPLACEMENT = "\ufffd"


class Detokeniser:
    """
    Turns tokens into text one by one; special tokens into nothing unless `keep_special`.

    Bytes that are not yet a whole character are kept back, and dropped if the text ends with them. Bytes that can
    never become one turn into U+FFFD, as in `decode`. A byte-level vocabulary is decoded byte by byte; any other by
    comparing the text of the last tokens with and without the new one (text-generation-inference's method).
    """

    def __init__(self, vocabulary: Vocabulary, *, keep_special: bool = False) -> None:
        self._vocabulary = vocabulary
        self._keep_special = keep_special
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._window: list[int] = []
        self._shown = 0

    def push(self, token: int) -> str:
        """The text that is complete with this token and was not before."""
        if token in self._vocabulary.special_tokens and not self._keep_special:
            return ""
        if self._vocabulary.is_byte_level:
            return self._bytes.decode(self._vocabulary.token_bytes(token))
        return self._push_to_window(token)

    def _push_to_window(self, token: int) -> str:
        self._window.append(token)
        before = self._vocabulary.decode(self._window[: self._shown], keep_special=self._keep_special)
        now = self._vocabulary.decode(self._window, keep_special=self._keep_special)
        pending = len(self._window) - self._shown
        if now.endswith(_REPLACEMENT) and pending < _LONGEST_CHARACTER:
            return ""
        # The window keeps the tokens shown last: whether a space stands before a word depends on what precedes it.
        self._window = self._window[self._shown :]
        self._shown = len(self._window)
        return now[len(before) :]


class StopMatcher:
    """Passes text on up to the first stop string; keeps back an end that may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The text that is certain not to belong to a stop string; none after one was found."""
        if not self._stops:
            return text
        if self.stopped:
            return ""
        self._held += text
        found = [place for place in map(self._held.find, self._stops) if place >= 0]
        if found:
            self.stopped = True
            passed, self._held = self._held[: min(found)], ""
            return passed
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        passed, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return passed

    def flush(self) -> str:
        """What was kept back, once no more text comes."""
        passed, self._held = self._held, ""
        return passed


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that is a beginning of `stop`, but not all of it."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)


def token_name(vocabulary: Vocabulary, token: int) -> str:
    """A token as text for log probabilities; bytes that are no text are written as OpenAI does, `bytes:\\xe2\\x80`."""
    raw = vocabulary.token_bytes(token)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
