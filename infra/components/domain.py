"""The API's own domain: its TLS, the certificates it asks callers for, and its record in Route 53."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.api_settings import ApiSettings, MinimumTls
from infra.components.certificate import Certificate
from infra.routes import STAGE

# https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-security-policies-list.html
SECURITY_POLICIES: Mapping[MinimumTls, str] = {
    "1.2": "SecurityPolicy_TLS13_1_2_2021_06",
    "1.3": "SecurityPolicy_TLS13_1_3_2025_09",
}
# The one policy that API Gateway enables mutual TLS with; it takes TLS 1.2 and 1.3.
MUTUAL_TLS_POLICY = "TLS_1_2"


@dataclass(frozen=True)
class DomainNameArgs:
    """The domain, the API behind it, and what it proves itself with."""

    domain: str
    api: ApiSettings
    api_id: pulumi.Input[str]
    stage_name: pulumi.Input[str]
    certificate: Certificate


class DomainName(pulumi.ComponentResource):
    """The domain with the stage at its path; with mutual TLS it answers nobody without a certificate it knows."""

    url: pulumi.Output[str]

    def __init__(self, name: str, args: DomainNameArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:DomainName", name, None, opts)
        mutual = args.api.mutual_tls
        domain = aws.apigateway.DomainName(
            name,
            domain_name=args.domain,
            regional_certificate_arn=args.certificate.arn,
            endpoint_configuration={"types": "REGIONAL"},
            security_policy=MUTUAL_TLS_POLICY if mutual is not None else SECURITY_POLICIES[args.api.minimum_tls],
            # A mode is for the policies SecurityPolicy_* alone.
            endpoint_access_mode="STRICT" if mutual is None else None,
            mutual_tls_authentication=(
                None
                if mutual is None
                else {"truststore_uri": mutual.truststore_uri, "truststore_version": mutual.truststore_version}
            ),
            opts=ResourceOptions(parent=self),
        )
        mapping = aws.apigateway.BasePathMapping(
            f"{name}-path",
            domain_name=domain.domain_name,
            rest_api=args.api_id,
            stage_name=args.stage_name,
            base_path=STAGE,
            opts=ResourceOptions(parent=self),
        )
        if args.api.hosted_zone_id is not None:
            aws.route53.Record(
                f"{name}-record",
                zone_id=args.api.hosted_zone_id,
                name=args.domain,
                type="A",
                aliases=[
                    {
                        "name": domain.regional_domain_name,
                        "zone_id": domain.regional_zone_id,
                        "evaluate_target_health": False,  # a regional domain has no other to fail over to
                    }
                ],
                opts=ResourceOptions(parent=self),
            )
        self.url = pulumi.Output.concat("https://", mapping.domain_name, f"/{STAGE}")
        self.register_outputs({"url": self.url})
