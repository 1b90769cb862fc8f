"""An instance refresh that somebody starts through the API: the fleet replaces its servers and says how it went."""

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.emulators import Emulators
from tests.local.test_fleet import Deployed, deploy, free_port, make_fleet, until
from tests.local.test_fleet_refresh import use_template


def start(deployed: Deployed) -> str:
    refresh: str = deployed.emulators.client("autoscaling").start_instance_refresh(
        AutoScalingGroupName=deployed.group, Strategy="Rolling", Preferences={"SkipMatching": False}
    )["InstanceRefreshId"]
    return refresh


def status(deployed: Deployed, refresh: str) -> str:
    found = deployed.emulators.client("autoscaling").describe_instance_refreshes(
        AutoScalingGroupName=deployed.group, InstanceRefreshIds=[refresh]
    )["InstanceRefreshes"]
    assert [each["InstanceRefreshId"] for each in found] == [refresh]
    return str(found[0]["Status"])


def queue_of_events(emulators: Emulators, *, group: str) -> str:
    """A queue that is sent what AWS says of the group's refreshes."""
    sqs, events = emulators.client("sqs"), emulators.client("events")
    url: str = sqs.create_queue(QueueName=f"{group}-events")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["aws.autoscaling"], "detail": {"AutoScalingGroupName": [group]}}
    events.put_rule(Name=group, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=group, Targets=[{"Id": "queue", "Arn": arn}])
    return url


def received(emulators: Emulators, url: str) -> list[tuple[str, str]]:
    """The events so far: what, and of which refresh."""
    found: list[Any] = []
    while messages := emulators.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for each in messages:
            found.append(json.loads(each["Body"]))
            emulators.client("sqs").delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
    return [(each["detail-type"].rpartition(" ")[2], each["detail"]["InstanceRefreshId"]) for each in found]


def test_every_server_is_replaced_and_one_refresh_at_a_time_is_taken(emulators: Emulators, tmp_path: Path) -> None:
    deployed = deploy(emulators, name="rolled", port=free_port(), desired=2)
    url = queue_of_events(emulators, group="rolled")
    with make_fleet(deployed, tmp_path) as fleet:
        fleet.wait_ready(30)
        before = {one.id for one in fleet.instances()}
        refresh = start(deployed)
        with pytest.raises(ClientError, match="InstanceRefreshInProgress"):
            start(deployed)
        until(lambda: status(deployed, refresh) == "Successful", seconds=30)
        until(lambda: len(fleet.instances()) == 2)
        after = {one.id for one in fleet.instances()}
        assert not before & after
        assert after == deployed.ids() == set(deployed.healthy())
    assert received(emulators, url) == [("Started", refresh), ("Succeeded", refresh)]


def test_a_refresh_whose_servers_do_not_start_fails_and_the_next_one_mends_it(
    emulators: Emulators, tmp_path: Path
) -> None:
    port = free_port()
    deployed = deploy(emulators, name="failing", port=port, desired=2)
    url = queue_of_events(emulators, group="failing")
    with make_fleet(deployed, tmp_path) as fleet:
        fleet.wait_ready(30)
        use_template(deployed, mode="crash", port=port)
        refresh = start(deployed)
        until(lambda: status(deployed, refresh) == "Failed", seconds=30)
        assert len([one for one in fleet.instances() if one.state == "ready"]) == 2  # those of before
        assert received(emulators, url) == [("Started", refresh), ("Failed", refresh)]

        use_template(deployed, mode="serve", port=port)
        mending = start(deployed)
        until(lambda: status(deployed, mending) == "Successful", seconds=30)
        assert {one.state for one in fleet.instances() if one.id in deployed.ids()} == {"ready"}


def test_a_group_that_is_not_there_is_said(emulators: Emulators) -> None:
    with pytest.raises(ClientError, match="AutoScalingGroup name not found"):
        emulators.client("autoscaling").start_instance_refresh(AutoScalingGroupName="nowhere")
