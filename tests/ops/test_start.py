"""What the command loads before it knows what is asked of it."""

import subprocess
import sys

HEAVY = ("moto", "ministack", "torch", "transformers", "pyarrow", "pulumi_aws.wafv2", "matplotlib")


def test_the_command_starts_without_emulators_and_models() -> None:
    code = f"import sys, ops.cli; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
