"""Least privilege, by running: each role does its job with its own policies, needs each of them, and no more.

The emulator that holds the roles enforces IAM always, not only for these tests. What no call can show there is
evaluated with its own evaluation of policies, and named so.
"""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.utils import InstanceMetadataFetcher
from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

from lambdas import tokens
from local.layout import find_layout
from local.stack import read_status
from model_image.budget_table import BudgetError
from model_image.errors import ArtefactError
from tests.end_to_end.account import ACCOUNT_ID, REGION, Account, Client, Credentials, Deployed, denied
from tests.end_to_end.conftest import RunningStack
from tests.end_to_end.role_calls import NO_TOKEN
from tests.end_to_end.role_cases import CASES as OTHERS
from tests.end_to_end.role_cases import Question, RoleCase
from tests.end_to_end.training_cases import CASES as OF_TRAINING

CASES = {**OTHERS, **OF_TRAINING}
ACTING = [name for name, case in CASES.items() if case.job]
FORBIDDEN = [(name, what) for name, case in CASES.items() for what in case.forbidden]
LEAST_FORBIDDEN = 5


@pytest.fixture(scope="module")
def on(stack: RunningStack) -> Deployed:
    """The running stack's account, with what roles could reach for."""
    account = Account(status=read_status(find_layout(stack.sandbox.environment), "local"))
    models = {model for instance in stack.status["instances"] for model in instance["models"]}
    deployed = Deployed(account=account, models=tuple(sorted(tuple(each.split("/")) for each in models)))
    deployed.plant()
    deployed.planted["token_hash"] = tokens.digest(stack.token())
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("index.py", "def handler(event, context):\n    return None\n")
    deployed.planted["archive"] = archive.getvalue()
    account.root("secretsmanager").put_secret_value(SecretId=deployed.output("canary_secret"), SecretString=NO_TOKEN)
    return deployed


def session(on: Deployed, role: str) -> Client:
    return on.account.session_of(on.account.roles()[role])


