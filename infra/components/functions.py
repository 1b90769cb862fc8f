"""The lambda functions: the authorizer."""

from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.consumers import Consumers
from infra.components.keys import EncryptionKey, EncryptionKeyArgs, administered_by_iam, used_through
from infra.components.logs import Logs, write_statement
from infra.iam import Statement, assume_role, document
from infra.site import Site

RUNTIME = "python3.13"


def authorizer_role_name(site: Site) -> str:
    """The name of the authorizer's role, set by us since a key's policy names it before it exists."""
    return f"{site.name}-{site.region}-authorizer"


def code_files(root: Path) -> list[str]:
    """The Python files of the lambdas' package, relative to the project."""
    return sorted(path.relative_to(root).as_posix() for path in (root / "lambdas").rglob("*.py"))


def code_archive(root: Path) -> pulumi.AssetArchive:
    """The functions' code, packed as the package that its imports name."""
    return pulumi.AssetArchive({name: pulumi.FileAsset(str(root / name)) for name in code_files(root)})


@dataclass(frozen=True)
class FunctionsArgs:
    """The tables to read, and where logs go."""

    site: Site
    consumers: Consumers
    logs: Logs


class Functions(pulumi.ComponentResource):
    """The authorizer: token in, consumer, plan and scopes out.

    It stays outside the VPC: all it talks to are DynamoDB and KMS, by TLS and its role. Inside, it would need one more
    endpoint for KMS and a security group that reaches out, and gain nothing: nothing in the VPC is its business.
    """

    authorizer_name: pulumi.Output[str]
    authorizer_arn: pulumi.Output[str]
    authorizer_invoke_arn: pulumi.Output[str]

    def __init__(self, name: str, args: FunctionsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Functions", name, None, opts)
        key = EncryptionKey(
            f"{name}-key",
            EncryptionKeyArgs(
                site=args.site,
                purpose="environments of functions",
                policy=[administered_by_iam(args.site), *used_through(args.site, "lambda", grants=True)],
            ),
            opts=ResourceOptions(parent=self),
        )
        log_group = args.logs.group(f"{name}-authorizer-logs", parent=self)
        role = aws.iam.Role(
            f"{name}-authorizer-role",
            name=authorizer_role_name(args.site),
            assume_role_policy=assume_role("lambda.amazonaws.com"),
            opts=ResourceOptions(parent=self),
        )
        policy = aws.iam.RolePolicy(
            f"{name}-authorizer-policy",
            role=role.name,
            policy=document(
                [
                    *args.consumers.read_statements(),
                    key.decrypt_statement(sid="DecryptEnvironment", via="lambda"),
                    write_statement(log_group),
                    trace_statement(),
                ]
            ),
            opts=ResourceOptions(parent=self),
        )
        function = aws.lambda_.Function(
            f"{name}-authorizer",
            description="Turns a bearer token into consumer, plan and scopes",
            role=role.arn,
            runtime=RUNTIME,
            architectures=["arm64"],
            handler="lambdas.authorizer.handler",
            code=code_archive(args.site.root),
            memory_size=512,  # processor time comes with memory, and every call waits for this function
            timeout=10,
            environment={
                "variables": {
                    "CONSUMERS_TABLE": args.consumers.consumers_table,
                    "TOKENS_TABLE": args.consumers.tokens_table,
                }
            },
            kms_key_arn=key.arn,
            logging_config={"log_format": "JSON", "log_group": log_group.name},
            tracing_config={"mode": "Active"},
            opts=ResourceOptions(parent=self, depends_on=[policy]),
        )
        self.authorizer_name, self.authorizer_arn = function.name, function.arn
        self.authorizer_invoke_arn = function.invoke_arn
        self.register_outputs({"authorizer_name": self.authorizer_name, "authorizer_arn": self.authorizer_arn})


def trace_statement() -> Statement:
    """A grant to say how long what took."""
    return Statement(
        sid="WriteTraces",
        actions=["xray:PutTraceSegments", "xray:PutTelemetryRecords"],
        resources=["*"],  # X-Ray knows no resource to write to
    )
