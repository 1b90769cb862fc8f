"""Instance refreshes of moto's auto scaling groups, which moto does not know: started, listed, one at a time.

Who runs the instances says how a refresh goes on by a tag of its group; moto has no other place for it.
"""

import uuid
from datetime import UTC, datetime
from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult

from local.refresh_states import OPEN, STATUS_TAG

_refreshes: dict[tuple[str, str, str], list[dict[str, Any]]] = {}


class InstanceRefreshInProgressError(AutoscalingClientError):
    """As AWS calls it."""

    code = "InstanceRefreshInProgress"
    message = "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh."


def install() -> None:
    """Have moto answer StartInstanceRefresh and DescribeInstanceRefreshes."""
    for operation in (start_instance_refresh, describe_instance_refreshes):
        setattr(AutoScalingResponse, operation.__name__, operation)


def start_instance_refresh(self: AutoScalingResponse) -> ActionResult:
    """A refresh that waits for whoever runs the instances."""
    found = _of_group(self)
    if any(each["Status"] in OPEN for each in found):
        raise InstanceRefreshInProgressError
    name = self._get_param("AutoScalingGroupName")
    made = {
        "InstanceRefreshId": str(uuid.uuid4()),
        "AutoScalingGroupName": name,
        "Status": "Pending",
        "StartTime": datetime.now(UTC),
    }
    found.insert(0, made)
    return ActionResult({"InstanceRefreshId": made["InstanceRefreshId"]})


def describe_instance_refreshes(self: AutoScalingResponse) -> ActionResult:
    """The group's refreshes, the newest first."""
    wanted = self._get_param("InstanceRefreshIds", [])
    found = [each for each in _of_group(self) if not wanted or each["InstanceRefreshId"] in wanted]
    return ActionResult({"InstanceRefreshes": found})


def _of_group(response: AutoScalingResponse) -> list[dict[str, Any]]:
    """The refreshes of the request's group, with the status that its tag says."""
    name = response._get_param("AutoScalingGroupName")
    group = response.autoscaling_backend.autoscaling_groups.get(name)
    if group is None:
        raise ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
    found = _refreshes.setdefault((response.current_account, response.region, name), [])
    for tag in group.tags:
        if tag["Key"] == STATUS_TAG:
            refresh, _, status = str(tag["Value"]).partition(" ")
            for each in found:
                if each["InstanceRefreshId"] == refresh:
                    each["Status"] = status
    return found
