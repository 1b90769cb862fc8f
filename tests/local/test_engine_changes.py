"""What a second `up` does to what is there: nothing, an update, a replacement, a deletion; as the plan says."""

import json

from local.errors import LocalError
from local.state import load_state
from tests.local.changing_stack import ChangingStack


def group(days: int = 7, *, name: str = "logs", options: str = "", more: str = "") -> str:
    return f"""
aws.cloudwatch.LogGroup("{name}", retention_in_days={days}{more}, opts=pulumi.ResourceOptions({options}))
"""


def test_what_has_not_changed_is_left_alone(stack: ChangingStack) -> None:
    assert stack.up(group()) == {f"{stack.project_name}-dev": "create", "logs": "create"}
    assert stack.up(group()) == {}
    assert stack.operations == []


def test_a_setting_is_changed_in_place_and_taken_away_again(stack: ChangingStack) -> None:
    stack.up(group(7, more=", tags={'a': '1', 'b': '2'}"))
    before = stack.names()
    assert stack.up(group(14, more=", tags={'a': '3'}")) == {"logs": "update"}
    assert stack.operations == ["PutRetentionPolicy", "UntagResource", "TagResource"]
    assert stack.names() == before
    logs = stack.emulators.client("logs")
    (found,) = logs.describe_log_groups(logGroupNamePrefix=before["logs"])["logGroups"]
    assert found["retentionInDays"] == 14
    assert logs.list_tags_log_group(logGroupName=before["logs"])["tags"] == {"a": "3"}
    assert stack.up('aws.cloudwatch.LogGroup("logs", tags={"a": "3"})') == {"logs": "update"}
    assert stack.operations == ["DeleteRetentionPolicy"]


def test_what_is_no_longer_declared_is_deleted_after_what_depends_on_it(stack: ChangingStack) -> None:
    vpc = """
vpc = aws.ec2.Vpc("vpc", cidr_block="10.31.0.0/16")
subnet = aws.ec2.Subnet("subnet", vpc_id=vpc.id, cidr_block="10.31.1.0/24")
table = aws.ec2.RouteTable("table", vpc_id=vpc.id)
aws.ec2.RouteTableAssociation("association", subnet_id=subnet.id, route_table_id=table.id)
"""
    stack.up(vpc)
    gone = stack.names()["vpc"]
    operations = stack.up("")
    assert operations == dict.fromkeys(("vpc", "subnet", "table", "association"), "delete")
    assert stack.operations[0] == "DisassociateRouteTable"
    assert stack.operations[-1] == "DeleteVpc"
    assert [record.type for record in load_state(stack.state_file).resources] == ["pulumi:pulumi:Stack"]
    assert stack.emulators.client("ec2").describe_vpcs(Filters=[{"Name": "vpc-id", "Values": [gone]}])["Vpcs"] == []


ROLE_IN_PROFILE = """
role = aws.iam.Role("role", path="/{path}/", assume_role_policy={{"Version": "2012-10-17", "Statement": [
    {{"Effect": "Allow", "Principal": {{"Service": "ec2.amazonaws.com"}}, "Action": "sts:AssumeRole"}}]}})
aws.iam.InstanceProfile("profile", role=role.name)
"""


def test_a_replacement_is_made_first_then_what_depends_on_it_changes_then_the_old_one_goes(
    stack: ChangingStack,
) -> None:
    stack.up(ROLE_IN_PROFILE.format(path="a"))
    before = stack.names()
    assert stack.up(ROLE_IN_PROFILE.format(path="b")) == {"role": "replace", "profile": "update"}
    after = stack.names()
    assert stack.operations == ["CreateRole", "RemoveRoleFromInstanceProfile", "AddRoleToInstanceProfile", "DeleteRole"]
    assert after["profile"] == before["profile"]
    assert after["role"] != before["role"]  # an automatic name, so that both can be there
    iam = stack.emulators.client("iam")
    (role,) = iam.get_instance_profile(InstanceProfileName=after["profile"])["InstanceProfile"]["Roles"]
    assert role["RoleName"] == after["role"]
    assert before["role"] not in json.dumps(iam.list_roles()["Roles"], default=str)
    assert stack.up(ROLE_IN_PROFILE.format(path="b")) == {}


def test_two_of_one_name_cannot_be_so_the_old_one_goes_first_and_what_needs_it(stack: ChangingStack) -> None:
    fixed = """
role = aws.iam.Role("role", name="{name}-fixed", path="/{path}/", assume_role_policy={{"Version": "2012-10-17",
    "Statement": [{{"Effect": "Allow", "Principal": {{"Service": "ec2.amazonaws.com"}}, "Action": "sts:AssumeRole"}}]}})
aws.iam.RolePolicyAttachment("attached", role=role.name, policy_arn="arn:aws:iam::aws:policy/ReadOnlyAccess")
"""
    stack.up(fixed.format(name=stack.project_name, path="a"))
    assert stack.up(fixed.format(name=stack.project_name, path="b")) == {"role": "replace", "attached": "replace"}
    assert stack.operations == ["DetachRolePolicy", "DeleteRole", "CreateRole", "AttachRolePolicy"]


