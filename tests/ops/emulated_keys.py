"""The tables, keys and plans of a stack in the emulators, as far as consumers need them; and the authorizer there."""

import io
import json
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lambdas
from infra.routes import ROUTES
from local.emulators import Emulators
from ops.keys import CreatedToken, create_consumer

REGION = "eu-west-1"
ACCOUNT = "123456789012"
CSV = """\
name,plan,models,tasks,source_cidrs,contact,expires
alice,demo,*,chat completions,203.0.113.0/24 2001:db8::/32,alice@example.com,2999-01-31
bob,trickle,,,,,
"""


@dataclass
class Stack:
    clients: dict[str, Any]
    outputs: dict[str, Any]
    emulators: Emulators

    def rows(self) -> int:
        return sum(
            self.clients["dynamodb"].scan(TableName=self.outputs[table])["Count"]
            for table in ("consumers_table", "tokens_table")
        )

    def gateway_keys(self) -> dict[str, str]:
        keys = self.clients["apigateway"].get_api_keys(includeValues=True)["items"]
        return {key["id"]: key["value"] for key in keys}


def make_stack(emulators: Emulators, *, plans: Mapping[str, str] | None = None, **outputs: Any) -> Stack:
    """New tables and a new key; usage plans by name, made here unless given."""
    clients = {name: emulators.client(name) for name in ("apigateway", "dynamodb", "kms")}
    suffix = str(time.monotonic_ns())
    for table, key in (("consumers", "id"), ("tokens", "token_hash")):
        clients["dynamodb"].create_table(
            TableName=f"{table}-{suffix}",
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
            KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
    made = {name: f"{name}-{suffix}" for name in ("demo", "trickle")} if plans is None else {}
    ids = {name: clients["apigateway"].create_usage_plan(name=each)["id"] for name, each in made.items()}
    found = {
        "consumers_table": f"consumers-{suffix}",
        "tokens_table": f"tokens-{suffix}",
        "consumers_key_arn": clients["kms"].create_key()["KeyMetadata"]["Arn"],
        "usage_plan_ids": ids if plans is None else dict(plans),
        "authorizer_cache_seconds": 60,
    }
    return Stack(clients=clients, outputs=found | outputs, emulators=emulators)


def create(stack: Stack, **changes: Any) -> CreatedToken:
    wanted: dict[str, Any] = {"name": "alice", "plan": "demo", "models": "*", "tasks": "*"}
    return create_consumer(stack.clients, stack.outputs, **wanted | changes)


def written(directory: Path, text: str, *, name: str = "consumers.csv") -> Path:
    (directory / name).write_text(text, encoding="utf-8")
    return directory / name


def deploy_authorizer(stack: Stack, *, name: str) -> None:
    """The functions' code as a deployed function, with a role that may do what the authorizer does and nothing else."""
    stack.emulators.client("lambda").create_function(
        FunctionName=name, Runtime="python3.12", Handler="lambdas.authorizer.handler", Timeout=10,
        Role=_role(stack, name=name), Code={"ZipFile": _bundle()},
        Environment={"Variables": {
            "CONSUMERS_TABLE": stack.outputs["consumers_table"], "TOKENS_TABLE": stack.outputs["tokens_table"],
            "STACK": "test", "ROUTES": json.dumps([[each.pattern, each.task] for each in ROUTES]),
            "PLANS": json.dumps({"demo": {"tokens_per_day": 1000, "tokens_per_month": None}}),
        }},
    )  # fmt: skip


def _bundle() -> bytes:
    archive = io.BytesIO()
    directory = Path(lambdas.__file__).parent
    with zipfile.ZipFile(archive, "w") as file:
        for source in sorted(directory.glob("*.py")):
            file.write(source, f"lambdas/{source.name}")
    return archive.getvalue()


def _role(stack: Stack, *, name: str) -> str:
    iam = stack.emulators.client("iam")
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))["Role"]
    consumers, tokens = (
        f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{stack.outputs[each]}"
        for each in ("consumers_table", "tokens_table")
    )
    statements = [
        {"Effect": "Allow", "Action": "dynamodb:GetItem", "Resource": consumers},
        {"Effect": "Allow", "Action": "dynamodb:BatchGetItem", "Resource": tokens},
        {"Effect": "Allow", "Action": "dynamodb:UpdateItem", "Resource": tokens, "Condition": {
            "ForAllValues:StringEquals": {"dynamodb:Attributes": ["token_hash", "last_used"]},
        }},
        {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": stack.outputs["consumers_key_arn"]},
    ]  # fmt: skip
    iam.put_role_policy(RoleName=name, PolicyName="read", PolicyDocument=json.dumps({"Statement": statements}))
    return str(role["Arn"])
