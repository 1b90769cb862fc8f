"""Rolls out a promoted model: writes the version into the promotions parameter and starts an instance refresh.

The operator invokes it, by `modelkeep models promote|rollback`. EventBridge invokes it when an instance refresh fails:
then what was promoted is taken back. AWS itself can only roll back to another launch template, and that has not
changed; so this is the rollback of a refresh that began here. Runs with the standard library and boto3.
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from lambdas.environment import RolloutEnvironment
from lambdas.errors import PromotionError
from lambdas.promotions import Promotions, parse

FAILED = "EC2 Auto Scaling Instance Refresh Failed"


def handler(event: Any, context: Any) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Take an order or an event; what is served now, and the refresh that brings it. Raises PromotionError."""
    environment = RolloutEnvironment.read(os.environ)
    options = Config(connect_timeout=2, read_timeout=10, retries={"mode": "standard", "max_attempts": 3})
    clients = {service: boto3.client(service, config=options) for service in ("ssm", "autoscaling")}
    answer = roll_out(event if isinstance(event, Mapping) else {}, environment, clients=clients)
    sys.stdout.write(json.dumps({"event": "rollout", **answer}) + "\n")
    return answer


def roll_out(
    event: Mapping[str, Any], environment: RolloutEnvironment, *, clients: Mapping[str, Any]
) -> dict[str, Any]:
    """What one event leads to: {"served": {name: version}, "refresh": id or ""}. Raises PromotionError."""
    ssm = clients["ssm"]
    now = parse(ssm.get_parameter(Name=environment.parameter)["Parameter"]["Value"])
    if event.get("source") == "aws.autoscaling":
        return _take_back(event, now, environment, clients=clients)
    name = str(event.get("model", ""))
    if event.get("rollback") is True:
        then = now.roll_back(name, settings=environment.models)
    else:
        then = now.promote(name, str(event.get("version", "")), settings=environment.models)
    then.text()  # whether it fits, before anything is begun
    return _begin(then, environment, clients=clients, alarms=[environment.alarm])


def _take_back(
    event: Mapping[str, Any], now: Promotions, environment: RolloutEnvironment, *, clients: Mapping[str, Any]
) -> dict[str, Any]:
    detail = event.get("detail", {})
    before = None
    if event.get("detail-type") == FAILED and detail.get("AutoScalingGroupName") == environment.group:
        before = now.undone(str(detail.get("InstanceRefreshId", "")))
    if before is None:  # a refresh of Pulumi's, which rolls back by itself, or the way back, after which there is none
        return {"served": now.served(environment.models), "refresh": ""}
    # Without the alarm: it may still be on, and would end the way back as well.
    return _begin(before, environment, clients=clients, alarms=[])


def _begin(
    then: Promotions, environment: RolloutEnvironment, *, clients: Mapping[str, Any], alarms: list[str]
) -> dict[str, Any]:
    """Start the refresh, then write: of two at once, one is refused before it has changed anything.

    An instance reads the parameter when its server starts, minutes after the refresh does.
    """
    preferences: dict[str, Any] = {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 150, "SkipMatching": False}
    if alarms:
        preferences["AlarmSpecification"] = {"Alarms": alarms}
    autoscaling = clients["autoscaling"]
    try:
        refresh = autoscaling.start_instance_refresh(
            AutoScalingGroupName=environment.group, Strategy="Rolling", Preferences=preferences
        )["InstanceRefreshId"]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "InstanceRefreshInProgress":
            raise PromotionError(f"group {environment.group} is being refreshed; promote when that is done") from None
        raise
    written = Promotions(models=then.models, refresh=refresh, undo=then.undo)
    clients["ssm"].put_parameter(Name=environment.parameter, Value=written.text(), Type="String", Overwrite=True)
    return {"served": written.served(environment.models), "refresh": refresh}
