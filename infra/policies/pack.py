"""The rules as policies of a Pulumi policy pack.

pulumi-policy hands over a resource's properties before it is made, and all resources with their dependencies at the
end: rules of scope `resource` run at the first, those of scope `graph` at the second. It takes Pulumi's secret marks
off, so the rule that goes by them is left to `modelkeep policy`.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pulumi
import pulumi_policy as policy  # type: ignore[import-not-found]  # (lives in the pack's own environment)
from pulumi.runtime.config import get_config_env, get_config_secret_keys_env
from pulumi_policy.proxy import UnknownValueError  # type: ignore[import-not-found]  # (as above)

from infra.policies.evaluate import Report, evaluate
from infra.policies.exceptions import EXEMPTIONS
from infra.policies.graph import SECRET, STACK, UNKNOWN, Graph, Resource
from infra.policies.rule import Rule
from infra.policies.rules import RULES

NEEDS_SECRET_MARKS = ("secret-in-property",)
_SEVERITIES = {"low": policy.Severity.LOW, "medium": policy.Severity.MEDIUM, "high": policy.Severity.HIGH}
Tell = Any  # pulumi-policy's callback: message, urn


def policies() -> list[Any]:
    """One policy per rule, one that lists what is not decided yet, and one that keeps the exceptions honest."""
    packed = [_policy(rule) for rule in RULES if rule.id not in NEEDS_SECRET_MARKS]
    undecided = policy.StackValidationPolicy(
        name="undecided",
        description="Rules that cannot be decided before the values are known",
        validate=_list_undecided,
        enforcement_level=policy.EnforcementLevel.ADVISORY,
    )
    exceptions = policy.StackValidationPolicy(
        name="exceptions",
        description="Every written exception is in force and used",
        validate=_check_exceptions,
        enforcement_level=policy.EnforcementLevel.MANDATORY,
    )
    return [*packed, undecided, exceptions]


def plain(value: Any) -> Any:
    """A property as plain data; pulumi-policy raises at an unknown value, which becomes the marker for one."""
    if isinstance(value, Mapping):
        return {key: _item(value, key) for key in value}
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    if isinstance(value, pulumi.Asset | pulumi.Archive):
        return type(value).__name__
    return [_item(value, index) for index in range(len(value))]


def _item(holder: Any, key: Any) -> Any:
    try:
        return plain(holder[key])
    except UnknownValueError:
        return UNKNOWN


def _policy(rule: Rule) -> Any:
    alone = rule.scope == "resource"
    kind = policy.ResourceValidationPolicy if alone else policy.StackValidationPolicy
    return kind(
        name=rule.id,
        description=rule.reason,
        validate=partial(_check_resource if alone else _check_stack, rule),
        enforcement_level=policy.EnforcementLevel.MANDATORY,
        severity=_SEVERITIES[rule.severity.value],
        remediation_steps=rule.remedy,
        url=rule.reference,
        tags=[each for each in (rule.control, rule.cdk_nag) if each is not None],
    )


def _check_resource(rule: Rule, args: Any, report: Tell) -> None:
    if args.resource_type not in rule.types:
        return
    resource = Resource(urn=args.urn, type=args.resource_type, name=args.name, properties=plain(args.props))
    _tell(_evaluate(Graph(resources=(resource,)), [rule]), report)


def _check_stack(rule: Rule, args: Any, report: Tell) -> None:
    _tell(_evaluate(_graph(args), [rule]), report)


def _list_undecided(args: Any, report: Tell) -> None:
    for finding in _evaluate(_graph(args), RULES).undecidable:
        report(f"{finding.rule.id}: {'; '.join(finding.details)}", finding.resource.urn or None)


def _check_exceptions(args: Any, report: Tell) -> None:
    outcome = _evaluate(_graph(args), RULES)
    for each in outcome.expired:
        report(f"the exception from {each.rule} for {each.resource} expired on {each.expires}; look at it again")
    for each in outcome.unused:
        report(f"the exception from {each.rule} for {each.resource} covers nothing; take it out")


def _tell(outcome: Report, report: Tell) -> None:
    for finding in outcome.violations:
        report(f"{'; '.join(finding.details)}; {finding.rule.remedy}", finding.resource.urn or None)


def _evaluate(graph: Graph, rules: Any) -> Report:
    stack = next((each.urn.split(":")[2] for each in graph.resources if each.urn), "")
    return evaluate(graph, stack=stack, rules=rules, exemptions=EXEMPTIONS, today=datetime.now(tz=UTC).date())


def _graph(args: Any) -> Graph:
    resources = [
        Resource(
            urn=each.urn,
            type=each.resource_type,
            name=each.name,
            properties=plain(each.props),
            sources={prop: frozenset(of.urn for of in sources) for prop, sources in each.property_dependencies.items()},
        )
        for each in args.resources
    ]
    if not any(each.type == STACK for each in resources):
        resources.append(Resource(urn="", type=STACK, name=pulumi.get_stack(), properties={}))
    return Graph(resources=tuple(resources), configuration=configuration())


def configuration() -> dict[str, Any]:
    """The stack's configuration as the CLI hands it over, its secret values masked."""
    secret = set(get_config_secret_keys_env())
    return {key: SECRET if key in secret else _parsed(value) for key, value in get_config_env().items()}


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value
