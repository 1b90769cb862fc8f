"""Held-out measures, each with the baseline that makes it mean something."""

import math
import zlib
from collections import Counter
from collections.abc import Sequence


def bits_per_byte(nats: float, size: int) -> float:
    """Negative log likelihood (nats) of text of `size` bytes as bits per byte, which compares between vocabularies."""
    return nats / math.log(2) / size


def zlib_bits_per_byte(texts: Sequence[str]) -> float:
    """What zlib at its best (level 9, as gzip) needs for the same text, one text per line."""
    raw = "".join(f"{text}\n" for text in texts).encode()
    return 8 * len(zlib.compress(raw, level=9)) / len(raw)


def accuracy(predicted: Sequence[int], true: Sequence[int]) -> float:
    """Share of right answers."""
    return sum(left == right for left, right in zip(predicted, true, strict=True)) / len(true)


def macro_f1(predicted: list[int], true: list[int]) -> float:
    """Mean over the classes that occur of 2 tp / (2 tp + fp + fn)."""
    scores = []
    for label in set(true) | set(predicted):
        both = sum(left == right == label for left, right in zip(predicted, true, strict=True))
        scores.append(2 * both / (predicted.count(label) + true.count(label)))
    return sum(scores) / len(scores)


def majority(true: Sequence[int], *, of: Sequence[int]) -> float:
    """Accuracy on `true` of always answering the most frequent value in `of` (the training rows)."""
    most = Counter(of).most_common(1)[0][0]
    return sum(value == most for value in true) / len(true)
