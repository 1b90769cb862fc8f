"""Runs the rules over a graph, takes the written exceptions off, and says what is left."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase

from infra.policies.answers import Verdict
from infra.policies.graph import Graph, Resource
from infra.policies.rule import Rule, Severity


@dataclass(frozen=True)
class Exemption:
    """A written exception: which rule does not hold for which resources of which stacks, why, and until when.

    `resource` is a logical name, or a pattern with `*` over `TYPE::NAME`, the last two parts of a URN; `stacks` are
    names, or `*` alone for all.
    """

    rule: str
    resource: str
    stacks: frozenset[str]
    reason: str
    expires: date

    def is_for(self, stack: str) -> bool:
        """Whether it is about that stack."""
        return bool({stack, "*"} & self.stacks)

    def covers(self, finding: "Finding") -> bool:
        """Whether it is about that finding."""
        names = (finding.resource.name, f"{finding.resource.type}::{finding.resource.name}")
        return self.rule == finding.rule.id and any(fnmatchcase(name, self.resource) for name in names)


@dataclass(frozen=True)
class Finding:
    """What a rule found of one resource: a violation, or something that cannot be decided yet."""

    rule: Rule
    resource: Resource
    verdict: Verdict
    details: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """The outcome for one stack. Expired and unused exemptions are faults of their own."""

    stack: str
    violations: tuple[Finding, ...]
    exempted: tuple[tuple[Finding, Exemption], ...]
    undecidable: tuple[Finding, ...]
    expired: tuple[Exemption, ...]
    unused: tuple[Exemption, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is left to mend."""
        return not (self.violations or self.expired or self.unused)


def findings(graph: Graph, rules: Sequence[Rule]) -> list[Finding]:
    """Every violation and everything undecidable, in the order of rules and resources."""
    found = []
    for rule in rules:
        for resource in graph.resources if "*" in rule.types else graph.of(rule.types):
            answer = rule.check(resource, graph)
            if answer.verdict is not Verdict.FINE:
                found.append(Finding(rule=rule, resource=resource, verdict=answer.verdict, details=answer.details))
    return found


def evaluate(
    graph: Graph, *, stack: str, rules: Sequence[Rule], exemptions: Sequence[Exemption], today: date
) -> Report:
    """The report on a stack's graph.

    An exemption is unused where its rule finds nothing that it covers, decided or not; an expired one covers nothing.
    """
    found = findings(graph, rules)
    own = [each for each in exemptions if each.is_for(stack)]
    valid = [each for each in own if each.expires >= today]
    violations, exempted = [], []
    for finding in (each for each in found if each.verdict is Verdict.VIOLATION):
        exemption = next((each for each in valid if each.covers(finding)), None)
        if exemption is None:
            violations.append(finding)
        else:
            exempted.append((finding, exemption))
    order = list(Severity)
    violations.sort(key=lambda each: -order.index(each.rule.severity))
    return Report(
        stack=stack,
        violations=tuple(violations),
        exempted=tuple(exempted),
        undecidable=tuple(each for each in found if each.verdict is Verdict.UNDECIDABLE),
        expired=tuple(each for each in own if each.expires < today),
        unused=tuple(each for each in valid if not any(each.covers(finding) for finding in found)),
    )
