"""Reads tokens and consumers from their tables, and a consumer's gateway key from its ciphertext."""

import ipaddress
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from lambdas.errors import ConfigurationError, LambdaError

ALL = "*"
KEPT_KEYS = 1024
# A row of the tokens table that is no token: with it, the whole stack is frozen. No SHA-256 is written so.
STACK_ROW = "*"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Token:
    """A row of the tokens table; `expires` in seconds since 1970, None for never; `last_used` a day, None for never."""

    hash: str
    consumer: str
    status: str
    expires: int | None
    last_used: str | None

    @property
    def active(self) -> bool:
        """Whether nobody has revoked it."""
        return self.status == "active"

    def expired(self, *, now: float) -> bool:
        """Whether its time is over; DynamoDB deletes expired rows only days later."""
        return self.expires is not None and now >= self.expires


@dataclass(frozen=True)
class Consumer:
    """A row of the consumers table; `models` and `tasks` are "*" or names separated by commas."""

    id: str
    plan: str
    models: str
    tasks: str
    status: str
    networks: tuple[Network, ...]  # where it may call from; empty for anywhere
    gateway_key: bytes  # ciphertext

    @property
    def active(self) -> bool:
        """Whether the consumer may call at all."""
        return self.status == "active"

    def admits(self, address: object) -> bool:
        """Whether it may call from this address, which is what API Gateway says; nothing that is none."""
        if not self.networks:
            return True
        try:
            found = ipaddress.ip_address(address) if isinstance(address, str) else None
        except ValueError:
            return False
        return found is not None and any(found.version == each.version and found in each for each in self.networks)


class TablesBusy(LambdaError):  # noqa: N818  (what they are)
    """DynamoDB did not answer for every row that was asked for; the request fails closed."""


class ConsumerStore:
    """The two tables and the key that encrypts gateway keys; botocore errors pass through: the request fails closed."""

    def __init__(
        self, *, dynamodb: Any, kms: Any, consumers_table: str, tokens_table: str, writer: Any | None = None
    ) -> None:
        """`writer` is a DynamoDB client that gives up early, for the one write; without it, `dynamodb` is."""
        self._dynamodb = dynamodb
        self._writer = dynamodb if writer is None else writer
        self._kms = kms
        self._consumers_table = consumers_table
        self._tokens_table = tokens_table
        self._gateway_keys: OrderedDict[tuple[str, bytes], str] = OrderedDict()

    def token(self, token_hash: str) -> tuple[Token | None, bool]:
        """The token with this hash, None when there is none, and whether the whole stack is frozen.

        Read consistently, so that a revocation and a freeze count at once.
        """
        rows = self._token_rows(token_hash, STACK_ROW)
        item = rows.get(token_hash)
        return None if item is None else _token(item), _froze(rows)

    def frozen(self) -> bool:
        """Whether the whole stack is frozen."""
        return _froze(self._token_rows(STACK_ROW))

    def consumer(self, consumer_id: str) -> Consumer | None:
        """The consumer with this id, None when there is none."""
        answer = self._dynamodb.get_item(
            TableName=self._consumers_table, Key={"id": {"S": consumer_id}}, ConsistentRead=True
        )
        item = answer.get("Item")
        return None if item is None else _consumer(consumer_id, item)

    def note_use(self, token: Token, *, day: str) -> bool:
        """Write that the token was used on this day; False where somebody else has written so meanwhile."""
        try:
            self._writer.update_item(
                TableName=self._tokens_table,
                Key={"token_hash": {"S": token.hash}},
                UpdateExpression="SET last_used = :day",
                ConditionExpression="attribute_exists(token_hash) AND "
                "(attribute_not_exists(last_used) OR last_used < :day)",
                ExpressionAttributeValues={":day": {"S": day}},
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return False
        return True

    def gateway_key(self, consumer: Consumer) -> str:
        """The value of the consumer's API Gateway key, decrypted once per ciphertext and then kept in memory."""
        slot = (consumer.id, consumer.gateway_key)
        if slot not in self._gateway_keys:
            answer = self._kms.decrypt(CiphertextBlob=consumer.gateway_key, EncryptionContext={"consumer": consumer.id})
            self._gateway_keys[slot] = answer["Plaintext"].decode("ascii")
            if len(self._gateway_keys) > KEPT_KEYS:
                self._gateway_keys.popitem(last=False)
        self._gateway_keys.move_to_end(slot)
        return self._gateway_keys[slot]

    def _token_rows(self, *hashes: str) -> dict[str, Mapping[str, Any]]:
        """Rows of the tokens table by their hash, in one call."""
        keys = [{"token_hash": {"S": each}} for each in hashes]
        answer = self._dynamodb.batch_get_item(
            RequestItems={self._tokens_table: {"Keys": keys, "ConsistentRead": True}}
        )
        if answer.get("UnprocessedKeys"):
            raise TablesBusy(f"table {self._tokens_table} is throttled; see its metrics")
        return {item["token_hash"]["S"]: item for item in answer["Responses"].get(self._tokens_table, [])}


def _froze(rows: Mapping[str, Mapping[str, Any]]) -> bool:
    return STACK_ROW in rows and _text(rows[STACK_ROW], "status") != "active"


def _token(item: Mapping[str, Any]) -> Token:
    expires = _optional(item, "expires", kind="N")
    return Token(
        hash=_text(item, "token_hash"),
        consumer=_text(item, "consumer"),
        status=_text(item, "status"),
        expires=None if expires is None else int(float(expires)),
        last_used=_optional(item, "last_used", kind="S"),
    )


def _consumer(consumer_id: str, item: Mapping[str, Any]) -> Consumer:
    ciphertext = _optional(item, "gateway_key", kind="B")
    if not isinstance(ciphertext, bytes) or not ciphertext:
        raise ConfigurationError(f"consumer {consumer_id} has no gateway key; create the consumer again")
    try:
        networks = tuple(ipaddress.ip_network(each) for each in _optional(item, "source_cidrs", kind="SS") or ())
    except ValueError:
        raise ConfigurationError(f"consumer {consumer_id} has source_cidrs that are none; write them again") from None
    if "source_cidrs" in item and not networks:
        raise ConfigurationError(f"consumer {consumer_id} has source_cidrs without one; remove them or write some")
    return Consumer(
        id=consumer_id,
        plan=_text(item, "plan"),
        models=_names(item, "models"),
        tasks=_names(item, "tasks"),
        status=_text(item, "status"),
        networks=networks,
        gateway_key=ciphertext,
    )


def _optional(item: Mapping[str, Any], name: str, *, kind: str) -> Any:
    return item.get(name, {}).get(kind)


def _text(item: Mapping[str, Any], name: str) -> str:
    value = _optional(item, name, kind="S")
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"a row of the consumers or tokens table has no text in {name}; create it again")
    return value


def _names(item: Mapping[str, Any], name: str) -> str:
    """A set of names, or "*" for all; an absent or empty one would silently mean either, so it is an error."""
    names = _optional(item, name, kind="SS")
    if names:
        return ",".join(sorted(names))
    if _optional(item, name, kind="S") == ALL:
        return ALL
    raise ConfigurationError(f"a row of the consumers table has neither names nor * in {name}; create it again")
