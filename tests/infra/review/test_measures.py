"""What single values are measured by: scales, schedules, prices, conditions, addresses, tables."""

# ruff: noqa: E501  (a table reads by the line)

import ipaddress
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.review import conditions
from infra.review.iam_actions import everything, expand, severity_of, spelled
from infra.review.openings import contained
from infra.review.policies import POLICY_TYPES
from infra.review.prices import load_prices
from infra.review.scales import make_scale
from infra.review.schedule import Action, weekly_average
from infra.review.state import known_types
from infra.review.values import comparable, plain, shown
from infra.review.watch import watches

ROOT = Path(__file__).resolve().parents[3]
PROVIDER = "pulumi:providers:aws"


@pytest.mark.parametrize(
    ("spec", "weaker_and_weaker"),
    [
        ("enabled", [True, False]),
        ("enabled", [[True, "Enabled"], [True, False]]),
        ({"enabled": {"unset": True}}, [None, False]),
        ("disabled", [None, True]),
        ("present", [["x"], []]),
        ("absent", [None, "x"]),
        ({"order": ["a", "b", "c"], "unset": "c"}, ["a", "b", None]),
        ({"one_of": ["a", "b"], "unset": "c"}, ["b", None]),
        ({"none_of": ["NONE"], "unset": "NONE"}, ["CUSTOM", None]),
        ({"at_least": 2}, [["a", "b"], ["a", "a"]]),
        ({"parts": ","}, ["a, b", "a"]),
        ("key", ["<key.arn>", "alias/aws/s3", None]),
        ({"less_is_weaker": {"unset": 36500, "zero": 36500}}, [0, 365, 30]),
        ({"less_is_weaker": {"unset": 10}}, [[30, 20], [30, 5]]),
        ({"more_is_weaker": {"unset": 10000, "negative": 10000}}, [1, 2.5, -1]),
        ({"retention": {"unset": 0}}, [{"years": 7}, {"days": 400}, {"years": 1}, {"days": 1}, None]),
        ("tls", ["ELBSecurityPolicy-TLS13-1-3-2021-06", "ELBSecurityPolicy-TLS13-1-2-Res-2021-06", "ELBSecurityPolicy-TLS13-1-2-Ext2-2021-06", "ELBSecurityPolicy-TLS-1-1-2017-01", "ELBSecurityPolicy-2016-08"]),
        ("tls", ["SecurityPolicy_TLS13_1_3_2025_09", "SecurityPolicy_TLS13_1_2_2021_06", "TLS_1_0"]),
        ("tls", ["TLS_1_2", "TLS_1_0"]),
        ("tls", ["ELBSecurityPolicy-FS-1-2-Res-2020-10", "ELBSecurityPolicy-FS-1-1-2019-08", "ELBSecurityPolicy-FS-2018-06"]),
    ],
)  # fmt: skip
def test_a_scale_goes_from_strong_to_weak(spec: Any, weaker_and_weaker: list[Any]) -> None:
    scale = make_scale(spec)
    ranks = [scale(value) for value in weaker_and_weaker]
    assert None not in ranks
    assert ranks == sorted(set(ranks))  # type: ignore[type-var]  # none is None


@pytest.mark.parametrize(("spec", "value"), [("tls", "Custom"), ({"order": ["a"], "unset": "a"}, "z")])
def test_what_a_scale_does_not_know_is_unknown(spec: Any, value: str) -> None:
    assert make_scale(spec)(value) is None


def test_a_word_that_is_no_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a scale; the scales are absent"):
        make_scale("on")


def test_every_row_of_the_tables_is_of_a_type_that_there_is() -> None:
    from local.schema import type_schema

    rows = {kind for watch in watches() for kind in (watch.type, *(companion[0] for companion in watch.companions))}
    for kind in sorted({*rows, *POLICY_TYPES} - {PROVIDER}):
        assert type_schema(kind).inputs, kind
    for kind in known_types():
        schema = type_schema(kind)
        table = yaml.safe_load((ROOT / "infra/review/replacements.yaml").read_text())["replaced_when_changed"][kind]
        assert set(table) <= schema.inputs, (kind, set(table) - schema.inputs)


