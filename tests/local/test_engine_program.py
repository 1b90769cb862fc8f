"""The true program: every stack previews without anything running, and the local one comes up whole."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.settings import SettingsError
from local.emulators import Emulators
from local.engine import Deployment, preview, to_json, up
from local.errors import LocalError
from local.project import stacks
from local.types import NOT_EMULATED

ROOT = Path(__file__).resolve().parents[2]
STACKS = ("dev", "local", "prod", "staging")


@pytest.fixture(scope="module")
def deployed(emulators: Emulators, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    state_file = tmp_path_factory.mktemp("state") / "state.json"
    return up(root=ROOT, stack="local", emulators=emulators, state_file=state_file)


@pytest.fixture(scope="module")
def previews() -> dict[str, dict[str, Any]]:
    saved = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
    try:
        return {stack: to_json(preview(root=ROOT, stack=stack)) for stack in STACKS}
    finally:
        os.environ.update(saved)


def test_the_stacks_are_these() -> None:
    assert tuple(stacks(ROOT)) == STACKS


@pytest.mark.parametrize("stack", STACKS)
def test_a_preview_lists_every_resource_and_marks_what_it_must(previews: dict[str, Any], stack: str) -> None:
    shown = previews[stack]
    assert len(shown["resources"]) > 100
    assert shown["outputs"]["api_id"] == "<unknown>"
    keys = {"urn", "type", "name", "parent", "inputs", "dependencies", "protect", "secret_inputs"}
    assert all(keys <= set(entry) for entry in shown["resources"])
    known = {entry["urn"] for entry in shown["resources"]}
    assert all(set(entry["dependencies"]) <= known for entry in shown["resources"])
    for entry in shown["resources"]:
        if entry["type"] == "aws:acm/certificate:Certificate" and "privateKey" in entry["inputs"]:
            assert entry["inputs"]["privateKey"] == "<secret>"
    assert "PRIVATE KEY" not in json.dumps(shown)


def test_previews_do_not_change_between_runs(previews: dict[str, Any]) -> None:
    assert to_json(preview(root=ROOT, stack="local")) == previews["local"]


def test_no_path_of_this_machine_stands_in_a_preview(previews: dict[str, Any]) -> None:
    assert str(ROOT) not in json.dumps(previews)


def test_the_local_stack_comes_up_with_all_that_the_preview_shows(
    deployed: Deployment, previews: dict[str, Any]
) -> None:
    assert {record.urn for record in deployed.resources} == {entry["urn"] for entry in previews["local"]["resources"]}
    assert all(record.id for record in deployed.resources if record.custom)
    assert "<unknown>" not in json.dumps(to_json(deployed))
    listed = {f"{entry.type}.{entry.property}".removesuffix(".") for entry in deployed.not_emulated}
    assert listed <= set(NOT_EMULATED)


def test_the_gateway_is_kept_as_the_program_wants_it(deployed: Deployment, emulators: Emulators) -> None:
    gateway = emulators.client("apigateway")
    api = deployed.outputs["api_id"]
    found = gateway.get_resources(restApiId=api, embed=["methods"])["items"]
    methods = {(item["id"], verb): method for item in found for verb, method in item.get("resourceMethods", {}).items()}
    declared = [record for record in deployed.resources if record.type == "aws:apigateway/method:Method"]
    assert len(methods) == len(declared)
    for record in declared:
        kept = methods[record.inputs["resourceId"], record.inputs["httpMethod"]]
        assert kept["authorizationType"] == record.inputs["authorization"]
        assert kept["apiKeyRequired"] == record.inputs["apiKeyRequired"]
        assert kept.get("requestModels", {}) == record.inputs.get("requestModels", {})
    for record in [each for each in deployed.resources if each.type == "aws:apigateway/integration:Integration"]:
        kept = methods[record.inputs["resourceId"], record.inputs["httpMethod"]]["methodIntegration"]
        assert kept["requestParameters"] == record.inputs["requestParameters"]
        assert (kept["type"], kept["uri"]) == (record.inputs["type"], record.inputs["uri"])
        assert kept["timeoutInMillis"] == record.inputs["timeoutMilliseconds"]
    answers = {entry["responseType"] for entry in gateway.get_gateway_responses(restApiId=api)["items"]}
    of_type = [record for record in deployed.resources if record.type == "aws:apigateway/response:Response"]
    assert {record.inputs["responseType"] for record in of_type} <= answers
    assert gateway.get_rest_api(restApiId=api)["apiKeySource"] == "AUTHORIZER"


def test_the_firewall_guards_the_stage_with_all_its_rules(deployed: Deployment, emulators: Emulators) -> None:
    region = emulators.region
    stage = (
        f"arn:aws:apigateway:{region}::/restapis/{deployed.outputs['api_id']}/stages/{deployed.outputs['stage_name']}"
    )
    kept = emulators.client("wafv2").get_web_acl_for_resource(ResourceArn=stage)["WebACL"]
    declared = next(record for record in deployed.resources if record.type == "aws:wafv2/webAcl:WebAcl")
    assert kept["ARN"] == deployed.outputs["web_acl_arn"]
    assert [
        (rule["Name"], rule["Priority"]) for rule in sorted(kept["Rules"], key=lambda rule: int(rule["Priority"]))
    ] == [
        (rule["name"], rule["priority"])
        for rule in sorted(declared.inputs["rules"], key=lambda rule: int(rule["priority"]))
    ]

    def statements(node: object) -> list[str]:
        if isinstance(node, dict):
            own = [key.lower() for key in node if key.lower().endswith("statement") and key.lower() != "statement"]
            return own + [name for value in node.values() for name in statements(value)]
        return [name for item in node for name in statements(item)] if isinstance(node, list) else []

    wanted = sorted(statements(declared.inputs["rules"]))
    assert sorted(statements(kept["Rules"])) == wanted


def test_the_fleet_has_instances_with_the_rendered_user_data(deployed: Deployment, emulators: Emulators) -> None:
    name = deployed.outputs["autoscaling_group"]
    group = emulators.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])[
        "AutoScalingGroups"
    ][0]
    assert len(group["Instances"]) == group["DesiredCapacity"] >= 1
    template = deployed.resource("aws:ec2/launchTemplate:LaunchTemplate", "fleet-instance-template")
    versions = emulators.client("ec2").describe_launch_template_versions(LaunchTemplateId=template.id, Versions=["1"])
    data = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    assert data["UserData"] == template.inputs["userData"]
    assert data["MetadataOptions"]["HttpTokens"] == "required"


def test_usage_plans_carry_throttle_and_quota(deployed: Deployment, emulators: Emulators) -> None:
    plans = yaml.safe_load((ROOT / "Pulumi.local.yaml").read_text(encoding="utf-8"))["config"]["modelkeep:plans"]
    for name, plan_id in deployed.outputs["usage_plan_ids"].items():
        kept = emulators.client("apigateway").get_usage_plan(usagePlanId=plan_id)
        assert kept["throttle"] == {"rateLimit": plans[name]["rate_per_second"], "burstLimit": plans[name]["burst"]}
        assert (kept["quota"]["limit"], kept["quota"]["period"]) == (plans[name]["requests_per_day"], "DAY")


def test_a_configuration_in_the_data_bucket_becomes_a_job(deployed: Deployment, emulators: Emulators) -> None:
    """By the bucket's event and the function, which both run here; and a second event of it becomes no second job."""
    bucket, queue = deployed.outputs["data_bucket"], deployed.outputs["training_queue"]
    batch = emulators.client("batch")
    emulators.client("s3").put_object(Bucket=bucket, Key="training/not-one.txt", Body=b"x")
    emulators.client("s3").put_object(Bucket=bucket, Key="training/gpt2-2.yaml", Body=b"kind: train\n")
    deadline = time.monotonic() + 30
    while not (found := batch.list_jobs(jobQueue=queue)["jobSummaryList"]):
        assert time.monotonic() < deadline, "no job within 30 s"
        time.sleep(0.2)
    (job,) = batch.describe_jobs(jobs=[each["jobId"] for each in found])["jobs"]
    assert (job["jobName"], job["status"]) == ("gpt2-2", "RUNNABLE")
    assert job["parameters"] == {"config": f"s3://{bucket}/training/gpt2-2.yaml"}
    definition = deployed.resource("aws:batch/jobDefinition:JobDefinition", "training-job-single")
    assert job["jobDefinition"] == definition.outputs["arn"]
    variables = {each["name"]: each["value"] for each in job["container"]["environment"]}
    assert variables["MODELKEEP_DATA_BUCKET"] == bucket
    assert variables["MODELKEEP_SIGNING_KEY"] == deployed.outputs["signing_key_arn"]

    function = deployed.resource("aws:lambda/function:Function", "training-start-function").id
    again = {
        "bucket": {"name": bucket},
        "object": {"key": "training/gpt2-2.yaml", "versionId": job["tags"]["config-version"]},
    }
    answer = emulators.client("lambda").invoke(FunctionName=function, Payload=json.dumps({"Records": [{"s3": again}]}))
    assert [(each["job"], each["new"]) for each in json.loads(answer["Payload"].read())] == [(job["jobId"], False)]


