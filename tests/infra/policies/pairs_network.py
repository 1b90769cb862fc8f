"""Pairs for the network, instances, groups of them, and balancers."""

from typing import Any

from infra.policies.graph import Graph
from tests.infra.policies.pair import KEY_URN, Pair, alone, in_stack, resource, statement, together

VPC = "aws:ec2/vpc:Vpc"
SECURITY_GROUP = "aws:ec2/securityGroup:SecurityGroup"
INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
EGRESS = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
OLD_RULE = "aws:ec2/securityGroupRule:SecurityGroupRule"
NETWORK_ACL = "aws:ec2/networkAcl:NetworkAcl"
ACL_RULE = "aws:ec2/networkAclRule:NetworkAclRule"
TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
INSTANCE = "aws:ec2/instance:Instance"
GROUP = "aws:autoscaling/group:Group"
CONFIGURATION = "aws:ec2/launchConfiguration:LaunchConfiguration"
BALANCER = "aws:lb/loadBalancer:LoadBalancer"
LISTENER = "aws:lb/listener:Listener"
TARGETS = "aws:lb/targetGroup:TargetGroup"
ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"
ROUTES = "aws:ec2/routeTable:RouteTable"


def graphs(*resources: tuple[str, dict[str, Any]]) -> tuple[Graph, ...]:
    """A graph for each of these."""
    return tuple(Graph((resource(kind, properties),)) for kind, properties in resources)


def open_at(first: int, last: int, *addresses: str) -> list[tuple[str, dict[str, Any]]]:
    """The same way in, said in the three ways that there are."""
    ports: dict[str, Any] = {"fromPort": first, "toPort": last}
    return [
        *(
            (INGRESS, {**ports, "ipProtocol": "tcp", "cidrIpv6" if ":" in each else "cidrIpv4": each})
            for each in addresses
        ),
        (OLD_RULE, {**ports, "type": "ingress", "protocol": "tcp", "cidrBlocks": list(addresses)}),
        (SECURITY_GROUP, {"ingress": [{**ports, "protocol": "tcp", "cidrBlocks": list(addresses)}]}),
    ]


EVERYTHING = [
    (INGRESS, {"ipProtocol": "-1", "cidrIpv4": "0.0.0.0/0"}),
    (SECURITY_GROUP, {"ingress": [{"protocol": "-1", "fromPort": 0, "toPort": 0, "cidrBlocks": ["0.0.0.0/0"]}]}),
]
OUTWARD = (EGRESS, {"fromPort": 22, "toPort": 22, "ipProtocol": "tcp", "cidrIpv4": "0.0.0.0/0"})
BY_GROUP = (INGRESS, {"fromPort": 443, "toPort": 443, "ipProtocol": "tcp", "referencedSecurityGroupId": "sg-1"})
MIXED = "mixedInstancesPolicy"
TWO_TYPES = [{"instanceType": "g6.xlarge"}, {"instanceType": "g5.xlarge"}]


def mixed(*, overrides: Any = TWO_TYPES, **specification: Any) -> dict[str, Any]:
    """A group of several types over two subnets."""
    launch = {"launchTemplateSpecification": {"launchTemplateId": "lt-1", **specification}, "overrides": overrides}
    return {MIXED: {"launchTemplate": launch}, "vpcZoneIdentifiers": ["a", "b"]}


def refresh(**preferences: Any) -> dict[str, Any]:
    """A group's instance refresh."""
    return {"instanceRefresh": {"preferences": preferences}}


def volumes(**ebs: Any) -> dict[str, Any]:
    """A launch template's one volume."""
    return {"blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": ebs}]}


def metadata(**options: Any) -> dict[str, Any]:
    """How an instance's metadata is reached."""
    return {"metadataOptions": options}


