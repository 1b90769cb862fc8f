"""Reads tokens and consumers from their tables, and a consumer's gateway key from its ciphertext."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lambdas.errors import ConfigurationError

ALL = "*"
KEPT_KEYS = 1024


@dataclass(frozen=True)
class Token:
    """A row of the tokens table; `expires` in seconds since 1970, None for never."""

    consumer: str
    status: str
    expires: int | None

    def usable(self, *, now: float) -> bool:
        """Whether the token opens anything now; DynamoDB deletes expired rows only days later."""
        return self.status == "active" and (self.expires is None or now < self.expires)


@dataclass(frozen=True)
class Consumer:
    """A row of the consumers table; `models` and `tasks` are "*" or names separated by commas."""

    id: str
    plan: str
    models: str
    tasks: str
    status: str
    gateway_key: bytes  # ciphertext

    @property
    def active(self) -> bool:
        """Whether the consumer may call at all."""
        return self.status == "active"

    def context(self) -> dict[str, str]:
        """What the integration passes on to the server; API Gateway takes texts only."""
        return {"consumer": self.id, "plan": self.plan, "models": self.models, "tasks": self.tasks}


class ConsumerStore:
    """The two tables and the key that encrypts gateway keys; botocore errors pass through: the request fails closed."""

    def __init__(self, *, dynamodb: Any, kms: Any, consumers_table: str, tokens_table: str) -> None:
        self._dynamodb = dynamodb
        self._kms = kms
        self._consumers_table = consumers_table
        self._tokens_table = tokens_table
        self._gateway_keys: OrderedDict[tuple[str, bytes], str] = OrderedDict()

    def token(self, token_hash: str) -> Token | None:
        """The token with this hash, None when there is none; read consistently, so that a revocation counts at once."""
        item = self._item(table=self._tokens_table, key="token_hash", value=token_hash)
        if item is None:
            return None
        expires = _optional(item, "expires", kind="N")
        return Token(
            consumer=_text(item, "consumer"),
            status=_text(item, "status"),
            expires=None if expires is None else int(float(expires)),
        )

    def consumer(self, consumer_id: str) -> Consumer | None:
        """The consumer with this id, None when there is none."""
        item = self._item(table=self._consumers_table, key="id", value=consumer_id)
        if item is None:
            return None
        ciphertext = _optional(item, "gateway_key", kind="B")
        if not isinstance(ciphertext, bytes) or not ciphertext:
            raise ConfigurationError(f"consumer {consumer_id} has no gateway key; create the consumer again")
        return Consumer(
            id=consumer_id,
            plan=_text(item, "plan"),
            models=_names(item, "models"),
            tasks=_names(item, "tasks"),
            status=_text(item, "status"),
            gateway_key=ciphertext,
        )

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

    def _item(self, *, table: str, key: str, value: str) -> Mapping[str, Any] | None:
        answer = self._dynamodb.get_item(TableName=table, Key={key: {"S": value}}, ConsistentRead=True)
        item: Mapping[str, Any] | None = answer.get("Item")
        return item


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
