"""Stand-ins for AWS managed rule groups.

AWS does not publish its patterns. Each group below has the names, labels and actions of AWS's rules ("AWS Managed
Rules rule groups list" in the AWS WAF Developer Guide) over a few patterns of our own, written as the WAF API's rules
and compiled like any other. They catch the plain forms of each attack and are no measure of what AWS would catch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Rule = dict[str, Any]

TRANSFORMS = [
    {"Priority": 0, "Type": "URL_DECODE_UNI"},
    {"Priority": 1, "Type": "HTML_ENTITY_DECODE"},
    {"Priority": 2, "Type": "LOWERCASE"},
]
PLAIN = [{"Priority": 0, "Type": "LOWERCASE"}]
NONE = [{"Priority": 0, "Type": "NONE"}]

BODY: Rule = {"Body": {"OversizeHandling": "CONTINUE"}}
URI: Rule = {"UriPath": {}}
QUERY: Rule = {"QueryString": {}}
ARGUMENTS: Rule = {"AllQueryArguments": {}}
COOKIES: Rule = {"Cookies": {"MatchPattern": {"All": {}}, "MatchScope": "VALUE", "OversizeHandling": "CONTINUE"}}
HEADERS: Rule = {"Headers": {"MatchPattern": {"All": {}}, "MatchScope": "VALUE", "OversizeHandling": "CONTINUE"}}

# The components are in lower case when these are applied.
BAD_BOTS = r"(?:nessus|nmap|nikto|sqlmap|masscan|acunetix|dirbuster|havij)"
METADATA = r"(?:169\.254\.169\.254|instance-data/latest|latest/meta-data)"
FILE_INCLUSION = r"(?:\.\./|\.\.\\){2,}|/etc/(?:passwd|shadow)|\bphp://|\bfile:///"
REMOTE_INCLUSION = r"^(?:https?|ftps?)://(?:\d{1,3}\.){3}\d{1,3}"
EXTENSIONS = r"\.(?:log|ini|bak|sql|conf|config|key|pem)$"
SCRIPTING = r"<script[\s>/]|javascript:|<iframe[\s>/]|\bon(?:error|load|click|mouseover)\s*=\s*[\"']?\w+\("
DESERIALISATION = r"java\.lang\.(?:runtime|processbuilder)|\bro0ab|ac ed 00 05|org\.apache\.commons\.collections"
# What AWS's own statements for scripts and for SQL look for, in its plain forms.
INJECTION = (
    r"\bunion\s+(?:all\s+)?select\b|\b(?:or|and)\b\s+['\"]?\w+['\"]?\s*=\s*['\"]?\w+"
    r"|;\s*(?:drop|delete|update|insert|alter|exec)\b|['\"]\s*(?:--|#|/\*)"
)
LOG4J = r"\$\{\s*jndi:|\$\{[^${}]{0,40}\$\{(?:lower|upper|env|sys|::-)"
EXPLOITABLE = r"/web-inf/|/\.git/|/\.env$|/\.aws/|/cgi-bin/|/phpmyadmin"
REACT = r"\$\d+:(?:__proto__|constructor):"


@dataclass(frozen=True)
class Group:
    """A stand-in group; `prefix` is the namespace of its labels."""

    prefix: str
    rules: Sequence[Rule]
    ip_sets: Mapping[str, Mapping[str, Any]]


def _rules(*rows: tuple[str, str, Rule, str]) -> Sequence[Rule]:
    """Rules from rows of name, label, statement and action, in their order."""
    return tuple(
        {
            "Name": name,
            "Priority": place,
            "Statement": statement,
            "Action": {action: {}},
            "RuleLabels": [{"Name": label}],
        }
        for place, (name, label, statement, action) in enumerate(rows)
    )


def _regex(pattern: str, field: Rule, transforms: list[Rule] | None = None) -> Rule:
    return {
        "RegexMatchStatement": {
            "RegexString": pattern,
            "FieldToMatch": field,
            "TextTransformations": transforms or TRANSFORMS,
        }
    }


def _larger(size: int, field: Rule) -> Rule:
    return {
        "SizeConstraintStatement": {
            "ComparisonOperator": "GT",
            "Size": size,
            "FieldToMatch": field,
            "TextTransformations": NONE,
        }
    }


def _header(name: str) -> Rule:
    return {"SingleHeader": {"Name": name}}


def _each(name: str, pattern: str, fields: Mapping[str, tuple[str, Rule]]) -> Iterator[tuple[str, str, Rule, str]]:
    """The same pattern in several components: rule `name_KEY`, label `name_Label`."""
    for key, (label, field) in fields.items():
        yield f"{name}_{key}", f"{name}_{label}", _regex(pattern, field), "Block"


IN_BODY = {"BODY": ("Body", BODY)}
IN_COOKIE = {"COOKIE": ("Cookie", COOKIES)}
IN_URI = {"URIPATH": ("URIPath", URI)}
IN_ARGUMENTS = {"QUERYARGUMENTS": ("QueryArguments", ARGUMENTS)}
IN_QUERY = {"QUERYSTRING": ("QueryString", QUERY)}
IN_HEADER = {"HEADER": ("Header", HEADERS)}
NO_USER_AGENT: Rule = {"NotStatement": {"Statement": _larger(0, _header("user-agent"))}}

CORE = _rules(
    ("NoUserAgent_HEADER", "NoUserAgent_Header", NO_USER_AGENT, "Block"),
    ("UserAgent_BadBots_HEADER", "BadBots_Header", _regex(BAD_BOTS, _header("user-agent"), PLAIN), "Block"),
    ("SizeRestrictions_QUERYSTRING", "SizeRestrictions_QueryString", _larger(2048, QUERY), "Block"),
    ("SizeRestrictions_Cookie_HEADER", "SizeRestrictions_Cookie_Header", _larger(10_240, _header("cookie")), "Block"),
    ("SizeRestrictions_BODY", "SizeRestrictions_Body", _larger(8192, BODY), "Block"),
    ("SizeRestrictions_URIPATH", "SizeRestrictions_URIPath", _larger(1024, URI), "Block"),
    *_each("EC2MetaDataSSRF", METADATA, IN_BODY | IN_COOKIE | IN_URI | IN_ARGUMENTS),
    *_each("GenericLFI", FILE_INCLUSION, IN_ARGUMENTS | IN_URI | IN_BODY),
    *_each("RestrictedExtensions", EXTENSIONS, IN_URI | IN_ARGUMENTS),
    *_each("GenericRFI", REMOTE_INCLUSION, IN_ARGUMENTS | IN_BODY | IN_URI),
    *_each("CrossSiteScripting", SCRIPTING, IN_COOKIE | IN_ARGUMENTS | IN_BODY | IN_URI),
)

KNOWN_BAD_INPUTS = _rules(
    *_each("JavaDeserializationRCE", DESERIALISATION, IN_BODY | IN_URI | IN_QUERY | IN_HEADER),
    ("Host_localhost_HEADER", "Host_Localhost_Header", _regex(r"^localhost(?::|$)", _header("host"), PLAIN), "Block"),
    ("PROPFIND_METHOD", "Propfind_Method", _regex(r"^propfind$", {"Method": {}}, PLAIN), "Block"),
    ("ExploitablePaths_URIPATH", "ExploitablePaths_URIPath", _regex(EXPLOITABLE, URI), "Block"),
    *_each("Log4JRCE", LOG4J, IN_HEADER | IN_QUERY | IN_BODY | IN_URI),
    *_each("ReactJSRCE", REACT, IN_BODY),
)

# The two halves of the block that is reserved for benchmarks (RFC 2544).
ANONYMOUS, HOSTING = "stand-in:anonymous", "stand-in:hosting"
ANONYMOUS_SETS: Mapping[str, Mapping[str, Any]] = {
    ANONYMOUS: {"Addresses": ["198.18.0.0/16"]},
    HOSTING: {"Addresses": ["198.19.0.0/16"]},
}


def _listed(arn: str) -> Rule:
    return {"IPSetReferenceStatement": {"ARN": arn}}


ANONYMOUS_IP = _rules(
    ("AnonymousIPList", "AnonymousIPList", _listed(ANONYMOUS), "Block"),
    ("HostingProviderIPList", "HostingProviderIPList", _listed(HOSTING), "Block"),
)

# Bot Control's rules of the common level, by what a client says of itself.
CRAWLER = r"(?:bot|crawler|spider|scrapy)\b"
LIBRARY = r"^(?:python-|curl/|wget/|go-http-client|java/|okhttp|axios)"
AI = r"(?:gptbot|claudebot|openai|perplexity)"
BROWSER = r"^mozilla/"
NON_BROWSER: Rule = {"NotStatement": {"Statement": _regex(BROWSER, _header("user-agent"), PLAIN)}}

BOTS = _rules(
    ("CategoryAI", "bot:category:ai", _regex(AI, _header("user-agent"), PLAIN), "Block"),
    ("CategoryHttpLibrary", "bot:category:http_library", _regex(LIBRARY, _header("user-agent"), PLAIN), "Block"),
    (
        "CategoryScrapingFramework",
        "bot:category:scraping_framework",
        _regex(CRAWLER, _header("user-agent"), PLAIN),
        "Block",
    ),
    ("SignalAutomatedBrowser", "signal:automated_browser", _regex("headless", _header("user-agent"), PLAIN), "Block"),
    ("SignalKnownBotDataCenter", "signal:known_bot_data_center", _listed(HOSTING), "Block"),
    ("SignalNonBrowserUserAgent", "signal:non_browser_user_agent", NON_BROWSER, "Block"),
)

# No reputation feed exists on one machine: the networks reserved for documentation (RFC 5737) stand for listed ones.
REPUTATION_SETS: Mapping[str, Mapping[str, Any]] = {
    "stand-in:malicious": {"Addresses": ["192.0.2.0/24"]},
    "stand-in:reconnaissance": {"Addresses": ["198.51.100.0/24"]},
    "stand-in:ddos": {"Addresses": ["203.0.113.0/24"]},
}


REPUTATION = _rules(
    ("AWSManagedIPReputationList", "AWSManagedIPReputationList", _listed("stand-in:malicious"), "Block"),
    ("AWSManagedReconnaissanceList", "AWSManagedReconnaissanceList", _listed("stand-in:reconnaissance"), "Block"),
    ("AWSManagedIPDDoSList", "AWSManagedIPDDoSList", _listed("stand-in:ddos"), "Count"),
)

GROUPS: Mapping[str, Group] = {
    "AWSManagedRulesCommonRuleSet": Group("awswaf:managed:aws:core-rule-set:", CORE, {}),
    "AWSManagedRulesKnownBadInputsRuleSet": Group("awswaf:managed:aws:known-bad-inputs:", KNOWN_BAD_INPUTS, {}),
    "AWSManagedRulesAnonymousIpList": Group("awswaf:managed:aws:anonymous-ip-list:", ANONYMOUS_IP, ANONYMOUS_SETS),
    "AWSManagedRulesBotControlRuleSet": Group("awswaf:managed:aws:bot-control:", BOTS, ANONYMOUS_SETS),
    "AWSManagedRulesAmazonIpReputationList": Group("awswaf:managed:aws:amazon-ip-list:", REPUTATION, REPUTATION_SETS),
}
