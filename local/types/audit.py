"""CloudTrail's trails and AWS Budgets' budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.errors import LocalError
from local.mapping import to_parameters
from local.types.spec import Autoname, Follow, Inputs, Made, TypeSpec, known

SELECTORS = {
    "eventSelectors": "PutEventSelectors",
    "advancedEventSelectors": "PutEventSelectors",
    "insightSelectors": "PutInsightSelectors",
}
LOG_GROUP = {"cloudWatchLogsGroupArn": "CloudWatchLogsLogGroupArn", "cloudWatchLogsRoleArn": "CloudWatchLogsRoleArn"}


def select(made: Made) -> None:
    for name, operation in SELECTORS.items():
        if made.inputs.get(name):
            inputs = {"trailName": made.id, name: made.inputs[name]}
            parameters, problems = to_parameters(service="cloudtrail", operation=operation, inputs=inputs)
            if problems:
                raise LocalError(f"cloudtrail:{operation}: {problems[0].path} {problems[0].reason}")
            made.call("cloudtrail", operation, **parameters)


def log_group(made: Made) -> None:
    """By a call of its own, since the emulator's CreateTrail forgets it."""
    group = {member: made.inputs[name] for name, member in LOG_GROUP.items() if name in made.inputs}
    made.call("cloudtrail", "UpdateTrail", Name=made.id, **group)


def _start(made: Made) -> None:
    """A trail of the API's is made without recording, one of Pulumi's records unless it is told not to."""
    if made.inputs.get("enableLogging", True):
        made.call("cloudtrail", "StartLogging", Name=made.id)


def _budget(inputs: Inputs) -> Inputs:
    """What a budget is under one member, whom it tells under another, and its tags beside them."""
    limit = {name: inputs[f"limit{name}"] for name in ("Amount", "Unit") if f"limit{name}" in inputs}
    outside = {"accountId", "tags", "notifications", "costFilters", "limitAmount", "limitUnit"}
    budget = {name: value for name, value in inputs.items() if name not in outside}
    if limit:
        budget["budgetLimit"] = limit
    filters = inputs.get("costFilters")
    if filters is not None:
        budget["costFilters"] = {each["name"]: each["values"] for each in filters} if known(filters) else filters
    told = inputs.get("notifications", [])
    return {
        **{name: inputs[name] for name in ("accountId", "tags") if name in inputs},
        "budget": budget,
        "notificationsWithSubscribers": [_notification(each) for each in told] if known(told) else told,
    }


def _notification(notification: Any) -> Any:
    if not known(notification):
        return notification
    kinds = (("EMAIL", "subscriberEmailAddresses"), ("SNS", "subscriberSnsTopicArns"))
    outside = {name for _, name in kinds}
    return {
        "notification": {name: value for name, value in notification.items() if name not in outside},
        "subscribers": [
            {"subscriptionType": kind, "address": address}
            for kind, name in kinds
            for address in notification.get(name) or []
        ],
    }


def _budget_outputs(made: Made) -> Mapping[str, Any]:
    return {"arn": made.arn("budgets", f"budget/{made.inputs['name']}", region=False)}


TYPES: dict[str, TypeSpec] = {
    "aws:cloudtrail/trail:Trail": TypeSpec(
        service="cloudtrail",
        operation="CreateTrail",
        id="TrailARN",
        rename={"tags": "TagsList"},
        steering=frozenset({"enableLogging"}),
        autoname=Autoname("name", limit=128),
        follow=(
            Follow(tuple(LOG_GROUP), log_group),
            Follow(tuple(SELECTORS), select),
            Follow((), _start),
        ),
        outputs={"arn": "TrailARN"},
        derive=lambda made: {"homeRegion": made.region},
    ),
    "aws:budgets/budget:Budget": TypeSpec(
        service="budgets",
        operation="CreateBudget",
        id="{accountId}:{name}",
        rename={"budget.name": "BudgetName", "tags": "ResourceTags"},
        reshape=_budget,
        autoname=Autoname("name", limit=100),
        derive=_budget_outputs,
    ),
}
