"""What a training job is: its roles, its log, and the definitions that AWS Batch starts it by."""

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.image import Image
from infra.components.logs import Logs, write_statement
from infra.components.promotions import Promotions
from infra.components.signing import Signing
from infra.components.storage import Storage
from infra.iam import assume_role, document, same_account
from infra.settings import Settings
from infra.site import Site
from infra.training_container import (
    LONGEST_ATTEMPT_SECONDS,
    Container,
    container_properties,
    node_properties,
    retry_strategy,
)

PREFIX = "training/"  # of configurations in the data bucket, and of what jobs keep in the results bucket
DATASETS_PREFIX = "datasets/"


def job_role_name(site: Site) -> str:
    """The name of the role that a job has."""
    return f"{site.name}-{site.region}-training"


@dataclass(frozen=True)
class TrainingJobArgs:
    """The image that runs, all that a job reaches, and where it logs to."""

    site: Site
    settings: Settings
    image: Image
    storage: Storage
    signing: Signing
    promotions: Promotions
    logs: Logs


class TrainingJob(pulumi.ComponentResource):
    """The job definitions: on one instance, and on several that train together."""

    single: aws.batch.JobDefinition
    multi_node: aws.batch.JobDefinition

    def __init__(self, name: str, args: TrainingJobArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:TrainingJob", name, None, opts)
        self._name, self._args = name, args
        self._log_group = args.logs.group(f"{name}-logs", parent=self)
        self._job_role, self._execution_role = self._roles()
        self.single = self._definition("single", "container")
        self.multi_node = self._definition("multi-node", "multinode")
        self.register_outputs({"single": self.single.arn, "multi_node": self.multi_node.arn})

    def _roles(self) -> tuple[aws.iam.Role, aws.iam.Role]:
        """What a job may do, and what ECS does for it before it runs: neither has the other's rights."""
        name, args = self._name, self._args
        trust = assume_role("ecs-tasks.amazonaws.com", conditions=same_account(args.site.account_id))
        job = aws.iam.Role(
            f"{name}-role",
            name=job_role_name(args.site),
            assume_role_policy=trust,
            opts=ResourceOptions(parent=self),
        )
        aws.iam.RolePolicy(
            f"{name}-policy",
            role=job.name,
            policy=document(
                [
                    *args.storage.data.read_statements([PREFIX, DATASETS_PREFIX]),
                    *args.storage.models.work_statements(of="Models"),
                    *args.storage.results.work_statements(of="Results", prefix=PREFIX, deletes=True),
                    *args.signing.sign_statements(),
                    args.promotions.statement(sid="ReadPromotions", actions=["ssm:GetParameter"]),
                ]
            ),
            opts=ResourceOptions(parent=self),
        )
        execution = aws.iam.Role(f"{name}-execution-role", assume_role_policy=trust, opts=ResourceOptions(parent=self))
        aws.iam.RolePolicy(
            f"{name}-execution-policy",
            role=execution.name,
            policy=document([*args.image.pull_statements(), write_statement(self._log_group)]),
            opts=ResourceOptions(parent=self),
        )
        return job, execution

    def _definition(self, short: str, kind: str) -> aws.batch.JobDefinition:
        alone = kind == "container"
        build = container_properties if alone else node_properties
        properties = pulumi.Output.json_dumps(build(self._container()))
        return aws.batch.JobDefinition(
            f"{self._name}-{short}",
            type=kind,
            platform_capabilities=["EC2"] if alone else None,  # those of several nodes take none
            parameters={"config": "none"},  # a job that is submitted without one says what it lacks
            container_properties=properties if alone else None,
            node_properties=None if alone else properties,
            retry_strategy=retry_strategy(),
            timeout={"attempt_duration_seconds": LONGEST_ATTEMPT_SECONDS},
            propagate_tags=True,
            opts=ResourceOptions(parent=self),
        )

    def _container(self) -> Container:
        args, storage = self._args, self._args.storage
        return Container(
            image=args.image.reference,
            environment={
                "AWS_REGION": args.site.region,
                "MODELKEEP_STACK": args.site.stack,
                "MODELKEEP_DATA_BUCKET": storage.data.id,
                "MODELKEEP_MODELS_BUCKET": storage.models.id,
                "MODELKEEP_RESULTS_BUCKET": storage.results.id,
                "MODELKEEP_SIGNING_KEY": args.signing.key_arn,
                "MODELKEEP_PROMOTIONS_PARAMETER": args.promotions.name,
                "MODELKEEP_MODELS": json.dumps([each.as_variable() for each in args.settings.models]),
            },
            job_role_arn=self._job_role.arn,
            execution_role_arn=self._execution_role.arn,
            log_group=self._log_group.name,
            region=args.site.region,
            shape=args.settings.training.shapes[0],
        )
