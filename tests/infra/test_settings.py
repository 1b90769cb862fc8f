import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pulumi.runtime.config as runtime_config
import pytest
import yaml

from infra.settings import Settings, SettingsError, load_settings, parse_settings

ROOT = Path(__file__).resolve().parents[2]
STACKS = ("local", "dev", "staging", "prod")
Values = dict[str, Any]


@pytest.mark.parametrize("stack", STACKS)
def test_every_stack_has_valid_settings(stack: str) -> None:
    config = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]
    settings = parse_settings({key.partition(":")[2]: value for key, value in config.items()})
    assert settings.models


def set_in(values: Values, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        values = values[part]
    values[last] = value


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("fleet.min", 5, "modelkeep:fleet: min 5 is above max 3; lower min or raise max"),
        ("fleet.min", "two", "modelkeep:fleet.min: 'two' should be a valid integer"),
        ("fleet.max", 2.5, "modelkeep:fleet.max: 2.5 should be a valid integer"),
        ("fleet.spot_percentage", 101, "modelkeep:fleet.spot_percentage: 101 should be less than or equal to 100"),
        (
            "fleet.instance_types",
            ["g6"],
            "modelkeep:fleet.instance_types[0]: 'g6' is no EC2 instance type; write one such as g6e.xlarge",
        ),
        ("fleet.instance_types", ["m7g.large"], "'m7g.large' has an Arm processor, and the image is built for x86_64"),
        ("fleet.instance_types", ["g6.xlarge", "m7i.large"], "mixes GPU (g6.xlarge) and other types (m7i.large)"),
        (
            "fleet.image",
            "repo/image:latest",
            "modelkeep:fleet.image: 'repo/image:latest' is no image in ECR by digest; write one such as 12345678",
        ),
        (
            "fleet.wheel_index",
            "http://wheels.example.com/cpu",
            "modelkeep:fleet.wheel_index: 'http://wheels.example.com/cpu' is no https address without a password",
        ),
        ("network.cidr", "8.8.0.0/16", "modelkeep:network: cidr 8.8.0.0/16 is not private; take a block of 10.0.0.0/8"),
        ("network.cidr", "10.0.0.0/8", "cidr 10.0.0.0/8 is larger than a VPC may be; take a /16 or smaller"),
        ("network.cidr", "10.0.0.0/24", "leaves each of 2 zones a /27; take a larger block or fewer zones"),
        ("network.cidr", "10.0.0.1/16", "modelkeep:network.cidr: '10.0.0.1/16'"),
        (
            "network.availability_zones",
            1,
            "modelkeep:network.availability_zones: 1 should be greater than or equal to 2",
        ),
        ("plans.demo.burst", 3, "modelkeep:plans.demo: burst 3 is below rate_per_second 20; raise burst"),
        ("plans", {}, "modelkeep:plans: dictionary should have at least 1 item"),
        ("firewall.body_limit_kb", 65, "modelkeep:firewall.body_limit_kb: 65 should be less than or equal to 64"),
        (
            "firewall.allow_cidrs",
            ["0.0.0.0/0"],
            "is every address there is, which an IP set does not take; leave the list empty",
        ),
        ("firewall.block_cidrs", ["::1/128"], "modelkeep:firewall.block_cidrs[0]: '::1/128'"),
        ("api.timeout_seconds", 901, "modelkeep:api.timeout_seconds: 901 should be less than or equal to 900"),
        (
            "api.domain",
            "no_domain",
            "modelkeep:api.domain: 'no_domain' is no domain; write one such as models.example.com",
        ),
        ("audit.retention_days", 8, "modelkeep:audit.retention_days: 8 should be 1, 3, 5, 7"),
        (
            "alerts.emails",
            ["nobody"],
            "modelkeep:alerts.emails[0]: 'nobody' is no address; write one such as oncall@example.com",
        ),
        ("models", [], "modelkeep:models: tuple should have at least 1 item"),
        ("region", "Ireland", "aws:region: 'Ireland' is no AWS region; write one such as eu-west-1"),
    ],
)
def test_a_bad_value_is_one_line_with_key_and_value(values: Values, path: str, value: Any, line: str) -> None:
    set_in(values, path, value)
    with pytest.raises(SettingsError) as caught:
        parse_settings(values)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_is_named_once_and_has_known_tasks(values: Values) -> None:
    values["models"].append(values["models"][0])
    with pytest.raises(SettingsError, match="models names smollm2-135m-instruct more than once; keep one of each"):
        parse_settings(values)
    values["models"] = [{"name": "a", "version": "1", "tasks": ["talk"]}]
    with pytest.raises(SettingsError, match=r"modelkeep:models\[0\]\.tasks\[0\]: 'talk' should be 'completions'"):
        parse_settings(values)
    values["models"] = [{"name": "a", "version": 1, "tasks": ["chat"]}]
    with pytest.raises(SettingsError, match=r"modelkeep:models\[0\]\.version: 1 should be a valid string"):
        parse_settings(values)