def test_every_watched_path_starts_at_an_input_that_there_is() -> None:
    from pulumi import _types
    from pulumi_aws import ProviderArgs

    from local.schema import type_schema

    provider_inputs = frozenset(_types.input_type_py_to_pulumi_names(ProviderArgs).values())
    for watch in watches():
        inputs = provider_inputs if watch.type == PROVIDER else type_schema(watch.type).inputs
        for path in watch.paths:
            top = re.match(r"[a-zA-Z0-9]+", path)
            if top and "(" not in path and "?" not in path:
                assert top[0] in inputs, (watch.type, path)
        for kind, prop, path in watch.companions:
            assert prop in type_schema(kind).inputs, (kind, prop)
            top = re.match(r"[a-zA-Z0-9]+", path)
            assert not top or top[0] in type_schema(kind).inputs, (kind, path)


def test_a_schedule_weighs_the_hours_of_a_week() -> None:
    day, night = Action("0 8 * * 1-5", 2, 4), Action("0 20 * * 1-5", 0, 0)
    least, most = weekly_average(1, 2, [day, night])
    assert least == pytest.approx(2 * 60 / 168)
    assert most == pytest.approx(4 * 60 / 168)
    assert weekly_average(1, 2, []) == (1.0, 2.0)
    assert weekly_average(1, 2, [Action("0 0 * * *", 3, None)]) == (3.0, 2.0)


@pytest.mark.parametrize("cron", ["0 0 1 * *", "0 0 * *", "a b * * *", "@daily"])
def test_a_schedule_that_is_not_weekly_is_refused(cron: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        weekly_average(1, 2, [Action(cron, 1, 1)])


def test_prices_are_dated_and_a_missing_one_is_unknown() -> None:
    prices = load_prices()
    assert prices.updated.startswith("20")
    assert "read 20" in prices.source
    assert prices.hourly("eu-west-1", "g5.xlarge") == 1.123
    assert prices.hourly("eu-west-1", "g6.xlarge") is None
    assert prices.hourly("mars-1", "g5.xlarge") is None
    assert all(0 < price < 200 for table in prices.on_demand.values() for price in table.values())


def test_actions_are_expanded_and_spelled_as_aws_has_them() -> None:
    assert expand("iam:PassRole") == {"iam:passrole"}
    assert expand("S3:getobject") == {"s3:getobject"}
    assert expand("sqs:*Message") >= {"sqs:sendmessage", "sqs:receivemessage"}
    assert expand("nowhere:*") == {"nowhere:*"}
    assert expand("*") == everything()
    assert spelled(expand("kms:Decrypt") | expand("s3:GetObject")) == "kms:Decrypt, s3:GetObject"
    assert spelled(everything()) == "every action (*)"
    assert spelled(expand("sqs:*")).startswith("sqs:* (")
    assert [
        severity_of(name)
        for name in ("iam:passrole", "s3:putbucketpolicy", "s3:putobject", "s3:getobject", "s3:listbucket")
    ] == [
        "high",
        "high",
        "medium",
        "medium",
        "low",
    ]


def test_a_condition_is_shown_as_it_is_written() -> None:
    tests = conditions.parse({"ForAnyValue:StringLikeIfExists": {"aws:TagKeys": ["a", "b"]}})
    assert conditions.shown(tests) == "aws:TagKeys ForAnyValue:StringLikeIfExists a or b"


def test_networks_are_contained_in_what_others_hold_together() -> None:
    halves = [ipaddress.ip_network("0.0.0.0/1"), ipaddress.ip_network("128.0.0.0/1")]
    assert contained(ipaddress.ip_network("0.0.0.0/0"), halves)
    assert not contained(ipaddress.ip_network("0.0.0.0/0"), halves[:1])
    assert not contained(ipaddress.ip_network("::/0"), halves)


def test_values_have_one_spelling() -> None:
    assert plain({"a": "true", "b": 2.0, "c": '{"d": null, "e": [1]}', "f": None}) == {
        "a": True,
        "b": 2,
        "c": {"e": [1]},
    }
    assert comparable([3, 1, {"x": ["b", "a"]}]) == comparable([{"x": ["a", "b"]}, 1, 3])
    assert comparable({"overrides": [{"t": "a"}, {"t": "b"}]}) != comparable({"overrides": [{"t": "b"}, {"t": "a"}]})
    assert shown(None) == "-"
    assert shown("x y" * 200).endswith("…")
    assert shown("IyEvYmluL3NoCmVjaG8gaGkK" * 20).startswith("40 lines, sha256 ")
