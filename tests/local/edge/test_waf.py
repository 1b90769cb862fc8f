"""The web ACL: every statement and component, order, labels, groups, and nothing unknown passed over."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.edge.deployed import WebAcl
from local.edge.exchange import Request
from local.edge.waf import Firewall, Inspected, RateCounters, Verdict
from local.edge.waf.managed import GROUPS
from local.errors import LocalError

NONE = [{"Priority": 0, "Type": "NONE"}]
BODY = {"Body": {"OversizeHandling": "CONTINUE"}}
LISTED = "arn:aws:wafv2:eu-west-1:1:regional/ipset/listed/1"
PATTERNS = "arn:aws:wafv2:eu-west-1:1:regional/regexpatternset/p/1"
OWN_GROUP = "arn:aws:wafv2:eu-west-1:1:regional/rulegroup/g/1"


def request(**changes: Any) -> Request:
    headers = {"user-agent": "test", "host": "api.example", **changes.pop("headers", {})}
    return Request(
        **{
            "method": "POST",
            "raw_path": "/v1/chat/completions",
            "query_string": b"",
            "body": b"",
            "source_ip": "127.0.0.1",
            **changes,
            "headers": tuple((name.encode(), value.encode()) for name, value in headers.items()),
        }
    )


def rule(
    statement: dict[str, Any], *, name: str = "r", priority: int = 0, action: Any = None, **more: Any
) -> dict[str, Any]:
    return {"Name": name, "Priority": priority, "Statement": statement, "Action": action or {"Block": {}}, **more}


def firewall(*rules: dict[str, Any], groups: dict[str, Any] | None = None, **options: Any) -> Firewall:
    definition = {"Name": "acl", "ARN": "arn:acl", "DefaultAction": {"Allow": {}}, "Rules": list(rules), **options}
    sets = {LISTED: {"Addresses": ["127.0.0.66/32", "10.0.0.0/8", "2001:db8::/32"]}}
    patterns = {PATTERNS: {"RegularExpressionList": [{"RegexString": "one"}, {"RegexString": "tw+o"}]}}
    return Firewall(WebAcl(definition, sets, patterns, groups or {}), account="1", counters=RateCounters())


def verdict(wall: Firewall, asked: Request, *, now: float = 0.0) -> Verdict:
    return wall.evaluate(Inspected(asked, body_limit=wall.body_limit, now=now))


def blocks(statement: dict[str, Any], asked: Request) -> bool:
    return not verdict(firewall(rule(statement)), asked).allowed


def byte_match(text: bytes, field: Any = None, *, position: str = "CONTAINS", transforms: Any = None) -> dict[str, Any]:
    match = {"SearchString": text, "PositionalConstraint": position, "FieldToMatch": field or BODY}
    return {"ByteMatchStatement": {**match, "TextTransformations": transforms or NONE}}


def size(operator: str, value: int, field: Any = None) -> dict[str, Any]:
    constraint = {"ComparisonOperator": operator, "Size": value, "FieldToMatch": field or BODY}
    return {"SizeConstraintStatement": {**constraint, "TextTransformations": NONE}}


def scripts(field: Any = None) -> dict[str, Any]:
    return {"XssMatchStatement": {"FieldToMatch": field or BODY, "TextTransformations": NONE}}


def sql(field: Any = None, **more: Any) -> dict[str, Any]:
    return {"SqliMatchStatement": {"FieldToMatch": field or BODY, "TextTransformations": NONE, **more}}


def json_body(scope: str = "ALL", paths: list[str] | None = None, **more: Any) -> dict[str, Any]:
    pattern: dict[str, Any] = {"IncludedPaths": paths} if paths else {"All": {}}
    return {"JsonBody": {"MatchPattern": pattern, "MatchScope": scope, **more}}


def mapped(kind: str, scope: str = "ALL", handling: str = "CONTINUE", **pattern: Any) -> dict[str, Any]:
    return {kind: {"MatchPattern": pattern or {"All": {}}, "MatchScope": scope, "OversizeHandling": handling}}


def fields(*paths: str) -> dict[str, Any]:
    return json_body("VALUE", list(paths), InvalidFallbackBehavior="NO_MATCH")


LARGE = b"x" * 16_385
MATCHES: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    (byte_match(b"bad"), {"body": b"a bad one"}, True),
    (byte_match(b"bad"), {"body": b"fine"}, False),
    (byte_match(b"bad", position="EXACTLY"), {"body": b"bad"}, True),
    (byte_match(b"bad", position="EXACTLY"), {"body": b"bad "}, False),
    (byte_match(b"bad", position="STARTS_WITH"), {"body": b"bad one"}, True),
    (byte_match(b"bad", position="ENDS_WITH"), {"body": b"so bad"}, True),
    (byte_match(b"bad", position="CONTAINS_WORD"), {"body": b"so-bad;"}, True),
    (byte_match(b"bad", position="CONTAINS_WORD"), {"body": b"badly"}, False),
    (byte_match(b"bad", transforms=[{"Priority": 0, "Type": "LOWERCASE"}]), {"body": b"BAD"}, True),
    (byte_match(b"bad", {"UriPath": {}}), {"raw_path": "/v1/bad"}, True),
    (byte_match(b"a=bad", {"QueryString": {}}), {"query_string": b"a=bad"}, True),
    (byte_match(b"bad", {"SingleQueryArgument": {"Name": "A"}}), {"query_string": b"b=1&a=bad"}, True),
    (byte_match(b"bad", {"SingleQueryArgument": {"Name": "b"}}), {"query_string": b"b=1&a=bad"}, False),
    (byte_match(b"bad", {"AllQueryArguments": {}}), {"query_string": b"b=1&a=bad"}, True),
    (byte_match(b"POST", {"Method": {}}, position="EXACTLY"), {}, True),
    (byte_match(b"bad", {"SingleHeader": {"Name": "X-Own"}}), {"headers": {"x-own": "bad"}}, True),
    (byte_match(b"bad", {"SingleHeader": {"Name": "X-Own"}}), {}, False),
    (byte_match(b"bad", mapped("Headers")), {"headers": {"x-bad": "1"}}, True),
    (byte_match(b"bad", mapped("Headers", "VALUE")), {"headers": {"x-bad": "1"}}, False),
    (byte_match(b"bad", mapped("Headers", IncludedHeaders=["X-A"])), {"headers": {"x-a": "bad"}}, True),
    (byte_match(b"bad", mapped("Headers", ExcludedHeaders=["X-A"])), {"headers": {"x-a": "bad"}}, False),
    (byte_match(b"bad", mapped("Headers", handling="MATCH")), {"headers": {"x-long": "x" * 8192}}, True),
    (byte_match(b"bad", mapped("Headers", handling="NO_MATCH")), {"headers": {"x-long": "bad" * 3000}}, False),
    (byte_match(b"bad", mapped("Cookies")), {"headers": {"cookie": "a=1; b=bad"}}, True),
    (byte_match(b"bad", mapped("Cookies", IncludedCookies=["a"])), {"headers": {"cookie": "a=1; b=bad"}}, False),
    (byte_match(b"bad", mapped("Cookies")), {"headers": {"cookie": 'a[]=1; =; "x; b=bad'}}, True),
    (byte_match(b"user-agent:host", {"HeaderOrder": {"OversizeHandling": "CONTINUE"}}), {}, True),
    (byte_match(b"bad", json_body()), {"body": b'{"a": ["bad"]}'}, True),
    (byte_match(b"bad", json_body("KEY")), {"body": b'{"a": ["bad"]}'}, False),
    (byte_match(b"bad", json_body("KEY")), {"body": b'{"a": {"bad": 1}}'}, True),
    (byte_match(b"bad", json_body("VALUE")), {"body": rb'{"a": "\u0062ad"}'}, True),
    (byte_match(b"bad", json_body(paths=["/a/0"])), {"body": b'{"a": ["bad"], "b": "fine"}'}, True),
    (byte_match(b"bad", json_body(paths=["/b"])), {"body": b'{"a": ["bad"], "b": "fine"}'}, False),
    (byte_match(b"bad", json_body(paths=["/b"])), {"body": b'{"b": "bad", "b": "fine"}'}, True),
    (byte_match(b"bad", json_body()), {"body": b'{"a": "bad", oops'}, True),
    (scripts(), {"body": b"<Script>alert(1)</script>"}, True),
    (scripts(fields("/model")), {"body": b'{"model": "<script>x", "prompt": ""}'}, True),
    (scripts(fields("/model")), {"body": b'{"model": "m", "prompt": "<script>x"}'}, False),
    (scripts(fields("/model")), {"body": b'{"model": "<script>x", oops'}, False),
    (sql(), {"body": b"1 UNION ALL SELECT password"}, True),
    (sql(fields("/user"), SensitivityLevel="HIGH"), {"body": b'{"user": "\' OR 1=1 --"}'}, True),
    (sql(fields("/user")), {"body": b'{"user": "u", "prompt": "\' OR 1=1 --"}'}, False),
    (sql(), {"body": b"Select one or two of these and tell me which is better"}, False),
    (byte_match(b"bad", json_body()), {"body": b'{"a": 1, oops "bad"'}, False),
    (byte_match(b"bad", json_body(InvalidFallbackBehavior="EVALUATE_AS_STRING")), {"body": b'oops "bad"'}, True),
    (byte_match(b"bad", json_body(InvalidFallbackBehavior="MATCH")), {"body": b"oops"}, True),
    (byte_match(b"bad", json_body(InvalidFallbackBehavior="NO_MATCH")), {"body": b"bad"}, False),
    (byte_match(b"bad", json_body(OversizeHandling="MATCH")), {"body": LARGE}, True),
    (byte_match(b"bad"), {"body": LARGE + b"bad"}, False),
    (byte_match(b"bad", {"Body": {"OversizeHandling": "MATCH"}}), {"body": LARGE}, True),
    (byte_match(b"x", {"Body": {"OversizeHandling": "NO_MATCH"}}), {"body": LARGE}, False),
    (size("GT", 8), {"body": b"123456789"}, True),
    (size("GT", 8), {"body": b"12345678"}, False),
    (size("GT", 20_000), {"body": b"x" * 20_001}, True),
    (size("GT", 20_000), {"body": b"x" * 20_000}, False),
    (size("LE", 0), {}, True),
    (size("EQ", 1, {"SingleHeader": {"Name": "x-own"}}), {"headers": {"x-own": "1"}}, True),
    (size("GE", 0, {"SingleHeader": {"Name": "x-own"}}), {}, False),
    (
        {"RegexMatchStatement": {"RegexString": "b[ae]d", "FieldToMatch": BODY, "TextTransformations": NONE}},
        {"body": b"bed"},
        True,
    ),
    (
        {"RegexPatternSetReferenceStatement": {"ARN": PATTERNS, "FieldToMatch": BODY, "TextTransformations": NONE}},
        {"body": b"twwo"},
        True,
    ),
    (
        {"RegexPatternSetReferenceStatement": {"ARN": PATTERNS, "FieldToMatch": BODY, "TextTransformations": NONE}},
        {"body": b"to"},
        False,
    ),
    ({"IPSetReferenceStatement": {"ARN": LISTED}}, {"source_ip": "127.0.0.66"}, True),
    ({"IPSetReferenceStatement": {"ARN": LISTED}}, {"source_ip": "127.0.0.67"}, False),
    ({"IPSetReferenceStatement": {"ARN": LISTED}}, {"source_ip": "2001:db8::1"}, True),
    ({"NotStatement": {"Statement": byte_match(b"bad")}}, {"body": b"fine"}, True),
    ({"AndStatement": {"Statements": [byte_match(b"a"), byte_match(b"b")]}}, {"body": b"ab"}, True),
    ({"AndStatement": {"Statements": [byte_match(b"a"), byte_match(b"b")]}}, {"body": b"a"}, False),
    ({"OrStatement": {"Statements": [byte_match(b"a"), byte_match(b"b")]}}, {"body": b"b"}, True),
]


@pytest.mark.parametrize(("statement", "asked", "blocked"), MATCHES)
def test_statements(statement: dict[str, Any], asked: dict[str, Any], blocked: bool) -> None:
    assert blocks(statement, request(**asked)) is blocked


@pytest.mark.parametrize(
    ("position", "fallback", "header", "blocked"),
    [
        ("FIRST", "NO_MATCH", "10.1.1.1, 9.9.9.9", True),
        ("LAST", "NO_MATCH", "10.1.1.1, 9.9.9.9", False),
        ("ANY", "NO_MATCH", "9.9.9.9, 10.1.1.1", True),
        ("FIRST", "MATCH", "nonsense", True),
        ("FIRST", "NO_MATCH", "nonsense", False),
        ("FIRST", "MATCH", None, False),  # without the header the rule does not apply
    ],
)
def test_forwarded_addresses(position: str, fallback: str, header: str | None, blocked: bool) -> None:
    config = {"HeaderName": "X-Forwarded-For", "FallbackBehavior": fallback, "Position": position}
    statement = {"IPSetReferenceStatement": {"ARN": LISTED, "IPSetForwardedIPConfig": config}}
    assert blocks(statement, request(headers={"x-forwarded-for": header} if header else {})) is blocked


@given(
    rules=st.lists(st.tuples(st.booleans(), st.sampled_from(["Allow", "Block", "Count"])), max_size=8),
    order=st.randoms(use_true_random=False),
    default=st.sampled_from(["Allow", "Block"]),
)
def test_the_first_match_by_priority_that_ends_decides(rules: list[tuple[bool, str]], order: Any, default: str) -> None:
    compiled = [
        rule(byte_match(b"hit" if hits else b"miss"), name=f"r{n}", priority=n, action={kind: {}})
        for n, (hits, kind) in enumerate(rules)
    ]
    expected = next((kind for hits, kind in rules if hits and kind != "Count"), default)
    order.shuffle(compiled)
    found = verdict(firewall(*compiled, DefaultAction={default: {}}), request(body=b"hit"))
    assert found.allowed is (expected == "Allow")


def rate(limit: int = 10, **more: Any) -> dict[str, Any]:
    return {"RateBasedStatement": {"Limit": limit, "AggregateKeyType": "IP", "EvaluationWindowSec": 60, **more}}


def test_rate_per_address_over_a_sliding_window() -> None:
    wall = firewall(rule(rate()))
    first = [verdict(wall, request(), now=n).allowed for n in range(12)]
    assert first == [True] * 10 + [False] * 2
    assert verdict(wall, request(source_ip="127.0.0.2"), now=12).allowed
    assert not verdict(wall, request(), now=59).allowed
    assert verdict(wall, request(), now=120).allowed


@given(gaps=st.lists(st.integers(0, 12), min_size=11, max_size=60))
def test_rate_acts_exactly_when_more_than_the_limit_came_within_the_window(gaps: list[int]) -> None:
    wall, now, seen = firewall(rule(rate())), 0, []
    for gap in gaps:
        now += gap
        seen.append(now)
        recent = sum(1 for at in seen if at > now - 60)
        assert verdict(wall, request(), now=now).allowed is (recent <= 10)


def test_rate_with_scope_down_counts_only_what_matches() -> None:
    wall = firewall(rule(rate(ScopeDownStatement=byte_match(b"count"))))
    for n in range(20):
        assert verdict(wall, request(), now=n / 10).allowed
    assert [verdict(wall, request(body=b"count"), now=3).allowed for _ in range(11)] == [True] * 10 + [False]


def test_rate_by_header_and_forwarded_address() -> None:
    named = [{"Header": {"Name": "X-Tenant", "TextTransformations": NONE}}, {"HTTPMethod": {}}]
    wall = firewall(rule(rate(AggregateKeyType="CUSTOM_KEYS", CustomKeys=named)))
    for n in range(11):
        last = verdict(wall, request(headers={"x-tenant": "a"}), now=n).allowed
        assert verdict(wall, request(), now=n).allowed  # without the key the rule does not apply
    assert not last
    assert verdict(wall, request(headers={"x-tenant": "b"}), now=12).allowed
    config = {"HeaderName": "X-Forwarded-For", "FallbackBehavior": "MATCH"}
    forwarded = firewall(rule(rate(AggregateKeyType="FORWARDED_IP", ForwardedIPConfig=config)))
    answers = [verdict(forwarded, request(headers={"x-forwarded-for": "1.1.1.1"})).allowed for _ in range(11)]
    assert answers == [True] * 10 + [False]
    assert not verdict(forwarded, request(headers={"x-forwarded-for": "?"})).allowed
    constant = firewall(rule(rate(AggregateKeyType="CONSTANT", ScopeDownStatement=size("GE", 0))))
    sources = [verdict(constant, request(source_ip=f"127.0.0.{n}")).allowed for n in range(1, 12)]
    assert sources == [True] * 10 + [False]


@pytest.mark.parametrize(
    ("scope", "key", "blocked"),
    [
        ("LABEL", "ns:seen", True),
        ("LABEL", "seen", True),
        ("LABEL", "een", False),
        ("LABEL", "awswaf:1:webacl:acl:ns:seen", True),
        ("NAMESPACE", "ns:", True),
        ("NAMESPACE", "awswaf:1:webacl:acl:", True),
        ("NAMESPACE", "seen:", False),
    ],
)
def test_labels(scope: str, key: str, blocked: bool) -> None:
    marks = rule(byte_match(b"x"), action={"Count": {}}, RuleLabels=[{"Name": "ns:seen"}])
    wall = firewall(marks, rule({"LabelMatchStatement": {"Scope": scope, "Key": key}}, name="s", priority=1))
    assert verdict(wall, request(body=b"x")).allowed is not blocked
    assert verdict(wall, request(body=b"y")).allowed


def test_custom_answers_and_inserted_headers() -> None:
    custom = {
        "ResponseCode": 429,
        "CustomResponseBodyKey": "slow",
        "ResponseHeaders": [{"Name": "Retry-After", "Value": "60"}],
    }
    insert = {"CustomRequestHandling": {"InsertHeaders": [{"Name": "Seen", "Value": "1"}]}}
    wall = firewall(
        rule(byte_match(b"x"), action={"Count": insert}),
        rule(byte_match(b"bad"), name="b", priority=1, action={"Block": {"CustomResponse": custom}}),
        CustomResponseBodies={"slow": {"ContentType": "APPLICATION_JSON", "Content": '{"error": {}}'}},
    )
    passed, refused = verdict(wall, request(body=b"x")), verdict(wall, request(body=b"bad x"))
    assert passed.insert == ((b"x-amzn-waf-seen", b"1"),)
    assert refused.rule == "b"
    assert refused.response is not None
    assert (refused.response.status, refused.response.body) == (429, b'{"error": {}}')
    assert (b"retry-after", b"60") in refused.response.headers
    assert (b"content-type", b"application/json") in refused.response.headers


def managed(name: str = "AWSManagedRulesCommonRuleSet", *, override: str = "None", **options: Any) -> dict[str, Any]:
    statement = {"ManagedRuleGroupStatement": {"VendorName": "AWS", "Name": name, **options}}
    return {"Name": "m", "Priority": 0, "Statement": statement, "OverrideAction": {override: {}}}


def counting(*names: str) -> list[dict[str, Any]]:
    return [{"Name": name, "ActionToUse": {"Count": {}}} for name in names]


XSS = request(body=b'{"q": "<script>alert(1)</script>"}')


def test_managed_groups_honour_overrides_and_scope_down() -> None:
    assert verdict(firewall(managed()), XSS).rule == "m/CrossSiteScripting_BODY"
    assert verdict(firewall(managed(RuleActionOverrides=counting("CrossSiteScripting_BODY"))), XSS).allowed
    assert verdict(firewall(managed(ExcludedRules=[{"Name": "CrossSiteScripting_BODY"}])), XSS).allowed
    assert verdict(firewall(managed(override="Count")), XSS).allowed
    assert verdict(firewall(managed(ScopeDownStatement=byte_match(b"elsewhere"))), XSS).allowed


def test_labels_of_a_counting_managed_rule_are_seen_by_later_rules() -> None:
    key = "awswaf:managed:aws:core-rule-set:CrossSiteScripting_Body"
    later = rule({"LabelMatchStatement": {"Scope": "LABEL", "Key": key}}, name="later", priority=1)
    wall = firewall(managed(RuleActionOverrides=counting("CrossSiteScripting_BODY")), later)
    assert verdict(wall, XSS).rule == "later"


ATTACKS: list[tuple[str, dict[str, Any], str]] = [
    ("AWSManagedRulesCommonRuleSet", {"headers": {"user-agent": ""}}, "NoUserAgent_HEADER"),
    ("AWSManagedRulesCommonRuleSet", {"headers": {"user-agent": "Nikto/2"}}, "UserAgent_BadBots_HEADER"),
    ("AWSManagedRulesCommonRuleSet", {"query_string": b"a=" + b"x" * 2047}, "SizeRestrictions_QUERYSTRING"),
    ("AWSManagedRulesCommonRuleSet", {"body": b"x" * 8193}, "SizeRestrictions_BODY"),
    (
        "AWSManagedRulesCommonRuleSet",
        {"query_string": b"u=http%3a//169.254.169.254/"},
        "EC2MetaDataSSRF_QUERYARGUMENTS",
    ),
    ("AWSManagedRulesCommonRuleSet", {"raw_path": "/v1/..%2f..%2f..%2fetc/passwd"}, "GenericLFI_URIPATH"),
    ("AWSManagedRulesCommonRuleSet", {"raw_path": "/v1/server.log"}, "RestrictedExtensions_URIPATH"),
    ("AWSManagedRulesKnownBadInputsRuleSet", {"headers": {"x-a": "${jndi:ldap://a}"}}, "Log4JRCE_HEADER"),
    ("AWSManagedRulesKnownBadInputsRuleSet", {"headers": {"x-a": "rO0ABXNy"}}, "JavaDeserializationRCE_HEADER"),
    ("AWSManagedRulesKnownBadInputsRuleSet", {"headers": {"host": "localhost"}}, "Host_localhost_HEADER"),
    ("AWSManagedRulesKnownBadInputsRuleSet", {"method": "PROPFIND"}, "PROPFIND_METHOD"),
    ("AWSManagedRulesKnownBadInputsRuleSet", {"raw_path": "/.git/config"}, "ExploitablePaths_URIPATH"),
    ("AWSManagedRulesAmazonIpReputationList", {"source_ip": "192.0.2.7"}, "AWSManagedIPReputationList"),
    ("AWSManagedRulesAnonymousIpList", {"source_ip": "198.18.0.1"}, "AnonymousIPList"),
    ("AWSManagedRulesAnonymousIpList", {"source_ip": "198.19.0.1"}, "HostingProviderIPList"),
    ("AWSManagedRulesBotControlRuleSet", {"headers": {"user-agent": "python-requests/2"}}, "CategoryHttpLibrary"),
    ("AWSManagedRulesBotControlRuleSet", {"headers": {"user-agent": "Scrapy/2"}}, "CategoryScrapingFramework"),
]


@pytest.mark.parametrize(("group", "asked", "name"), ATTACKS)
def test_managed_rules(group: str, asked: dict[str, Any], name: str) -> None:
    assert verdict(firewall(managed(group)), request(**asked)).rule == f"m/{name}"


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_plain_prompts_pass_every_managed_group(group: str) -> None:
    prompt = b'{"messages": [{"role": "user", "content": "Write a Python class, then say: it costs 5 > 3 dollars."}]}'
    # To Bot Control, whatever is no browser is a bot.
    browser = request(body=prompt, headers={"user-agent": "Mozilla/5.0"})
    assert verdict(firewall(managed(group)), browser).allowed


def test_own_rule_group() -> None:
    group = {"LabelNamespace": "awswaf:1:rulegroup:g:", "Rules": [rule(byte_match(b"bad"), RuleLabels=[{"Name": "b"}])]}
    uses = {**managed(), "Statement": {"RuleGroupReferenceStatement": {"ARN": OWN_GROUP}}}
    assert verdict(firewall(uses, groups={OWN_GROUP: group}), request(body=b"bad")).rule == "m/r"


UNKNOWN: list[tuple[dict[str, Any], str]] = [
    (rule({"GeoMatchStatement": {"CountryCodes": ["DE"]}}), "rule r statement GeoMatchStatement"),
    (rule(sql(SensitivityLevel="MEDIUM")), "SensitivityLevel MEDIUM"),
    (rule({"AsnMatchStatement": {"AsnList": [1]}}), "AsnMatchStatement"),
    (rule({"NotStatement": {"Statement": rate()}}), "RateBasedStatement"),
    (rule({"IPSetReferenceStatement": {"ARN": "arn:none"}}), "arn:none"),
    (rule(byte_match(b"x", {"JA3Fingerprint": {"FallbackBehavior": "MATCH"}})), "JA3Fingerprint"),
    (rule(byte_match(b"x", transforms=[{"Priority": 0, "Type": "NEW"}])), "NEW"),
    (rule(byte_match(b"x", position="NEAR")), "NEAR"),
    (rule(byte_match(b"x"), action={"Captcha": {}}), "Captcha"),
    (rule(byte_match(b"x"), Added={}), "Added"),
    (rule({"RegexMatchStatement": {"RegexString": "(", "FieldToMatch": BODY, "TextTransformations": NONE}}), "regular"),
    (rule(rate(limit=1)), "limit 1"),
    (rule(rate(AggregateKeyType="CUSTOM_KEYS", CustomKeys=[{"JA4Fingerprint": {}}])), "JA4Fingerprint"),
    (managed("AWSManagedRulesATPRuleSet"), "AWSManagedRulesATPRuleSet"),
    (
        managed(ManagedRuleGroupConfigs=[{"AWSManagedRulesBotControlRuleSet": {"InspectionLevel": "TARGETED"}}]),
        "COMMON",
    ),
    (managed(RuleActionOverrides=counting("Nothing_BODY")), "Nothing_BODY"),
    (managed(ManagedRuleGroupConfigs=[{"LoginPath": "/"}]), "ManagedRuleGroupConfigs"),
]


@pytest.mark.parametrize(("unknown", "said"), UNKNOWN)
def test_what_is_not_known_is_an_error_at_the_start(unknown: dict[str, Any], said: str) -> None:
    with pytest.raises(LocalError, match=said):
        firewall(unknown)
    with pytest.raises(LocalError, match="one priority"):
        firewall(rule(byte_match(b"x")), rule(byte_match(b"y")))


def test_the_inspection_limit_is_the_deployed_one() -> None:
    raised = {"RequestBody": {"API_GATEWAY": {"DefaultSizeInspectionLimit": "KB_64"}}}
    wall = firewall(rule(byte_match(b"bad")), AssociationConfig=raised)
    assert wall.body_limit == 65_536
    assert not verdict(wall, request(body=LARGE + b"bad")).allowed
