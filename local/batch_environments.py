"""Compute environments of moto's AWS Batch, with what it lacks here: a look at roles that are not moto's, and changes.

moto looks an environment's roles up in its own IAM, which is empty, since ministack has the stack's; asks for the
service role, in whose place AWS takes its own; and forgets what a change says of the machines.
"""

from types import SimpleNamespace
from typing import Any
from unittest import mock

from moto.batch.models import BatchBackend

_create = BatchBackend.create_compute_environment
_update = BatchBackend.update_compute_environment
_SERVICE_ROLE = "role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch"


class RolesOfAnother:
    """An IAM that has whatever role is asked for."""

    def get_role_by_arn(self, arn: str) -> None:
        """The role is there."""

    def get_instance_profiles(self) -> list[SimpleNamespace]:
        """The profile is there."""
        return [SimpleNamespace(arn=mock.ANY, name=mock.ANY)]


def install() -> None:
    """Have moto make and change compute environments as AWS does."""
    for operation in (create_compute_environment, update_compute_environment):
        setattr(BatchBackend, operation.__name__, operation)
    setattr(BatchBackend, "iam_backend", RolesOfAnother())  # noqa: B010 - moto has a property there


def create_compute_environment(self: BatchBackend, **wanted: Any) -> Any:
    """An environment; without a service role it has AWS's service-linked one."""
    role = wanted["service_role"] or f"arn:{self.partition}:iam::{self.account_id}:{_SERVICE_ROLE}"
    return _create(self, **{**wanted, "service_role": role})


def update_compute_environment(self: BatchBackend, **wanted: Any) -> Any:
    """The environment as it is from now on."""
    answer = _update(self, **wanted)
    environment = self.get_compute_environment(wanted["compute_environment_name"])
    if environment is not None and wanted["compute_resources"]:
        environment.compute_resources |= wanted["compute_resources"]
    return answer
