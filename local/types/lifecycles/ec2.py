"""VPC, security groups, endpoints, flow logs, launch templates."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from local.types import ec2 as rows
from local.types.lifecycles.vocabulary import Change, Changed, Lifecycle, nothing
from local.types.spec import Made, drop_empty


def _attribute(operation: str, id_name: str, name: str) -> Change:
    """An attribute that EC2 takes as `{"Value": …}`."""

    def send(changed: Changed) -> None:
        value = {"Value": changed.inputs[name]}
        changed.call("ec2", operation, **{id_name: changed.id, f"{name[0].upper()}{name[1:]}": value})

    return Change((name,), send)


def _routes(changed: Changed) -> None:
    """The declared routes and no others; the VPC's own and those of gateway endpoints are nobody's to declare."""
    (table,) = changed.call("ec2", "DescribeRouteTables", RouteTableIds=[changed.id])["RouteTables"]
    kinds = ("DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId")
    for route in table["Routes"]:
        gateway = route.get("GatewayId", "")
        if gateway == "local" or gateway.startswith("vpce-"):
            continue
        destination = next({kind: route[kind]} for kind in kinds if kind in route)
        changed.call("ec2", "DeleteRoute", RouteTableId=changed.id, **destination)
    if changed.inputs.get("routes"):
        rows.add_routes(changed)


def _group_rules(direction: str, changed: Changed) -> None:
    """The declared rules of one direction and no others."""
    member = "IpPermissions" if direction == "ingress" else "IpPermissionsEgress"
    (found,) = changed.call("ec2", "DescribeSecurityGroups", GroupIds=[changed.id])["SecurityGroups"]
    if found[member]:
        operation = f"RevokeSecurityGroup{direction.capitalize()}"
        changed.call("ec2", operation, GroupId=changed.id, IpPermissions=found[member])
    if changed.inputs.get(direction):
        rows.group_rules(direction)(changed)


def _own_rules() -> tuple[Change, ...]:
    return tuple(
        Change((direction,), functools.partial(_group_rules, direction), whole=True)
        for direction in ("ingress", "egress")
    )


def _rule(changed: Changed) -> None:
    """The whole rule anew: EC2 takes no part of one."""
    names = (
        "ipProtocol",
        "fromPort",
        "toPort",
        "cidrIpv4",
        "cidrIpv6",
        "prefixListId",
        "referencedSecurityGroupId",
        "description",
    )
    renamed = {"referencedSecurityGroupId": "ReferencedGroupId"}
    rule = {
        renamed.get(name, name[0].upper() + name[1:]): changed.inputs[name] for name in names if name in changed.inputs
    }
    changed.call(
        "ec2",
        "ModifySecurityGroupRules",
        GroupId=changed.inputs["securityGroupId"],
        SecurityGroupRules=[{"SecurityGroupRuleId": changed.id, "SecurityGroupRule": rule}],
    )


def _rule_life(direction: str) -> Lifecycle:
    return Lifecycle(
        delete=(
            f"RevokeSecurityGroup{direction}",
            {"GroupId": "{securityGroupId}", "SecurityGroupRuleIds": ["{id}"]},
        ),
        changes=(
            # What a rule allows whom cannot change its kind: an address range becomes no security group.
            Change(("ipProtocol", "fromPort", "toPort", "description", "cidrIpv4", "cidrIpv6"), _rule),
        ),
    )


def _entries(changed: Changed) -> None:
    rows.clear_entries(changed)
    rows.entries(changed)


def _subnets_of_acl(changed: Changed) -> None:
    """Subnets that leave the ACL go back to the VPC's default one."""
    gone = set(changed.old.get("subnetIds") or []) - set(changed.inputs.get("subnetIds") or [])
    _back_to_default(changed, gone)
    if changed.inputs.get("subnetIds"):
        rows.associate(changed)


def _back_to_default(made: Made, subnet_ids: set[str]) -> None:
    (own,) = made.call("ec2", "DescribeNetworkAcls", NetworkAclIds=[made.id])["NetworkAcls"]
    leaving = [each for each in own["Associations"] if each["SubnetId"] in subnet_ids]
    if not leaving:
        return
    filters = [{"Name": "vpc-id", "Values": [own["VpcId"]]}, {"Name": "default", "Values": ["true"]}]
    (default,) = made.call("ec2", "DescribeNetworkAcls", Filters=filters)["NetworkAcls"]
    for each in leaving:
        made.call(
            "ec2",
            "ReplaceNetworkAclAssociation",
            AssociationId=each["NetworkAclAssociationId"],
            NetworkAclId=default["NetworkAclId"],
        )


def _delete_acl(made: Made) -> None:
    """AWS deletes no ACL that a subnet is associated with."""
    (own,) = made.call("ec2", "DescribeNetworkAcls", NetworkAclIds=[made.id])["NetworkAcls"]
    _back_to_default(made, {each["SubnetId"] for each in own["Associations"]})
    made.call("ec2", "DeleteNetworkAcl", NetworkAclId=made.id)


