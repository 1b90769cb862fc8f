"""VPC, security groups, endpoints, flow logs, launch templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.types.documents import document
from local.types.spec import Autoname, Follow, Inputs, Made, TypeSpec, drop_empty, known

_ANY_ADDRESS = "0.0.0.0/0"


def _attribute(operation: str, id_name: str, **names: str) -> tuple[Follow, ...]:
    """Attributes that EC2 takes one by one, as `{"Value": …}`."""
    return tuple(
        Follow(
            inputs=(name,),
            send=lambda made, name=name, attribute=attribute: made.call(  # type: ignore[misc]
                "ec2", operation, **{id_name: made.id, attribute: {"Value": made.inputs[name]}}
            ),
        )
        for name, attribute in names.items()
    )


def _arn(kind: str) -> Any:
    return lambda made: {"arn": made.arn("ec2", f"{kind}/{made.id}")}


def _vpc_outputs(made: Made) -> Mapping[str, Any]:
    only_this = [{"Name": "vpc-id", "Values": [made.id]}]
    tables = made.call("ec2", "DescribeRouteTables", Filters=only_this)["RouteTables"]
    groups = made.call("ec2", "DescribeSecurityGroups", Filters=only_this)["SecurityGroups"]
    lists = made.call("ec2", "DescribeNetworkAcls", Filters=only_this)["NetworkAcls"]
    main = tables[0]["RouteTableId"]
    return {
        "arn": made.arn("ec2", f"vpc/{made.id}"),
        "mainRouteTableId": main,
        "defaultRouteTableId": main,
        "defaultSecurityGroupId": next(group["GroupId"] for group in groups if group["GroupName"] == "default"),
        "defaultNetworkAclId": next(entry["NetworkAclId"] for entry in lists if entry["IsDefault"]),
    }


def add_routes(made: Made) -> None:
    names = {"cidrBlock": "DestinationCidrBlock", "ipv6CidrBlock": "DestinationIpv6CidrBlock"}
    for route in made.inputs["routes"]:
        parameters = {names.get(key, key[0].upper() + key[1:]): value for key, value in drop_empty(route).items()}
        made.call("ec2", "CreateRoute", RouteTableId=made.id, **parameters)


def _permission(rule: Inputs) -> dict[str, Any]:
    """The IpPermission of one security group rule resource."""
    described = {"description": rule["description"]} if "description" in rule else {}
    peers = {
        "referencedSecurityGroupId": ("userIdGroupPairs", "groupId"),
        "cidrIpv4": ("ipRanges", "cidrIp"),
        "cidrIpv6": ("ipv6Ranges", "cidrIpv6"),
        "prefixListId": ("prefixListIds", "prefixListId"),
    }
    permission = {name: rule[name] for name in ("ipProtocol", "fromPort", "toPort") if name in rule}
    for name, (member, key) in peers.items():
        if name in rule:
            permission[member] = [{key: rule[name], **described}]
    return permission


def _rule(inputs: Inputs) -> Inputs:
    named = {*_permission({**inputs, "description": ""}), "referencedSecurityGroupId", "cidrIpv4", "cidrIpv6"}
    rest = {key: value for key, value in inputs.items() if key not in named | {"prefixListId", "description"}}
    return {**rest, "ipPermissions": [_permission(inputs)]}


def group_rules(direction: str) -> Any:
    """Sends the ingress or egress blocks that a security group resource carries itself."""

    def send(made: Made) -> None:
        for block in made.inputs[direction]:
            group = {"groupId": made.id, "ipPermissions": [_block_permission(block, group_id=made.id)]}
            made.call("ec2", f"AuthorizeSecurityGroup{direction.capitalize()}", **_upper(group))

    return send


def _block_permission(block: Inputs, *, group_id: str) -> dict[str, Any]:
    described = {"description": block["description"]} if block.get("description") else {}
    groups = [*block.get("securityGroups", []), *([group_id] if block.get("self") else [])]
    permission = {
        "ipProtocol": block["protocol"],
        "fromPort": block["fromPort"],
        "toPort": block["toPort"],
        "ipRanges": [{"cidrIp": cidr, **described} for cidr in block.get("cidrBlocks", [])],
        "ipv6Ranges": [{"cidrIpv6": cidr, **described} for cidr in block.get("ipv6CidrBlocks", [])],
        "prefixListIds": [{"prefixListId": one, **described} for one in block.get("prefixListIds", [])],
        "userIdGroupPairs": [{"groupId": one, **described} for one in groups],
    }
    return {key: value for key, value in permission.items() if value != []}


def _upper(value: Any) -> Any:
    """API spelling of a structure written in Pulumi's."""
    if isinstance(value, Mapping):
        return {key[0].upper() + key[1:]: _upper(item) for key, item in value.items()}
    return [_upper(item) for item in value] if isinstance(value, list) else value


