"""Pure rendering of an instance's boot configuration (cloud-config YAML) and of the server's environment file."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from infra.agent_units import (
    AGENT_ENVIRONMENT_FILE,
    ATTEMPTS_SECONDS,
    GIVE_UP_UNIT,
    LIFECYCLE_UNIT,
    RESTART_SECONDS,
    START_ATTEMPTS,
    agent_command,
    agent_environment,
    agent_files,
)

ENVIRONMENT_FILE = "/etc/modelkeep/server.env"
# Beside a foreign server: what this project's own image has to know, which brings its models and watches it.
BRING_ENVIRONMENT_FILE = "/etc/modelkeep/bring.env"
SERVICE_FILE = "/etc/systemd/system/modelkeep.service"
WATCH_SERVICE_FILE = "/etc/systemd/system/modelkeep-watch.service"
DOCKER_DIRECTORY = "/etc/modelkeep/docker"
STATE_DIRECTORY = "/var/lib/modelkeep"
MODELS_DIRECTORY = f"{STATE_DIRECTORY}/models"
RUN_DIRECTORY = "/run/modelkeep"
TLS_DIRECTORY = f"{RUN_DIRECTORY}/tls"
TLS_CERTIFICATE = f"{TLS_DIRECTORY}/server.crt"
TLS_KEY = f"{TLS_DIRECTORY}/server.key"
# A foreign server's home: in memory, and the one place where what it compiles for itself may be written and run.
SCRATCH_DIRECTORY = "/var/cache/modelkeep"
PORT = 8443
HEALTH_PATH = "/ready"
SHORTEST_DRAIN_SECONDS = 60
# The user of the image; see model_image/Dockerfile.
CONTAINER_USER = 10001
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html, before base64.
LARGEST_USER_DATA = 16 * 1024


@dataclass(frozen=True)
class ServerSettings:
    """What the server on an instance has to know; `models` are objects of name, version and tasks.

    `signing_keys` are the public keys of which one has signed each model: base64 of their DER, commas between them.
    `promotions_parameter` says which versions are served in place of those of `models`; empty for none. Without a
    `budgets_table` nobody's tokens are limited, and without a `usage_stream` no usage is recorded.
    """

    stack: str
    region: str
    models_bucket: str
    signing_keys: str
    promotions_parameter: str
    models: Sequence[Mapping[str, Any]]
    autoscaling_group: str
    target_inflight: int
    body_limit_kb: int
    timeout_seconds: int
    budgets_table: str = ""
    budget_failure: str = "closed"
    usage_stream: str = ""
    port: int = PORT
    health_path: str = HEALTH_PATH

    @property
    def drain_seconds(self) -> int:
        """How long what has begun may go on once the instance leaves."""
        return max(SHORTEST_DRAIN_SECONDS, self.timeout_seconds)


@dataclass(frozen=True)
class ForeignServer:
    """Another OpenAI-compatible server: its image by digest, what follows the image's entry point, its variables.

    `inflight_metrics` are the Prometheus gauges, at its `/metrics`, whose sum is its requests in flight.
    """

    image: str
    command: Sequence[str]
    environment: Mapping[str, str]
    inflight_metrics: Sequence[str]


@dataclass(frozen=True)
class Boot:
    """What an instance runs: the image by digest, with GPUs or without, logging to a group; perhaps another's server.

    Beside a foreign server, `image` brings the verified models before it starts, and reports its requests in flight.
    """

    image: str
    gpu: bool
    log_group: str
    server: ServerSettings
    foreign: ForeignServer | None = None


def server_environment(server: ServerSettings) -> dict[str, str]:
    """The server's environment variables, whole; none is a secret."""
    return {
        "MODELKEEP_STACK": server.stack,
        "MODELKEEP_MODELS_BUCKET": server.models_bucket,
        "MODELKEEP_SIGNING_KEYS": server.signing_keys,
        "MODELKEEP_PROMOTIONS_PARAMETER": server.promotions_parameter,
        "MODELKEEP_BUDGETS_TABLE": server.budgets_table,
        "MODELKEEP_BUDGET_FAILURE": server.budget_failure,
        "MODELKEEP_USAGE_STREAM": server.usage_stream,
        "MODELKEEP_MODELS": json.dumps(list(server.models), separators=(",", ":")),
        "MODELKEEP_CACHE_DIR": MODELS_DIRECTORY,
        "MODELKEEP_HOST": "0.0.0.0",  # noqa: S104 - the instance's security group admits the balancer alone
        "MODELKEEP_PORT": str(server.port),
        "MODELKEEP_TLS_DIR": TLS_DIRECTORY,
        "MODELKEEP_AUTOSCALING_GROUP": server.autoscaling_group,
        "MODELKEEP_DRAIN_SECONDS": str(server.drain_seconds),
        "MODELKEEP_TARGET_INFLIGHT": str(server.target_inflight),
        "MODELKEEP_BODY_LIMIT_KB": str(server.body_limit_kb),
        "MODELKEEP_TIMEOUT_SECONDS": str(server.timeout_seconds),
        "AWS_REGION": server.region,
        "AWS_DEFAULT_REGION": server.region,  # the one that boto3 reads
    }


