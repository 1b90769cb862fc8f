"""The calls of AWS that roles of the stack make, and those that they reach for and must not."""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from lambdas.consumers import ConsumerStore
from model_image.artefacts import fetch_from_s3
from model_image.budget_rows import new_reservation
from model_image.budget_table import BudgetTable
from model_image.standing import Limits
from tests.end_to_end.account import CONTEXT, Client, Deployed

Call = Callable[[Client, Deployed], object]
NO_TOKEN = "no token"
ANY_INSTANCE = "i-0123456789abcdef0"


def read_models(aws: Client, on: Deployed) -> None:
    """As a server does at its start: one model as a whole, and of every other one its manifest."""
    bucket = on.output("model_bucket")
    with tempfile.TemporaryDirectory() as directory:
        fetch_from_s3(aws("s3"), bucket, *on.models[0], Path(directory), trusted=[on.signing_key])
    for name, version in on.models:
        aws("s3").get_object(Bucket=bucket, Key=f"{name}/{version}/manifest.json")["Body"].read()


def read_promotions(aws: Client, on: Deployed) -> None:
    aws("ssm").get_parameter(Name=on.output("promotions_parameter"))


def keep_budget(aws: Client, on: Deployed) -> None:
    """As a server does for a request, and for a consumer that asks what is left."""
    table, now = BudgetTable(aws("dynamodb"), name=on.output("budgets_table")), time.time()
    asked = new_reservation("nobody", 5, at=now, lifetime=60)
    reservation, _ = table.reserve(asked, Limits(day=1000), at=now, enforced=True)
    table.settle(reservation, 0, at=now)
    table.standing("nobody", at=now)


def send_usage(aws: Client, on: Deployed) -> None:
    """As a server does for a request that took nothing."""
    record = dict.fromkeys(("consumer", "plan", "model", "version", "task"), "nobody") | {
        "time": "2020-01-01 00:00:00.000", "request_id": uuid.uuid4().hex, "status": 200, "code": None,
        "prompt_tokens": 0, "completion_tokens": 0, "first_token_ms": None, "latency_ms": 1.0, "streamed": False,
    }  # fmt: skip
    answer = aws("firehose").put_record_batch(
        DeliveryStreamName=on.output("usage_stream"), Records=[{"Data": json.dumps(record).encode() + b"\n"}]
    )
    assert not answer["FailedPutCount"]


def change_promotions(aws: Client, on: Deployed) -> None:
    aws("ssm").put_parameter(
        Name=on.output("promotions_parameter"), Value='{"models": {}}', Type="String", Overwrite=True
    )


def change_other_parameter(aws: Client, on: Deployed) -> None:
    aws("ssm").put_parameter(Name="/planted", Value="other", Type="String", Overwrite=True)


def sign_model(aws: Client, on: Deployed) -> None:
    """What nobody but an operator does: with it, one's own model would be served."""
    aws("kms").sign(
        KeyId=on.output("signing_key_arn"), Message=bytes(32), MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256"
    )


def writing_to(start: str) -> Call:
    """A call that makes a stream in the log group whose name starts like this, and writes a line to it."""

    def write(aws: Client, on: Deployed) -> None:
        names = {"logGroupName": on.log_group(start), "logStreamName": uuid.uuid4().hex}
        aws("logs").create_log_stream(**names)
        aws("logs").put_log_events(**names, logEvents=[{"timestamp": int(time.time() * 1000), "message": "{}"}])

    return write


def pull_image(aws: Client, on: Deployed) -> None:
    """As Docker does: log in, read the manifest, ask where each layer is."""
    ecr, repository = aws("ecr"), on.repository
    ecr.get_authorization_token()
    assert ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": "planted"}])["images"]
    ecr.get_download_url_for_layer(repositoryName=repository, layerDigest=on.planted["layer"])


def complete_launch(aws: Client, on: Deployed) -> None:
    aws("autoscaling").complete_lifecycle_action(
        AutoScalingGroupName=on.output("autoscaling_group"), LifecycleHookName="ready",
        LifecycleActionResult="CONTINUE", InstanceId=ANY_INSTANCE,
    )  # fmt: skip


