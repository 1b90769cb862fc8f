"""What needs no model: a byte n-gram that counts, and the lexicon of VADER."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from model_image.errors import ConfigError

# The order with the fewest bits per byte on a few megabytes of prose; more of them cost time and gain little.
ORDER = 6
MOST_BYTES = 8 << 20
# A compound score nearer to zero than this has no direction, as VADER's authors use it.
NEUTRAL = 0.05
Ints = npt.NDArray[np.uint64]


def ngram_bits_per_byte(train_texts: Iterable[str], heldout_texts: Sequence[str], *, order: int = ORDER) -> float:
    """
    Bits per byte of held-out text for an interpolated byte n-gram (Witten and Bell 1991) of the first 8 MB of training
    text, one text a line.

    A byte is predicted from the `order` - 1 before it; each order is mixed with the one below, by how many different
    bytes have followed its context; below them all, every byte is as likely.
    """
    train = _bytes(train_texts, limit=MOST_BYTES)
    heldout = _bytes(heldout_texts, limit=None)
    chances = np.full(len(heldout), 1 / 256)
    for length in range(order):
        seen, counts = np.unique(_grams(train, length), return_counts=True)
        contexts = seen >> np.uint64(8)
        begins = np.flatnonzero(np.concatenate([[True], contexts[1:] != contexts[:-1]]))
        known, totals = contexts[begins], np.add.reduceat(counts, begins)
        followers = np.diff(np.append(begins, len(seen)))
        asked = _grams(heldout, length)
        places = _find(asked >> np.uint64(8), known)
        total, kinds = (np.where(places < 0, 0, values[places]) for values in (totals, followers))
        places = _find(asked, seen)
        count = np.where(places < 0, 0, counts[places])
        chances = np.where(total > 0, (count + kinds * chances) / np.maximum(total + kinds, 1), chances)
    return float(-np.log2(chances).sum() / len(heldout))


def _bytes(texts: Iterable[str], *, limit: int | None) -> npt.NDArray[np.uint8]:
    raw = bytearray()
    for text in texts:
        raw += text.encode() + b"\n"
        if limit is not None and len(raw) >= limit:
            break
    return np.frombuffer(bytes(raw[:limit]), dtype=np.uint8)


def _grams(text: npt.NDArray[np.uint8], length: int) -> Ints:
    """Each byte with the `length` before it as one number, the byte itself lowest; before the text are zeros."""
    start = np.concatenate([np.zeros(length, dtype=np.uint8), text])
    found = np.zeros(len(text), dtype=np.uint64)
    for place in range(length + 1):
        found = (found << np.uint64(8)) | start[place : place + len(text)].astype(np.uint64)
    return found


def _find(wanted: Ints, keys: Ints) -> npt.NDArray[np.int64]:
    """Where in the sorted `keys` each number is; -1 where it is not."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, places, -1)


def vader_labels(texts: Iterable[str], labels: Sequence[str]) -> list[str]:
    """
    What VADER (Hutto and Gilbert 2014) answers, with its authors' thresholds; of two labels the likelier one.

    Raises ConfigError when its package is not installed.
    """
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # noqa: PLC0415  (only where it is asked)
    except ImportError as error:
        raise ConfigError(
            "evaluation.baselines names vader, and the package vaderSentiment is not installed; install it or remove it"
        ) from error
    analyser = SentimentIntensityAnalyzer()
    scores = [float(analyser.polarity_scores(text)["compound"]) for text in texts]
    if "neutral" not in labels:
        return ["positive" if score >= 0 else "negative" for score in scores]
    words = {True: "positive", False: "negative"}
    return ["neutral" if abs(score) < NEUTRAL else words[score > 0] for score in scores]
