"""Rate-based statements: requests counted per aggregation key over a sliding window."""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

from local.edge.waf.addresses import forwarded_address
from local.edge.waf.fields import Outcome, arguments
from local.edge.waf.inspected import Inspected, Transform
from local.edge.waf.members import members, required, single
from local.edge.waf.transformations import compile_transformations
from local.errors import LocalError

MAX_INSTANCES = 10_000  # aggregation instances that AWS WAF tracks for one rule
WINDOWS = (60, 120, 300, 600)  # seconds; the values that EvaluationWindowSec takes
LOWEST_LIMIT = 10  # AWS WAF's lowest rate limit

Check = Callable[[Inspected], bool]
Part = Callable[[Inspected], bytes | None]


class RateCounters:
    """Times of recent requests per rule and key; they outlive a change of the web ACL."""

    def __init__(self) -> None:
        self._times: dict[str, OrderedDict[tuple[bytes, ...], deque[float]]] = {}

    def over(self, rule: str, key: tuple[bytes, ...], *, now: float, window: float, limit: int) -> bool:
        """Count one request; whether more than `limit` came within the last `window` seconds, this one included."""
        instances = self._times.setdefault(rule, OrderedDict())
        times = instances.get(key)
        if times is None or times.maxlen != limit + 1:
            times = instances[key] = deque(times or (), maxlen=limit + 1)
        instances.move_to_end(key)
        times.append(now)
        if len(instances) > MAX_INSTANCES:
            instances.popitem(last=False)
        return len(times) > limit and times[0] > now - window


def compile_rate(
    spec: Mapping[str, Any], *, rule: str, counters: RateCounters, scope_down: Check | None, where: str
) -> Check:
    """Read a rate-based statement; its scope-down statement comes compiled."""
    names = (
        "Limit",
        "EvaluationWindowSec",
        "AggregateKeyType",
        "ScopeDownStatement",
        "ForwardedIPConfig",
        "CustomKeys",
    )
    known = members(spec, known=names, where=where)
    limit = int(required(known, "Limit", where=where))
    window = int(known.get("EvaluationWindowSec") or 300)
    if limit < LOWEST_LIMIT or window not in WINDOWS:
        raise LocalError(
            f"{where}: limit {limit} in {window} s; AWS takes at least {LOWEST_LIMIT} in one of {WINDOWS} s"
        )
    key_type = required(known, "AggregateKeyType", where=where)
    forwarded = known.get("ForwardedIPConfig")
    if key_type == "FORWARDED_IP" and not forwarded:
        raise LocalError(f"{where}: AggregateKeyType FORWARDED_IP needs ForwardedIPConfig")
    if key_type == "CONSTANT" and scope_down is None:
        raise LocalError(f"{where}: AggregateKeyType CONSTANT needs a ScopeDownStatement")
    key = _key(key_type, known, where=where)

    def check(inspected: Inspected) -> bool:
        if scope_down is not None and not scope_down(inspected):
            return False
        found = key(inspected)
        if isinstance(found, Outcome):
            return found is Outcome.MATCH
        return counters.over(rule, found, now=inspected.now, window=window, limit=limit)

    return check


Key = Callable[[Inspected], "tuple[bytes, ...] | Outcome"]


def _key(key_type: str, spec: Mapping[str, Any], *, where: str) -> Key:
    if key_type == "IP":
        return lambda it: (it.source.packed,)
    if key_type == "CONSTANT":
        return lambda _: ()
    if key_type == "FORWARDED_IP":
        config = spec["ForwardedIPConfig"]

        def forwarded(inspected: Inspected) -> tuple[bytes, ...] | Outcome:
            address = forwarded_address(inspected, config)
            return address if isinstance(address, Outcome) else (address.packed,)

        return forwarded
    if key_type == "CUSTOM_KEYS":
        parts = [_part(item, spec, where=f"{where} custom key") for item in required(spec, "CustomKeys", where=where)]

        def custom(inspected: Inspected) -> tuple[bytes, ...] | Outcome:
            found = [part(inspected) for part in parts]
            present = tuple(value for value in found if value is not None)
            return present if len(present) == len(found) else Outcome.NO_MATCH

        return custom
    raise LocalError(
        f"{where}: AggregateKeyType {key_type} is not emulated; use IP, FORWARDED_IP, CUSTOM_KEYS or CONSTANT"
    )


def _part(item: Mapping[str, Any], spec: Mapping[str, Any], *, where: str) -> Part:
    kind, options = single(item, where=where)
    where = f"{where} {kind}"
    known = members(options, known=("Name", "Namespace", "TextTransformations"), where=where)
    transforms = compile_transformations(known.get("TextTransformations") or (), where=where)
    if kind == "IP":
        return lambda it: it.source.packed
    if kind == "HTTPMethod":
        return lambda it: it.request.method.encode("ascii", "replace")
    if kind == "ForwardedIP":
        config = required(spec, "ForwardedIPConfig", where=where)
        return lambda it: None if isinstance(a := forwarded_address(it, config), Outcome) else a.packed
    if kind == "LabelNamespace":
        namespace = required(known, "Namespace", where=where)
        return lambda it: b",".join(sorted(s.encode() for s in it.labels if s.startswith(namespace))) or None
    if kind in ("UriPath", "QueryString"):
        path = kind == "UriPath"
        return lambda it: it.transformed(
            it.request.raw_path.encode("latin-1") if path else it.request.query_string, transforms
        )
    if kind in ("Header", "Cookie", "QueryArgument"):
        return _named(kind, required(known, "Name", where=where).lower().encode("latin-1"), transforms)
    raise LocalError(f"{where}: not emulated; aggregate on another component of the request")


def _named(kind: str, name: bytes, transforms: tuple[Transform, ...]) -> Part:
    def part(inspected: Inspected) -> bytes | None:
        if kind == "Header":
            pairs = inspected.request.headers
        elif kind == "Cookie":
            pairs = tuple((key.lower(), value) for key, value in inspected.request.cookies)
        else:
            pairs = tuple(arguments(inspected))
        values = [value for key, value in pairs if key == name]
        return inspected.transformed(b",".join(values), transforms) if values else None

    return part
