"""CloudTrail's trails and AWS Budgets' budgets."""

from __future__ import annotations

from local.types import audit as rows
from local.types.lifecycles.vocabulary import Change, Changed, Lifecycle, modify


def _logging(changed: Changed) -> None:
    operation = "StartLogging" if changed.inputs.get("enableLogging", True) else "StopLogging"
    changed.call("cloudtrail", operation, Name=changed.id)


def _budget(changed: Changed) -> None:
    budget = changed.creation()["Budget"]
    changed.call("budgets", "UpdateBudget", AccountId=changed.inputs["accountId"], NewBudget=budget)


LIFECYCLES: dict[str, Lifecycle] = {
    "aws:cloudtrail/trail:Trail": Lifecycle(
        delete=("DeleteTrail", {"Name": "{id}"}),
        changes=(
            Change(("enableLogging",), _logging, whole=True),
            Change(tuple(rows.LOG_GROUP), rows.log_group),
            Change(tuple(rows.SELECTORS), rows.select),
            modify(
                "UpdateTrail",
                "s3BucketName",
                "s3KeyPrefix",
                "kmsKeyId",
                "isMultiRegionTrail",
                "includeGlobalServiceEvents",
                "enableLogFileValidation",
                "snsTopicName",
                Name="{id}",
            ),
        ),
    ),
    "aws:budgets/budget:Budget": Lifecycle(
        delete=("DeleteBudget", {"AccountId": "{accountId}", "BudgetName": "{name}"}),
        changes=(
            Change(
                (
                    "limitAmount",
                    "limitUnit",
                    "costFilters",
                    "filterExpression",
                    "metrics",
                    "timePeriodEnd",
                    "costTypes",
                ),
                _budget,
                whole=True,
            ),
        ),
    ),
}
