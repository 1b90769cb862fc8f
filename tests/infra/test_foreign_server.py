"""A server that is not this project's own: what its settings may be, and what an instance then boots."""

import json
import re
import shlex
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infra import user_data
from infra.settings import SettingsError, parse_settings

Values = dict[str, Any]
IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/vllm-openai@sha256:" + "1" * 64
OWN_IMAGE = "210987654321.dkr.ecr.eu-west-1.amazonaws.com/modelkeep-test/model-server:t@sha256:" + "2" * 64
MODEL = "/var/lib/modelkeep/models/llama-3/1"
COMMAND = [
    MODEL, "--served-model-name", "llama-3", "--port", "8000",
    "--ssl-certfile", "/run/modelkeep/tls/server.crt", "--ssl-keyfile", "/run/modelkeep/tls/server.key",
]  # fmt: skip


def vllm(**changed: Any) -> Values:
    return {
        "image": IMAGE,
        "command": COMMAND,
        "port": 8000,
        "health_path": "/health",
        "inflight_metrics": ["vllm:num_requests_running", "vllm:num_requests_waiting"],
        **changed,
    }


def with_server(values: Values, server: Values) -> Values:
    values["fleet"]["server"] = server
    values["models"] = [{"name": "llama-3", "version": "1", "tasks": ["chat", "completions"]}]
    return values