PAIRS: dict[str, Pair] = {
    "vpc-default-group-closed": together(
        VPC,
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
        "vpcId",
        [{"ingress": [], "egress": []}, {}],
        [{"ingress": [{"protocol": "-1"}]}, {"egress": [{"protocol": "-1"}]}],
    ),
    "vpc-flow-log": together(
        VPC,
        "aws:ec2/flowLog:FlowLog",
        "vpcId",
        [{"trafficType": "ALL"}, {"trafficType": "REJECT"}],
        [{"trafficType": "ACCEPT"}],
    ),
    "vpc-ec2-endpoint": together(
        VPC,
        ENDPOINT,
        "vpcId",
        [{"serviceName": "com.amazonaws.eu-west-1.ec2"}],
        [{"serviceName": "com.amazonaws.eu-west-1.s3"}, {"serviceName": "com.amazonaws.eu-west-1.ec2messages"}],
    ),
    "group-no-ssh": Pair(
        fine=graphs(BY_GROUP, OUTWARD, *open_at(22, 22, "10.0.0.0/8"), *open_at(443, 443, "0.0.0.0/0")),
        wrong=graphs(*open_at(22, 22, "0.0.0.0/0", "::/0"), *open_at(20, 30, "0.0.0.0/0"), *EVERYTHING),
    ),
    "group-open-ports": Pair(
        fine=graphs(
            BY_GROUP, OUTWARD, *open_at(443, 443, "0.0.0.0/0"), *open_at(80, 80, "::/0"), *open_at(9, 9, "10.0.0.0/8")
        ),
        wrong=graphs(*open_at(8443, 8443, "0.0.0.0/0"), *open_at(80, 443, "::/0"), *EVERYTHING),
    ),
    "group-high-risk-ports": Pair(
        fine=graphs(BY_GROUP, *open_at(443, 443, "0.0.0.0/0")),
        wrong=graphs(
            *open_at(3306, 3306, "0.0.0.0/0"), *open_at(3389, 3389, "::/0"), *open_at(8000, 8100, "::/0"), *EVERYTHING
        ),
    ),
    "group-by-reference": Pair(
        fine=graphs(
            BY_GROUP,
            (EGRESS, {"prefixListId": "pl-1", "ipProtocol": "tcp", "fromPort": 443, "toPort": 443}),
            (SECURITY_GROUP, {"ingress": [], "egress": []}),
            (SECURITY_GROUP, {"ingress": [{"self": True}]}),
        ),
        wrong=graphs(OUTWARD, *open_at(443, 443, "10.0.0.0/8"), (INGRESS, {"ipProtocol": "-1"})),
    ),
    "group-described": alone(INGRESS, [{"description": "From the link"}], [{}, {"description": ""}]),
    "acl-no-remote-access": Pair(
        fine=graphs(
            (NETWORK_ACL, {"ingress": [{"action": "deny", "cidrBlock": "0.0.0.0/0", "protocol": "-1"}]}),
            (NETWORK_ACL, {"ingress": [{"action": "allow", "cidrBlock": "10.0.0.0/8", "protocol": "-1"}]}),
            (ACL_RULE, {"ruleAction": "allow", "egress": True, "protocol": "-1", "cidrBlock": "0.0.0.0/0"}),
        ),
        wrong=graphs(
            (NETWORK_ACL, {"ingress": [{"action": "allow", "cidrBlock": "0.0.0.0/0", "protocol": "-1"}]}),
            (
                ACL_RULE,
                {"ruleAction": "allow", "protocol": "tcp", "fromPort": 22, "toPort": 22, "cidrBlock": "0.0.0.0/0"},
            ),
            (
                ACL_RULE,
                {"ruleAction": "allow", "protocol": "6", "fromPort": 3000, "toPort": 4000, "ipv6CidrBlock": "::/0"},
            ),
        ),
    ),
    "subnet-private": alone(
        "aws:ec2/subnet:Subnet", [{}, {"mapPublicIpOnLaunch": False}], [{"mapPublicIpOnLaunch": True}]
    ),
    "no-way-to-the-internet": Pair(
        fine=graphs((ENDPOINT, {})),
        wrong=graphs(
            ("aws:ec2/internetGateway:InternetGateway", {}),
            ("aws:ec2/natGateway:NatGateway", {}),
            ("aws:ec2/eip:Eip", {}),
        ),
    ),
    "no-route-out": Pair(
        fine=graphs((ROUTES, {"routes": []}), (ROUTES, {}), (ROUTES, {"routes": [{"vpcEndpointId": "vpce-1"}]})),
        wrong=graphs(
            (ROUTES, {"routes": [{"cidrBlock": "0.0.0.0/0", "gatewayId": "igw-1"}]}),
            ("aws:ec2/route:Route", {"natGatewayId": "nat-1"}),
        ),
    ),
    "endpoint-policy": alone(
        ENDPOINT,
        [
            {
                "policy": statement(
                    Principal="*",
                    Action="s3:GetObject",
                    Resource="*",
                    Condition={"StringEquals": {"aws:PrincipalAccount": "1"}},
                )
            },
            {"policy": statement(Principal="*", Action="s3:GetObject", Resource=["arn:aws:s3:::layers/*"])},
        ],
        [
            {},
            {"policy": statement(Principal="*", Action="*", Resource="*")},
            {"policy": statement(Principal="*", Action="s3:GetObject", Resource="arn:aws:s3:::*")},
            {
                "policy": statement(
                    Principal="*",
                    Action="s3:GetObject",
                    Resource="*",
                    Condition={"Bool": {"aws:SecureTransport": "true"}},
                )
            },
        ],
    ),
    "ebs-encrypted-by-default": in_stack(
        "aws:ebs/encryptionByDefault:EncryptionByDefault", [{}, {"enabled": True}], [{"enabled": False}]
    ),
    "instance-imdsv2": alone(
        TEMPLATE,
        [metadata(httpTokens="required"), metadata(httpEndpoint="disabled")],
        [{}, metadata(httpTokens="optional")],
    ),
    "instance-hop-limit": alone(
        TEMPLATE, [{}, metadata(httpPutResponseHopLimit=1)], [metadata(httpPutResponseHopLimit=2)]
    ),
    "instance-private": alone(
        INSTANCE,
        [{}, {"associatePublicIpAddress": False}],
        [{"associatePublicIpAddress": True}],
    ),
    "launch-template-private": alone(
        TEMPLATE,
        [{}, {"networkInterfaces": [{"associatePublicIpAddress": "false"}]}],
        [{"networkInterfaces": [{}, {"associatePublicIpAddress": "true"}]}],
    ),
    "launch-template-encrypted": alone(
        TEMPLATE,
        [volumes(encrypted="true", kmsKeyId="k")],
        [{}, volumes(encrypted="true"), volumes(encrypted="false", kmsKeyId="k"), volumes(kmsKeyId="k")],
        blockDeviceMappings=KEY_URN,
    ),
    "volume-encrypted": alone(
        "aws:ebs/volume:Volume",
        [{"encrypted": True, "kmsKeyId": "k"}],
        [{}, {"encrypted": True}, {"encrypted": True, "kmsKeyId": "alias/aws/ebs"}],
        kmsKeyId=KEY_URN,
    ),
    "autoscaling-balancer-health": alone(
        GROUP,
        [{}, {"targetGroupArns": ["a"], "healthCheckType": "ELB"}],
        [{"targetGroupArns": ["a"]}, {"loadBalancers": ["a"], "healthCheckType": "EC2"}],
    ),
    "autoscaling-zones": alone(
        GROUP,
        [{"vpcZoneIdentifiers": ["a", "b"]}, {"availabilityZones": ["a", "b"]}],
        [{}, {"vpcZoneIdentifiers": ["a"]}],
    ),
    "launch-configuration-imdsv2": alone(
        CONFIGURATION, [metadata(httpTokens="required")], [{}, metadata(httpTokens="optional")]
    ),
    "launch-configuration-private": alone(
        CONFIGURATION, [{"associatePublicIpAddress": False}], [{}, {"associatePublicIpAddress": True}]
    ),
    "autoscaling-types": alone(
        GROUP,
        [mixed(), mixed(overrides=[{"instanceRequirements": {"memoryMib": {"min": 8}}}])],
        [
            {},
            mixed(overrides=TWO_TYPES[:1]),
            mixed(overrides=[TWO_TYPES[0], TWO_TYPES[0]]),
            {**mixed(), "vpcZoneIdentifiers": ["a"]},
        ],
    ),
    "autoscaling-template": alone(
        GROUP,
        [mixed(), {"launchTemplate": {"id": "lt-1"}}],
        [{}, {"launchConfiguration": "c"}, {**mixed(), "launchConfiguration": "c"}],
    ),
    "autoscaling-version-pinned": alone(
        GROUP,
        [mixed(version="7"), {"launchTemplate": {"version": "3"}}],
        [mixed(), mixed(version="$Latest"), {"launchTemplate": {"version": "$Default"}}],
    ),
    "autoscaling-rolls-back": alone(
        GROUP,
        [refresh(autoRollback=True, alarmSpecification={"alarms": ["a"]})],
        [
            {},
            refresh(autoRollback=True),
            refresh(alarmSpecification={"alarms": ["a"]}),
            refresh(autoRollback=True, alarmSpecification={"alarms": []}),
        ],
    ),
    "autoscaling-ami-fixed": alone(
        TEMPLATE, [{"imageId": "ami-1"}], [{}, {"imageId": "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023"}]
    ),
    "autoscaling-keeps-capacity": alone(GROUP, [{"instanceMaintenancePolicy": {"minHealthyPercentage": 90}}], [{}]),
    "launch-template-tagged": alone(
        TEMPLATE,
        [{"tagSpecifications": [{"resourceType": "instance"}, {"resourceType": "volume"}]}],
        [{}, {"tagSpecifications": [{"resourceType": "instance"}]}],
    ),
    "launch-template-measured": alone(
        TEMPLATE, [{"monitoring": {"enabled": True}}], [{}, {"monitoring": {"enabled": False}}]
    ),
    "launch-template-no-ssh-key": alone(TEMPLATE, [{}], [{"keyName": "mine"}]),
    "elb-http-redirects": alone(
        LISTENER,
        [
            {"protocol": "HTTPS"},
            {"protocol": "HTTP", "defaultActions": [{"type": "redirect", "redirect": {"protocol": "HTTPS"}}]},
        ],
        [{"protocol": "HTTP", "defaultActions": [{"type": "forward"}]}, {}, {"protocol": "HTTP", "defaultActions": []}],
    ),
    "elb-drops-bad-headers": alone(
        BALANCER,
        [{"dropInvalidHeaderFields": True}, {"loadBalancerType": "network"}],
        [{}, {"dropInvalidHeaderFields": False}],
    ),
    "elb-access-log": alone(
        BALANCER,
        [{"accessLogs": {"bucket": "b", "enabled": True}}],
        [{}, {"accessLogs": {"bucket": "b", "enabled": False}}],
    ),
    "elb-deletion-protected": alone(
        BALANCER, [{"enableDeletionProtection": True}], [{}, {"enableDeletionProtection": False}]
    ),
    "elb-desync": alone(BALANCER, [{}, {"desyncMitigationMode": "strictest"}], [{"desyncMitigationMode": "monitor"}]),
    "elb-zones": alone(BALANCER, [{"subnets": ["a", "b"]}, {"subnetMappings": [{}, {}]}], [{}, {"subnets": ["a"]}]),
    "elb-internal": alone(BALANCER, [{"internal": True}], [{}, {"internal": False}]),
    "elb-tls": alone(
        LISTENER,
        [{"protocol": "HTTPS", "certificateArn": "c", "sslPolicy": "ELBSecurityPolicy-TLS13-1-2-2021-06"}],
        [
            {"protocol": "HTTPS", "certificateArn": "c"},
            {"protocol": "HTTP"},
            {"protocol": "HTTPS", "certificateArn": "c", "sslPolicy": "ELBSecurityPolicy-2016-08"},
        ],
    ),
    "elb-targets-tls": alone(
        TARGETS,
        [{"protocol": "HTTPS", "healthCheck": {"protocol": "HTTPS"}}, {"targetType": "lambda"}],
        [{"protocol": "HTTP"}, {"protocol": "HTTPS"}, {"protocol": "HTTPS", "healthCheck": {"protocol": "HTTP"}}],
    ),
}
