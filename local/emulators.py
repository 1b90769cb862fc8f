"""Starts, seeds and stops the two AWS emulators; says where each service answers.

`ministack` takes what runs for real there (lambdas, S3, DynamoDB, KMS, logs, alarms …), moto's server the control
planes it keeps more fully (EC2, API Gateway, WAF, auto scaling …). boto3's own AWS_ENDPOINT_URL_<SERVICE> variables
split the services between them. ministack answers by TLS alone and enforces IAM: only CREDENTIALS are the account's
root, and a role's session may what its policies say.
"""

import atexit
import contextlib
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3
from botocore.config import Config

from local.certificate import make_certificate
from local.errors import LocalError
from local.guard import Guard, end_groups
from local.interrupts import postponed

ACCOUNT_ID = "123456789012"  # moto's default; ministack is told the same, so an ARN of one is good in the other
START_SECONDS = 60.0
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}  # ministack takes "test" for root

# boto3 service name -> (suffix of its endpoint variable, emulator)
SERVICES: Mapping[str, tuple[str, str]] = {
    "budgets": ("BUDGETS", "ministack"),  # keeps a budget's tags and subscribers, which moto forgets
    "cloudtrail": ("CLOUDTRAIL", "ministack"),  # moto's looks for the bucket in its own S3
    "cloudwatch": ("CLOUDWATCH", "ministack"),
    "dynamodb": ("DYNAMODB", "ministack"),
    "events": ("EVENTBRIDGE", "ministack"),
    "firehose": ("FIREHOSE", "ministack"),
    "glue": ("GLUE", "ministack"),
    "iam": ("IAM", "ministack"),
    "kms": ("KMS", "ministack"),
    "lambda": ("LAMBDA", "ministack"),
    "logs": ("CLOUDWATCH_LOGS", "ministack"),
    "s3": ("S3", "ministack"),
    "scheduler": ("SCHEDULER", "ministack"),
    "secretsmanager": ("SECRETS_MANAGER", "ministack"),
    "sns": ("SNS", "ministack"),
    "sqs": ("SQS", "ministack"),
    "sts": ("STS", "ministack"),
    "acm": ("ACM", "moto"),
    "apigateway": ("API_GATEWAY", "moto"),
    "apigatewayv2": ("APIGATEWAYV2", "moto"),
    "autoscaling": ("AUTO_SCALING", "moto"),
    "batch": ("BATCH", "moto"),
    "ec2": ("EC2", "moto"),
    "ecr": ("ECR", "moto"),
    "elbv2": ("ELASTIC_LOAD_BALANCING_V2", "moto"),
    "ssm": ("SSM", "moto"),  # has the public AMI parameters that every account can read; ministack refuses to hold them
    "wafv2": ("WAFV2", "moto"),
}
# Where no emulator enforces IAM -> why.
NOT_ENFORCED: Mapping[str, str] = {
    "services of moto": "moto knows no role of ministack's and lets every caller in",
    "roles of AWS's services": (
        "flow logs, access logs, schedules, CloudTrail, Firehose and scaling take on no role here"
    ),
    "keys of logs, queues, topics, volumes and functions": (
        "ministack does not encrypt there; it asks for the key of a bucket, a table or a secret"
    ),
    "policies of VPC endpoints": "there is no network here",
    "traces": "no emulator takes any",
}
_HEALTH_PATH = {"ministack": "/_ministack/health", "moto": "/moto-api/data.json"}
_SCHEME = {"ministack": "https", "moto": "http"}
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV")


@dataclass
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    url: str
    log_file: Path


