"""DynamoDB and KMS as far as the authorizer uses them, as plain data; and an authorizer over them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from infra.routes import ROUTES
from lambdas import authorizer, tokens
from lambdas.authorizer import Decision, Guard
from lambdas.consumers import ConsumerStore
from lambdas.environment import AuthorizerEnvironment
from lambdas.oidc import Oidc
from lambdas.policy import Route

STAGE = "arn:aws:execute-api:eu-west-1:123456789012:abc123/v1"
ARN = f"{STAGE}/POST/chat/completions"
TOKEN = tokens.mint()
NOW = 1_800_000_000.0
TODAY = "2027-01-15"
ADDRESS = "203.0.113.9"
PLANS = {
    "demo": {"tokens_per_day": "1000", "tokens_per_month": "*"},
    "gold": {"tokens_per_day": "5000", "tokens_per_month": "90000"},
}


class Tables:
    """The rows, what was decrypted and written, and how often anything was asked."""

    def __init__(self) -> None:
        self.tokens: dict[str, dict[str, Any]] = {
            tokens.digest(TOKEN): {
                "token_hash": {"S": tokens.digest(TOKEN)}, "consumer": {"S": "alice"}, "status": {"S": "active"},
            }
        }  # fmt: skip
        self.consumers: dict[str, dict[str, Any]] = {"alice": self.row("alice", plan="demo")}
        self.decryptions = 0
        self.reads = 0
        self.writes: list[dict[str, Any]] = []
        self.failure: Exception | None = None  # of the write

    @staticmethod
    def row(name: str, *, plan: str) -> dict[str, Any]:
        return {
            "plan": {"S": plan}, "models": {"SS": ["b-model", "a-model"]}, "tasks": {"S": "*"},
            "status": {"S": "active"}, "gateway_key": {"B": f"{name}:key-of-{name}-0123456789".encode()},
        }  # fmt: skip

    @property
    def token(self) -> dict[str, Any]:
        return self.tokens[tokens.digest(TOKEN)]

    def get_item(self, *, TableName: str, Key: Mapping[str, Any], ConsistentRead: bool) -> dict[str, Any]:  # noqa: N803
        assert (TableName, ConsistentRead) == ("C", True)
        self.reads += 1
        item = self.consumers.get(Key["id"]["S"])
        return {} if item is None else {"Item": item}

    def batch_get_item(self, *, RequestItems: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N803
        ((table, asked),) = RequestItems.items()
        assert (table, asked["ConsistentRead"]) == ("T", True)
        self.reads += 1
        hashes = [each["token_hash"]["S"] for each in asked["Keys"]]
        assert len(set(hashes)) == len(hashes)  # DynamoDB refuses a key that is named twice
        return {"Responses": {"T": [self.tokens[each] for each in hashes if each in self.tokens]}}

    def update_item(self, **request: Any) -> None:
        if self.failure is not None:
            raise self.failure
        self.writes.append(request)

    def decrypt(self, *, CiphertextBlob: bytes, EncryptionContext: Mapping[str, str]) -> dict[str, Any]:  # noqa: N803
        self.decryptions += 1
        consumer, _, value = CiphertextBlob.partition(b":")
        if EncryptionContext != {"consumer": consumer.decode()}:
            raise ClientError({"Error": {"Code": "InvalidCiphertextException", "Message": ""}}, "Decrypt")
        return {"Plaintext": value}


def make_store(tables: Tables) -> ConsumerStore:
    return ConsumerStore(dynamodb=tables, kms=tables, consumers_table="C", tokens_table="T")


def make_guard(tables: Tables, *, oidc: Oidc | None = None) -> Guard:
    environment = AuthorizerEnvironment(
        stack="test", consumers_table="C", tokens_table="T", plans=PLANS, oidc=None,
        routes=tuple(Route(pattern=each.pattern, task=each.task) for each in ROUTES),
    )  # fmt: skip
    return Guard(environment=environment, store=make_store(tables), oidc=oidc)


def request(
    token: str = TOKEN, *, header: str = "Authorization", scheme: str = "Bearer ", address: str = ADDRESS
) -> dict[str, Any]:
    return {
        "type": "REQUEST",
        "methodArn": ARN,
        "headers": {header: f"{scheme}{token}"},
        "requestContext": {
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "identity": {"sourceIp": address},
        },
    }


def ask(tables: Tables, event: Mapping[str, Any], *, now: float = NOW, oidc: Oidc | None = None) -> Decision:
    return authorizer.authorize(event, guard=make_guard(tables, oidc=oidc), now=now)


@contextmanager
def handled_by(tables: Tables) -> Iterator[None]:
    guard = make_guard(tables)
    original, authorizer._guard = authorizer._guard, lambda: guard  # type: ignore[assignment]
    try:
        yield
    finally:
        authorizer._guard = original
