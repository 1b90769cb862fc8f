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
    """The public domain, or None for a certificate that is signed by itself; the zone that is the domain's, if ours."""

    domain: str | None
    hosted_zone_id: str | None = None


class Certificate(pulumi.ComponentResource):
    """A certificate in ACM: issued for the domain once ACM's record is in the DNS, or made here.

    The record is put into the zone that the settings name, or by the domain's owner.

    `verifiable` says whether API Gateway can verify it; one that is signed by itself cannot be.
    """

    arn: pulumi.Output[str]
    verifiable: bool

    def __init__(self, name: str, args: CertificateArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Certificate", name, None, opts)
        self.verifiable = args.domain is not None
        self.arn = self._self_signed(name) if args.domain is None else self._issued(name, args, domain=args.domain)
        self.register_outputs({"arn": self.arn})

    def _issued(self, name: str, args: CertificateArgs, *, domain: str) -> pulumi.Output[str]:
        certificate = aws.acm.Certificate(
            f"{name}-issued", domain_name=domain, validation_method="DNS", opts=ResourceOptions(parent=self)
        )
        proofs: list[pulumi.Resource] = []
        if args.hosted_zone_id is not None:
            asked = certificate.domain_validation_options[0]
            proofs = [
                aws.route53.Record(
                    f"{name}-proof",
                    zone_id=args.hosted_zone_id,
                    name=asked.resource_record_name,
                    type=asked.resource_record_type,
                    records=[asked.resource_record_value],
                    ttl=300,
                    opts=ResourceOptions(parent=self),
                )
            ]
        validation = aws.acm.CertificateValidation(
            f"{name}-validation",
            certificate_arn=certificate.arn,
            opts=ResourceOptions(parent=self, depends_on=proofs),
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