def _revoke_all(made: Made) -> None:
    """A default security group that is declared holds the declared rules and no others."""
    found = made.call("ec2", "DescribeSecurityGroups", GroupIds=[made.id])["SecurityGroups"][0]
    if found["IpPermissions"]:
        made.call("ec2", "RevokeSecurityGroupIngress", GroupId=made.id, IpPermissions=found["IpPermissions"])
    if found["IpPermissionsEgress"]:
        made.call("ec2", "RevokeSecurityGroupEgress", GroupId=made.id, IpPermissions=found["IpPermissionsEgress"])


def _revoke_default_egress(made: Made) -> None:
    """Pulumi's provider takes AWS's allow-all egress away from a new group, so that a group has only declared rules."""
    found = made.call("ec2", "DescribeSecurityGroups", GroupIds=[made.id])["SecurityGroups"][0]
    rules = [rule for rule in found["IpPermissionsEgress"] if _allows_all(rule)]
    if rules:
        made.call("ec2", "RevokeSecurityGroupEgress", GroupId=made.id, IpPermissions=rules)


def _allows_all(rule: Mapping[str, Any]) -> bool:
    return rule["IpProtocol"] == "-1" and any(entry["CidrIp"] == _ANY_ADDRESS for entry in rule.get("IpRanges", []))


def _tag(made: Made) -> None:
    tags = [{"Key": key, "Value": value} for key, value in made.inputs["tags"].items()]
    made.call("ec2", "CreateTags", Resources=[made.id], Tags=tags)


def _find_default(inputs: Inputs, *, more: tuple[tuple[str, str], ...]) -> Inputs:
    filters = [("vpc-id", inputs["vpcId"]), *more]
    return {"filters": [{"name": name, "values": [value]} for name, value in filters]}


def _flow_log(inputs: Inputs) -> Inputs:
    kinds = {"vpcId": "VPC", "subnetId": "Subnet", "eniId": "NetworkInterface"}
    rest = {key: value for key, value in inputs.items() if key not in kinds}
    subject = next(name for name in kinds if name in inputs)
    return {**rest, "resourceIds": [inputs[subject]], "resourceType": kinds[subject]}


def _template(inputs: Inputs) -> Inputs:
    outside = ("name", "description")
    data = {key: value for key, value in inputs.items() if key not in outside}
    result: dict[str, Any] = {key: inputs[key] for key in outside if key in inputs}
    if isinstance(data.get("tagSpecifications"), list):
        data["tagSpecifications"] = [
            {**block, "tags": block.get("tags", {})} if known(block) else block for block in data["tagSpecifications"]
        ]
    return {**result, "launchTemplateData": drop_empty(data)}


_PROTOCOLS = {"all": "-1", "tcp": "6", "udp": "17", "icmp": "1"}


def entries(made: Made) -> None:
    """The rule blocks of a network ACL; its default deny stays as AWS made it."""
    for direction in ("ingress", "egress"):
        for block in made.inputs.get(direction, []):
            ports = {"From": block.get("fromPort", 0), "To": block.get("toPort", 0)}
            made.call(
                "ec2",
                "CreateNetworkAclEntry",
                NetworkAclId=made.id,
                Egress=direction == "egress",
                RuleNumber=block.get("ruleNo", block.get("ruleNumber")),
                Protocol=_PROTOCOLS.get(block["protocol"], str(block["protocol"])),
                RuleAction=block["action"],
                CidrBlock=block["cidrBlock"],
                PortRange=ports,
            )


def associate(made: Made) -> None:
    """Each subnet has an ACL from its first moment, so that its association is replaced."""
    for subnet_id in made.inputs["subnetIds"]:
        only_this = [{"Name": "association.subnet-id", "Values": [subnet_id]}]
        (found,) = made.call("ec2", "DescribeNetworkAcls", Filters=only_this)["NetworkAcls"]
        (association,) = [each for each in found["Associations"] if each["SubnetId"] == subnet_id]
        made.call(
            "ec2",
            "ReplaceNetworkAclAssociation",
            AssociationId=association["NetworkAclAssociationId"],
            NetworkAclId=made.id,
        )


def clear_entries(made: Made) -> None:
    """A default ACL that is declared holds the declared rules, and the deny that nobody can take away."""
    found = made.call("ec2", "DescribeNetworkAcls", NetworkAclIds=[made.id])["NetworkAcls"][0]
    for entry in found["Entries"]:
        if entry["RuleNumber"] <= _LAST_ENTRY:
            which = {"RuleNumber": entry["RuleNumber"], "Egress": entry["Egress"]}
            made.call("ec2", "DeleteNetworkAclEntry", NetworkAclId=made.id, **which)


_LAST_ENTRY = 32766  # the number beyond it is the deny at the end


def _rule_spec(direction: str) -> TypeSpec:
    return TypeSpec(
        service="ec2",
        operation=f"AuthorizeSecurityGroup{direction}",
        id="SecurityGroupRules[0].SecurityGroupRuleId",
        rename={"securityGroupId": "GroupId"},
        reshape=_rule,
        tag_as="security-group-rule",
        state="SecurityGroupRules[0]",
        outputs={"securityGroupRuleId": "SecurityGroupRuleId"},
        derive=_arn("security-group-rule"),
    )


