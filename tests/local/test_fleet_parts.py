"""The parts of the fleet that need no emulator: choice of target, verdicts, addresses, what was deployed."""

import base64
import socket

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from infra.user_data import Boot, ForeignServer, ServerSettings, encode, render, server_environment
from local.balancer import Target
from local.errors import LocalError
from local.fleet.addresses import PORTS_TRIED, Addresses
from local.fleet.deployed import HealthCheck, environment_file
from local.fleet.health import Verdict, ask
from local.fleet.rotation import Rotation

TARGETS = [Target(id=f"i-{number}", url=f"https://127.0.0.{number + 2}:8443") for number in range(4)]


def check(*, healthy: int = 3, unhealthy: int = 2, codes: str = "200", scheme: str = "http") -> HealthCheck:
    return HealthCheck(
        scheme=scheme, port=None, path="/ready", codes=codes, interval=5.0, timeout=1.0,
        healthy_threshold=healthy, unhealthy_threshold=unhealthy,
    )  # fmt: skip


operations = st.lists(
    st.tuples(st.sampled_from(["in", "out", "forget", "pick", "release"]), st.integers(min_value=0, max_value=3)),
    max_size=60,
)


@given(operations=operations)
def test_the_choice_is_always_a_least_busy_target_in_service(operations: list[tuple[str, int]]) -> None:
    rotation = Rotation()
    serving: set[str] = set()
    busy: dict[str, int] = {}
    for operation, number in operations:
        target = TARGETS[number]
        match operation:
            case "in":
                rotation.put_in(target)
                serving.add(target.id)
                busy.setdefault(target.id, 0)
            case "out":
                rotation.take_out(target.id)
                serving.discard(target.id)
            case "forget":
                rotation.forget(target.id)
                serving.discard(target.id)
                busy.pop(target.id, None)
            case "release":
                rotation.release(target)
                busy[target.id] = max(0, busy[target.id] - 1) if target.id in busy else 0
                if target.id not in rotation.outstanding():
                    busy.pop(target.id)
            case "pick":
                picked = rotation.pick(exclude=[target.id])
                allowed = serving - {target.id}
                if not allowed:
                    assert picked is None
                    continue
                assert picked is not None
                assert picked.id in allowed
                assert busy[picked.id] == min(busy[one] for one in allowed)
                busy[picked.id] += 1
        assert rotation.outstanding() == busy
        assert {target.id for target in rotation.in_service()} == serving


def test_equally_busy_targets_take_turns() -> None:
    rotation = Rotation()
    for target in TARGETS:
        rotation.put_in(target)
    picked = []
    for _ in range(8):
        target = rotation.pick()
        assert target is not None
        picked.append(target.id)
        rotation.release(target)
    assert picked == [target.id for target in TARGETS] * 2


def verdicts(checks: str, *, healthy: int = 3, unhealthy: int = 2) -> str:
    verdict = Verdict(check=check(healthy=healthy, unhealthy=unhealthy))
    return "".join("+" if verdict.observe(success=one == "1") else "-" for one in checks)


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ("0001", "---+"),  # one success is enough for a target that is new
        ("101011", "++++++"),  # failures must follow one another
        ("10011", "++---"),
        ("100111", "++---+"),  # and to come back, successes must
        ("10011011", "++------"),
    ],
)
def test_thresholds_count_checks_in_a_row(checks: str, expected: str) -> None:
    assert verdicts(checks) == expected


