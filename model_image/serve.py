"""The life of a server process: listen at once, load, serve, and on SIGTERM finish what has begun."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from model_image.admission import Admission, AdmissionLimits
from model_image.allowance import Failures, Guard
from model_image.app import ModelServer
from model_image.budgets import Budgets, dynamodb
from model_image.cloudwatch import report
from model_image.errors import ModelImageError
from model_image.loading import Loader
from model_image.metrics import Metrics
from model_image.registry import Registry
from model_image.request_log import JsonLog, capture_everything
from model_image.settings import Settings
from model_image.tls import make_certificate
from model_image.usage import UsageRecords, firehose

if TYPE_CHECKING:
    from model_image.tracing import Tracer

_IDLE_SECONDS = 75  # longer than the 60 s of an AWS load balancer, which must be the one that closes a connection
# What the places are sized for; larger requests are taken too, fewer at a time.
_TOKENS_PER_REQUEST = 4096
# A reservation outlives the longest request by more than clocks differ.
_RESERVATION_MARGIN_SECONDS = 120
# For requests that were not waited for to end, then for what is to be settled and sent: within the 10 s that follow a
# drain before the container is killed.
_CUT_OFF_SECONDS, _ACCOUNTING_SECONDS = 2.0, 5.0


class ServeError(ModelImageError):
    """The server cannot start, or cannot go on."""


class _Uvicorn(uvicorn.Server):
    """Leaves signals to `Process`, which drains before it stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Process:
    """One server process from start to exit."""

    def __init__(self, settings: Settings, *, started: float) -> None:
        """`started` is the time.monotonic() of the start of the process."""
        self._settings = settings
        self._started = started
        self._log = JsonLog()
        self._registry = Registry()
        self._metrics = Metrics()
        self._admission = Admission(
            AdmissionLimits(requests=settings.admitted_limit, tokens=settings.admitted_limit * _TOKENS_PER_REQUEST)
        )
        self._tracer = _tracer(settings)
        self._guard = self._make_guard()
        self._usage = self._make_usage()
        self._failure: BaseException | None = None
        self._draining: asyncio.Task[None] | None = None
        self._server = _Uvicorn(self._configuration())

    async def run(self) -> None:
        """Serves until told to stop. Raises ModelImageError if the port or a model is not to be had."""
        event_loop = asyncio.get_running_loop()
        event_loop.set_exception_handler(lambda _, context: self._on_loop_error(context))
        for number in (signal.SIGTERM, signal.SIGINT):
            event_loop.add_signal_handler(number, self._on_signal)
        ready = event_loop.create_future()
        listening = self._listen()
        tasks = [asyncio.create_task(self._load(ready))]
        if self._settings.autoscaling_group:
            tasks.append(asyncio.create_task(self._report(ready)))
        try:
            await self._server.serve(sockets=[listening])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._settle_accounts()
            await asyncio.to_thread(self._registry.stop)
            if self._tracer is not None:
                await asyncio.to_thread(self._tracer.close)
            listening.close()
        if self._failure is not None:
            raise self._failure
        self._log.write("stopped")

    def _configuration(self) -> uvicorn.Config:
        settings = self._settings
        application = ModelServer(
            registry=self._registry,
            admission=self._admission,
            metrics=self._metrics,
            log=self._log,
            body_limit=settings.body_limit,
            timeout_seconds=settings.timeout_seconds,
            tracer=self._tracer,
            guard=self._guard,
            usage=self._usage,
        )
        certificate = key = None
        if settings.tls_dir:
            certificate, key = make_certificate(Path(settings.tls_dir), host=settings.host)
        return uvicorn.Config(
            application,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=2,
        )

    def _make_guard(self) -> Guard | None:
        settings = self._settings
        if not settings.budgets_table:
            return None
        fails_open = settings.budget_failure == "open"
        budgets = Budgets(
            dynamodb(),
            table=settings.budgets_table,
            lifetime=settings.timeout_seconds + _RESERVATION_MARGIN_SECONDS,
            on_failure=Failures(self._metrics, self._log, fails_open=fails_open),
        )
        return Guard(budgets, fails_open=fails_open)

    def _make_usage(self) -> UsageRecords | None:
        stream = self._settings.usage_stream
        return UsageRecords(firehose(), stream=stream, metrics=self._metrics, log=self._log) if stream else None

    async def _settle_accounts(self) -> None:
        """Ends what the drain did not wait for, then settles and records all that was served."""
        left = set(self._server.server_state.tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_CUT_OFF_SECONDS)
        closing = []
        if self._guard is not None:
            closing.append(self._guard.close(seconds=_ACCOUNTING_SECONDS))
        if self._usage is not None:
            closing.append(asyncio.to_thread(self._usage.close, seconds=_ACCOUNTING_SECONDS))
        await asyncio.gather(*closing)

    def _listen(self) -> socket.socket:
        host, port = self._settings.host, self._settings.port
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            listening = socket.create_server((host, port), family=family, backlog=2048)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ServeError(f"cannot listen on {host} port {port} ({reason}); free it or set MODELKEEP_PORT") from None
        listening.setblocking(False)
        scheme = "https" if self._settings.tls_dir else "http"
        self._log.write("listening", url=f"{scheme}://{host}:{port}", pid=os.getpid())
        return listening

    async def _load(self, ready: asyncio.Future[float]) -> None:
        loader = Loader(
            settings=self._settings,
            registry=self._registry,
            metrics=self._metrics,
            log=self._log,
            on_crash=self._on_crash,
        )
        try:
            await loader.load_all()
        except Exception as error:  # noqa: BLE001  (whatever it is, the process ends with it)
            self._fail(error)
            return
        seconds = time.monotonic() - self._started
        ready.set_result(seconds)
        self._log.write("ready", seconds=round(seconds, 3), models=len(self._registry.models))

    async def _report(self, ready: asyncio.Future[float]) -> None:
        await report(
            stack=self._settings.stack,
            autoscaling_group=self._settings.autoscaling_group,
            admission=self._admission,
            metrics=self._metrics,
            log=self._log,
            ready_seconds=ready,
        )

    def _on_signal(self) -> None:
        """Drains at the first signal; at a second one stops at once."""
        if self._draining is not None:
            self._server.force_exit = self._server.should_exit = True
            return
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        self._log.write("draining", requests=self._admission.inside)
        finished = await self._admission.drain(seconds=self._settings.drain_seconds)
        if not finished:
            self._log.write("drain_incomplete", level="warning", requests=self._admission.inside)
            self._server.force_exit = True
        self._server.should_exit = True

    def _on_crash(self, error: BaseException) -> None:
        """A model lost its loop (called in that loop's thread): this process can serve it no more."""
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._registry.ready = False
        self._failure = self._failure or error
        self._server.should_exit = True

    def _on_loop_error(self, context: dict[str, object]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            self._log.fault("event_loop", error)


def _tracer(settings: Settings) -> "Tracer | None":
    if not settings.otlp_endpoint:
        return None
    from model_image.tracing import export_to  # noqa: PLC0415  (a third of a second that few servers need)

    return export_to(settings.otlp_endpoint, stack=settings.stack)


async def _run(settings: Settings, *, started: float) -> None:
    await Process(settings, started=started).run()


def _event_loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where there is one (not on Windows)."""
    try:
        import uvloop  # noqa: PLC0415
    except ModuleNotFoundError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def main(settings: Settings, *, started: float) -> int:
    """Runs a server; the process's exit code. A failure is one line on stdout, without any text of a user."""
    # Read by the libraries when they are loaded, which is later. OpenMP's threads would spin while they wait for each
    # other, which on cores that are shared with other processes makes a step of 1 ms take over 30.
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRANSFORMERS_VERBOSITY="error")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    log = JsonLog()
    capture_everything(log)
    try:
        with asyncio.Runner(loop_factory=_event_loop_factory()) as runner:
            runner.run(_run(settings, started=started))
    except ModelImageError as error:
        log.write("failed", level="error", message=str(error))
        return 1
    except Exception as error:  # noqa: BLE001  (the boundary: no traceback, it could quote a text)
        log.fault("failed", error)
        return 1
    return 0
