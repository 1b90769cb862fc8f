import base64
import json
from typing import Any

import pytest
import yaml

from infra import user_data

MODELS = [{"name": "gpt2", "version": "1", "tasks": ["completions"]}]
CONTRACT = {
    "MODELKEEP_STACK", "MODELKEEP_MODELS_BUCKET", "MODELKEEP_SIGNING_KEYS", "MODELKEEP_PROMOTIONS_PARAMETER",
    "MODELKEEP_MODELS", "MODELKEEP_CACHE_DIR", "MODELKEEP_HOST", "MODELKEEP_PORT",
    "MODELKEEP_TLS_DIR", "MODELKEEP_AUTOSCALING_GROUP", "MODELKEEP_DRAIN_SECONDS",
    "MODELKEEP_TARGET_INFLIGHT", "MODELKEEP_BODY_LIMIT_KB", "MODELKEEP_TIMEOUT_SECONDS",
    "AWS_REGION", "AWS_DEFAULT_REGION", "MODELKEEP_BUDGETS_TABLE", "MODELKEEP_BUDGET_FAILURE", "MODELKEEP_USAGE_STREAM",
}  # fmt: skip


def boot(*, gpu: bool = False, models: list[dict[str, Any]] | None = None) -> user_data.Boot:
    return user_data.Boot(
        image="123456789012.dkr.ecr.eu-west-1.amazonaws.com/server:t@sha256:00",
        gpu=gpu,
        log_group="servers",
        server=user_data.ServerSettings(
            stack="test",
            region="eu-west-1",
            models_bucket="models-1",
            signing_keys="a2V5",
            promotions_parameter="/p",
            models=MODELS if models is None else models,
            autoscaling_group="modelkeep-test",
            target_inflight=4,
            body_limit_kb=64,
            timeout_seconds=120,
        ),
    )


def files(text: str) -> dict[str, str]:
    return {each["path"]: each["content"] for each in yaml.safe_load(text)["write_files"]}


def test_the_environment_file_has_exactly_the_servers_variables() -> None:
    content = files(user_data.render(boot()))["/etc/modelkeep/server.env"]
    variables = dict(line.split("=", 1) for line in content.splitlines())
    assert set(variables) == CONTRACT
    assert json.loads(variables["MODELKEEP_MODELS"]) == MODELS
    assert variables["MODELKEEP_MODELS_BUCKET"] == "models-1"
    assert variables["MODELKEEP_SIGNING_KEYS"] == "a2V5"
    assert variables["MODELKEEP_AUTOSCALING_GROUP"] == "modelkeep-test"
    assert not any(value.startswith(('"', "'")) for value in variables.values())


def test_a_line_break_cannot_smuggle_in_a_variable() -> None:
    with pytest.raises(ValueError, match="MODELKEEP_STACK holds a line break"):
        user_data.environment_file({"MODELKEEP_STACK": "a\nAWS_REGION=b"})


def test_the_container_has_no_privileges() -> None:
    command = " ".join(user_data.docker_command(boot()))
    for flag in ("--read-only", "--cap-drop ALL", "--security-opt no-new-privileges", "--user 10001:10001"):
        assert flag in command
    assert "--privileged" not in command
    assert "--gpus" not in command
    assert "--gpus all" in " ".join(user_data.docker_command(boot(gpu=True)))


def test_the_image_is_pulled_and_run_by_digest_with_the_roles_login() -> None:
    written = files(user_data.render(boot()))
    unit = written[user_data.SERVICE_FILE]
    assert unit.count("@sha256:00") == 2
    assert {"amazon-ecr-credential-helper", "awscli-2"} == set(yaml.safe_load(user_data.render(boot()))["packages"])
    helpers = json.loads(written["/etc/modelkeep/docker/config.json"])["credHelpers"]
    assert helpers == {"123456789012.dkr.ecr.eu-west-1.amazonaws.com": "ecr-login"}


def test_the_login_helper_has_a_home() -> None:
    """systemd gives a system's own service none, and the helper of ECR looks for its settings there."""
    assert "Environment=HOME=/root DOCKER_CONFIG=" in user_data.service_unit(boot())


def test_an_instance_that_goes_has_time_to_drain() -> None:
    unit = user_data.service_unit(boot())
    stop = int(unit.split("docker stop --time ")[1].split()[0])
    limit = int(unit.split("TimeoutStopSec=")[1].split()[0])
    assert 120 == boot().server.drain_seconds < stop < limit


def test_user_data_is_cloud_config_and_survives_its_encoding() -> None:
    text = user_data.render(boot())
    assert text.startswith("#cloud-config\n")
    assert base64.b64decode(user_data.encode(text)).decode() == text
    assert all(each["permissions"] == "0600" for each in yaml.safe_load(text)["write_files"])


def test_user_data_too_large_for_ec2_is_refused() -> None:
    many = [{"name": f"model-{index}", "version": "1", "tasks": ["completions", "chat"]} for index in range(300)]
    with pytest.raises(ValueError, match="EC2 takes 16384; name fewer models"):
        user_data.render(boot(models=many))


def test_a_server_that_does_not_start_is_given_up_after_many_attempts() -> None:
    unit = user_data.service_unit(boot())
    head = unit.partition("[Service]")[0]
    assert "OnFailure=modelkeep-give-up.service" in head
    attempts, seconds = (int(head.split(f"StartLimit{each}=")[1].split()[0]) for each in ("Burst", "IntervalSec"))
    pause = int(unit.split("RestartSec=")[1].split()[0])
    assert attempts * pause < seconds, "systemd would never count so many starts within the interval"
    assert (
        "ExecStart=/usr/bin/python3 /etc/modelkeep/instance_agent.py give-up"
        in (files(user_data.render(boot()))["/etc/systemd/system/modelkeep-give-up.service"])
    )


def test_the_group_is_told_before_the_server_can_fail() -> None:
    document = yaml.safe_load(user_data.render(boot()))
    started = [command[-1] for command in document["runcmd"] if command[:2] == ["systemctl", "enable"]]
    assert started == ["modelkeep-lifecycle.service", "modelkeep.service"]
    written = files(user_data.render(boot()))
    environment = dict(line.split("=", 1) for line in written["/etc/modelkeep/instance_agent.env"].splitlines())
    assert environment == {
        "GROUP": "modelkeep-test", "REGION": "eu-west-1", "HEALTH_URL": "https://127.0.0.1:8443/ready",
        "SERVER_UNIT": "modelkeep.service", "CACHE": "/var/lib/modelkeep", "CACHE_OWNER": "10001",
    }  # fmt: skip
    assert "def follow()" in written["/etc/modelkeep/instance_agent.py"]


def test_the_models_directory_is_there_before_the_container_whatever_disk_it_is_on() -> None:
    first, *_ = [line for line in user_data.service_unit(boot()).splitlines() if line.startswith("ExecStartPre=")]
    assert first == "ExecStartPre=/usr/bin/python3 /etc/modelkeep/instance_agent.py cache"
