"""Resources that AWS keeps as statements of a policy or acts on as such, written as the documents that they mean."""

from __future__ import annotations

from typing import Any

from infra.review.graph import Resource
from infra.review.values import listed


def permission(resource: Resource) -> dict[str, Any]:
    """A permission on a Lambda function."""
    return _document(
        resource,
        equals={
            "aws:SourceAccount": "sourceAccount",
            "aws:PrincipalOrgID": "principalOrgId",
            "lambda:FunctionUrlAuthType": "functionUrlAuthType",
            "lambda:EventSourceToken": "eventSourceToken",
        },
        like={"aws:SourceArn": "sourceArn"},
    )


def layer_permission(resource: Resource) -> dict[str, Any]:
    """A permission on a version of a Lambda layer."""
    return _document(resource, equals={"aws:PrincipalOrgID": "organizationId"}, like={})


def _document(resource: Resource, *, equals: dict[str, str], like: dict[str, str]) -> dict[str, Any]:
    """The statement of a permission; both mappings are of condition keys to the properties that hold their values."""
    inputs = resource.inputs
    principal = str(inputs.get("principal", ""))
    tests = {
        operator: found
        for operator, keys in (("StringEquals", equals), ("ArnLike", like))
        if (found := {key: inputs[prop] for key, prop in keys.items() if inputs.get(prop)})
    }
    kind = "Service" if principal.endswith((".amazonaws.com", ".amazonaws.com.cn")) else "AWS"
    return _allow(kind, principal, inputs.get("action"), tests)


def key_grant(resource: Resource) -> dict[str, Any]:
    """A grant on a KMS key; the one who may retire it, by a statement of their own."""
    inputs = resource.inputs
    constraints = [each for each in listed(inputs.get("constraints")) if isinstance(each, dict)]
    tests = {
        f"kms:EncryptionContext:{key}": value
        for constraint in constraints
        for name in ("encryptionContextEquals", "encryptionContextSubset")
        for key, value in (constraint.get(name) or {}).items()
    }
    operations = [f"kms:{each}" for each in listed(inputs.get("operations"))]
    condition = {"StringEquals": tests} if tests else {}
    document = _allow("AWS", str(inputs.get("granteePrincipal")), operations, condition)
    if inputs.get("retiringPrincipal"):
        retiring = _allow("AWS", str(inputs["retiringPrincipal"]), "kms:RetireGrant", {})
        document["Statement"] += retiring["Statement"]
    return document


def _allow(kind: str, principal: str, action: Any, tests: dict[str, Any]) -> dict[str, Any]:
    statement = {
        "Effect": "Allow",
        "Principal": {kind: principal},
        "Action": action,
        "Resource": "*",
        "Condition": tests,
    }
    return {"Statement": [statement]}
