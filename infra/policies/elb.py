"""Rules for load balancers: TLS on both sides, logged, and only from within."""

from infra.policies.rule import (
    Rule,
    Severity,
    each_item,
    either,
    has_items,
    is_none_of,
    is_one_of,
    is_set,
    is_true,
    on,
    unless,
)
from infra.policies.tls import admits_no_old_tls
from infra.policies.zones import subnets_of_several_zones


def lb(name: str) -> tuple[str, ...]:
    """Both tokens of a part of ELBv2, the second the provider's older one."""
    part = f"{name[0].lower()}{name[1:]}"
    return (f"aws:lb/{part}:{name}", f"aws:alb/{part}:{name}")


BALANCER = lb("LoadBalancer")
CLASSIC = ("aws:elb/loadBalancer:LoadBalancer",)
LISTENER = lb("Listener")
_NOT_HTTP = is_none_of("protocol", "HTTP", default="HTTP")
_TLS_13_POLICY = admits_no_old_tls("sslPolicy", further=lambda name: "TLS13" in name)
_APPLICATION_ONLY = is_one_of("loadBalancerType", "network", "gateway", default="application")


RULES = (
    Rule(
        id="elb-http-redirects",
        severity=Severity.MEDIUM,
        types=LISTENER,
        check=on(
            unless(
                _NOT_HTTP,
                has_items("defaultActions", 1),
                each_item("defaultActions", is_one_of("redirect.protocol", "HTTPS"), is_one_of("type", "redirect")),
            )
        ),
        reason="ELB.1 checks that every HTTP listener does nothing but redirect to HTTPS",
        remedy="make the listener HTTPS, or its default action a redirect to HTTPS",
        control="ELB.1",
    ),
    Rule(
        id="elb-drops-bad-headers",
        severity=Severity.MEDIUM,
        types=BALANCER,
        check=on(unless(_APPLICATION_ONLY, is_true("dropInvalidHeaderFields"))),
        reason="ELB.4 checks that an application load balancer drops headers that are not valid HTTP",
        remedy="set dropInvalidHeaderFields",
        control="ELB.4",
    ),
    Rule(
        id="elb-access-log",
        severity=Severity.MEDIUM,
        types=(*BALANCER, *CLASSIC),
        check=on(is_set("accessLogs.bucket"), is_true("accessLogs.enabled")),
        reason="ELB.5 checks that a load balancer logs its requests",
        remedy="set accessLogs with a bucket and enabled true",
        control="ELB.5",
        cdk_nag="AwsSolutions-ELB2",
    ),
    Rule(
        id="elb-deletion-protected",
        severity=Severity.MEDIUM,
        types=BALANCER,
        check=on(is_true("enableDeletionProtection")),
        reason="ELB.6 checks that a load balancer cannot be deleted by one call",
        remedy="set enableDeletionProtection",
        control="ELB.6",
    ),
    Rule(
        id="elb-desync",
        severity=Severity.MEDIUM,
        types=(*BALANCER, *CLASSIC),
        check=on(
            unless(_APPLICATION_ONLY, is_one_of("desyncMitigationMode", "defensive", "strictest", default="defensive"))
        ),
        reason="ELB.12 checks that desync mitigation is defensive or strictest, against smuggled requests",
        remedy="set desyncMitigationMode defensive or leave it out",
        control="ELB.12",
    ),
    Rule(
        id="elb-zones",
        severity=Severity.MEDIUM,
        types=BALANCER,
        check=subnets_of_several_zones("subnets", "subnetMappings"),
        scope="graph",
        reason="ELB.13 checks that a load balancer spans two availability zones or more",
        remedy="name subnets of at least two zones",
        control="ELB.13",
    ),
    Rule(
        id="elb-internal",
        severity=Severity.HIGH,
        types=(*BALANCER, *CLASSIC),
        check=on(is_true("internal")),
        reason="a balancer with public addresses is a way around gateway, firewall and authorizer",
        remedy="set internal",
    ),
    Rule(
        id="elb-tls",
        severity=Severity.HIGH,
        types=LISTENER,
        check=on(is_one_of("protocol", "HTTPS", "TLS", default="HTTP"), _TLS_13_POLICY, is_set("certificateArn")),
        reason="every hop is TLS; the policy that AWS takes by default allows TLS 1.0",
        remedy="set protocol HTTPS, a certificate, and an sslPolicy with TLS 1.3 and none below 1.2",
    ),
    Rule(
        id="elb-targets-tls",
        severity=Severity.HIGH,
        types=lb("TargetGroup"),
        check=on(
            either(is_one_of("protocol", "HTTPS", "TLS"), is_one_of("targetType", "lambda")),
            unless(is_one_of("targetType", "lambda"), is_one_of("healthCheck.protocol", "HTTPS", default="HTTP")),
        ),
        reason="behind the balancer a request carries the same prompt as before it",
        remedy="set protocol and healthCheck.protocol HTTPS",
    ),
)
