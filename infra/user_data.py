"""Pure rendering of an instance's boot configuration (cloud-config YAML) and of the server's environment file."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

ENVIRONMENT_FILE = "/etc/modelkeep/server.env"
SERVICE_FILE = "/etc/systemd/system/modelkeep.service"
DOCKER_DIRECTORY = "/etc/modelkeep/docker"
STATE_DIRECTORY = "/var/lib/modelkeep"
RUN_DIRECTORY = "/run/modelkeep"
PORT = 8443
DRAIN_SECONDS = 60
# The user of the image; see model_image/Dockerfile.
CONTAINER_USER = 10001
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html, before base64.
LARGEST_USER_DATA = 16 * 1024


@dataclass(frozen=True)
class ServerSettings:
    """What the server on an instance has to know; `models` are objects of name, version and tasks."""

    stack: str
    region: str
    models_bucket: str
    models: Sequence[Mapping[str, Any]]
    autoscaling_group: str
    target_inflight: int
    body_limit_kb: int
    timeout_seconds: int


@dataclass(frozen=True)
class Boot:
    """What an instance runs: the image by digest, with GPUs or without, logging to a group."""

    image: str
    gpu: bool
    log_group: str
    server: ServerSettings


def server_environment(server: ServerSettings) -> dict[str, str]:
    """The server's environment variables, whole; none is a secret."""
    return {
        "MODELKEEP_STACK": server.stack,
        "MODELKEEP_MODELS_BUCKET": server.models_bucket,
        "MODELKEEP_MODELS": json.dumps(list(server.models), separators=(",", ":")),
        "MODELKEEP_CACHE_DIR": f"{STATE_DIRECTORY}/models",
        "MODELKEEP_HOST": "0.0.0.0",  # noqa: S104 - the instance's security group admits the balancer alone
        "MODELKEEP_PORT": str(PORT),
        "MODELKEEP_TLS_DIR": f"{RUN_DIRECTORY}/tls",
        "MODELKEEP_AUTOSCALING_GROUP": server.autoscaling_group,
        "MODELKEEP_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "MODELKEEP_TARGET_INFLIGHT": str(server.target_inflight),
        "MODELKEEP_BODY_LIMIT_KB": str(server.body_limit_kb),
        "MODELKEEP_TIMEOUT_SECONDS": str(server.timeout_seconds),
        "AWS_REGION": server.region,
    }


def environment_file(variables: Mapping[str, str]) -> str:
    """KEY=VALUE lines without quotes, as `docker run --env-file` reads them; raises ValueError for a line break."""
    for name, value in variables.items():
        if "\n" in value or "\r" in value:
            raise ValueError(f"{name} holds a line break, which the environment file cannot")
    return "".join(f"{name}={value}\n" for name, value in variables.items())


def docker_command(boot: Boot) -> list[str]:
    """The server's container: no privileges, a read-only file system, the host's network.

    The network is the host's since the container needs the role's credentials, and their service answers one hop only.
    """
    owner = f"uid={CONTAINER_USER},gid={CONTAINER_USER}"
    return [
        "/usr/bin/docker run --rm --name modelkeep",
        "--network host --read-only --cap-drop ALL --security-opt no-new-privileges",
        f"--user {CONTAINER_USER}:{CONTAINER_USER} --pids-limit 4096 --shm-size 1g",
        "--tmpfs /tmp:rw,noexec,nosuid,nodev,size=1g",
        f"--tmpfs {RUN_DIRECTORY}:rw,noexec,nosuid,nodev,size=16m,mode=0700,{owner}",
        f"--volume {STATE_DIRECTORY}:{STATE_DIRECTORY}",
        f"--env-file {ENVIRONMENT_FILE}",
        *(["--gpus all"] if boot.gpu else []),
        f"--log-driver awslogs --log-opt awslogs-region={boot.server.region} --log-opt awslogs-group={boot.log_group}",
        "--log-opt mode=non-blocking --log-opt max-buffer-size=4m",
        f"{boot.image} serve",
    ]


def service_unit(boot: Boot) -> str:
    """The systemd unit that pulls and runs the container, restarts it, and lets it drain when the instance goes."""
    command = " \\\n  ".join(docker_command(boot))
    return f"""[Unit]
Description=modelkeep model server
Requires=docker.service
After=docker.service network-online.target

[Service]
Environment=DOCKER_CONFIG={DOCKER_DIRECTORY} AWS_ECR_DISABLE_CACHE=true
ExecStartPre=/usr/bin/docker pull --quiet {boot.image}
ExecStart={command}
ExecStop=/usr/bin/docker stop --time {DRAIN_SECONDS + 10} modelkeep
Restart=always
RestartSec=5
TimeoutStartSec=infinity
TimeoutStopSec={DRAIN_SECONDS + 30}

[Install]
WantedBy=multi-user.target
"""


def render(boot: Boot) -> str:
    """The instance's user data; raises ValueError where it is larger than EC2 takes (16 KB)."""
    registry = boot.image.partition("/")[0]
    config = {
        # The machine image is ECS's, and its agent has no cluster to join here.
        "bootcmd": [["systemctl", "mask", "--now", "ecs.service"]],
        # From Amazon Linux's own repository, which the S3 endpoint admits; it logs in to ECR by the instance's role.
        "packages": ["amazon-ecr-credential-helper"],
        "write_files": [
            _file(ENVIRONMENT_FILE, environment_file(server_environment(boot.server))),
            _file(f"{DOCKER_DIRECTORY}/config.json", json.dumps({"credHelpers": {registry: "ecr-login"}})),
            _file(SERVICE_FILE, service_unit(boot)),
        ],
        "runcmd": [
            ["install", "-d", "-o", str(CONTAINER_USER), "-g", str(CONTAINER_USER), "-m", "0700", STATE_DIRECTORY],
            ["systemctl", "daemon-reload"],
            ["systemctl", "enable", "--now", "modelkeep.service"],
        ],
    }
    text = "#cloud-config\n" + yaml.safe_dump(config, sort_keys=False, width=10_000)
    if len(text.encode()) > LARGEST_USER_DATA:
        raise ValueError(
            f"the user data has {len(text.encode())} bytes, EC2 takes {LARGEST_USER_DATA}; name fewer models"
        )
    return text


def encode(text: str) -> str:
    """Base64, as a launch template takes user data."""
    return base64.b64encode(text.encode()).decode()


def _file(path: str, content: str) -> dict[str, str]:
    return {"path": path, "owner": "root:root", "permissions": "0600", "content": content}
