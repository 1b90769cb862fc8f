"""The emulated account of a running stack: clients as its root and as its roles, and what stands in it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from model_image.signature import PublicKey, Signer

ACCOUNT_ID, REGION = "123456789012", "eu-west-1"
DENIALS = frozenset({"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"})
CONTEXT = {"consumer": "nobody"}  # of what is encrypted for the tests under the consumers' key
_MADE_BY_PULUMI = re.compile(r"-[0-9a-f]{7}$")


class Client(Protocol):
    """Hands out the boto3 client of a service, with somebody's credentials."""

    def __call__(self, service: str) -> Any: ...


@dataclass(frozen=True)
class Credentials:
    """An access key, and the token of a session."""

    access_key_id: str
    secret_access_key: str
    token: str | None = None


@dataclass
class Account:
    """`status` is the record of the running stack.

    Every client speaks to ministack, also for the services that moto answers in the stack: ministack knows the roles.
    """

    status: Mapping[str, Any]
    _session: boto3.session.Session = field(default_factory=boto3.session.Session)
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)
    _sessions: dict[str, Client] = field(default_factory=dict)

    def client_of(self, credentials: Credentials) -> Client:
        """Clients with these credentials; none of them tries again."""

        def client(service: str) -> Any:
            slot = (service, credentials.access_key_id)
            if slot not in self._clients:
                self._clients[slot] = self._session.client(
                    service,
                    endpoint_url=self.status["endpoints"]["iam"],
                    region_name=REGION,
                    aws_access_key_id=credentials.access_key_id,
                    aws_secret_access_key=credentials.secret_access_key,
                    aws_session_token=credentials.token,
                    verify=self.status["environment"]["AWS_CA_BUNDLE"],
                    config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, proxies={}),
                )
            return self._clients[slot]

        return client

    @cached_property
    def root(self) -> Client:
        """Clients of the account's root, whom no policy limits."""
        environment = self.status["environment"]
        return self.client_of(Credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]))

    def session_of(self, role_arn: str) -> Client:
        """Clients of one session of the role, as the service that it trusts would have it."""
        if role_arn not in self._sessions:
            given = self.root("sts").assume_role(RoleArn=role_arn, RoleSessionName="test")["Credentials"]
            self._sessions[role_arn] = self.client_of(
                Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
            )
        return self._sessions[role_arn]

    def roles(self) -> dict[str, str]:
        """Every role of the account, its ARN by its name without what is the same or random in every name."""
        prefix = f"{self.status['outputs']['autoscaling_group']}-{REGION}-"
        return {
            _MADE_BY_PULUMI.sub("", role["RoleName"]).removeprefix(prefix): role["Arn"]
            for page in self.root("iam").get_paginator("list_roles").paginate()
            for role in page["Roles"]
        }

    def policies(self, role_arn: str) -> dict[str, dict[str, Any]]:
        """The documents of the role's inline policies by name."""
        iam, name = self.root("iam"), role_arn.rpartition("/")[2]
        names = iam.list_role_policies(RoleName=name)["PolicyNames"]
        return {each: iam.get_role_policy(RoleName=name, PolicyName=each)["PolicyDocument"] for each in names}

    def managed_policies(self, role_arn: str) -> dict[str, dict[str, Any]]:
        """The documents of the policies that are attached to the role, by ARN."""
        iam, found = self.root("iam"), {}
        attached = iam.list_attached_role_policies(RoleName=role_arn.rpartition("/")[2])["AttachedPolicies"]
        for arn in (each["PolicyArn"] for each in attached):
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            found[arn] = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        return found

    @contextmanager
    def policy(self, role_arn: str, name: str, *, document: Mapping[str, Any]) -> Iterator[None]:
        """Another document in place of one of the role's inline policies, for as long as the context lasts."""
        iam, role = self.root("iam"), role_arn.rpartition("/")[2]
        before = self.policies(role_arn)[name]
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))
        try:
            yield
        finally:
            iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(before))


def denied(error: ClientError) -> bool:
    """Whether the account said no, and not the service that the call does not work."""
    return error.response["Error"]["Code"] in DENIALS


