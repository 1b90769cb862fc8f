"""ministack as it is started here: TLS alone, IAM enforced, and the parts of its evaluation that are added."""

import http.client
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.emulators import ACCOUNT_ID, Emulators

REGION = "eu-west-1"
ROOT = {"AWS": f"arn:aws:iam::{ACCOUNT_ID}:root"}
LOGS = f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group"
Role = Callable[..., Callable[[str], Any]]


def allow(actions: str | Sequence[str], resource: str = "*", **conditions: Mapping[str, str]) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": "Allow", "Action": actions, "Resource": resource}
    return {**statement, "Condition": conditions} if conditions else statement


def text(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.fixture
def role(emulators: Emulators, request: pytest.FixtureRequest) -> Role:
    """Makes a role with these statements, and clients with a session of it."""

    def make(*statements: Mapping[str, Any], name: str | None = None) -> Callable[[str], Any]:
        iam, called = emulators.client("iam"), name or request.node.name[:60]
        trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}
        made = iam.create_role(RoleName=called, AssumeRolePolicyDocument=text(trust))["Role"]
        iam.put_role_policy(RoleName=called, PolicyName="it", PolicyDocument=text(*statements))
        given = emulators.client("sts").assume_role(RoleArn=made["Arn"], RoleSessionName="it")["Credentials"]
        return lambda service: boto3.client(
            service,
            region_name=REGION,
            endpoint_url=emulators.endpoints[service],
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
            verify=emulators.environment()["AWS_CA_BUNDLE"],
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    return make


@contextmanager
def denied() -> Iterator[None]:
    with pytest.raises(ClientError) as caught:
        yield
    assert caught.value.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException"}


def make_key(emulators: Emulators, *statements: Mapping[str, Any]) -> str:
    policy = text(*({**each, "Principal": ROOT} for each in statements))
    return str(emulators.client("kms").create_key(Policy=policy)["KeyMetadata"]["Arn"])


def test_it_speaks_tls_alone(emulators: Emulators) -> None:
    host = emulators.endpoints["s3"].removeprefix("https://")
    assert host != emulators.endpoints["s3"]
    plain = http.client.HTTPConnection(host, timeout=5)
    plain.request("GET", "/_ministack/health")
    with pytest.raises((http.client.HTTPException, OSError)):
        plain.getresponse()
    plain.close()


def test_a_role_without_policies_may_nothing(role: Role) -> None:
    aws = role({"Effect": "Deny", "Action": "sqs:*", "Resource": "*"})
    with denied():
        aws("s3").list_buckets()
    with denied():
        aws("dynamodb").list_tables()
    assert ":assumed-role/" in aws("sts").get_caller_identity()["Arn"]


def test_who_reads_and_writes_an_encrypted_bucket_needs_its_key_through_s3(emulators: Emulators, role: Role) -> None:
    through = {"StringEquals": {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}}
    key = make_key(emulators, allow("kms:*"))
    s3, bucket = emulators.client("s3"), "encrypted-for-the-test"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    s3.put_bucket_encryption(
        Bucket=bucket,
        ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": default}]},
    )
    s3.put_object(Bucket=bucket, Key="it", Body=b"it")
    objects = f"arn:aws:s3:::{bucket}/*"
    without = role(allow(["s3:GetObject", "s3:PutObject"], objects), name="without")("s3")
    with denied():
        without.get_object(Bucket=bucket, Key="it")
    with denied():
        without.put_object(Bucket=bucket, Key="it", Body=b"other")
    reader = role(allow("s3:*", objects), allow("kms:Decrypt", key, **through), name="reader")
    assert reader("s3").get_object(Bucket=bucket, Key="it")["Body"].read() == b"it"
    with denied():  # writing takes another action on the key
        reader("s3").put_object(Bucket=bucket, Key="it", Body=b"other")
    sealed = emulators.client("kms").encrypt(KeyId=key, Plaintext=b"it")["CiphertextBlob"]
    with denied():  # by a call of its own and not through S3
        reader("kms").decrypt(CiphertextBlob=sealed)


def test_who_reads_an_encrypted_table_or_secret_needs_its_key(emulators: Emulators, role: Role) -> None:
    key, table = make_key(emulators, allow("kms:*")), "encrypted-for-the-test"
    emulators.client("dynamodb").create_table(
        TableName=table,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key},
    )
    secrets = emulators.client("secretsmanager")
    secret = secrets.create_secret(Name="encrypted-for-the-test", SecretString="it", KmsKeyId=key)["ARN"]
    reads = allow(["dynamodb:GetItem", "secretsmanager:GetSecretValue"])
    without = role(reads, name="no-key")
    with denied():
        without("dynamodb").get_item(TableName=table, Key={"id": {"S": "it"}})
    with denied():
        without("secretsmanager").get_secret_value(SecretId=secret)
    reader = role(reads, allow("kms:Decrypt", key), name="with-key")
    assert "Item" not in reader("dynamodb").get_item(TableName=table, Key={"id": {"S": "it"}})
    assert reader("secretsmanager").get_secret_value(SecretId=secret)["SecretString"] == "it"


