"""Tells of consumers that come to the end of a token budget: 80 % and 100 % of a day's or a month's, once each.

Lambda hands over the changes of the budgets table, each row before and after. What is settled (used, without what is
reserved for requests under way) only grows within a day or month, so a threshold lies between the two images of one
change and of no other. Nothing is kept, and a message holds names and numbers, never a token or a text. A change that
Lambda hands over twice is told of twice. Runs with the standard library and boto3.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lambdas.environment import BudgetAlertsEnvironment

Period = Literal["day", "month"]
Image = Mapping[str, Mapping[str, Any]]

PERIODS: tuple[Period, ...] = ("day", "month")
THRESHOLDS = (80, 100)  # per cent
_RESERVATION = "r_"


@dataclass(frozen=True)
class Alert:
    """A consumer that has passed a threshold; `which` is the day or month, `used` and `limit` are tokens."""

    consumer: str
    period: Period
    which: str
    threshold: int
    used: int
    limit: int

    @property
    def subject(self) -> str:
        """One line, which SNS takes up to 100 characters of."""
        return f"{self.consumer}: {self.threshold} % of the {self.period}'s tokens"[:100]

    def text(self, *, stack: str) -> str:
        """The message for a person."""
        until = f"until the {self.period} is over (UTC)"
        refused = "Requests that do not fit into what is left are refused with 429 token_budget_exceeded"
        return (
            f"Consumer {self.consumer} of stack {stack} has used {self.used:,} of {self.limit:,} tokens "
            f"({100 * self.used / self.limit:.1f} %) of the {self.period} {self.which}.\n\n"
            f"{f'{refused}, {until}.' if self.threshold == 100 else f'{refused}.'}\n"
            f"See `modelkeep keys usage --month {self.which[:7]} --consumer {self.consumer} --stack {stack}`.\n"
        )

    def attributes(self) -> dict[str, Any]:
        """What a subscription can filter by, such as one consumer's own contact."""
        values = {"consumer": self.consumer, "period": self.period, "threshold": str(self.threshold)}
        return {name: {"DataType": "String", "StringValue": value} for name, value in values.items()}


@dataclass(frozen=True)
class _Use:
    """What an image says of one period; `refused` is whether a request did not fit any more."""

    which: str
    settled: int
    limit: int | None
    refused: bool

    def has_passed(self, threshold: int) -> bool:
        """A budget is at its end also where a request was refused: what is left is rarely what one asks for."""
        if self.limit is None:
            return False
        at_end = self.refused and 100 * self.settled >= THRESHOLDS[0] * self.limit
        return 100 * self.settled >= threshold * self.limit or (threshold == 100 and at_end)


def handler(event: Any, context: Any) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Publish the alerts of a batch of changes; names the first change that failed, from which on Lambda goes on."""
    environment = BudgetAlertsEnvironment.read(os.environ)
    options = Config(connect_timeout=2, read_timeout=10, retries={"mode": "standard", "max_attempts": 3})
    return tell(event, environment, sns=boto3.client("sns", config=options))


def tell(event: Mapping[str, Any], environment: BudgetAlertsEnvironment, *, sns: Any) -> dict[str, Any]:
    """What `handler` does, with a client of SNS."""
    for record in event.get("Records", []):
        for alert in alerts(record):
            try:
                sns.publish(
                    TopicArn=environment.topic_arn,
                    Subject=alert.subject,
                    Message=alert.text(stack=environment.stack),
                    MessageAttributes=alert.attributes(),
                )
            except (BotoCoreError, ClientError) as error:
                _log("alert_failed", exception=type(error).__name__, consumer=alert.consumer)
                return {"batchItemFailures": [{"itemIdentifier": record["dynamodb"]["SequenceNumber"]}]}
            _log("alert", consumer=alert.consumer, period=alert.period, which=alert.which, threshold=alert.threshold)
    return {"batchItemFailures": []}


def alerts(record: Mapping[str, Any]) -> Iterator[Alert]:
    """The thresholds that one change of a row passes; the highest alone of each period."""
    change = record.get("dynamodb", {})
    new, old = change.get("NewImage"), change.get("OldImage", {})
    if record.get("eventName") not in ("INSERT", "MODIFY") or not new:
        return
    for period in PERIODS:
        now, before = _use(new, period), _use(old, period)
        is_same = now.which == before.which
        passed = [each for each in THRESHOLDS if now.has_passed(each) and not (is_same and before.has_passed(each))]
        if passed and now.limit is not None:
            yield Alert(
                consumer=new["consumer"]["S"],
                period=period,
                which=now.which,
                threshold=max(passed),
                used=now.settled,
                limit=now.limit,
            )


def _use(image: Image, period: Period) -> _Use:
    """model_image/budget_table.py says what the attributes are."""
    which = image.get("today" if period == "day" else "month", {}).get("S", "")
    under_way = [value["M"] for name, value in image.items() if name.startswith(_RESERVATION)]
    reserved = sum(int(each["n"]["N"]) for each in under_way if period == "month" or each["d"]["S"] == which[-2:])
    limit = image.get(f"limit_{period}", {}).get("N")
    return _Use(
        which=which,
        settled=int(image.get(f"used_{period}", {}).get("N", 0)) - reserved,
        limit=None if limit is None else max(1, int(limit)),
        refused=bool(which) and image.get(f"refused_{period}", {}).get("S") == which,
    )


def _log(event: str, **fields: str | int) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