@dataclass
class Deployed:
    """What the calls of the tests are about, and what the tests have put there for roles to reach for."""

    account: Account
    models: tuple[tuple[str, str], ...]  # name and version
    planted: dict[str, Any] = field(default_factory=dict)

    def output(self, name: str) -> str:
        return str(self.account.status["outputs"][name])

    @property
    def signing_key(self) -> PublicKey:
        """The public half of the key that signs models."""
        return Signer(client=self.account.root("kms"), key_arn=self.output("signing_key_arn")).public_key()

    def log_group(self, start: str) -> str:
        groups = self.account.root("logs").describe_log_groups(logGroupNamePrefix=start)["logGroups"]
        assert len(groups) == 1, groups
        return str(groups[0]["logGroupName"])

    def function(self, start: str) -> dict[str, Any]:
        """The configuration of the function whose name starts like this."""
        found = self.account.root("lambda").list_functions()["Functions"]
        (one,) = [each for each in found if each["FunctionName"].startswith(start)]
        return dict(one)

    @property
    def budgets_stream(self) -> str:
        """The ARN of the stream of the budgets table."""
        table = self.account.root("dynamodb").describe_table(TableName=self.output("budgets_table"))["Table"]
        return str(table["LatestStreamArn"])

    @property
    def alarms_topic(self) -> str:
        """The ARN of the topic that is told of alarms."""
        return str(self.function("budget-alerts-function")["Environment"]["Variables"]["TOPIC_ARN"])

    def queue(self, start: str) -> str:
        """The address of the queue whose name starts like this."""
        (url,) = self.account.root("sqs").list_queues(QueueNamePrefix=start)["QueueUrls"]
        return str(url)

    @cached_property
    def training_clusters(self) -> list[str]:
        """The ARNs of the clusters of ECS's that training machines join, which moto has."""
        status = self.account.status
        batch = boto3.client(
            "batch",
            endpoint_url=status["endpoints"]["batch"],
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        found = batch.describe_compute_environments()["computeEnvironments"]
        return [str(each["ecsClusterArn"]) for each in found]

    @property
    def repository(self) -> str:
        return self.output("image_repository_url").partition("/")[2]

    @cached_property
    def models_key(self) -> str:
        return self.bucket_key(self.output("model_bucket"))

    def bucket_key(self, bucket: str) -> str:
        """The ARN of the KMS key that a bucket encrypts with."""
        rules = self.account.root("s3").get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
        return str(rules["Rules"][0]["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"])

    def plant(self) -> None:
        """Put there what the account does not have, for the calls to work as root."""
        root = self.account.root
        for bucket in ("data_bucket", "model_bucket"):
            root("s3").put_object(Bucket=self.output(bucket), Key="planted", Body=b"planted")
        kms = root("kms")
        self.planted["of_models_key"] = kms.encrypt(KeyId=self.models_key, Plaintext=b"planted")["CiphertextBlob"]
        self.planted["of_consumers_key"] = kms.encrypt(
            KeyId=self.output("consumers_key_arn"), Plaintext=b"planted", EncryptionContext=CONTEXT
        )["CiphertextBlob"]
        secret = root("secretsmanager").create_secret(Name="planted", SecretString="planted")
        self.planted["secret"] = secret["ARN"]
        self.planted["topic"] = root("sns").create_topic(Name="planted")["TopicArn"]
        for parameter in ("/planted", self.output("promotions_parameter")):  # which moto has and ministack not yet
            root("ssm").put_parameter(Name=parameter, Value="{}", Type="String")
        root("logs").create_log_group(logGroupName="planted")
        root("logs").create_log_stream(logGroupName="planted", logStreamName="planted")
        self._plant_image()
        self._plant_group()

    def _plant_image(self) -> None:
        """An image of one layer in a repository of the stack's name, which moto has and ministack not yet."""
        ecr = self.account.root("ecr")
        ecr.create_repository(repositoryName=self.repository)
        upload = ecr.initiate_layer_upload(repositoryName=self.repository)["uploadId"]
        ecr.upload_layer_part(
            repositoryName=self.repository, uploadId=upload, partFirstByte=0, partLastByte=4, layerPartBlob=b"layer"
        )
        layer = ecr.complete_layer_upload(
            repositoryName=self.repository, uploadId=upload, layerDigests=[_digest(b"layer")]
        )["layerDigest"]
        self.planted["layer"] = layer
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        part = {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": 5, "digest": layer}
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": part, "layers": [part]}
        ecr.put_image(repositoryName=self.repository, imageManifest=json.dumps(manifest), imageTag="planted")

    def _plant_group(self) -> None:
        """An autoscaling group of the stack's name with a hook, which moto has and ministack not yet."""
        autoscaling, name = self.account.root("autoscaling"), self.output("autoscaling_group")
        autoscaling.create_launch_configuration(
            LaunchConfigurationName="planted", ImageId="ami-12345678", InstanceType="c7i.large"
        )
        autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=name, LaunchConfigurationName="planted", MinSize=0, MaxSize=1, DesiredCapacity=0,
            AvailabilityZones=[f"{REGION}a"],
        )  # fmt: skip
        autoscaling.put_lifecycle_hook(
            AutoScalingGroupName=name,
            LifecycleHookName="ready",
            LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING",
        )


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
