"""`modelkeep audit` from its settings to its exit: a deployment and a prowler that are a few lines each."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from local.layout import PROJECT_ROOT, Layout
from local.records import Deployment, ResourceRecord
from ops import audit_command
from ops.audit.mutes import Mutes, Unjudged
from ops.audit.prowler import Prowler
from ops.audit.verdict import Audit
from ops.console import Reporter
from ops.place import Place

BUCKET = ResourceRecord(
    urn="urn:pulumi:local::modelkeep::aws:s3/bucket:Bucket::storage-models", type="aws:s3/bucket:Bucket",
    name="storage-models", parent="", custom=True, provider="", id="models-1", inputs={},
    outputs={"arn": "arn:aws:s3:::models-1"}, secret_inputs=frozenset(), secret_outputs=frozenset(), dependencies=(),
    property_dependencies={},
)  # fmt: skip

# Writes one finding on the bucket, and where its calls would have gone.
PROWLER = """
import json, os, pathlib, sys
given = sys.argv[1:]
out = pathlib.Path(given[given.index("--output-directory") + 1])
(out / "environment.json").write_text(json.dumps(dict(os.environ)))
(out / "arguments.json").write_text(json.dumps(given))
pathlib.Path(given[given.index("--log-file") + 1]).write_text(
    '{"timestamp": "now", "filename": "check.py:1", "level": "ERROR", "module": "check", "message": "s3_b -- E: no"}')
(out / "findings.ocsf.json").write_text(json.dumps([{
    "metadata": {"event_code": "s3_a"}, "severity": "High", "status_code": "STATUS", "status_detail": "says",
    "resources": [{"uid": "arn:aws:s3:::models-1", "type": "AwsS3Bucket", "labels": []}],
    "remediation": {"desc": "mend it"}}]))
print("Executing 7 checks, please wait...")
sys.exit(3)
"""


class NoEmulators:
    """Answers nothing; says where it would."""

    def __init__(self, *, region: str, log_dir: Path) -> None:
        self.region = region
        self.endpoints: Mapping[str, str] = {"ec2": "http://127.0.0.1:1"}
        log_dir.mkdir(exist_ok=True)
        (log_dir.parent / "emulators-x").mkdir()

    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:2", "AWS_REGION": self.region}

    def __enter__(self) -> "NoEmulators":
        return self

    def __exit__(self, *_: object) -> None:
        self.endpoints = {}


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    def deployed(*, state_file: Path, stack: str, **_: Any) -> Deployment:
        assert not state_file.exists()
        state_file.touch()
        return Deployment(stack=stack, resources=[BUCKET], outputs={}, not_emulated=[])

    monkeypatch.setattr(audit_command, "Emulators", NoEmulators)
    monkeypatch.setattr(audit_command.engine, "up", deployed)
    with contextlib.chdir(tmp_path):
        yield tmp_path


def run(home: Path, *, status: str, mutes: Mutes) -> Audit:
    command = home / "prowler" / "bin" / "prowler"
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_text(f"#!{sys.executable}\n{PROWLER.replace('STATUS', status)}", encoding="utf-8")
    command.chmod(0o700)
    layout = Layout(root=PROJECT_ROOT, home=home / "home")
    here = Place(layout=layout, stack="local", port=0, config_file=None, recipes=layout.recipes)
    return audit_command.run_audit(here, Prowler(home=home / "prowler"), mutes=mutes, speak=Reporter())


REASON = Unjudged(at="s3_b", reason="a reason that is long enough to be one")


def test_a_failure_on_what_was_deployed_remains_and_an_error_needs_its_reason(home: Path) -> None:
    audit = run(home, status="FAIL", mutes=Mutes(muted=(), not_judged=()))
    assert [(each.finding.check, each.owned.name) for each in audit.remaining] == [("s3_a", "storage-models")]
    assert [each.at for each in audit.unexplained] == ["s3_b"]
    assert (audit.checks, audit.services, audit.passed) == (7, ("s3",), False)


def test_a_second_audit_starts_from_nothing(home: Path) -> None:
    mutes = Mutes(muted=(), not_judged=(REASON,))
    assert not run(home, status="FAIL", mutes=mutes).passed
    assert run(home, status="PASS", mutes=mutes).passed


def test_prowler_is_asked_of_what_is_deployed_and_reaches_emulators_alone(home: Path) -> None:
    run(home, status="PASS", mutes=Mutes(muted=(), not_judged=(REASON,)))
    out = home / "home" / "stacks" / "audit-local" / "prowler"
    given = json.loads((out / "arguments.json").read_text())
    assert given[given.index("--services") + 1 : given.index("--excluded-checks")] == ["s3"]
    assert given[given.index("--region") + 1] == "eu-west-1"
    variables = json.loads((out / "environment.json").read_text())
    assert variables["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:2"
    assert variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert variables["HOME"] == str(out)
