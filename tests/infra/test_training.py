"""What trains models, in every stack: machines, queues, the definition and the rights of a job, and what starts it."""

import json
from typing import Any

import pytest

from infra.policies import batch
from infra.policies.answers import Verdict
from infra.policies.evaluate import findings
from infra.policies.graph import from_preview
from tests.infra.conftest import ROOT
from tests.infra.test_fleet import named
from tests.infra.test_graph import inputs, sources

ENVIRONMENT, DEFINITION = "batch/computeEnvironment:ComputeEnvironment", "batch/jobDefinition:JobDefinition"
QUEUE = "batch/jobQueue:JobQueue"
HAVE_GPUS = {"prod": True, "staging": True, "dev": True, "local": False}


def resource(references: dict[str, Any], name: str) -> dict[str, Any]:
    """The inputs of one resource of a preview with references."""
    (found,) = [each for each in references["resources"] if each["name"] == name and each["type"].startswith("aws:")]
    return inputs(found)


def statements(references: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    return {each["Sid"]: each for each in resource(references, name)["policy"]["Statement"]}


class TestMachines:
    def test_they_are_private_and_there_only_while_jobs_are(self, graph: Any) -> None:
        for environment in graph.of_type(ENVIRONMENT):
            resources = inputs(environment)["computeResources"]
            assert resources["minVcpus"] == 0
            assert resources["maxVcpus"] > 0
            assert "ec2KeyPair" not in resources
            assert "network-compute-0" in sources(environment, "computeResources")
            assert "training-instance-group" in sources(environment, "computeResources")
            assert "training-instance-template" in sources(environment, "computeResources")
            assert "serviceRole" not in inputs(environment)  # Batch's own service-linked one

    def test_spot_is_on_spot_and_the_other_on_demand(self, graphs: dict[str, Any]) -> None:
        for graph in graphs.values():
            kinds = {each["name"]: inputs(each)["computeResources"]["type"] for each in graph.of_type(ENVIRONMENT)}
            assert kinds == {"training-on-demand": "EC2", "training-spot": "SPOT"}
        states = {stack: inputs(named(graph, ENVIRONMENT, "training-spot"))["state"] for stack, graph in graphs.items()}
        assert states == {"local": "DISABLED", "dev": "ENABLED", "staging": "ENABLED", "prod": "ENABLED"}

    def test_the_image_of_the_machine_goes_with_its_processor(self, graphs: dict[str, Any]) -> None:
        for stack, graph in graphs.items():
            (configuration,) = inputs(named(graph, ENVIRONMENT, "training-on-demand"))["computeResources"][
                "ec2Configurations"
            ]
            assert configuration["imageType"] == ("ECS_AL2023_NVIDIA" if HAVE_GPUS[stack] else "ECS_AL2023")

    def test_their_disks_are_encrypted_and_their_metadata_guarded(self, graph: Any) -> None:
        template = inputs(named(graph, "ec2/launchTemplate:LaunchTemplate", "training-instance-template"))
        (volume,) = template["blockDeviceMappings"]
        assert volume["ebs"]["encrypted"] == "true"
        assert template["metadataOptions"] == {
            "httpEndpoint": "enabled", "httpTokens": "required", "httpPutResponseHopLimit": 1,
            "instanceMetadataTags": "disabled",
        }  # fmt: skip
        assert "iamInstanceProfile" not in template

    def test_they_reach_endpoints_each_other_and_nothing_else(self, graph: Any) -> None:
        for kind in ("Egress", "Ingress"):
            rules = [
                each
                for each in graph.of_type(f"vpc/securityGroup{kind}Rule:SecurityGroup{kind}Rule")
                if "::training-instance-group" in sources(each, "securityGroupId")
            ]
            targets = {
                each["name"].removeprefix("training-instance-").rpartition("-")[0]: (
                    inputs(each)["fromPort"],
                    inputs(each)["toPort"],
                    sources(each, "referencedSecurityGroupId").rpartition("::")[2] or "prefix list",
                )
                for each in rules
            }
            nodes = {
                "meeting": (29500, 29500, "training-instance-group"),
                "nodes": (32768, 60999, "training-instance-group"),
            }
            out = {"endpoints": (443, 443, "network-endpoints"), "s3": (443, 443, "prefix list")}
            assert targets == (nodes | out if kind == "Egress" else nodes)

    def test_their_role_joins_its_own_clusters_and_no_more(self, prod_references: dict[str, Any]) -> None:
        found = statements(prod_references, "training-instance-policy")
        clusters = ["<training-on-demand.ecsClusterArn>", "<training-spot.ecsClusterArn>"]
        assert found["JoinCluster"]["Resource"] == clusters
        assert {each.partition(":")[0] for one in found.values() for each in one["Action"]} == {"ecs"}
        assert found["FindAgentEndpoint"]["Action"] == ["ecs:DiscoverPollEndpoint"]
        assert [one["Sid"] for one in found.values() if "*" in one["Resource"]] == ["FindAgentEndpoint"]

    def test_their_volumes_key_is_for_auto_scaling_alone(self, prod_references: dict[str, Any]) -> None:
        policy = json.loads(resource(prod_references, "training-instance-volume-key")["policy"])
        uses = [each for each in policy["Statement"] if each["Sid"] != "AccountAdministers"]
        assert {each["Sid"] for each in uses} == {"Volumes", "VolumeGrants"}
        for each in uses:
            arn = each["Condition"]["ArnEquals"]["aws:PrincipalArn"]
            assert arn.endswith("/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling")
            assert each["Condition"]["StringEquals"] == {"kms:CallerAccount": "<account>"}


class TestJob:
    def container(self, references: dict[str, Any], name: str = "training-job-single") -> dict[str, Any]:
        definition = resource(references, name)
        if "containerProperties" in definition:
            return dict(json.loads(definition["containerProperties"]))
        (one,) = json.loads(definition["nodeProperties"])["nodeRangeProperties"]
        assert one["targetNodes"] == "0:"
        return dict(one["container"])

    def test_it_runs_the_fleets_image_with_its_configuration_and_no_privileges(
        self, prod_references: dict[str, Any]
    ) -> None:
        container = self.container(prod_references)
        assert container["image"] == "<image-build.ref>"
        assert container["command"] == ["train", "--job", "Ref::config"]
        assert (container["privileged"], container["readonlyRootFilesystem"]) == (False, True)
        assert container["user"] == "10001:10001"
        assert container["volumes"] == [{"name": "scratch"}]
        assert {each["name"]: each["value"] for each in container["environment"]}["MODELKEEP_SIGNING_KEY"] == (
            "<signing-key.arn>"
        )
        assert container["logConfiguration"]["options"]["awslogs-group"].startswith("training-job-logs-")

    def test_several_nodes_run_the_same(self, prod_references: dict[str, Any]) -> None:
        assert self.container(prod_references, "training-job-multi-node") == self.container(prod_references)

    def test_it_asks_for_all_of_the_smallest_machine(self, prod_references: dict[str, Any]) -> None:
        wanted = {each["type"]: int(each["value"]) for each in self.container(prod_references)["resourceRequirements"]}
        assert (wanted["GPU"], wanted["VCPU"]) == (4, 48)  # of g5.12xlarge
        assert wanted["MEMORY"] == int(192 * 1024 * 0.9)

    def test_every_variable_has_a_value_and_none_is_a_secret(self, graphs: dict[str, Any]) -> None:
        from ops.review_preview import preview

        container = self.container(preview(root=ROOT, stack="local"))
        assert {each["name"] for each in container["environment"]} == {
            "AWS_REGION", "MODELKEEP_STACK", "MODELKEEP_DATA_BUCKET", "MODELKEEP_MODELS_BUCKET",
            "MODELKEEP_RESULTS_BUCKET", "MODELKEEP_SIGNING_KEY", "MODELKEEP_PROMOTIONS_PARAMETER", "MODELKEEP_MODELS",
        }  # fmt: skip
        assert all(each["value"] for each in container["environment"])
        assert "GPU" not in {each["type"] for each in container["resourceRequirements"]}
        assert "sharedMemorySize" not in container["linuxParameters"]

    def test_it_is_tried_again_after_an_interruption_alone(self, graph: Any) -> None:
        for definition in graph.of_type(DEFINITION):
            retries = inputs(definition)["retryStrategy"]
            assert retries["attempts"] == 10
            assert retries["evaluateOnExits"] == [
                {"action": "RETRY", "onExitCode": "75"},
                {"action": "RETRY", "onStatusReason": "Host EC2*"},
                {"action": "EXIT", "onReason": "*"},
            ]
            assert inputs(definition)["timeout"]["attemptDurationSeconds"] <= 7 * 24 * 3600

    def test_its_role_has_exactly_the_rights_it_needs(self, prod_references: dict[str, Any]) -> None:
        found = statements(prod_references, "training-job-policy")
        actions = {sid: sorted(each["Action"]) for sid, each in found.items()}
        assert actions == {
            "ReadObjects": ["s3:GetObject"],
            "DecryptObjects": ["kms:Decrypt"],
            "UseModels": ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"],
            "ListModels": ["s3:ListBucket"],
            "EncryptModels": ["kms:Decrypt", "kms:GenerateDataKey"],
            "UseResults": ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
            "ListResults": ["s3:ListBucket"],
            "EncryptResults": ["kms:Decrypt", "kms:GenerateDataKey"],
            "SignModels": ["kms:GetPublicKey", "kms:Sign"],
            "ReadPromotions": ["ssm:GetParameter"],
        }
        assert found["ReadObjects"]["Resource"] == ["<storage-data.arn>/training/*", "<storage-data.arn>/datasets/*"]
        assert found["UseResults"]["Resource"] == ["<storage-results.arn>/training/*"]
        assert found["ListResults"]["Condition"] == {"StringLike": {"s3:prefix": "training/*"}}
        assert found["SignModels"]["Resource"] == ["<signing-key.arn>"]

    def test_what_ecs_does_for_it_is_another_roles(self, prod_references: dict[str, Any]) -> None:
        found = statements(prod_references, "training-job-execution-policy")
        assert set(found) == {"RegistryLogin", "PullImage", "WriteLogs"}
        assert found["WriteLogs"]["Resource"] == ["<training-job-logs.arn>:*"]

    @pytest.mark.parametrize(
        "rule", [each for each in batch.RULES if "no-ssh" not in each.id], ids=lambda each: each.id
    )
    def test_it_keeps_to_the_policies_once_its_values_are_known(
        self, prod_references: dict[str, Any], rule: Any
    ) -> None:
        """But for the image, of which a preview tells no digest."""
        found = findings(from_preview(prod_references), [rule])
        wrong = [each for each in found if each.verdict is not Verdict.FINE]
        assert bool(wrong) is (rule.id == "batch-image-by-digest")


class TestStart:
    def test_a_configuration_in_the_data_bucket_calls_the_function_and_nothing_else_does(self, graph: Any) -> None:
        notification = graph.one("s3/bucketNotification:BucketNotification")
        assert "::storage-data" in sources(notification, "bucket")
        (function,) = inputs(notification)["lambdaFunctions"]
        assert (function["filterPrefix"], function["filterSuffix"]) == ("training/", ".yaml")
        assert function["events"] == ["s3:ObjectCreated:*"]
        assert "training-start-function" in sources(notification, "lambdaFunctions")
        permission = named(graph, "lambda/permission:Permission", "training-start-permission")
        assert inputs(permission)["principal"] == "s3.amazonaws.com"
        assert "::storage-data" in sources(permission, "sourceArn")
        assert inputs(permission)["sourceAccount"]

    def test_the_function_submits_these_jobs_and_reads_configurations(self, prod_references: dict[str, Any]) -> None:
        found = statements(prod_references, "training-start-policy")
        assert found["SubmitJobs"]["Action"] == ["batch:SubmitJob"]
        assert found["SubmitJobs"]["Resource"] == [
            "<training-spot-queue.arn>", "<training-on-demand-queue.arn>", "<training-job-single.arn>",
            "<training-job-multi-node.arn>",
        ]  # fmt: skip
        assert found["ReadObjects"]["Resource"] == ["<storage-data.arn>/training/*"]
        assert set(found) == {
            "ReadObjects", "DecryptObjects", "SubmitJobs", "TagJobs", "LookAtJobs", "DecryptEnvironment", "WriteLogs",
            "WriteTraces",
        }  # fmt: skip

    def test_it_knows_the_queue_of_the_settings_and_the_machines(self, graphs: dict[str, Any]) -> None:
        for stack, graph in graphs.items():
            variables = inputs(named(graph, "lambda/function:Function", "training-start-function"))["environment"][
                "variables"
            ]
            machines = json.loads(variables["MACHINES"])
            assert all(
                any(each["type"] == "GPU" for each in one["requirements"]) == HAVE_GPUS[stack] for one in machines
            )
            assert int(variables["MAX_VCPUS"]) >= max(each["vcpus"] for each in machines)

    def test_a_start_that_fails_is_told(self, graph: Any) -> None:
        alarm = named(graph, "cloudwatch/metricAlarm:MetricAlarm", "training-start-failed")
        assert "training-start-function" in sources(alarm, "dimensions")
        assert "observability-alarms" in sources(alarm, "alarmActions")


class TestTelling:
    def test_every_state_is_kept_and_every_end_is_told(self, prod_references: dict[str, Any]) -> None:
        queues = ["<training-on-demand-queue.arn>", "<training-spot-queue.arn>"]
        states = json.loads(resource(prod_references, "training-states")["eventPattern"])
        assert states["detail"] == {"jobQueue": queues}
        ended = json.loads(resource(prod_references, "training-ended")["eventPattern"])
        assert ended["detail"] == {"jobQueue": queues, "status": ["SUCCEEDED", "FAILED"]}
        assert states["detail-type"] == ended["detail-type"] == ["Batch Job State Change"]
        assert resource(prod_references, "training-states-target")["arn"] == "<training-states-logs.arn>"
        target = resource(prod_references, "training-ended-target")
        assert target["arn"] == "<observability-alarms.arn>"
        message = json.loads(target["inputTransformer"]["inputTemplate"])
        assert all(f"<{name}>" in message for name in target["inputTransformer"]["inputPaths"])

    def test_the_topic_takes_it_from_rules_of_this_account_alone(self, prod_references: dict[str, Any]) -> None:
        found = statements(prod_references, "observability-alarms-policy")["Events"]
        assert found["Principal"] == {"Service": "events.amazonaws.com"}
        assert found["Condition"] == {"StringEquals": {"aws:SourceAccount": "<account>"}}
        key = json.loads(resource(prod_references, "observability-alarms-key")["policy"])
        (use,) = [each for each in key["Statement"] if each["Sid"] == "Events"]
        assert use["Condition"] == {"StringEquals": {"aws:SourceAccount": "<account>"}}

    def test_a_job_that_can_never_run_is_ended(self, graph: Any) -> None:
        for queue in graph.of_type(QUEUE):
            actions = inputs(queue)["jobStateTimeLimitActions"]
            assert {each["action"] for each in actions} == {"CANCEL"}
            assert all(each["reason"].startswith("MISCONFIGURATION:") for each in actions)


def test_the_outputs_name_the_queue_of_the_settings(graphs: dict[str, Any]) -> None:
    for graph in graphs.values():
        assert {"training_queue", "training_job_definition"} <= set(graph.outputs)


def test_ecs_is_reached_at_endpoints_with_policies(prod_references: dict[str, Any]) -> None:
    allowed = {}
    for service in ("ecs", "ecs-agent", "ecs-telemetry"):
        policy = json.loads(resource(prod_references, f"network-{service}")["policy"])
        allowed[service] = {action for each in policy["Statement"] for action in each["Action"]}
        assert all(each["Condition"] for each in policy["Statement"])
    needed = {
        action for each in statements(prod_references, "training-instance-policy").values() for action in each["Action"]
    }
    assert set.union(*allowed.values()) == needed
    assert allowed["ecs-agent"] == {"ecs:Poll"}
