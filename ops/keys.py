"""Consumers of a deployed stack and their tokens: made, listed, revoked.

A consumer owns one API Gateway key whose value nobody is handed: it stands encrypted in the consumers table, for the
authorizer to answer with. What the consumer holds is a token, of which only the SHA-256 is kept.
"""

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lambdas import tokens
from ops.errors import OpsError
from ops.key_summaries import ConsumerSummary, Names, TokenSummary, consumer_summary, token_summary

Clients = Mapping[str, Any]  # apigateway, dynamodb, kms

TASKS = ("completions", "chat", "embeddings", "sentiment", "keywords", "augmentation", "fill-mask")
_CONSUMER = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # no comma: the authorizer passes them on as one text
_HASH_PREFIX = re.compile(r"[0-9a-f]{12,64}")


@dataclass(frozen=True)
class CreatedToken:
    """A new token; `token` is shown to its holder once and kept nowhere."""

    consumer: str
    token: str = field(repr=False)
    expires: datetime | None


def create_consumer(
    clients: Clients,
    outputs: Mapping[str, Any],
    *,
    name: str,
    plan: str,
    models: Names,
    tasks: Names,
    expires: datetime | None = None,
) -> CreatedToken:
    """Make a consumer on a usage plan of the stack, with its first token; `expires` needs a time zone, None is never.

    The consumer and its token appear together or not at all: everything they need is made before, in one transaction
    they are written, and after a failure what was made is taken away again. Raises OpsError.
    """
    plan_id = _check(outputs, name=name, plan=plan, models=models, tasks=tasks, expires=expires)
    if _read_consumer(clients, outputs, name=name) is not None:
        raise _exists(name)
    value = secrets.token_urlsafe(32)
    with _aws(f"creating the API Gateway key of consumer {name}"):
        key_id = clients["apigateway"].create_api_key(
            name=f"modelkeep-{name}", description="Counts a consumer's requests; handed to nobody.",
            enabled=True, value=value,
        )["id"]  # fmt: skip
    token = tokens.mint()
    try:
        with _aws(f"adding consumer {name} to usage plan {plan}"):
            clients["apigateway"].create_usage_plan_key(usagePlanId=plan_id, keyId=key_id, keyType="API_KEY")
        with _aws(f"encrypting the gateway key of consumer {name}"):
            ciphertext = clients["kms"].encrypt(
                KeyId=_output(outputs, "consumers_key_arn"),
                Plaintext=value.encode(),
                EncryptionContext={"consumer": name},
            )["CiphertextBlob"]
        item = {
            "id": {"S": name},
            "name": {"S": name},
            "plan": {"S": plan},
            "models": _attribute(models),
            "tasks": _attribute(tasks),
            "status": {"S": "active"},
            "gateway_key_id": {"S": key_id},
            "gateway_key": {"B": ciphertext},
        }
        _write(clients, outputs, consumer=item, token_item=_token_item(token, consumer=name, expires=expires))
    except BaseException as error:
        _take_away(clients, outputs, name=name, key_id=key_id, token_hash=tokens.digest(token), cause=error)
        raise
    return CreatedToken(consumer=name, token=token, expires=expires)


def list_consumers(clients: Clients, outputs: Mapping[str, Any]) -> list[ConsumerSummary]:
    """Every consumer of the stack by id, each with its tokens, oldest first; raises OpsError."""
    held: dict[str, list[TokenSummary]] = {}
    for item in _scan(clients, table=_output(outputs, "tokens_table")):
        held.setdefault(item["consumer"]["S"], []).append(token_summary(item))
    summaries = [
        consumer_summary(item, tokens=held.get(item["id"]["S"], []))
        for item in _scan(clients, table=_output(outputs, "consumers_table"))
    ]
    return sorted(summaries, key=lambda consumer: consumer.id)


