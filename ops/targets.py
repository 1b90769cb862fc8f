"""Where a command's AWS calls go: the stack that is up on this machine, or AWS itself."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from local.layout import PROJECT_ROOT, find_layout
from local.stack import read_status
from ops.errors import OpsError

KEY_SERVICES = ("apigateway", "dynamodb", "kms")


@dataclass(frozen=True)
class Target:
    """A deployed stack: its outputs, and clients that reach it.

    `endpoints` (by boto3's service names) and `environment` (what an SDK reads) are empty in AWS.
    """

    outputs: Mapping[str, Any]
    endpoints: Mapping[str, str]
    environment: Mapping[str, str]

    def client(self, service: str) -> Any:
        """A boto3 client of `service`; raises OpsError for one that is not emulated."""
        session = boto3.session.Session()
        if not self.endpoints:
            return session.client(service)
        if service not in self.endpoints:
            raise OpsError(f"service {service} is not emulated: use one of {', '.join(sorted(self.endpoints))}")
        return session.client(
            service,
            endpoint_url=self.endpoints[service],
            region_name=self.environment["AWS_REGION"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            verify=self.environment.get("AWS_CA_BUNDLE"),
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )

    def key_clients(self) -> dict[str, Any]:
        """The clients that consumers and tokens need, by service."""
        return {service: self.client(service) for service in KEY_SERVICES}

    def output(self, name: str) -> str:
        if name not in self.outputs:
            raise OpsError(f"the stack has no output {name}: deploy it with this version of the program first")
        return str(self.outputs[name])


def find_target(stack: str | None) -> Target:
    """The stack of that name on this machine if it is up, else the one that Pulumi's CLI knows; None is plain AWS."""
    if stack is None:
        return Target(outputs={}, endpoints={}, environment={})
    if find_layout().status_file(stack).exists():
        status = read_status(find_layout(), stack)
        return Target(outputs=status["outputs"], endpoints=status["endpoints"], environment=status["environment"])
    pulumi = shutil.which("pulumi")
    if pulumi is None:
        raise OpsError(
            f"stack {stack} is not up on this machine and the pulumi CLI is not installed: run 'modelkeep local up "
            f"--stack {stack}', or install the CLI for a stack in AWS"
        )
    done = subprocess.run(
        [pulumi, "stack", "output", "--json", "--stack", stack],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise OpsError(f"pulumi knows no outputs of stack {stack}: {' '.join(done.stderr.split())}")
    return Target(outputs=json.loads(done.stdout), endpoints={}, environment={})