def environment_of(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


def test_every_role_of_the_stack_has_a_case(on: Deployed) -> None:
    assert on.account.roles().keys() == CASES.keys(), (
        "a role without a case: add one to role_cases.py or training_cases.py"
    )


def test_every_function_has_a_role_that_acts(on: Deployed) -> None:
    names = {arn: name for name, arn in on.account.roles().items()}
    functions = on.account.root("lambda").list_functions()["Functions"]
    deployed = [each for each in functions if not each["FunctionName"].startswith("planted")]
    assert {names[each["Role"]] for each in deployed} == {
        name for name in ACTING if CASES[name].trusts == "lambda.amazonaws.com"
    }


@pytest.mark.parametrize("role", CASES)
def test_one_service_alone_takes_the_role_on(on: Deployed, role: str) -> None:
    name = on.account.roles()[role].rpartition("/")[2]
    (statement,) = on.account.root("iam").get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Allow", {"Service": CASES[role].trusts})


class TestEndToEnd:
    def test_the_servers_have_their_roles_credentials_and_no_others(self, stack: RunningStack, on: Deployed) -> None:
        role = on.account.roles()["instance"].rpartition("/")[2]
        for instance in stack.status["instances"]:
            environment = environment_of(instance["pid"])
            assert not [name for name in environment if "ACCESS_KEY" in name or "SESSION_TOKEN" in name]
            given = InstanceMetadataFetcher(
                base_url=environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"], env={}
            ).retrieve_iam_role_credentials()
            aws = on.account.client_of(Credentials(given["access_key"], given["secret_key"], given["token"]))
            who = aws("sts").get_caller_identity()["Arn"]
            assert who == f"arn:aws:sts::{ACCOUNT_ID}:assumed-role/{role}/{instance['id']}"

    def test_a_request_is_answered(self, stack: RunningStack) -> None:
        body = {"model": "tiny-gpt2", "prompt": "The quick", "max_tokens": 2}
        assert stack.post("completions", body).status_code == 200

    def test_the_authorizer_lets_nobody_in_without_its_policy(self, stack: RunningStack, on: Deployed) -> None:
        event = {
            "type": "REQUEST",
            "methodArn": f"arn:aws:execute-api:{REGION}:{ACCOUNT_ID}:abc/v1/GET/models",
            "headers": {"Authorization": f"Bearer {stack.token()}"},
        }
        arn = on.account.roles()["authorizer"]
        (name,) = on.account.policies(arn)
        assert invoke(on, "functions-authorizer", event)["principalId"] == "demo"
        with on.account.policy(arn, name, document={"Statement": [deny_all()]}):
            answer = invoke(on, "functions-authorizer", event)
            assert "AccessDenied" in answer["errorMessage"]
        assert invoke(on, "functions-authorizer", event)["principalId"] == "demo"

    def test_the_canary_reads_its_token_and_cannot_without_its_policy(self, on: Deployed) -> None:
        arn = on.account.roles()["canary"]
        (name,) = on.account.policies(arn)
        assert invoke(on, "canary-function", {}) is None  # a failing call is no error of the function's
        with on.account.policy(arn, name, document={"Statement": [deny_all()]}):
            assert "AccessDenied" in invoke(on, "canary-function", {})["errorMessage"]


def invoke(on: Deployed, start: str, event: Mapping[str, Any]) -> Any:
    """What a function answers that really runs, with the credentials that ministack gives it."""
    name = on.function(start)["FunctionName"]
    answer = on.account.root("lambda").invoke(FunctionName=name, Payload=json.dumps(event).encode())
    return json.loads(answer["Payload"].read())


def deny_all() -> dict[str, str]:
    return {"Effect": "Deny", "Action": "*", "Resource": "*"}


@pytest.mark.parametrize("role", ACTING)
def test_a_role_does_its_job_with_its_own_policies(on: Deployed, role: str) -> None:
    aws = session(on, role)
    for call in CASES[role].job.values():
        call(aws, on)


@pytest.mark.parametrize(("role", "what"), FORBIDDEN)
def test_what_is_forbidden_is_denied_and_works_as_root(on: Deployed, role: str, what: str) -> None:
    call = CASES[role].forbidden[what]
    with pytest.raises(ClientError) as caught:
        call(session(on, role), on)
    assert denied(caught.value), caught.value
    call(on.account.root, on)


@pytest.mark.parametrize("role", [name for name, case in CASES.items() if not case.of_aws])
def test_at_least_five_actions_are_forbidden(role: str) -> None:
    assert len(CASES[role].forbidden) + len(CASES[role].may_not) >= LEAST_FORBIDDEN


@pytest.mark.parametrize("role", ACTING)
def test_a_role_needs_every_action_and_resource_of_its_policies(on: Deployed, role: str) -> None:
    """Whatever is taken out of a statement, a part of the job is denied."""
    arn, case = on.account.roles()[role], CASES[role]
    aws, needless = session(on, role), []
    for name, document in on.account.policies(arn).items():
        for what, shorter in shortened(document, case):
            with on.account.policy(arn, name, document=shorter):
                if not any(refuses(call, aws, on) for call in case.job.values()):
                    needless.append(what)
    assert needless == [], f"{role} does its job without these"


def shortened(document: Mapping[str, Any], case: RoleCase) -> Iterator[tuple[str, dict[str, Any]]]:
    """The document without one action, or one resource, of one statement, with the name of that."""
    for index, statement in enumerate(document["Statement"]):
        for element in ("Action", "Resource"):
            values = statement[element] if isinstance(statement[element], list) else [statement[element]]
            for value in values:
                if {statement["Sid"], value} & case.not_made.keys() or (element == "Resource" and len(values) == 1):
                    continue
                rest = [each for each in values if each != value]
                statements = [*document["Statement"]]
                statements[index : index + 1] = [{**statement, element: rest}] if rest else []
                yield f"{value} of {statement['Sid']}", {**document, "Statement": statements or [deny_all()]}


def refuses(call: Any, aws: Client, on: Deployed) -> bool:
    """Whether the account denies the call; any other failure is one of the test."""
    try:
        call(aws, on)
    except (ClientError, ArtefactError, BudgetError) as error:
        cause = error if isinstance(error, ClientError) else error.__cause__
        if not isinstance(cause, ClientError) or not denied(cause):
            raise
        return True
    return False


class TestEvaluatedOnly:
    """What nobody can call here: the emulator's own evaluation of the deployed policies answers."""

    @pytest.mark.parametrize("role", [name for name, case in CASES.items() if case.may or case.may_not])
    def test_it_may_and_may_not(self, on: Deployed, role: str) -> None:
        for question in CASES[role].may:
            assert evaluated(on, role, question), f"{role} may not {question.action} on {question.resource(on)}"
        for question in CASES[role].may_not:
            assert not evaluated(on, role, question), f"{role} may {question.action} on {question.resource(on)}"

    @pytest.mark.parametrize("role", CASES)
    def test_what_no_call_shows_is_evaluated(self, on: Deployed, role: str) -> None:
        case, left = CASES[role], dict(CASES[role].not_made)
        for document in on.account.policies(on.account.roles()[role]).values():
            for statement in document["Statement"]:
                for action in statement["Action"]:
                    if not {statement["Sid"], action} & case.not_made.keys():
                        assert case.job, f"{role} has {action}, which nothing shows it to need"
                        continue
                    assert action in {question.action for question in case.may}, action
                    left.pop(statement["Sid"], None)
                    left.pop(action, None)
        assert not left, f"{role} has none of {sorted(left)}: take them out of its case"

    @pytest.mark.parametrize("role", [name for name, case in CASES.items() if case.of_aws])
    def test_a_role_of_awss_own_has_no_policy_of_ours(self, on: Deployed, role: str) -> None:
        arn = on.account.roles()[role]
        assert ":role/aws-service-role/" in arn
        assert on.account.policies(arn) == {}


def evaluated(on: Deployed, role: str, question: Question) -> bool:
    arn = on.account.roles()[role]
    documents = [*on.account.policies(arn).values(), *on.account.managed_policies(arn).values()]
    context = EvalContext(
        principal_arn=arn,
        principal_type="AssumedRole",
        principal_account=ACCOUNT_ID,
        action=question.action,
        resource_arn=question.resource(on),
        region=REGION,
        service_context={key.lower(): value for key, value in question.context.items()},
    )
    return bool(evaluate(context, [parse_policy_document(each) for each in documents]).decision == "Allow")
