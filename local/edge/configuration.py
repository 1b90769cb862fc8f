"""The configuration in force: read whole at the start, then looked at again every few seconds in a thread.

As in API Gateway, resources, methods, authorizers, gateway responses and the resource policy act with a new
deployment of the stage; stage settings, usage plans, keys and the web ACL act at once. A configuration that cannot be
enforced denies every request (500) until it can. So does one that could not be read for longer than `GRACE`: within
that time the last one holds, as AWS itself takes seconds to spread a change.
"""

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.edge.access_log import log_group
from local.edge.authorizer import Authorizer, Invoke
from local.edge.deployed import Api, Stage
from local.edge.exchange import RefusedError
from local.edge.read_api import Client, read_api
from local.edge.read_stage import read_stage
from local.edge.responses import GatewayResponses
from local.edge.routing import Router
from local.edge.variables import Template
from local.edge.waf import Firewall, RateCounters
from local.errors import LocalError

GRACE = 60.0  # seconds

logger = logging.getLogger("modelkeep.edge")


@dataclass(frozen=True)
class Snapshot:
    """Everything that one request is judged by."""

    api: Api
    stage: Stage
    router: Router
    responses: GatewayResponses
    authorizers: Mapping[str, Authorizer]
    firewall: Firewall | None
    log_format: Template | None
    log_group: str | None


class Configuration:
    """Keeps the newest snapshot; reading happens in the caller's thread or in the watching one."""

    def __init__(self, *, client: Client, api_id: str, stage_name: str, executor: Executor, interval: float) -> None:
        """Read everything once; raises LocalError for whatever the edge would not enforce as AWS does."""
        self._client = client
        self._api_id = api_id
        self._stage_name = stage_name
        self._executor = executor
        self._interval = interval
        self._counters = RateCounters()
        self._reading = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="edge-configuration", daemon=True)
        self._broken = False
        self._read_at = self._began_at = time.monotonic()
        try:
            self.latest = self._read(None)
        except (BotoCoreError, ClientError) as error:
            raise LocalError(
                f"stage {stage_name} of REST API {api_id} not read: {error}; deploy the stack first"
            ) from error

    def current(self) -> Snapshot:
        """The snapshot in force; raises RefusedError API_CONFIGURATION_ERROR where none may be trusted."""
        if self._broken or time.monotonic() - self._read_at > GRACE + self._interval:
            raise RefusedError("API_CONFIGURATION_ERROR", "Internal server error")
        return self.latest

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()

    def reload(self, *, everything: bool = True) -> None:
        """Read the configuration now; raises LocalError (and denies from then on) where it cannot be enforced."""
        with self._reading:
            began = time.monotonic()
            try:
                self.latest = self._read(None if everything else self.latest)
            except (LocalError, KeyError, TypeError, ValueError):
                self._broken = True
                raise
            self._broken = False
            self._read_at, self._began_at = time.monotonic(), began

    def catch_up(self, since: float) -> None:
        """Look again, unless that began after `since`, a monotonic time; for what was deployed a moment ago."""
        with self._reading:
            if self._began_at >= since:
                return
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self._look()

    def _look(self) -> None:
        try:
            self.reload(everything=self._broken)
        except (BotoCoreError, ClientError) as error:
            logger.warning("configuration of stage %s not read, trying again: %s", self._stage_name, error)
        except (LocalError, KeyError, TypeError, ValueError) as error:
            logger.error("configuration of stage %s denies every request: %s", self._stage_name, error)

    def _read(self, last: Snapshot | None) -> Snapshot:
        stage = read_stage(self._client, api_id=self._api_id, stage_name=self._stage_name)
        if last and stage == last.stage:
            return last
        if last and stage.deployment_id == last.stage.deployment_id:
            api = last.api
        else:
            api = read_api(
                self._client, api_id=self._api_id, stage_name=self._stage_name, deployment_id=stage.deployment_id
            )
        unchanged = last is not None and api is last.api
        if last and unchanged and stage.flushed != last.stage.flushed:
            for authorizer in last.authorizers.values():
                authorizer.flush()
        return Snapshot(
            api=api,
            stage=stage,
            router=last.router if last and unchanged else Router(api.methods, stage=api.stage),
            responses=last.responses if last and unchanged else GatewayResponses(api.responses),
            authorizers=last.authorizers if last and unchanged else self._authorizers(api, stage),
            firewall=self._firewall(last, api, stage),
            log_format=Template(stage.log_format) if stage.log_format else None,
            log_group=log_group(stage.log_destination) if stage.log_destination else None,
        )

    def _firewall(self, last: Snapshot | None, api: Api, stage: Stage) -> Firewall | None:
        if stage.web_acl is None:
            return None
        if last and last.stage.web_acl == stage.web_acl:
            return last.firewall
        return Firewall(stage.web_acl, account=api.account, counters=self._counters)

    def _authorizers(self, api: Api, stage: Stage) -> dict[str, Authorizer]:
        found = {}
        for identity, settings in api.authorizers.items():
            arn = settings.function
            for name, value in stage.variables.items():
                arn = arn.replace(f"${{stageVariables.{name}}}", value)
            found[identity] = Authorizer(settings, api=api, invoke=self._invoke(arn), executor=self._executor)
        return found

    def _invoke(self, arn: str) -> Invoke:
        def invoke(payload: bytes) -> tuple[bool, bytes]:
            answer: dict[str, Any] = self._client("lambda").invoke(FunctionName=arn, Payload=payload)
            return bool(answer.get("FunctionError")), answer["Payload"].read()

        return invoke