def revoke_token(clients: Clients, outputs: Mapping[str, Any], *, token: str) -> TokenSummary:
    """Refuse a token from now on; `token` is the token itself or the id that `list_consumers` shows.

    The authorizer reads the table consistently, so it takes effect as soon as the gateway's cached answer is over.
    Raises OpsError when there is no such token.
    """
    token_hash = _find_hash(clients, outputs, token=token)
    with _aws("revoking the token"):
        try:
            item = clients["dynamodb"].update_item(
                TableName=_output(outputs, "tokens_table"),
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


def _check(
    outputs: Mapping[str, Any], *, name: str, plan: str, models: Names, tasks: Names, expires: datetime | None
) -> str:
    """Refuse what cannot be a consumer before anything is made; returns the id of the usage plan."""
    if _CONSUMER.fullmatch(name) is None:
        raise OpsError(
            f"consumer name {name!r} must be 1 to 63 of a-z, 0-9, '.', '_' and '-', and start with a-z or 0-9"
        )
    plans = outputs.get("usage_plan_ids")
    if not isinstance(plans, Mapping):
        raise OpsError("the stack has no output usage_plan_ids; deploy it with this version of the program first")
    if plan not in plans:
        raise OpsError(f"plan {plan!r} does not exist; the stack's plans are {', '.join(sorted(plans))}")
    for model in () if models == "*" else models:
        if _MODEL.fullmatch(model) is None:
            raise OpsError(f"model {model!r} is not a model name; use letters, digits, '.', '_' and '-'")
    for task in () if tasks == "*" else tasks:
        if task not in TASKS:
            raise OpsError(f"task {task!r} does not exist; tasks are {', '.join(TASKS)}")
    if not models or not tasks:
        raise OpsError(f"consumer {name} would have no model or no task; name some, or '*' for all")
    if expires is not None and (expires.tzinfo is None or expires <= datetime.now(UTC)):
        raise OpsError(f"expiry {expires.isoformat()} is past or has no time zone; give a time to come, with its zone")
    return str(plans[plan])


def _write(
    clients: Clients, outputs: Mapping[str, Any], *, consumer: dict[str, Any], token_item: dict[str, Any]
) -> None:
    """Put a consumer and its token in one transaction, unless there is a consumer of that id."""
    puts = [
        {"Put": {
            "TableName": _output(outputs, table), "Item": item, "ConditionExpression": f"attribute_not_exists({key})"
        }}
        for table, item, key in (
            ("consumers_table", consumer, "id"), ("tokens_table", token_item, "token_hash"),
        )
    ]  # fmt: skip
    with _aws(f"writing consumer {consumer['id']['S']}"):
        try:
            clients["dynamodb"].transact_write_items(TransactItems=puts, ClientRequestToken=secrets.token_hex(16))
        except clients["dynamodb"].exceptions.TransactionCanceledException as error:
            reasons = [reason.get("Code") for reason in error.response.get("CancellationReasons", [])]
            if reasons[:1] == ["ConditionalCheckFailed"]:
                raise _exists(consumer["id"]["S"]) from None
            raise


def _take_away(
    clients: Clients, outputs: Mapping[str, Any], *, name: str, key_id: str, token_hash: str, cause: BaseException
) -> None:
    """Undo a creation that failed. The rows first: the answer to a write that did happen may have been lost."""
    try:
        with _aws("undoing it"):
            clients["dynamodb"].delete_item(
                TableName=_output(outputs, "tokens_table"), Key={"token_hash": {"S": token_hash}}
            )
            try:
                clients["dynamodb"].delete_item(
                    TableName=_output(outputs, "consumers_table"),
                    Key={"id": {"S": name}},
                    ConditionExpression="gateway_key_id = :ours",
                    ExpressionAttributeValues={":ours": {"S": key_id}},
                )
            except clients["dynamodb"].exceptions.ConditionalCheckFailedException:
                pass  # it was never written, or belongs to who came first
            clients["apigateway"].delete_api_key(apiKey=key_id)
    except OpsError as error:
        raise OpsError(
            f"{cause}; and {error}. Left over: API Gateway key {key_id}, whose value nobody has; "
            f"delete it with: aws apigateway delete-api-key --api-key {key_id}"
        ) from error


def _read_consumer(clients: Clients, outputs: Mapping[str, Any], *, name: str) -> Mapping[str, Any] | None:
    with _aws(f"looking for consumer {name}"):
        item: Mapping[str, Any] | None = (
            clients["dynamodb"]
            .get_item(TableName=_output(outputs, "consumers_table"), Key={"id": {"S": name}}, ConsistentRead=True)
            .get("Item")
        )
    return item


def _find_hash(clients: Clients, outputs: Mapping[str, Any], *, token: str) -> str:
    if token.startswith(tokens.PREFIX):
        try:
            tokens.verify(token)
        except tokens.MalformedToken as error:
            raise OpsError(f"this is {error}; copy it again, or give its id from modelkeep keys list") from None
        return tokens.digest(token)
    if _HASH_PREFIX.fullmatch(token) is None:
        raise OpsError("neither a token nor the id of one; give the token, or its id from modelkeep keys list")
    found = [
        item["token_hash"]["S"]
        for item in _scan(clients, table=_output(outputs, "tokens_table"))
        if item["token_hash"]["S"].startswith(token)
    ]
    if len(found) != 1:
        raise OpsError(f"{len(found)} tokens have the id {token}; see modelkeep keys list")
    return str(found[0])


def _token_item(token: str, *, consumer: str, expires: datetime | None) -> dict[str, Any]:
    item = {
        "token_hash": {"S": tokens.digest(token)},
        "consumer": {"S": consumer},
        "created": {"N": str(int(time.time()))},
        "status": {"S": "active"},
    }
    return item if expires is None else {**item, "expires": {"N": str(int(expires.timestamp()))}}


def _scan(clients: Clients, *, table: str) -> Iterator[Mapping[str, Any]]:
    with _aws(f"reading table {table}"):
        for page in clients["dynamodb"].get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
            yield from page["Items"]


def _attribute(names: Names) -> dict[str, Any]:
    return {"S": "*"} if names == "*" else {"SS": sorted(set(names))}


def _output(outputs: Mapping[str, Any], name: str) -> str:
    if name not in outputs:
        raise OpsError(f"the stack has no output {name}; deploy it with this version of the program first")
    return str(outputs[name])


def _exists(name: str) -> OpsError:
    return OpsError(f"consumer {name} exists already; choose another name, or see modelkeep keys list")


@contextmanager
def _aws(doing: str) -> Iterator[None]:
    """Say in one line what was being done when AWS refused or could not be reached."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise OpsError(f"{doing} failed: {' '.join(str(error).split())}") from error
