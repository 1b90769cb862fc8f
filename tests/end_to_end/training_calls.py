"""The calls of AWS that the roles of training make, and those that they reach for and must not."""

from __future__ import annotations

import uuid

from model_image.signature import Signer
from tests.end_to_end.account import Client, Deployed
from tests.end_to_end.role_calls import Call

# Below the prefix of configurations, and none, lest it start a job.
CONFIG, DATASET = "training/planted", "datasets/planted/dataset.json"


def reading(key: str) -> Call:
    """A call that reads an object of the data bucket, which is planted there first."""

    def read(aws: Client, on: Deployed) -> None:
        on.account.root("s3").put_object(Bucket=on.output("data_bucket"), Key=key, Body=b"planted")
        aws("s3").get_object(Bucket=on.output("data_bucket"), Key=key)["Body"].read()

    return read


def publish(aws: Client, on: Deployed) -> None:
    """As a job does that has a model: it looks what is there, writes its files, and reads them again."""
    bucket, key = on.output("model_bucket"), f"planted/{uuid.uuid4().hex}/manifest.json"
    aws("s3").list_objects_v2(Bucket=bucket, Prefix="planted/")
    aws("s3").put_object(Bucket=bucket, Key=key, Body=b"{}")
    aws("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    _give_up_upload(aws, bucket=bucket, key=key)


def keep_checkpoint(aws: Client, on: Deployed) -> None:
    """As a job does all along: a checkpoint is written, found and read, and goes for the next one."""
    bucket, key = on.output("results_bucket"), f"training/planted/{uuid.uuid4().hex}"
    aws("s3").put_object(Bucket=bucket, Key=key, Body=b"planted")
    aws("s3").list_objects_v2(Bucket=bucket, Prefix="training/planted/")
    aws("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    _give_up_upload(aws, bucket=bucket, key=key)
    aws("s3").delete_object(Bucket=bucket, Key=key)


def _give_up_upload(aws: Client, *, bucket: str, key: str) -> None:
    upload = aws("s3").create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    aws("s3").abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)


def sign(aws: Client, on: Deployed) -> None:
    """As a job does for its manifest."""
    signer = Signer(client=aws("kms"), key_arn=on.output("signing_key_arn"))
    signer.public_key()
    aws("kms").sign(
        KeyId=on.output("signing_key_arn"), Message=bytes(32), MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256"
    )


def write_data(aws: Client, on: Deployed) -> None:
    aws("s3").put_object(Bucket=on.output("data_bucket"), Key=DATASET, Body=b"other")


def read_other_results(aws: Client, on: Deployed) -> None:
    """What users asked and were answered."""
    on.account.root("s3").put_object(Bucket=on.output("results_bucket"), Key="batches/planted", Body=b"planted")
    aws("s3").get_object(Bucket=on.output("results_bucket"), Key="batches/planted")


def list_other_results(aws: Client, on: Deployed) -> None:
    aws("s3").list_objects_v2(Bucket=on.output("results_bucket"), Prefix="batches/")


def delete_training_of_others(aws: Client, on: Deployed) -> None:
    aws("s3").delete_object(Bucket=on.output("results_bucket"), Key="batches/nobody's")
