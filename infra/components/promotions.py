"""The parameter that says which versions were promoted in place of those that the settings name."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.iam import Statement
from infra.site import Site


@dataclass(frozen=True)
class PromotionsArgs:
    """Whose promotions these are."""

    site: Site


class Promotions(pulumi.ComponentResource):
    """A parameter that is empty at first; from then on the rollout writes it, and the program leaves it alone.

    Its value is no secret. Every server reads it at its start, and `lambdas/promotions.py` says what it means.
    """

    name: pulumi.Output[str]

    def __init__(self, name: str, args: PromotionsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Promotions", name, None, opts)
        parameter = aws.ssm.Parameter(
            name,
            name=f"/{args.site.project}/{args.site.stack}/promotions",
            description="Versions of models that were promoted; written by modelkeep models promote",
            type="String",
            value="{}",
            opts=ResourceOptions(parent=self, ignore_changes=["value"]),
        )
        self.name, self._arn = parameter.name, parameter.arn
        self.register_outputs({"name": self.name})

    def statement(self, *, sid: str, actions: Sequence[str]) -> Statement:
        """A grant on this parameter and no other."""
        return Statement(sid=sid, actions=actions, resources=[self._arn])
