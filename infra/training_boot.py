"""Pure rendering of what a training instance boots: user data as AWS Batch takes it, a MIME archive.

https://docs.aws.amazon.com/batch/latest/userguide/launch-templates.html
"""

import base64
from collections.abc import Mapping
from email.message import Message
from email.mime.multipart import MIMEMultipart
from pathlib import Path

import yaml

from infra import training_agent
from infra.training_agent import STOP_SECONDS

ECS_CONFIG_FILE = "/etc/ecs/ecs.config"
AGENT_FILE = "/etc/modelkeep/training_agent.py"
AGENT_UNIT = "modelkeep-spot.service"
# ECS's agent, and whatever else is root, asks the metadata service; a job has the credentials of its own role from the
# agent. A job of one node shares the instance's network, so that no hop limit keeps it away.
NO_METADATA = (
    "iptables --insert OUTPUT --destination 169.254.169.254/32 --match owner ! --uid-owner 0 --jump REJECT || poweroff"
)
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-agent-config.html; Batch adds the cluster's name.
ECS_CONFIG: Mapping[str, str] = {
    "ECS_AWSVPC_BLOCK_IMDS": "true",  # the same for a job of several nodes, which has a network of its own
    "ECS_DISABLE_PRIVILEGED": "true",
    "ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE": "true",
    "ECS_ENABLE_SPOT_INSTANCE_DRAINING": "true",
    "ECS_CONTAINER_STOP_TIMEOUT": f"{STOP_SECONDS}s",
    "ECS_IMAGE_PULL_BEHAVIOR": "prefer-cached",  # an image by digest is the same in the cache
}
_BOUNDARY = "==modelkeep=="


def render() -> str:
    """The user data of every training instance."""
    part = Message()
    part["Content-Type"] = 'text/cloud-config; charset="us-ascii"'
    part["MIME-Version"] = "1.0"
    part.set_payload(yaml.safe_dump(cloud_config(), sort_keys=False, width=10_000))
    archive = MIMEMultipart(boundary=_BOUNDARY)
    archive.attach(part)
    return archive.as_string()


def encode(rendered: str) -> str:
    """Base64, as a launch template takes user data."""
    return base64.b64encode(rendered.encode()).decode()


def cloud_config() -> dict[str, object]:
    """What cloud-init does at boot, before ECS's agent starts."""
    return {
        "write_files": [
            {
                "path": ECS_CONFIG_FILE,
                "append": True,
                "content": "".join(f"{name}={value}\n" for name, value in ECS_CONFIG.items()),
            },
            _file(AGENT_FILE, Path(training_agent.__file__).read_text(encoding="utf-8")),
            _file(f"/etc/systemd/system/{AGENT_UNIT}", agent_unit()),
        ],
        "runcmd": [
            ["sh", "-c", NO_METADATA],
            ["systemctl", "daemon-reload"],
            # Without waiting: Docker may not be up yet.
            ["systemctl", "enable", "--now", "--no-block", AGENT_UNIT],
        ],
    }


def agent_unit() -> str:
    """The systemd unit that waits for the notice of a Spot interruption."""
    return f"""[Unit]
Description=modelkeep end of training before the instance's
After=docker.service

[Service]
ExecStart=/usr/bin/python3 {AGENT_FILE}
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
"""


def _file(path: str, content: str) -> dict[str, object]:
    return {"path": path, "owner": "root:root", "permissions": "0600", "content": content}
