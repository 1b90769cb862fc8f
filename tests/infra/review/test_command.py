"""`modelkeep review` on a repository of its own: revisions, files, wrong input, exit codes, nothing left behind."""

import json
import subprocess
import tempfile
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from typer.testing import CliRunner

from ops import review_command, review_revisions
from ops.cli import app
from ops.errors import OpsError

PROGRAM = """
    import pulumi, pulumi_aws as aws
    from infra.names import VERSIONING

    class Store(pulumi.ComponentResource):
        def __init__(self, name, opts=None):
            super().__init__("modelkeep:index:Store", name, None, opts)
            inner = pulumi.ResourceOptions(parent=self)
            bucket = aws.s3.Bucket(f"{name}-data", opts=inner)
            aws.s3.BucketVersioning(
                f"{name}-versioning", bucket=bucket.id, versioning_configuration={"status": VERSIONING}, opts=inner
            )
            key = aws.kms.Key(f"{name}-key", policy=bucket.arn.apply(document), enable_key_rotation=True, opts=inner)

    def document(arn):
        import json
        return json.dumps({"Statement": [{"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"},
            "Action": ACTIONS, "Resource": "*", "Condition": {"ArnLike": {"aws:SourceArn": arn}}}]})

    ACTIONS = ["kms:Decrypt"]
    Store("store")
"""


def git(root: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments], check=True
    )


def commit(root: Path, *, versioning: str = "Enabled", program: str = PROGRAM) -> None:
    files = {
        "Pulumi.yaml": "name: small\nruntime: python\nmain: infra\n",
        "Pulumi.dev.yaml": "config:\n  aws:region: eu-west-1\n",
        "infra/__main__.py": dedent(program),
        "infra/names.py": f"VERSIONING = {versioning!r}\n",
        "infra/__init__.py": "",
    }
    (root / "infra").mkdir(exist_ok=True, parents=True)
    for name, text in files.items():
        (root / name).write_text(text)
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--allow-empty", "-m", "x")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three revisions: versioned; not versioned and a key that does more; a program that fails."""
    root = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(root)], check=True)
    commit(root)
    git(root, "tag", "first")
    commit(
        root, versioning="Suspended", program=PROGRAM.replace('["kms:Decrypt"]', '["kms:Decrypt", "kms:CreateGrant"]')
    )
    git(root, "tag", "second")
    commit(root, program=PROGRAM + '\n    raise ValueError("broken")\n')
    git(root, "tag", "broken")
    git(root, "checkout", "--quiet", "second")
    return root


@pytest.fixture
def run(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs the command for that repository, with temporary files of its own; the engine is this checkout's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    start = review_revisions._start
    here = Path(__file__).resolve().parents[3]

    def elsewhere(tree: Any, **options: Any) -> Any:
        return start(tree, **{**options, "root": here})

    monkeypatch.setattr(review_revisions, "_start", elsewhere)
    make = review_command.make_review
    monkeypatch.setattr(review_command, "make_review", lambda **options: make(**{**options, "root": repository}))
    return lambda *arguments: CliRunner().invoke(app, ["review", *arguments])


def test_two_revisions_are_previewed_and_compared(run: Any, tmp_path: Path, repository: Path) -> None:
    done = run("--base", "first", "--head", ".", "--stack", "dev", "--format", "json")
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert (content["base"], content["head"]) == ("first", "the working tree")
    found = {(each["topic"], each["resource"], each["place"]) for each in content["findings"]}
    assert found == {
        ("bucket-versioning", "store-data", "infra/__main__.py:10"),
        ("resource-allow", "store-key", "infra/__main__.py:13"),
    }
    policy = next(each for each in content["findings"] if each["topic"] == "resource-allow")
    assert policy["after"] == "s3.amazonaws.com: kms:CreateGrant on * if aws:SourceArn ArnLike <store-data.arn>"
    assert list(tmp_path.iterdir()) == []
    trees = subprocess.run(
        ["git", "-C", str(repository), "worktree", "list"], capture_output=True, text=True, check=True
    )
    assert len(trees.stdout.splitlines()) == 1


def test_a_severity_to_fail_on_decides_the_exit_code(run: Any, tmp_path: Path, prod: dict[str, Any]) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(prod))
    new.write_text(
        json.dumps({**prod, "resources": [each for each in prod["resources"] if "flow-log" not in each["name"]]})
    )
    failed = run("--base", str(old), "--head", str(new), "--fail-on", "high")
    assert failed.exit_code == 1
    assert "findings of severity high or above" in failed.stderr
    assert "## Review of prod" in failed.stdout
    assert run("--base", str(old), "--head", str(old), "--fail-on", "low").exit_code == 0


