"""The lambda functions: the authorizer."""

import json
from dataclasses import dataclass

import pulumi
from pulumi import ResourceOptions

from infra.components.consumers import Consumers
from infra.components.keys import EncryptionKey, EncryptionKeyArgs, administered_by_iam, used_through
from infra.components.logs import Logs
from infra.components.python_function import FunctionArgs, python_function
from infra.components.stage import usage_plans
from infra.routes import ROUTES
from infra.settings import Settings
from infra.site import Site


def authorizer_role_name(site: Site) -> str:
    """The name of the authorizer's role, set by us since a key's policy names it before it exists."""
    return f"{site.name}-{site.region}-authorizer"


def authorizer_variables(settings: Settings) -> dict[str, str]:
    """What the authorizer is told of the settings, as lambdas/environment.py reads it."""
    plans = {
        name: {"tokens_per_day": plan.tokens_per_day, "tokens_per_month": plan.tokens_per_month}
        for name, plan in usage_plans(settings).items()
    }
    oidc = settings.api.oidc
    return {
        "PLANS": json.dumps(plans),
        "ROUTES": json.dumps([[route.pattern, route.task] for route in ROUTES]),
        **({} if oidc is None else {"OIDC": json.dumps(oidc.as_variable())}),
    }


@dataclass(frozen=True)
class FunctionsArgs:
    """Plans, routes and the identity provider; the tables to read; and where logs go."""

    site: Site
    settings: Settings
    consumers: Consumers
    logs: Logs


class Functions(pulumi.ComponentResource):
    """The authorizer: token in, consumer, plan and scopes out.

    It stays outside the VPC: all it talks to are DynamoDB and KMS, by TLS and its role, and the identity provider where
    there is one. Inside, it would need one more endpoint for KMS and a security group that reaches out, and gain
    nothing: nothing in the VPC is its business.
    """

    authorizer_name: pulumi.Output[str]
    authorizer_arn: pulumi.Output[str]
    authorizer_invoke_arn: pulumi.Output[str]

    def __init__(self, name: str, args: FunctionsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Functions", name, None, opts)
        key = EncryptionKey(
            f"{name}-key",
            EncryptionKeyArgs(
                site=args.site,
                purpose="environments of functions",
                policy=[administered_by_iam(args.site), *used_through(args.site, "lambda", grants=True)],
            ),
            opts=ResourceOptions(parent=self),
        )
        made = python_function(
            f"{name}-authorizer",
            f"{name}-authorizer",
            FunctionArgs(
                site=args.site,
                description="Turns a token into consumer, plan and scopes",
                handler="authorizer",
                role_name=authorizer_role_name(args.site),
                statements=[*args.consumers.read_statements(), args.consumers.note_use_statement()],
                variables={
                    "STACK": args.site.stack,
                    "CONSUMERS_TABLE": args.consumers.consumers_table,
                    "TOKENS_TABLE": args.consumers.tokens_table,
                    **authorizer_variables(args.settings),
                },
                key=key,
                logs=args.logs,
                memory_size=512,  # every call waits for this function
                timeout=10,
            ),
            parent=self,
        )
        function = made.function
        self.authorizer_name, self.authorizer_arn = function.name, function.arn
        self.authorizer_invoke_arn = function.invoke_arn
        self.register_outputs({"authorizer_name": self.authorizer_name, "authorizer_arn": self.authorizer_arn})