class Emulators:
    """The running emulators; a context manager whose children are ended on every way out.

    `ports` fixes the port of an emulator ("ministack", "moto"); otherwise free ones are taken. At start they hold what
    an AWS account is born with (moto brings zones, prefix lists and public AMI parameters) and nothing else. Raises
    LocalError when an emulator does not come up.
    """

    def __init__(
        self, *, region: str, log_dir: Path, host: str = "127.0.0.1", ports: Mapping[str, int] | None = None
    ) -> None:
        self.region = region
        self.log_dir = log_dir
        self.host = host
        self.endpoints: Mapping[str, str] = {}
        self._ports = dict(ports or {})
        self._children: list[_Child] = []
        self._clients: dict[str, Any] = {}
        self._session = boto3.session.Session()  # one, for it keeps the service models it has read
        self._client_lock = threading.Lock()
        self._guard = Guard()
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._certificate: tuple[Path, Path] | None = None  # with its key

    @property
    def pids(self) -> list[int]:
        """Process ids of the emulators; each leads a process group of its own."""
        return [child.process.pid for child in self._children]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start both emulators, wait until they answer, up to START_SECONDS."""
        if self._children:
            raise LocalError("the emulators are already running; stop them before starting them again")
        self.log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._scratch = tempfile.TemporaryDirectory(prefix="emulators-", dir=self.log_dir.parent)
        atexit.register(self.stop)
        try:
            self._certificate = make_certificate(Path(self._scratch.name), host=self.host)
            urls = {name: f"{_SCHEME[name]}://{self.host}:{self._port(name)}" for name in _HEALTH_PATH}
            self.endpoints = {service: urls[emulator] for service, (_, emulator) in SERVICES.items()}
            for name, url in urls.items():
                with postponed():
                    self._children.append(self._spawn(name=name, url=url))
            deadline = time.monotonic() + START_SECONDS
            for child in self._children:
                _await_answer(child, certificate=self._certificate[0], deadline=deadline)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End both emulators and everything they started; safe to call twice."""
        atexit.unregister(self.stop)
        children, self._children = self._children, []
        groups = {child.process.pid for child in children}
        end_groups(groups, reap=lambda: [child.process.poll() for child in children])
        for child in children:
            child.process.wait()
        for group in groups:
            self._guard.release(group)
        self._guard.close()
        with self._client_lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = self._certificate = None

    def environment(self) -> dict[str, str]:
        """The variables that make any AWS SDK in a child process talk to the emulators; not a whole environment."""
        return {
            **CREDENTIALS,
            **{f"AWS_ENDPOINT_URL_{SERVICES[service][0]}": url for service, url in self.endpoints.items()},
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            **({"AWS_CA_BUNDLE": str(self._certificate[0])} if self._certificate else {}),
            # Neither the user's profile nor a proxy of this machine may come between.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": self.host,
            "no_proxy": self.host,
        }

    def client(self, service: str) -> Any:
        """The cached, thread-safe boto3 client of `service`; raises LocalError for a service not emulated."""
        if service not in self.endpoints:
            raise LocalError(f"AWS service {service} is not emulated here; emulated: {', '.join(sorted(SERVICES))}")
        with self._client_lock:
            if service not in self._clients:
                self._clients[service] = self._new_client(service)
            return self._clients[service]

    def _new_client(self, service: str) -> Any:
        """Path-style S3, one retry, no proxy, test credentials."""
        return self._session.client(
            service,
            endpoint_url=self.endpoints[service],
            config=Config(
                region_name=self.region,
                retries={"max_attempts": 2, "mode": "standard"},
                s3={"addressing_style": "path"},
                connect_timeout=5,
                read_timeout=60,
                max_pool_connections=32,
                proxies={},
            ),
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            verify=str(self._certificate[0]) if self._certificate else None,
        )

    def _port(self, name: str) -> int:
        fixed = self._ports.get(name, 0)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, fixed))
            except OSError as error:
                raise LocalError(
                    f"cannot start emulator {name}: port {fixed} of {self.host} is not free ({error.strerror}); "
                    "stop what listens there or leave the port out to take a free one"
                ) from error
            return int(probe.getsockname()[1])

    def _spawn(self, *, name: str, url: str) -> _Child:
        log_file = self.log_dir / f"{name}.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                _command(name, host=self.host, port=url.rpartition(":")[2]),
                env=self._child_environment(name, port=url.rpartition(":")[2]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._guard.watch(process.pid)
        return _Child(name=name, process=process, url=url, log_file=log_file)

    def _child_environment(self, name: str, *, port: str) -> dict[str, str]:
        assert self._scratch is not None and self._certificate is not None  # noqa: S101, PT018 - start() made both
        environment = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        environment |= {"TMPDIR": self._scratch.name, "PYTHONUNBUFFERED": "1"}
        if name == "moto":
            return environment | {
                "MOTO_ACCOUNT_ID": ACCOUNT_ID,
                "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",  # half a second, and nothing reads them
            }
        # Lambdas run as children of ministack and inherit its environment, so the split of services reaches them.
        return environment | {
            **self.environment(),
            "AUTH": "true",
            "USE_SSL": "1",
            "MINISTACK_SSL_CERT": str(self._certificate[0]),
            "MINISTACK_SSL_KEY": str(self._certificate[1]),
            "GATEWAY_PORT": port,
            "BIND_HOST": self.host,
            "MINISTACK_HOST": self.host,
            "MINISTACK_ACCOUNT_ID": ACCOUNT_ID,
            "MINISTACK_REGION": self.region,
            "IOT_MTLS_ENABLED": "0",  # would open a fixed port
            "LAMBDA_EXECUTOR": "local",
            "STATE_DIR": f"{self._scratch.name}/state",
            "S3_DATA_DIR": f"{self._scratch.name}/s3",
            "LOG_LEVEL": "WARNING",
        }


def _command(name: str, *, host: str, port: str) -> list[str]:
    if name == "ministack":
        return [sys.executable, "-m", "local.ministack_server"]
    return [sys.executable, "-m", "local.moto_server", "-H", host, "-p", port]


def _await_answer(child: _Child, *, certificate: Path, deadline: float) -> None:
    trusting = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(certificate)))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trusting)
    while True:
        if child.process.poll() is not None:
            raise LocalError(
                f"emulator {child.name} ended at start with status {child.process.returncode}: "
                f"{last_line(child.log_file)}; see {child.log_file} and start again"
            )
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            opener.open(child.url + _HEALTH_PATH[child.name], timeout=2) as answer,
        ):
            answer.read()
            return
        if time.monotonic() > deadline:
            raise LocalError(
                f"emulator {child.name} did not answer at {child.url} within {START_SECONDS:.0f} s: "
                f"{last_line(child.log_file)}; see {child.log_file}"
            )
        time.sleep(0.05)


def last_line(log_file: Path) -> str:
    """The last line of a log that says something, for an error message."""
    if not log_file.exists():
        return "(no log)"
    lines = [line.strip() for line in log_file.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "(empty log)")
