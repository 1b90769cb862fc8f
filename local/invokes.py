"""The data sources that the program reads, answered from the API."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from botocore.session import get_session
from cryptography.hazmat.primitives import serialization

from local.errors import LocalError
from local.types.spec import Made

Invoke = Callable[[Made], dict[str, Any]]


def _caller_identity(made: Made) -> dict[str, Any]:
    answer = made.call("sts", "GetCallerIdentity")
    return {"accountId": answer["Account"], "arn": answer["Arn"], "userId": answer["UserId"], "id": answer["Account"]}


def _region(made: Made) -> dict[str, Any]:
    region = made.inputs.get("region") or made.inputs.get("name") or made.region
    suffix = _partition_data(made)["dnsSuffix"]
    return {
        "id": region,
        "name": region,
        "region": region,
        "endpoint": f"ec2.{region}.{suffix}",
        "description": _partition_data(made)["regions"].get(region, {}).get("description", region),
    }


def _partition(made: Made) -> dict[str, Any]:
    suffix = str(_partition_data(made)["dnsSuffix"])
    return {
        "id": made.partition,
        "partition": made.partition,
        "dnsSuffix": suffix,
        "reverseDnsPrefix": ".".join(reversed(suffix.split("."))),
    }


def _partition_data(made: Made) -> Mapping[str, Any]:
    """botocore's own description of the partition: its domain suffix and its regions."""
    partitions = get_session().get_data("endpoints")["partitions"]
    return next(entry for entry in partitions if entry["partition"] == made.partition)


def _availability_zones(made: Made) -> dict[str, Any]:
    wanted = made.inputs.get("state")
    filters = [{"Name": entry["name"], "Values": entry["values"]} for entry in made.inputs.get("filters") or []]
    if wanted:
        filters.append({"Name": "state", "Values": [wanted]})
    zones = made.call("ec2", "DescribeAvailabilityZones", Filters=filters)["AvailabilityZones"]
    left_out = {*(made.inputs.get("excludeNames") or []), *(made.inputs.get("excludeZoneIds") or [])}
    zones = [zone for zone in zones if not {zone["ZoneName"], zone["ZoneId"]} & left_out]
    return {
        "id": made.region,
        "names": sorted(zone["ZoneName"] for zone in zones),
        "zoneIds": [zone["ZoneId"] for zone in sorted(zones, key=lambda zone: str(zone["ZoneName"]))],
        "groupNames": sorted({zone.get("GroupName", made.region) for zone in zones}),
    }


def _parameter(made: Made) -> dict[str, Any]:
    name = made.inputs["name"]
    decrypt = made.inputs.get("withDecryption", True)
    found = made.call("ssm", "GetParameter", Name=name, WithDecryption=decrypt)["Parameter"]
    secure = found["Type"] == "SecureString"
    return {
        "id": name,
        "name": name,
        "arn": found["ARN"],
        "type": found["Type"],
        "value": found["Value"],
        "insecureValue": "" if secure else found["Value"],
        "version": found["Version"],
    }


def _prefix_list(made: Made) -> dict[str, Any]:
    filters = [{"Name": entry["name"], "Values": entry["values"]} for entry in made.inputs.get("filters") or []]
    if made.inputs.get("name"):
        filters.append({"Name": "prefix-list-name", "Values": [made.inputs["name"]]})
    ids = {"PrefixListIds": [made.inputs["id"]]} if made.inputs.get("id") else {}
    found = made.call("ec2", "DescribeManagedPrefixLists", Filters=filters, **ids)["PrefixLists"]
    if len(found) != 1:
        asked = made.inputs.get("name") or made.inputs.get("id") or filters
        raise LocalError(f"managed prefix list {asked}: {len(found)} found, one is needed; give its exact name or id")
    entry = found[0]
    return {
        "id": entry["PrefixListId"],
        "name": entry["PrefixListName"],
        "arn": entry["PrefixListArn"],
        "addressFamily": entry["AddressFamily"],
        "ownerId": entry["OwnerId"],
        "maxEntries": entry.get("MaxEntries", 0),
        "version": entry.get("Version", 0),
    }


def _registry_token(made: Made) -> dict[str, Any]:
    data = made.call("ecr", "GetAuthorizationToken")["authorizationData"][0]
    return {
        "id": made.region,
        "authorizationToken": data["authorizationToken"],
        "expiresAt": data["expiresAt"].isoformat(),
        "proxyEndpoint": data["proxyEndpoint"],
        **_user_and_password(data["authorizationToken"]),
    }


def _user_and_password(token: str) -> dict[str, str]:
    user, _, password = base64.b64decode(token).decode().partition(":")
    return {"userName": user, "password": password}


def _public_key(made: Made) -> dict[str, Any]:
    answer = made.call("kms", "GetPublicKey", KeyId=made.inputs["keyId"])
    return {
        "id": answer["KeyId"],
        "arn": answer["KeyId"],
        "keyId": made.inputs["keyId"],
        "customerMasterKeySpec": answer["KeySpec"],
        "keyUsage": answer["KeyUsage"],
        "signingAlgorithms": answer.get("SigningAlgorithms", []),
        "encryptionAlgorithms": answer.get("EncryptionAlgorithms", []),
        "publicKey": base64.b64encode(answer["PublicKey"]).decode(),
        "publicKeyPem": _pem(answer["PublicKey"]),
    }


def _pem(der: bytes) -> str:
    key = serialization.load_der_public_key(der)
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


INVOKES: Mapping[str, Invoke] = {
    "aws:index/getCallerIdentity:getCallerIdentity": _caller_identity,
    "aws:index/getRegion:getRegion": _region,
    "aws:index/getPartition:getPartition": _partition,
    "aws:index/getAvailabilityZones:getAvailabilityZones": _availability_zones,
    "aws:ssm/getParameter:getParameter": _parameter,
    "aws:ec2/getManagedPrefixList:getManagedPrefixList": _prefix_list,
    "aws:kms/getPublicKey:getPublicKey": _public_key,
    "aws:ecr/getAuthorizationToken:getAuthorizationToken": _registry_token,
}

# Which parts of an answer are secret, as the provider's schema says.
SECRET_ANSWERS: Mapping[str, tuple[str, ...]] = {
    "aws:ecr/getAuthorizationToken:getAuthorizationToken": ("authorizationToken", "password"),
    "aws:ssm/getParameter:getParameter": ("value",),
}