def environment_file(variables: Mapping[str, str]) -> str:
    """KEY=VALUE lines without quotes, as `docker run --env-file` reads them; raises ValueError for a line break."""
    for name, value in variables.items():
        if "\n" in value or "\r" in value:
            raise ValueError(f"{name} holds a line break, which the environment file cannot")
    return "".join(f"{name}={value}\n" for name, value in variables.items())


def foreign_environment(foreign: ForeignServer) -> dict[str, str]:
    """A foreign server's environment variables: its own, and where it may write on its read-only file system."""
    return {
        "HOME": SCRATCH_DIRECTORY,
        "TMPDIR": SCRATCH_DIRECTORY,
        "USER": "modelkeep",  # the container's user has no entry in the image's list of users
        "HF_HUB_OFFLINE": "1",
        **foreign.environment,
    }


def docker_command(boot: Boot) -> list[str]:
    """The server's container: no privileges, a read-only file system, the host's network.

    The network is the host's since the container needs the role's credentials, and their service answers one hop only.
    """
    return [
        *_own_container(boot, name="modelkeep"),
        f"--tmpfs {RUN_DIRECTORY}:rw,noexec,nosuid,nodev,size=16m,mode=0700,{_OWNER}",
        f"--volume {STATE_DIRECTORY}:{STATE_DIRECTORY}",
        f"--env-file {ENVIRONMENT_FILE}",
        *(["--gpus all"] if boot.gpu else []),
        f"{boot.image} serve",
    ]


def foreign_docker_command(boot: Boot, foreign: ForeignServer) -> list[str]:
    """A foreign server's container: no privileges, a read-only file system, models and certificate to read only.

    Its network is Docker's own, one hop further from the credentials' service than that answers: it has no role.
    """
    return [
        *_container(name="modelkeep"),
        f"--publish {boot.server.port}:{boot.server.port}",
        f"--tmpfs {SCRATCH_DIRECTORY}:rw,exec,nosuid,nodev,size=4g,mode=0700,{_OWNER}",
        f"--volume {MODELS_DIRECTORY}:{MODELS_DIRECTORY}:ro",
        f"--volume {TLS_DIRECTORY}:{TLS_DIRECTORY}:ro",
        f"--env-file {ENVIRONMENT_FILE}",
        *(["--gpus all"] if boot.gpu else []),
        *_log_options(boot),
        " ".join([foreign.image, *map(systemd_quoted, foreign.command)]),
    ]


def bring_command(boot: Boot) -> list[str]:
    """The container that brings and verifies a foreign server's models and makes its certificate, and ends."""
    return [
        *_own_container(boot, name="modelkeep-bring"),
        f"--volume {STATE_DIRECTORY}:{STATE_DIRECTORY}",
        f"--volume {TLS_DIRECTORY}:{TLS_DIRECTORY}",
        f"--env-file {BRING_ENVIRONMENT_FILE}",
        f"{boot.image} bring",
    ]


def watch_command(boot: Boot, foreign: ForeignServer) -> list[str]:
    """The container that reports a foreign server's requests in flight, which the fleet's size follows."""
    return [
        *_own_container(boot, name="modelkeep-watch"),
        f"--volume {TLS_DIRECTORY}:{TLS_DIRECTORY}:ro",
        f"--env-file {BRING_ENVIRONMENT_FILE}",
        " ".join([boot.image, "watch", *map(systemd_quoted, foreign.inflight_metrics)]),
    ]


_OWNER = f"uid={CONTAINER_USER},gid={CONTAINER_USER}"


def _container(*, name: str) -> list[str]:
    return [
        f"/usr/bin/docker run --rm --name {name}",
        "--read-only --cap-drop ALL --security-opt no-new-privileges",
        f"--user {CONTAINER_USER}:{CONTAINER_USER} --pids-limit 4096 --shm-size 1g",
        "--tmpfs /tmp:rw,noexec,nosuid,nodev,size=1g",
    ]


def _own_container(boot: Boot, *, name: str) -> list[str]:
    return [*_container(name=name), "--network host", *_log_options(boot)]


def _log_options(boot: Boot) -> list[str]:
    return [
        f"--log-driver awslogs --log-opt awslogs-region={boot.server.region} --log-opt awslogs-group={boot.log_group}",
        "--log-opt mode=non-blocking --log-opt max-buffer-size=4m",
    ]