class TestSettings:
    def test_port_and_health_path_are_the_servers(self, values: Values) -> None:
        own = parse_settings(values).fleet
        assert (own.port, own.health_path) == (user_data.PORT, "/ready")
        foreign = parse_settings(with_server(values, vllm())).fleet
        assert (foreign.port, foreign.health_path) == (8000, "/health")

    @pytest.mark.parametrize(
        ("changed", "line"),
        [
            (
                {"image": "vllm/vllm-openai:latest"},
                "modelkeep:fleet.server.image: 'vllm/vllm-openai:latest' is no image in ECR by digest; write one such",
            ),
            (
                {"command": [MODEL]},
                "modelkeep:fleet.server: command and environment do not name /run/modelkeep/tls/server.crt and "
                "/run/modelkeep/tls/server.key; every hop is TLS",
            ),
            (
                {"command": [*COMMAND, "--enable-log-requests"]},
                "modelkeep:fleet.server: command has --enable-log-requests, which logs what users write; remove it",
            ),
            *(
                (
                    {"command": [*COMMAND, option]},
                    f"modelkeep:fleet.server: command has {option.partition('=')[0]}, which logs what users write",
                )
                for option in (
                    "--enable_log_requests",
                    "--enable-log-req",
                    "--enable-log-outputs=true",
                    "--no-disable-log-requests",
                    "--log-requests",
                )
            ),
            (
                {"environment": {"VLLM_DEBUG_LOG_API_SERVER_RESPONSE": "true"}},
                "environment has VLLM_DEBUG_LOG_API_SERVER_RESPONSE, which logs what users write; remove it",
            ),
            *(
                (
                    {"command": [*COMMAND, *option]},
                    f"modelkeep:fleet.server: command has {option[0].partition('=')[0]}, a secret that whoever may",
                )
                for option in (["--api-key", "hunter2"], ["--api_key=hunter2"], ["--hf-tok", "hunter2"])
            ),
            (
                {"command": [*COMMAND, *["x" * 1000] * 16]},
                "modelkeep: fleet.server's command and environment and the models make ",
            ),
            ({"command": []}, "modelkeep:fleet.server.command: tuple should have at least 1 item"),
            ({"command": [*COMMAND, "a\nb"]}, r"modelkeep:fleet.server.command[9]: 'a\nb' is no argument"),
            ({"port": 443}, "modelkeep:fleet.server.port: 443 should be greater than or equal to 1024"),
            ({"port": "8000"}, "modelkeep:fleet.server.port: '8000' should be a valid integer"),
            (
                {"health_path": "health"},
                "modelkeep:fleet.server.health_path: 'health' is no path of a URL; write one such as /health",
            ),
            (
                {"inflight_metrics": []},
                "modelkeep:fleet.server.inflight_metrics: tuple should have at least 1 item",
            ),
            (
                {"inflight_metrics": ["num requests"]},
                "modelkeep:fleet.server.inflight_metrics[0]: 'num requests' is no name of a Prometheus metric",
            ),
            ({"environment": {"HF_TOKEN": "x"}}, "looks like a secret, and who may describe the launch template"),
            ({"environment": {"AWS_PROFILE": "x"}}, "belongs to this project's own containers"),
            ({"environment": {"lower": "x"}}, "'lower' is no name of a variable; write one such as VLLM_LOGGING_LEVEL"),
            ({"helth_path": "/"}, "modelkeep:fleet.server.helth_path is not a setting; did you mean health_path?"),
        ],
    )
    def test_a_bad_value_is_one_line_with_key_value_and_remedy(
        self, values: Values, changed: Values, line: str
    ) -> None:
        with pytest.raises(SettingsError) as caught:
            parse_settings(with_server(values, vllm(**changed)))
        assert line in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "hunter2" not in str(caught.value)

    def test_what_only_reads_like_logging_is_taken(self, values: Values) -> None:
        command = [*COMMAND, "--disable-log-requests", "--log-requests-level", "0", "--no-enable-log-requests", "--"]
        off = {"VLLM_DEBUG_LOG_API_SERVER_RESPONSE": "False"}
        assert parse_settings(with_server(values, vllm(command=command, environment=off))).fleet.server

    def test_what_the_settings_take_an_instance_boots(self, values: Values) -> None:
        command = [*COMMAND, *["x" * 1000] * 3]
        assert parse_settings(with_server(values, vllm(command=command))).fleet.server
        assert user_data.render(boot(command=command))

    def test_tls_may_come_by_the_environment(self, values: Values) -> None:
        names = {"CERT_FILE": user_data.TLS_CERTIFICATE, "PRIVATE_PEM": user_data.TLS_KEY}
        assert parse_settings(with_server(values, vllm(command=[MODEL], environment=names))).fleet.server

    @pytest.mark.parametrize("directory", ["/var/lib/modelkeep/models/llama-3/2", f"{MODEL}0", "/models/llama-3/1"])
    def test_a_model_that_the_server_is_not_told_of_is_refused(self, values: Values, directory: str) -> None:
        command = [directory, *COMMAND[1:]]
        with pytest.raises(SettingsError, match=re.escape(f"modelkeep: fleet.server is not told of {MODEL}, where")):
            parse_settings(with_server(values, vllm(command=command)))
        assert parse_settings(with_server(values, vllm(command=[f"--model={MODEL}", *COMMAND[1:]])))

    def test_tasks_without_a_route_of_openais_are_refused(self, values: Values) -> None:
        with_server(values, vllm())["models"][0]["tasks"] = ["chat", "sentiment", "fill-mask"]
        with pytest.raises(SettingsError, match=r"models have tasks fill-mask, sentiment, for which fleet\.server has"):
            parse_settings(values)

    def test_weights_are_the_servers_own_matter(self, values: Values) -> None:
        with_server(values, vllm())["models"][0]["weights"] = "int8"
        with pytest.raises(SettingsError, match=r"models llama-3 set weights, which fleet\.server decides"):
            parse_settings(values)


def boot(*, gpu: bool = True, command: list[str] | None = None) -> user_data.Boot:
    return user_data.Boot(
        image=OWN_IMAGE,
        gpu=gpu,
        log_group="servers",
        server=user_data.ServerSettings(
            stack="test",
            region="eu-west-1",
            models_bucket="models-1",
            signing_keys="a2V5",
            promotions_parameter="/p",
            models=[{"name": "llama-3", "version": "1", "tasks": ["chat"]}],
            autoscaling_group="modelkeep-test",
            target_inflight=4,
            body_limit_kb=64,
            timeout_seconds=120,
            port=8000,
        ),
        foreign=user_data.ForeignServer(
            image=IMAGE,
            command=COMMAND if command is None else command,
            environment={"VLLM_NO_USAGE_STATS": "1"},
            inflight_metrics=["vllm:num_requests_running"],
        ),
    )


