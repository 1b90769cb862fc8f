"""Secrets and who may read them."""

from __future__ import annotations

from local.types.lifecycles.vocabulary import Lifecycle, modify, resend
from local.types.spec import Made


def _delete_secret(made: Made) -> None:
    days = made.inputs.get("recoveryWindowInDays", 30)
    window = {"RecoveryWindowInDays": days} if days else {"ForceDeleteWithoutRecovery": True}
    made.call("secretsmanager", "DeleteSecret", SecretId=made.id, **window)


LIFECYCLES: dict[str, Lifecycle] = {
    "aws:secretsmanager/secret:Secret": Lifecycle(
        delete=_delete_secret, changes=(modify("UpdateSecret", "description", "kmsKeyId", SecretId="{id}"),)
    ),
    "aws:secretsmanager/secretPolicy:SecretPolicy": Lifecycle(
        delete=("DeleteResourcePolicy", {"SecretId": "{secretArn}"}),
        changes=(resend(),),
        replaces=frozenset({"secretArn"}),
    ),
}
