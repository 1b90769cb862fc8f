"""What has the form of personal data or of a secret is found; what only looks a little like it is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.datasets.scanning import findings, luhn


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail jane.doe+x@mail.example.co.uk now", ["e-mail address"]),
        ("call +44 20 7946 0018, please", ["phone number"]),
        ("(+49) 30 901820", ["phone number"]),
        ("paid with 4111 1111 1111 1111", ["card number"]),
        ("paid with 5500-0000-0000-0004 and 340000000000009", ["card number", "card number"]),
        ("key AKIAIOSFODNN7EXAMPLE", ["AWS access key id"]),
        ("-----BEGIN RSA PRIVATE KEY-----", ["private key"]),
        ("ghp_" + "a" * 36, ["GitHub token"]),
        ("mk_" + "A1b2" * 8, ["modelkeep token"]),
        ("4111 1111 1111 1112 is no card", []),
        ("order 1234567890123456 of 2026-11-24 12:30:45", []),
        ("version 1.2.3.4, 10.0.0.1 and 3.14159265358979", []),
        ("write to me at example dot com, @home", []),
        ("+1 2", []),
    ],
)
def test_forms(text: str, expected: list[str]) -> None:
    assert list(findings(text)) == expected


@given(st.text(alphabet="0123456789", min_size=1, max_size=30), st.integers(0, 9))
def test_one_wrong_digit_is_always_noticed(body: str, other: int) -> None:
    check = next(digit for digit in "0123456789" if luhn(body + digit))
    assert luhn(body + str(other)) == (str(other) == check)


@given(st.text())
def test_any_text_can_be_scanned(text: str) -> None:
    assert all(isinstance(kind, str) for kind in findings(text))
