"""Previews of small programs: no emulator, no credentials; unknowns and secrets stay what they are."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.engine import Deployment, preview, to_json
from local.errors import LocalError
from local.wire import UNKNOWN

Project = Callable[..., Path]

VPC = "aws:ec2/vpc:Vpc"
SUBNET = "aws:ec2/subnet:Subnet"

NETWORK = """
    import pulumi, pulumi_aws as aws
    tags = {"team": "a", "stack": pulumi.get_stack()}
    provider = aws.Provider("main", region="eu-west-1", default_tags={"tags": tags})

    class Network(pulumi.ComponentResource):
        def __init__(self, name, opts=None):
            super().__init__("small:index:Network", name, None, opts)
            inner = pulumi.ResourceOptions(parent=self)
            self.vpc = aws.ec2.Vpc(f"{name}-vpc", cidr_block="10.0.0.0/16", tags={"team": "b"}, opts=inner)
            subnet = aws.ec2.Subnet(f"{name}-subnet", vpc_id=self.vpc.id, cidr_block="10.0.1.0/24",
                                    opts=pulumi.ResourceOptions(parent=self, protect=True))
            self.register_outputs({"vpc_id": self.vpc.id})

    network = Network("net", pulumi.ResourceOptions(providers=[provider]))
    who = aws.get_caller_identity_output(opts=pulumi.InvokeOptions(provider=provider))
    secret = aws.ssm.Parameter("secret", type="SecureString", value=pulumi.Output.secret("hunter2"))
    aws.ssm.Parameter("plain", type="String", value=pulumi.Output.concat("x", who.account_id))
    aws.ec2.Vpc("mixed", cidr_block="10.9.0.0/16", tags={"a": pulumi.Output.secret("hunter3"), "b": who.account_id})
    pulumi.export("vpc", network.vpc.id)
    pulumi.export("cidr", network.vpc.cidr_block)
    pulumi.export("secret", secret.value)
    pulumi.export("nested", {"list": [secret.value, "open"]})