def test_the_report_goes_into_a_file(run: Any, tmp_path: Path, prod: dict[str, Any]) -> None:
    preview, target, plain = tmp_path / "old.json", tmp_path / "report.html", tmp_path / "report"
    preview.write_text(json.dumps(prod))
    done = run("--base", str(preview), "--head", str(preview), "--output", str(target), "--output", str(plain))
    assert (done.exit_code, done.stdout) == (0, "")
    assert target.read_text().startswith("<!doctype html>")
    assert plain.read_text().startswith("## Review of prod")
    failed = run("--base", str(preview), "--head", str(preview), "--output", str(tmp_path / "nowhere" / "x.md"))
    assert isinstance(failed.exception, OpsError)
    assert "cannot be written: No such file or directory" in str(failed.exception)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--base", "frist", "--stack", "dev"], 2, "frist is neither a file, nor a checkout, nor a git revision"),
        (["--base", "first", "--stack", "prdo"], 2, "stack prdo is not in the working tree; stacks there are: dev"),
        (["--base", "first"], 2, "name one by --stack: dev"),
        (["--stack", "dev"], 2, "is one side only; name what to compare it with by --base"),
        (["--base", "first", "--head", "broken", "--stack", "dev"], 1, "broken: stack dev cannot be previewed"),
    ],
)
def test_what_cannot_be_reviewed_is_said_in_one_line(
    run: Any, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    done = run(*arguments)
    text = done.stderr or str(done.exception)
    assert message in text
    assert len(text.strip().splitlines()) == 1
    assert done.exit_code == code
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_preview_is_refused(run: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    done = run("--base", str(tmp_path / "notes.txt"), "--head", "second", "--stack", "dev")
    assert done.exit_code == 2
    assert "is not JSON" in done.stderr


def test_files_of_previews_need_no_stack_and_no_program(run: Any, tmp_path: Path, prod: dict[str, Any]) -> None:
    (tmp_path / "old.json").write_text(json.dumps(prod))
    head = json.loads(json.dumps(prod))
    head["resources"] = [each for each in head["resources"] if each["name"] != "network-flow-log"]
    (tmp_path / "new.json").write_text(json.dumps(head))
    done = run("--base", str(tmp_path / "old.json"), "--head", str(tmp_path / "new.json"), "--format", "json")
    assert done.exit_code == 0, done.output
    assert [each["controls"] for each in json.loads(done.stdout)["findings"]] == [["EC2.6"]]


def test_a_plan_of_the_real_pulumi_is_enough_by_itself(run: Any, tmp_path: Path) -> None:
    urn = "urn:pulumi:dev::small::aws:kms/key:Key::key"
    states = [{"urn": urn, "type": "aws:kms/key:Key", "inputs": {"enableKeyRotation": on}} for on in (True, False)]
    plan = {"steps": [{"op": "update", "urn": urn, "oldState": states[0], "newState": states[1]}]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    done = run("--head", str(tmp_path / "plan.json"), "--format", "json")
    content = json.loads(done.stdout)
    assert [each["topic"] for each in content["findings"]] == ["key-rotation"]
    assert content["base"].endswith("plan.json, in place")


def test_a_stack_that_the_base_does_not_have_is_all_new(run: Any, repository: Path) -> None:
    (repository / "Pulumi.new.yaml").write_text("config:\n  aws:region: eu-west-1\n")
    try:
        done = run("--base", "first", "--stack", "new", "--format", "json")
    finally:
        (repository / "Pulumi.new.yaml").unlink()
    content = json.loads(done.stdout)
    assert content["notes"] == ["first has no stack new: everything is new"]
    assert {each["operation"] for each in content["changed"]} == {"create"}
