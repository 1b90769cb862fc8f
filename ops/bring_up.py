"""Brings the stack on this machine up, keeps it up, and takes it down."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from infra.settings import Settings
from local import lock
from local.emulators import NOT_ENFORCED
from local.engine import Deployment, NotEmulated, Progress
from local.errors import LocalError
from local.handover import Follower
from local.interrupts import postponed
from local.layout import Layout
from local.processes import ProcessLedger, last_line
from local.stack import READY_SECONDS, Deployed, LocalStack, read_status
from model_image.artefacts import publish
from model_image.signature import Signer
from ops.console import Advance, Reporter
from ops.datasets.push import Options, push
from ops.keys import create_consumer
from ops.models import Train, ensure_artefacts, ensure_datasets, needed_recipes
from ops.place import Place

DOWN_SECONDS = 90.0
DEFAULT_PORT = 8080
FIRST_UP_SECONDS = 1800.0  # models may have to be trained first


def open_stack(place: Place) -> LocalStack:
    """The stack, its lock and port held, nothing started; settings and recipes are checked first."""
    settings = place.settings()
    needed_recipes(settings.models, recipes_dir=place.recipes)
    return LocalStack(
        layout=place.layout,
        stack=place.stack,
        region=settings.region,
        port=DEFAULT_PORT if place.port is None else place.port,
        config_file=place.config_file,
    )


def deploy(stack: LocalStack, report: Reporter) -> Deployment:
    """Emulators and program; says what no emulator takes."""
    with report.progress("deploying the Pulumi program") as advance:
        deployment = stack.deploy(on_progress=lambda progress: advance(_fraction(progress), progress.name))
    report.line(f"{len(deployment.resources)} resources")
    report.line("not emulated here, only recorded:")
    for what in sorted({(_short(one), one.reason) for one in deployment.not_emulated}):
        report.line(f"  {what[0]}: {what[1]}")
    report.line("IAM is enforced, but not for:")
    for name, reason in NOT_ENFORCED.items():
        report.line(f"  {name}: {reason}")
    return deployment


def _short(what: NotEmulated) -> str:
    """`Integration.connectionId` for that property of aws:apigateway/integration:Integration."""
    return ".".join(part for part in (what.type.rpartition(":")[2], what.property) if part)


def _fraction(progress: Progress) -> float:
    return progress.done / progress.total if progress.total else 0.0


def issue_tokens(stack: LocalStack, settings: Settings) -> None:
    """One consumer for each usage plan, named after it, allowed every model and task."""
    clients = {service: stack.emulators.client(service) for service in ("apigateway", "dynamodb", "kms")}
    for plan in settings.plans:
        created = create_consumer(clients, stack.deployment.outputs, name=plan, plan=plan, models="*", tasks="*")
        stack.tokens[plan] = created.token


def push_data(stack: LocalStack, place: Place, settings: Settings, report: Reporter) -> int:
    """Uploads what the stack's models are trained on to its data bucket; returns the number of files."""
    with report.progress("data sets") as advance:
        datasets = ensure_datasets(
            settings.models, recipes_dir=place.recipes, home=place.layout.home, on_progress=advance
        )
    options = Options(journals=place.layout.home / "uploads")
    client, uri = stack.emulators.client("s3"), f"s3://{stack.deployment.outputs['data_bucket']}/datasets"
    files = 0
    for dataset in datasets:
        with report.progress(f"pushing {dataset.name} to the encrypted data bucket") as advance:
            destination = f"{uri}/{dataset.name}"
            files += len(push(client, [str(dataset)], destination, on_progress=advance, options=options).files)
    return files


def describe_recipes(place: Place, settings: Settings) -> list[str]:
    """A line for each model: its file, and what the file says is done."""
    lines = []
    for recipe in needed_recipes(settings.models, recipes_dir=place.recipes):
        if recipe.kind == "fetch":
            what = "taken as it is"
        else:
            base = f", from {recipe.base}" if recipe.base else ""
            steps = recipe.value["budget"].get("steps")
            length = f"{steps} steps" if steps else "until its time is used up,"
            what = f"{recipe.value['task']}, {length} on {', '.join(recipe.datasets)}{base}"
        lines.append(f"{recipe.path.name}: {what}")
    return lines


def build_models(place: Place, settings: Settings, report: Reporter, *, train: Train | None = None) -> list[Path]:
    """The artefacts of the stack's models; those that are missing or whose recipe changed are made now, by `train`."""
    with report.progress("models") as advance:
        return ensure_artefacts(
            settings.models,
            recipes_dir=place.recipes,
            home=place.layout.home,
            on_progress=advance,
            train=train,
        )


