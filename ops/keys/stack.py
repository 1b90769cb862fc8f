"""The stack's outputs and tables, as every command about consumers reads them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ops.errors import OpsError

Clients = Mapping[str, Any]  # apigateway, dynamodb, kms
Outputs = Mapping[str, Any]
Item = Mapping[str, Any]


def output(outputs: Outputs, name: str) -> str:
    """An output of the stack; raises OpsError for one that it does not have."""
    if name not in outputs:
        raise OpsError(f"the stack has no output {name}; deploy it with this version of the program first")
    return str(outputs[name])


@contextmanager
def calling(what: str) -> Iterator[None]:
    """Say in one line what was being done when AWS refused or could not be reached."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise OpsError(f"{what} failed: {' '.join(str(error).split())}") from error


def scan(clients: Clients, *, table: str) -> Iterator[Item]:
    """Every row of a table; raises OpsError."""
    with calling(f"reading table {table}"):
        for page in clients["dynamodb"].get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
            yield from page["Items"]


def read_consumer(clients: Clients, outputs: Outputs, *, name: str) -> Item | None:
    """A consumer's row, None where there is none; raises OpsError."""
    with calling(f"looking for consumer {name}"):
        item: Item | None = (
            clients["dynamodb"]
            .get_item(TableName=output(outputs, "consumers_table"), Key={"id": {"S": name}}, ConsistentRead=True)
            .get("Item")
        )
    return item


def no_consumer(name: str) -> OpsError:
    """What to say of a name that nobody has."""
    return OpsError(f"no consumer {name} in this stack; see modelkeep keys list")