"""


@pytest.fixture
def network(project: Project) -> Deployment:
    return preview(root=project(NETWORK), stack="dev")


def shown(deployment: Deployment, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in to_json(deployment)["resources"] if entry["name"] == name)
    return found


def test_parents_types_and_dependencies_are_recorded(network: Deployment) -> None:
    subnet, vpc = network.resource(SUBNET, "net-subnet"), network.resource(VPC, "net-vpc")
    assert vpc.urn == "urn:pulumi:dev::small::small:index:Network$aws:ec2/vpc:Vpc::net-vpc"
    assert subnet.parent == network.resource("small:index:Network", "net").urn
    assert subnet.dependencies == (vpc.urn,)
    assert subnet.property_dependencies == {"vpcId": (vpc.urn,)}
    assert (subnet.protect, vpc.protect) == (True, False)


def test_what_only_creation_tells_is_unknown_and_the_rest_is_known(network: Deployment) -> None:
    assert network.resource(SUBNET, "net-subnet").inputs["vpcId"] is UNKNOWN
    assert network.resource("aws:ssm/parameter:Parameter", "plain").inputs["value"] is UNKNOWN
    assert network.outputs["vpc"] is UNKNOWN
    assert network.outputs["cidr"] == "10.0.0.0/16"


def test_default_tags_of_the_provider_stand_under_a_resources_own(network: Deployment) -> None:
    assert network.resource(VPC, "net-vpc").inputs["tags"] == {"team": "b", "stack": "dev"}
    assert network.resource(SUBNET, "net-subnet").inputs["tags"] == {"team": "a", "stack": "dev"}
    assert "tags" not in network.resource("aws:ssm/parameter:Parameter", "plain").inputs


def test_json_marks_secrets_and_unknowns_and_holds_neither(network: Deployment) -> None:
    assert shown(network, "secret")["inputs"]["value"] == "<secret>"
    assert shown(network, "secret")["secret_inputs"] == ["value"]
    assert shown(network, "mixed")["inputs"]["tags"] == {"a": "<secret>", "b": "<unknown>"}
    assert shown(network, "mixed")["secret_inputs"] == ["tags.a"]
    assert shown(network, "net-subnet")["inputs"]["vpcId"] == "<unknown>"
    assert to_json(network)["outputs"] == {
        "cidr": "10.0.0.0/16",
        "nested": {"list": ["<secret>", "open"]},
        "secret": "<secret>",
        "vpc": "<unknown>",
    }
    text = json.dumps(to_json(network)) + repr(network)
    assert "hunter" not in text


def test_two_previews_are_equal(project: Project, network: Deployment) -> None:
    again = preview(root=project(NETWORK, name="small2").parent / "small", stack="dev")
    assert json.dumps(to_json(again)) == json.dumps(to_json(network))


def test_automatic_names_end_in_seven_digits_and_keep_to_the_limit(project: Project) -> None:
    program = "import pulumi_aws as aws\naws.lb.TargetGroup('{}', port=1, protocol='HTTP', vpc_id='vpc-1')\n"
    found = preview(root=project(program.format("t" * 24)), stack="dev").resource(
        "aws:lb/targetGroup:TargetGroup", "t" * 24
    )
    assert found.inputs["name"][:25] == "t" * 24 + "-"
    assert len(found.inputs["name"]) == 32
    with pytest.raises(LocalError, match=r"is 33 characters long and 32 are allowed; shorten the resource's name"):
        preview(root=project(program.format("t" * 25), name="long"), stack="dev")


def test_a_hundred_resources_preview_in_under_five_seconds(project: Project) -> None:
    program = """
        import pulumi_aws as aws
        vpc = aws.ec2.Vpc("vpc", cidr_block="10.0.0.0/16")
        for n in range(99):
            aws.ec2.Subnet(f"s{n}", vpc_id=vpc.id, cidr_block=f"10.0.{n}.0/24", tags={"n": str(n)})
    """
    root = project(program)
    started = time.process_time()  # processor time: other work on the machine is no fault of the engine
    deployment = preview(root=root, stack="dev")
    assert len(deployment.resources) == 101
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            "aws.ec2.Vpc('v', cidr_block='10.0.0.0/16', ipv6_ipam_pool_id='p', ipv4_netmask_length=3, "
            "enable_network_address_usage_metrics=True)",
            r"aws:ec2/vpc:Vpc v: enableNetworkAddressUsageMetrics meets no parameter of CreateVpcRequest",
        ),
        (
            "aws.lb.LoadBalancer('b', load_balancer_type='spaceship', subnets=[])",
            r"aws:lb/loadBalancer:LoadBalancer b: loadBalancerType must be one of application, network, gateway",
        ),
        (
            "aws.autoscaling.Group('g', min_size=0, max_size=1, warm_pool={'pool_state': 'Stopped'})",
            r"aws:autoscaling/group:Group g: warmPool meets no parameter",
        ),
        (
            "aws.athena.Workgroup('w')",
            r"aws:athena/workgroup:Workgroup w: the local engine does not know this type; add it to local/types",
        ),
        (
            "aws.ec2.Vpc('v', cidr_block='10.0.0.0/16'); aws.ec2.Vpc('v', cidr_block='10.1.0.0/16')",
            r"aws:ec2/vpc:Vpc v: is declared twice under this name",
        ),
        ("raise RuntimeError('two\\nlines')", r"failed: RuntimeError: two lines \(program/__main__\.py:2\)"),
        ("import pulumi; pulumi.Config().require('x')", r"failed: ConfigMissingError: .*small:x"),
    ],
)
def test_what_cannot_work_is_one_line_with_its_name(project: Project, program: str, message: str) -> None:
    with pytest.raises(LocalError, match=message) as caught:
        preview(root=project(f"import pulumi_aws as aws\n{program}\n"), stack="dev")
    assert "\n" not in str(caught.value)


def test_an_unknown_stack_names_those_there_are(project: Project) -> None:
    with pytest.raises(LocalError, match=r"stack nope is not known: Pulumi\.nope\.yaml does not exist; .* are: dev"):
        preview(root=project("pass"), stack="nope")


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        ("config: [1]", r"Pulumi\.dev\.yaml: config must be a mapping"),
        ("config:\n  small:token:\n    secure: v1:abc", r"Pulumi\.dev\.yaml: small:token is an encrypted value"),
        ("config: {", r"Pulumi\.dev\.yaml line \d+ is not valid YAML"),
        ("config: {}", r"aws:region is not set"),
    ],
)
def test_a_bad_stack_file_is_one_line(project: Project, stack: str, message: str) -> None:
    root = project("import pulumi_aws as aws\naws.s3.Bucket('b')\n", stack=stack)
    with pytest.raises(LocalError, match=message) as caught:
        preview(root=root, stack="dev")
    assert "\n" not in str(caught.value)


def test_configuration_arrives_as_the_cli_hands_it_over(project: Project) -> None:
    program = """
        import pulumi
        c = pulumi.Config()
        plain = [c.require_int("n"), c.require_bool("b"), c.require("s"), c.require("bare")]
        pulumi.export("all", [c.require_object("o"), *plain])
        pulumi.export("names", [pulumi.get_project(), pulumi.get_stack()])
    """
    stack = "config: {'small:o': {a: [1, x]}, 'small:n': 5, 'small:b': true, 'small:s': '007', bare: y}"
    outputs = preview(root=project(program, stack=stack), stack="dev").outputs
    assert outputs == {"all": [{"a": [1, "x"]}, 5, True, "007", "y"], "names": ["small", "dev"]}


def test_a_run_leaves_nothing_behind_and_another_checkout_has_its_own_modules(project: Project) -> None:
    here, path = Path.cwd(), list(sys.path)
    program = "import pulumi\nfrom program.part import VALUE\npulumi.export('v', VALUE)\nopen('part.py').close()\n"
    roots = [project(program, name=f"p{n}", files={"part.py": f"VALUE = {n}\n"}) for n in (1, 2)]
    assert [preview(root=root, stack="dev").outputs["v"] for root in [*roots, roots[0]]] == [1, 2, 1]
    assert (Path.cwd(), sys.path) == (here, path)


def test_the_programs_own_errors_pass_as_they_are(project: Project) -> None:
    root = project(
        "from program.bad import check\ncheck()\n",
        files={"bad.py": "class Bad(ValueError): pass\ndef check(): raise Bad('key x: say y')\n"},
    )
    with pytest.raises(ValueError, match=r"^key x: say y$"):
        preview(root=root, stack="dev")


def test_no_credentials_are_looked_for(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    program = """
        import pulumi, pulumi_aws as aws
        pulumi.export("z", aws.get_availability_zones_output(state="available").names)
    """
    assert preview(root=project(program), stack="dev").outputs["z"] is UNKNOWN


def test_what_the_program_warns_of_is_logged(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    preview(root=project("import pulumi\npulumi.log.warn('take care')\npulumi.log.info('chatter')\n"), stack="dev")
    assert [record.getMessage() for record in caplog.records] == ["take care"]