def publish_models(stack: Deployed, directories: Sequence[Path], report: Reporter) -> None:
    """Uploads the artefacts to the stack's models bucket, signed by its key."""
    client, bucket = stack.emulators.client("s3"), str(stack.deployment.outputs["model_bucket"])
    signer = Signer(client=stack.emulators.client("kms"), key_arn=str(stack.deployment.outputs["signing_key_arn"]))
    with report.progress("publishing to the encrypted models bucket") as advance:
        for done, directory in enumerate(directories):
            advance(done / len(directories), directory.parent.name)
            publish(client, bucket, directory, signer=signer)


def launch(stack: LocalStack, report: Reporter) -> None:
    """Starts the fleet, waits until it is ready, and opens the gateway."""
    with report.progress("starting the fleet"):
        stack.launch().wait_ready(READY_SECONDS)
    for instance in stack.fleet.instances():
        report.line(f"{instance.id} {instance.state} at {instance.url}: {', '.join(instance.models)}")
    stack.open_gateway()


def is_up(place: Place) -> bool:
    """Whether the stack serves, so that it can be changed."""
    layout = place.layout
    return lock.holder(layout.lock_file(place.stack)) is not None and layout.status_file(place.stack).exists()


def serve(place: Place, report: Reporter) -> None:
    """Brings the stack up and keeps it until a signal ends it."""
    with open_stack(place) as stack:
        deploy(stack, report)
        settings = place.settings()
        issue_tokens(stack, settings)
        publish_models(stack, build_models(place, settings, report), report)
        launch(stack, report)
        stack.write_status()
        report.line(f"{place.stack} serves {stack.api_url}")
        report.line(f"tokens: modelkeep local status --stack {place.stack} --json")
        follower = Follower(stack)
        while True:
            time.sleep(0.5)
            follower.look()
            stack.refresh_status()
            stack.check_emulators()


def bring_up_detached(place: Place, report: Reporter) -> None:
    """Starts `local up` as a process of its own and comes back once it serves; raises LocalError with its last word."""
    place.layout.make_stack_dir(place.stack)
    if lock.holder(place.layout.lock_file(place.stack)) is not None:
        raise LocalError(f"stack {place.stack} is just coming up: wait until it serves, then change it")
    log_file = place.layout.log_dir(place.stack) / "up.log"
    child: subprocess.Popen[bytes] | None = None
    try:
        with postponed():
            child = _start_detached(place, log_file)
        with report.progress(f"bringing stack {place.stack} up") as advance:
            status = _wait_until_up(place, child, log_file, advance)
    except BaseException:
        if child is not None:
            child.terminate()
            child.wait()
        raise
    report.line(f"{place.stack} serves {status['api_url']}")
    report.line(f"tokens: modelkeep local status --stack {place.stack} --json")
    report.line(f"end it with: modelkeep local down --stack {place.stack}")


def _start_detached(place: Place, log_file: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ops", "local", "up", "--stack", place.stack]
    command += [] if place.port is None else ["--port", str(place.port)]
    command += ["--config-file", str(place.config_file)] if place.config_file else []
    command += ["--recipes", str(place.recipes)]
    with log_file.open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=place.layout.root,
            start_new_session=True,  # it must outlive this terminal
        )


def _wait_until_up(place: Place, child: subprocess.Popen[bytes], log_file: Path, advance: Advance) -> dict[str, object]:
    deadline = time.monotonic() + FIRST_UP_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise LocalError(last_line(log_file).removeprefix("modelkeep: "))
        if place.layout.status_file(place.stack).exists():
            return read_status(place.layout, place.stack)
        advance(0.0, last_line(log_file))
        time.sleep(0.2)
    raise LocalError(f"stack {place.stack} was not up after {FIRST_UP_SECONDS:.0f} s: see {log_file}")


def take_down(layout: Layout, stack: str) -> str:
    """Ends the stack; says what it did. Raises LocalError naming what had to be killed or could not be."""
    lock_file = layout.lock_file(stack)
    ledger = ProcessLedger(layout.ledger_file(stack))
    was_up = lock.holder(lock_file) is not None
    in_order = lock.end(lock_file, timeout=DOWN_SECONDS)
    left = ledger.alive()
    if left or not in_order:
        ledger.end_all(grace_seconds=5.0)
        names = ", ".join(f"{one.name} (process {one.pid})" for one in left) or "the stack's own process"
        raise LocalError(f"stack {stack} did not end by itself; killed: {names}. See {layout.log_dir(stack)}")
    layout.status_file(stack).unlink(missing_ok=True)
    return f"stack {stack} is down; nothing of it runs" if was_up else f"stack {stack} was not up; nothing of it runs"
