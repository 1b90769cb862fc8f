"""Training in AWS Batch: machines that are there while jobs are, what starts a job, and what tells of it."""

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.capacity import event_statements
from infra.components.image import Image
from infra.components.logs import Logs
from infra.components.network import Network
from infra.components.promotions import Promotions
from infra.components.signing import Signing
from infra.components.storage import Storage
from infra.components.training_instance import TrainingInstance, TrainingInstanceArgs
from infra.components.training_job import TrainingJob, TrainingJobArgs
from infra.components.training_start import TrainingStart, TrainingStartArgs
from infra.iam import document_text
from infra.settings import Settings
from infra.site import Site

# A job that can never run is ended, and told of; 10 minutes are the least that AWS Batch takes.
MISCONFIGURED_SECONDS = 600
MISCONFIGURED = ("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE", "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT")
# How long jobs that run may go on when the machines' launch template or image changes.
UPDATE_MINUTES = 360
ENDED = ("SUCCEEDED", "FAILED")


@dataclass(frozen=True)
class TrainingArgs:
    """What a job is and reaches, the network it is in, where logs go, and who is told how it ended."""

    site: Site
    settings: Settings
    network: Network
    image: Image
    storage: Storage
    signing: Signing
    promotions: Promotions
    logs: Logs
    topic_arn: pulumi.Input[str]


