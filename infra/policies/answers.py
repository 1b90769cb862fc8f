"""What a rule answers: fine, violation, or undecidable where a value is known only once the stack is deployed."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """An unknown value is never taken as safe, and never as a violation: it is undecidable."""

    FINE = "fine"
    VIOLATION = "violation"
    UNDECIDABLE = "undecidable"


@dataclass(frozen=True)
class Answer:
    """A verdict, and what was found that led to it; a detail names properties and never quotes a secret."""

    verdict: Verdict
    details: tuple[str, ...] = ()


FINE = Answer(Verdict.FINE)


def violation(detail: str) -> Answer:
    """An answer that names what is wrong."""
    return Answer(Verdict.VIOLATION, (detail,))


def undecidable(detail: str) -> Answer:
    """An answer that names what is not known yet."""
    return Answer(Verdict.UNDECIDABLE, (detail,))


def fails_if(wrong: bool, detail: str) -> Answer:
    """A violation with its detail, or fine."""
    return violation(detail) if wrong else FINE


def every(answers: Iterable[Answer]) -> Answer:
    """All must be fine: one violation is one whatever the others say, and then what is unknown stays unknown."""
    return _first_of(answers, order=(Verdict.VIOLATION, Verdict.UNDECIDABLE), otherwise=FINE)


def some(answers: Iterable[Answer], *, otherwise: str) -> Answer:
    """One fine answer is enough, then what is unknown stays unknown; of no answers `otherwise` is the violation."""
    found = list(answers)
    if any(each.verdict is Verdict.FINE for each in found):
        return FINE
    return _first_of(found, order=(Verdict.UNDECIDABLE, Verdict.VIOLATION), otherwise=violation(otherwise))


def _first_of(answers: Iterable[Answer], *, order: tuple[Verdict, ...], otherwise: Answer) -> Answer:
    """The details of all answers with the first verdict of `order` that any of them has."""
    found = list(answers)
    for verdict in order:
        details = [detail for each in found if each.verdict is verdict for detail in each.details]
        if details or any(each.verdict is verdict for each in found):
            return Answer(verdict, tuple(dict.fromkeys(details)))
    return otherwise
