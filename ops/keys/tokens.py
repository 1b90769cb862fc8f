"""Tokens of consumers: their rows, rotated with an overlap, revoked."""

import re
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from lambdas import tokens as forms
from lambdas.oidc import CONSUMER_PREFIX
from ops.errors import OpsError
from ops.key_summaries import TokenSummary, token_summary
from ops.keys.stack import Clients, Item, Outputs, calling, no_consumer, output, read_consumer, scan

_HASH_PREFIX = re.compile(r"[0-9a-f]{12,64}")
_MOST_IN_A_TRANSACTION = 100  # DynamoDB's own


@dataclass(frozen=True)
class CreatedToken:
    """A new token; `token` is shown to its holder once and kept nowhere."""

    consumer: str
    token: str = field(repr=False)
    expires: datetime | None


@dataclass(frozen=True)
class Rotation:
    """A new token, and until when the consumer's others are good; `retired` is how many those are."""

    created: CreatedToken
    retired: int
    until: datetime


def rotate_token(
    clients: Clients, outputs: Outputs, *, name: str, overlap: timedelta, expires: datetime | None = None
) -> Rotation:
    """Give a consumer a new token; those it has are good for `overlap` more, and those that end sooner end then.

    All of it happens at once or not at all. The consumer keeps its gateway key, and so what it has used of its quota.
    Raises OpsError.
    """
    now = datetime.now(UTC)
    _check(name=name, overlap=overlap, expires=expires, now=now)
    if read_consumer(clients, outputs, name=name) is None:
        raise no_consumer(name)
    until = now + overlap
    retiring = [item for item in _tokens_of(clients, outputs, name=name) if _outlives(item, until)]
    token = forms.mint()
    writes = [
        _still_there(outputs, name=name),
        {"Put": {
            "TableName": output(outputs, "tokens_table"), "Item": token_item(token, consumer=name, expires=expires),
            "ConditionExpression": "attribute_not_exists(token_hash)",
        }},
        *(_retire(outputs, item, until=until) for item in retiring),
    ]  # fmt: skip
    if len(writes) > _MOST_IN_A_TRANSACTION:
        raise OpsError(f"consumer {name} has {len(retiring)} tokens, too many to retire at once; revoke some first")
    with calling(f"rotating the token of consumer {name}"):
        try:
            clients["dynamodb"].transact_write_items(TransactItems=writes, ClientRequestToken=secrets.token_hex(16))
        except clients["dynamodb"].exceptions.TransactionCanceledException:
            raise OpsError(f"consumer {name} or a token of it was changed meanwhile; rotate again") from None
    created = CreatedToken(consumer=name, token=token, expires=expires)
    return Rotation(created=created, retired=len(retiring), until=until)


def revoke_token(clients: Clients, outputs: Outputs, *, token: str) -> TokenSummary:
    """Refuse one token from now on; `token` is the token itself, or the beginning of its hash as `list` shows it.

    The authorizer reads the table consistently, so it takes effect as soon as the gateway's cached answer is over.
    Raises OpsError when there is no such token.
    """
    token_hash = _find_hash(clients, outputs, token=token)
    with calling("revoking the token"):
        try:
            item = clients["dynamodb"].update_item(
                TableName=output(outputs, "tokens_table"),
                Key={"token_hash": {"S": token_hash}},
                UpdateExpression="SET #status = :revoked",
                ConditionExpression="attribute_exists(token_hash)",
                ExpressionAttributeNames={"#status": "status"},
                ExpressionAttributeValues={":revoked": {"S": "revoked"}},
                ReturnValues="ALL_NEW",
            )["Attributes"]
        except clients["dynamodb"].exceptions.ConditionalCheckFailedException:
            raise OpsError("no such token in this stack; see modelkeep keys list") from None
    return token_summary(item)


def token_item(token: str, *, consumer: str, expires: datetime | None) -> dict[str, Any]:
    """The row of a new token."""
    item = {
        "token_hash": {"S": forms.digest(token)},
        "consumer": {"S": consumer},
        "created": {"N": str(int(time.time()))},
        "status": {"S": "active"},
    }
    return item if expires is None else {**item, "expires": _seconds(expires)}


def _check(*, name: str, overlap: timedelta, expires: datetime | None, now: datetime) -> None:
    if name.startswith(CONSUMER_PREFIX):
        raise OpsError(f"consumer {name} has no token; whoever signs in gets one from the identity provider")
    if overlap < timedelta(0):
        raise OpsError(f"overlap {overlap} is negative; give 0 to end the old tokens now")
    if expires is not None and (expires.tzinfo is None or expires <= now):
        raise OpsError(f"expiry {expires.isoformat()} is past or has no time zone; give a time to come, with its zone")


def _tokens_of(clients: Clients, outputs: Outputs, *, name: str) -> list[Item]:
    """The rows of a consumer's tokens that nobody has revoked."""
    return [
        item
        for item in scan(clients, table=output(outputs, "tokens_table"))
        if item.get("consumer", {}).get("S") == name and item["status"]["S"] == "active"
    ]


def _outlives(item: Item, until: datetime) -> bool:
    return "expires" not in item or float(item["expires"]["N"]) > until.timestamp()


def _still_there(outputs: Outputs, *, name: str) -> dict[str, Any]:
    return {"ConditionCheck": {
        "TableName": output(outputs, "consumers_table"), "Key": {"id": {"S": name}},
        "ConditionExpression": "attribute_exists(id)",
    }}  # fmt: skip


def _retire(outputs: Outputs, item: Item, *, until: datetime) -> dict[str, Any]:
    return {"Update": {
        "TableName": output(outputs, "tokens_table"), "Key": {"token_hash": item["token_hash"]},
        "UpdateExpression": "SET expires = :until", "ConditionExpression": "#status = :active",
        "ExpressionAttributeNames": {"#status": "status"},
        "ExpressionAttributeValues": {":until": _seconds(until), ":active": {"S": "active"}},
    }}  # fmt: skip


def _seconds(moment: datetime) -> dict[str, str]:
    return {"N": str(int(moment.timestamp()))}


def _find_hash(clients: Clients, outputs: Outputs, *, token: str) -> str:
    if token.startswith(forms.PREFIX):
        try:
            forms.verify(token)
        except forms.MalformedToken as error:
            raise OpsError(f"this is {error}; copy it again, or give its id from modelkeep keys list") from None
        return forms.digest(token)
    if _HASH_PREFIX.fullmatch(token) is None:
        raise OpsError("neither a token nor the id of one; give the token, or its id from modelkeep keys list")
    found = [
        item["token_hash"]["S"]
        for item in scan(clients, table=output(outputs, "tokens_table"))
        if item["token_hash"]["S"].startswith(token)
    ]
    if len(found) != 1:
        raise OpsError(f"{len(found)} tokens have the id {token}; see modelkeep keys list")
    return str(found[0])
