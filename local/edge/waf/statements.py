"""Rule statements compiled to checks; one that is not known here is an error naming rule and statement."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local.edge.waf.addresses import compile_ip_set
from local.edge.waf.fields import Outcome, compile_field
from local.edge.waf.inspected import Inspected
from local.edge.waf.managed import INJECTION, SCRIPTING
from local.edge.waf.members import members, required, single
from local.edge.waf.rate import Check, RateCounters, compile_rate
from local.edge.waf.transformations import compile_transformations
from local.errors import LocalError

COMPARISONS = {
    "EQ": operator.eq,
    "NE": operator.ne,
    "LE": operator.le,
    "LT": operator.lt,
    "GE": operator.ge,
    "GT": operator.gt,
}


@dataclass(frozen=True)
class Scope:
    """What a statement may refer to: sets by ARN, the label prefix of its web ACL or group, the rate counters."""

    label_prefix: str
    ip_sets: Mapping[str, Mapping[str, Any]]
    regex_sets: Mapping[str, Mapping[str, Any]]
    counters: RateCounters


def compile_statement(spec: Mapping[str, Any], *, scope: Scope, rule: str, top: bool = True) -> Check:
    """Read one statement; `rule` names it in errors, `top` says that it is not nested in another.

    Raises LocalError for every statement, member or value that would not be evaluated as AWS WAF does.
    """
    kind, options = single(spec, where=f"WAF rule {rule} statement")
    where = f"WAF rule {rule} statement {kind}"
    if kind in ("AndStatement", "OrStatement"):
        inner = required(members(options, known=("Statements",), where=where), "Statements", where=where)
        checks = [compile_statement(item, scope=scope, rule=rule, top=False) for item in inner]
        combine = all if kind == "AndStatement" else any
        return lambda it: combine(check(it) for check in checks)
    if kind == "NotStatement":
        negated = required(members(options, known=("Statement",), where=where), "Statement", where=where)
        check = compile_statement(negated, scope=scope, rule=rule, top=False)
        return lambda it: not check(it)
    if kind == "RateBasedStatement" and top:
        narrowing = options.get("ScopeDownStatement")
        scope_down = compile_statement(narrowing, scope=scope, rule=rule, top=False) if narrowing else None
        instance = f"{scope.label_prefix}{rule}"
        return compile_rate(options, rule=instance, counters=scope.counters, scope_down=scope_down, where=where)
    if kind in MATCHES:
        return MATCHES[kind](options, scope, where)
    raise LocalError(f"{where}: not emulated, and a rule is never skipped; express it with another statement")


def _ip_set(options: Mapping[str, Any], scope: Scope, where: str) -> Check:
    return compile_ip_set(options, sets=scope.ip_sets, where=where)


def _label(options: Mapping[str, Any], scope: Scope, where: str) -> Check:
    """Match labels in full, or from the rule's own web ACL or group without their prefix."""
    known = members(options, known=("Scope", "Key"), where=where)
    key, kind = required(known, "Key", where=where), required(known, "Scope", where=where)
    if kind not in ("LABEL", "NAMESPACE"):
        raise LocalError(f"{where}: Scope {kind} must be LABEL or NAMESPACE")

    prefix = scope.label_prefix

    def matches(label: str) -> bool:
        own = ":" + label.removeprefix(prefix) if label.startswith(prefix) else None
        if kind == "LABEL":
            return label == key or (own is not None and own.endswith(":" + key))
        namespace = key if key.endswith(":") else key + ":"
        return label.startswith(namespace) or (own is not None and ":" + namespace in own)

    return lambda it: any(matches(label) for label in it.labels)


Values = Callable[[Inspected], "list[bytes] | Outcome"]


def _values(options: Mapping[str, Any], own: tuple[str, ...], where: str) -> tuple[dict[str, Any], Values]:
    """The members of a match statement, and how to get at the transformed values that it inspects."""
    known = members(
        options, known=("FieldToMatch", "TextTransformations", "PreParseTextTransformations", *own), where=where
    )
    if known.get("PreParseTextTransformations"):
        raise LocalError(f"{where}: PreParseTextTransformations is not emulated; use TextTransformations")
    field = compile_field(required(known, "FieldToMatch", where=where), where=where)
    transforms = compile_transformations(required(known, "TextTransformations", where=where), where=where)

    def values(inspected: Inspected) -> list[bytes] | Outcome:
        found = field.extract(inspected)
        return found if isinstance(found, Outcome) else [inspected.transformed(value, transforms) for value in found]

    return known, values


