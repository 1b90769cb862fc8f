"""Held-out measures, each with the baseline that makes it mean something."""

import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

CALIBRATION_BINS = 10


@dataclass(frozen=True)
class CalibrationBin:
    """The answers given with a probability between `low` and `high`: how many, how sure, and how often right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Evaluated:
    """The measures of a model on held-out rows, and what the plots and baselines need beside them."""

    measures: dict[str, float]
    calibration: tuple[CalibrationBin, ...] = ()
    masked_tokens: Mapping[int, int] = field(default_factory=dict)


def bits_per_byte(nats: float, size: int) -> float:
    """Negative log likelihood (nats) of text of `size` bytes as bits per byte, which compares between vocabularies."""
    return nats / math.log(2) / size


def perplexity(nats: float, tokens: int) -> float:
    """Among how many equally likely tokens the model chooses, on average; compares within one vocabulary alone."""
    return math.exp(min(nats / tokens, 700.0))


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


def calibration(confidences: Sequence[float], right: Sequence[bool]) -> tuple[CalibrationBin, ...]:
    """Answers by their probability, in ten bins of equal width; bins without an answer are left out."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, is_right in zip(confidences, right, strict=True):
        number = min(int(confidence * CALIBRATION_BINS), CALIBRATION_BINS - 1)
        bins.setdefault(number, []).append((confidence, is_right))
    return tuple(
        CalibrationBin(
            low=number / CALIBRATION_BINS,
            high=(number + 1) / CALIBRATION_BINS,
            count=len(answers),
            confidence=sum(confidence for confidence, _ in answers) / len(answers),
            accuracy=sum(is_right for _, is_right in answers) / len(answers),
        )
        for number, answers in sorted(bins.items())
    )


def calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """Expected calibration error: how far confidence and accuracy are apart, as a mean over the answers."""
    every = sum(each.count for each in bins)
    return sum(each.count * abs(each.confidence - each.accuracy) for each in bins) / every