@pytest.mark.parametrize(
    ("codes", "accepted", "refused"),
    [("200", [200], [199, 201, 404]), ("200,202", [200, 202], [201]), ("200-299", [200, 250, 299], [300])],
)
def test_matcher(codes: str, accepted: list[int], refused: list[int]) -> None:
    assert all(check(codes=codes).accepts(status) for status in accepted)
    assert not any(check(codes=codes).accepts(status) for status in refused)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_is_not_there_or_not_http_is_unhealthy(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = Target(id="i-1", url=f"{scheme}://127.0.0.1:{server.getsockname()[1]}")
        answer = ask(target, check=check(scheme=scheme))  # takes the connection and says nothing
        assert not answer.healthy
        assert answer.reason.startswith("/ready did not answer")
    assert not ask(target, check=check(scheme=scheme)).healthy


def test_addresses_are_taken_lowest_first_and_used_again() -> None:
    addresses = Addresses(base="127.0.7.2")
    with socket.socket() as probe:
        probe.bind(("127.0.7.2", 0))
        port = probe.getsockname()[1]
    taken = [addresses.take(port=port)[0] for _ in range(3)]
    assert taken == ["127.0.7.2", "127.0.7.3", "127.0.7.4"]
    addresses.give_back("127.0.7.3")
    assert addresses.take(port=port)[0] == "127.0.7.3"
    assert addresses.take(port=port)[0] == "127.0.7.5"


def test_no_free_port_is_one_line_naming_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.fleet.addresses._is_free", lambda *_: False)
    addresses = Addresses(base="127.0.7.2")
    with pytest.raises(LocalError, match=f"ports 8443 to {8442 + PORTS_TRIED} of 127.0.7.2 are all taken"):
        addresses.take(port=8443)


@pytest.mark.parametrize("base", ["10.0.0.1", "localhost", "::1"])
def test_only_loopback_addresses(base: str) -> None:
    with pytest.raises(LocalError, match="base address"):
        Addresses(base=base)


def user_data(files: object, *, head: str = "#cloud-config\n") -> str:
    return base64.b64encode((head + yaml.safe_dump({"write_files": files})).encode()).decode()


def test_the_environment_file_is_read_to_the_letter() -> None:
    content = '# comment\n\nMODELKEEP_MODELS=[{"name": "a=b"}]\nMODELKEEP_TLS_DIR=\n'
    files = [{"path": "/etc/other", "content": "x"}, {"path": "/etc/modelkeep/server.env", "content": content}]
    variables = environment_file(user_data(files), label="template")
    assert variables == {"MODELKEEP_MODELS": '[{"name": "a=b"}]', "MODELKEEP_TLS_DIR": ""}


def test_what_the_program_renders_is_what_a_server_gets() -> None:
    server = ServerSettings(
        stack="local", region="eu-west-1", models_bucket="models-1", autoscaling_group="fleet-1",
        signing_keys="k", promotions_parameter="",
        models=[{"name": "gpt2", "version": "1", "tasks": ["completions"]}],
        target_inflight=8, body_limit_kb=64, timeout_seconds=60,
    )  # fmt: skip
    boot = Boot(
        image="123456789012.dkr.ecr.eu-west-1.amazonaws.com/m@sha256:0", gpu=False, log_group="g", server=server
    )
    assert environment_file(encode(render(boot)), label="template") == server_environment(server)


def test_another_servers_image_cannot_run_here_and_that_is_said() -> None:
    server = ServerSettings(
        stack="local", region="eu-west-1", models_bucket="models-1", autoscaling_group="fleet-1",
        signing_keys="k", promotions_parameter="",
        models=[{"name": "gpt2", "version": "1", "tasks": ["completions"]}],
        target_inflight=8, body_limit_kb=64, timeout_seconds=60, port=8000,
    )  # fmt: skip
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/vllm@sha256:0"
    foreign = ForeignServer(image=image, command=["--port", "8000"], environment={}, inflight_metrics=["running"])
    boot = Boot(image=image, gpu=False, log_group="g", server=server, foreign=foreign)
    with pytest.raises(LocalError, match=r"template runs the image of fleet\.server.*remove fleet\.server") as caught:
        environment_file(encode(render(boot)), label="template")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        "%%%",
        base64.b64encode(b"\xff\xfe").decode(),
        base64.b64encode(b"#cloud-config\n[").decode(),
        base64.b64encode(b"#!/bin/sh\n").decode(),
        user_data([], head=""),
        user_data([]),
        user_data("text"),
        user_data([{"path": "/etc/modelkeep/server.env", "content": "no equals sign"}]),
        user_data([{"path": "/etc/modelkeep/server.env", "content": "a b=c"}]),
        user_data([{"path": "/etc/modelkeep/server.env", "content": 7}]),
    ],
)
def test_user_data_that_is_not_ours_is_one_line(data: str) -> None:
    with pytest.raises(LocalError, match="deploy the stack again") as caught:
        environment_file(data, label="template")
    assert "\n" not in str(caught.value)
