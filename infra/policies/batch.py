"""Rules for AWS Batch: what its containers may do on their machines, and what these machines are."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from infra.policies.answers import Answer, every, fails_if, undecidable
from infra.policies.graph import UNKNOWN, Graph, Resource, read
from infra.policies.rule import (
    Check,
    Condition,
    Properties,
    Rule,
    Severity,
    at_most,
    fails_if_matching,
    is_none_of,
    is_not_set,
    is_not_true,
    is_one_of,
    is_set,
    is_true,
    on,
    unless,
)

DEFINITION = ("aws:batch/jobDefinition:JobDefinition",)
ENVIRONMENT = ("aws:batch/computeEnvironment:ComputeEnvironment",)
_MOVING = ("$Latest", "$Default")
_ROOT = ("root", "0")
_FARGATE = is_one_of("computeResources.type", "FARGATE", "FARGATE_SPOT", default="EC2")
_UNMANAGED = is_one_of("type", "UNMANAGED")
_NOT_KNOWN = "its containers are not known yet"


def _containers(properties: Properties) -> Iterator[Any]:
    """The containers of a job definition, in the API's spelling; UNKNOWN for what is not known of them."""
    for path in ("containerProperties", "nodeProperties", "ecsProperties"):
        value = _parsed(read(properties, path))
        if value == UNKNOWN:
            yield UNKNOWN
        elif path == "containerProperties":
            yield from [] if value is None else [value]
        elif path == "ecsProperties":
            yield from _listed(read(value, "taskProperties"), "containers")
        else:
            yield from _listed(read(value, "nodeRangeProperties"), "container")


def _parsed(value: Any) -> Any:
    """The object in a JSON text; a text that is none is as good as unknown."""
    if not isinstance(value, str) or value == UNKNOWN:
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return UNKNOWN


def _listed(items: Any, member: str) -> Iterator[Any]:
    for each in [UNKNOWN] if items == UNKNOWN else items or []:
        found = read(each, member)
        yield from found if isinstance(found, list) else [found]


def _each_container(*conditions: Condition) -> Check:
    """A check that every container of a definition meets every condition."""

    def check(resource: Resource, _graph: Graph) -> Answer:
        return every(
            undecidable(_NOT_KNOWN) if each == UNKNOWN else every(condition(each) for condition in conditions)
            for each in _containers(resource.properties)
        )

    return check


def _is_nobody_special(container: Mapping[str, Any]) -> Answer:
    user = read(container, "user")
    if user == UNKNOWN:
        return undecidable("user is not known yet")
    return fails_if(user is None or str(user).partition(":")[0] in _ROOT, f"user is {user or 'not set'}")


def _no_place_of_the_host(container: Mapping[str, Any]) -> Answer:
    volumes = read(container, "volumes")
    if volumes == UNKNOWN:
        return undecidable("volumes are not known yet")
    found = [read(each, "host.sourcePath") for each in volumes or []]
    return every(
        undecidable("a volume is not known yet") if path == UNKNOWN else fails_if(path is not None, f"it mounts {path}")
        for path in found
    )


def _pinned(properties: Properties) -> Answer:
    version = read(properties, "computeResources.launchTemplate.version")
    if version == UNKNOWN:
        return undecidable("computeResources.launchTemplate.version is not known yet")
    # Batch takes $Default where none is named.
    return fails_if(not version or version in _MOVING, f"the template's version is {version or 'not set'}")


RULES = (
    Rule(
        id="batch-unprivileged",
        severity=Severity.HIGH,
        types=DEFINITION,
        check=_each_container(is_not_true("privileged"), is_not_set("linuxParameters.devices")),
        reason="a privileged container, and one with devices of its machine, has what every other job there has",
        remedy="leave privileged and linuxParameters.devices out",
    ),
    Rule(
        id="batch-read-only",
        severity=Severity.MEDIUM,
        types=DEFINITION,
        check=_each_container(is_true("readonlyRootFilesystem")),
        reason="on a file system that can be written to, code that was let in stays and runs",
        remedy="set readonlyRootFilesystem, and mount a volume where the job has to write",
    ),
    Rule(
        id="batch-not-root",
        severity=Severity.MEDIUM,
        types=DEFINITION,
        check=_each_container(_is_nobody_special),
        reason="root in a container is root on its machine once it gets out",
        remedy="set user to a number other than 0",
    ),
    Rule(
        id="batch-no-host-paths",
        severity=Severity.HIGH,
        types=DEFINITION,
        check=_each_container(_no_place_of_the_host),
        reason="what a job leaves in a directory of its machine the next job finds there, and whoever else is on it",
        remedy="give the job a volume of its own, without host.sourcePath",
    ),
    Rule(
        id="batch-image-by-digest",
        severity=Severity.HIGH,
        types=DEFINITION,
        check=_each_container(
            is_set("image"), fails_if_matching("image", lambda image: "@sha256:" not in str(image), "has no digest")
        ),
        reason="a tag names what was pushed last, a digest what was reviewed; a retry has to run the same, too",
        remedy="name the image as REPOSITORY@sha256:DIGEST",
    ),
    Rule(
        id="batch-logged",
        severity=Severity.MEDIUM,
        types=DEFINITION,
        check=_each_container(is_set("logConfiguration.options.awslogs-group")),
        reason="without a group of its own a job logs to /aws/batch/job, for ever and under no key of the stack",
        remedy="set logConfiguration with awslogs-group, a log group of the stack",
    ),
    Rule(
        id="batch-ends",
        severity=Severity.MEDIUM,
        types=DEFINITION,
        check=on(is_set("timeout.attemptDurationSeconds")),
        reason="a job that hangs is paid for until somebody sees it",
        remedy="set timeout.attemptDurationSeconds",
    ),
    Rule(
        id="batch-no-public-address",
        severity=Severity.HIGH,
        types=DEFINITION,
        check=_each_container(is_none_of("networkConfiguration.assignPublicIp", "ENABLED")),
        reason="a job needs nobody to call it, and a public address is a way for whoever tries",
        remedy="leave networkConfiguration.assignPublicIp out, or set it to DISABLED",
    ),
    Rule(
        id="batch-template-pinned",
        severity=Severity.HIGH,
        types=ENVIRONMENT,
        check=on(unless(_UNMANAGED, unless(_FARGATE, is_set("computeResources.launchTemplate"), _pinned))),
        reason="without a launch template of the stack, by its number, nothing says that the machines' volumes are "
        "encrypted and their metadata guarded",
        remedy="set computeResources.launchTemplate with the version's number",
    ),
    Rule(
        id="batch-no-ssh-key",
        severity=Severity.MEDIUM,
        types=ENVIRONMENT,
        check=on(is_not_set("computeResources.ec2KeyPair")),
        reason="an SSH key opens every machine to whoever has it; Session Manager leaves a record",
        remedy="leave ec2KeyPair out",
    ),
    Rule(
        id="batch-scales-to-nothing",
        severity=Severity.LOW,
        types=ENVIRONMENT,
        check=on(at_most("computeResources.minVcpus", 0, default=0)),
        reason="machines that are there without a job are paid for, and are there to be attacked",
        remedy="set minVcpus 0",
    ),
)
