"""With both emulators: a lambda that really runs decides, and the access log reaches its log group."""

import io
import json
import zipfile
from pathlib import Path

import pytest

from local.edge import create_edge
from local.emulators import Emulators
from tests.local.edge.stack import KEY, LOG_GROUP, REGION, FixedBalancer, Stack, caller

pytestmark = pytest.mark.anyio

TRUST = json.dumps(
    {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}]}
)
HANDLER = f"""
def handler(event, context):
    token = event["headers"].get("Authorization")
    if token != "Bearer good":
        raise Exception("Unauthorized")
    stage = event["methodArn"].split("/")[0] + "/v1/*"
    statement = {{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": stage}}
    return {{
        "principalId": "alice",
        "policyDocument": {{"Version": "2012-10-17", "Statement": [statement]}},
        "usageIdentifierKey": "{KEY}",
        "context": {{"consumer": "alice"}},
    }}
"""


class Emulated(Stack):
    """The stage of the other tests, with every client of the emulators."""

    emulators: Emulators

    def client(self, service: str) -> object:
        return self.emulators.client(service)


async def test_a_real_function_authorizes(tmp_path: Path, target: str) -> None:
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("authorizer.py", HANDLER)
    with Emulators(region=REGION, log_dir=tmp_path / "emulators") as emulators:
        stack = Emulated("", tmp_path)
        stack.emulators = emulators
        role = emulators.client("iam").create_role(RoleName="authorizer", AssumeRolePolicyDocument=TRUST)["Role"]
        emulators.client("lambda").create_function(
            FunctionName="authorizer",
            Runtime="python3.12",
            Role=role["Arn"],
            Handler="authorizer.handler",
            Code={"ZipFile": package.getvalue()},
        )
        stack.deploy()
        edge = create_edge(
            client=emulators.client,
            api_id=stack.api_id,
            stage_name="v1",
            balancer=FixedBalancer(target),
            log_dir=tmp_path / "logs",
        )
        async with caller(edge) as client:
            good = await client.get("/models")
            bad = await client.get("/models", headers={"authorization": "Bearer other"})
        await edge.aclose()
        logs, group = emulators.client("logs"), f"{LOG_GROUP}/{stack.api_id}"
        events = logs.filter_log_events(logGroupName=group)["events"]
    assert (good.status_code, bad.status_code) == (200, 401)
    assert good.json()["headers"]["x-consumer"] == ["alice"]
    assert [json.loads(event["message"])["status"] for event in events] == ["200", "401"]
