"""The audit on paper: tables for people, plain data for machines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.audit.mutes import Mute, Unjudged
from ops.audit.verdict import Audit, Entry, Obstacle, On
from ops.console import Reporter

# Wide enough for what the cells hold, where there is no terminal whose width counts.
_WIDTH_OF_A_FILE = 200
_EMPHASIS = re.compile(r"\*\*|`|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)")


def print_tables(audit: Audit) -> None:
    """Everything that a reviewer reads, on standard output; empty tables are left out."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH_OF_A_FILE)
    for table in (
        _failures("Failures that remain", audit.remaining),
        _mutes("Muted", audit.muted),
        _expired("Mutes that have expired", audit.expired),
        _entries("Entries of mutes.yaml that cover nothing", audit.unused),
        _entries("Entries of mutes.yaml that rely on a check which does not pass", audit.void),
        _not_judged(audit.unexplained, audit.explained),
    ):
        if table.row_count:
            console.print(table)


def summarise(audit: Audit, *, seconds: float, report: Reporter) -> None:
    """One line a fact: what was judged, what came of it, and what is not the stack's."""
    failures = len(audit.remaining) + len(audit.muted)
    report.line(
        f"{audit.stack}: {audit.checks} checks of {len(audit.services)} services in {seconds:.0f} s judged "
        f"{len(audit.judged)} resources of the stack: {audit.passed_findings} passed, {failures} failed, "
        f"{len(audit.muted)} of them muted, {len(audit.remaining)} remain"
    )
    if audit.doubtful:
        checks = ", ".join(sorted({each.finding.check for each in audit.doubtful}))
        report.line(f"not counted, passed for want of an answer: {len(audit.doubtful)} of {checks}")
    if audit.elsewhere:
        counted = Counter(each.check for each in audit.elsewhere)
        told = ", ".join(f"{check} ({number})" if number > 1 else check for check, number in sorted(counted.items()))
        report.line(f"not the stack's but the account's or AWS's own: {len(audit.elsewhere)} failures: {told}")
    obstacles = len(audit.unexplained) + len(audit.explained)
    faults = len(audit.expired) + len(audit.unused) + len(audit.void)
    report.line(f"not judged: {obstacles}, {len(audit.unexplained)} without a written reason; {faults} entries to mend")
    if not audit.judged:
        report.line("prowler judged no resource of the stack: nothing is known of it, and that is a failure")


def to_json(audit: Audit) -> dict[str, Any]:
    """The audit as plain data."""
    return {
        "stack": audit.stack,
        "passed": audit.passed,
        "checks": audit.checks,
        "services": list(audit.services),
        "judged_resources": sorted(each.name for each in audit.judged),
        "passed_findings": audit.passed_findings,
        "doubtful": [_finding(each) for each in audit.doubtful],
        "remaining": [_finding(each) for each in audit.remaining],
        "muted": [
            {**_finding(each), "because": mute.because, "reason": mute.reason, "expires": mute.expires.isoformat()}
            for each, mute in audit.muted
        ],
        "elsewhere": [{"check": each.check, "severity": each.severity, "uid": each.uid} for each in audit.elsewhere],
        "not_judged": [
            *({"at": each.at, "says": each.says, "reason": None} for each in audit.unexplained),
            *({"at": each.at, "says": each.says, "reason": note.reason} for each, note in audit.explained),
        ],
        "expired": [each.model_dump(mode="json") for each in audit.expired],
        "unused": [each.model_dump(mode="json") for each in audit.unused],
        "void": [each.model_dump(mode="json") for each in audit.void],
    }


def plain(markdown: str) -> str:
    """One line without Markdown's emphasis."""
    return " ".join(_EMPHASIS.sub("", markdown).split())


def _finding(found: On) -> dict[str, Any]:
    return {
        "check": found.finding.check,
        "status": found.finding.status,
        "severity": found.finding.severity,
        "resource": found.owned.name,
        "type": found.owned.type,
        "uid": found.finding.uid,
        "says": found.finding.says,
        "remedy": plain(found.finding.remedy),
    }


def _failures(title: str, found: Sequence[On]) -> Table:
    """A row for every check, with the resources that fail it and what it says of the first."""
    table = _table(title, "severity", "check", "resources", "says", "remedy")
    for group in _by_check(found):
        finding = group[0].finding
        remedy = plain(finding.remedy).partition(". ")[0]  # the first sentence; --json has them all
        _add(table, finding.severity, finding.check, _names(group), finding.says, remedy)
    return table


def _mutes(title: str, muted: Sequence[tuple[On, Mute]]) -> Table:
    table = _table(title, "severity", "check", "resources", "because", "reason")
    for mute in dict.fromkeys(mute for _, mute in muted):
        group = [found for found, by in muted if by == mute]
        _add(table, group[0].finding.severity, mute.check, _names(group), mute.because, mute.reason)
    return table


def _expired(title: str, expired: Sequence[Mute]) -> Table:
    table = _table(title, "check", "resources", "expired", "reason")
    for mute in expired:
        _add(table, mute.check, ", ".join(mute.resources), mute.expires.isoformat(), mute.reason)
    return table


def _entries(title: str, entries: Sequence[Entry]) -> Table:
    table = _table(title, "check or place", "resources", "relies on", "reason")
    for each in entries:
        if isinstance(each, Mute):
            _add(table, each.check, ", ".join(each.resources), ", ".join(each.relies_on), each.reason)
        else:
            _add(table, each.at, "", ", ".join(each.relies_on), each.reason)
    return table


def _not_judged(unexplained: Sequence[Obstacle], explained: Sequence[tuple[Obstacle, Unjudged]]) -> Table:
    table = _table("Not judged", "where", "what prowler says", "reason")
    for obstacle in unexplained:
        _add(table, obstacle.at, obstacle.says, "NONE WRITTEN: say in ops/audit/mutes.yaml who judges it instead")
    for note in dict.fromkeys(note for _, note in explained):
        group = [each for each, by in explained if by == note]
        _add(table, ", ".join(dict.fromkeys(each.at for each in group)), group[0].says, note.reason)
    return table


def _by_check(found: Sequence[On]) -> Iterable[list[On]]:
    groups: dict[str, list[On]] = {}
    for each in found:
        groups.setdefault(each.finding.check, []).append(each)
    return groups.values()


def _names(group: Iterable[On]) -> str:
    return ", ".join(dict.fromkeys(each.owned.name for each in group))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_lines=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    table.add_row(*(Text(each) for each in cells))  # a name with brackets is no markup
