"""AWS Batch on the emulators: made, changed in place, and taken away again."""

from typing import Any

from tests.local.changing_stack import ChangingStack

PROGRAM = """
import json
vpc = aws.ec2.Vpc("vpc", cidr_block="10.8.0.0/16")
subnet = aws.ec2.Subnet("subnet", vpc_id=vpc.id, cidr_block="10.8.0.0/24")
group = aws.ec2.SecurityGroup("group", vpc_id=vpc.id, description="d")
role = aws.iam.Role("role", assume_role_policy={{"Version": "2012-10-17", "Statement": [
    {{"Effect": "Allow", "Principal": {{"Service": "ec2.amazonaws.com"}}, "Action": "sts:AssumeRole"}}]}})
profile = aws.iam.InstanceProfile("profile", role=role.name)
machines = aws.batch.ComputeEnvironment(
    "machines", type="MANAGED",
    compute_resources={{
        "type": "EC2", "instance_types": ["c7i.xlarge"], "min_vcpus": 0, "max_vcpus": {vcpus},
        "subnets": [subnet.id], "security_group_ids": [group.id], "instance_role": profile.arn,
    }},
    update_policy={{"job_execution_timeout_minutes": 30, "terminate_jobs_on_update": False}})
queue = aws.batch.JobQueue(
    "queue", state="ENABLED", priority={priority},
    compute_environment_orders=[{{"order": 1, "compute_environment": machines.arn}}])
definition = aws.batch.JobDefinition(
    "definition", type="container", platform_capabilities=["EC2"], parameters={{"config": "none"}},
    container_properties=json.dumps({{
        "image": "x", "command": ["train", "Ref::config"],
        "resourceRequirements": [{{"type": "VCPU", "value": "2"}}, {{"type": "MEMORY", "value": "512"}}],
        "environment": [{{"name": "STAGE", "value": {stage!r}}}],
    }}),
    retry_strategy={{"attempts": 2, "evaluate_on_exits": [{{"action": "RETRY", "on_exit_code": "75"}}]}},
    timeout={{"attempt_duration_seconds": 60}})
pulumi.export("machines", machines.name)
pulumi.export("cluster", machines.ecs_cluster_arn)
pulumi.export("queue", queue.arn)
pulumi.export("definition", definition.arn)
"""


def test_batch_is_made_changed_in_place_and_taken_away(stack: ChangingStack) -> None:
    batch: Any = stack.emulators.client("batch")
    first = stack.deployment(PROGRAM.format(vcpus=4, priority=1, stage="one")).outputs
    assert ":cluster/" in first["cluster"]
    (queue,) = batch.describe_job_queues(jobQueues=[first["queue"]])["jobQueues"]
    assert (queue["state"], queue["priority"]) == ("ENABLED", 1)
    (definition,) = batch.describe_job_definitions(jobDefinitions=[first["definition"]])["jobDefinitions"]
    assert definition["containerProperties"]["command"] == ["train", "Ref::config"]
    assert definition["retryStrategy"]["evaluateOnExit"] == [{"onExitCode": "75", "action": "retry"}]
    assert definition["timeout"] == {"attemptDurationSeconds": 60}

    second = stack.deployment(PROGRAM.format(vcpus=16, priority=2, stage="two")).outputs
    assert (second["machines"], second["queue"]) == (first["machines"], first["queue"])
    (machines,) = batch.describe_compute_environments(computeEnvironments=[second["machines"]])["computeEnvironments"]
    assert (machines["computeResources"]["maxvCpus"], machines["computeResources"]["type"]) == (16, "EC2")
    assert machines["serviceRole"].endswith("/batch.amazonaws.com/AWSServiceRoleForBatch")
    assert batch.describe_job_queues(jobQueues=[second["queue"]])["jobQueues"][0]["priority"] == 2
    before, after = (
        batch.describe_job_definitions(jobDefinitions=[each["definition"]])["jobDefinitions"][0]
        for each in (first, second)
    )
    assert (before["status"], after["status"]) == ("INACTIVE", "ACTIVE")
    assert after["revision"] == before["revision"] + 1
    assert after["containerProperties"]["environment"] == [{"name": "STAGE", "value": "two"}]

    stack.deployment("")
    assert batch.describe_compute_environments(computeEnvironments=[second["machines"]])["computeEnvironments"] == []
    assert batch.describe_job_queues(jobQueues=[second["queue"]])["jobQueues"] == []
    (gone,) = batch.describe_job_definitions(jobDefinitions=[second["definition"]])["jobDefinitions"]
    assert gone["status"] == "INACTIVE"