def test_how_a_job_ended_is_told_and_every_state_is_kept(deployed: Deployment, emulators: Emulators) -> None:
    topic = deployed.resource("aws:sns/topic:Topic", "observability-alarms").outputs["arn"]
    queue = emulators.client("sqs").create_queue(QueueName="told-of-training")["QueueUrl"]
    sqs = emulators.client("sqs")
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    lets = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{**lets, "Resource": arn}]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    emulators.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    detail = {
        "jobName": "gpt2-2",
        "jobId": "0123",
        "jobQueue": deployed.resource("aws:batch/jobQueue:JobQueue", "training-on-demand-queue").outputs["arn"],
        "statusReason": "Essential container in task exited",
    }
    for status in ("RUNNING", "FAILED"):
        entry = {"Source": "aws.batch", "DetailType": "Batch Job State Change"}
        event = {**entry, "Detail": json.dumps({**detail, "status": status})}
        assert emulators.client("events").put_events(Entries=[event])["FailedEntryCount"] == 0
    messages = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5, MaxNumberOfMessages=10)
    (message,) = messages["Messages"]
    told = json.loads(message["Body"])["Message"]
    assert "Training of gpt2-2 in stack local: FAILED. Essential container in task exited RUNBOOK: read " in told
    assert "training/gpt2-2/ of the results bucket" in told
    kept = emulators.client("logs").filter_log_events(logGroupName="/aws/events/modelkeep-local-training")["events"]
    assert {json.loads(each["message"])["detail"]["status"] for each in kept} >= {"RUNNING", "FAILED"}


