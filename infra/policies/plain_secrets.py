"""Rules against secrets in the open: in the stack's configuration, in environment variables, in user data, anywhere.

They ask for secrets that the program writes down. What is not known before the deployment is an output of some
resource, and no such text.
"""

import base64
import binascii
import gzip
import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra.policies.answers import Answer, every, fails_if, undecidable, violation
from infra.policies.graph import SECRET, STACK, UNKNOWN, Graph, Resource, read
from infra.policies.rule import Check, Properties, Rule, Severity, on

# What certain secrets look like: a fixed prefix and length is what GitHub's and AWS's own scanners go by.
_PATTERNS = {
    "an AWS access key": re.compile(r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})\b"),
    "a Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"),
    "an API key of a model provider": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "a modelkeep token": re.compile(r"\bmk_[A-Za-z0-9_-]{20,}"),
    "a signed token (JWT)": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    "a URL with a password": re.compile(r"://[^/\s:@]+:[^/\s:@<{$]+@"),
}
# What a setting is called that should hold none; the last part of a name in either spelling.
_NAMED = re.compile(
    r"(?:password|passwd|passphrase"
    r"|(?:^|[_.:-])(?:pass|pwd|secret|token|credentials?"
    r"|(?:access|account|api|auth|client|encryption|master|private|secret|shared|signing)[_-]?key))"
    r"(?:[_-]?(?:value|text|\d+))?$",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# A name and a value as a shell, YAML, JSON or an option has them; the value may hold a further name (Environment=A=b).
_ASSIGNED = re.compile(
    r"(?<![\w.-])(?:(?P<option>--?[a-z][\w.-]*)(?:=|\s+)|(?P<name>[a-z_][\w.-]*)(?:\s*=\s*|['\"]?:\s+|['\"]:))"
    r"(?=['\"]?(?P<value>[^\s'\"]+))",
    re.IGNORECASE,
)
# What refers to a value, or is one that is no secret.
_NO_SECRET = re.compile(r"[$<{`(]|arn:|-|(?:true|false|null|none|yes|no|required|optional)\b", re.IGNORECASE)
_SHORTEST = 6
USER_DATA = ("aws:ec2/launchTemplate:LaunchTemplate", "aws:ec2/instance:Instance")
FUNCTION = ("aws:lambda/function:Function",)
# Every type of the program's providers; the tests hold that no other provider's resources are in a stack.
ANY = "*"


def _secret_in(text: str) -> str | None:
    """What kind of secret a text holds, never the secret."""
    return next((kind for kind, pattern in _PATTERNS.items() if pattern.search(text)), None)


def _is_named_secret(name: str) -> bool:
    return _NAMED.search(_CAMEL.sub("_", name)) is not None


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text below a value, with its path."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from _texts(each, f"{path}.{index}")
    elif isinstance(value, str) and value not in (UNKNOWN, SECRET):
        yield path, value


def _nothing_looks_secret(properties: Properties) -> Answer:
    found = [(path, _secret_in(text)) for path, text in _texts(properties)]
    return every(fails_if(kind is not None, f"{path} holds {kind}") for path, kind in found)


def _variables(properties: Properties) -> Answer:
    variables = read(properties, "environment.variables")
    if variables == UNKNOWN:
        return undecidable("environment.variables are not known yet")
    return every(_variable(name, value) for name, value in (variables or {}).items())


def _variable(name: str, value: Any) -> Answer:
    path = f"environment.variables.{name}"
    if _is_named_secret(name) and not _is_reference(value):
        # Whether or not Pulumi masks it, Lambda shows it to whoever may read the function.
        return _unknown(path) if value == UNKNOWN else violation(f"{path} holds a secret by its name")
    kind = _secret_in(value) if isinstance(value, str) else None
    return fails_if(kind is not None or value == SECRET, f"{path} holds {kind or 'a secret'}")


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("arn:")


def _unknown(path: str) -> Answer:
    return undecidable(f"{path} is not known yet")


def _user_data(properties: Properties) -> Answer:
    answers = []
    for path in ("userData", "userDataBase64"):
        value = read(properties, path)
        if value == UNKNOWN:
            answers.append(_unknown(path))
        elif value == SECRET:
            answers.append(violation(f"{path} holds a secret, which every process of the instance may read"))
        elif isinstance(value, str):
            text = decoded(value)
            kind = _secret_in(text) or ("a secret by its name" if _assigns_secret(text) else None)
            answers.append(fails_if(kind is not None, f"{path} holds {kind}"))
    return every(answers)


def _assigns_secret(text: str) -> bool:
    """Whether a script, a unit or a file of settings gives something that is named as a secret a value."""
    return any(
        _is_named_secret(found["option"] or found["name"])
        and len(found["value"]) >= _SHORTEST
        and _NO_SECRET.match(found["value"]) is None
        for found in _ASSIGNED.finditer(text)
    )


def decoded(value: str) -> str:
    """User data as text, whether it stands in base64, packed, or as it is."""
    try:
        content = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return value
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    return content.decode(errors="replace")


def _by_digest(properties: Properties) -> Answer:
    value = read(properties, "userData")
    if value == UNKNOWN:
        return _unknown("userData")
    images = set(re.findall(r"[\w.-]+\.dkr\.ecr\.[\w.-]+/[\w./-]+(?:[:@][\w:.-]+)*", decoded(str(value or ""))))
    moving = [each for each in images if "@sha256:" not in each]
    return fails_if(bool(moving), f"userData runs {', '.join(sorted(moving))}, which is no digest")


def _configuration() -> Check:
    def check(_stack: Resource, graph: Graph) -> Answer:
        answers = []
        for path, text in _texts(graph.configuration):
            kind = _secret_in(text)
            named = _is_named_secret(path) and not _is_reference(text)
            answers.append(fails_if(named or kind is not None, f"{path} holds {kind or 'a secret by its name'}"))
        return every(answers)

    return check


RULES = (
    Rule(
        id="secret-in-configuration",
        severity=Severity.HIGH,
        types=(STACK,),
        check=_configuration(),
        scope="graph",
        reason="Pulumi.STACK.yaml is in the repository, and what is in there is known to everybody who ever had a copy",
        remedy="keep the secret in Secrets Manager, or set it with pulumi config set --secret; and change it",
    ),
    Rule(
        id="secret-in-environment",
        severity=Severity.HIGH,
        types=FUNCTION,
        check=on(_variables),
        reason="whoever may read a function's configuration reads its environment",
        remedy="keep the secret in Secrets Manager and give the function its ARN; and change it",
    ),
    Rule(
        id="secret-in-user-data",
        severity=Severity.HIGH,
        types=USER_DATA,
        check=on(_user_data),
        reason="every process of an instance reads its user data from the metadata service, and so does the console",
        remedy="let the instance fetch the secret by its role; and change it",
    ),
    Rule(
        id="secret-in-property",
        severity=Severity.HIGH,
        types=(ANY,),
        check=on(_nothing_looks_secret),
        reason="a property that is not marked secret stands in Pulumi's state, in previews and in logs",
        remedy="wrap the value in pulumi.Output.secret, or keep it in Secrets Manager; and change it",
    ),
    Rule(
        id="image-by-digest",
        severity=Severity.HIGH,
        types=("aws:ec2/launchTemplate:LaunchTemplate",),
        check=on(_by_digest),
        reason="a tag names what was pushed last, a digest what was reviewed; rolling back needs it, too",
        remedy="name the image as REPOSITORY@sha256:DIGEST",
    ),
)
