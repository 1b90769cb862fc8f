"""What a person should look at, and what to do then."""

from dataclasses import dataclass
from typing import Literal

from infra.components.canary import MINUTES as CANARY_MINUTES
from infra.components.watched import PERIOD_SECONDS, Metric, ObservabilityArgs, metrics

_LONGEST_DESCRIPTION = 1024  # CloudWatch's own


@dataclass(frozen=True)
class Alarm:
    """Beyond which value of a metric, for how many periods in a row, something is wrong; and the runbook for it.

    `missing` says what silence means: health where nothing is counted when nothing happens, else trouble.
    """

    what: str
    runbook: str
    metric: Metric
    threshold: float
    periods: int
    period_seconds: int = PERIOD_SECONDS
    comparison: Literal["GreaterThanThreshold", "LessThanThreshold"] = "GreaterThanThreshold"
    missing: Literal["notBreaching", "breaching"] = "notBreaching"

    @property
    def description(self) -> str:
        """What whoever is called reads first; raises ValueError where CloudWatch would refuse it."""
        text = f"{self.what}. RUNBOOK: {self.runbook}"
        if len(text) > _LONGEST_DESCRIPTION:
            raise ValueError(f"the runbook of '{self.what}' has {len(text)} characters, the most is 1,024; shorten it")
        return text


def alarms(args: ObservabilityArgs) -> dict[str, Alarm]:
    """Every alarm of a stack by its short name; the budget's is AWS Budgets' own, to the same topic."""
    return {**_of_calls(args), **_of_servers(args), **_of_the_authorizer(args), **_of_the_canary(args)}


def _of_calls(args: ObservabilityArgs) -> dict[str, Alarm]:
    watched, settings = metrics(args), args.settings
    return {
        "server-errors": Alarm(
            "Calls fail on our side",
            "Dashboard, errors by code: 500 is the authorizer or a server, 502 and 504 no server in time, 503 one that "
            "is full or leaving. Take a requestId with that status from the access log and look for it in the servers' "
            "log. If it began with a deployment, deploy the revision before it.",
            watched["server-errors"],
            threshold=5,
            periods=3,
        ),
        "latency": Alarm(
            "The slowest calls come near the timeout",
            "Compare with queued and in flight. If both are high, raise fleet.max or lower target_inflight. If neither "
            "is, callers ask for long answers: raise api.timeout_seconds, or tell them to stream and lower max_tokens.",
            watched["latency"],
            threshold=settings.api.timeout_seconds * 1000 * 0.9,
            periods=5,
        ),
        "first-token": Alarm(
            "Callers wait long for the first token",
            "If requests are queued, the fleet is too small: see the queue's alarm. If not, prompts are long, or an "
            "instance is slow: compare GPU use of the instances, and terminate one that is at 100 % alone.",
            watched["first-token"],
            threshold=settings.alerts.first_token_seconds * 1000,
            periods=5,
        ),
        "throttled": Alarm(
            "Callers are told to slow down",
            "The access log names the consumer and errorType. THROTTLED or QUOTA_EXCEEDED is that consumer's plan: "
            "move it to another, or leave it. WAF_FILTERED is the firewall's rate rule: see whether the address is "
            "known. Nothing there is the servers, which are full: see the queue's alarm.",
            watched["throttled"],
            threshold=60,
            periods=5,
        ),
    }


def _of_servers(args: ObservabilityArgs) -> dict[str, Alarm]:
    watched = metrics(args)
    return {
        "unhealthy-hosts": Alarm(
            "Servers are not ready",
            "Read the servers' log of that instance: a model that is not in the bucket, a digest that differs, or too "
            "little memory. An instance refresh rolls back by itself; else publish the model, or deploy the revision "
            "before. Nothing in the log: the instance never started, see the group's activity history.",
            watched["unhealthy-hosts"],
            threshold=0,
            periods=15,
        ),
        "queue": Alarm(
            "Requests wait in the servers for longer than scaling takes",
            "See instances on the dashboard. At fleet.max: raise it, if the budget lets you. Below it: the group's "
            "activity history says why no instance comes (quota, or no capacity: README, When GPUs are not to be had).",
            watched["queued"],
            threshold=args.settings.fleet.target_inflight,
            periods=10,
        ),
        "budget-failures": Alarm(
            "Token budgets cannot be read or settled; api.budget_failure says whether callers get 503 or are let in",
            "The servers' log, budgets_failed, has the reason. AccessDenied: the instances' role or the key's policy "
            "was changed, see CloudTrail. Timeouts: the network's DynamoDB endpoint, or AWS. Throttling: one consumer "
            "asks more than its row takes; lower its rate. What could not be settled is counted as used.",
            watched["budget-failures"],
            threshold=10,
            periods=3,
        ),
        "usage-lost": Alarm(
            "Usage records could not be sent, so bills will lack them",
            "The servers' log: usage_refused has what Firehose answered. Throttling: ask AWS for more records; "
            "AccessDenied: the instances' role. `modelkeep keys reconcile` compares records with the budgets.",
            watched["usage-lost"],
            threshold=0,
            periods=1,
        ),
    }


def _of_the_authorizer(args: ObservabilityArgs) -> dict[str, Alarm]:
    watched = metrics(args)
    return {
        "authorizer-errors": Alarm(
            "Tokens cannot be checked, and every caller gets 500",
            "Read the authorizer's log. AccessDenied: its role or the key's policy was changed, see CloudTrail. A row "
            "without a field: create that consumer again. Throttled tables or KMS: wait, and tell AWS if it lasts.",
            watched["authorizer-errors"],
            threshold=0,
            periods=3,
        ),
        "authorizer-throttles": Alarm(
            "Lambda runs no more authorizers at once, and callers get 500",
            "The account's concurrency is used up, by this or by another function: Lambda's console, Concurrency. Ask "
            "for a higher quota, or reserve some for this function.",
            watched["authorizer-throttles"],
            threshold=0,
            periods=3,
        ),
    }


def _of_the_canary(args: ObservabilityArgs) -> dict[str, Alarm]:
    if args.settings.canary is None:
        return {}
    return {
        "canary": Alarm(
            "The canary's calls are not answered",
            "The canary's log has the reason. no_token or malformed_token: give it one (README, The canary). refused: "
            "401 its token was revoked, 403 the firewall, 429 its plan, 5xx see the alarm on server errors; request_id "
            "is in the access log. unreachable: DNS or certificate of the domain. Nothing: see its errors in Lambda.",
            metrics(args)["canary"],
            threshold=1,
            periods=2,
            period_seconds=CANARY_MINUTES * 60,
            comparison="LessThanThreshold",
            missing="breaching",
        )
    }
