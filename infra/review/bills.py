"""How a sum of money is said, and how grave it is that it rises."""

from __future__ import annotations

from infra.review.model import Severity

# A rise of the monthly maximum is high from this many dollars and this factor on, medium from these.
HIGH, MEDIUM = (10_000.0, 2.0), (1_000.0, 1.25)


def dollars(least: float | None, most: float | None) -> str:
    """A monthly price range for people."""
    if least is None or most is None:
        return "price unknown"
    return f"${least:,.0f} a month" if round(least) == round(most) else f"${least:,.0f} to ${most:,.0f} a month"


def price_severity(before: float, after: float) -> Severity:
    """How grave it is that the monthly maximum is no longer the one but the other, in dollars."""
    if after <= before:
        return "none"
    for severity, (rise, factor) in (("high", HIGH), ("medium", MEDIUM)):
        if after - before >= rise and after >= factor * before:
            return "high" if severity == "high" else "medium"
    return "low"
