"""Which versions a stack serves, and how another is brought to its instances: promoted, and rolled back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lambdas.promotions import parse
from model_image.manifest import Manifest
from ops.errors import OpsError
from ops.published import signer_of, verify_published
from ops.targets import Target

POLL_SECONDS = 1.0
UNDER_WAY = frozenset({"Pending", "InProgress", "Baking"})


@dataclass(frozen=True)
class Rollout:
    """What a promotion or rollback began: the versions that are served once the refresh is done."""

    served: Mapping[str, str]
    refresh: str


def served_versions(target: Target) -> dict[str, str]:
    """The version of each model of the stack that instances serve, or will once a refresh under way is done."""
    name = target.output("promotions_parameter")
    text = target.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]
    return parse(text).served(_settings(target))


def promote(target: Target, *, name: str, version: str) -> tuple[Manifest, Rollout]:
    """Serve a published version, once every byte and the signature of it are verified.

    Raises ArtefactError where the servers would refuse it, and OpsError where it cannot be promoted now.
    """
    address = f"s3://{target.output('model_bucket')}/{name}/{version}"
    manifest = verify_published(target.client("s3"), address, trusted=[signer_of(target).public_key()])
    return manifest, _order(target, {"model": name, "version": version})


def roll_back(target: Target, *, name: str) -> Rollout:
    """Serve the version before the last promotion or rollback of a model. Raises OpsError where there is none."""
    return _order(target, {"model": name, "rollback": True})


def wait(target: Target, rollout: Rollout, *, on_progress: Callable[[float, str], None]) -> None:
    """Wait until every instance is replaced; raises OpsError where the refresh fails, and is taken back."""
    autoscaling, group = target.client("autoscaling"), target.output("autoscaling_group")
    while True:
        found = autoscaling.describe_instance_refreshes(
            AutoScalingGroupName=group, InstanceRefreshIds=[rollout.refresh]
        )["InstanceRefreshes"]
        status = found[0]["Status"] if found else "gone"
        if status == "Successful":
            return
        if status not in UNDER_WAY:
            reason = found[0].get("StatusReason", "") if found else ""
            raise OpsError(
                f"instance refresh {rollout.refresh} of group {group} is {status} {reason}".rstrip()
                + ": the instances of before go on, and what was served before is brought back; see the servers' logs"
            )
        on_progress(found[0].get("PercentageComplete", 0) / 100, status)
        time.sleep(POLL_SECONDS)


def _order(target: Target, order: Mapping[str, Any]) -> Rollout:
    """Have the stack's function do it; what it refuses is told in its own words."""
    function = target.output("rollout_function")
    answer = target.client("lambda").invoke(FunctionName=function, Payload=json.dumps(order).encode())
    content = json.loads(answer["Payload"].read())
    if answer.get("FunctionError"):
        raise OpsError(str(content.get("errorMessage", f"function {function} failed; see its log")))
    return Rollout(served=content["served"], refresh=content["refresh"])


def _settings(target: Target) -> dict[str, str]:
    """The versions that the stack's settings name, by the models' names."""
    models = target.outputs.get("models")
    if not isinstance(models, Mapping):
        raise OpsError("the stack has no output models: deploy it with this version of the program first")
    return {str(name): str(version) for name, version in models.items()}
