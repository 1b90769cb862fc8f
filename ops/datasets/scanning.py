"""Finds personal data and secrets in text by their form; says where they are and never what they are."""

from __future__ import annotations

import re
from collections.abc import Iterator

import phonenumbers

EMAIL = "e-mail address"
PHONE = "phone number"
CARD = "card number"

# Forms that their issuers publish, each with a prefix of its own so that a match is hardly ever chance.
_SECRETS = {
    "AWS access key id": re.compile(r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})"),
    "Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "Google API key": re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b"),
    "OpenAI API key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "JSON web token": re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    "modelkeep token": re.compile(r"\bmk_[A-Za-z0-9_-]{20,}"),
}
_SECRET_HINT = re.compile(r"AKIA|ASIA|-----BEGIN|gh[pousr]_|github_pat_|xox[abprs]-|AIza|sk-|eyJ|mk_")
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\.[A-Za-z]{2,24}\b")
# A number as people write it: digits with single separators between groups.
_DIGITS = re.compile(r"(?<![\w.])\+?\(?\d(?:[ ()./-]{0,2}\d){8,18}(?![\w.])")
_CARD_LENGTHS = range(13, 20)


def findings(text: str) -> Iterator[str]:
    """The kinds of what is found in `text`, one for each place. A phone number counts with its country code only."""
    if "@" in text:
        yield from (EMAIL for _ in _EMAIL.finditer(text))
    for match in _DIGITS.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if len(digits) in _CARD_LENGTHS and digits[0] in "23456" and luhn(digits):
            yield CARD
        elif match.group().lstrip("(").startswith("+") and _is_phone(match.group()):
            yield PHONE
    if _SECRET_HINT.search(text):
        for kind, form in _SECRETS.items():
            yield from (kind for _ in form.finditer(text))


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _is_phone(text: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, None))
    except phonenumbers.NumberParseException:
        return False
