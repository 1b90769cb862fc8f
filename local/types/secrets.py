"""Secrets and who may read them."""

from __future__ import annotations

from local.types.documents import document
from local.types.spec import Autoname, TypeSpec

TYPES: dict[str, TypeSpec] = {
    "aws:secretsmanager/secret:Secret": TypeSpec(
        service="secretsmanager",
        operation="CreateSecret",
        id="ARN",
        # How long a deleted secret can be brought back is said when it is deleted.
        steering=frozenset({"recoveryWindowInDays"}),
        autoname=Autoname("name", limit=512),
        outputs={"arn": "ARN"},
    ),
    "aws:secretsmanager/secretPolicy:SecretPolicy": TypeSpec(
        service="secretsmanager",
        operation="PutResourcePolicy",
        id="{secretArn}",
        rename={"secretArn": "SecretId", "policy": "ResourcePolicy"},
        convert={"policy": document},
    ),
}
