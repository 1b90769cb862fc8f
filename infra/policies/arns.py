"""What a pattern of an ARN leaves open: whose the things are that it fits, which service's, and which of them."""

import re

_WILD = re.compile(r"[*?]")
# Their resources begin with their name, where those of others begin with their kind: key/…, log-group:….
_WITHOUT_KIND = ("execute-api", "sns", "sqs")


def names_owner(value: str) -> bool:
    """Whether a value of a condition, or a resource, fits things of one account, organisation or network only.

    A text without a wildcard is one thing; an ARN with one has to name the account, or S3's the bucket, whole.
    """
    if _WILD.search(value) is None:
        return True
    parts = value.split(":", 5)
    if len(parts) < 6:
        return False
    account, resource = parts[4:]
    owner = account or resource.partition("/")[0]
    return bool(owner) and _WILD.search(owner) is None


def spans_services(resource: str) -> bool:
    """Whether a resource's pattern fits the resources of more than one service, as `*` does however it is spelt."""
    parts = resource.split(":", 5)
    service = parts[2] if len(parts) > 2 else ""
    return _WILD.search(resource) is not None and (not service or _WILD.search(service) is not None)


def is_unnamed(resource: str) -> bool:
    """Whether a resource's pattern has a wildcard where the resource's name begins: `key/*`, `arn:aws:s3:::*`, `*`."""
    if spans_services(resource):
        return True
    parts = resource.split(":", 5)
    if len(parts) < 6:
        return _WILD.search(resource) is not None
    service, account, rest = parts[2], parts[4], parts[5]
    if service in _WITHOUT_KIND or (service == "s3" and not account):
        return _WILD.match(rest) is not None
    kind, *names = re.split("[/:]", rest, maxsplit=1)
    return _WILD.search(kind) is not None or any(_WILD.match(name) for name in names)
