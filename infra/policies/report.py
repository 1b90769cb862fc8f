"""A report on a stack as plain data, for machines and for other reports."""

from collections.abc import Sequence
from typing import Any

from infra.policies.evaluate import Exemption, Finding, Report
from infra.policies.rule import Rule


def to_json(report: Report, *, rules: Sequence[Rule]) -> dict[str, Any]:
    """The report with the reason and remedy of every finding; `exceptions` are findings that a written one covers."""
    return {
        "stack": report.stack,
        "passed": report.passed,
        "rules": len(rules),
        "violations": [_finding(each) for each in report.violations],
        "undecidable": [_finding(each) for each in report.undecidable],
        "exceptions": [
            {**_finding(finding), "exception": _exemption(exemption)} for finding, exemption in report.exempted
        ],
        "expired_exceptions": [_exemption(each) for each in report.expired],
        "unused_exceptions": [_exemption(each) for each in report.unused],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    rule = finding.rule
    return {
        "rule": rule.id,
        "severity": rule.severity.value,
        "control": rule.control,
        "cdk_nag": rule.cdk_nag,
        "urn": finding.resource.urn,
        "type": finding.resource.type,
        "name": finding.resource.name,
        "details": list(finding.details),
        "reason": rule.reason,
        "remedy": rule.remedy,
        "reference": rule.reference,
    }


def _exemption(exemption: Exemption) -> dict[str, Any]:
    return {
        "rule": exemption.rule,
        "resource": exemption.resource,
        "stacks": sorted(exemption.stacks),
        "reason": exemption.reason,
        "expires": exemption.expires.isoformat(),
    }