TYPES: dict[str, TypeSpec] = {
    "aws:ec2/vpc:Vpc": TypeSpec(
        service="ec2",
        operation="CreateVpc",
        id="Vpc.VpcId",
        tag_as="vpc",
        state="Vpc",
        follow=_attribute(
            "ModifyVpcAttribute", "VpcId", enableDnsSupport="EnableDnsSupport", enableDnsHostnames="EnableDnsHostnames"
        ),
        derive=_vpc_outputs,
    ),
    "aws:ec2/subnet:Subnet": TypeSpec(
        service="ec2",
        operation="CreateSubnet",
        id="Subnet.SubnetId",
        tag_as="subnet",
        state="Subnet",
        follow=_attribute("ModifySubnetAttribute", "SubnetId", mapPublicIpOnLaunch="MapPublicIpOnLaunch"),
        outputs={"arn": "SubnetArn"},
    ),
    "aws:ec2/routeTable:RouteTable": TypeSpec(
        service="ec2",
        operation="CreateRouteTable",
        id="RouteTable.RouteTableId",
        tag_as="route-table",
        state="RouteTable",
        follow=(Follow(("routes",), add_routes),),
        derive=_arn("route-table"),
    ),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": TypeSpec(
        service="ec2", operation="AssociateRouteTable", id="AssociationId"
    ),
    "aws:ec2/securityGroup:SecurityGroup": TypeSpec(
        service="ec2",
        operation="CreateSecurityGroup",
        id="GroupId",
        rename={"name": "GroupName"},
        tag_as="security-group",
        autoname=Autoname("name"),
        steering=frozenset({"revokeRulesOnDelete"}),
        follow=(
            Follow((), _revoke_default_egress),
            Follow(("ingress",), group_rules("ingress")),
            Follow(("egress",), group_rules("egress")),
        ),
        read=("DescribeSecurityGroups", {"GroupIds": ["{id}"]}, "SecurityGroups[0]"),
        derive=_arn("security-group"),
    ),
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": TypeSpec(
        service="ec2",
        operation="DescribeSecurityGroups",
        id="SecurityGroups[0].GroupId",
        reshape=lambda inputs: _find_default(inputs, more=(("group-name", "default"),)),
        steering=frozenset({"revokeRulesOnDelete"}),
        follow=(
            Follow((), _revoke_all),
            Follow(("ingress",), group_rules("ingress")),
            Follow(("egress",), group_rules("egress")),
            Follow(("tags",), _tag),
        ),
        state="SecurityGroups[0]",
        outputs={"name": "GroupName"},
        derive=_arn("security-group"),
    ),
    "aws:ec2/networkAcl:NetworkAcl": TypeSpec(
        service="ec2",
        operation="CreateNetworkAcl",
        id="NetworkAcl.NetworkAclId",
        tag_as="network-acl",
        state="NetworkAcl",
        follow=(Follow(("ingress", "egress"), entries), Follow(("subnetIds",), associate)),
        derive=_arn("network-acl"),
    ),
    "aws:ec2/defaultNetworkAcl:DefaultNetworkAcl": TypeSpec(
        service="ec2",
        operation="DescribeNetworkAcls",
        id="NetworkAcls[0].NetworkAclId",
        reshape=lambda inputs: {"networkAclIds": [inputs["defaultNetworkAclId"]]},
        follow=(
            Follow((), clear_entries),
            Follow(("ingress", "egress"), entries),
            Follow(("tags",), _tag),
        ),
        state="NetworkAcls[0]",
        derive=_arn("network-acl"),
    ),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _rule_spec("Ingress"),
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": _rule_spec("Egress"),
    "aws:ec2/vpcEndpoint:VpcEndpoint": TypeSpec(
        service="ec2",
        operation="CreateVpcEndpoint",
        id="VpcEndpoint.VpcEndpointId",
        rename={"policy": "PolicyDocument"},
        convert={"policy": document},
        tag_as="vpc-endpoint",
        steering=frozenset({"autoAccept"}),
        state="VpcEndpoint",
        derive=_arn("vpc-endpoint"),
    ),
    "aws:ec2/flowLog:FlowLog": TypeSpec(
        service="ec2",
        operation="CreateFlowLogs",
        id="FlowLogIds[0]",
        rename={"iamRoleArn": "DeliverLogsPermissionArn"},
        reshape=_flow_log,
        tag_as="vpc-flow-log",
        derive=_arn("vpc-flow-log"),
    ),
    "aws:ec2/launchTemplate:LaunchTemplate": TypeSpec(
        service="ec2",
        operation="CreateLaunchTemplate",
        id="LaunchTemplate.LaunchTemplateId",
        rename={
            "name": "LaunchTemplateName",
            "description": "VersionDescription",
            "launchTemplateData.vpcSecurityGroupIds": "SecurityGroupIds",
        },
        reshape=_template,
        tag_as="launch-template",
        autoname=Autoname("name", limit=125),
        steering=frozenset({"updateDefaultVersion"}),
        state="LaunchTemplate",
        outputs={"latestVersion": "LatestVersionNumber", "defaultVersion": "DefaultVersionNumber"},
        derive=_arn("launch-template"),
    ),
}
