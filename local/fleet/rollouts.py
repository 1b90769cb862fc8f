"""Instance refreshes that somebody has started through the API: which is new, and how it went."""

import json

from local.errors import LocalError
from local.fleet.deployed import Client
from local.refresh_states import OPEN, STATUS_TAG


class Rollouts:
    """Follows the refreshes of one group, and says how they go on: a tag for the emulator, events as AWS sends them."""

    def __init__(self, client: Client, *, group: str) -> None:
        self._client = client
        self._group = group
        self._current = ""

    def begun(self) -> bool:
        """Whether there is a refresh that was not there before; it is under way from now on."""
        found = self._client("autoscaling").describe_instance_refreshes(AutoScalingGroupName=self._group)
        newest = next(iter(found["InstanceRefreshes"]), None)
        if newest is None or newest["Status"] not in OPEN or newest["InstanceRefreshId"] == self._current:
            return False
        self._current = newest["InstanceRefreshId"]
        self._say("InProgress", event="Started")
        return True

    def end(self, *, failed: bool) -> None:
        """The refresh under way is over, if there is one."""
        if self._current:
            self._say("Failed" if failed else "Successful", event="Failed" if failed else "Succeeded")
            self._current = ""

    def _say(self, status: str, *, event: str) -> None:
        tag = {
            "ResourceType": "auto-scaling-group",
            "ResourceId": self._group,
            "Key": STATUS_TAG,
            "Value": f"{self._current} {status}",
            "PropagateAtLaunch": False,
        }
        self._client("autoscaling").create_or_update_tags(Tags=[tag])
        detail = {"InstanceRefreshId": self._current, "AutoScalingGroupName": self._group}
        entry = {
            "Source": "aws.autoscaling",
            "DetailType": f"EC2 Auto Scaling Instance Refresh {event}",
            "Detail": json.dumps(detail),
        }
        answer = self._client("events").put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            raise LocalError(f"event {entry['DetailType']} was not taken: {answer['Entries'][0]['ErrorCode']}")
