"""The key that signs models: an asymmetric one, whose private half never leaves KMS."""

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import InvokeOptions, ResourceOptions

from infra.components.keys import administered_by_iam, never_signed_by_role, signs_for_account
from infra.iam import Statement, document_text
from infra.site import Site


@dataclass(frozen=True)
class SigningArgs:
    """Whose models are signed, and the role that loads them and so must never sign any."""

    site: Site
    reader_role_name: str


class Signing(pulumi.ComponentResource):
    """A key on P-256 that signs and nothing else, and its public half, which every server is told.

    AWS rotates no asymmetric key. A new key means new signatures: publishing again makes them.
    https://docs.aws.amazon.com/kms/latest/developerguide/rotate-keys.html
    """

    key_arn: pulumi.Output[str]
    public_key: pulumi.Output[str]

    def __init__(self, name: str, args: SigningArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Signing", name, None, opts)
        site = args.site
        key = aws.kms.Key(
            f"{name}-key",
            description=f"{site.name}: signatures of models",
            customer_master_key_spec="ECC_NIST_P256",
            key_usage="SIGN_VERIFY",
            deletion_window_in_days=30,
            policy=document_text(
                [
                    administered_by_iam(site),
                    signs_for_account(site),
                    never_signed_by_role(site, role_name=args.reader_role_name),
                ]
            ),
            opts=ResourceOptions(parent=self),
        )
        aws.kms.Alias(
            f"{name}-key-alias",
            name=f"alias/{site.name}/{name}-key",
            target_key_id=key.key_id,
            opts=ResourceOptions(parent=self),
        )
        self.key_arn = key.arn
        # Base64 of its DER, as the servers take it.
        self.public_key = aws.kms.get_public_key_output(key_id=key.arn, opts=InvokeOptions(parent=self)).public_key
        self.register_outputs({"key_arn": self.key_arn, "public_key": self.public_key})

    def sign_statements(self) -> list[Statement]:
        """A grant to sign models, and to ask for the public half, which signatures name."""
        return [Statement(sid="SignModels", actions=["kms:Sign", "kms:GetPublicKey"], resources=[self.key_arn])]
