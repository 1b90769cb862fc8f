"""What is left of a deployment that ended half-way, and how the next one goes on from there."""

import json
import stat
from typing import Any

import pytest

from local import engine
from local.calls import ApiError
from local.errors import LocalError
from local.journal import Journal, journal_file, recover
from local.state import load_state
from tests.local.changing_stack import ChangingStack

TOPIC_AFTER = """
first = aws.cloudwatch.LogGroup("first", retention_in_days=7)
aws.sns.Topic("topic", opts=pulumi.ResourceOptions(depends_on=[first]))
"""


def test_a_creation_without_an_answer_is_reported_by_its_name(stack: ChangingStack) -> None:
    lost = ApiError("sns:CreateTopic: Connection was closed before we received a valid response", lost=True)
    stack.fails(TOPIC_AFTER, "Topic topic: sns:CreateTopic: Connection was closed", CreateTopic=lost)
    (urn,) = load_state(stack.state_file).interrupted
    assert urn.endswith("aws:sns/topic:Topic::topic")
    done = stack.deployment(TOPIC_AFTER)
    assert done.interrupted == (urn,)
    assert load_state(stack.state_file).interrupted == ()


def test_a_refusal_is_an_answer(stack: ChangingStack) -> None:
    stack.fails(TOPIC_AFTER, "Denied", CreateTopic=ApiError("sns:CreateTopic: Denied: no", code="Denied"))
    assert load_state(stack.state_file).interrupted == ()


def test_what_was_made_by_half_is_done_away_with_and_made_again(stack: ChangingStack) -> None:
    program = 'aws.cloudwatch.LogGroup("logs", retention_in_days=7)'
    stack.fails(program, "LogGroup logs: logs:Put: no", PutRetentionPolicy=LocalError("logs:Put: no"))
    half = stack.names()["logs"]
    assert stack.up(program) == {"logs": "replace"}
    assert stack.operations == ["DeleteLogGroup", "CreateLogGroup", "PutRetentionPolicy"]
    groups = stack.emulators.client("logs").describe_log_groups(logGroupNamePrefix="logs-")["logGroups"]
    assert half not in [one["logGroupName"] for one in groups]
    assert stack.up(program) == {}


def test_a_process_that_is_killed_leaves_a_journal_to_go_on_from(
    stack: ChangingStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.up('aws.cloudwatch.LogGroup("first", retention_in_days=7)\naws.sns.Topic("old")')
    with monkeypatch.context() as killed:  # nothing is written at the end
        killed.setattr(engine, "write_state", lambda *_, **__: None)
        killed.setattr(Journal, "close", lambda _: None)
        secret = TOPIC_AFTER + 'aws.ssm.Parameter("p", type="SecureString", value=pulumi.Output.secret("hunter2"))'
        stack.deployment(secret.replace("=7", "=14"))
    journal = journal_file(stack.state_file)
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    assert "hunter2" not in journal.read_text(encoding="utf-8")
    with journal.open("a", encoding="utf-8") as file:
        file.write('{"begin": "urn:lost"}\n{"made": {"urn": "cut of')
    state = recover(stack.state_file)
    assert state.interrupted == ("urn:lost",)
    assert sorted(record.name for record in state.resources if record.custom) == ["first", "p", "topic"]
    assert stack.up(secret.replace("=7", "=14")) == {}
    assert stack.operations == []
    assert not journal.exists()


def test_secrets_are_kept_as_secrets_through_changes(stack: ChangingStack) -> None:
    program = """
p = aws.ssm.Parameter("p", type="SecureString", value=pulumi.Output.secret("{secret}"), description="{text}")
pulumi.export("value", p.value)
"""
    stack.up(program.format(secret="hunter2", text="a"))
    assert stack.up(program.format(secret="hunter2", text="b")) == {"p": "update"}
    done = stack.deployment(program.format(secret="hunter2", text="b"))
    assert done.secret_outputs == {("value",)}
    assert done.outputs == {"value": "hunter2"}
    assert stack.up(program.format(secret="other", text="b")) == {"p": "update"}
    text = stack.state_file.read_text(encoding="utf-8")
    assert "hunter2" not in text
    assert '"other"' not in text
    name = stack.names()["p"]
    kept: dict[str, Any] = stack.emulators.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]
    assert kept["Value"] == "other"


def test_keys_and_files_stay_what_they_are_until_they_change(stack: ChangingStack) -> None:
    program = """
import pulumi_tls as tls
key = tls.PrivateKey("key", algorithm="ECDSA", ecdsa_curve="P256")
cert = tls.SelfSignedCert(
    "cert", private_key_pem=key.private_key_pem, allowed_uses=["digital_signature"], validity_period_hours={hours},
    subject={{"common_name": "a.test"}})
aws.acm.Certificate("imported", certificate_body=cert.cert_pem, private_key=key.private_key_pem)
role = aws.iam.Role("role", assume_role_policy=pulumi.Output.json_dumps({{"Version": "2012-10-17", "Statement": []}}))
aws.lambda_.Function("f", role=role.arn, runtime="python3.13", handler="m.h",
                     code=pulumi.AssetArchive({{"m.py": pulumi.StringAsset("{code}")}}))
"""
    stack.up(program.format(hours=24, code="a = 1"))
    before = stack.names()
    assert stack.up(program.format(hours=24, code="a = 1")) == {}
    assert stack.up(program.format(hours=24, code="a = 2")) == {"f": "update"}
    assert stack.operations == ["UpdateFunctionCode"]
    assert stack.up(program.format(hours=25, code="a = 2")) == {"cert": "replace", "imported": "update"}
    after = stack.names()
    assert {**after, "cert": ""} == {**before, "cert": ""}
    found = stack.emulators.client("acm").describe_certificate(CertificateArn=after["imported"])["Certificate"]
    assert (found["NotAfter"] - found["NotBefore"]).total_seconds() == 25 * 3600


def test_a_state_file_that_is_none_is_refused_by_name(stack: ChangingStack) -> None:
    stack.up("")
    stack.state_file.write_text("{", encoding="utf-8")
    with pytest.raises(LocalError, match=r"state\.json is no state file"):
        load_state(stack.state_file)
    stack.state_file.write_text(json.dumps({"deployment": {"resources": []}}), encoding="utf-8")
    stack.state_file.with_suffix(".key").unlink()
    with pytest.raises(LocalError, match=r"state\.key is missing"):
        load_state(stack.state_file)
