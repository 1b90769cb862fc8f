"""What the rules against secrets say never holds the secret."""

from __future__ import annotations

import pytest

from infra.policies.evaluate import findings
from infra.policies.graph import Graph
from infra.policies.plain_secrets import RULES as SECRET_RULES
from infra.policies.plain_secrets import decoded
from infra.policies.rule import Rule
from infra.user_data import Boot, encode, render
from tests.infra import test_foreign_server, test_user_data
from tests.infra.policies import pairs_identity
from tests.infra.policies.pair import resource
from tests.infra.policies.pairs_identity import ACCESS_KEY, PRIVATE_KEY, user_data

SECRETS = (ACCESS_KEY, PRIVATE_KEY, "hunter2", "correct-horse", "me:pw@", "a" * 34)


@pytest.mark.parametrize("rule", SECRET_RULES, ids=[each.id for each in SECRET_RULES])
def test_a_finding_names_the_place_and_not_the_secret(rule: Rule) -> None:
    for graph in pairs_identity.PAIRS[rule.id].wrong:
        told = " ".join(detail for finding in findings(graph, [rule]) for detail in finding.details)
        assert told
        assert not [secret for secret in SECRETS if secret in told]


@pytest.mark.parametrize("boot", [test_user_data.boot(), test_foreign_server.boot()])
def test_what_an_instance_of_ours_boots_holds_no_secret(boot: Boot) -> None:
    template = resource("aws:ec2/launchTemplate:LaunchTemplate", {"userData": encode(render(boot))})
    assert findings(Graph((template,)), SECRET_RULES) == []


@pytest.mark.parametrize("packed", [True, False])
def test_user_data_is_read_as_the_instance_reads_it(packed: bool) -> None:
    assert decoded(user_data("#!/bin/sh\necho hello\n", packed=packed)["userData"]) == "#!/bin/sh\necho hello\n"
    assert decoded("#!/bin/sh\necho plain\n") == "#!/bin/sh\necho plain\n"
