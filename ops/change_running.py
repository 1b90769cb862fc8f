"""`local up` on a stack that is up: changes it to what the program and the settings say now, without starting it anew.

New models are published first, then the program is deployed over the state that there is, then the process that runs
the stack follows: servers are replaced only where the fleet's launch template has changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.settings import Settings
from local import engine, lock
from local.engine import Deployment
from local.errors import LocalError
from local.handover import hand_over
from local.journal import recover
from local.plugin.backing import Backing, backing
from local.records import OPERATIONS, Operation, Step
from local.stack import read_status
from ops.bring_up import publish_models
from ops.console import Reporter
from ops.keys import create_consumer
from ops.models import ensure_artefacts, needed_recipes
from ops.place import Place

WORDS: Mapping[Operation, str] = {
    "create": "created",
    "update": "updated",
    "replace": "replaced",
    "delete": "deleted",
    "same": "unchanged",
}


@dataclass(frozen=True)
class _Changed:
    """The stack that is changed, as far as publishing needs it."""

    emulators: Backing
    deployment: Deployment


def change_running(place: Place, report: Reporter) -> None:
    """Change the stack that is up; raises LocalError, after which another `local up` goes on from where this ended."""
    status = read_status(place.layout, place.stack)
    settings = place.settings()
    needed_recipes(settings.models, recipes_dir=place.recipes)
    _same_port(place, str(status["api_url"]))
    with (
        lock.changing(place.layout.change_lock_file(place.stack), stack=place.stack),
        backing(place.layout, stack=place.stack, region=settings.region) as emulators,
    ):
        models = _models(place, settings, report)
        before = engine.deployed(stack=place.stack, state_file=place.layout.state_file(place.stack))
        publish_models(_Changed(emulators, before), models, report)
        deployment = _deploy(place, emulators, report)
        if any(deployment.outputs[name] != before.outputs[name] for name in ("model_bucket", "signing_key_arn")):
            publish_models(_Changed(emulators, deployment), models, report)
        tokens = _consumers(emulators, settings, before=status, outputs=deployment.outputs)
        with report.progress("the running stack follows"):
            hand_over(place.layout, place.stack, tokens=tokens)
    report.line(f"{place.stack} serves {read_status(place.layout, place.stack)['api_url']}")


def plan_of_running(place: Place) -> tuple[Step, ...]:
    """What `change_running` would do to each resource; raises LocalError when the stack is not up."""
    read_status(place.layout, place.stack)
    with backing(place.layout, stack=place.stack, region=place.settings().region) as emulators:
        return engine.plan(
            root=place.layout.root,
            stack=place.stack,
            emulators=emulators,
            state_file=place.layout.state_file(place.stack),
            config_file=place.config_file,
        ).steps


def describe(steps: Sequence[Step], *, done: bool = True) -> list[str]:
    """A line for each resource that is not, or would not be, as before, and one that counts."""
    words: Mapping[Operation, str] = WORDS if done else {operation: operation for operation in OPERATIONS}
    order = {operation: number for number, operation in enumerate(OPERATIONS)}
    changed = sorted(
        (step for step in steps if step.operation != "same" and not step.type.startswith("modelkeep:")),
        key=lambda step: (order[step.operation], step.urn),
    )
    lines = [_line(step, words) for step in changed]
    counts = {operation: sum(step.operation == operation for step in steps) for operation in OPERATIONS}
    return [*lines, ", ".join(f"{counts[operation]} {words[operation]}" for operation in OPERATIONS)]


def _line(step: Step, words: Mapping[Operation, str]) -> str:
    names = step.replaces if step.operation == "replace" and step.replaces else step.changed
    why = f": {', '.join(names)}" if names else ""
    return f"{words[step.operation]} {step.type.rpartition(':')[2]} {step.name}{why}"


def _same_port(place: Place, api_url: str) -> None:
    port = int(api_url.split("/")[2].rpartition(":")[2])
    if place.port not in (None, 0, port):
        raise LocalError(
            f"stack {place.stack} is up on port {port}, and --port asks for {place.port}: leave --port out, or end the "
            f"stack first with 'modelkeep local down --stack {place.stack}'"
        )


def _models(place: Place, settings: Settings, report: Reporter) -> list[Path]:
    with report.progress("models") as advance:
        return ensure_artefacts(
            settings.models,
            recipes_dir=place.recipes,
            home=place.layout.home,
            on_progress=advance,
        )


def _deploy(place: Place, emulators: Backing, report: Reporter) -> Deployment:
    state_file = place.layout.state_file(place.stack)
    for urn in recover(state_file).interrupted:
        report.line(f"an earlier run ended while it made {urn}: it may exist without being in the state")
    with report.progress("deploying the Pulumi program") as advance:
        deployment = engine.up(
            root=place.layout.root,
            stack=place.stack,
            emulators=emulators,
            state_file=state_file,
            config_file=place.config_file,
            on_progress=lambda progress: advance(0.0, f"{progress.operation} {progress.name}"),
        )
    for line in describe(deployment.steps):
        report.line(line)
    return deployment


def _consumers(
    emulators: Backing, settings: Settings, *, before: Mapping[str, Any], outputs: Mapping[str, Any]
) -> dict[str, str]:
    """The tokens of new plans' consumers; a consumer whose plan was made anew is put on that one."""
    old = before["outputs"]
    clients = {service: emulators.client(service) for service in ("apigateway", "dynamodb", "kms")}
    emptied = outputs["consumers_table"] != old["consumers_table"]
    tokens = {}
    for plan in settings.plans:
        plan_id = outputs["usage_plan_ids"][plan]
        if emptied or plan not in before["tokens"]:
            created = create_consumer(clients, outputs, name=plan, plan=plan, models="*", tasks="*")
            tokens[plan] = created.token
        elif plan_id != old["usage_plan_ids"].get(plan):
            _join(clients["apigateway"], plan_id=plan_id, key_name=f"modelkeep-{plan}")
    return tokens


def _join(client: Any, *, plan_id: str, key_name: str) -> None:
    keys = client.get_api_keys(nameQuery=key_name)["items"]
    for key in [each for each in keys if each["name"] == key_name]:
        client.create_usage_plan_key(usagePlanId=plan_id, keyId=key["id"], keyType="API_KEY")
