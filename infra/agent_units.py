"""Pure rendering of what runs infra/instance_agent.py on an instance: its environment file and its systemd units."""

from collections.abc import Mapping
from pathlib import Path

from infra import instance_agent

AGENT_FILE = "/etc/modelkeep/instance_agent.py"
AGENT_ENVIRONMENT_FILE = "/etc/modelkeep/instance_agent.env"
LIFECYCLE_UNIT = "modelkeep-lifecycle.service"
GIVE_UP_UNIT = "modelkeep-give-up.service"
RESTART_SECONDS = 20
# A server that has been started so often in so many seconds, and still does not run, is beyond another start's help.
START_ATTEMPTS = 10
ATTEMPTS_SECONDS = 1800


def agent_environment(
    *, group: str, region: str, port: int, health_path: str, cache: str, owner: int
) -> dict[str, str]:
    """What the agent has to know; `cache` is the directory of models, `owner` the user that it belongs to."""
    return {
        "GROUP": group,
        "REGION": region,
        "HEALTH_URL": f"https://127.0.0.1:{port}{health_path}",
        "SERVER_UNIT": "modelkeep.service",
        "CACHE": cache,
        "CACHE_OWNER": str(owner),
    }


def agent_command(command: str) -> str:
    """How a unit runs one of the agent's commands."""
    return f"/usr/bin/python3 {AGENT_FILE} {command}"


def agent_files(environment_file: str) -> Mapping[str, str]:
    """The agent, its environment and its units, by path."""
    return {
        AGENT_FILE: Path(instance_agent.__file__).read_text(encoding="utf-8"),
        AGENT_ENVIRONMENT_FILE: environment_file,
        f"/etc/systemd/system/{LIFECYCLE_UNIT}": _lifecycle_unit(),
        f"/etc/systemd/system/{GIVE_UP_UNIT}": _give_up_unit(),
    }


def _lifecycle_unit() -> str:
    """Tells the group when the server is ready, and when it has drained."""
    return f"""[Unit]
Description=modelkeep lifecycle of the instance
After=network-online.target

[Service]
EnvironmentFile={AGENT_ENVIRONMENT_FILE}
ExecStart={agent_command("follow")}
Restart=on-failure
RestartSec={RESTART_SECONDS}

[Install]
WantedBy=multi-user.target
"""


def _give_up_unit() -> str:
    """Has the group replace the instance; the server's unit starts it once that has failed for good."""
    return f"""[Unit]
Description=modelkeep replacement of the instance

[Service]
Type=oneshot
EnvironmentFile={AGENT_ENVIRONMENT_FILE}
ExecStart={agent_command("give-up")}
Restart=on-failure
RestartSec={RESTART_SECONDS}
"""
