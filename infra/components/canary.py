"""The canary: a function that calls the API as a consumer does, every five minutes.

A scheduled function and no CloudWatch Synthetics: that would keep requests, headers and answers in a bucket, and would
need a browser's runtime and rights to that bucket for one call.
"""

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.api_settings import canary_task
from infra.components.gateway import Gateway
from infra.components.keys import EncryptionKey, EncryptionKeyArgs, administered_by_iam, used_through
from infra.components.logs import Logs
from infra.components.python_function import FunctionArgs, python_function
from infra.iam import ANYONE, Statement, assume_role, document, document_text, same_account
from infra.settings import Settings
from infra.site import Site

MINUTES = 5


def canary_role_name(site: Site) -> str:
    """The name of the canary's role, set by us since the secret's policy names it."""
    return f"{site.name}-{site.region}-canary"


def secret_statements(site: Site) -> list[Statement]:
    """Nobody but the canary reads the token, whatever their own policies say; who may write it is IAM's to grant."""
    reader = pulumi.Output.format("arn:{0}:iam::{1}:role/{2}", site.partition, site.account_id, canary_role_name(site))
    return [
        Statement(
            sid="DenyOtherReaders",
            effect="Deny",
            actions=["secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue"],
            resources=["*"],  # in a secret's policy, the secret that it is of
            principals=ANYONE,
            conditions={"ArnNotEquals": {"aws:PrincipalArn": reader}},
        )
    ]


@dataclass(frozen=True)
class CanaryArgs:
    """The API that it calls by the model of the settings, and where it logs."""

    site: Site
    settings: Settings
    gateway: Gateway
    logs: Logs


class Canary(pulumi.ComponentResource):
    """A secret for its token, a function that may read that and nothing else, and a schedule; none without settings.

    Like the authorizer it stays outside the VPC, which has no way to the API's address.
    """

    secret_arn: pulumi.Input[str]

    def __init__(self, name: str, args: CanaryArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Canary", name, None, opts)
        self._name, self._args = name, args
        self.secret_arn = ""  # an output that is None would not be one
        if args.settings.canary is not None:
            self._key = self._encryption_key()
            secret = self._secret()
            function = self._function(secret, model=args.settings.canary.model)
            self._schedule(function)
            self.secret_arn = secret.arn
        self.register_outputs({"secret_arn": self.secret_arn})

    def _encryption_key(self) -> EncryptionKey:
        site = self._args.site
        return EncryptionKey(
            f"{self._name}-key",
            EncryptionKeyArgs(
                site=site,
                purpose="token and environment of the canary",
                policy=[
                    administered_by_iam(site),
                    *used_through(site, "secretsmanager"),
                    *used_through(site, "lambda", grants=True),
                ],
            ),
            opts=ResourceOptions(parent=self),
        )

    def _secret(self) -> aws.secretsmanager.Secret:
        """The token's place; its value is no business of the program's, which would keep it in its state."""
        secret = aws.secretsmanager.Secret(
            f"{self._name}-token",
            description="The token that the canary calls the API with",
            kms_key_id=self._key.arn,
            recovery_window_in_days=7,
            opts=ResourceOptions(parent=self),
        )
        aws.secretsmanager.SecretPolicy(
            f"{self._name}-token-policy",
            secret_arn=secret.arn,
            policy=document_text(secret_statements(self._args.site)),
            block_public_policy=True,
            opts=ResourceOptions(parent=self),
        )
        return secret

    def _function(self, secret: aws.secretsmanager.Secret, *, model: str) -> aws.lambda_.Function:
        name, args = self._name, self._args
        tasks = next(each.tasks for each in args.settings.models if each.name == model)
        made = python_function(
            name,
            f"{name}-function",
            FunctionArgs(
                site=args.site,
                description="Calls the API as a consumer does",
                handler="canary",
                role_name=canary_role_name(args.site),
                statements=[
                    Statement(sid="ReadToken", actions=["secretsmanager:GetSecretValue"], resources=[secret.arn]),
                    self._key.decrypt_statement(sid="DecryptToken", via="secretsmanager"),
                ],
                variables={
                    "API_URL": args.gateway.api_url,
                    "MODEL": model,
                    "TASK": str(canary_task(tasks)),
                    "TOKEN_ARN": secret.arn,
                    "STACK": args.site.stack,
                },
                key=self._key,
                logs=args.logs,
                timeout=60,  # above the call's own 30 s, or a slow API would look like a crash
            ),
            parent=self,
        )
        return made.function

    def _schedule(self, function: aws.lambda_.Function) -> None:
        name, site = self._name, self._args.site
        role = aws.iam.Role(
            f"{name}-schedule-role",
            assume_role_policy=assume_role("scheduler.amazonaws.com", conditions=same_account(site.account_id)),
            opts=ResourceOptions(parent=self),
        )
        policy = aws.iam.RolePolicy(
            f"{name}-schedule-policy",
            role=role.name,
            policy=document(
                [Statement(sid="Invoke", actions=["lambda:InvokeFunction"], resources=[function.arn])],
            ),
            opts=ResourceOptions(parent=self),
        )
        aws.scheduler.Schedule(
            f"{name}-schedule",
            description="A call that is missed is not made up for: the next one comes soon enough",
            schedule_expression=f"rate({MINUTES} minutes)",
            flexible_time_window={"mode": "OFF"},
            target={"arn": function.arn, "role_arn": role.arn, "retry_policy": {"maximum_retry_attempts": 0}},
            opts=ResourceOptions(parent=self, depends_on=[policy]),
        )
