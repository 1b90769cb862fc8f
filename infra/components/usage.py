"""Where usage goes: a stream that takes each request's record and keeps them by day, as Parquet, in a bucket."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.bucket import PrivateBucket
from infra.components.keys import EncryptionKey, EncryptionKeyArgs, administered_by_iam, used_through
from infra.components.logs import Logs
from infra.iam import Conditions, Statement, assume_role, document
from infra.site import Site
from infra.usage_schema import COLUMNS, ERRORS_PREFIX, PREFIX, day_prefix

TABLE = "usage"
DELIVERY = "delivery"  # the log stream; Firehose makes none by itself
# A file for every five minutes or 128 MB, whichever comes first. Whoever converts needs 64 MB at least:
# https://docs.aws.amazon.com/firehose/latest/dev/enable-record-format-conversion.html
BUFFER_SECONDS = 300
BUFFER_MB = 128
# When the first record may have come; Athena asks S3 for no day before.
FIRST_DAY = "2026-01-01"
_PARQUET = "org.apache.hadoop.hive.ql.io.parquet"


def delivery_statements(
    site: Site,
    *,
    bucket: PrivateBucket,
    table_arns: Sequence[pulumi.Input[str]],
    log_group_arn: pulumi.Input[str],
) -> list[Statement]:
    """A grant to read the schema, to store the records, and to say what could not be stored.

    https://docs.aws.amazon.com/firehose/latest/dev/controlling-access.html#using-iam-s3
    """
    return [
        Statement(
            sid="ReadSchema",
            actions=["glue:GetTable", "glue:GetTableVersion", "glue:GetTableVersions"],
            resources=[site.arn(service="glue", resource="catalog"), *table_arns],
        ),
        Statement(
            sid="FindBucket",
            actions=["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"],
            resources=[bucket.arn],
        ),
        *bucket.write_statements([PREFIX, ERRORS_PREFIX]),
        Statement(
            sid="LookAtStored",
            actions=["s3:GetObject"],
            resources=[pulumi.Output.concat(bucket.arn, f"/{each}*") for each in (PREFIX, ERRORS_PREFIX)],
        ),
        Statement(
            sid="WriteLogs",
            actions=["logs:PutLogEvents"],
            resources=[pulumi.Output.concat(log_group_arn, f":log-stream:{DELIVERY}")],
        ),
    ]


def own_streams(site: Site) -> Conditions:
    """Firehose names the account whose stream it works for as the external id when it takes a role on."""
    return {"StringEquals": {"sts:ExternalId": site.account_id}}


def partition_parameters(bucket_id: pulumi.Input[str]) -> dict[str, pulumi.Input[str]]:
    """How Athena finds the days without anybody who adds them to the table one by one.

    https://docs.aws.amazon.com/athena/latest/ug/partition-projection-supported-types.html
    """
    return {
        "classification": "parquet",
        "projection.enabled": "true",
        "projection.day.type": "date",
        "projection.day.format": "yyyy-MM-dd",
        "projection.day.range": f"{FIRST_DAY},NOW",
        "storage.location.template": pulumi.Output.concat("s3://", bucket_id, "/", day_prefix("${day}")),
    }


def conversion(*, database: pulumi.Input[str], table: pulumi.Input[str], role_arn: pulumi.Input[str]) -> Any:
    """JSON in, Parquet out, by the columns of a table."""
    return {
        "enabled": True,
        "input_format_configuration": {"deserializer": {"open_x_json_ser_de": {"case_insensitive": True}}},
        "output_format_configuration": {"serializer": {"parquet_ser_de": {"compression": "SNAPPY"}}},
        "schema_configuration": {"database_name": database, "table_name": table, "role_arn": role_arn},
    }


@dataclass(frozen=True)
class UsageArgs:
    """The bucket that keeps the records, and where failures of the delivery are told."""

    site: Site
    results: PrivateBucket
    logs: Logs


class Usage(pulumi.ComponentResource):
    """A delivery stream under a key of its own, and the table of its columns, which Athena can query as well."""

    stream_name: pulumi.Output[str]
    stream_arn: pulumi.Output[str]
    table_name: pulumi.Output[str]

    def __init__(self, name: str, args: UsageArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Usage", name, None, opts)
        self._name, self._args = name, args
        self._key = EncryptionKey(
            f"{name}-key",
            EncryptionKeyArgs(
                site=args.site,
                purpose="usage records under way",
                policy=[administered_by_iam(args.site), *used_through(args.site, "firehose", grants=True)],
            ),
            opts=ResourceOptions(parent=self),
        )
        table = self._table()
        stream = self._stream(table)
        self.stream_name, self.stream_arn = stream.name, stream.arn
        self.table_name = pulumi.Output.concat(table.database_name, ".", table.name)
        self.register_outputs({"stream_name": self.stream_name, "table_name": self.table_name})

    def put_statement(self) -> Statement:
        """A grant to send records to this stream."""
        return Statement(sid="SendUsage", actions=["firehose:PutRecordBatch"], resources=[self.stream_arn])

    def _table(self) -> aws.glue.CatalogTable:
        name, results = self._name, self._args.results
        database = aws.glue.CatalogDatabase(
            f"{name}-database",
            name=self._args.site.name.replace("-", "_"),  # Athena takes no hyphen without quotes
            description="What consumers have used",
            opts=ResourceOptions(parent=self),
        )
        return aws.glue.CatalogTable(
            f"{name}-table",
            name=TABLE,
            database_name=database.name,
            description="One row for each request that came to a model",
            table_type="EXTERNAL_TABLE",
            parameters=partition_parameters(results.id),
            partition_keys=[{"name": "day", "type": "string"}],
            storage_descriptor={
                "location": pulumi.Output.concat("s3://", results.id, "/", PREFIX),
                "input_format": f"{_PARQUET}.MapredParquetInputFormat",
                "output_format": f"{_PARQUET}.MapredParquetOutputFormat",
                "ser_de_info": {"serialization_library": f"{_PARQUET}.serde.ParquetHiveSerDe"},
                "columns": [{"name": column, "type": kind} for column, kind in COLUMNS.items()],
            },
            opts=ResourceOptions(parent=self),
        )

    def _stream(self, table: aws.glue.CatalogTable) -> aws.kinesis.FirehoseDeliveryStream:
        name, args = self._name, self._args
        group = args.logs.group(f"{name}-logs", parent=self)
        log_stream = aws.cloudwatch.LogStream(
            f"{name}-log-stream", name=DELIVERY, log_group_name=group.name, opts=ResourceOptions(parent=self)
        )
        role, policy = self._role(table, group)
        return aws.kinesis.FirehoseDeliveryStream(
            f"{name}-stream",
            destination="extended_s3",
            server_side_encryption={"enabled": True, "key_type": "CUSTOMER_MANAGED_CMK", "key_arn": self._key.arn},
            extended_s3_configuration={
                "role_arn": role.arn,
                "bucket_arn": args.results.arn,
                "prefix": day_prefix("!{timestamp:yyyy-MM-dd}"),
                "error_output_prefix": f"{ERRORS_PREFIX}!{{firehose:error-output-type}}/day=!{{timestamp:yyyy-MM-dd}}/",
                "buffering_interval": BUFFER_SECONDS,
                "buffering_size": BUFFER_MB,
                "cloudwatch_logging_options": {
                    "enabled": True,
                    "log_group_name": group.name,
                    "log_stream_name": log_stream.name,
                },
                # How the files are encrypted is the bucket's to say, and its policy takes no other key.
                "data_format_conversion_configuration": conversion(
                    database=table.database_name, table=table.name, role_arn=role.arn
                ),
            },
            # Firehose tries the role when the stream is made.
            opts=ResourceOptions(parent=self, depends_on=[policy]),
        )

    def _role(
        self, table: aws.glue.CatalogTable, group: aws.cloudwatch.LogGroup
    ) -> tuple[aws.iam.Role, aws.iam.RolePolicy]:
        name, args = self._name, self._args
        database, site = table.database_name, args.site
        table_arns = [
            site.arn(service="glue", resource=pulumi.Output.concat("database/", database)),
            site.arn(service="glue", resource=pulumi.Output.concat("table/", database, "/", table.name)),
        ]
        role = aws.iam.Role(
            f"{name}-role",
            assume_role_policy=assume_role("firehose.amazonaws.com", conditions=own_streams(site)),
            opts=ResourceOptions(parent=self),
        )
        policy = aws.iam.RolePolicy(
            f"{name}-policy",
            role=role.name,
            policy=document(
                delivery_statements(site, bucket=args.results, table_arns=table_arns, log_group_arn=group.arn)
            ),
            opts=ResourceOptions(parent=self),
        )
        return role, policy