def test_a_job_of_several_nodes_has_its_definition_with_both_queues_machines(
    deployed: Deployment, emulators: Emulators
) -> None:
    batch = emulators.client("batch")
    name = deployed.resource("aws:batch/jobDefinition:JobDefinition", "training-job-multi-node").outputs["name"]
    (definition,) = batch.describe_job_definitions(jobDefinitionName=name)["jobDefinitions"]
    (nodes,) = definition["nodeProperties"]["nodeRangeProperties"]
    assert (definition["type"], nodes["targetNodes"]) == ("multinode", "0:")
    assert nodes["container"]["readonlyRootFilesystem"] is True
    kinds = {
        each["computeResources"]["type"]: each["state"]
        for each in batch.describe_compute_environments()["computeEnvironments"]
        if each["computeEnvironmentName"].startswith("training-")
    }
    assert kinds == {"EC2": "ENABLED", "SPOT": "DISABLED"}


def _changed(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    content = yaml.safe_load((ROOT / "Pulumi.local.yaml").read_text(encoding="utf-8"))
    change(content["config"])
    path = tmp_path / "Pulumi.changed.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_another_configuration_file_changes_what_is_planned(tmp_path: Path) -> None:
    def block(config: dict[str, Any]) -> None:
        config["modelkeep:firewall"]["block_cidrs"] = ["192.0.2.0/24"]

    deployment = preview(root=ROOT, stack="local", config_file=_changed(tmp_path, block))
    sets = [record for record in deployment.resources if record.type == "aws:wafv2/ipSet:IpSet"]
    assert ["192.0.2.0/24"] in [record.inputs["addresses"] for record in sets]


def test_bad_settings_are_the_programs_own_error(tmp_path: Path) -> None:
    def spoil(config: dict[str, Any]) -> None:
        config["modelkeep:fleet"]["min"] = "two"

    with pytest.raises(SettingsError, match="min") as caught:
        preview(root=ROOT, stack="local", config_file=_changed(tmp_path, spoil))
    assert "\n" not in str(caught.value)


def test_an_unknown_stack_lists_the_known_ones() -> None:
    with pytest.raises(LocalError, match="stacks there are: dev, local, prod, staging"):
        preview(root=ROOT, stack="production")
