"""The preview that a review compares: references for what only AWS gives, aliases, and what happens without them."""

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from local.errors import LocalError
from ops.review_preview import preview

HEAD = """
    import pulumi, pulumi_aws as aws
    provider = aws.Provider("aws", region="eu-west-1")
    opts = pulumi.ResourceOptions(provider=provider)
    who = aws.get_caller_identity_output(opts=pulumi.InvokeOptions(provider=provider))
"""


@pytest.fixture
def previewed(tmp_path: Path) -> Any:
    """Previews a small program."""

    def run(program: str) -> dict[str, Any]:
        (tmp_path / "program").mkdir()
        (tmp_path / "Pulumi.yaml").write_text("name: small\nruntime: python\nmain: program\n")
        (tmp_path / "Pulumi.dev.yaml").write_text("config:\n  aws:region: eu-west-1\n")
        (tmp_path / "program" / "__main__.py").write_text(dedent(HEAD) + dedent(program))
        return preview(root=tmp_path, stack="dev")

    return run


def inputs_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each["inputs"] for each in document["resources"] if each["name"] == name)  # type: ignore[no-any-return]


def test_what_only_aws_gives_is_a_reference_to_its_source(previewed: Any) -> None:
    document = previewed(
        """
        vpc = aws.ec2.Vpc("net", cidr_block="10.0.0.0/16", opts=opts)
        aws.ec2.Subnet("inner", vpc_id=vpc.id, cidr_block="10.0.1.0/24", opts=opts)
        aws.kms.Key("place", description=pulumi.Output.concat(vpc.arn, "/x of ", who.account_id), opts=opts)
        aws.ssm.Parameter("hidden", type="SecureString", value=pulumi.Output.secret("hunter2"), opts=opts)
        """
    )
    assert (document["kind"], document["notes"]) == ("references", [])
    assert inputs_of(document, "inner")["vpcId"] == "<net.id>"
    assert inputs_of(document, "place")["description"] == "<net.arn>/x of <account>"
    assert inputs_of(document, "hidden")["value"] == "<secret>"
    assert "hunter2" not in str(document)


def test_aliases_are_the_resources_own_and_those_of_its_parents(previewed: Any) -> None:
    document = previewed(
        """
        class Part(pulumi.ComponentResource):
            def __init__(self, name, opts=None):
                super().__init__("small:index:Part", name, None, opts)
                inner = pulumi.ResourceOptions(parent=self, provider=provider)
                aws.s3.Bucket(f"{name}-data", opts=inner)
                aws.s3.Bucket("logs", opts=pulumi.ResourceOptions.merge(inner, pulumi.ResourceOptions(
                    aliases=[pulumi.Alias(name="old-logs"), pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)])))

        Part("new", pulumi.ResourceOptions(aliases=[pulumi.Alias(name="old")], providers=[provider]))
        """
    )
    aliases = {each["name"]: set(each["aliases"]) for each in document["resources"]}
    place = "urn:pulumi:dev::small::"
    assert aliases["new"] == {f"{place}small:index:Part::old"}
    assert f"{place}small:index:Part$aws:s3/bucket:Bucket::old-data" in aliases["new-data"]
    assert {f"{place}small:index:Part$aws:s3/bucket:Bucket::old-logs", f"{place}aws:s3/bucket:Bucket::logs"} <= aliases[
        "logs"
    ]


def test_a_program_that_computes_with_such_values_is_previewed_with_unknowns_and_that_is_said(previewed: Any) -> None:
    document = previewed(
        """
        vpc = aws.ec2.Vpc("net", cidr_block="10.0.0.0/16", opts=opts)
        aws.kms.Key("sum", description=vpc.owner_id.apply(lambda text: str(int(text) + 1)), opts=opts)
        """
    )
    assert document["kind"] == "unknowns"
    assert inputs_of(document, "sum")["description"] == "<unknown>"
    (note,) = document["notes"]
    assert "values that AWS gives are unknown" in note
    assert "int()" in note


def test_a_program_that_fails_anyway_is_not_previewed(previewed: Any) -> None:
    with pytest.raises(LocalError, match="broken"):
        previewed("raise ValueError('broken')")