def test_protected_resources_are_neither_deleted_nor_replaced(stack: ChangingStack) -> None:
    role = ROLE_IN_PROFILE.replace("]}})", "]}}, opts=pulumi.ResourceOptions(protect=True))")
    stack.up(role.format(path="a"))
    before = stack.names()
    stack.fails(role.format(path="b"), "Role role: would be replaced and is protected; take protect away first")
    stack.fails("", "Role role is no longer declared and is protected: nothing was deleted")
    assert stack.names() == before
    assert not any(operation.startswith(("Delete", "Create")) for operation in stack.operations)


def test_options_steer_a_change_as_pulumis_do(stack: ChangingStack) -> None:
    stack.up(group(7) + group(7, name="kept", options="retain_on_delete=True") + group(7, name="old"))
    before = stack.names()
    changed = group(30, options='ignore_changes=["retentionInDays"]') + group(
        7, name="new", options='aliases=[pulumi.Alias(name="old")]'
    )
    assert stack.up(changed) == {"kept": "delete"}
    assert stack.operations == []
    assert stack.names() == {"logs": before["logs"], "new": before["old"]}
    assert stack.up(group(14, options='replace_on_changes=["retentionInDays"]')) == {"logs": "replace", "new": "delete"}
    assert stack.operations[0] == "CreateLogGroup"
    first = 'replace_on_changes=["*"], delete_before_replace=True'
    assert stack.up(group(30, options=first)) == {"logs": "replace"}
    assert stack.operations[:2] == ["DeleteLogGroup", "CreateLogGroup"]


def test_a_child_of_a_renamed_component_stays_what_it_is(stack: ChangingStack) -> None:
    program = """
class Pair(pulumi.ComponentResource):
    def __init__(self, name, opts=None):
        super().__init__("test:index:Pair", name, None, opts)
        aws.cloudwatch.LogGroup(f"{{name}}-logs", opts=pulumi.ResourceOptions(parent=self))
        self.register_outputs({{}})
Pair("{name}", pulumi.ResourceOptions({options}))
"""
    stack.up(program.format(name="one", options=""))
    before = stack.names()["one-logs"]
    assert stack.up(program.format(name="two", options='aliases=[pulumi.Alias(name="one")]')) == {}
    assert stack.names()["two-logs"] == before


def test_what_ends_with_another_resource_is_not_deleted_by_itself(stack: ChangingStack) -> None:
    program = """
topic = aws.sns.Topic("topic")
aws.sns.TopicPolicy("policy", arn=topic.arn, policy={"Version": "2012-10-17", "Statement": []},
                    opts=pulumi.ResourceOptions(deleted_with=topic))
"""
    stack.up(program)
    assert stack.up("") == {"topic": "delete", "policy": "delete"}
    assert "DeleteTopic" in stack.operations


CHAIN = """
before = None
for name, days in {groups}:
    before = aws.cloudwatch.LogGroup(name, retention_in_days=days, opts=pulumi.ResourceOptions(
        depends_on=[before] if before else []))
"""


def test_a_failure_half_way_is_gone_on_from_and_nothing_is_made_twice(stack: ChangingStack) -> None:
    stack.up(CHAIN.format(groups=[("a", 7), ("b", 7), ("old", 7)]))
    wanted = CHAIN.format(groups=[("a", 14), ("b", 7), ("c", 7)]) + 'aws.sns.Topic("topic")'
    broken = wanted.replace('("topic")', '("topic", opts=pulumi.ResourceOptions(depends_on=[before]))')
    refusal = LocalError("sns:CreateTopic: Broken: no")
    stack.fails(broken, "Topic topic: sns:CreateTopic: Broken: no", CreateTopic=refusal)
    assert stack.operations == ["PutRetentionPolicy", "CreateLogGroup", "PutRetentionPolicy"]
    kept = stack.names()
    assert {"a", "b", "c", "old"} <= set(kept)

    assert stack.up(broken) == {"topic": "create", "old": "delete"}
    assert stack.operations == ["CreateTopic", "DeleteLogGroup"]
    after = stack.names()
    assert {name: after[name] for name in "abc"} == {name: kept[name] for name in "abc"}


def test_a_deletion_that_fails_is_tried_again(stack: ChangingStack) -> None:
    stack.up(ROLE_IN_PROFILE.format(path="a"))
    broken = LocalError("iam:DeleteRole: Broken: no")
    stack.fails(ROLE_IN_PROFILE.format(path="b"), "Role role: iam:DeleteRole: Broken", DeleteRole=broken)
    assert stack.up(ROLE_IN_PROFILE.format(path="b")) == {}
    assert stack.operations == ["DeleteRole"]
    assert len([one for one in load_state(stack.state_file).resources if one.name == "role"]) == 1
