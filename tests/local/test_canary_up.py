"""The canary made on the emulators and invoked there: it reads its token, calls, and writes its metrics."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lambdas import tokens
from local.emulators import Emulators
from local.engine import up
from tests.lambdas.test_canary import answering, api

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
    from pathlib import Path
    from types import SimpleNamespace

    import pulumi
    import pulumi_aws as aws

    from infra.components.canary import Canary, CanaryArgs
    from infra.components.logs import Logs, LogsArgs
    from infra.site import Site

    account_id = aws.get_caller_identity_output().account_id
    site = Site(project="small", stack="dev", region="eu-west-1", account_id=account_id, root=Path({root!r}))
    model = SimpleNamespace(name="m", tasks=("chat",))
    canary = Canary(
        "canary",
        CanaryArgs(
            site=site,
            settings=SimpleNamespace(canary=SimpleNamespace(model="m"), models=[model]),
            gateway=SimpleNamespace(api_url={url!r}),
            logs=Logs("logs", LogsArgs(site=site, retention_days=7)),
        ),
    )
    pulumi.export("secret", canary.secret_arn)
"""


def test_the_canary_calls_with_its_token_once_it_has_one(
    project: Callable[..., Path], emulators: Emulators, tmp_path: Path
) -> None:
    token = tokens.mint()
    with api(answering(200, b'{"choices": [{"index": 0}]}')) as (url, seen):
        root = project(PROGRAM.format(root=str(ROOT), url=url))
        deployment = up(root=root, stack="dev", emulators=emulators, state_file=tmp_path / "state.json")
        (function,) = [each.id for each in deployment.resources if each.type == "aws:lambda/function:Function"]
        secret = deployment.outputs["secret"]

        before = invoke(emulators, function)
        assert (before["reason"], before["CanarySuccess"], seen) == ("no_token", 0.0, [])

        emulators.client("secretsmanager").put_secret_value(SecretId=secret, SecretString=token + "\n")
        after = invoke(emulators, function)
        assert (after["reason"], after["status"], after["Stack"]) == ("answered", 200, "dev")
        assert [(each["path"], each["token"]) for each in seen] == [("/v1/chat/completions", f"Bearer {token}")]
        assert token not in json.dumps([before, after])


def invoke(emulators: Emulators, function: str) -> dict[str, Any]:
    """The line that one invocation writes."""
    answer = emulators.client("lambda").invoke(FunctionName=function, LogType="Tail")
    log = base64.b64decode(answer["LogResult"]).decode()
    assert "FunctionError" not in answer, answer["Payload"].read()
    (line,) = [json.loads(each) for each in log.splitlines() if '"canary"' in each]
    return dict(line)