def look_up_consumer(aws: Client, on: Deployed) -> None:
    """As the authorizer does for a token that it sees for the first time."""
    store = ConsumerStore(
        dynamodb=aws("dynamodb"), kms=aws("kms"),
        consumers_table=on.output("consumers_table"), tokens_table=on.output("tokens_table"),
    )  # fmt: skip
    token, frozen = store.token(on.planted["token_hash"])
    assert token is not None
    assert not frozen
    consumer = store.consumer(token.consumer)
    assert consumer is not None
    assert store.gateway_key(consumer)
    store.note_use(token, day=datetime.now(UTC).date().isoformat())


def run_instances(aws: Client, on: Deployed) -> None:
    aws("ec2").run_instances(ImageId="ami-12345678", InstanceType="c7i.large", MinCount=1, MaxCount=1)


def make_function(aws: Client, on: Deployed) -> None:
    """Code of one's own with the authorizer's role, and so with its key."""
    aws("lambda").create_function(
        FunctionName=f"planted-{uuid.uuid4().hex}", Runtime="python3.13", Handler="index.handler",
        Role=on.account.roles()["authorizer"], Code={"ZipFile": on.planted["archive"]},
    )  # fmt: skip


def assuming(role: str) -> Call:
    """A call that takes on another role of the stack."""
    return lambda aws, on: aws("sts").assume_role(RoleArn=on.account.roles()[role], RoleSessionName="other")


