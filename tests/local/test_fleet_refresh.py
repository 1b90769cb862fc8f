"""A fleet that takes over what was deployed anew: servers of another template are replaced, all others go on."""

import base64
import threading
from pathlib import Path

import pytest
import yaml

from local.emulators import Emulators
from local.errors import LocalError
from tests.local.test_fleet import Deployed, deploy, free_port, get, make_fleet, until


def use_template(deployed: Deployed, *, mode: str, port: int, mark: str = "new") -> None:
    """Another version of the template, and the group on it: what an update of both deploys."""
    content = (
        f"MODELKEEP_PORT={port}\nMODELKEEP_DRAIN_SECONDS=60\nMODELKEEP_MODELS=[]\nFAKE_MODE={mode}\n"
        f"MODELKEEP_MARK={mark}\n"
    )
    document = {"write_files": [{"path": "/etc/modelkeep/server.env", "content": content}]}
    user_data = base64.b64encode(f"#cloud-config\n{yaml.safe_dump(document)}".encode()).decode()
    version = deployed.emulators.client("ec2").create_launch_template_version(
        LaunchTemplateId=deployed.template_id,
        LaunchTemplateData={"ImageId": "ami-12345678", "InstanceType": "g5.xlarge", "UserData": user_data},
    )["LaunchTemplateVersion"]["VersionNumber"]
    specification = {"LaunchTemplateId": deployed.template_id, "Version": str(version)}
    deployed.emulators.client("autoscaling").update_auto_scaling_group(
        AutoScalingGroupName=deployed.group,
        MixedInstancesPolicy={"LaunchTemplate": {"LaunchTemplateSpecification": specification}},
    )


def test_servers_of_another_template_are_replaced_one_by_one_and_there_is_always_one(
    emulators: Emulators, tmp_path: Path
) -> None:
    port = free_port()
    deployed = deploy(emulators, name="refreshed", port=port, desired=2)
    with make_fleet(deployed, tmp_path) as fleet:
        fleet.wait_ready(30)
        before = {status.id for status in fleet.instances()}
        fleet.take_over(target_group_arn=deployed.target_group_arn)
        until(fleet.settled)
        assert {status.id for status in fleet.instances()} == before  # nothing has changed

        use_template(deployed, mode="serve", port=port)
        fleet.take_over(target_group_arn=deployed.target_group_arn)
        fewest = []
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                fewest.append(sum(status.state == "ready" for status in fleet.instances()))

        watcher = threading.Thread(target=watch)
        watcher.start()
        until(fleet.settled, seconds=30)
        done.set()
        watcher.join()
        until(lambda: len(fleet.instances()) == 2)
        after = fleet.instances()
        assert not before & {status.id for status in after}
        assert {status.id for status in after} == deployed.ids() == set(deployed.healthy())
        assert min(fewest) >= 2
        marks = {get(status.url, "/")[1]["environment"]["MODELKEEP_MARK"] for status in after}
        assert marks == {"new"}


def test_servers_that_do_not_start_leave_the_ones_of_before_in_service(emulators: Emulators, tmp_path: Path) -> None:
    port = free_port()
    deployed = deploy(emulators, name="broken", port=port, desired=1)
    with make_fleet(deployed, tmp_path) as fleet:
        fleet.wait_ready(30)
        (before,) = fleet.instances()
        use_template(deployed, mode="crash", port=port)
        fleet.take_over(target_group_arn=deployed.target_group_arn)
        with pytest.raises(LocalError, match="does not become ready: ended with status 1: model tiny 1: expected"):
            until(fleet.settled, seconds=30)
        assert before.id not in deployed.ids()
        target = fleet.pick(deployed.load_balancer_dns)
        assert target is not None
        assert target.id == before.id
        fleet.release(target)

        use_template(deployed, mode="serve", port=port, mark="mended")
        fleet.take_over(target_group_arn=deployed.target_group_arn)
        until(fleet.settled, seconds=30)
        until(lambda: len(fleet.instances()) == 1)
        (after,) = fleet.instances()
        assert get(after.url, "/")[1]["environment"]["MODELKEEP_MARK"] == "mended"