def test_a_keys_policy_names_a_role_and_an_encryption_context(emulators: Emulators, role: Role) -> None:
    one = {
        "ArnEquals": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT_ID}:role/the-one"},
        "StringEquals": {"kms:EncryptionContext:consumer": "alice"},
    }
    key = make_key(emulators, allow("kms:Decrypt", **one))
    kms, may = emulators.client("kms"), allow("kms:Decrypt", key)
    sealed = {
        name: kms.encrypt(KeyId=key, Plaintext=name.encode(), EncryptionContext={"consumer": name})["CiphertextBlob"]
        for name in ("alice", "bob")
    }
    the_one, another = role(may, name="the-one")("kms"), role(may, name="the-other")("kms")
    opened = the_one.decrypt(CiphertextBlob=sealed["alice"], EncryptionContext={"consumer": "alice"})
    assert opened["Plaintext"] == b"alice"
    with denied():
        the_one.decrypt(CiphertextBlob=sealed["bob"], EncryptionContext={"consumer": "bob"})
    with denied():
        another.decrypt(CiphertextBlob=sealed["alice"], EncryptionContext={"consumer": "alice"})


def test_a_log_groups_streams_are_what_a_policy_names(emulators: Emulators, role: Role) -> None:
    logs = emulators.client("logs")
    for name in ("own-group", "other-group"):
        logs.create_log_group(logGroupName=name)
    writer = role(allow(["logs:CreateLogStream", "logs:PutLogEvents"], f"{LOGS}:own-group:*"))("logs")
    line = [{"timestamp": 1_700_000_000_000, "message": "it"}]
    writer.create_log_stream(logGroupName="own-group", logStreamName="it")
    writer.put_log_events(logGroupName="own-group", logStreamName="it", logEvents=line)
    with denied():
        writer.create_log_stream(logGroupName="other-group", logStreamName="it")
    with denied():
        writer.delete_log_stream(logGroupName="own-group", logStreamName="it")
    one_stream = role(allow("logs:PutLogEvents", f"{LOGS}:own-group:log-stream:another"), name="one-stream")("logs")
    with denied():
        one_stream.put_log_events(logGroupName="own-group", logStreamName="it", logEvents=line)


def test_metrics_are_limited_by_their_namespace(role: Role) -> None:
    cloudwatch = role(
        allow("cloudwatch:PutMetricData", StringEquals={"cloudwatch:namespace": "modelkeep"}), name="metrics"
    )("cloudwatch")
    data = [{"MetricName": "it", "Value": 1.0}]
    cloudwatch.put_metric_data(Namespace="modelkeep", MetricData=data)
    with denied():
        cloudwatch.put_metric_data(Namespace="AWS/EC2", MetricData=data)


def test_a_key_that_signs_digests_by_one_algorithm_signs_nothing_else(emulators: Emulators, role: Role) -> None:
    conditions = {"kms:SigningAlgorithm": "ECDSA_SHA_256", "kms:MessageType": "DIGEST"}
    policy = {**allow("kms:Sign", StringEquals=conditions), "Principal": ROOT}
    key = emulators.client("kms").create_key(
        KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY", Policy=text(policy)
    )["KeyMetadata"]["Arn"]  # fmt: skip
    aws = role(allow("kms:Sign", key))
    asked = {"KeyId": key, "Message": bytes(32), "SigningAlgorithm": "ECDSA_SHA_256"}
    assert aws("kms").sign(**asked, MessageType="DIGEST")["Signature"]
    with denied():
        aws("kms").sign(**asked, MessageType="RAW")


def test_a_service_takes_on_a_role_for_its_own_account_alone(emulators: Emulators) -> None:
    iam, sts = emulators.client("iam"), emulators.client("sts")
    for account, name in ((ACCOUNT_ID, "own-account"), ("999999999999", "other-account")):
        trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ecs-tasks.amazonaws.com"}}
        trust["Condition"] = {"StringEquals": {"aws:SourceAccount": account}}
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=text(trust))
    assert sts.assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/own-account", RoleSessionName="it")["Credentials"]
    with denied():
        sts.assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/other-account", RoleSessionName="it")


def test_an_update_writes_the_attributes_that_a_policy_names(emulators: Emulators, role: Role) -> None:
    emulators.client("dynamodb").create_table(
        TableName="held", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )  # fmt: skip
    policy = allow("dynamodb:UpdateItem", f"arn:aws:dynamodb:{REGION}:{ACCOUNT_ID}:table/held")
    policy["Condition"] = {
        "ForAllValues:StringEquals": {"dynamodb:Attributes": ["id", "used"]},
        "StringEqualsIfExists": {"dynamodb:ReturnValues": "NONE"},
    }
    update = role(policy)("dynamodb").update_item
    place = {"TableName": "held", "Key": {"id": {"S": "a"}}, "ExpressionAttributeValues": {":v": {"S": "status"}}}
    update(**place, UpdateExpression="SET used = :v", ConditionExpression="attribute_not_exists(used) OR used < :v")
    update(**place, UpdateExpression="set #u = :v", ExpressionAttributeNames={"#u": "used"}, ReturnValues="NONE")
    for wrong in (
        {"UpdateExpression": "SET used = :v, status = :v"},
        {"UpdateExpression": "SET used = :v REMOVE status"},
        {"UpdateExpression": "SET #u = :v", "ExpressionAttributeNames": {"#u": "status"}},
        {"UpdateExpression": "SET used = :v", "ConditionExpression": "attribute_not_exists(status)"},
        {"UpdateExpression": "SET used = :v", "ReturnValues": "ALL_NEW"},
    ):
        with denied():
            update(**place, **wrong)
