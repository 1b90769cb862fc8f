"""The instances' metadata service, as an SDK asks it and as somebody else would."""

import datetime
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.utils import InstanceMetadataFetcher

from local.fleet.metadata import CREDENTIALS_PATH, INSTANCE_ID_PATH, TOKEN_PATH, MetadataService

ROLE = "arn:aws:iam::123456789012:role/server"
TTL = {"x-aws-ec2-metadata-token-ttl-seconds": "60"}


class Sts:
    """Answers as STS does, or refuses."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.refuses = False

    def assume_role(self, **parameters: Any) -> dict[str, Any]:
        self.asked.append(parameters)
        if self.refuses:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "AssumeRole")
        later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
        given = {"AccessKeyId": "ASIA1", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": later}
        return {"Credentials": given}


@pytest.fixture
def sts() -> Sts:
    return Sts()


@pytest.fixture
def service(sts: Sts) -> Iterator[MetadataService]:
    running = MetadataService(lambda _: sts)
    running.open()
    yield running
    running.close()
    running.close()


def ask(url: str, *, method: str = "GET", **headers: str) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, method=method, headers=named)  # noqa: S310 - the service's own
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def endpoint(service: MetadataService, instance_id: str, *, role_arn: str | None = ROLE) -> str:
    return service.add(instance_id, role_arn=role_arn)["AWS_EC2_METADATA_SERVICE_ENDPOINT"]


def token(url: str) -> str:
    status, text = ask(f"{url}/{TOKEN_PATH}", method="PUT", **TTL)
    assert status == 200
    return text


def test_an_sdk_gets_a_session_of_the_instances_role(service: MetadataService, sts: Sts) -> None:
    fetcher = InstanceMetadataFetcher(base_url=endpoint(service, "i-1"), env={"AWS_EC2_METADATA_V1_DISABLED": "true"})
    given = fetcher.retrieve_iam_role_credentials()
    assert [given[name] for name in ("role_name", "access_key", "secret_key", "token")] == ["server", "ASIA1", "s", "t"]
    assert [(each["RoleArn"], each["RoleSessionName"]) for each in sts.asked] == [(ROLE, "i-1")]


def test_nothing_is_told_without_a_token_of_that_instance(service: MetadataService, sts: Sts) -> None:
    one, other = endpoint(service, "i-1"), endpoint(service, "i-2")
    foreign = token(other)
    for path in (INSTANCE_ID_PATH, CREDENTIALS_PATH, f"{CREDENTIALS_PATH}server"):
        assert ask(f"{one}/{path}") == (401, "")
        assert ask(f"{one}/{path}", x_aws_ec2_metadata_token="made-up") == (401, "")
        assert ask(f"{one}/{path}", x_aws_ec2_metadata_token=foreign) == (401, "")
    assert ask(f"{one}/{INSTANCE_ID_PATH}", x_aws_ec2_metadata_token=token(one)) == (200, "i-1")
    assert sts.asked == []


@pytest.mark.parametrize("seconds", ["", "0", "-1", "21601", "ten"])
def test_a_token_lasts_as_long_as_ec2_lets_it(service: MetadataService, seconds: str) -> None:
    url = f"{endpoint(service, 'i-1')}/{TOKEN_PATH}"
    assert ask(url, method="PUT", x_aws_ec2_metadata_token_ttl_seconds=seconds)[0] == 400


def test_a_token_ends(service: MetadataService, monkeypatch: pytest.MonkeyPatch) -> None:
    url = endpoint(service, "i-1")
    given, clock = token(url), time.monotonic
    monkeypatch.setattr("local.fleet.metadata.time.monotonic", lambda: clock() + 61)
    assert ask(f"{url}/{INSTANCE_ID_PATH}", x_aws_ec2_metadata_token=given) == (401, "")


def test_an_instance_that_is_gone_is_told_nothing(service: MetadataService) -> None:
    url = endpoint(service, "i-1")
    given = token(url)
    service.forget("i-1")
    assert ask(f"{url}/{INSTANCE_ID_PATH}", x_aws_ec2_metadata_token=given)[0] == 401
    assert ask(f"{url}/{TOKEN_PATH}", method="PUT", **TTL)[0] == 404


def test_an_instance_without_a_profile_has_no_credentials(service: MetadataService) -> None:
    url = endpoint(service, "i-1", role_arn=None)
    for path in (CREDENTIALS_PATH, f"{CREDENTIALS_PATH}server", "latest/user-data"):
        assert ask(f"{url}/{path}", x_aws_ec2_metadata_token=token(url))[0] == 404


def test_a_role_that_cannot_be_taken_on_is_said_as_ec2_says_it(service: MetadataService, sts: Sts) -> None:
    url = endpoint(service, "i-1")
    sts.refuses = True
    status, text = ask(f"{url}/{CREDENTIALS_PATH}server", x_aws_ec2_metadata_token=token(url))
    assert (status, json.loads(text)["Code"]) == (200, "AssumeRoleUnauthorizedAccess")
    fetcher = InstanceMetadataFetcher(base_url=url, env={}, num_attempts=1)
    assert fetcher.retrieve_iam_role_credentials() == {}
