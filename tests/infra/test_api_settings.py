"""The settings of the API's address, routes and canary: what is refused, and with which words."""

import json
from typing import Any

import pytest

from infra.api_settings import CANARY_TASKS
from infra.settings import Settings, SettingsError, parse_settings
from lambdas.canary import CALLS

Values = dict[str, Any]
TRUST = {"truststore_uri": "s3://example-trust/clients.pem", "truststore_version": "abc.DEF_1"}
DOMAIN = {"timeout_seconds": 60, "domain": "models.example.com"}
OIDC = {"issuer": "https://login.example.com/staff", "audience": "api://models", "plans": {"staff": "demo"}}


@pytest.mark.parametrize(
    ("section", "value", "line"),
    [
        (
            "api",
            {**DOMAIN, "mutual_tls": TRUST, "minimum_tls": "1.3"},
            "modelkeep:api: minimum_tls 1.3 and mutual_tls exclude each other: 1.3 needs a policy SecurityPolicy_*, "
            "and AWS enables mutual TLS on no domain with one; set minimum_tls 1.2 (who can still speaks 1.3) or "
            "remove mutual_tls",
        ),
        (
            "api",
            {"timeout_seconds": 60, "mutual_tls": TRUST},
            "modelkeep:api: mutual_tls set without a domain, which they are for; set domain or remove them",
        ),
        (
            "api",
            {"timeout_seconds": 60, "hosted_zone_id": "Z0123"},
            "modelkeep:api: hosted_zone_id set without a domain",
        ),
        ("api", {**DOMAIN, "hosted_zone_id": "example.com"}, "'example.com' is no id of a hosted zone; write one such"),
        ("api", {**DOMAIN, "minimum_tls": "1.1"}, "modelkeep:api.minimum_tls: '1.1' should be '1.2' or '1.3'"),
        (
            "api",
            {**DOMAIN, "mutual_tls": {**TRUST, "truststore_uri": "https://example.com/a.pem"}},
            "is no object in S3; write one such as s3://example-truststore/clients.pem",
        ),
        (
            "api",
            {**DOMAIN, "mutual_tls": {"truststore_uri": "s3://example-trust/a.pem"}},
            "modelkeep:api.mutual_tls.truststore_version is missing",
        ),
        (
            "api",
            {**DOMAIN, "authorizer_cache_seconds": -1},
            "modelkeep:api.authorizer_cache_seconds: -1 should be greater",
        ),
        ("api", {**DOMAIN, "authorizer_cache_seconds": 3601}, "3601 should be less than or equal to 3600"),
        ("api", {**DOMAIN, "oidc": {**OIDC, "issuer": "http://login.example.com"}}, "is no https address without"),
        (
            "api",
            {**DOMAIN, "oidc": {**OIDC, "jwks_uri": "https://a:b@example.com/keys"}},
            "is no https address without",
        ),
        ("api", {**DOMAIN, "oidc": {**OIDC, "audience": "a\nb"}}, "is no text of a claim"),
        ("api", {**DOMAIN, "oidc": {**OIDC, "plans": {}}}, "modelkeep:api.oidc.plans"),
        (
            "api",
            {**DOMAIN, "oidc": {**OIDC, "plans": {f"group-{number}": "demo" for number in range(200)}}},
            "characters, and a function's variables have room for 2048; name fewer groups in plans",
        ),
        (
            "api",
            {**DOMAIN, "oidc": {**OIDC, "plans": {"staff": "platinum"}}},
            "api.oidc.plans names platinum, which plans has not; name one of demo, trickle, sample",
        ),
        (
            "plans.demo.tokens_per_month",
            999_999,
            "tokens_per_month 999999 is below tokens_per_day 1000000; raise the first or lower the second",
        ),
        ("canary", {"model": "nobody"}, "modelkeep: canary.model nobody is not among models; name one of them"),
        (
            "canary",
            {"model": "bert-mlm"},
            "canary.model bert-mlm has no task that a canary calls; name one with completions, chat, embeddings",
        ),
        ("firewall.requests_per_5_minutes_per_token", 9, "should be greater than or equal to 10"),
        (
            "plans.demo.routes",
            {"POST /nowhere": {"rate_per_second": 1, "burst": 1}},
            "is no route of the API; name one",
        ),
        (
            "plans.demo.routes",
            {"POST /chat/completions": {"rate_per_second": 2, "burst": 1}},
            "burst 1 is below rate_per_second 2; raise burst",
        ),
        (
            "plans.demo.routes",
            {"POST /chat/completions": {"rate_per_second": 21, "burst": 40}},
            "routes POST /chat/completions allow more than the plan's rate_per_second 20 or burst 40; lower them",
        ),
        ("alerts", {"emails": [], "first_token_seconds": 0}, "modelkeep:alerts.first_token_seconds: 0 should be"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(values: Values, section: str, value: Any, line: str) -> None:
    *parents, last = section.split(".")
    found = values
    for part in parents:
        found = found[part]
    found[last] = value
    with pytest.raises(SettingsError) as caught:
        parse_settings(values)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_canary_needs_a_way_in(values: Values) -> None:
    values["canary"] = {"model": "minilm-l6"}
    assert parse_settings(values).canary is not None
    closed = {**values, "firewall": {**values["firewall"], "allow_cidrs": ["203.0.113.0/24"]}}
    with pytest.raises(SettingsError, match=r"firewall\.allow_cidrs keeps it out; remove canary, or leave allow_cidrs"):
        parse_settings(closed)
    with pytest.raises(SettingsError, match=r"no client certificate, which api\.mutual_tls asks for"):
        parse_settings({**values, "api": {**DOMAIN, "mutual_tls": TRUST}})
    with pytest.raises(SettingsError, match="plans names canary, which the stack makes for its canary"):
        parse_settings({**values, "plans": {**values["plans"], "canary": values["plans"]["demo"]}})


def test_the_function_has_a_call_for_every_task_that_the_settings_admit() -> None:
    assert set(CALLS) == set(CANARY_TASKS)


def test_the_schema_for_editors_knows_the_new_keys() -> None:
    schema = json.dumps(Settings.model_json_schema())
    keys = ("mutual_tls", "hosted_zone_id", "minimum_tls", "requests_per_5_minutes_per_token", "anonymous_ip", "bots")
    assert all(f'"{key}"' in schema for key in (*keys, "canary", "first_token_seconds", "routes"))
