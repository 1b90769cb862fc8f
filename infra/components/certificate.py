"""The TLS certificate of the hop from gateway to balancer, and of the gateway's own domain where there is one."""

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import pulumi_tls as tls
from pulumi import ResourceOptions

_HOURS_PER_DAY = 24
PRIVATE_NAME = "balancer.modelkeep.internal"


@dataclass(frozen=True)
class CertificateArgs:
    """The public domain, or None for a certificate that is signed by itself."""

    domain: str | None


class Certificate(pulumi.ComponentResource):
    """A certificate in ACM: issued for the domain once its owner has put ACM's record into the DNS, or made here.

    `verifiable` says whether API Gateway can verify it; one that is signed by itself cannot be.
    """

    arn: pulumi.Output[str]
    verifiable: bool

    def __init__(self, name: str, args: CertificateArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Certificate", name, None, opts)
        self.verifiable = args.domain is not None
        self.arn = self._self_signed(name) if args.domain is None else self._issued(name, domain=args.domain)
        self.register_outputs({"arn": self.arn})

    def _issued(self, name: str, *, domain: str) -> pulumi.Output[str]:
        certificate = aws.acm.Certificate(
            f"{name}-issued", domain_name=domain, validation_method="DNS", opts=ResourceOptions(parent=self)
        )
        validation = aws.acm.CertificateValidation(
            f"{name}-validation", certificate_arn=certificate.arn, opts=ResourceOptions(parent=self)
        )
        return validation.certificate_arn

    def _self_signed(self, name: str) -> pulumi.Output[str]:
        key = tls.PrivateKey(
            f"{name}-private-key", algorithm="ECDSA", ecdsa_curve="P256", opts=ResourceOptions(parent=self)
        )
        certificate = tls.SelfSignedCert(
            f"{name}-self-signed",
            private_key_pem=key.private_key_pem,
            subject={"common_name": PRIVATE_NAME},
            dns_names=[PRIVATE_NAME],
            allowed_uses=["digital_signature", "server_auth"],
            validity_period_hours=397 * _HOURS_PER_DAY,
            # A deployment in the last month of its life makes the next one.
            early_renewal_hours=30 * _HOURS_PER_DAY,
            opts=ResourceOptions(parent=self),
        )
        imported = aws.acm.Certificate(
            f"{name}-imported",
            private_key=key.private_key_pem,
            certificate_body=certificate.cert_pem,
            opts=ResourceOptions(parent=self),
        )
        return imported.arn