def commands(unit: str, key: str) -> list[list[str]]:
    """The command lines of a unit, as systemd would split them."""
    joined = re.sub(r" \\\n\s*", " ", unit)
    lines = [line.partition("=")[2] for line in joined.splitlines() if line.startswith(f"{key}=")]
    return [[word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line)] for line in lines]


@pytest.fixture
def files() -> dict[str, str]:
    return {each["path"]: each["content"] for each in yaml.safe_load(user_data.render(boot()))["write_files"]}


class TestBoot:
    def test_verified_models_and_a_certificate_are_there_before_the_server(self, files: dict[str, str]) -> None:
        unit = files[user_data.SERVICE_FILE]
        before = commands(unit, "ExecStartPre")
        assert [each[1:3] for each in before] == [
            ["/etc/modelkeep/instance_agent.py", "cache"],
            ["pull", "--quiet"], ["-d", "-o"], ["run", "--rm"], ["pull", "--quiet"],
        ]  # fmt: skip
        assert [before[1][-1], before[4][-1]] == [OWN_IMAGE, IMAGE]
        bring = before[3]
        assert bring[-2:] == [OWN_IMAGE, "bring"]
        assert bring[bring.index("--env-file") + 1] == user_data.BRING_ENVIRONMENT_FILE
        (run,) = commands(unit, "ExecStart")
        assert run[run.index(IMAGE) + 1 :] == COMMAND

    def test_what_brings_the_models_is_told_of_them_and_the_server_is_not(self, files: dict[str, str]) -> None:
        ours = dict(line.split("=", 1) for line in files[user_data.BRING_ENVIRONMENT_FILE].splitlines())
        assert json.loads(ours["MODELKEEP_MODELS"])[0]["name"] == "llama-3"
        assert ours["MODELKEEP_PORT"] == "8000"
        theirs = dict(line.split("=", 1) for line in files[user_data.ENVIRONMENT_FILE].splitlines())
        assert theirs == {
            "HOME": "/var/cache/modelkeep", "TMPDIR": "/var/cache/modelkeep", "USER": "modelkeep",
            "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
        }  # fmt: skip

    def test_the_server_has_no_privileges_no_role_and_nothing_to_write_but_memory(self, files: dict[str, str]) -> None:
        (run,) = commands(files[user_data.SERVICE_FILE], "ExecStart")
        options = run[: run.index(IMAGE)]
        assert {"--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"} <= set(options)
        assert options[options.index("--user") + 1] == "10001:10001"
        assert "--privileged" not in options
        # On Docker's own network the credentials' service is two hops away, and it answers one.
        assert "--network" not in options
        assert options[options.index("--publish") + 1] == "8000:8000"
        volumes = [value for option, value in pairwise(options) if option == "--volume"]
        assert volumes
        assert all(each.endswith(":ro") for each in volumes)
        scratch = [value for option, value in pairwise(options) if option == "--tmpfs"]
        assert [each.partition(":")[0] for each in scratch if ":rw,noexec" not in each] == ["/var/cache/modelkeep"]
        assert all("nosuid,nodev" in each for each in scratch)
        assert "--gpus" in options
        assert "--gpus" not in user_data.foreign_docker_command(boot(gpu=False), vllm_server())

    def test_its_requests_in_flight_are_watched(self, files: dict[str, str]) -> None:
        (run,) = commands(files[user_data.WATCH_SERVICE_FILE], "ExecStart")
        assert run[run.index(OWN_IMAGE) :] == [OWN_IMAGE, "watch", "vllm:num_requests_running"]
        assert run[run.index("--env-file") + 1] == user_data.BRING_ENVIRONMENT_FILE

    def test_both_registries_are_logged_in_to(self, files: dict[str, str]) -> None:
        helpers = json.loads(files["/etc/modelkeep/docker/config.json"])["credHelpers"]
        assert set(helpers) == {IMAGE.partition("/")[0], OWN_IMAGE.partition("/")[0]}

    def test_this_projects_own_server_boots_without_any_of_it(self) -> None:
        own = user_data.Boot(image=OWN_IMAGE, gpu=False, log_group="servers", server=boot().server)
        config = yaml.safe_load(user_data.render(own))
        paths = {each["path"] for each in config["write_files"]}
        assert not paths & {user_data.BRING_ENVIRONMENT_FILE, user_data.WATCH_SERVICE_FILE}
        assert "watch" not in str(config["runcmd"])


