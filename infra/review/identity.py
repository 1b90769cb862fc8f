"""Judges policies: allows that are new or wider, denies and conditions that are lost, trust, pass-role."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from infra.review import conditions
from infra.review.diff import Change
from infra.review.facets import Facet
from infra.review.grants_severity import Verdict, allow_verdict, deny_verdict
from infra.review.graph import Graph, Resource
from infra.review.iam_actions import spelled
from infra.review.model import NOTHING, Finding, Severity, Topic
from infra.review.policies import Policy, attachments, policies
from infra.review.statements import Grant, Reading, read, uncovered
from infra.review.values import cut

_FEW = 4  # so many actions are named one by one
ATTACHED = Topic(
    "policy-attached",
    "identity",
    "medium",
    "Managed policy of the identity",
    "what it allows is written elsewhere, and AWS changes its own without notice",
)
_ADMINISTRATION = ("AdministratorAccess", "PowerUserAccess", "IAMFullAccess")
# What AWS takes where there is no document: an endpoint lets everything pass, and an API has no policy of its own.
_UNWRITTEN = {
    "aws:ec2/vpcEndpoint:VpcEndpoint": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"},
    "aws:apigateway/restApi:RestApi": {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "execute-api:Invoke",
        "Resource": "*",
    },
}


@dataclass(frozen=True)
class _Known:
    """What the documents of one policy say, each by the URN and the property that it stands in."""

    policy: Policy
    readings: Mapping[tuple[str, str], Reading]

    @property
    def grants(self) -> list[Grant]:
        """What is known of all documents together."""
        return [grant for reading in self.readings.values() for grant in reading.grants]

    @property
    def unknown(self) -> list[str]:
        """What is not known of them, as text."""
        return sorted(text for reading in self.readings.values() for text in reading.unknown)

    def comparable_with(self, other: _Known | None) -> list[Grant]:
        """The grants without those of a document of which the other side shows nothing: they may all be there."""
        theirs = {} if other is None else other.readings
        hidden = {key for key, reading in theirs.items() if reading.unknown and not reading.grants}
        return [grant for key, reading in self.readings.items() if key not in hidden for grant in reading.grants]


def judge(change: Change) -> Iterator[Finding]:
    """The findings on policies, wider and narrower."""
    before, after = _read(change.before), _read(change.after)
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        yield from _unknown(old, new)
        yield from _widened(old, new)
        yield from (finding.mirrored() for finding in _widened(new, old, gone=True))


def attachment_facets(graph: Graph) -> Iterator[Facet]:
    """One facet per managed policy that a role, user or group has."""
    for holder, source, prop, arn in attachments(graph):
        name = arn.rpartition("/")[2]
        severity: Severity = "high" if name in _ADMINISTRATION or name.endswith("FullAccess") else ATTACHED.severity
        controls = ("IAM.1",) if name == "AdministratorAccess" else ()
        yield Facet(ATTACHED, holder, prop, 1.0, arn, detail=arn, severity=severity, source=source, controls=controls)


def unknown_documents(graph: Graph) -> list[str]:
    """The policies that a preview shows nothing of, or not all, so that a change in them is not seen."""
    return sorted(
        f"{known.policy.kind} policy of {known.policy.holder.name}" for known in _read(graph).values() if known.unknown
    )


def _read(graph: Graph) -> dict[tuple[str, str], _Known]:
    found = {}
    for policy in policies(graph):
        holder = policy.holder
        principal = ("holder", holder.name) if policy.kind == "identity" else ("", "")
        resource = "" if policy.kind == "trust" else "*"
        readings = {
            (source.urn, path): read(document, principal=principal, resource=resource)
            for source, path, document in policy.documents
        }
        if not policy.documents and holder.type in _UNWRITTEN:
            readings[holder.urn, "policy"] = read({"Statement": _UNWRITTEN[holder.type]})
        found[policy.kind, holder.urn] = _Known(policy=policy, readings=readings)
    return found


def _unknown(old: _Known | None, new: _Known | None) -> Iterator[Finding]:
    """A policy that is not known on one side as it is on the other."""
    sides = [[] if each is None else each.unknown for each in (old, new)]
    last = new or old
    if last is None or sides[0] == sides[1]:
        return
    severity: Severity = "high" if new is not None else "low"
    verdict = Verdict(severity, "unknown-policy", "Policy that the preview does not show", _UNKNOWN_WHY, ())
    yield _finding(last.policy, verdict, direction="unknown", before=_state(old), after=_state(new))


_UNKNOWN_WHY = (
    "what it allows cannot be judged from this preview; compare revisions, or a preview of the deployed stack"
)


def _state(known: _Known | None) -> str:
    if known is None:
        return NOTHING
    parts = [f"{len(known.grants)} statements"] if known.grants or not known.unknown else []
    return " and ".join([*parts, *([f"unknown ({cut('; '.join(known.unknown))})"] if known.unknown else [])])


def _widened(old: _Known | None, new: _Known | None, *, gone: bool = False) -> Iterator[Finding]:
    """What `new` allows that `old` does not, and what `old` denies that `new` does not."""
    last = new or old
    if last is None:
        return
    policy = last.policy
    allowed_before = [] if old is None else [each for each in old.grants if each.is_allow]
    allowed_after = [] if new is None else [each for each in new.comparable_with(old) if each.is_allow]
    for group in _grouped(uncovered(allowed_after, allowed_before)):
        closest = _closest(group, allowed_before)
        verdict = allow_verdict(policy, group, weakened=bool(closest) and _only_conditions(group, closest))
        yield _finding(
            policy, verdict, direction="wider", before=_groups_text(closest), after=group_text(group), gone=gone
        )
    if new is None or old is None:
        return  # a policy that goes with its resource denies nothing any more, and nothing is there to be denied
    denied_after = [each for each in new.grants if not each.is_allow]
    denied_before = [each for each in old.comparable_with(new) if not each.is_allow]
    for group in _grouped(uncovered(denied_before, denied_after)):
        keys = {test.key for test in group[0].conditions}
        alike = [each for each in denied_after if {test.key for test in each.conditions} == keys]
        yield _finding(
            policy,
            deny_verdict(policy, group),
            direction="wider",
            before=group_text(group),
            after=_groups_text(_closest(group, alike)),
            gone=gone,
        )


def _groups_text(found: Iterable[Grant]) -> str:
    return "; ".join(group_text(group) for group in _grouped(found)) or NOTHING


def _grouped(found: Iterable[Grant]) -> list[list[Grant]]:
    """Grants that differ in their resource only, together."""
    groups: dict[tuple[object, ...], list[Grant]] = {}
    for grant in found:
        key = (grant.principal, grant.excepted_principal, grant.actions, grant.conditions)
        groups.setdefault(key, []).append(grant)
    return sorted(groups.values(), key=group_text)


def _closest(group: Sequence[Grant], others: Sequence[Grant]) -> list[Grant]:
    """The grants on the other side that some of the same actions and the same principal are about."""
    wanted = group[0]
    same = [each for each in others if each.principal == wanted.principal and each.actions & wanted.actions]
    resources = {each.resource for each in group}
    return [each for each in same if each.resource in resources] or same[:2]


def _only_conditions(group: Sequence[Grant], closest: Sequence[Grant]) -> bool:
    """Whether the same was allowed on the same resource under other conditions."""
    return all(
        any(one.resource.within(each.resource) and one.actions <= each.actions for each in closest) for one in group
    )


def group_text(group: Sequence[Grant]) -> str:
    """Grants of one kind on several resources, for people."""
    grant = group[0]
    resources = ", ".join(sorted({str(each.resource) for each in group}))
    who = ""
    if grant.principal[0] not in ("", "holder"):
        name = "anyone" if grant.principal[1] == "*" else grant.principal[1]
        who = f"{'everyone but ' if grant.excepted_principal else ''}{name}: "
    tests = f" if {conditions.shown(grant.conditions)}" if grant.conditions else ""
    effect = "" if grant.is_allow else "deny "
    actions = spelled(grant.actions)
    if len(grant.actions) > _FEW and "*" in grant.written:
        part = "" if grant.actions == grant.stated else f" of {len(grant.stated)}"
        actions = f"{grant.written} ({len(grant.actions)}{part} actions)"
    place = "" if resources == "" else f" on {resources}"
    return f"{effect}{who}{actions}{place}{tests}"


def _finding(
    policy: Policy, verdict: Verdict, *, direction: str, before: str, after: str, gone: bool = False
) -> Finding:
    holder: Resource = policy.holder
    sources = tuple(each.urn for each, _, _ in policy.documents if each.urn != holder.urn)
    paths = [path for _, path, _ in policy.documents]
    return Finding(
        topic=verdict.topic,
        concern=policy.concern,
        direction="unknown" if direction == "unknown" else "wider",
        severity="none" if gone else verdict.severity,
        urn=holder.urn,
        resource=holder.name,
        type=holder.type,
        path=paths[0] if paths else "policy",
        what=verdict.what,
        before=before,
        after=after,
        why=verdict.why,
        controls=verdict.controls,
        sources=sources,
    )
