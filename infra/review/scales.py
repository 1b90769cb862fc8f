"""Scales: from a setting's value to how weak it is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

Scale = Callable[[Any], float | None]
"""From a value, or None where it is not set, to its rank: 0 is as safe as can be, more is weaker, None is unknown."""


def make_scale(spec: Any) -> Scale:
    """The scale that a table names: a word, or a mapping of a word to its arguments. Raises ValueError for another.

    `enabled` and `disabled` take `unset`, what AWS takes where nothing is set; a list is as safe as its weakest value.
    `less_is_weaker` and `more_is_weaker` take `unset` and what `zero` or a `negative` number stands for; of a list, the
    weakest counts; `retention` is the former for {days, years}. `order` goes from the strongest name to the weakest;
    `good` is where safe begins. `parts` counts what a separator separates, and `rank` is the same for every value.
    """
    arguments: dict[str, Any] = dict(spec) if isinstance(spec, Mapping) else {str(spec): {}}
    unset, good = arguments.pop("unset", None), arguments.pop("good", None)
    (word, given), *more = arguments.items()
    if more or word not in _MAKERS:
        raise ValueError(f"{spec!r} is not a scale; the scales are {', '.join(sorted(_MAKERS))}")
    scale = _MAKERS[word](given, unset)
    return scale if good is None else _shifted(scale, good)


def _shifted(scale: Scale, good: Any) -> Scale:
    """The scale with `good` as 0; what is stronger lies below it."""
    zero = scale(good)

    def rank(value: Any) -> float | None:
        found = scale(value)
        return None if found is None or zero is None else found - zero

    return rank


def _flag(safe: bool) -> Callable[[Any, Any], Scale]:
    def make(given: Any, _: Any) -> Scale:
        default = given.get("unset", False) if isinstance(given, Mapping) else False

        def rank(value: Any) -> float:
            values = value if isinstance(value, list) else [default if value is None else value]
            return 0.0 if all((item in (True, "Enabled")) is safe for item in values) else 1.0

        return rank

    return make


def _present(_: Any, __: Any) -> Scale:
    return lambda value: 1.0 if value in (None, "", [], {}, False) else 0.0


def _absent(_: Any, __: Any) -> Scale:
    return lambda value: 0.0 if value in (None, "", [], {}, False) else 1.0


def _rank(given: Any, _: Any) -> Scale:
    return lambda _value: float(given)


def _any(_: Any, __: Any) -> Scale:
    return lambda _value: 0.0


def _one_of(given: Any, unset: Any) -> Scale:
    return lambda value: 0.0 if (unset if value is None else value) in given else 1.0


def _none_of(given: Any, unset: Any) -> Scale:
    return lambda value: 1.0 if (unset if value is None else value) in given else 0.0


def _none_starting(given: Any, _: Any) -> Scale:
    return lambda value: 1.0 if str(value).startswith(given) else 0.0


def _order(given: Any, unset: Any) -> Scale:
    def rank(value: Any) -> float | None:
        name = value[0] if isinstance(value, list) and len(value) == 1 else unset if value is None else value
        return float(given.index(name)) if name in given else None

    return rank


def _at_least(given: Any, _: Any) -> Scale:
    return lambda value: 0.0 if isinstance(value, list) and len({str(item) for item in value}) >= given else 1.0


def _parts(given: Any, _: Any) -> Scale:
    return lambda value: -float(len(str(value or "").split(given)))


def _key(_: Any, __: Any) -> Scale:
    """A customer's own KMS key, then one that AWS manages in the account, then none."""

    def rank(value: Any) -> float:
        if value in (None, "", []):
            return 2.0
        return 1.0 if "alias/aws/" in str(value) else 0.0

    return rank


def _number(sign: int) -> Callable[[Any, Any], Scale]:
    def make(given: Any, _: Any) -> Scale:
        def rank(value: Any) -> float | None:
            numbers = [_read(item, given) for item in (value if isinstance(value, list) and value else [value])]
            known = [number for number in numbers if number is not None]
            return max(sign * number for number in known) if len(known) == len(numbers) else None

        return rank

    return make


def _read(value: Any, given: Mapping[str, float]) -> float | None:
    """The number a value stands for, None where it is none."""
    if value is None or value == []:
        return float(given["unset"])
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    if number < 0 and "negative" in given:
        return float(given["negative"])
    if number == 0 and "zero" in given:
        return float(given["zero"])
    return None if math.isnan(number) else number


def _retention(given: Any, _: Any) -> Scale:
    """The shorter, the weaker; of days or of years of 365 days."""
    scale = _number(-1)(given, None)

    def rank(value: Any) -> float | None:
        if not isinstance(value, Mapping):
            return scale(value)
        years = scale(value["years"]) if value.get("days") is None and "years" in value else None
        return scale(value.get("days")) if years is None else 365 * years

    return rank


# The lowest version that a policy's name admits, e.g. ELBSecurityPolicy-TLS13-1-2-Res-2021-06 and
# SecurityPolicy_TLS13_1_2_2021_06; names without a version are of the time before TLS 1.2 was the floor.
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/describe-ssl-policies.html
_VERSION = re.compile(r"(?:TLS13|TLSv1|TLS|FS)[-_.]?(1)[-_.]([0-3])(?=[-_]|$)")
_FLOOR_1_0 = re.compile(r"^(ELBSecurityPolicy-(2016-08|2015-05|FS-2018-06)|TLS_1_0|TLSv1)$")


def _tls(_: Any, __: Any) -> Scale:
    """Weaker the older the lowest version; of one version, the extended cipher lists (-Ext) are weaker."""

    def rank(value: Any) -> float | None:
        name = "ELBSecurityPolicy-2016-08" if value is None else str(value)
        found = _VERSION.search(name)
        floor = 0 if _FLOOR_1_0.match(name) else None if found is None else int(found[2])
        if floor is None:
            return None
        extended = 0.5 if "-Ext2" in name else 0.4 if "-Ext1" in name or "-Ext0" in name else 0.0
        return 3.0 - floor + extended

    return rank


_MAKERS: Mapping[str, Callable[[Any, Any], Scale]] = {
    "enabled": _flag(True),
    "disabled": _flag(False),
    "present": _present,
    "absent": _absent,
    "any": _any,
    "rank": _rank,
    "one_of": _one_of,
    "none_of": _none_of,
    "none_starting": _none_starting,
    "order": _order,
    "at_least": _at_least,
    "parts": _parts,
    "key": _key,
    "less_is_weaker": _number(-1),
    "more_is_weaker": _number(1),
    "retention": _retention,
    "tls": _tls,
}