def vllm_server() -> user_data.ForeignServer:
    foreign = boot().foreign
    assert foreign is not None
    return foreign


ARGUMENT = st.text(st.characters(exclude_categories=["Cc", "Cs"], max_codepoint=0x2FF), min_size=1, max_size=40)


@settings(deadline=None, max_examples=50)
@given(st.lists(ARGUMENT, min_size=1, max_size=6))
@example(['{"rope_scaling": {"factor": 2.0}}', "100%", "$HOME", "\\", 'a"b', ";", "--x='y'", '\\\\"'])
def test_every_argument_reaches_the_server_as_it_is(command: list[str]) -> None:
    text = user_data.render(boot(command=command))
    unit = {each["path"]: each["content"] for each in yaml.safe_load(text)["write_files"]}[user_data.SERVICE_FILE]
    (run,) = commands(unit, "ExecStart")
    assert run[run.index(IMAGE) + 1 :] == command


class TestGraph:
    Changed = Callable[[Callable[[Values], None]], Any]

    @pytest.fixture
    def graph(self, changed_graph: Changed) -> Any:
        def change(config: Values) -> None:
            config["modelkeep:fleet"]["server"] = vllm()
            config["modelkeep:models"] = [{"name": "llama-3", "version": "1", "tasks": ["chat"]}]

        return changed_graph(change)

    def test_port_and_health_path_flow_to_target_group_and_security_groups(self, graph: Any) -> None:
        targets = graph.one("targetGroup:TargetGroup")["inputs"]
        assert (targets["port"], targets["protocol"]) == (8000, "HTTPS")
        assert (targets["healthCheck"]["path"], targets["healthCheck"]["protocol"]) == ("/health", "HTTPS")
        rules = graph.of_type("GroupIngressRule") + graph.of_type("GroupEgressRule")
        ports = {each["name"]: each["inputs"]["fromPort"] for each in rules}
        assert ports["fleet-instance-balancer-in"] == ports["fleet-instance-balancer-out"] == 8000
        assert user_data.PORT not in ports.values()

    def test_its_image_may_be_pulled_it_is_shown_and_the_fleet_follows_its_requests(self, graph: Any) -> None:
        (policy,) = [each for each in graph.of_type("rolePolicy:RolePolicy") if each["name"] == "fleet-instance-policy"]
        statements = {each["Sid"]: each for each in policy["inputs"]["policy"]["Statement"]}
        assert statements["PullForeignServer"]["Resource"] == [
            "arn:aws:ecr:eu-west-1:123456789012:repository/vllm-openai"
        ]
        shown = graph.one("modelkeep:index:Instance")["inputs"]["foreignServer"]
        assert (shown["image"], shown["command"]) == (IMAGE, COMMAND)
        tracking = graph.one("autoscaling/policy:Policy")["inputs"]["targetTrackingConfiguration"]
        assert tracking["customizedMetricSpecification"]["metricName"] == "InFlightRequests"
