"""Health checks as the load balancer makes them: one per interval, thresholds in a row, no look at certificates."""

import functools
import http.client
import json
import ssl
from dataclasses import dataclass, field

from local.balancer import Target
from local.fleet.deployed import HealthCheck

ANSWER_LIMIT_BYTES = 65536


@dataclass(frozen=True)
class Answer:
    """What one health check found; `models` as "name/version", as far as a ready server names them."""

    healthy: bool
    reason: str
    models: tuple[str, ...] = ()


@dataclass
class Verdict:
    """Whether a target is healthy, from its checks in a row.

    The first success is enough for a newly registered target, then thresholds hold. Source: Elastic Load Balancing user
    guide for Application Load Balancers, "Health checks for Application Load Balancer target groups". Unlike a load
    balancer, which sends to every target when none is healthy, an unhealthy target here never gets a request.
    """

    check: HealthCheck
    healthy: bool = False
    _seen_healthy: bool = field(default=False, init=False)
    _streak: int = field(default=0, init=False)

    def observe(self, *, success: bool) -> bool:
        """Count one check; returns whether the target is healthy now."""
        self._streak = self._streak + 1 if success != self.healthy else 0
        recovering = self.check.healthy_threshold if self._seen_healthy else 1
        if self._streak >= (self.check.unhealthy_threshold if self.healthy else recovering):
            self.healthy, self._streak = success, 0
            self._seen_healthy = self._seen_healthy or success
        return self.healthy


def ask(target: Target, *, check: HealthCheck) -> Answer:
    """Make one health check of `target`; waits up to the check's timeout and never raises for what the target does."""
    host, _, port = target.url.rpartition("/")[2].partition(":")
    connection = _connection(check, host=host, port=check.port or int(port))
    try:
        connection.request("GET", check.path, headers={"user-agent": "ELB-HealthChecker/2.0", "connection": "close"})
        response = connection.getresponse()
        body = response.read(ANSWER_LIMIT_BYTES)
    except (OSError, http.client.HTTPException) as error:
        return Answer(healthy=False, reason=f"{check.path} did not answer ({type(error).__name__})")
    finally:
        connection.close()
    if not check.accepts(response.status):
        return Answer(healthy=False, reason=f"{check.path} answered {response.status}, expected {check.codes}")
    return Answer(healthy=True, reason="", models=_models(body))


def _connection(check: HealthCheck, *, host: str, port: int) -> http.client.HTTPConnection:
    if check.scheme != "https":
        return http.client.HTTPConnection(host, port, timeout=check.timeout)
    return http.client.HTTPSConnection(host, port, timeout=check.timeout, context=_trusting())


@functools.cache
def _trusting() -> ssl.SSLContext:
    """TLS without a look at the certificate: a load balancer does not verify its targets, which make their own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _models(body: bytes) -> tuple[str, ...]:
    try:
        return tuple(f"{model['name']}/{model['version']}" for model in json.loads(body)["models"])
    except (ValueError, KeyError, TypeError):
        return ()  # the check is about the status; the list is for people
