"""The dashboard: what callers see, what the servers do, and what it costs."""

from collections.abc import Sequence
from typing import Any

from infra.components.watched import LOG_METRICS, PERIOD_SECONDS, ObservabilityArgs, log_namespace, metrics

BILLING_REGION = "us-east-1"  # where AWS keeps every account's charges
_SIX_HOURS = 21_600  # how often it does

# Title, and the metrics in it by short name.
WIDGETS: Sequence[tuple[str, Sequence[str]]] = (
    ("Calls", ("requests", "client-errors", "server-errors", "blocked", "throttled")),
    ("Latency (ms)", ("latency", "median-latency")),
    ("First token (ms)", ("first-token", "median-first-token")),
    ("In flight and queued, per instance", ("in-flight", "queued")),
    ("Tokens per second and instance", ("tokens",)),
    ("GPU use and memory (%)", ("gpu-use", "gpu-memory")),
    ("Instances", ("instances", "healthy-hosts", "unhealthy-hosts")),
    ("Authorizer", ("authorizer-errors", "authorizer-throttles")),
)
CANARY = ("Canary: answered, and after how long (ms)", ("canary", "canary-latency"))


def dashboard(args: ObservabilityArgs) -> dict[str, Any]:
    """The dashboard's body: two columns of time series."""
    watched, region = metrics(args), args.site.region
    shown = [*WIDGETS, *([CANARY] if args.settings.canary is not None else [])]
    series = [
        {"title": title, "metrics": [watched[each].widget_line(each) for each in names], "region": region}
        for title, names in shown
    ]
    series.insert(1, {"title": "Errors by code", "metrics": [[_by_status(args)]], "region": region})
    series.append(_cost(args))
    return {
        "widgets": [
            {
                "type": "metric",
                "x": 12 * (index % 2),
                "y": 6 * (index // 2),
                "width": 12,
                "height": 6,
                "properties": {"view": "timeSeries", "period": PERIOD_SECONDS, **each},
            }
            for index, each in enumerate(series)
        ]
    }


def _by_status(args: ObservabilityArgs) -> dict[str, str]:
    """Every status that there was, found when the dashboard is looked at."""
    counted = LOG_METRICS["errors-by-status"]
    schema = ",".join([f'"{log_namespace(args.site)}"', *counted.dimensions])
    return {
        "expression": f"SEARCH('{{{schema}}} MetricName=\"{counted.name}\"', 'Sum', {PERIOD_SECONDS})",
        "id": "statuses",
        "label": "${PROP('Dim.Status')}",
    }


def _cost(args: ObservabilityArgs) -> dict[str, Any]:
    """The whole account's charges of the month so far, beside the stack's budget."""
    charges = ["AWS/Billing", "EstimatedCharges", "Currency", "USD", {"stat": "Maximum", "label": "account"}]
    return {
        "title": "Charges of the month (USD)",
        "metrics": [charges],
        "region": BILLING_REGION,
        "period": _SIX_HOURS,
        "annotations": {"horizontal": [{"label": "the stack's budget", "value": args.settings.budget.monthly_usd}]},
    }
