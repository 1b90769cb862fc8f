"""Consumers made and listed: an API Gateway key, its ciphertext, and a row; together or not at all."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from lambdas import tokens as forms
from lambdas.consumers import STACK_ROW
from lambdas.oidc import CONSUMER_PREFIX
from ops.errors import OpsError
from ops.key_summaries import ConsumerSummary, Names, TokenSummary, consumer_summary, token_summary
from ops.keys.stack import Clients, Outputs, calling, output, read_consumer, scan
from ops.keys.tokens import CreatedToken, token_item
from ops.keys.wanted import Wanted, usage_plans


def create_consumer(
    clients: Clients,
    outputs: Outputs,
    *,
    name: str,
    plan: str,
    models: Names,
    tasks: Names,
    expires: datetime | None = None,
    source_cidrs: Sequence[str] = (),
    contact: str | None = None,
) -> CreatedToken:
    """Make a consumer on a usage plan of the stack, with its first token; `expires` needs a time zone, None is never.

    The consumer and its token appear together or not at all: everything they need is made before, in one transaction
    they are written, and after a failure what was made is taken away again. Raises OpsError.
    """
    wanted = Wanted(
        name=name, plan=plan, models=models, tasks=tasks, expires=expires,
        source_cidrs=tuple(source_cidrs), contact=contact,
    )  # fmt: skip
    return create(clients, outputs, wanted)


def create(clients: Clients, outputs: Outputs, wanted: Wanted) -> CreatedToken:
    """As `create_consumer`, of a consumer that was described before."""
    if wanted.name.startswith(CONSUMER_PREFIX):
        raise OpsError(f"consumer {wanted.name} would be one of those who sign in; use --oidc, or another name")
    wanted.refuse(outputs)
    token = forms.mint()
    _make(clients, outputs, wanted, token=token)
    return CreatedToken(consumer=wanted.name, token=token, expires=wanted.expires)


def create_oidc_consumer(
    clients: Clients,
    outputs: Outputs,
    *,
    plan: str,
    models: Names = "*",
    tasks: Names = "*",
    source_cidrs: Sequence[str] = (),
    contact: str | None = None,
) -> str:
    """Make the consumer whose gateway key, scopes and addresses hold for whoever signs in and has this plan.

    It has no token; each of them has a token budget of its own. Returns its name; raises OpsError.
    """
    wanted = Wanted(
        name=f"{CONSUMER_PREFIX}{plan}", plan=plan, models=models, tasks=tasks,
        source_cidrs=tuple(source_cidrs), contact=contact,
    )  # fmt: skip
    wanted.refuse(outputs)
    _make(clients, outputs, wanted, token=None)
    return wanted.name


def list_consumers(clients: Clients, outputs: Outputs) -> list[ConsumerSummary]:
    """Every consumer of the stack by id, each with its tokens, oldest first; raises OpsError."""
    held: dict[str, list[TokenSummary]] = {}
    for item in scan(clients, table=output(outputs, "tokens_table")):
        if item["token_hash"]["S"] != STACK_ROW:
            held.setdefault(item["consumer"]["S"], []).append(token_summary(item))
    summaries = [
        consumer_summary(item, tokens=held.get(item["id"]["S"], []))
        for item in scan(clients, table=output(outputs, "consumers_table"))
    ]
    return sorted(summaries, key=lambda consumer: consumer.id)


def exists(name: str) -> OpsError:
    """What to say of a name that somebody has."""
    return OpsError(f"consumer {name} exists already; choose another name, or see modelkeep keys list")


def _make(clients: Clients, outputs: Outputs, wanted: Wanted, *, token: str | None) -> None:
    name = wanted.name
    if read_consumer(clients, outputs, name=name) is not None:
        raise exists(name)
    value = secrets.token_urlsafe(32)
    with calling(f"creating the API Gateway key of consumer {name}"):
        key_id = clients["apigateway"].create_api_key(
            name=f"modelkeep-{name}", description="Counts a consumer's requests; handed to nobody.",
            enabled=True, value=value,
        )["id"]  # fmt: skip
    try:
        with calling(f"adding consumer {name} to usage plan {wanted.plan}"):
            clients["apigateway"].create_usage_plan_key(
                usagePlanId=usage_plans(outputs)[wanted.plan], keyId=key_id, keyType="API_KEY"
            )
        with calling(f"encrypting the gateway key of consumer {name}"):
            ciphertext = clients["kms"].encrypt(
                KeyId=output(outputs, "consumers_key_arn"),
                Plaintext=value.encode(),
                EncryptionContext={"consumer": name},
            )["CiphertextBlob"]
        row = None if token is None else token_item(token, consumer=name, expires=wanted.expires)
        _write(clients, outputs, consumer=wanted.item(key_id=key_id, ciphertext=ciphertext), token=row)
    except BaseException as error:
        _take_away(clients, outputs, name=name, key_id=key_id, token=token, cause=error)
        raise


def _write(clients: Clients, outputs: Outputs, *, consumer: dict[str, Any], token: dict[str, Any] | None) -> None:
    """Put a consumer, and its token if it has one, in one transaction, unless there is a consumer of that id."""
    rows = [("consumers_table", consumer, "id"), *([] if token is None else [("tokens_table", token, "token_hash")])]
    puts = [
        {"Put": {
            "TableName": output(outputs, table), "Item": item, "ConditionExpression": f"attribute_not_exists({key})"
        }}
        for table, item, key in rows
    ]  # fmt: skip
    with calling(f"writing consumer {consumer['id']['S']}"):
        try:
            clients["dynamodb"].transact_write_items(TransactItems=puts, ClientRequestToken=secrets.token_hex(16))
        except clients["dynamodb"].exceptions.TransactionCanceledException as error:
            reasons = [reason.get("Code") for reason in error.response.get("CancellationReasons", [])]
            if reasons[:1] == ["ConditionalCheckFailed"]:
                raise exists(consumer["id"]["S"]) from None
            raise


def _take_away(
    clients: Clients, outputs: Outputs, *, name: str, key_id: str, token: str | None, cause: BaseException
) -> None:
    """Undo a creation that failed. The rows first: the answer to a write that did happen may have been lost."""
    try:
        with calling("undoing it"):
            if token is not None:
                clients["dynamodb"].delete_item(
                    TableName=output(outputs, "tokens_table"), Key={"token_hash": {"S": forms.digest(token)}}
                )
            try:
                clients["dynamodb"].delete_item(
                    TableName=output(outputs, "consumers_table"),
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
