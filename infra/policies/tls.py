"""The oldest version of TLS that AWS's named policies admit."""

import re
from collections.abc import Callable

from infra.policies.answers import Answer, fails_if, undecidable
from infra.policies.graph import UNKNOWN, read
from infra.policies.rule import Condition, Properties

# ELBSecurityPolicy-TLS13-1-2-2021-06 and SecurityPolicy_TLS13_1_2_2021_06 name newest and oldest version, TLS_1_2 and
# ELBSecurityPolicy-FS-1-2-2019-08 the oldest; SecurityPolicy_TLS13_2025_EDGE has one number for both.
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/describe-ssl-policies.html
# https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-security-policies-list.html
_OLDEST = re.compile(r"(?:TLS13|TLS|FS)[-_]1[-_](?P<minor>\d)(?!\d)|TLS1(?P<edge>\d)_(?!1_\d)")


def oldest_minor(policy: str) -> int | None:
    """2 for a policy that admits TLS 1.2 and newer; None for a name that does not say, as ELBSecurityPolicy-2016-08."""
    found = _OLDEST.search(policy)
    return None if found is None else int(found["minor"] or found["edge"])


def admits_no_old_tls(path: str, *, further: Callable[[str], bool] = lambda _policy: True) -> Condition:
    """The policy named at `path` admits TLS 1.2 at the oldest, and is `further` what a rule asks for."""

    def condition(properties: Properties) -> Answer:
        value = read(properties, path)
        if value == UNKNOWN:
            return undecidable(f"{path} is not known yet")
        name = str(value or "")
        good = (oldest_minor(name) or 0) >= 2 and further(name)
        return fails_if(not good, f"{path} is {name or 'not set'}")

    return condition
