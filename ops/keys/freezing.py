"""The emergency brake: one consumer, or the whole stack, is refused from now on, and let in again.

The authorizer looks at both at once. What the gateway still keeps of its answers is dropped, so that it asks again.
"""

import time
from dataclasses import dataclass

from lambdas.consumers import STACK_ROW
from ops.errors import OpsError
from ops.keys.stack import Clients, Outputs, calling, no_consumer, output


@dataclass(frozen=True)
class Effect:
    """How long the gateway may go by an answer of before: `seconds`, or seconds at most once they were `dropped`.

    `problem` says why they could not be.
    """

    seconds: int
    dropped: bool = False
    problem: str | None = None

    def sentence(self) -> str:
        """For the operator."""
        if self.seconds == 0:
            return "effective at once: the gateway keeps no answers (api.authorizer_cache_seconds is 0)"
        if self.dropped:
            return f"effective in seconds: the gateway's kept answers were dropped (else {self.seconds} s)"
        why = "" if self.problem is None else f"; its kept answers could not be dropped: {self.problem}"
        return f"effective within {self.seconds} s, for which the gateway keeps answers{why}"


def kept_answers(outputs: Outputs) -> Effect:
    """How long the gateway keeps answers, which are left where they are; raises OpsError."""
    return Effect(seconds=int(output(outputs, "authorizer_cache_seconds")))


def freeze_consumer(clients: Clients, outputs: Outputs, *, name: str, frozen: bool) -> Effect:
    """Refuse a consumer, or with `frozen` false let it in again; raises OpsError."""
    with calling(f"writing the status of consumer {name}"):
        try:
            clients["dynamodb"].update_item(
                TableName=output(outputs, "consumers_table"),
                Key={"id": {"S": name}},
                UpdateExpression="SET #status = :status",
                ConditionExpression="attribute_exists(id)",
                ExpressionAttributeNames={"#status": "status"},
                ExpressionAttributeValues={":status": {"S": "frozen" if frozen else "active"}},
            )
        except clients["dynamodb"].exceptions.ConditionalCheckFailedException:
            raise no_consumer(name) from None
    return _drop_answers(clients, outputs)


def freeze_stack(clients: Clients, outputs: Outputs, *, frozen: bool) -> Effect:
    """Refuse every consumer, those to come as well, or let in those that are not frozen themselves; raises OpsError."""
    table = output(outputs, "tokens_table")
    with calling("writing the state of the stack"):
        if frozen:
            since = {"N": str(int(time.time()))}
            row = {"token_hash": {"S": STACK_ROW}, "status": {"S": "frozen"}, "created": since}
            clients["dynamodb"].put_item(TableName=table, Item=row)
        else:
            clients["dynamodb"].delete_item(TableName=table, Key={"token_hash": {"S": STACK_ROW}})
    return _drop_answers(clients, outputs)


def is_frozen(clients: Clients, outputs: Outputs) -> bool:
    """Whether the whole stack is frozen; raises OpsError."""
    with calling("reading the state of the stack"):
        answer = clients["dynamodb"].get_item(
            TableName=output(outputs, "tokens_table"), Key={"token_hash": {"S": STACK_ROW}}, ConsistentRead=True
        )
    return "Item" in answer


def _drop_answers(clients: Clients, outputs: Outputs) -> Effect:
    """Have the gateway forget what the authorizer answered; where it cannot be told to, that time has to pass."""
    seconds = kept_answers(outputs).seconds
    if seconds == 0:
        return Effect(seconds=0)
    try:
        with calling("dropping the gateway's answers"):
            clients["apigateway"].flush_stage_authorizers_cache(
                restApiId=output(outputs, "api_id"), stageName=output(outputs, "stage_name")
            )
    except OpsError as error:
        return Effect(seconds=seconds, problem=str(error))
    return Effect(seconds=seconds, dropped=True)
