"""`modelkeep policy`: every rule over every resource of a stack, as it would be deployed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.policies.evaluate import Exemption, Finding, Report, evaluate
from infra.policies.exceptions import EXEMPTIONS
from infra.policies.graph import Graph, from_preview
from infra.policies.report import to_json
from infra.policies.rules import RULES
from local import engine
from local.project import load_project
from ops.console import Reporter, print_json

# Wide enough for what the cells hold, where there is no terminal whose width counts.
_WIDTH_OF_A_FILE = 200


def stack_graph(*, root: Path, stack: str, config_file: Path | None = None) -> Graph:
    """The resources and configuration of a stack from a preview; raises as local.engine.preview does."""
    project = load_project(root=root, stack=stack, config_file=config_file)
    deployment = engine.preview(root=root, stack=stack, config_file=config_file)
    configuration = {key: _parsed(value) for key, value in project.config.items()}
    return from_preview(engine.to_json(deployment), configuration=configuration)


def check_stack(*, root: Path, stack: str, config_file: Path | None, as_json: bool, report: Reporter) -> bool:
    """Print what the rules find of a stack; returns whether it passed."""
    graph = stack_graph(root=root, stack=stack, config_file=config_file)
    outcome = evaluate(graph, stack=stack, rules=RULES, exemptions=EXEMPTIONS, today=datetime.now(tz=UTC).date())
    if as_json:
        print_json(to_json(outcome, rules=RULES))
    else:
        _print_tables(outcome)
    _summarise(outcome, resources=len(graph.resources), report=report)
    return outcome.passed


def _print_tables(outcome: Report) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH_OF_A_FILE)
    for table in (
        _findings("Violations", outcome.violations),
        _findings("Not decidable before the values are known", outcome.undecidable),
        _exceptions("Written exceptions", [exemption for _, exemption in outcome.exempted]),
        _exceptions("Exceptions that have expired", outcome.expired),
        _exceptions("Exceptions that cover nothing", outcome.unused),
    ):
        if table.row_count:
            console.print(table)


def _findings(title: str, found: Sequence[Finding]) -> Table:
    """A row for every rule and detail, with the resources that it is about."""
    table = _table(title, "severity", "rule", "control", "resources", "found", "remedy")
    rows: dict[tuple[str, tuple[str, ...]], list[Finding]] = {}
    for each in found:
        rows.setdefault((each.rule.id, each.details), []).append(each)
    for group in rows.values():
        rule = group[0].rule
        names = ", ".join(each.resource.name for each in group)
        control = rule.control or rule.cdk_nag or ""
        _add(table, rule.severity.value, rule.id, control, names, "; ".join(group[0].details), rule.remedy)
    return table


def _exceptions(title: str, exemptions: Sequence[Exemption]) -> Table:
    table = _table(title, "rule", "resource", "expires", "reason")
    for each in dict.fromkeys(exemptions):
        _add(table, each.rule, each.resource, each.expires.isoformat(), each.reason)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_lines=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    table.add_row(*(Text(each) for each in cells))  # a name with brackets is no markup


def _summarise(outcome: Report, *, resources: int, report: Reporter) -> None:
    faults = len(outcome.expired) + len(outcome.unused)
    report.line(
        f"{outcome.stack}: {len(RULES)} rules over {resources} resources: {len(outcome.violations)} violations, "
        f"{len(outcome.undecidable)} undecidable, {len(outcome.exempted)} by written exception, "
        f"{faults} exceptions to mend"
    )


def _parsed(value: str) -> Any:
    """A configuration value as Pulumi hands it over: JSON where it is an object or a list."""
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError:
        return value
    return parsed if isinstance(parsed, Mapping | list) else value
