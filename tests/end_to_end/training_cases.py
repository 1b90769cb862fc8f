"""The roles of training: what they do with their own credentials, and what must be denied to them."""

from __future__ import annotations

from collections.abc import Mapping

from tests.end_to_end import role_calls as calls
from tests.end_to_end import training_calls as training
from tests.end_to_end.account import Deployed
from tests.end_to_end.role_calls import Call
from tests.end_to_end.role_cases import (
    EVERYBODYS,
    FUNCTIONS_NOT_MADE,
    Question,
    RoleCase,
    anything,
    at,
    functions_may,
    functions_may_not,
)

# A job publishes and signs, as an operator does.
_PUBLISHING = frozenset({"list the models", "replace a model", "sign a model"})


def _without(*names: str) -> Mapping[str, Call]:
    return {name: call for name, call in EVERYBODYS.items() if name not in names}


def _queue(on: Deployed) -> str:
    return at("batch", f"job-queue/{on.output('training_queue')}")(on)


def _definition(on: Deployed) -> str:
    return at("batch", f"job-definition/{on.output('training_job_definition')}:1")(on)


def _cluster(on: Deployed) -> str:
    return on.training_clusters[0]


def _machine(on: Deployed) -> str:
    return f"{on.training_clusters[1].replace(':cluster/', ':container-instance/')}/0123456789abcdef"


_OTHER_CLUSTER = at("ecs", "cluster/of-somebody-else")
_OTHER_MACHINE = at("ecs", "container-instance/of-somebody-else/0123456789abcdef")
_JOINING = (
    "ecs:RegisterContainerInstance",
    "ecs:DeregisterContainerInstance",
    "ecs:SubmitAttachmentStateChanges",
    "ecs:SubmitContainerStateChange",
    "ecs:SubmitTaskStateChange",
)
_RUNNING = ("ecs:Poll", "ecs:StartTelemetrySession", "ecs:UpdateContainerInstancesState")
_REGISTERING = {"ecs:CreateAction": "RegisterContainerInstance"}

CASES: Mapping[str, RoleCase] = {
    "training": RoleCase(
        trusts="ecs-tasks.amazonaws.com",
        job={
            "read its configuration": training.reading(training.CONFIG),
            "read its data": training.reading(training.DATASET),
            "keep a checkpoint": training.keep_checkpoint,
            "publish a model": training.publish,
            "sign it": training.sign,
            "read which versions were promoted": calls.read_promotions,
        },
        forbidden={
            **_without(*_PUBLISHING),
            "change the data": training.write_data,
            "read what users asked": training.read_other_results,
            "list what users asked": training.list_other_results,
            "delete what users asked": training.delete_training_of_others,
            "delete a model": calls.delete_model,
            "promote a model": calls.change_promotions,
            "read the canary's token": calls.read_canarys_token,
            "decrypt a consumer's key": calls.decrypt_consumers_key,
            "write its own log": calls.writing_to("training-job-logs"),
            "take on the instances' role": calls.assuming("instance"),
            "widen its own policy": calls.widening("training"),
        },
    ),
    "training-job-execution-role": RoleCase(
        trusts="ecs-tasks.amazonaws.com",
        job={"pull the image": calls.pull_image, "write the job's log": calls.writing_to("training-job-logs")},
        forbidden={
            **EVERYBODYS,
            "read a configuration": training.reading(training.CONFIG),
            "publish a model": training.publish,
            "push an image": calls.push_image,
            "delete its logs": calls.deleting_logs("training-job-logs"),
            "take on the job's role": calls.assuming("training"),
        },
    ),
    "training-start": RoleCase(
        trusts="lambda.amazonaws.com",
        job={
            "read a configuration": training.reading(training.CONFIG),
            "write its logs": calls.writing_to("training-start-logs"),
        },
        forbidden={
            **EVERYBODYS,
            "read a data set": training.reading(training.DATASET),
            "change the data": training.write_data,
            "keep a checkpoint": training.keep_checkpoint,
            "delete its logs": calls.deleting_logs("training-start-logs"),
            "take on the job's role": calls.assuming("training"),
            "widen its own policy": calls.widening("training-start"),
        },
        may=(
            *functions_may("training-start-function"),
            Question("batch:SubmitJob", _queue),
            Question("batch:SubmitJob", _definition),
            Question("batch:TagResource", at("batch", "job/0123")),
            Question("batch:ListJobs", anything),
            Question("batch:DescribeJobs", anything),
        ),
        may_not=(
            *functions_may_not("training-start-function"),
            Question("batch:SubmitJob", at("batch", "job-queue/of-somebody-else")),
            Question("batch:SubmitJob", at("batch", "job-definition/of-somebody-else:1")),
            Question("batch:TagResource", _queue),
            Question("batch:TerminateJob", at("batch", "job/0123")),
            Question("batch:RegisterJobDefinition", _definition),
        ),
        not_made={
            **FUNCTIONS_NOT_MADE,
            **dict.fromkeys(("SubmitJobs", "TagJobs", "LookAtJobs"), "Batch is moto's, which lets every caller in"),
        },
    ),
    "training-instance-role": RoleCase(
        trusts="ec2.amazonaws.com",
        may=(
            *(Question(each, _cluster) for each in _JOINING),
            *(Question(each, _machine) for each in _RUNNING),
            Question("ecs:TagResource", _machine, _REGISTERING),
            Question("ecs:DiscoverPollEndpoint", anything),
        ),
        may_not=(
            *(Question(each, _OTHER_CLUSTER) for each in _JOINING),
            *(Question(each, _OTHER_MACHINE) for each in _RUNNING),
            Question("ecs:TagResource", _machine),
            Question("ecs:RunTask", _cluster),
            Question("ecs:CreateCluster", anything),
            Question("ecr:GetAuthorizationToken", anything),
            Question("s3:GetObject", lambda on: f"arn:aws:s3:::{on.output('data_bucket')}/{training.CONFIG}"),
            Question("sts:AssumeRole", lambda on: on.account.roles()["training"]),
        ),
        not_made=dict.fromkeys(("JoinCluster", "RunTasks", "TagItself", "FindAgentEndpoint"), "no agent runs here"),
    ),
}
