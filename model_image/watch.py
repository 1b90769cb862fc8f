"""`python -m model_image watch METRIC...`: reports how many requests another server has in flight."""

import http.client
import math
import re
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NoReturn

from prometheus_client.parser import text_string_to_metric_families

from model_image.cloudwatch import PERIOD_SECONDS, metric_line
from model_image.errors import Interrupted, ModelImageError
from model_image.places import interruptible
from model_image.request_log import JsonLog
from model_image.settings import Settings, SettingsError, read_settings
from model_image.tls import trusting

USAGE = "usage: python -m model_image watch METRIC [METRIC ...]"
TIMEOUT_SECONDS = 5.0
_ANSWER_LIMIT = 4 << 20
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


class WatchError(ModelImageError):
    """The server's metrics are not to be had, or are not those that were named."""


def main(argv: list[str], environment: Mapping[str, str]) -> int:
    """Reports until told to stop; the exit code: 2 for wrong usage or settings, 128 + its number for a signal."""
    if not argv or not all(_METRIC.fullmatch(name) for name in argv):
        sys.stderr.write(f"model_image watch takes the names of Prometheus metrics; {USAGE}\n")
        return 2
    try:
        settings = read_settings(environment)
    except SettingsError as error:
        sys.stderr.write(f"model_image watch: {error}\n")
        return 2
    try:
        with interruptible():
            _watch(settings, frozenset(argv), JsonLog())
    except Interrupted as stopped:
        return stopped.exit_code


def _watch(settings: Settings, names: Collection[str], log: JsonLog) -> NoReturn:
    """One metric line each period while the server answers; one line for people whenever that changes."""
    trouble: str | None = ""
    while True:
        time.sleep(PERIOD_SECONDS)
        try:
            inflight = requests_in_flight(metrics_text(settings), names)
        except WatchError as error:
            if str(error) != trouble:
                log.write("not_watching", level="warning", message=str(error))
            trouble = str(error)
            continue
        if trouble is not None:
            log.write("watching")
        trouble = None
        log.write_raw(
            metric_line(
                stack=settings.stack,
                autoscaling_group=settings.autoscaling_group,
                values={"InFlightRequests": inflight},
                at=time.time(),
            )
        )


def metrics_text(settings: Settings) -> str:
    """What the server answers at `/metrics` on this machine; raises WatchError where it does not."""
    connection = _connection(settings)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        body = response.read(_ANSWER_LIMIT)
    except (OSError, http.client.HTTPException) as error:
        raise WatchError(f"port {settings.port} does not answer /metrics ({type(error).__name__})") from error
    finally:
        connection.close()
    if response.status != 200:
        raise WatchError(
            f"port {settings.port} answers /metrics with {response.status}; have the server publish metrics"
        )
    return body.decode("utf-8", errors="replace")


def requests_in_flight(text: str, names: Collection[str]) -> float:
    """The sum over all samples of the named gauges; raises WatchError where one is missing or is no number."""
    try:
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except ValueError as error:
        raise WatchError("/metrics is not in Prometheus's text format; have the server publish it") from error
    missing = sorted(set(names) - {sample.name for sample in samples})
    if missing:
        raise WatchError(f"/metrics has no {', '.join(missing)}; correct fleet.server.inflight_metrics")
    total = float(sum(sample.value for sample in samples if sample.name in names))
    if not math.isfinite(total):
        raise WatchError(f"/metrics has {total} for {', '.join(sorted(names))}; correct fleet.server.inflight_metrics")
    return total


def _connection(settings: Settings) -> http.client.HTTPConnection:
    if not settings.tls_dir:
        return http.client.HTTPConnection("127.0.0.1", settings.port, timeout=TIMEOUT_SECONDS)
    try:
        context = trusting(Path(settings.tls_dir))  # each time, since a restart makes a new certificate
    except OSError as error:
        raise WatchError(f"{settings.tls_dir}/server.crt is not there yet") from error
    return http.client.HTTPSConnection("127.0.0.1", settings.port, timeout=TIMEOUT_SECONDS, context=context)
