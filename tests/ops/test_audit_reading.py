"""What prowler writes and what mutes say, read: samples written for these tests, in prowler's own shapes."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from ops.audit.findings import LoggedError, read_errors, read_findings
from ops.audit.mutes import MUTES, read_mutes
from ops.audit.prowler import FINDINGS, LOG, Prowler, closed_port, ensure, environment, run
from ops.audit.report import plain
from ops.errors import OpsError


def entry(check: str, uid: str, *, status: str = "FAIL", severity: str = "Medium", **resource: Any) -> dict[str, Any]:
    """A finding as prowler writes it, without what the audit does not read."""
    return {
        "metadata": {"event_code": check, "version": "1.5.0"},
        "severity": severity,
        "status_code": status,
        "status_detail": f"{uid} fails {check}.",
        "resources": [{"uid": uid, "type": "AwsS3Bucket", "labels": [], **resource}],
        "remediation": {"desc": "Enable **MFA Delete** on `versioned` buckets.\n\n*If needed*, do it."},
    }


def test_a_finding_is_read() -> None:
    text = json.dumps([entry("s3_bucket_no_mfa_delete", "arn:aws:s3:::models", labels=["stack:dev", "project:m"])])
    (finding,) = read_findings(text)
    assert (finding.check, finding.service, finding.status) == ("s3_bucket_no_mfa_delete", "s3", "FAIL")
    assert (finding.severity, finding.uid) == ("medium", "arn:aws:s3:::models")
    assert finding.tags == {"stack:dev", "project:m"}
    assert plain(finding.remedy) == "Enable MFA Delete on versioned buckets. If needed, do it."


def test_what_was_found_of_a_wildcard_stays_in_a_remedy() -> None:
    assert plain("Avoid `*` principals and `s3:*` alone") == "Avoid * principals and s3:* alone"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[{}]", "null", json.dumps([{**entry("a_b", "arn:x"), "resources": []}])],
    ids=["empty", "cut", "bare", "null", "no-resource"],
)
def test_another_shape_is_an_error_not_an_empty_list(text: str) -> None:
    with pytest.raises(OpsError, match="not OCSF as expected"):
        read_findings(text)


def test_an_unknown_severity_is_an_error() -> None:
    with pytest.raises(OpsError, match="rates s3_x 'fatal'"):
        read_findings(json.dumps([entry("s3_x", "arn:aws:s3:::a", severity="Fatal")]))


def line(file: str, level: str, message: str) -> str:
    module = file.partition(".")[0]
    return (
        f'{{"timestamp": "2026-11-24 17:20:46,724", "filename": "{file}", "level": "{level}", '
        f'"module": "{module}", "message": "{message}"}}\n'
    )


LOGGED = (
    line("s3_service.py:351", "WARNING", "ClientError[342]: there is no object lock")
    + line("ec2_service.py:566", "ERROR", "eu-west-1 -- ParserError[558]: invalid XML:\nb'<!doctype html>\\n<h1>'")
    + line("ssm_service.py:9", "ERROR", 'An error "500" when calling the ListThings operation: <!doctype html>')
    + line("check.py:750", "ERROR", "iam_avoid_root_usage -- ParserError[643]: Unknown string format")
    + line("escalation.py:5", "ERROR", "same") * 3
)  # fmt: skip


def test_every_error_of_the_log_is_read_once_in_one_line() -> None:
    errors = read_errors(LOGGED)
    assert [(each.file, each.line, each.check) for each in errors] == [
        ("ec2_service.py", 566, ""),
        ("ssm_service.py", 9, ""),
        ("check.py", 750, "iam_avoid_root_usage"),
        ("escalation.py", 5, ""),
    ]
    assert errors[0].says == "eu-west-1 -- ParserError[558]: invalid XML"
    assert errors[1].says.startswith("ListThings: ")
    assert "doctype" not in errors[1].says


def test_an_error_is_placed_in_the_function_that_logged_it(tmp_path: Path) -> None:
    providers = tmp_path / "lib/python3.11/site-packages/prowler/providers"
    package = providers / "aws/services/ec2"
    package.mkdir(parents=True)
    (providers / "another-cloud").mkdir()
    (providers / "another-cloud/ec2_service.py").touch()
    source = "class EC2:\n    def _ask(self):\n        try:\n            pass\n        except E:\n            log()\n"
    (package / "ec2_service.py").write_text(source, encoding="utf-8")
    prowler = Prowler(home=tmp_path)
    asked = LoggedError(check="", file="ec2_service.py", line=6, says="")
    assert prowler.place_of(asked) == "ec2_service._ask"
    assert prowler.place_of(LoggedError(check="", file="gone.py", line=6, says="")) == "gone.6"
    assert prowler.place_of(LoggedError(check="a_check", file="check.py", line=6, says="")) == "a_check"


def test_nothing_of_the_child_can_leave_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_PROFILE", "company")
    monkeypatch.setenv("LOG_LEVEL", "CRITICAL")  # prowler's own: it would hide what was not judged
    own = {"AWS_ENDPOINT_URL_EC2": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}
    with closed_port() as closed:
        variables = environment(own, fallback="http://127.0.0.1:1", closed=closed, home=tmp_path)
        assert {"AWS_PROFILE", "LOG_LEVEL"}.isdisjoint(variables)
        assert variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
        assert {variables[name] for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY")} == {closed}
        assert variables["NO_PROXY"] == "127.0.0.1"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": closed}))
        with pytest.raises(urllib.error.URLError, match="refused"):
            opener.open("http://s3-control.invalid", timeout=5)


def fake(tmp_path: Path, program: str) -> Prowler:
    """An environment whose prowler is a few lines of ours."""
    command = tmp_path / "home" / "bin" / "prowler"
    command.parent.mkdir(parents=True)
    command.write_text(f"#!{sys.executable}\n{program}", encoding="utf-8")
    command.chmod(0o700)
    return Prowler(home=tmp_path / "home")


def ask(prowler: Prowler, out: Path) -> int:
    out.mkdir()
    return run(prowler, services=["s3"], excluded_checks=["s3_x"], region="eu-west-1", variables={"A": "b"}, out=out)


WORKS = """
import json, os, pathlib, sys
print("Executing 12 checks, please wait...")
given = sys.argv[1:]
out = pathlib.Path(given[given.index("--output-directory") + 1])
(out / "findings.ocsf.json").write_text(json.dumps([given, dict(os.environ)]))
pathlib.Path(given[given.index("--log-file") + 1]).touch()
sys.exit(3)
"""


def test_a_run_that_found_failures_is_a_good_run(tmp_path: Path) -> None:
    assert ask(fake(tmp_path, WORKS), tmp_path / "out") == 12
    given, variables = json.loads((tmp_path / "out" / FINDINGS).read_text())
    assert given[given.index("--services") + 1] == "s3"
    assert given[given.index("--excluded-checks") + 1] == "s3_x"
    assert variables["A"] == "b"
    assert "VIRTUAL_ENV" not in variables
    assert (tmp_path / "out" / LOG).exists()


@pytest.mark.parametrize(
    "program",
    ["import sys; print('no credentials'); sys.exit(1)", "print('Executing 12 checks')", WORKS.replace("(3)", "(2)")],
    ids=["failed", "nothing-written", "another-status"],
)
def test_a_run_without_findings_is_a_failure(program: str, tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="prowler ended with status"):
        ask(fake(tmp_path, program), tmp_path / "out")


def test_a_run_that_hangs_is_ended_with_its_children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ops.audit.prowler.RUN_SECONDS", 0.5)
    hangs = "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    with pytest.raises(OpsError, match="took over"):
        ask(fake(tmp_path, hangs), tmp_path / "out")
    child = (tmp_path / "out" / "said.txt").read_text().strip()
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_the_environment_is_made_once_and_anew_for_another_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[list[str]] = []

    def record(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        (tmp_path / "prowler").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", record)
    ensure(tmp_path)
    ensure(tmp_path)
    assert [command[1:3] for command in commands] == [["-m", "venv"], ["-m", "pip"]]
    assert any(part.startswith("prowler==") for part in commands[1])
    (tmp_path / "prowler" / "made.txt").write_text("prowler==1.0")
    ensure(tmp_path)
    assert len(commands) == 4


def test_an_environment_that_cannot_be_made_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(OpsError, match=r"cannot be installed .*No matching distribution"):
        ensure(tmp_path)


def test_the_mutes_of_the_project_are_well_formed_and_differ() -> None:
    mutes = read_mutes(MUTES)
    keys = [(mute.check, pattern, stack) for mute in mutes.muted for pattern in mute.resources for stack in mute.stacks]
    assert len(set(keys)) == len(keys)
    assert mutes.muted
    assert mutes.not_judged


GOOD = {"check": "s3_x", "resources": ["a"], "because": "decision", "expires": "2027-11-30", "reason": "because " * 5}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"reason": "artefact"}, "reason"),
        ({"because": "lazy"}, "because"),
        ({"expires": None}, "expires"),
        ({"resources": []}, "resources"),
        ({"until": "2030-01-01"}, "until"),
    ],
)
def test_a_mute_without_its_whole_reason_is_refused(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    file = tmp_path / "mutes.yaml"
    file.write_text(json.dumps({"muted": [GOOD], "not_judged": []}), encoding="utf-8")
    assert read_mutes(file).muted[0].check == "s3_x"
    file.write_text(json.dumps({"muted": [{**GOOD, **change}], "not_judged": []}), encoding="utf-8")
    with pytest.raises(OpsError, match=rf"mutes\.yaml: muted\.0\.{told}"):
        read_mutes(file)