def systemd_quoted(argument: str) -> str:
    """One argument of a unit's command line, whatever is in it but control characters.

    Source: systemd.service(5), "Command lines", and systemd.unit(5), "Specifiers".
    """
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def service_unit(boot: Boot) -> str:
    """The systemd unit that pulls and runs the container, restarts it, and lets it drain when the instance goes."""
    if boot.foreign is None:
        before, command = [agent_command("cache"), f"/usr/bin/docker pull --quiet {boot.image}"], docker_command(boot)
    else:
        before = [
            agent_command("cache"),
            f"/usr/bin/docker pull --quiet {boot.image}",
            f"/usr/bin/install -d -o {CONTAINER_USER} -g {CONTAINER_USER} -m 0700 {TLS_DIRECTORY}",
            _wrapped(bring_command(boot)),
            f"/usr/bin/docker pull --quiet {boot.foreign.image}",
        ]
        command = foreign_docker_command(boot, boot.foreign)
    return _unit(
        description="modelkeep model server",
        before=before,
        command=command,
        stop=f"/usr/bin/docker stop --time {boot.server.drain_seconds + 10} modelkeep",
        stop_seconds=boot.server.drain_seconds + 30,
        more_unit=f"StartLimitIntervalSec={ATTEMPTS_SECONDS}\nStartLimitBurst={START_ATTEMPTS}\n"
        f"OnFailure={GIVE_UP_UNIT}\n",
    )


def watch_unit(boot: Boot, foreign: ForeignServer) -> str:
    """The systemd unit of the container that watches a foreign server."""
    return _unit(
        description="modelkeep watch over the model server",
        before=[f"/usr/bin/docker pull --quiet {boot.image}"],
        command=watch_command(boot, foreign),
        stop="/usr/bin/docker stop --time 5 modelkeep-watch",
        stop_seconds=30,
        after=" modelkeep.service",
    )


def _unit(
    *,
    description: str,
    before: Sequence[str],
    command: Sequence[str],
    stop: str,
    stop_seconds: int,
    after: str = "",
    more_unit: str = "",
) -> str:
    first = "\n".join(f"ExecStartPre={each}" for each in before)
    return f"""[Unit]
Description={description}
Requires=docker.service
After=docker.service network-online.target{after}
{more_unit}
[Service]
EnvironmentFile={AGENT_ENVIRONMENT_FILE}
Environment=HOME=/root DOCKER_CONFIG={DOCKER_DIRECTORY} AWS_ECR_DISABLE_CACHE=true
{first}
ExecStart={_wrapped(command)}
ExecStop={stop}
Restart=always
RestartSec={RESTART_SECONDS}
TimeoutStartSec=infinity
TimeoutStopSec={stop_seconds}

[Install]
WantedBy=multi-user.target
"""


def _wrapped(command: Sequence[str]) -> str:
    return " \\\n  ".join(command)


def render(boot: Boot) -> str:
    """The instance's user data; raises ValueError where it is larger than EC2 takes (16 KB)."""
    rendered = text(boot)
    if len(rendered.encode()) > LARGEST_USER_DATA:
        raise ValueError(
            f"the user data has {len(rendered.encode())} bytes, EC2 takes {LARGEST_USER_DATA}; name fewer models"
        )
    return rendered


def text(boot: Boot) -> str:
    """The instance's user data, however large."""
    images = [boot.image] if boot.foreign is None else [boot.image, boot.foreign.image]
    helpers = {image.partition("/")[0]: "ecr-login" for image in images}
    config = {
        # The machine image is ECS's, and its agent has no cluster to join here.
        "bootcmd": [["systemctl", "mask", "--now", "ecs.service"]],
        # From Amazon Linux's own repository, which the S3 endpoint admits; the first logs in to ECR by the instance's
        # role, the second signs what the instance tells its group.
        "packages": ["amazon-ecr-credential-helper", "awscli-2"],
        "write_files": [
            *_files(boot),
            _file(f"{DOCKER_DIRECTORY}/config.json", json.dumps({"credHelpers": helpers})),
        ],
        "runcmd": [
            ["systemctl", "daemon-reload"],
            # Before the server: where that cannot start, the group has to be told.
            ["systemctl", "enable", "--now", LIFECYCLE_UNIT],
            ["systemctl", "enable", "--now", "modelkeep.service"],
            *([["systemctl", "enable", "--now", "modelkeep-watch.service"]] if boot.foreign else []),
        ],
    }
    return "#cloud-config\n" + yaml.safe_dump(config, sort_keys=False, width=10_000)


def _files(boot: Boot) -> list[dict[str, str]]:
    ours = environment_file(server_environment(boot.server))
    server = boot.server
    environment = agent_environment(
        group=server.autoscaling_group,
        region=server.region,
        port=server.port,
        health_path=server.health_path,
        cache=STATE_DIRECTORY,
        owner=CONTAINER_USER,
    )
    agent = [_file(path, content) for path, content in agent_files(environment_file(environment)).items()]
    if boot.foreign is None:
        return [*agent, _file(ENVIRONMENT_FILE, ours), _file(SERVICE_FILE, service_unit(boot))]
    return [
        *agent,
        _file(ENVIRONMENT_FILE, environment_file(foreign_environment(boot.foreign))),
        _file(BRING_ENVIRONMENT_FILE, ours),
        _file(SERVICE_FILE, service_unit(boot)),
        _file(WATCH_SERVICE_FILE, watch_unit(boot, boot.foreign)),
    ]


def encode(rendered: str) -> str:
    """Base64, as a launch template takes user data."""
    return base64.b64encode(rendered.encode()).decode()


def _file(path: str, content: str) -> dict[str, str]:
    return {"path": path, "owner": "root:root", "permissions": "0600", "content": content}