_ENDPOINT_LISTS = {"subnetIds": "SubnetIds", "routeTableIds": "RouteTableIds", "securityGroupIds": "SecurityGroupIds"}


def _endpoint(changed: Changed) -> None:
    """What was added to the lists and what was taken out of them, and the policy."""
    parameters: dict[str, Any] = {}
    for name, member in _ENDPOINT_LISTS.items():
        old, new = changed.old.get(name) or [], changed.inputs.get(name) or []
        for verb, values in (("Add", _without(new, old)), ("Remove", _without(old, new))):
            if values:
                parameters[f"{verb}{member}"] = values
    if "policy" in changed.names:
        parameters |= changed.mapped("ModifyVpcEndpoint", {"policy": changed.inputs["policy"]})
    changed.call("ec2", "ModifyVpcEndpoint", VpcEndpointId=changed.id, **parameters)


def _without(values: Sequence[str], others: Sequence[str]) -> list[str]:
    return [value for value in values if value not in others]


def _template(changed: Changed) -> Mapping[str, Any]:
    """Another version; the former ones stay for whoever uses them."""
    creation = changed.creation()
    about = {"VersionDescription": creation["VersionDescription"]} if "VersionDescription" in creation else {}
    data = drop_empty(creation["LaunchTemplateData"])
    answer = changed.call(
        "ec2", "CreateLaunchTemplateVersion", LaunchTemplateId=changed.id, LaunchTemplateData=data, **about
    )
    version = answer["LaunchTemplateVersion"]["VersionNumber"]
    if not changed.inputs.get("updateDefaultVersion"):
        return {"latestVersion": version}
    changed.call("ec2", "ModifyLaunchTemplate", LaunchTemplateId=changed.id, DefaultVersion=str(version))
    return {"latestVersion": version, "defaultVersion": version}


def _default_version(changed: Changed) -> Mapping[str, Any]:
    if "defaultVersion" not in changed.inputs:
        return {}
    version = int(changed.inputs["defaultVersion"])
    changed.call("ec2", "ModifyLaunchTemplate", LaunchTemplateId=changed.id, DefaultVersion=str(version))
    return {"defaultVersion": version}


def _gone(operation: str, member: str, *, many: bool = False) -> tuple[str, Mapping[str, Any]]:
    return operation, {member: ["{id}"] if many else "{id}"}


LIFECYCLES: dict[str, Lifecycle] = {
    "aws:ec2/vpc:Vpc": Lifecycle(
        delete=_gone("DeleteVpc", "VpcId"),
        changes=tuple(
            _attribute("ModifyVpcAttribute", "VpcId", name) for name in ("enableDnsSupport", "enableDnsHostnames")
        ),
    ),
    "aws:ec2/subnet:Subnet": Lifecycle(
        delete=_gone("DeleteSubnet", "SubnetId"),
        changes=(_attribute("ModifySubnetAttribute", "SubnetId", "mapPublicIpOnLaunch"),),
        delete_first=True,  # no two subnets of a VPC share addresses
    ),
    "aws:ec2/routeTable:RouteTable": Lifecycle(
        delete=_gone("DeleteRouteTable", "RouteTableId"), changes=(Change(("routes",), _routes, whole=True),)
    ),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": Lifecycle(
        delete=_gone("DisassociateRouteTable", "AssociationId"),
        delete_first=True,  # a subnet has one table
    ),
    "aws:ec2/securityGroup:SecurityGroup": Lifecycle(
        delete=_gone("DeleteSecurityGroup", "GroupId"), changes=_own_rules()
    ),
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": Lifecycle(
        delete=nothing,  # it ends with its VPC
        changes=_own_rules(),
    ),
    "aws:ec2/networkAcl:NetworkAcl": Lifecycle(
        delete=_delete_acl,
        changes=(
            Change(("ingress", "egress"), _entries, whole=True),
            Change(("subnetIds",), _subnets_of_acl, whole=True),
        ),
    ),
    "aws:ec2/defaultNetworkAcl:DefaultNetworkAcl": Lifecycle(
        delete=nothing,  # it ends with its VPC
        changes=(Change(("ingress", "egress"), _entries, whole=True),),
    ),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _rule_life("Ingress"),
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": _rule_life("Egress"),
    "aws:ec2/vpcEndpoint:VpcEndpoint": Lifecycle(
        delete=_gone("DeleteVpcEndpoints", "VpcEndpointIds", many=True),
        changes=(Change((*_ENDPOINT_LISTS, "policy"), _endpoint),),
    ),
    "aws:ec2/flowLog:FlowLog": Lifecycle(delete=_gone("DeleteFlowLogs", "FlowLogIds", many=True)),
    "aws:ec2/launchTemplate:LaunchTemplate": Lifecycle(
        delete=_gone("DeleteLaunchTemplate", "LaunchTemplateId"),
        changes=(Change(("defaultVersion",), _default_version), Change((), _template, whole=True)),
        replaces=frozenset({"name", "namePrefix"}),
        volatile=frozenset({"latestVersion", "defaultVersion"}),
    ),
}
