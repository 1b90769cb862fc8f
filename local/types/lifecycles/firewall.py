"""WAF: what is changed or deleted is named by its id, name and scope, with the token of its last change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local.types.lifecycles.vocabulary import Change, Changed, Lifecycle, resend
from local.types.spec import Made


def _named(made: Made, kind: str) -> dict[str, Any]:
    name = {"Name": made.inputs["name"], "Scope": made.inputs["scope"], "Id": made.id}
    return {**name, "LockToken": made.call("wafv2", f"Get{kind}", **name)["LockToken"]}


def _update(kind: str) -> Callable[[Changed], None]:
    """The whole definition anew."""

    def send(changed: Changed) -> None:
        definition = changed.creation()
        for member in ("Name", "Scope", "IPAddressVersion", "Tags"):
            definition.pop(member, None)
        changed.call("wafv2", f"Update{kind}", **_named(changed, kind), **definition)

    return send


def _delete(kind: str) -> Callable[[Made], None]:
    def send(made: Made) -> None:
        made.call("wafv2", f"Delete{kind}", **_named(made, kind))

    return send


def _life(kind: str, *kept: str) -> Lifecycle:
    replaces = frozenset({"name", "scope", *kept})
    return Lifecycle(delete=_delete(kind), changes=(Change((), _update(kind), whole=True),), replaces=replaces)


LIFECYCLES: dict[str, Lifecycle] = {
    "aws:wafv2/ipSet:IpSet": _life("IPSet", "ipAddressVersion"),
    "aws:wafv2/regexPatternSet:RegexPatternSet": _life("RegexPatternSet"),
    "aws:wafv2/webAcl:WebAcl": _life("WebACL"),
    "aws:wafv2/webAclAssociation:WebAclAssociation": Lifecycle(
        delete=("DisassociateWebACL", {"ResourceArn": "{resourceArn}"}),
        delete_first=True,  # a resource has one web ACL
    ),
    "aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration": Lifecycle(
        delete=("DeleteLoggingConfiguration", {"ResourceArn": "{resourceArn}"}),
        changes=(resend(),),
        replaces=frozenset({"resourceArn"}),
    ),
}