class Training(pulumi.ComponentResource):
    """Two queues, each with machines of its own: on demand, where alone several train together, and on Spot.

    `queue_name` is that of the queue which the settings choose for jobs of one machine.
    """

    queue_name: pulumi.Output[str]
    queue_names: dict[str, pulumi.Output[str]]
    job_definition_name: pulumi.Output[str]

    def __init__(self, name: str, args: TrainingArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Training", name, None, opts)
        self._name, self._args = name, args
        self._instance = TrainingInstance(
            f"{name}-instance",
            TrainingInstanceArgs(site=args.site, settings=args.settings, network=args.network),
            opts=ResourceOptions(parent=self),
        )
        on_demand, spot = self._environment("on-demand", is_spot=False), self._environment("spot", is_spot=True)
        joined = self._instance.join([on_demand.ecs_cluster_arn, spot.ecs_cluster_arn])
        queues = {
            short: self._queue(short, environment, after=joined)
            for short, environment in (("on-demand", on_demand), ("spot", spot))
        }
        chosen = queues["spot" if args.settings.training.spot else "on-demand"]
        job = TrainingJob(
            f"{name}-job",
            TrainingJobArgs(
                site=args.site,
                settings=args.settings,
                image=args.image,
                storage=args.storage,
                signing=args.signing,
                promotions=args.promotions,
                logs=args.logs,
            ),
            opts=ResourceOptions(parent=self),
        )
        TrainingStart(
            f"{name}-start",
            TrainingStartArgs(
                site=args.site,
                settings=args.settings,
                data=args.storage.data,
                job=job,
                queue_arn=chosen.arn,
                on_demand_queue_arn=queues["on-demand"].arn,
                logs=args.logs,
                topic_arn=args.topic_arn,
            ),
            opts=ResourceOptions(parent=self),
        )
        self.queue_name, self.job_definition_name = chosen.name, job.single.name
        self.queue_names = {"on_demand": queues["on-demand"].name, "spot": queues["spot"].name}
        self._tell([queue.arn for queue in queues.values()])
        self.register_outputs({"queue_name": self.queue_name, "job_definition_name": self.job_definition_name})

    def _environment(self, short: str, *, is_spot: bool) -> aws.batch.ComputeEnvironment:
        """Machines in the private subnets, none while there is no job.

        Without a service role it has Batch's service-linked one, which AWS makes once for the account.
        """
        args, training, instance = self._args, self._args.settings.training, self._instance
        return aws.batch.ComputeEnvironment(
            f"{self._name}-{short}",
            type="MANAGED",
            state="ENABLED" if training.spot or not is_spot else "DISABLED",
            compute_resources={
                "type": "SPOT" if is_spot else "EC2",
                "allocation_strategy": "SPOT_PRICE_CAPACITY_OPTIMIZED" if is_spot else "BEST_FIT_PROGRESSIVE",
                "instance_types": training.instance_types,
                "min_vcpus": 0,
                "max_vcpus": training.max_vcpus,
                "subnets": args.network.subnet_ids,
                "security_group_ids": [instance.security_group_id],
                "instance_role": instance.profile_arn,
                # The number, not $Latest, so that a change of the template is one of the machines.
                "launch_template": {
                    "launch_template_id": instance.template_id,
                    "version": instance.template_version,
                },
                "ec2_configurations": [
                    {
                        "image_type": "ECS_AL2023_NVIDIA" if training.gpu else "ECS_AL2023",
                        "image_id_override": instance.image_id,
                    }
                ],
            },
            update_policy={"job_execution_timeout_minutes": UPDATE_MINUTES, "terminate_jobs_on_update": False},
            opts=ResourceOptions(parent=self),
        )

    def _queue(
        self, short: str, environment: aws.batch.ComputeEnvironment, *, after: pulumi.Resource
    ) -> aws.batch.JobQueue:
        return aws.batch.JobQueue(
            f"{self._name}-{short}-queue",
            state="ENABLED",
            priority=1,
            compute_environment_orders=[{"order": 1, "compute_environment": environment.arn}],
            job_state_time_limit_actions=[
                {
                    "reason": reason,
                    "state": "RUNNABLE",
                    "max_time_seconds": MISCONFIGURED_SECONDS,
                    "action": "CANCEL",
                }
                for reason in MISCONFIGURED
            ],
            opts=ResourceOptions(parent=self, depends_on=[after]),
        )

    def _tell(self, queue_arns: list[pulumi.Output[str]]) -> None:
        """Every change of a job's state is kept in a log group; how a job ended is told."""
        name, args = self._name, self._args
        states = aws.cloudwatch.EventRule(
            f"{name}-states",
            description="The state of a training job has changed",
            event_pattern=pulumi.Output.json_dumps(state_pattern(queue_arns, statuses=None)),
            opts=ResourceOptions(parent=self),
        )
        # EventBridge writes to log groups of this prefix.
        group = args.logs.group(
            f"{name}-states-logs", parent=self, physical_name=f"/aws/events/{args.site.name}-training"
        )
        policy = aws.cloudwatch.LogResourcePolicy(
            f"{name}-states-log-policy",
            policy_name=f"{args.site.name}-training",
            policy_document=document_text(event_statements(group_arn=group.arn, rule_arn=states.arn)),
            opts=ResourceOptions(parent=self),
        )
        aws.cloudwatch.EventTarget(
            f"{name}-states-target",
            rule=states.name,
            arn=group.arn,
            opts=ResourceOptions(parent=self, depends_on=[policy]),
        )
        ended = aws.cloudwatch.EventRule(
            f"{name}-ended",
            description="A training job has ended",
            event_pattern=pulumi.Output.json_dumps(state_pattern(queue_arns, statuses=ENDED)),
            opts=ResourceOptions(parent=self),
        )
        aws.cloudwatch.EventTarget(
            f"{name}-ended-target",
            rule=ended.name,
            arn=args.topic_arn,
            input_transformer=message(args.site.stack),
            opts=ResourceOptions(parent=self),
        )


def state_pattern(queue_arns: list[pulumi.Output[str]], *, statuses: tuple[str, ...] | None) -> dict[str, object]:
    """The events of jobs in these queues, in these states or in every one.

    https://docs.aws.amazon.com/batch/latest/userguide/batch_job_events.html
    """
    detail: dict[str, object] = {"jobQueue": queue_arns}
    if statuses is not None:
        detail["status"] = list(statuses)
    return {"source": ["aws.batch"], "detail-type": ["Batch Job State Change"], "detail": detail}


def message(stack: str) -> aws.cloudwatch.EventTargetInputTransformerArgsDict:
    """What the topic is told of a job that has ended; a job that succeeded has no reason."""
    template = (
        f"Training of <name> in stack {stack}: <status>. <reason> RUNBOOK: read outcome.json under training/<name>/ of "
        "the results bucket, and the log of job <id>."
    )
    return {
        "input_paths": {
            "name": "$.detail.jobName",
            "status": "$.detail.status",
            "reason": "$.detail.statusReason",
            "id": "$.detail.jobId",
        },
        "input_template": json.dumps(template),
    }
