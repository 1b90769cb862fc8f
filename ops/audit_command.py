"""`modelkeep audit`: a stack, deployed on emulators of its own and judged by prowler."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

from infra.site import tags
from local import engine
from local.emulators import Emulators
from local.layout import PROJECT_ROOT
from local.lock import running
from local.project import load_project
from ops.audit import prowler, report
from ops.audit.findings import read_errors, read_findings
from ops.audit.mutes import Mutes, read_mutes
from ops.audit.ownership import StackResources
from ops.audit.services import EXCLUDED_CHECKS, deployed_services
from ops.audit.verdict import Audit, Obstacle, judge
from ops.console import Reporter, print_json
from ops.local_commands import place
from ops.place import Place

BENCH = PROJECT_ROOT / ".bench"


def audit_stack(*, stack: str, config_file: Path | None, as_json: bool, speak: Reporter) -> bool:
    """Deploy a stack on emulators, have prowler judge it, print what it finds; returns whether it passed."""
    mutes = read_mutes()  # first, so that a mistake in it is told at once
    here = place(stack=stack, port=0, config_file=config_file, recipes=None)
    with speak.progress(f"prowler {prowler.VERSION} in .bench/prowler (2.3 GB, made once)"):
        installed = prowler.ensure(BENCH)
    started = time.monotonic()
    outcome = run_audit(here, installed, mutes=mutes, speak=speak)
    if as_json:
        print_json(report.to_json(outcome))
    else:
        report.print_tables(outcome)
    report.summarise(outcome, seconds=time.monotonic() - started, report=speak)
    return outcome.passed


def run_audit(here: Place, installed: prowler.Prowler, *, mutes: Mutes, speak: Reporter) -> Audit:
    """Deploy the stack on emulators of its own, ask prowler, end the emulators. Raises LocalError and OpsError."""
    directory = here.layout.make_stack_dir(f"audit-{here.stack}")
    with running(directory / "lock", stack=f"audit-{here.stack}"):
        out = _emptied(directory)
        region = here.settings().region
        with Emulators(region=region, log_dir=directory / "logs") as emulators:
            with speak.progress(f"deploying {here.stack} on emulators"):
                deployment = engine.up(
                    root=here.layout.root,
                    stack=here.stack,
                    emulators=emulators,
                    state_file=directory / "state.json",
                    config_file=here.config_file,
                )
            types = sorted({each.type for each in deployment.resources if each.type.startswith("aws:")})
            checks = _ask(installed, types=types, emulators=emulators, out=out, speak=speak)
        findings, errors = read_findings(_text(out / prowler.FINDINGS)), read_errors(_text(out / prowler.LOG))
    project = load_project(root=here.layout.root, stack=here.stack, config_file=here.config_file)
    return judge(
        stack=here.stack,
        checks=checks,
        findings=findings,
        obstacles=[Obstacle(at=installed.place_of(each), says=each.says) for each in errors],
        resources=StackResources(deployment.resources, tags=tags(project=project.name, stack=here.stack)),
        types=types,
        mutes=mutes,
        today=datetime.now(tz=UTC).date(),
    )


def _emptied(directory: Path) -> Path:
    """Where prowler writes, without what an earlier audit left: its state spoke of emulators that are gone."""
    for left in ("prowler", "logs", *(each.name for each in directory.glob("emulators-*"))):
        shutil.rmtree(directory / left, ignore_errors=True)
    (directory / "state.json").unlink(missing_ok=True)
    out = directory / "prowler"
    out.mkdir()
    return out


def _ask(installed: prowler.Prowler, *, types: list[str], emulators: Emulators, out: Path, speak: Reporter) -> int:
    services = deployed_services(types)
    with speak.progress(f"asking prowler about {', '.join(services)}"), prowler.closed_port() as closed:
        return prowler.run(
            installed,
            services=services,
            excluded_checks=EXCLUDED_CHECKS,
            region=emulators.region,
            variables=prowler.environment(
                emulators.environment(), fallback=emulators.endpoints["ec2"], closed=closed, home=out
            ),
            out=out,
        )


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
