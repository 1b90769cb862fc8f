"""`pulumi preview --policy-pack infra/policies`: the rules as a policy pack, which the CLI runs by this file."""

import sys
from pathlib import Path

from pulumi_policy import PolicyPack  # type: ignore[import-not-found]  # (lives in the pack's own environment)

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from infra.policies.pack import policies

PolicyPack("modelkeep", policies())
