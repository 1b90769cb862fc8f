"""How grave it is that a policy allows something, or denies it no more, and which control that concerns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.review.iam_actions import ESCALATING, everything, expand, gravest
from infra.review.model import SEVERITIES, Severity
from infra.review.policies import MANAGED, Policy
from infra.review.statements import ANYONE, Grant, account_of

# What each type's control says of a policy that anyone is in: (controls for reading, controls for writing).
_PUBLIC: dict[str, tuple[str, ...]] = {
    "aws:s3/bucket:Bucket": ("S3.2", "S3.3"),
    "aws:kms/key:Key": ("KMS.5",),
    "aws:lambda/function:Function": ("Lambda.1",),
    "aws:sns/topic:Topic": ("SNS.4",),
    "aws:sqs/queue:Queue": ("SQS.3",),
}
_RESOURCE_ALLOW = "Resource policy: allow new or wider"
_WEAKENED_WHAT = "Condition removed or weakened"
_WEAKENED = "it was allowed before under conditions that are gone or take more"
_DECRYPTS = frozenset({"kms:decrypt", "kms:reencryptfrom"})


@dataclass(frozen=True)
class Verdict:
    """What a finding on a policy says."""

    severity: Severity
    topic: str
    what: str
    why: str
    controls: tuple[str, ...]


def allow_verdict(policy: Policy, group: Sequence[Grant], *, weakened: bool) -> Verdict:
    """The verdict on a new or wider allow; `weakened` when only its conditions differ."""
    if policy.kind == "trust":
        return _trust_verdict(group, weakened=weakened)
    if policy.kind == "resource":
        return _resource_verdict(policy, group, weakened=weakened)
    return _identity_verdict(policy, group, weakened=weakened)


def deny_verdict(policy: Policy, group: Sequence[Grant]) -> Verdict:
    """The verdict on a lost or narrower deny."""
    tls = any(each.key in ("aws:securetransport", "s3:tlsversion") for one in group for each in one.conditions)
    controls = ("S3.5",) if tls and policy.holder.type == "aws:s3/bucket:Bucket" else ()
    why = "calls without TLS, or with an old version, are answered" if tls else "a deny holds whatever else allows it"
    return Verdict("high", "deny-lost", "Deny removed or narrowed", why, controls)


def _identity_verdict(policy: Policy, group: Sequence[Grant], *, weakened: bool) -> Verdict:
    actions = frozenset().union(*(each.actions for each in group))
    anywhere = any(each.resource.negated or "*" in each.resource.texts for each in group)
    severity = gravest(actions)
    controls: list[str] = []
    stated = frozenset().union(*(each.stated for each in group))
    if anywhere and stated >= everything():
        severity = "high"
        controls.append("IAM.1")
    if any(_whole_service(stated, service) for service in {action.partition(":")[0] for action in actions}):
        severity = _raised(severity)
        controls.append("IAM.21")
    if anywhere and not all(each.conditions for each in group):
        severity = _raised(severity)
    if actions & _DECRYPTS and any(_every_key(each) for each in group):
        severity = "high"
        controls.append("KMS.1" if policy.holder.type == MANAGED else "KMS.2")
    if weakened:
        return Verdict(_raised(severity), "condition-weakened", _WEAKENED_WHAT, _WEAKENED, tuple(controls))
    if actions & ESCALATING:
        why = "by these actions an identity can give itself, or a service, more than its policy says"
        return Verdict("high", "allow-escalating", "Allow that leads to more", why, tuple(controls))
    why = "whoever acts under this identity, or breaks into it, may do it"
    return Verdict(severity, "allow", "Allow new or wider", why, tuple(controls))


def _resource_verdict(policy: Policy, group: Sequence[Grant], *, weakened: bool) -> Verdict:
    public = any(each.principal == ANYONE or each.excepted_principal for each in group)
    unconditional = any(not each.conditions for each in group)
    foreign = any(
        each.principal[0] == "AWS" and account_of(each.principal[1]) not in policy.own_accounts for each in group
    )
    is_function = policy.holder.type == "aws:lambda/function:Function"
    controls = ("Lambda.1",) if is_function and (public or unconditional) else ()
    if public and unconditional:
        why = "anyone may use it, from any account or from none"
        return Verdict("high", "public-policy", "Resource policy: anyone", why, _PUBLIC.get(policy.holder.type, ()))
    if weakened:
        severity: Severity = "high" if public or foreign else "medium"
        return Verdict(severity, "condition-weakened", _WEAKENED_WHAT, _WEAKENED, controls)
    if foreign and not public:
        return Verdict("high", "resource-allow", _RESOURCE_ALLOW, "another account is let in", controls)
    # The account's own policies still decide for its own identities; a service is held to what its conditions say.
    by_service = any(each.principal[0] == "Service" for each in group)
    severity = "medium" if public or (by_service and unconditional) else "low"
    return Verdict(severity, "resource-allow", _RESOURCE_ALLOW, "more callers, or more actions, are let in", controls)


def _trust_verdict(group: Sequence[Grant], *, weakened: bool) -> Verdict:
    if any(each.principal == ANYONE or each.excepted_principal for each in group):
        return Verdict("high", "trust", "Who may take the role on", "anyone may act under it", ())
    if weakened:
        why = "a service may be made to act for somebody else"
        return Verdict("high", "condition-weakened", _WEAKENED_WHAT, why, ())
    if all(each.principal[0] == "Service" for each in group):
        return Verdict("medium", "trust", "Who may take the role on", "another service may act under it", ())
    return Verdict("high", "trust", "Who may take the role on", "another identity may act under it", ())


def _whole_service(actions: frozenset[str], service: str) -> bool:
    """Whether every action of a service with more than a handful is there."""
    known = expand(f"{service}:*")
    return len(known) > 4 and known <= actions


def _every_key(grant: Grant) -> bool:
    texts = grant.resource.texts
    return grant.resource.negated or any(text == "*" or text.endswith(("key/*", ":kms:*")) for text in texts)


def _raised(severity: Severity) -> Severity:
    return SEVERITIES[min(SEVERITIES.index(severity) + 1, len(SEVERITIES) - 1)]