def _any(values: Values, test: Callable[[bytes], bool]) -> Check:
    def check(inspected: Inspected) -> bool:
        found = values(inspected)
        return found is Outcome.MATCH if isinstance(found, Outcome) else any(test(value) for value in found)

    return check


def _byte_match(options: Mapping[str, Any], _: Scope, where: str) -> Check:
    known, values = _values(options, ("SearchString", "PositionalConstraint"), where)
    sought = required(known, "SearchString", where=where)
    sought = sought.encode("utf-8") if isinstance(sought, str) else bytes(sought)
    if not sought:
        raise LocalError(f"{where}: SearchString is empty; give the text to look for")
    position = required(known, "PositionalConstraint", where=where)
    word = re.compile(rb"(?<![A-Za-z0-9_])" + re.escape(sought) + rb"(?![A-Za-z0-9_])")
    tests: Mapping[str, Callable[[bytes], bool]] = {
        "EXACTLY": lambda value: value == sought,
        "STARTS_WITH": lambda value: value.startswith(sought),
        "ENDS_WITH": lambda value: value.endswith(sought),
        "CONTAINS": lambda value: sought in value,
        "CONTAINS_WORD": lambda value: word.search(value) is not None,
    }
    if position not in tests:
        raise LocalError(f"{where}: PositionalConstraint {position} must be one of {sorted(tests)}")
    return _any(values, tests[position])


def _size(options: Mapping[str, Any], _: Scope, where: str) -> Check:
    known, values = _values(options, ("ComparisonOperator", "Size"), where)
    name, size = required(known, "ComparisonOperator", where=where), int(required(known, "Size", where=where))
    if name not in COMPARISONS:
        raise LocalError(f"{where}: ComparisonOperator {name} must be one of {sorted(COMPARISONS)}")
    compare = COMPARISONS[name]
    check = _any(values, lambda value: compare(len(value), size))
    whole_body = compile_field(known["FieldToMatch"], where=where).body
    if not whole_body:
        return check

    def check_body(inspected: Inspected) -> bool:
        # Of an oversize body only the beginning is inspected, but its size is known: compare that, so that a rule on
        # sizes above the inspection limit does what it says.
        found = values(inspected)
        if inspected.oversize and not isinstance(found, Outcome):
            return bool(compare(inspected.body_size, size))
        return check(inspected)

    return check_body


def _pattern(text: str, *, where: str) -> re.Pattern[bytes]:
    try:
        return re.compile(text.encode("utf-8"))
    except re.error as error:
        raise LocalError(f"{where}: {text} is not a regular expression that Python reads; rewrite it") from error


def _regex(options: Mapping[str, Any], _: Scope, where: str) -> Check:
    known, values = _values(options, ("RegexString",), where)
    pattern = _pattern(required(known, "RegexString", where=where), where=where)
    return _any(values, lambda value: pattern.search(value) is not None)


def _regex_set(options: Mapping[str, Any], scope: Scope, where: str) -> Check:
    known, values = _values(options, ("ARN",), where)
    arn = required(known, "ARN", where=where)
    if arn not in scope.regex_sets:
        raise LocalError(f"{where}: regex pattern set {arn} does not exist; deploy it before the web ACL")
    patterns = [
        _pattern(item["RegexString"], where=where) for item in scope.regex_sets[arn].get("RegularExpressionList") or ()
    ]
    return _any(values, lambda value: any(pattern.search(value) for pattern in patterns))


def _scripts(options: Mapping[str, Any], _: Scope, where: str) -> Check:
    return _any(_values(options, (), where)[1], _stand_in(SCRIPTING))


def _sql(options: Mapping[str, Any], _: Scope, where: str) -> Check:
    known, values = _values(options, ("SensitivityLevel",), where)
    if known.get("SensitivityLevel") not in (None, "LOW", "HIGH"):
        raise LocalError(f"{where}: SensitivityLevel {known['SensitivityLevel']} must be LOW or HIGH")
    return _any(values, _stand_in(INJECTION))


def _stand_in(pattern: str) -> Callable[[bytes], bool]:
    """A test by one of our own patterns: AWS does not publish what its statements look for."""
    compiled = re.compile(pattern.encode("ascii"), re.IGNORECASE)
    return lambda value: compiled.search(value) is not None


MATCHES: Mapping[str, Callable[[Mapping[str, Any], Scope, str], Check]] = {
    "IPSetReferenceStatement": _ip_set,
    "LabelMatchStatement": _label,
    "RegexPatternSetReferenceStatement": _regex_set,
    "ByteMatchStatement": _byte_match,
    "SizeConstraintStatement": _size,
    "RegexMatchStatement": _regex,
    "SqliMatchStatement": _sql,
    "XssMatchStatement": _scripts,
}
