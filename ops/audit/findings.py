"""What prowler writes, read: its findings (OCSF, JSON) and its log."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ops.errors import OpsError

SEVERITIES = ("critical", "high", "medium", "low", "informational")  # the gravest first
PASSED = "PASS"
_ERRORS = frozenset({"ERROR", "CRITICAL"})  # a warning says that something is not there, as for a bucket without tags
_ENTRY = re.compile(
    r'^\{"timestamp": "[^"]*", "filename": "(?P<file>[^":]+):(?P<line>\d+)", "level": "(?P<level>[A-Z]+)", '
    r'"module": "[^"]*", "message": "',
    re.MULTILINE,
)
_OF_A_CHECK = re.compile(r"(?P<check>[a-z0-9]+(?:_[a-z0-9]+)+) -- ")
_OPERATION = re.compile(r"when calling the (\w+) operation")


@dataclass(frozen=True)
class Finding:
    """What one check says of one resource: PASS, FAIL, or MANUAL where prowler cannot tell. `tags` are key:value."""

    check: str
    status: str
    severity: str
    uid: str
    resource_type: str
    tags: frozenset[str]
    says: str
    remedy: str

    @property
    def service(self) -> str:
        """The service of prowler's that the check belongs to."""
        return self.check.partition("_")[0]

    @property
    def rank(self) -> tuple[int, str, str]:
        """The gravest first, then by name."""
        return SEVERITIES.index(self.severity), self.check, self.uid


@dataclass(frozen=True)
class LoggedError:
    """Something that prowler could not ask or judge: the check, or file and line of its own, and its first words."""

    check: str
    file: str
    line: int
    says: str


def read_findings(text: str) -> list[Finding]:
    """The findings in prowler's OCSF output. Raises OpsError where it has another shape."""
    try:
        return [_finding(entry) for entry in json.loads(text)]
    except (json.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise OpsError(
            f"prowler's findings are not OCSF as expected ({type(error).__name__}: {error}): "
            "was its pinned version changed? See ops/audit/findings.py"
        ) from error


def _finding(entry: Mapping[str, Any]) -> Finding:
    resource = entry["resources"][0]
    severity = entry["severity"].lower()
    if severity not in SEVERITIES:
        raise OpsError(f"prowler rates {entry['metadata']['event_code']} {severity!r}, not {', '.join(SEVERITIES)}")
    return Finding(
        check=entry["metadata"]["event_code"],
        status=entry["status_code"],
        severity=severity,
        uid=resource["uid"],
        resource_type=resource["type"],
        tags=frozenset(resource.get("labels") or ()),
        says=entry["status_detail"],
        remedy=entry["remediation"]["desc"],
    )


def read_errors(log: str) -> list[LoggedError]:
    """Every different error in prowler's log, in order.

    Prowler writes lines that look like JSON without escaping the message, which may have several lines.
    """
    starts = list(_ENTRY.finditer(log))
    ends = [each.start() for each in starts[1:]] + [len(log)]
    errors = []
    for start, end in zip(starts, ends, strict=True):
        if start["level"] not in _ERRORS:
            continue
        message = log[start.end() : end].strip().removesuffix('"}')
        of_check = _OF_A_CHECK.match(message)
        errors.append(
            LoggedError(
                check=of_check["check"] if of_check else "",
                file=start["file"],
                line=int(start["line"]),
                says=_first_words(message),
            )
        )
    return list(dict.fromkeys(errors))


def _first_words(message: str) -> str:
    """One line, without the page of HTML that follows where an emulator answers with one."""
    first = message.partition("\n")[0].partition("<!doctype")[0].strip().rstrip(":")
    operation = _OPERATION.search(first)
    return f"{operation[1]}: {first}" if operation else first