def widening(role: str) -> Call:
    """A call that gives the role a policy which allows everything."""
    everything = json.dumps({"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})

    def widen(aws: Client, on: Deployed) -> None:
        name = on.account.roles()[role].rpartition("/")[2]
        aws("iam").put_role_policy(RoleName=name, PolicyName="planted", PolicyDocument=everything)
        on.account.root("iam").delete_role_policy(RoleName=name, PolicyName="planted")

    return widen


def steal_data(aws: Client, on: Deployed) -> None:
    aws("s3").get_object(Bucket=on.output("data_bucket"), Key="planted")


def scan_consumers(aws: Client, on: Deployed) -> None:
    aws("dynamodb").scan(TableName=on.output("consumers_table"))


def mint_token(aws: Client, on: Deployed) -> None:
    item = {"token_hash": {"S": "planted"}, "consumer": {"S": "demo"}, "status": {"S": "revoked"}}
    aws("dynamodb").put_item(TableName=on.output("tokens_table"), Item=item)


def decrypt_consumers_key(aws: Client, on: Deployed) -> None:
    aws("kms").decrypt(CiphertextBlob=on.planted["of_consumers_key"], EncryptionContext=CONTEXT)


def decrypt_with_models_key(aws: Client, on: Deployed) -> None:
    aws("kms").decrypt(CiphertextBlob=on.planted["of_models_key"])


def read_other_secret(aws: Client, on: Deployed) -> None:
    aws("secretsmanager").get_secret_value(SecretId=on.planted["secret"])


def read_parameter(aws: Client, on: Deployed) -> None:
    aws("ssm").get_parameter(Name="/planted")


def write_to_other_group(aws: Client, on: Deployed) -> None:
    aws("logs").put_log_events(
        logGroupName="planted", logStreamName="planted",
        logEvents=[{"timestamp": int(time.time() * 1000), "message": "planted"}],
    )  # fmt: skip


def read_other_group(aws: Client, on: Deployed) -> None:
    aws("logs").get_log_events(logGroupName="planted", logStreamName="planted")


def deleting_logs(start: str) -> Call:
    """A call that takes a stream out of the log group whose name starts like this."""

    def delete(aws: Client, on: Deployed) -> None:
        names = {"logGroupName": on.log_group(start), "logStreamName": uuid.uuid4().hex}
        on.account.root("logs").create_log_stream(**names)
        aws("logs").delete_log_stream(**names)

    return delete


def read_canarys_token(aws: Client, on: Deployed) -> None:
    aws("secretsmanager").get_secret_value(SecretId=on.output("canary_secret"))


def change_canarys_token(aws: Client, on: Deployed) -> None:
    aws("secretsmanager").put_secret_value(SecretId=on.output("canary_secret"), SecretString=NO_TOKEN)


def put_model(aws: Client, on: Deployed) -> None:
    aws("s3").put_object(Bucket=on.output("model_bucket"), Key="planted", Body=b"other")


def delete_model(aws: Client, on: Deployed) -> None:
    aws("s3").delete_object(Bucket=on.output("model_bucket"), Key="nobody's")


def read_other_object(aws: Client, on: Deployed) -> None:
    """An object of the models bucket that is no part of a model of the settings."""
    aws("s3").get_object(Bucket=on.output("model_bucket"), Key="planted")


def list_models(aws: Client, on: Deployed) -> None:
    aws("s3").list_objects_v2(Bucket=on.output("model_bucket"))


def push_image(aws: Client, on: Deployed) -> None:
    aws("ecr").initiate_layer_upload(repositoryName=on.repository)


def grow_fleet(aws: Client, on: Deployed) -> None:
    aws("autoscaling").set_desired_capacity(AutoScalingGroupName=on.output("autoscaling_group"), DesiredCapacity=0)


def change_consumer(aws: Client, on: Deployed) -> None:
    aws("dynamodb").update_item(TableName=on.output("consumers_table"), Key={"id": {"S": "planted"}})


def change_token(aws: Client, on: Deployed) -> None:
    """Whoever writes when a token was used writes nothing else of it."""
    aws("dynamodb").update_item(
        TableName=on.output("tokens_table"), Key={"token_hash": {"S": "planted"}},
        UpdateExpression="SET last_used = :now, #status = :status", ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":now": {"S": "2026-01-01"}, ":status": {"S": "revoked"}},
    )  # fmt: skip


def read_token_by_writing(aws: Client, on: Deployed) -> None:
    aws("dynamodb").update_item(
        TableName=on.output("tokens_table"), Key={"token_hash": {"S": "planted"}}, ReturnValues="ALL_NEW",
        UpdateExpression="SET last_used = :now", ExpressionAttributeValues={":now": {"S": "2026-01-01"}},
    )  # fmt: skip


def delete_token(aws: Client, on: Deployed) -> None:
    aws("dynamodb").delete_item(TableName=on.output("tokens_table"), Key={"token_hash": {"S": "planted"}})


def find_budgets_stream(aws: Client, on: Deployed) -> None:
    assert on.budgets_stream in [each["StreamArn"] for each in aws("dynamodbstreams").list_streams()["Streams"]]


def tell_topic(aws: Client, on: Deployed) -> None:
    aws("sns").publish(TopicArn=on.alarms_topic, Message="planted")


def tell_other_topic(aws: Client, on: Deployed) -> None:
    aws("sns").publish(TopicArn=on.planted["topic"], Message="planted")


def keep_failed_change(aws: Client, on: Deployed) -> None:
    aws("sqs").send_message(QueueUrl=on.queue("budget-alerts-failed"), MessageBody="planted")


def take_failed_change(aws: Client, on: Deployed) -> None:
    aws("sqs").receive_message(QueueUrl=on.queue("budget-alerts-failed"))


def read_budget(aws: Client, on: Deployed) -> None:
    key = {"consumer": {"S": "demo"}, "month": {"S": "2026-11"}}
    aws("dynamodb").get_item(TableName=on.output("budgets_table"), Key=key)


def forget_budget(aws: Client, on: Deployed) -> None:
    key = {"consumer": {"S": "planted"}, "month": {"S": "2026-11"}}
    aws("dynamodb").delete_item(TableName=on.output("budgets_table"), Key=key)


def forge_usage(aws: Client, on: Deployed) -> None:
    """A record that a consumer would be billed for, below the prefix of another year's."""
    aws("s3").put_object(Bucket=on.output("results_bucket"), Key="usage/day=2020-01-01/planted", Body=b"planted")


def encrypt_consumers_key(aws: Client, on: Deployed) -> None:
    """What an operator does who makes a consumer."""
    aws("kms").encrypt(KeyId=on.output("consumers_key_arn"), Plaintext=b"planted", EncryptionContext=CONTEXT)
