"""What every lambda function of the stack has: its code, a role with its own policy alone, a log group, a key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.keys import EncryptionKey
from infra.components.logs import Logs, write_statement
from infra.iam import Statement, assume_role, document
from infra.site import Site

RUNTIME = "python3.13"


@dataclass(frozen=True)
class FunctionArgs:
    """One function: what it does and may do, the key of its environment, and where it logs to.

    `handler` is a module of lambdas/; `memory_size` in MB, with which processor time comes; `timeout` in seconds.
    """

    site: Site
    description: str
    handler: str
    role_name: str
    statements: Sequence[Statement]
    variables: Mapping[str, pulumi.Input[str]]
    key: EncryptionKey
    logs: Logs
    memory_size: int = 256
    timeout: int = 60


@dataclass(frozen=True)
class PythonFunction:
    """A function, and the policy without which it can do nothing."""

    function: aws.lambda_.Function
    policy: aws.iam.RolePolicy


def python_function(prefix: str, name: str, args: FunctionArgs, *, parent: pulumi.Resource) -> PythonFunction:
    """Declare the function `name`; what belongs to it is named by `prefix`. All are children of `parent`."""
    log_group = args.logs.group(f"{prefix}-logs", parent=parent)
    role = aws.iam.Role(
        f"{prefix}-role",
        name=args.role_name,
        assume_role_policy=assume_role("lambda.amazonaws.com"),
        opts=ResourceOptions(parent=parent),
    )
    policy = aws.iam.RolePolicy(
        f"{prefix}-policy",
        role=role.name,
        policy=document(
            [
                *args.statements,
                args.key.decrypt_statement(sid="DecryptEnvironment", via="lambda"),
                write_statement(log_group),
                _trace_statement(),
            ]
        ),
        opts=ResourceOptions(parent=parent),
    )
    function = aws.lambda_.Function(
        name,
        description=args.description,
        role=role.arn,
        runtime=RUNTIME,
        architectures=["arm64"],
        handler=f"lambdas.{args.handler}.handler",
        code=_code_archive(args.site.root),
        memory_size=args.memory_size,
        timeout=args.timeout,
        environment={"variables": args.variables},
        kms_key_arn=args.key.arn,
        logging_config={"log_format": "JSON", "log_group": log_group.name},
        tracing_config={"mode": "Active"},
        opts=ResourceOptions(parent=parent, depends_on=[policy]),
    )
    return PythonFunction(function, policy)


def code_files(root: Path) -> list[str]:
    """The Python files of the lambdas' package, relative to the project."""
    return sorted(path.relative_to(root).as_posix() for path in (root / "lambdas").rglob("*.py"))


def _code_archive(root: Path) -> pulumi.AssetArchive:
    """The functions' code, packed as the package that its imports name."""
    return pulumi.AssetArchive({name: pulumi.FileAsset(str(root / name)) for name in code_files(root)})


def _trace_statement() -> Statement:
    """A grant to say how long what took."""
    return Statement(
        sid="WriteTraces",
        actions=["xray:PutTraceSegments", "xray:PutTelemetryRecords"],
        resources=["*"],  # X-Ray knows no resource to write to
    )
