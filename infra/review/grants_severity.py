"""How grave it is that a policy allows something, or denies it no more, and which control that concerns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.review.graph import UNKNOWN
from infra.review.iam_actions import ESCALATING, everything, expand, gravest
from infra.review.model import SEVERITIES, Severity
from infra.review.policies import BUCKET, FUNCTION, KEY, MANAGED, Policy
from infra.review.statements import ANYONE, Grant, is_account, is_own

# What each type's control says of a policy that anyone is in: (controls for reading, controls for writing).
_PUBLIC: dict[str, tuple[str, ...]] = {
    BUCKET: ("S3.2", "S3.3"),
    KEY: ("KMS.5",),
    FUNCTION: ("Lambda.1",),
    "aws:sns/topic:Topic": ("SNS.4",),
    "aws:sqs/queue:Queue": ("SQS.3",),
}
_RESOURCE_ALLOW = "Resource policy: allow new or wider"
_WEAKENED_WHAT = "Condition removed or weakened"
_WEAKENED = "it was allowed before under conditions that are gone or take more"
_DECRYPTS = frozenset({"kms:decrypt", "kms:reencryptfrom"})
_READS_BY_KEY = _DECRYPTS | {"kms:creategrant"}
_OPENS_KEY = _READS_BY_KEY | {"kms:putkeypolicy"}


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
    controls = ("S3.5",) if tls and policy.about == BUCKET else ()
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
        controls.append("KMS.1" if policy.about == MANAGED else "KMS.2")
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
    named = [each.principal for each in group if each.principal[0] in ("AWS", "CanonicalUser")]
    foreign = any(not is_own(principal, policy.own_accounts) for _, principal in named)
    is_function = policy.about == FUNCTION
    controls = ("Lambda.1",) if is_function and (public or unconditional) else ()
    if public and unconditional:
        why = "anyone may use it, from any account or from none"
        return Verdict("high", "public-policy", "Resource policy: anyone", why, _PUBLIC.get(policy.about, ()))
    severity = _named_severity(group)
    if weakened:
        decrypts = any(each.actions & _READS_BY_KEY for each in group)
        severity = "high" if public or foreign or decrypts else _graver(severity, "medium")
        return Verdict(severity, "condition-weakened", _WEAKENED_WHAT, _WEAKENED, controls)
    if foreign and not public:
        hidden = any(principal == UNKNOWN for _, principal in named)
        why = "who is let in is known only once it is made" if hidden else "another account is let in"
        return Verdict("high", "resource-allow", _RESOURCE_ALLOW, why, controls)
    # A service is held to what its conditions say.
    by_service = any(each.principal[0] == "Service" for each in group)
    severity = _graver(severity, "medium" if public or (by_service and unconditional) else "low")
    return Verdict(severity, "resource-allow", _RESOURCE_ALLOW, "more callers, or more actions, are let in", controls)


def _named_severity(group: Sequence[Grant]) -> Severity:
    """How grave the actions are for who is named.

    A role or a user of the account needs no more than this policy. The account as a whole does: its own policies then
    decide who may, so that only who reads what a key encrypted, or opens the key, weighs more.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic_policy-eval-basics.html
    """
    severity: Severity = "low"
    for each in group:
        if each.principal[0] == "AWS" and each.principal != ANYONE:
            if is_account(each.principal[1]):
                grave = each.actions & _READS_BY_KEY and not each.conditions
                severity = _graver(severity, "medium" if grave else "low")
            else:
                severity = _graver(severity, "high" if each.actions & _OPENS_KEY else gravest(each.actions))
    return severity


def _graver(one: Severity, other: Severity) -> Severity:
    return max(one, other, key=SEVERITIES.index)


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