def test_int8_weights_are_for_cpus(values: Values) -> None:
    values["models"][0]["weights"] = "int8"
    first, second = parse_settings(values).models[:2]
    assert (first.weights, second.weights) == ("int8", "float32")
    assert first.as_variable()["weights"] == "int8"
    assert set(second.as_variable()) == {"name", "version", "tasks"}
    values["models"][1]["weights"] = "int4"
    with pytest.raises(SettingsError, match=r"modelkeep:models\[1\]\.weights: 'int4' should be 'float32' or 'int8'"):
        parse_settings(values)
    values["models"][1]["weights"] = "float32"
    values["fleet"]["instance_types"] = ["g6.xlarge", "g5.xlarge"]
    expected = (
        r"weights int8, which CPUs alone compute with, and fleet\.instance_types has GPUs \(g6\.xlarge, g5\.xlarge\)"
    )
    with pytest.raises(SettingsError, match=expected):
        parse_settings(values)


@pytest.mark.parametrize(
    ("instance_types", "variant"), [(["m7i.large", "c7i.xlarge"], "cpu"), (["g6.xlarge", "p5.48xlarge"], "cuda")]
)
def test_the_images_variant_follows_the_instance_types(values: Values, instance_types: list[str], variant: str) -> None:
    values["fleet"]["instance_types"] = instance_types
    assert parse_settings(values).fleet.variant == variant


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("fleet.mim", "modelkeep:fleet.mim is not a setting; did you mean min?"),
        ("flet", "modelkeep:flet is not a setting; did you mean fleet?"),
        ("plans.demo.rate", "modelkeep:plans.demo.rate is not a setting; did you mean rate_per_second?"),
        (
            "api.zzz",
            "modelkeep:api.zzz is not a setting; remove it, the settings here are authorizer_cache_seconds, "
            "budget_failure, domain, hosted_zone_id, minimum_tls, mutual_tls, oidc, timeout_seconds",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(values: Values, path: str, line: str) -> None:
    set_in(values, path, 1)
    with pytest.raises(SettingsError) as caught:
        parse_settings(values)
    assert str(caught.value) == line


def test_missing_keys_are_all_named(values: Values) -> None:
    del values["fleet"], values["api"]["timeout_seconds"], values["region"]
    with pytest.raises(SettingsError) as caught:
        parse_settings(values)
    assert str(caught.value).splitlines() == [
        "aws:region is missing; add it to the stack's Pulumi.<stack>.yaml",
        "modelkeep:fleet is missing; add it to the stack's Pulumi.<stack>.yaml",
        "modelkeep:api.timeout_seconds is missing; add it to the stack's Pulumi.<stack>.yaml",
    ]


def test_a_secret_value_is_not_shown(values: Values) -> None:
    values["alerts"]["emails"] = ["hunter2"]
    with pytest.raises(SettingsError) as caught:
        parse_settings(values, secret_keys=frozenset({"alerts"}))
    assert "hunter2" not in str(caught.value)
    assert "modelkeep:alerts.emails[0]: [secret]" in str(caught.value)


def test_a_rule_over_secret_values_does_not_show_them(values: Values) -> None:
    values["fleet"]["min"] = 4711
    with pytest.raises(SettingsError) as caught:
        parse_settings(values, secret_keys=frozenset({"fleet"}))
    assert "4711" not in str(caught.value)
    assert str(caught.value).startswith("modelkeep:fleet: [secret] breaks a rule")


def test_settings_are_frozen(values: Values) -> None:
    settings = parse_settings(values)
    with pytest.raises(ValueError, match="frozen"):
        settings.fleet.min = 7  # type: ignore[misc]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], Settings]:
    def from_config(config: dict[str, str]) -> Settings:
        monkeypatch.setattr(runtime_config, "CONFIG", type(runtime_config.CONFIG)("config", default=config))
        return load_settings(pulumi.Config("modelkeep"))

    return from_config


def as_config(values: Values) -> dict[str, str]:
    config = {f"modelkeep:{key}": json.dumps(value) for key, value in values.items() if key != "region"}
    return {**config, "aws:region": values["region"]}


def test_settings_are_read_from_pulumi(load: Callable[[dict[str, str]], Settings], values: Values) -> None:
    assert load(as_config(values)) == parse_settings(values)
    with pytest.raises(SettingsError, match=r"modelkeep:flete is not a setting; did you mean fleet\?"):
        load({**as_config(values), "modelkeep:flete": "{}"})
    with pytest.raises(SettingsError, match="modelkeep:fleet is plain text; write the section's keys below it"):
        load({**as_config(values), "modelkeep:fleet": "many"})


def test_the_schema_is_published() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "infra.settings"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    schema = json.loads(printed.stdout)
    assert set(schema["required"]) == set(Settings.model_fields) - {"canary", "storage"}
