"""The buckets: models, data and results under keys of their own, and the access logs of these and of the balancer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pulumi
from pulumi import ResourceOptions

from infra.components.bucket import PrivateBucket, PrivateBucketArgs, key_statements
from infra.components.keys import EncryptionKey, EncryptionKeyArgs, administered_by_iam, read_by_role, used_through
from infra.iam import Statement, same_account
from infra.settings import StorageSettings
from infra.site import Site
from infra.usage_schema import ERRORS_PREFIX, PREFIX


def log_delivery_statements(site: Site, bucket_arn: pulumi.Input[str]) -> list[Statement]:
    """S3 and the load balancers of this account may deliver their access logs."""
    return [
        Statement(
            sid="BucketLogs",
            actions=["s3:PutObject"],
            resources=[pulumi.Output.concat(bucket_arn, "/s3/*")],
            principals={"Service": "logging.s3.amazonaws.com"},
            conditions=same_account(site.account_id),
        ),
        Statement(
            sid="BalancerLogs",
            actions=["s3:PutObject"],
            resources=[pulumi.Output.concat(bucket_arn, "/balancer/AWSLogs/", site.account_id, "/*")],
            principals={"Service": "logdelivery.elasticloadbalancing.amazonaws.com"},
            conditions={
                "ArnLike": {"aws:SourceArn": site.arn(service="elasticloadbalancing", resource="loadbalancer/*")}
            },
        ),
    ]


@dataclass(frozen=True)
class StorageArgs:
    """Where the buckets are, how they are protected, how long logs are kept, and the role that reads the models."""

    site: Site
    storage: StorageSettings
    log_retention_days: int
    reader_role_name: str


class Storage(pulumi.ComponentResource):
    """The buckets of models, of data, of results, and of access logs."""

    models: PrivateBucket
    data: PrivateBucket
    results: PrivateBucket
    logs: PrivateBucket

    def __init__(self, name: str, args: StorageArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Storage", name, None, opts)
        self._name, self._args = name, args
        # S3's own key: load balancers and S3 itself deliver access logs to no bucket under another one
        # (https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html).
        self.logs = PrivateBucket(
            f"{name}-logs",
            PrivateBucketArgs(
                key=None,
                log_bucket=None,
                expire_after_days=args.log_retention_days,
                statements=partial(log_delivery_statements, args.site),
                empties=not args.storage.protect_data,
            ),
            opts=ResourceOptions(parent=self),
        )
        reads = read_by_role(args.site, role_name=args.reader_role_name, service="s3")
        self.models = self._encrypted("models", purpose="model artefacts", users=[reads])
        self.data = self._encrypted("data", purpose="training data")
        # What was asked and answered in batches is kept no longer than somebody needs to fetch it, and usage until the
        # bills are paid. Where two of S3's rules meet, the shorter one holds, so there is none for the whole bucket.
        results_days = args.storage.results_days
        self.results = self._encrypted(
            "results",
            purpose="batch requests and results",
            expire_prefixes={
                "batches/": results_days,
                "training/": results_days,
                PREFIX: args.storage.usage_days,
                ERRORS_PREFIX: args.storage.usage_days,
            },
        )
        self.register_outputs(
            {"models": self.models.id, "data": self.data.id, "results": self.results.id, "logs": self.logs.id}
        )

    def _encrypted(
        self,
        content: str,
        *,
        purpose: str,
        users: Sequence[Statement] = (),
        expire_prefixes: Mapping[str, int] | None = None,
    ) -> PrivateBucket:
        site, protect_data = self._args.site, self._args.storage.protect_data
        key = EncryptionKey(
            f"{self._name}-{content}-key",
            EncryptionKeyArgs(
                site=site, purpose=purpose, policy=[administered_by_iam(site), *used_through(site, "s3"), *users]
            ),
            opts=ResourceOptions(parent=self),
        )
        return PrivateBucket(
            f"{self._name}-{content}",
            PrivateBucketArgs(
                key=key,
                log_bucket=self.logs.id,
                expire_after_days=None,
                expire_prefixes=expire_prefixes or {},
                statements=partial(key_statements, key_arn=key.arn),
                empties=not protect_data,
                protect=protect_data,
            ),
            opts=ResourceOptions(parent=self),
        )
